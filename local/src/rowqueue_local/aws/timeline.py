"""What was asked of RunTask, and what became of each task: for drills that compute figures from it."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rowqueue_local.aws.fargate_tasks import Task

_REMEMBERED = 10_000  # calls; the oldest make room


@dataclass(frozen=True, kw_only=True)
class RunTaskCall:
    """One RunTask.

    Attributes:
        at: when it was answered, seconds since the epoch.
        count: how many tasks were asked for.
        client_token: as it came; None without.
        tasks: the ids of those it answered, also where the token had launched them before.
        failures: the items of ``failures[]``.
        error: the error it answered instead; None as a rule.
    """

    at: float
    count: Any
    client_token: str | None
    tasks: Sequence[str] = ()
    failures: Sequence[Mapping[str, str]] = ()
    error: str | None = None


class Timeline:
    """The calls in their order; safe to use from several threads."""

    def __init__(self) -> None:
        self._calls: deque[RunTaskCall] = deque(maxlen=_REMEMBERED)
        self._lock = threading.Lock()

    def add(self, call: RunTaskCall) -> None:
        """Note a call."""
        with self._lock:
            self._calls.append(call)

    def told(self, tasks: Iterable[Task]) -> dict[str, Any]:
        """The calls as ``launches``, and ``tasks``, the ones given; as JSON can hold them."""
        with self._lock:
            calls = list(self._calls)
        return {"launches": [asdict(call) for call in calls], "tasks": [_task(task) for task in tasks]}


def _task(task: Task) -> dict[str, Any]:
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
    }
