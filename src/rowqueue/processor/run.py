"""The processor's life: claim a block, stream it through a fixed number of deliveries, settle in the background.

Three loops share one queue. *Claiming* puts a block into it when it is nearly empty, until nothing is ready, the
budget is spent or a stop is asked for. *Delivering* takes entries out, a fixed number at a time. *Settling* writes
finished outcomes back, a batch at a time. This module says when; what is said to Snowflake is the store's, what is
said to the partner the service's, and what becomes of an entry :mod:`rowqueue.lifecycle`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from rowqueue.errors import WarehouseError
from rowqueue.lifecycle import Interrupted, settlement_for
from rowqueue.observability import Event, log, log_problem
from rowqueue.processor.batch import Finished, attempts_of, flushes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from concurrent.futures import Executor

    from rowqueue.lifecycle import Entry, Outcome, RetryPolicy
    from rowqueue.settings import ProcessorSettings
    from rowqueue.store import QueueStore

T = TypeVar("T")

_NOTHING_READY = "nothing is ready"
_BUDGET_SPENT = "the budget is spent"
_STOP_REQUESTED = "stop requested"

_CLAIM_PAUSE_S = 0.3
"""Mean wait before a claim that came back empty, though entries are ready, is tried again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a processor did.

    Attributes:
        reason: why it claimed no more: ``nothing is ready``, ``the budget is spent`` or ``stop requested``.
        settled: how many entries went where.
        seconds: from the first claim to the last settle.
    """

    reason: str
    settled: Counter[str]
    seconds: float


@dataclass(slots=True)
class Processor:
    """One run, from the first claim to the last settle.

    Attributes:
        queue: the store.
        deliver: delivers one entry; raises nothing but cancellation.
        policy: how often and how soon to retry.
        settings: block size, concurrency, times.
        processor_id: under which entries are claimed.
        thread: one thread, in which the queue is used: the driver blocks, and its session is best used by one.
        stop: set it to have no more claimed, what is in flight finished within the grace, and the rest released.
        clock: seconds, monotonic.
        rng: for jitter.
        new_token: a claim token never used before.
    """

    queue: QueueStore
    deliver: Callable[[Entry], Awaitable[Outcome]]
    policy: RetryPolicy
    settings: ProcessorSettings
    processor_id: str
    stop: asyncio.Event
    thread: Executor
    clock: Callable[[], float] = time.monotonic
    rng: Callable[[], float] = random.random
    new_token: Callable[[], str] = lambda: uuid.uuid4().hex
    _waiting: asyncio.Queue[Entry] = field(default_factory=asyncio.Queue)
    _finished: list[Finished] = field(default_factory=list)
    _wake_claiming: asyncio.Event = field(default_factory=asyncio.Event)
    _wake_settling: asyncio.Event = field(default_factory=asyncio.Event)
    _no_more: bool = False
    _settled: Counter[str] = field(default_factory=Counter)

    async def run(self) -> Report:
        """Claim, deliver and settle until there is a reason to stop.

        Raises:
            WarehouseError: Snowflake could not be used; what is held is taken back when its claim is stale.
        """
        started = self.clock()
        try:
            reason = await self._run_loops(deadline=started + self.settings.budget_s)
            seconds = self.clock() - started
            await self._record_end(seconds, reason)
        except BaseExceptionGroup as group:
            raise _first_of_group(group) from group
        return Report(reason=reason, settled=self._settled, seconds=seconds)

    async def _run_loops(self, *, deadline: float) -> str:
        """The three loops; returns why they ended. What was delivered is settled also when claiming fails."""
        failure: WarehouseError | None = None
        async with asyncio.TaskGroup() as group:
            deliveries = [group.create_task(self._deliver_forever()) for _ in range(self.settings.concurrency)]
            group.create_task(self._settle_until_done())
            try:
                reason = await self._claim_until(deadline)
            except WarehouseError as error:
                failure, reason = error, "claiming failed"
            reason = await self._drain(reason)
            for delivery in deliveries:
                delivery.cancel()
            await asyncio.wait(deliveries)
            self._no_more = True
            self._wake_settling.set()
        if failure is not None:
            raise failure
        return reason

    async def _record_end(self, seconds: float, reason: str) -> None:
        entries = self._settled.total()
        await self._off_loop(
            lambda: self.queue.record_end(
                processor_id=self.processor_id, entries=entries, seconds=round(seconds, 3), reason=reason
            )
        )

    # Claiming

    async def _claim_until(self, deadline: float) -> str:
        first = True
        while not self.stop.is_set():
            if self.clock() >= deadline:
                return _BUDGET_SPENT
            entries = await self._claim()
            if first:
                first = False
                await self._record_first_claim(len(entries))
            if entries:
                await self._wait_for_room(deadline)
                if self._is_short(entries):
                    # The queue is nearly empty: a claim for each entry that trickles in would cost two statements each.
                    await self._pause(self.settings.flush_s)
            elif not await self._off_loop(self.queue.count_ready):
                return _NOTHING_READY
            else:  # another worker was quicker, or waits for the same lock
                await self._pause(2 * _CLAIM_PAUSE_S * self.rng())
        return _STOP_REQUESTED

    async def _record_first_claim(self, entries: int) -> None:
        await self._off_loop(lambda: self.queue.record_first_claim(processor_id=self.processor_id, entries=entries))

    async def _claim(self) -> list[Entry]:
        token = self.new_token()
        began = self.clock()
        entries = await self._off_loop(
            lambda: self.queue.claim(
                processor_id=self.processor_id,
                claim_token=token,
                entries=self.settings.max_entries,
                characters=self.settings.max_block_characters,
            )
        )
        if entries:
            log(Event.BLOCK_CLAIMED, claim_token=token, entries=len(entries), seconds=round(self.clock() - began, 3))
        for entry in entries:
            self._waiting.put_nowait(entry)
        return entries

    async def _wait_for_room(self, deadline: float) -> None:
        """Until fewer entries wait than are delivered at once: the next block is there before this one is drained."""
        while self._waiting.qsize() >= self.settings.concurrency and not self.stop.is_set() and self.clock() < deadline:
            self._wake_claiming.clear()
            await self._first_of(self._wake_claiming.wait(), self.stop.wait(), timeout=deadline - self.clock())

    def _is_short(self, block: list[Entry]) -> bool:
        """Whether a claim was bounded neither by entries nor by characters."""
        characters = sum(len(entry.data) for entry in block)
        return len(block) < self.settings.max_entries and characters < self.settings.max_block_characters

    async def _pause(self, seconds: float) -> None:
        await self._first_of(self.stop.wait(), timeout=seconds)

    # Delivering

    async def _deliver_forever(self) -> None:
        while True:
            entry = await self._waiting.get()
            self._wake_claiming.set()
            began = self.clock()
            try:
                outcome = await self.deliver(entry)
            except asyncio.CancelledError:
                self._finish(entry, Interrupted(reason="cut short by a stop"), began=began)
                raise
            else:
                self._finish(entry, outcome, began=began)
            finally:
                self._waiting.task_done()

    def _finish(self, entry: Entry, outcome: Outcome, *, began: float | None) -> None:
        self._finished.append(Finished(entry=entry, outcome=outcome, began=began, ended=self.clock()))
        self._wake_settling.set()

    async def _drain(self, reason: str) -> str:
        """Let what was claimed finish; when there is a reason to hurry, release what has not started."""
        if reason != _NOTHING_READY:
            self._release_unstarted()
        delivered = asyncio.ensure_future(self._waiting.join())
        await self._first_of(asyncio.shield(delivered), self.stop.wait())
        if not delivered.done():  # a stop: from now on the grace counts
            reason = _STOP_REQUESTED
            self._release_unstarted()
            await asyncio.wait({delivered}, timeout=self.settings.stop_grace_s)
            delivered.cancel()
        return reason

    def _release_unstarted(self) -> None:
        while not self._waiting.empty():
            self._finish(self._waiting.get_nowait(), Interrupted(reason="never started"), began=None)
            self._waiting.task_done()

    # Settling

    async def _settle_until_done(self) -> None:
        while not (self._no_more and not self._finished):
            await self._wake_settling.wait()
            if len(self._finished) < self.settings.max_entries and not self._no_more:
                # Let a batch gather, but let nobody wait for long to see an outcome.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self.settings.flush_s):
                        await self._batch_gathered()
            self._wake_settling.clear()
            batch, self._finished = self._finished, []
            for flush in flushes(batch):
                await self._settle(flush)

    async def _batch_gathered(self) -> None:
        while len(self._finished) < self.settings.max_entries and not self._no_more:
            self._wake_settling.clear()
            await self._wake_settling.wait()

    async def _settle(self, flush: Sequence[Finished]) -> None:
        began = self.clock()
        settlements = [settlement_for(f.entry, f.outcome, self.policy, random=self.rng) for f in flush]
        attempts = attempts_of(flush, now=began)
        lost = await self._off_loop(lambda: self.queue.settle(settlements, attempts, processor_id=self.processor_id))
        counts = Counter("released" if s.released else s.status.value for s in settlements if s.entry_id not in lost)
        self._settled.update(counts)
        if lost:
            log_problem(Event.CLAIM_LOST, entries=sorted(lost)[:20], count=len(lost))
        log(Event.BLOCK_SETTLED, entries=len(flush), seconds=round(self.clock() - began, 3), **counts)

    # Waiting

    async def _off_loop(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self.thread, call)

    @staticmethod
    async def _first_of(*waits: Awaitable[object], timeout: float | None = None) -> None:  # noqa: ASYNC109 -- returns, does not raise
        tasks = {asyncio.ensure_future(wait) for wait in waits}
        try:
            await asyncio.wait(tasks, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()


def _first_of_group(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """A task group wraps what one of its tasks raised; one reason is enough."""
    first = group.exceptions[0]
    return _first_of_group(first) if isinstance(first, BaseExceptionGroup) else first
