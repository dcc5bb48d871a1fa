"""The faults that stand at the moment, shared by all threads, and used up by what meets them."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from rowqueue_local.aws.faults import changed, once_less, waits

if TYPE_CHECKING:
    from collections.abc import Callable

    from rowqueue_local.aws.faults import Faults, Refusal, Unplaced


class Injected:
    """Faults, as they stand now; safe to use from several threads.

    Args:
        initial: what the stand-in was started with.
        draw: a number between two, such as ``random.uniform``.
    """

    def __init__(self, initial: Faults, draw: Callable[[float, float], float]) -> None:
        self._initial = initial
        self._faults = initial
        self._draw = draw
        self._started = 0  # tasks, since hang_every was set
        self._lock = threading.Lock()

    @property
    def faults(self) -> Faults:
        """Those that stand; what has been met its number of times is no longer among them."""
        return self._faults

    def change(self, body: bytes) -> Faults:
        """Change them as a request asks for; answers those that stand then.

        Raises:
            ApiError: the request is not understood, and nothing has changed.
        """
        with self._lock:
            before, self._faults = self._faults, changed(self._faults, body, initial=self._initial)
            if before.hang_every != self._faults.hang_every:
                self._started = 0
            return self._faults

    def start_seconds(self) -> float:
        """How long the next task takes from RunTask to RUNNING."""
        return self._draw(*self._faults.task_start_seconds)

    def event_waits(self) -> list[float]:
        """How long each copy of the next event waits, seconds."""
        return waits(self._faults.events, self._draw)

    def refusal(self, operation: str) -> Refusal | None:
        """What an operation of ECS answers this request instead; None as a rule."""
        with self._lock:
            met = self._faults.refuse.get(operation)
            if met:
                rest = {name: refusal for name, refusal in self._faults.refuse.items() if name != operation}
                left = once_less(met)
                self._faults = replace(self._faults, refuse=rest | ({operation: left} if left else {}))
            return met

    def unplaced(self) -> Unplaced | None:
        """What this RunTask does not place; None as a rule."""
        with self._lock:
            met = self._faults.unplaced
            if met:
                self._faults = replace(self._faults, unplaced=once_less(met))
            return met

    def hangs(self) -> bool:
        """Whether the task that starts now is one of those that hang."""
        with self._lock:
            every = self._faults.hang_every
            self._started += 1
            return every is not None and self._started % every == 0
