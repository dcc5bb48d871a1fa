"""Deliveries: as many at a time as the gate admits, each ending in an outcome or in doubt about our credentials."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from rowqueue.lifecycle import Interrupted, Transient
from rowqueue.observability import Event, log_fault
from rowqueue.processor.attempts import Delivery
from rowqueue.processor.queue import key_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from rowqueue.lifecycle import Entry, Outcome, Verdict
    from rowqueue.processor.gate import Gate
    from rowqueue.processor.in_hand import InHand
    from rowqueue.processor.trust import Trust
    from rowqueue.sql import ClaimedKey

_TOO_MANY_REQUESTS = 429


class Delivering:
    """Delivers entries.

    Args:
        deliver: delivers one entry.
        in_hand: where entries come from.
        gate: admits deliveries, and learns how long they take.
        trust: weighs faults of credentials.
        settle: takes each delivery that has an outcome.
        room: set while another delivery may start.
        doubted: set when the service seems to refuse our credentials, so that nothing more is claimed.
        clock: seconds, monotonic, of the event loop.

    Attributes:
        faults: deliveries that met a fault of this program.
    """

    def __init__(
        self,
        *,
        deliver: Callable[[Entry], Awaitable[Verdict]],
        in_hand: InHand,
        gate: Gate,
        trust: Trust,
        settle: Callable[[Delivery], None],
        room: asyncio.Event,
        doubted: asyncio.Event,
        clock: Callable[[], float],
    ) -> None:
        self.faults = 0
        self._deliver = deliver
        self._in_hand = in_hand
        self._gate = gate
        self._trust = trust
        self._settle = settle
        self._room = room
        self._doubted = doubted
        self._clock = clock
        self._releasing = False

    async def run(self) -> None:
        """Deliver one entry after the other until cancelled. Run as many of these as deliveries may be in flight.

        A delivery whose 2xx has arrived ends with it although it is cancelled.
        """
        while not _is_cancelled():
            await self._room.wait()
            entry = await self._in_hand.start()
            try:
                await self._take_up(entry)
            finally:
                self._in_hand.finish()
                del entry  # its data may be large, and the next entry may be long in coming

    def release_unstarted(self) -> None:
        """Release every entry that is not in flight, including those that are claimed from now on."""
        self._releasing = True
        for entry in self._in_hand.withdraw():
            self._end(entry, Interrupted(reason="never started"), began=None)
        self._gate.dismiss()

    def withdraw(self, cancelled: Collection[ClaimedKey]) -> int:
        """Release those of these entries whose delivery has not begun; returns how many.

        Their settle finds them cancelled, and they do not become pending. What has begun ends as it ends.
        """
        withdrawn = self._in_hand.withdraw(cancelled)
        for entry in withdrawn:
            self._end(entry, Interrupted(reason="never started"), began=None)
        turned_away = self._gate.turn_away(cancelled)
        if self._trust.doubtful:
            self._resolve()
        return len(withdrawn) + turned_away

    def conclude(self) -> bool:
        """Settle the doubtful entries, once no delivery is in flight; returns whether to stop over our credentials."""
        refused = self._trust.certain or (bool(self._trust.doubtful) and self._doubted.is_set())
        self._settle_doubtful()
        return refused

    async def _take_up(self, entry: Entry) -> None:
        began: float | None = None
        try:
            admitted = await self._gate.enter(key_of(entry))
            self._in_hand.begin(entry)
            try:
                if admitted and not self._releasing:
                    began = self._clock()
                    verdict = await self._verdict(entry)
            finally:
                if admitted:
                    self._gate.leave()
        except asyncio.CancelledError:
            self._end(entry, Interrupted(reason="cut short by a stop"), began=began)
            raise
        if began is None:
            self._end(entry, Interrupted(reason="never started"), began=None)
        else:
            self._heed(entry, verdict, began)

    async def _verdict(self, entry: Entry) -> Verdict:
        """Deliver. A fault of this program costs one attempt of this entry. Other entries are not affected."""
        try:
            return await self._deliver(entry)
        except Exception as error:  # noqa: BLE001 -- any fault of ours
            self.faults += 1
            await asyncio.to_thread(log_fault, Event.DELIVERY_FAULT, error, entry_id=entry.id)
            return Transient(reason=f"a fault of this program: {type(error).__name__}")

    def _heed(self, entry: Entry, verdict: Verdict, began: float) -> None:
        if verdict.response_status is not None:
            # The time of a delivery without an answer is not the service's response time.
            self._gate.answered(self._clock() - began)
        if isinstance(verdict, Transient) and verdict.response_status == _TOO_MANY_REQUESTS:
            self._gate.slow_down(verdict.retry_after_s)
        outcome = self._trust.weigh(entry, verdict, began=began)
        if outcome is not None:
            self._end(entry, outcome, began=began)
        if self._trust.doubtful:
            self._resolve()

    def _resolve(self) -> None:
        """End a doubt when a 2xx clears it, when it is certain, or when no delivery is left that could clear it."""
        if self._trust.cleared:
            self._settle_doubtful()
            self._doubted.clear()
            self._gate.open()
            return
        if self._trust.grave:
            self._gate.close()
        none_to_start = self._trust.grave or not (self._in_hand.unstarted or self._gate.not_admitted)
        if self._trust.certain or (none_to_start and not self._gate.in_flight):
            self._gate.close()
            self._doubted.set()

    def _settle_doubtful(self) -> None:
        for doubtful, outcome in self._trust.decide():
            self._end(doubtful.entry, outcome, began=doubtful.began)

    def _end(self, entry: Entry, outcome: Outcome, *, began: float | None) -> None:
        self._settle(Delivery(entry=entry, outcome=outcome, began=began, ended=self._clock()))


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
