"""The HTTP interface for drills and tests below ``/_local/``: faults, signals and the timeline.

=======  ================================  ============================================================
GET      ``/_local/faults``                the faults in force
POST     ``/_local/faults``                change them: see :func:`rowqueue_local.aws.faults.changed`
GET      ``/_local/met``                   how often each fault has had an effect
GET      ``/_local/launches``              each RunTask, and the state changes of each task
POST     ``/_local/tasks/ID/signal``       ``{"signal": "SIGKILL"}`` for the task's program
POST     ``/_local/tasks/ID/interrupt``    a Spot interruption
=======  ================================  ============================================================
"""

from __future__ import annotations

import json
import re
import signal
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from werkzeug.wrappers import Response

from rowqueue_local.aws.errors import ApiError

if TYPE_CHECKING:
    from werkzeug.wrappers import Request

    from rowqueue_local.aws.fargate import TaskOperations
    from rowqueue_local.aws.injected import Injected

PREFIX = "/_local/"  # no S3 bucket: their names have no underscore
_TASK = re.compile(r"/_local/tasks/(?P<task>[^/]+)/(?P<what>signal|interrupt)")
_SIGNALS = ("SIGKILL", "SIGSTOP", "SIGCONT", "SIGTERM")


class Controls:
    """Answers requests below ``/_local/``.

    Args:
        injected: the faults.
        fargate: the tasks.
    """

    def __init__(self, injected: Injected, fargate: TaskOperations) -> None:
        self._injected = injected
        self._fargate = fargate

    def answer(self, request: Request) -> Response:
        """Answer one request; an error is answered as ``{"message": ...}``."""
        try:
            status, body = 200, self._perform(request)
        except ApiError as error:
            status, body = error.status, {"message": str(error)}
        return Response(json.dumps(body), status=status, mimetype="application/json")

    def _perform(self, request: Request) -> dict[str, Any]:
        match request.method, request.path:
            case "GET", "/_local/faults":
                return asdict(self._injected.faults)
            case "POST", "/_local/faults":
                return asdict(self._injected.change(request.get_data()))
            case "GET", "/_local/met":
                return self._injected.met
            case "GET", "/_local/launches":
                return self._fargate.launches()
            case "POST", path if match := _TASK.fullmatch(path):
                self._act(match["task"], match["what"], request)
                return {}
            case method, path:
                raise ApiError("NotFound", f"nothing answers {method} {path} here", status=404)

    def _act(self, task: str, what: str, request: Request) -> None:
        if what == "signal":
            self._fargate.signal(task, signal_of(request.get_data()))
        else:
            self._fargate.interrupt(task)


def signal_of(body: bytes) -> signal.Signals:
    """Read the body of a signal request.

    Raises:
        ApiError: it names no signal that can be sent.
    """
    try:
        given = json.loads(body or b"null")
    except ValueError:
        given = body.decode(errors="replace")
    name = given.get("signal") if isinstance(given, dict) else None
    if name not in _SIGNALS:
        expected = f'{{"signal": one of {", ".join(_SIGNALS)}}}'
        raise ApiError("ValidationException", f"the request: expected {expected}, got {json.dumps(given)}")
    return signal.Signals[name]
