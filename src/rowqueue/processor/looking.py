"""Looks: what people say while entries are in hand, a hold or a cancel, reaches what has not begun."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from rowqueue.errors import WarehouseError
from rowqueue.observability import Event, log, log_problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from rowqueue.processor.delivering import Delivering
    from rowqueue.processor.in_hand import InHand
    from rowqueue.processor.queue import Queue

LOOK_EVERY_S = 3.0
"""Longest time from one look to the next while something in hand has not begun. A cancel has to work within five
seconds: the rest is for the statement, with its login if its session was lost."""
_SHORTEST_S = 1.0
"""Shortest time from one look to the next, and after one that failed: there may be many flushes in a second."""
_POLL_S = 0.2
"""Seconds between checks whether a look is due. A signal from each claim and each flush would cost more."""


class Looking:
    """Looks after each flush, and at the latest some seconds after the last look, while something has not begun.

    Args:
        queue: where a hold or a cancel is read.
        in_hand: knows what has not begun, and when somebody looked.
        delivering: withdraws what may not begin.
        flushed: set after each batch that was settled.
        hold_seen: set here when a hold stands.
        clock: seconds, monotonic, of the event loop.
        every_s: see :data:`LOOK_EVERY_S`.
    """

    def __init__(
        self,
        *,
        queue: Queue,
        in_hand: InHand,
        delivering: Delivering,
        flushed: asyncio.Event,
        hold_seen: asyncio.Event,
        clock: Callable[[], float],
        every_s: float = LOOK_EVERY_S,
    ) -> None:
        self._queue = queue
        self._in_hand = in_hand
        self._delivering = delivering
        self._flushed = flushed
        self._hold_seen = hold_seen
        self._clock = clock
        self._every_s = every_s
        self._failing = False

    async def run(self) -> None:
        """Look until a hold stands, or until cancelled. A look that fails changes nothing but the log."""
        while not self._hold_seen.is_set():
            await self._in_hand.not_begun.wait()
            age_s = self._clock() - self._in_hand.looked_at
            if age_s >= self._every_s or (self._flushed.is_set() and age_s >= _SHORTEST_S):
                await self._look()
            await asyncio.sleep(_SHORTEST_S if self._failing else _POLL_S)

    async def _look(self) -> None:
        began, tokens = self._clock(), self._in_hand.tokens
        self._flushed.clear()
        try:
            seen = await self._queue.look(tokens)
        except WarehouseError as error:
            if not self._failing:
                log_problem(Event.LOOK_FAILED, error=str(error))
            self._failing = True
            return
        self._failing = False
        self._in_hand.looked(tokens, at=began)
        if seen.hold:
            log(Event.HOLD_SEEN)
            self._hold_seen.set()
            self._delivering.release_unstarted()
        elif withdrawn := self._delivering.withdraw(seen.cancelled):
            log(Event.ENTRIES_CANCELLED, entries=withdrawn)
