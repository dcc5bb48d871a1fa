"""Records each RunTask, so that drills can compute figures."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rowqueue_local.aws.fargate_tasks import FargateTask

_REMEMBERED = 10_000  # calls; older ones are dropped


@dataclass(frozen=True, kw_only=True)
class RunTaskCall:
    """One RunTask.

    Attributes:
        at: when it was answered, seconds since the epoch.
        count: number of requested tasks.
        client_token: from the request, if it has one.
        tasks: ids of the answered tasks, also if an earlier call with the same token launched them.
        failures: the items of ``failures[]``.
        error: the error that it answered, if any.
    """

    at: float
    count: Any
    client_token: str | None
    tasks: Sequence[str] = ()
    failures: Sequence[Mapping[str, str]] = ()
    error: str | None = None


class Timeline:
    """The calls in order; safe to use from several threads."""

    def __init__(self) -> None:
        self._calls: deque[RunTaskCall] = deque(maxlen=_REMEMBERED)
        self._lock = threading.Lock()

    def add(self, call: RunTaskCall) -> None:
        """Add a call."""
        with self._lock:
            self._calls.append(call)

    def as_json(self, tasks: Iterable[FargateTask]) -> dict[str, Any]:
        """The calls as ``launches``, and the given tasks as ``tasks``, ready for JSON."""
        with self._lock:
            calls = list(self._calls)
        return {"launches": [asdict(call) for call in calls], "tasks": [_task(task) for task in tasks]}


def _task(task: FargateTask) -> dict[str, Any]:
    return {
        "id": task.task_id,
        "created_at": task.created_at,
        "started_at": task.started_at,
        "stopping_at": task.stopping_at,
        "stopped_at": task.stopped_at,
        "status": task.last_status,
        "stop_code": task.stop_code,
        "stopped_reason": task.stopped_reason,
        "exit_code": task.exit_code,
        "frozen": task.frozen,
        "task_definition": task.launch.definition["taskDefinitionArn"],
    }
