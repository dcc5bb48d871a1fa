"""Outcomes written back in the background, a batch at a time: soon enough to be seen, rarely enough to be cheap."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rowqueue.lifecycle import settlement_for
from rowqueue.observability import Event, Metric, embedded, log, log_problem
from rowqueue.processor.batch import Finished, attempts_of, flushes
from rowqueue.processor.waiting import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Executor

    from rowqueue.lifecycle import RetryPolicy, Settlement
    from rowqueue.processor.holding import Held
    from rowqueue.settings import ProcessorSettings
    from rowqueue.store import QueueStore


@dataclass(slots=True)
class Settling:
    """Takes finished deliveries and settles them.

    Attributes:
        queue: the store.
        thread: in which the queue is used.
        policy: how often and how soon to retry.
        settings: how long and how many to gather.
        processor_id: in the audit trail.
        held: what is held; it shrinks with each batch that is settled.
        clock: seconds, monotonic.
        rng: for jitter.
        settled: how many entries went where.
    """

    queue: QueueStore
    thread: Executor
    policy: RetryPolicy
    settings: ProcessorSettings
    processor_id: str
    held: Held
    clock: Callable[[], float]
    rng: Callable[[], float]
    settled: Counter[str] = field(default_factory=Counter)
    _finished: list[Finished] = field(default_factory=list)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _closed: bool = False
    _settling: Finished | None = None

    def add(self, finished: Finished) -> None:
        """Have one outcome settled soon."""
        self._finished.append(finished)
        if len(self._finished) == 1 or self._is_enough():
            self._wake.set()

    def close(self) -> None:
        """There are no more; :meth:`run` ends when the last is settled."""
        self._closed = True
        self._wake.set()

    def lag_s(self) -> float:
        """Seconds for which the oldest outcome has waited."""
        oldest = self._settling or (self._finished[0] if self._finished else None)
        return self.clock() - oldest.ended if oldest else 0.0

    async def run(self) -> None:
        """Settle until closed and done.

        Raises:
            WarehouseError: outcomes could not be written.
        """
        while self._finished or not self._closed:
            await self._gather()
            if flush := next(flushes(self._finished), None):
                del self._finished[: len(flush)]
                self._settling = flush[0]
                await self._settle(flush)
                self._settling = None

    async def _gather(self) -> None:
        """Let a batch come together, but let nobody wait for long to see an outcome."""
        while not (self._finished or self._closed):
            await self._woken()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.settings.flush_s):
                while not (self._closed or self._is_enough() or self._is_alone()):
                    await self._woken()

    async def _woken(self) -> None:
        self._wake.clear()
        await self._wake.wait()

    def _is_enough(self) -> bool:
        return len(self._finished) >= self.settings.flush_entries

    def _is_alone(self) -> bool:
        """A single entry that nothing else is held beside is not kept waiting: it may be one of many to come alone."""
        return self.held.entries == 1 == len(self._finished)

    async def _settle(self, flush: Sequence[Finished]) -> None:
        began = self.clock()
        settlements = [settlement_for(f.entry, f.outcome, self.policy, random=self.rng) for f in flush]
        attempts = attempts_of(flush, now=began)
        lost = await in_thread(
            self.thread, lambda: self.queue.settle_or_bisect(settlements, attempts, processor_id=self.processor_id)
        )
        if lost:
            log_problem(Event.CLAIM_LOST, entries=sorted(lost)[:20], count=len(lost))
        counts = Counter(_where(s) for s in settlements if s.entry_id not in lost)
        self.settled.update(counts)
        self.held.drop(len(flush))
        self._tell(flush, counts, lost=len(lost), seconds=self.clock() - began)

    def _tell(self, flush: Sequence[Finished], counts: Counter[str], *, lost: int, seconds: float) -> None:
        metrics: dict[Metric, float | list[float]] = {
            Metric.ENTRIES_COMPLETED: counts["completed"],
            Metric.ENTRIES_FAILED: counts["failed"],
            Metric.ENTRIES_RETRIED: counts["pending"],
            Metric.ENTRIES_RELEASED: counts["released"],
            Metric.CLAIMS_LOST: lost,
        }
        if took := [round((f.ended - f.began) * 1000, 1) for f in flush if f.began is not None]:
            metrics[Metric.DELIVERY_MILLISECONDS] = took
        log(Event.BLOCK_SETTLED, entries=len(flush), seconds=round(seconds, 3), **counts, **embedded(metrics))


def _where(settlement: Settlement) -> str:
    return "released" if settlement.released else settlement.status.value
