"""The faults in force, shared by all threads."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from rowqueue_local.aws.faults import EventFaults, changed, once_less, waits

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
        self._met: Counter[str] = Counter()
        self._lock = threading.Lock()

    @property
    def faults(self) -> Faults:
        """The faults in force, without those that have happened their number of times."""
        return self._faults

    @property
    def met(self) -> dict[str, int]:
        """How often each fault has had an effect since the start, by its path, such as ``refuse.RunTask``."""
        with self._lock:
            return dict(self._met)

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
        if self._faults.task_start_seconds != self._initial.task_start_seconds:
            self._meet("task_start_seconds")
        return self._draw(*self._faults.task_start_seconds)

    def event_waits(self) -> list[float]:
        """The delay of each copy of the next event, seconds."""
        events = self._faults.events
        for name in ("suppressed", "copies", "delay_seconds"):
            if getattr(events, name) != getattr(EventFaults, name):
                self._meet(f"events.{name}")
        return waits(events, self._draw)

    def refusal(self, operation: str) -> InjectedRefusal | None:
        """The error for this request of an ECS operation, if there is one."""
        with self._lock:
            met = self._faults.refuse.get(operation)
            if met:
                self._met[f"refuse.{operation}"] += 1
                rest = {name: refusal for name, refusal in self._faults.refuse.items() if name != operation}
                left = once_less(met)
                self._faults = replace(self._faults, refuse=rest | ({operation: left} if left else {}))
            return met

    def unplaced(self) -> Unplaced | None:
        """The tasks that this RunTask does not place, if any."""
        with self._lock:
            met = self._faults.unplaced
            if met:
                self._met["unplaced"] += 1
                self._faults = replace(self._faults, unplaced=once_less(met))
            return met

    def hangs(self) -> bool:
        """Whether the task that starts now is to hang."""
        with self._lock:
            every = self._faults.hang_every
            self._started += 1
            hangs = every is not None and self._started % every == 0
            self._met["hang_every"] += hangs
            return hangs

    def is_hidden(self, age_seconds: float) -> bool:
        """Whether ListTasks does not list a task of this age yet."""
        hidden = age_seconds < self._faults.list_lag_seconds
        if hidden:
            self._meet("list_lag_seconds")
        return hidden

    def throttles(self) -> bool:
        """Whether this invocation of a function is throttled."""
        if self._faults.throttled:
            self._meet("throttled")
        return self._faults.throttled

    def invocation_seconds(self, limit: float) -> float:
        """The time limit of an invocation that begins, given the function's own."""
        if self._faults.invocation_seconds is None:
            return limit
        return min(limit, self._faults.invocation_seconds)

    def cut_short(self) -> None:
        """Count an invocation that has reached an injected time limit."""
        self._meet("invocation_seconds")

    def not_found(self, path: str) -> None:
        """Count a request for an object that S3 does not have, by its path, such as ``not_found:/bucket/key``."""
        self._meet(f"not_found:{path}")

    def is_away(self, service: str) -> bool:
        """Whether a service does not answer."""
        away = service in self._faults.away
        if away:
            self._meet("away")
        return away

    def _meet(self, name: str) -> None:
        with self._lock:
            self._met[name] += 1
