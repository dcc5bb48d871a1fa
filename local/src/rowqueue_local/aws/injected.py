"""The faults in force, shared by all threads."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from rowqueue_local.aws.faults import changed, once_less, waits

if TYPE_CHECKING:
    from collections.abc import Callable

    from rowqueue_local.aws.faults import Faults, InjectedRefusal, Unplaced


class Injected:
    """The faults in force; safe to use from several threads.

    Args:
        initial: the faults at the start.
        draw: returns a random number between two, such as ``random.uniform``.
    """

    def __init__(self, initial: Faults, draw: Callable[[float, float], float]) -> None:
        self._initial = initial
        self._faults = initial
        self._draw = draw
        self._started = 0  # number of tasks since hang_every was set
        self._lock = threading.Lock()

    @property
    def faults(self) -> Faults:
        """The faults in force, without those that have happened their number of times."""
        return self._faults

    def change(self, body: bytes) -> Faults:
        """Change the faults by a request; returns those in force.

        Raises:
            ApiError: the request is not valid; nothing has changed.
        """
        with self._lock:
            before, self._faults = self._faults, changed(self._faults, body, initial=self._initial)
            if before.hang_every != self._faults.hang_every:
                self._started = 0
            return self._faults

    def start_seconds(self) -> float:
        """The time from RunTask to RUNNING of the next task."""
        return self._draw(*self._faults.task_start_seconds)

    def event_waits(self) -> list[float]:
        """The delay of each copy of the next event, seconds."""
        return waits(self._faults.events, self._draw)

    def refusal(self, operation: str) -> InjectedRefusal | None:
        """The error for this request of an ECS operation, if there is one."""
        with self._lock:
            met = self._faults.refuse.get(operation)
            if met:
                rest = {name: refusal for name, refusal in self._faults.refuse.items() if name != operation}
                left = once_less(met)
                self._faults = replace(self._faults, refuse=rest | ({operation: left} if left else {}))
            return met

    def unplaced(self) -> Unplaced | None:
        """The tasks that this RunTask does not place, if any."""
        with self._lock:
            met = self._faults.unplaced
            if met:
                self._faults = replace(self._faults, unplaced=once_less(met))
            return met

    def hangs(self) -> bool:
        """Whether the task that starts now is to hang."""
        with self._lock:
            every = self._faults.hang_every
            self._started += 1
            return every is not None and self._started % every == 0
