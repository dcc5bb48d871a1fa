"""Deliveries that have ended are settled in the background, many in one statement."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from dataclasses import replace
from typing import TYPE_CHECKING

from rowqueue.lifecycle import settlement_for
from rowqueue.observability import Event, Metric, embedded, log, log_problem
from rowqueue.processor import memory
from rowqueue.processor.attempts import answer_of, attempts_of, reason_of
from rowqueue.processor.pace import UNMEASURED_STATEMENT_S, SettlePace, learned
from rowqueue.processor.parts import MAX_STATEMENT_BYTES
from rowqueue.settings import LARGEST_BLOCK

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rowqueue.lifecycle import RetryPolicy, Settlement
    from rowqueue.processor.attempts import Delivery
    from rowqueue.processor.in_hand import InHand
    from rowqueue.processor.queue import Queue

_OVERHEAD_BYTES = 150
"""Upper bound for the size of an outcome without its texts and its key: 115 with an id of six digits."""

_REMEMBERED_OUTCOMES = 100


class Settling:
    """Settles deliveries.

    Args:
        queue: where they are settled.
        policy: how often and how soon to retry.
        in_hand: shrinks with each batch.
        flush_s: how long an outcome waits for others, seconds.
        flush_entries: number of outcomes that are settled without waiting for others.
        flushed: set after each batch.
        stop_s: how long outcomes can be settled after a stop, seconds.
        most_answer_bytes: memory that answers may take until they are settled.
        clock: seconds, monotonic, of the event loop.
        rng: for jitter.

    Attributes:
        settled: number of entries by result: completed, failed, pending (to be retried) or released.
        room: set while another delivery may start: its outcome could be settled after a stop, and its answer kept.
    """

    def __init__(
        self,
        *,
        queue: Queue,
        policy: RetryPolicy,
        in_hand: InHand,
        flush_s: float,
        flush_entries: int,
        flushed: asyncio.Event,
        clock: Callable[[], float],
        rng: Callable[[], float],
        stop_s: float,
        most_answer_bytes: float,
    ) -> None:
        self.settled: Counter[str] = Counter()
        self.room = asyncio.Event()
        self.room.set()
        self._queue = queue
        self._policy = policy
        self._in_hand = in_hand
        self._flush_s = flush_s
        self._flush_entries = flush_entries
        self._flushed = flushed
        self._clock = clock
        self._rng = rng
        self._stop_s = stop_s
        self._most_answer_bytes = most_answer_bytes
        self._statement_s = UNMEASURED_STATEMENT_S
        self._unsettled = Unsettled()
        self._never_started = Unsettled()
        self._wake = asyncio.Event()
        self._closed = False

    def add(self, delivery: Delivery) -> None:
        """Have a delivery settled soon.

        An entry that was never started goes first: its release is small, and frees it for other workers.
        """
        unsettled = self._unsettled if delivery.began is not None else self._never_started
        unsettled.add(self._without_data(delivery))
        self._in_hand.answer_bytes += memory.of_answer(answer_of(delivery.outcome))
        if self._is_full():
            self.room.clear()
        if len(unsettled) == 1 or self._is_enough():
            self._wake.set()

    def _without_data(self, delivery: Delivery) -> Delivery:
        """Free a long ``data``: no statement sends it."""
        if freed := memory.of_data(delivery.entry.data):
            self._in_hand.data_bytes -= freed
            return replace(delivery, entry=replace(delivery.entry, data=""))
        return delivery

    def pace(self) -> SettlePace:
        """How quickly outcomes are settled."""
        return SettlePace(
            statement_s=self._statement_s,
            statement_bytes=MAX_STATEMENT_BYTES,
            outcome_bytes=self._unsettled.mean_bytes,
        )

    def _is_full(self) -> bool:
        unsettled = self._unsettled.bytes + self._unsettled.in_progress_bytes
        return (
            unsettled > self.pace().most_unsettled_bytes(stop_s=self._stop_s)
            or self._in_hand.answer_bytes > self._most_answer_bytes
        )

    def close(self) -> None:
        """No more deliveries come; :meth:`run` ends when all are settled."""
        self._closed = True
        self._wake.set()

    def lag_s(self) -> float:
        """Seconds for which the oldest outcome has waited."""
        ended = [one.oldest.ended for one in (self._unsettled, self._never_started) if one.oldest]
        return self._clock() - min(ended) if ended else 0.0

    async def run(self) -> None:
        """Settle until closed and done.

        Raises:
            WarehouseError: outcomes could not be written.
        """
        while self._anything() or not self._closed:
            await self._gather()
            if flush := self._never_started.take():
                await self._settle(flush)
                self._never_started.settled()
            elif flush := self._unsettled.take():
                began = self._clock()
                await self._settle(flush)
                self._statement_s = learned(
                    self.pace(), seconds=self._clock() - began, size=self._unsettled.in_progress_bytes
                )
                self._unsettled.settled()
            if not self._is_full():
                self.room.set()

    def _anything(self) -> bool:
        return bool(self._never_started or self._unsettled)

    async def _gather(self) -> None:
        """Wait for a batch, but no longer than an outcome may wait. A release does not wait."""
        while not (self._anything() or self._closed):
            await self._woken()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._flush_s):
                while not (self._closed or self._never_started or self._is_enough() or self._is_all_in_hand()):
                    await self._woken()

    async def _woken(self) -> None:
        self._wake.clear()
        await self._wake.wait()

    def _is_enough(self) -> bool:
        return len(self._unsettled) >= self._flush_entries or self._unsettled.bytes >= MAX_STATEMENT_BYTES

    def _is_all_in_hand(self) -> bool:
        """Whether the batch is the only entry in hand. Then it has no others to wait for."""
        return self._in_hand.entries == 1 == len(self._unsettled)

    async def _settle(self, flush: Sequence[Delivery]) -> None:
        began = self._clock()
        settlements = [settlement_for(d.entry, d.outcome, self._policy, random=self._rng) for d in flush]
        lost = await self._queue.settle(settlements, attempts_of(flush, settlements, now=began))
        if lost:
            log_problem(Event.CLAIM_LOST, entries=sorted(lost)[:20], count=len(lost))
        counts = Counter(_counted_as(s) for s in settlements if s.entry_id not in lost)
        self.settled.update(counts)
        self._in_hand.drop(len(flush))
        self._in_hand.answer_bytes -= sum(memory.of_answer(answer_of(d.outcome)) for d in flush)
        self._flushed.set()
        _log_settled(flush, counts, lost=len(lost), seconds=self._clock() - began)


class Unsettled:
    """Deliveries that wait for their settle, in the order in which they ended.

    Attributes:
        bytes: about the size of all their outcomes in statements, as if each character were ASCII.
        mean_bytes: the size of one, on average.
        in_progress: those that were taken and are not settled yet.
        in_progress_bytes: their size.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self.mean_bytes = float(_OVERHEAD_BYTES)
        self.in_progress: list[Delivery] = []
        self.in_progress_bytes = 0
        self._added = 0
        self._deliveries: deque[tuple[Delivery, int]] = deque()

    def __len__(self) -> int:
        return len(self._deliveries)

    @property
    def oldest(self) -> Delivery | None:
        """The one that ended first, if there is one."""
        if self.in_progress:
            return self.in_progress[0]
        return self._deliveries[0][0] if self._deliveries else None

    def add(self, delivery: Delivery) -> None:
        """Put it behind the others."""
        texts = (answer_of(delivery.outcome), reason_of(delivery.outcome), delivery.entry.idempotency_key)
        size = _OVERHEAD_BYTES + sum(len(text or "") for text in texts)
        self.bytes += size
        self._added = min(self._added + 1, _REMEMBERED_OUTCOMES)
        self.mean_bytes += (size - self.mean_bytes) / self._added
        self._deliveries.append((delivery, size))

    def take(self) -> list[Delivery]:
        """Take a batch: all, up to the largest block. One UPDATE settles them, whatever the size of their answers."""
        batch: list[Delivery] = []
        while self._deliveries and len(batch) < LARGEST_BLOCK:
            delivery, size = self._deliveries.popleft()
            self.bytes -= size
            self.in_progress_bytes += size
            batch.append(delivery)
        self.in_progress = batch
        return batch

    def settled(self) -> None:
        """Forget those that were taken."""
        self.in_progress, self.in_progress_bytes = [], 0


def _counted_as(settlement: Settlement) -> str:
    return "released" if settlement.released else settlement.status.value


def _log_settled(flush: Sequence[Delivery], counts: Counter[str], *, lost: int, seconds: float) -> None:
    metrics: dict[Metric, float | list[float]] = {
        Metric.ENTRIES_COMPLETED: counts["completed"],
        Metric.ENTRIES_FAILED: counts["failed"],
        Metric.ENTRIES_RETRIED: counts["pending"],
        Metric.ENTRIES_RELEASED: counts["released"],
        Metric.CLAIMS_LOST: lost,
    }
    if took := [round((d.ended - d.began) * 1000, 1) for d in flush if d.began is not None]:
        metrics[Metric.DELIVERY_MILLISECONDS] = took
    log(Event.BLOCK_SETTLED, entries=len(flush), seconds=round(seconds, 3), **counts, **embedded(metrics))
