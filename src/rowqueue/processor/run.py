"""The processor's life: claim a block, stream it through a fixed number of deliveries, settle in the background.

*Claiming* puts a block into a queue when it is nearly empty, until nothing is ready, the budget is spent or a stop is
asked for. *Delivering* takes entries out, as many at a time as the gate lets in. *Settling* writes outcomes back. This
module says when; what is said to Snowflake is the store's, what is said to the partner the service's, and what becomes
of an entry :mod:`rowqueue.lifecycle`'s.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from rowqueue.errors import CredentialsStop, WarehouseError
from rowqueue.lifecycle import Interrupted, Transient
from rowqueue.observability import Event, Metric, embedded, log, log_problem
from rowqueue.processor.batch import Finished
from rowqueue.processor.gate import Gate
from rowqueue.processor.pace import Pace
from rowqueue.processor.settling import Settling
from rowqueue.processor.trust import Trust

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Awaitable, Callable
    from concurrent.futures import Executor

    from rowqueue.lifecycle import CredentialsFault, Entry, Outcome, RetryPolicy, Verdict
    from rowqueue.settings import ProcessorSettings
    from rowqueue.store import QueueStore

T = TypeVar("T")

NOTHING_READY = "nothing is ready"
BUDGET_SPENT = "the budget is spent"
STOP_REQUESTED = "stop requested"
PROBED = "the probe is done"
CREDENTIALS = "credentials stop"
CLAIMING_FAILED = "claiming failed"

_CLAIM_PAUSE_S = 0.3
"""Mean wait before a claim that came back empty, though entries are ready, is tried again."""
_TOO_MANY_REQUESTS = 429


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a processor did.

    Attributes:
        reason: why it claimed no more.
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
        stop: set it to have no more claimed, what is in flight finished within the grace, and the rest released.
        thread: one thread, in which the queue is used: the driver blocks, and its session is best used by one.
        clock: seconds, monotonic.
        rng: for jitter.
        new_token: a claim token never used before.
    """

    queue: QueueStore
    deliver: Callable[[Entry], Awaitable[Verdict]]
    policy: RetryPolicy
    settings: ProcessorSettings
    processor_id: str
    stop: asyncio.Event
    thread: Executor
    clock: Callable[[], float] = time.monotonic
    rng: Callable[[], float] = random.random
    new_token: Callable[[], str] = lambda: uuid.uuid4().hex
    _waiting: asyncio.Queue[Entry] = field(default_factory=asyncio.Queue)
    _wake_claiming: asyncio.Event = field(default_factory=asyncio.Event)
    _doubted: asyncio.Event = field(default_factory=asyncio.Event)
    _hurry: bool = False
    _gate: Gate = field(init=False)
    _trust: Trust = field(init=False)
    _pace: Pace = field(init=False)
    _settling: Settling = field(init=False)

    def __post_init__(self) -> None:
        self._gate = Gate(most=self.settings.concurrency, clock=self.clock)
        self._trust = Trust(probe=self.settings.probe)
        self._pace = Pace(clock=self.clock)
        self._settling = Settling(
            queue=self.queue,
            thread=self.thread,
            policy=self.policy,
            settings=self.settings,
            processor_id=self.processor_id,
            clock=self.clock,
            rng=self.rng,
        )

    async def run(self) -> Report:
        """Claim, deliver and settle until there is a reason to stop.

        Raises:
            WarehouseError: Snowflake could not be used; what is held is taken back when its claim is stale.
            CredentialsStop: the service would not have us, or we it; everything was released, and a hold placed.
        """
        started = self.clock()
        try:
            reason = await self._run_loops(deadline=started + self.settings.budget_s)
            seconds = self.clock() - started
            await self._end(reason, seconds)
        except BaseExceptionGroup as group:
            raise _first_of_group(group) from group
        return Report(reason=reason, settled=self._settling.settled, seconds=seconds)

    async def _run_loops(self, *, deadline: float) -> str:
        """The loops; returns why they ended. What was delivered is settled also when claiming fails."""
        failure: WarehouseError | None = None
        async with asyncio.TaskGroup() as group:
            deliveries = [group.create_task(self._deliver_forever()) for _ in range(self.settings.concurrency)]
            group.create_task(self._settling.run())
            try:
                reason = await self._claim_until(deadline)
            except WarehouseError as error:
                failure, reason = error, CLAIMING_FAILED
            reason = await self._drain(reason, deadline)
            for delivery in deliveries:
                delivery.cancel()
            await asyncio.wait(deliveries)
            if self._trust.suspects:
                reason = CREDENTIALS
                self._settle_suspects()
            self._settling.close()
        if failure is not None:
            raise failure
        return reason

    async def _end(self, reason: str, seconds: float) -> None:
        """Say in the table why this processor ended, and for the others what that means."""
        fault = self._trust.suspects[0].fault if reason == CREDENTIALS else None
        if fault is not None:
            await self._place_hold(fault)
        elif self.settings.probe and self._trust.answered:
            await self._off_loop(self.queue.lift_ended_holds)
            log(Event.HOLDS_LIFTED)
        entries = self._settling.settled.total()
        await self._off_loop(
            lambda: self.queue.record_end(
                processor_id=self.processor_id, entries=entries, seconds=round(seconds, 3), reason=reason
            )
        )
        if fault is not None:
            raise CredentialsStop(fault.reason)

    async def _place_hold(self, fault: CredentialsFault) -> None:
        log_problem(Event.CREDENTIALS_STOP, error=fault.reason, **embedded({Metric.CREDENTIALS_STOPS: 1}))
        await self._off_loop(
            lambda: self.queue.place_hold(
                reason=fault.reason, seconds=self.settings.hold_s, created_by=self.processor_id
            )
        )

    # Claiming

    async def _claim_until(self, deadline: float) -> str:
        first = True
        while not (self.stop.is_set() or self._doubted.is_set()):
            if self.clock() >= deadline:
                return BUDGET_SPENT
            entries = await self._claim()
            if first:
                first = False
                await self._record_first_claim(len(entries))
            if self.settings.probe:
                return PROBED
            if entries:
                await self._wait_for_room(deadline)
                if self._is_short(entries):
                    # The queue is nearly empty: a claim for each entry that trickles in would cost two statements each.
                    await self._pause(self.settings.flush_s)
            elif not await self._off_loop(self.queue.count_ready):
                return NOTHING_READY
            else:  # another worker was quicker, or waits for the same lock
                await self._pause(2 * _CLAIM_PAUSE_S * self.rng())
        return STOP_REQUESTED if self.stop.is_set() else CREDENTIALS

    async def _record_first_claim(self, entries: int) -> None:
        await self._off_loop(lambda: self.queue.record_first_claim(processor_id=self.processor_id, entries=entries))

    async def _claim(self) -> list[Entry]:
        token = self.new_token()
        began = self.clock()
        entries = await self._off_loop(
            lambda: self.queue.claim(
                processor_id=self.processor_id,
                claim_token=token,
                entries=1 if self.settings.probe else self.settings.max_entries,
                characters=self.settings.max_block_characters,
                probe=self.settings.probe,
            )
        )
        seconds = self.clock() - began
        self._pace.claimed(seconds)
        if entries:
            log(Event.BLOCK_CLAIMED, claim_token=token, entries=len(entries), seconds=round(seconds, 3))
        for entry in entries:
            self._waiting.put_nowait(entry)
        return entries

    async def _wait_for_room(self, deadline: float) -> None:
        """Until so little waits that the next block will be there just before it is drained, and not much sooner.

        Sooner would let urgent entries, which a later claim would take first, wait behind this block.
        """
        while self._waiting.qsize() > self._pace.ahead() and not self._hurried() and self.clock() < deadline:
            self._wake_claiming.clear()
            await self._first_of(
                self._wake_claiming.wait(),
                self.stop.wait(),
                self._doubted.wait(),
                timeout=deadline - self.clock(),
            )

    def _hurried(self) -> bool:
        return self.stop.is_set() or self._doubted.is_set()

    def _is_short(self, block: list[Entry]) -> bool:
        """Whether a claim was bounded neither by entries nor by characters."""
        characters = sum(len(entry.data) for entry in block)
        return len(block) < self.settings.max_entries and characters < self.settings.max_block_characters

    async def _pause(self, seconds: float) -> None:
        await self._first_of(self.stop.wait(), self._doubted.wait(), timeout=seconds)

    # Delivering

    async def _deliver_forever(self) -> None:
        while True:
            entry = await self._waiting.get()
            self._wake_claiming.set()
            try:
                await self._deliver(entry)
            finally:
                self._waiting.task_done()

    async def _deliver(self, entry: Entry) -> None:
        began: float | None = None
        try:
            await self._gate.enter()
            try:
                if not self._hurry:
                    began = self.clock()
                    self._pace.began()
                    verdict = await self.deliver(entry)
            finally:
                self._gate.leave()
        except asyncio.CancelledError:
            self._finish(entry, Interrupted(reason="cut short by a stop"), began=began)
            raise
        if began is None:
            self._finish(entry, Interrupted(reason="never started"), began=None)
        else:
            self._heed(entry, verdict, began)

    def _heed(self, entry: Entry, verdict: Verdict, began: float) -> None:
        """Settle the entry, unless the verdict throws doubt on us all."""
        self._pace.delivered()
        if isinstance(verdict, Transient) and verdict.response_status == _TOO_MANY_REQUESTS:
            self._gate.slow_down(verdict.retry_after_s)
        outcome = self._trust.weigh(entry, verdict, began=began)
        if outcome is not None:
            self._finish(entry, outcome, began=began)
        if self._trust.suspects:
            self._resolve()

    def _resolve(self) -> None:
        """A doubt ends when a 2xx clears us, when it is certain, or when nothing in flight could still clear us."""
        if self._trust.cleared:
            self._settle_suspects()
            self._trust.suspects.clear()
            self._gate.open()
            return
        if self._trust.grave:
            self._gate.close()
        nobody_left = self._gate.in_flight == 0 and (self._trust.grave or self._waiting.empty())
        if self._trust.certain or nobody_left:
            self._doubted.set()

    def _settle_suspects(self) -> None:
        for suspect in self._trust.suspects:
            self._finish(suspect.entry, self._trust.outcome(suspect), began=suspect.began)

    def _finish(self, entry: Entry, outcome: Outcome, *, began: float | None) -> None:
        self._settling.add(Finished(entry=entry, outcome=outcome, began=began, ended=self.clock()))

    # Ending

    async def _drain(self, reason: str, deadline: float) -> str:
        """Let what was claimed finish; when there is a reason to hurry, release what has not started."""
        delivered = asyncio.ensure_future(self._waiting.join())
        if reason in {NOTHING_READY, PROBED}:
            await self._first_of(
                asyncio.shield(delivered), self.stop.wait(), self._doubted.wait(), timeout=deadline - self.clock()
            )
        if not delivered.done():
            self._release_unstarted()
            await self._first_of(asyncio.shield(delivered), self.stop.wait())
        if not delivered.done():  # a stop: from now on the grace counts
            await asyncio.wait({delivered}, timeout=self.settings.stop_grace_s)
            delivered.cancel()
        return STOP_REQUESTED if self.stop.is_set() else reason

    def _release_unstarted(self) -> None:
        """Entries in the queue, and those that wait at the gate."""
        self._hurry = True
        while not self._waiting.empty():
            self._finish(self._waiting.get_nowait(), Interrupted(reason="never started"), began=None)
            self._waiting.task_done()
        self._gate.open(at_once=True)

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
