"""How many deliveries may be in flight: fewer after a 429, none while our credentials are in doubt."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable

SHORTEST_PAUSE_S = 1.0
"""Shortest pause after a 429."""
LONGEST_PAUSE_S = 30.0
"""Longest pause after a 429. The entry itself waits as long as the service asked, through its ``available_at``."""
_SHORTEST_DELIVERY_S = 1e-4
_REMEMBERED_DELIVERIES = 32


class Gate:
    """Admits deliveries in the order in which they came.

    A 429 halves how many may be in flight, and each delivery that ends raises the number a little: additive increase,
    multiplicative decrease, as TCP does under congestion (RFC 5681).

    Args:
        most: largest number of deliveries in flight.
        clock: seconds, monotonic, of the event loop.
        shortest_pause_s: see :data:`SHORTEST_PAUSE_S`.
        longest_pause_s: see :data:`LONGEST_PAUSE_S`.

    Attributes:
        allowed: how many may be in flight now.
        in_flight: how many are.
    """

    def __init__(
        self,
        *,
        most: int,
        clock: Callable[[], float],
        shortest_pause_s: float = SHORTEST_PAUSE_S,
        longest_pause_s: float = LONGEST_PAUSE_S,
    ) -> None:
        self.allowed = float(most)
        self.in_flight = 0
        self._most = most
        self._clock = clock
        self._shortest_pause_s = shortest_pause_s
        self._longest_pause_s = longest_pause_s
        self._opens_at = 0.0
        self._closed = False
        self._dismissed = False
        self._admissions: deque[tuple[Hashable, asyncio.Future[bool]]] = deque()
        self._answered = 0
        self._delivery_s = 0.0

    async def enter(self, key: Hashable = None) -> bool:
        """Wait until one more delivery may start. Each caller that was admitted must call :meth:`leave`.

        Args:
            key: names the delivery, so that it can be turned away.

        Returns:
            Whether it was admitted.
        """
        if not self._admissions and self._admits():
            self.in_flight += 1
            return True
        admission: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._admissions.append((key, admission))
        self._admit()
        try:
            return await admission
        except asyncio.CancelledError:
            if admission.done() and not admission.cancelled() and admission.result():
                self.leave()
            raise

    def turn_away(self, keys: Collection[Hashable]) -> int:
        """End the wait of those of these deliveries that wait for admission, without it; returns how many."""
        ended = [admission for key, admission in self._admissions if key in keys and not admission.done()]
        for admission in ended:
            admission.set_result(False)
        return len(ended)

    def leave(self) -> None:
        """Record that a delivery has ended."""
        self.in_flight -= 1
        self.allowed = min(float(self._most), self.allowed + 1 / max(1.0, self.allowed))
        self._admit()

    def answered(self, seconds: float) -> None:
        """Learn how long a delivery took until its answer."""
        self._answered = min(self._answered + 1, _REMEMBERED_DELIVERIES)
        self._delivery_s += (seconds - self._delivery_s) / self._answered

    def slow_down(self, seconds: float | None) -> None:
        """Halve the deliveries in flight, and admit none for a while: the service has answered 429.

        Answers that arrive during the pause do not halve the number again.

        Args:
            seconds: how long the service asked us to wait, if it did.
        """
        now = self._clock()
        if now >= self._opens_at:
            self.allowed = max(1.0, self.allowed / 2)
        pause = min(self._longest_pause_s, max(self._shortest_pause_s, seconds or 0.0))
        self._opens_at = max(self._opens_at, now + pause)
        asyncio.get_running_loop().call_later(self._opens_at - now, self._admit)

    def close(self) -> None:
        """Admit no delivery until :meth:`open`."""
        self._closed = True

    def open(self) -> None:
        """Admit deliveries again."""
        self._closed = False
        self._admit()

    def dismiss(self) -> None:
        """Admit all deliveries from now on, so that each can end without a request."""
        self._dismissed = True
        self._admit()

    @property
    def room(self) -> int:
        """How many more deliveries would be admitted now."""
        if self._closed or self._clock() < self._opens_at:
            return 0
        return max(0, int(self.allowed) - self.in_flight - self.not_admitted)

    @property
    def per_second(self) -> float | None:
        """Entries that can be delivered (Little's law); ``None`` before the first answer.

        Unlike a count of recent deliveries, it does not decrease while there is nothing to deliver.
        """
        return self.allowed / max(self._delivery_s, _SHORTEST_DELIVERY_S) if self._answered else None

    @property
    def not_admitted(self) -> int:
        """How many deliveries wait for admission."""
        return sum(not admission.done() for _, admission in self._admissions)

    def _admit(self) -> None:
        while self._admissions and self._admits():
            _, admission = self._admissions.popleft()
            if not admission.done():  # that of a delivery which was cancelled or turned away is done
                self.in_flight += 1
                admission.set_result(True)

    def _admits(self) -> bool:
        if self._dismissed:
            return True
        return not self._closed and self.in_flight < max(1, int(self.allowed)) and self._clock() >= self._opens_at
