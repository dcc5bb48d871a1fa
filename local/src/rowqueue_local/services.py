"""The service processes of the embedded stack: start, wait until ready, ask, stop."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

from rowqueue.errors import RowqueueError
from rowqueue_local import processes

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_READY_WITHIN_S = 60.0
_AWS_STOPS_WITHIN_S = 2.5
_OTHERS_STOP_WITHIN_S = 1.0


class StackError(RowqueueError):
    """The embedded stack cannot be started, a service of it ended by itself, or a service refused a request."""


def ask(url: str, body: Mapping[str, Any] | None = None, context: ssl.SSLContext | None = None) -> dict[str, Any]:
    """Send a request to a service's control interface, which is below ``/_local/``.

    Args:
        url: the complete URL.
        body: sent as JSON by POST; without a body the request is a GET.
        context: TLS for https.

    Raises:
        StackError: with the service's message if it refuses, or if the service cannot be reached.
    """
    request = urllib.request.Request(url, data=None if body is None else json.dumps(body).encode())  # noqa: S310 -- ours
    try:
        with urllib.request.urlopen(request, context=context, timeout=10) as answer:  # noqa: S310
            return dict(json.load(answer))
    except urllib.error.HTTPError as error:
        with error:
            raise StackError(_reason(error.read())) from None
    except OSError as error:
        raise StackError(f"{url} cannot be reached: {error}") from None


def _reason(answer: bytes) -> str:
    try:
        return str(json.loads(answer)["message"])
    except (ValueError, LookupError, TypeError):
        return answer.decode(errors="replace")


def start(name: str, arguments: Sequence[str], state: Path) -> subprocess.Popen[bytes]:
    """Start the service of this module name; its standard error goes to its log."""
    with _log(state, name).open("wb") as log:
        return processes.spawn(
            [sys.executable, "-m", f"rowqueue_local.{name}", "--port", "0", *arguments],
            registry=state / "pids",
            env=_plain_environment(state),
            stdout=subprocess.PIPE,
            stderr=log,
        )


def _plain_environment(state: Path) -> dict[str, str]:
    """The caller's environment without variables for a real account, and with temporary files below ``state``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SNOWFLAKE_"))}
    return kept | {"TMPDIR": str(state / "tmp"), "PYTHONUNBUFFERED": "1"}


def ready(service: subprocess.Popen[bytes], name: str, state: Path) -> str:
    """Wait until a service listens; returns its address.

    Raises:
        StackError: it ended or took too long; with the last lines of its log.
    """
    assert service.stdout is not None
    deadline = time.monotonic() + _READY_WITHIN_S
    with selectors.DefaultSelector() as selector:
        selector.register(service.stdout, selectors.EVENT_READ)
        while time.monotonic() < deadline and service.poll() is None:
            if selector.select(timeout=0.2):
                if line := service.stdout.readline():
                    return str(json.loads(line)["ready"])
                break
    raise StackError(f"{name} did not start:\n{log_tail(state, name)}")


def stop_all(services: Mapping[str, subprocess.Popen[bytes]]) -> None:
    """Stop all services within a few seconds, also on a busy machine. Killing one is safe: its state is in memory only.

    The AWS stand-in is stopped first, because its tasks need the others until they have ended.
    """
    aws = [service for name, service in services.items() if name == "aws"]
    others = [service for name, service in services.items() if name != "aws"]
    processes.stop_together(aws, grace_seconds=_AWS_STOPS_WITHIN_S)
    processes.stop_together(others, grace_seconds=_OTHERS_STOP_WITHIN_S)
    for service in services.values():
        if service.stdout is not None:
            service.stdout.close()


def _log(state: Path, name: str) -> Path:
    return state / "logs" / f"{name}.log"


def log_tail(state: Path, name: str, lines: int = 15) -> str:
    """The last lines of a service's log."""
    return "\n".join(_log(state, name).read_text(errors="replace").splitlines()[-lines:])
