"""How many deliveries may be in flight, and from when: slower after a 429, none while our credentials are in doubt."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST_PAUSE_S = 30.0
"""A service that asks for more is obeyed entry by entry, through their ``available_at``."""
_SHORTEST_PAUSE_S = 1.0


@dataclass(slots=True)
class Gate:
    """Lets deliveries in, first come first served.

    A 429 halves how many are allowed at once, and each delivery that ends lets a little more in again: additive
    increase, multiplicative decrease, as TCP does under congestion (RFC 5681).

    Attributes:
        most: never more at once.
        clock: seconds, monotonic.
        allowed: so many at once now.
        in_flight: so many are in.
    """

    most: int
    clock: Callable[[], float]
    allowed: float = field(init=False)
    in_flight: int = 0
    _opens_at: float = 0.0
    _closed: bool = False
    _dismissed: bool = False
    _queue: deque[asyncio.Future[None]] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.allowed = float(self.most)

    async def enter(self) -> None:
        """Wait until one more delivery may start. Whoever has entered has to leave."""
        if not self._queue and self._lets_in():
            self.in_flight += 1
            return
        admitted = asyncio.get_running_loop().create_future()
        self._queue.append(admitted)
        self._admit()
        try:
            await admitted
        except asyncio.CancelledError:
            if admitted.done() and not admitted.cancelled():
                self.leave()
            raise

    def leave(self) -> None:
        """One delivery has ended."""
        self.in_flight -= 1
        self.allowed = min(float(self.most), self.allowed + 1 / max(1.0, self.allowed))
        self._admit()

    def slow_down(self, seconds: float | None) -> None:
        """The service has too much of us: half as many at once, and none for as long as it asks.

        Those that it refuses at the same moment halve it once, not once each.
        """
        now = self.clock()
        if now >= self._opens_at:
            self.allowed = max(1.0, self.allowed / 2)
        pause = min(LONGEST_PAUSE_S, max(_SHORTEST_PAUSE_S, seconds or 0.0))
        self._opens_at = max(self._opens_at, now + pause)
        asyncio.get_running_loop().call_later(self._opens_at - now, self._admit)

    def close(self) -> None:
        """Let nobody in until it is opened."""
        self._closed = True

    def open(self) -> None:
        """Let deliveries in again."""
        self._closed = False
        self._admit()

    def dismiss(self) -> None:
        """Let everybody in from now on: they come only to hear that it is over."""
        self._dismissed = True
        self._admit()

    @property
    def room(self) -> int:
        """How many could come in at once, now."""
        if self._closed or self.clock() < self._opens_at:
            return 0
        return max(0, int(self.allowed) - self.in_flight - self.waiting)

    @property
    def waiting(self) -> int:
        """How many wait to be let in."""
        return sum(not admitted.done() for admitted in self._queue)

    def _admit(self) -> None:
        while self._queue and self._lets_in():
            admitted = self._queue.popleft()
            if not admitted.done():  # else its delivery was cancelled while it waited
                self.in_flight += 1
                admitted.set_result(None)

    def _lets_in(self) -> bool:
        if self._dismissed:
            return True
        return not self._closed and self.in_flight < max(1, int(self.allowed)) and self.clock() >= self._opens_at
