"""The steps of docker-compose.yml that run once.

``python -m rowqueue_local.compose certificates`` issues the certificates of the partner and of the processors.
``python -m rowqueue_local.compose deploy`` deploys into running services, as ``rowqueue local up`` does.
"""

from __future__ import annotations

import argparse
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rowqueue_local import authority, deployment
from rowqueue_local.stack import Options, Stack

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> None:
    """Run one of the steps."""
    options = _options(argv)
    if options.step == "certificates":
        if not authority.located(options.certificates).server.exists():
            authority.issue(options.certificates, host=options.host)
        return
    poller = {} if options.tick is None else {"TICK_SECONDS": str(options.tick)}
    stack = Stack(
        options=Options(state=options.certificates, tick_s=options.tick, poller=poller),
        aws=options.aws,
        snowflake=options.snowflake,
        partner=f"{options.partner}/process",
        certificates=authority.located(options.certificates),
        password=secrets.token_urlsafe(12),
        service_key=authority.service_key(),
        services={},
    )
    deployment.deploy(stack)
    sys.stdout.write("deployed\n")


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m rowqueue_local.compose", description=__doc__)
    steps = parser.add_subparsers(dest="step", required=True)
    issue = steps.add_parser("certificates")
    issue.add_argument("--host", required=True, help="the partner's name, in its certificate")
    deploy = steps.add_parser("deploy")
    for service in ("aws", "snowflake", "partner"):
        deploy.add_argument(f"--{service}", required=True, help="its URL")
    deploy.add_argument("--tick", type=float, help="seconds; the same value as --tick of the AWS stand-in")
    for step in (issue, deploy):
        step.add_argument("--certificates", type=Path, required=True, help="the folder of the certificates")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
