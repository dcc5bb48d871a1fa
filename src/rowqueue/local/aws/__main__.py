"""The AWS stand-in: moto's server, with functions, Fargate tasks and schedules that really run as local processes.

``python -m rowqueue.local.aws --port 0 --state-dir DIR`` prints one line of JSON, ``{"ready": URL}``, once it listens.
boto3, the AWS CLI and Terraform talk to it when ``AWS_ENDPOINT_URL`` is that URL. It keeps its state in memory.

What it does not show: permissions (every call is allowed), networks, capacity and quotas, the pull of an image, events
and alarms, dead-letter queues and destinations.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moto.awslambda.exceptions import UnknownFunctionException
from moto.awslambda_simple.models import lambda_simple_backends
from moto.core.config import default_user_config
from moto.iam.access_control import IAMPolicyStatement, PermissionResult
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from moto.scheduler.models import scheduler_backends
from werkzeug.serving import make_server

from rowqueue.local.aws.errors import ApiError
from rowqueue.local.aws.fargate import Fargate
from rowqueue.local.aws.fargate_processes import Platform
from rowqueue.local.aws.fargate_tasks import ACCOUNT
from rowqueue.local.aws.gateway import Gateway
from rowqueue.local.aws.host import Host
from rowqueue.local.aws.lambda_functions import Functions
from rowqueue.local.aws.lambda_model import Call, Function
from rowqueue.local.aws.lambda_pool import EnvironmentPool
from rowqueue.local.aws.logs import LogShipper
from rowqueue.local.aws.scheduler import Schedule, Scheduler

if TYPE_CHECKING:
    from collections.abc import Sequence

_GRACE_SECONDS = 2.0  # what tasks get between SIGTERM and SIGKILL when the stand-in itself is told to end


def configure_moto() -> None:
    """Set what moto leaves open, and repair the one fault of it that would hide the product behind a 403."""
    default_user_config["lambda"] = {"use_docker": False}  # else creating a function looks for a Docker daemon
    default_user_config["iam"] = {"load_aws_managed_policies": True}
    is_action_permitted = IAMPolicyStatement.is_action_permitted

    def judged_by_condition(statement: Any, *args: Any, **kwargs: Any) -> Any:
        # moto 5.2.5 denies when the Condition of a Deny does *not* hold, so the usual TLS-only bucket policy locks
        # everybody out. All traffic counts as TLS here, as it is on AWS: such a Deny never applies.
        if _denies_plain_http(statement._statement):  # noqa: SLF001
            return PermissionResult.NEUTRAL
        return is_action_permitted(statement, *args, **kwargs)

    IAMPolicyStatement.is_action_permitted = judged_by_condition


def _denies_plain_http(statement: dict[str, Any]) -> bool:
    conditions = statement.get("Condition", {})
    return statement["Effect"] == "Deny" and any("aws:SecureTransport" in tested for tested in conditions.values())


def find_function(region: str, name: str, qualifier: str | None) -> Function | None:
    """Read a function from moto's own memory: no API answers the bytes of its code."""
    try:
        found = lambda_simple_backends[ACCOUNT][region].get_function(name, qualifier)
    except UnknownFunctionException:
        return None
    if found.package_type != "Zip":
        raise ApiError("InvalidRuntimeException", "the stand-in runs functions of zip files only", status=502)
    event_config = found.event_invoke_config[-1].config if found.event_invoke_config else {}
    return Function(
        arn=f"arn:aws:lambda:{region}:{ACCOUNT}:function:{found.function_name}",
        name=found.function_name,
        version=str(found.version),
        region=region,
        handler=found.handler,
        runtime=found.run_time,
        memory_mb=int(found.memory_size),
        timeout_seconds=int(found.timeout),
        variables=tuple(sorted(found.environment_vars.items())),
        code_sha256=found.code_sha_256,
        code=found.code_bytes,
        reserved_concurrency=None if found.reserved_concurrency is None else int(found.reserved_concurrency),
        maximum_retry_attempts=event_config.get("MaximumRetryAttempts", 2),
        maximum_event_age_seconds=event_config.get("MaximumEventAgeInSeconds", 21_600),
    )


def enabled_schedules() -> list[Schedule]:
    """Read the schedules of all regions from moto's own memory: asking by API, twice a second, would cost too much."""
    return [
        Schedule(
            arn=schedule.arn,
            region=region,
            expression=schedule.schedule_expression,
            target=schedule.target["Arn"],
            input=schedule.target.get("Input") or "{}",
            bounded=bool(schedule.start_date or schedule.end_date),
        )
        for region, backend in list(scheduler_backends[ACCOUNT].items())
        for group in list(backend.schedule_groups.values())
        for schedule in list(group.schedules.values())
        if schedule.state == "ENABLED"
    ]


class StandIn:
    """All of it, wired together.

    Args:
        options: the parsed command line.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        moto = DomainDispatcherApplication(create_backend_app)
        self._server = make_server(options.host, options.port, moto, threaded=True, request_handler=MotoRequestHandler)
        self.url = f"http://{options.host}:{self._server.port}"
        # The children are on this machine, and 0.0.0.0 is no address to connect to.
        own_url = self.url.replace("//0.0.0.0:", "//127.0.0.1:")
        self._host = Host(endpoint_url=own_url, state_dir=options.state_dir, injected=dict(options.inject))
        self._logs = LogShipper(self._host.client)
        self._fargate = Fargate(
            Platform(
                host=self._host,
                logs=self._logs,
                images=dict(options.image),
                start_seconds=options.task_start_seconds,
            )
        )
        self._functions = Functions(find_function, EnvironmentPool(self._host, self._logs))
        self._scheduler = Scheduler(enabled_schedules, self._invoke_later, options.tick)
        self._server.app = Gateway(moto, fargate=self._fargate, functions=self._functions)
        # The poll interval only bounds how long the end takes; requests do not wait for it.
        self._serving = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="server", daemon=True)

    def start(self) -> None:
        """Begin to answer; connections have been accepted since the server was made."""
        self._serving.start()
        self._scheduler.start()

    def close(self) -> None:
        """End everything that runs; tasks may still call the stand-in until they have ended."""
        self._scheduler.close()
        self._functions.close()
        self._fargate.close(_GRACE_SECONDS)
        self._logs.close()
        self._server.shutdown()
        self._server.server_close()
        self._host.close()

    def _invoke_later(self, region: str, function: str, event: str) -> None:
        self._functions.invoke_later(Call(region=region, function=function, payload=event.encode()))


def main(argv: Sequence[str] | None = None) -> None:
    """Serve until SIGTERM or SIGINT."""
    options = _parse(argv)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    ready_line, sys.stdout = sys.stdout, sys.stderr  # moto prints now and then, and only one line may go to stdout
    logging.basicConfig(format="%(name)s: %(message)s")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    _forget_own_aws_settings()
    configure_moto()
    stand_in = StandIn(options)
    stand_in.start()
    ready_line.write(json.dumps({"ready": stand_in.url}) + "\n")
    ready_line.flush()
    ended.wait()
    stand_in.close()


def _forget_own_aws_settings() -> None:
    """The developer's profile, region and endpoints are nothing to the stand-in, and could break it."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m rowqueue.local.aws", description=__doc__.partition("\n")[0])
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen at")
    parser.add_argument("--port", type=int, default=0, help="the port to listen at; 0 takes a free one")
    parser.add_argument("--state-dir", type=Path, required=True, help="everything that is written goes below it")
    parser.add_argument(
        "--image",
        type=_image,
        action="append",
        default=[],
        metavar="NAME=ARGV",
        help="an image's repository, without registry and tag, and the argv (JSON) that stands for its entry point",
    )
    parser.add_argument(
        "--inject",
        type=_variable,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an environment variable that every function and task gets, unless it is deployed with a value of its own",
    )
    parser.add_argument("--task-start-seconds", type=float, default=0.3, help="from RunTask to RUNNING")
    parser.add_argument("--tick", type=float, help="seconds that replace the rate of every schedule")
    return parser.parse_args(argv)


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, got {text!r}")
    return name, value


def _image(text: str) -> tuple[str, list[str]]:
    name, argv_json = _variable(text)
    try:
        argv = json.loads(argv_json)
    except ValueError:
        argv = None
    if not isinstance(argv, list) or not argv or not all(isinstance(word, str) for word in argv):
        raise argparse.ArgumentTypeError(f"expected the argv of {name} as a JSON list of strings, got {argv_json}")
    if shutil.which(argv[0]) is None:
        raise argparse.ArgumentTypeError(f"{argv[0]}, which stands for {name}, is no program on this machine")
    return name, argv


if __name__ == "__main__":
    main()
