"""The processor's life: claim a block, stream it through a fixed number of deliveries, settle in the background.

*Claiming* puts a block into a queue when it is nearly empty, until nothing is ready, the budget is spent or a stop is
asked for. *Delivering* takes entries out, as many at a time as the gate lets in. *Settling* writes outcomes back. This
module brings them together and to an end; what is said to Snowflake is the store's, what is said to the partner the
service's, and what becomes of an entry :mod:`rowqueue.lifecycle`'s.
"""

from __future__ import annotations

import asyncio
import gc
import random
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rowqueue.errors import CredentialsStop, DeliveryFault, ServiceUnreachable, WarehouseError
from rowqueue.lifecycle import Interrupted, Transient
from rowqueue.observability import Event, log_fault
from rowqueue.processor.batch import Finished
from rowqueue.processor.claiming import CREDENTIALS, NOTHING_READY, PROBED, STOP_REQUESTED, Claiming
from rowqueue.processor.ending import Ending
from rowqueue.processor.gate import Gate
from rowqueue.processor.holding import Held
from rowqueue.processor.pace import Pace
from rowqueue.processor.settling import Settling
from rowqueue.processor.trust import Trust
from rowqueue.processor.waiting import first_of

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Awaitable, Callable
    from concurrent.futures import Executor

    from rowqueue.lifecycle import Entry, Outcome, RetryPolicy, Verdict
    from rowqueue.settings import ProcessorSettings
    from rowqueue.store import QueueStore

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


@dataclass(slots=True, kw_only=True)
class Processor:
    """One run, from the first claim to the last settle.

    Attributes:
        queue: the store.
        deliver: delivers one entry.
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
    _doubted: asyncio.Event = field(default_factory=asyncio.Event)
    _stopped_at: float | None = None
    _hurry: bool = False
    _faults: int = 0
    _held: Held = field(default_factory=Held)
    _gate: Gate = field(init=False)
    _trust: Trust = field(init=False)
    _pace: Pace = field(init=False)
    _claiming: Claiming = field(init=False)
    _settling: Settling = field(init=False)

    def __post_init__(self) -> None:
        self._gate = Gate(most=self.settings.concurrency, clock=self.clock)
        self._trust = Trust(probe=self.settings.probe)
        self._pace = Pace(gate=self._gate)
        self._settling = Settling(
            queue=self.queue,
            thread=self.thread,
            policy=self.policy,
            settings=self.settings,
            processor_id=self.processor_id,
            held=self._held,
            clock=self.clock,
            rng=self.rng,
        )
        self._claiming = Claiming(
            queue=self.queue,
            thread=self.thread,
            settings=self.settings,
            processor_id=self.processor_id,
            waiting=self._waiting,
            held=self._held,
            pace=self._pace,
            lag_s=self._settling.lag_s,
            stop=self.stop,
            doubted=self._doubted,
            clock=self.clock,
            rng=self.rng,
            new_token=self.new_token,
        )

    async def run(self) -> Report:
        """Claim, deliver and settle until there is a reason to stop.

        Raises:
            WarehouseError: Snowflake could not be used; what is held is taken back when its claim is stale.
            CredentialsStop: the service would not have us, or we it; everything was released, and a hold placed.
            ServiceUnreachable: not one delivery got an answer; each was settled as a retry.
            DeliveryFault: a delivery met a fault of this program; it was settled as a retry.
        """
        gc.set_threshold(20_000, 20, 20)  # entries make no cycles: to look for some after each 700 objects takes 4 %
        gc.freeze()  # what is imported by now stays: looking it over again and again takes 5 % of the CPU
        started = self.clock()
        try:
            reason = await self._run_loops(deadline=started + self.settings.budget_s)
        except BaseExceptionGroup as group:
            raise _first_of_group(group) from group
        seconds = self.clock() - started
        await self._end(reason, seconds)
        return Report(reason=reason, settled=self._settling.settled, seconds=seconds)

    async def _run_loops(self, *, deadline: float) -> str:
        """The loops; returns why they ended. What was delivered is settled also when claiming fails."""
        failure: WarehouseError | None = None
        async with asyncio.TaskGroup() as group:
            noting = group.create_task(self._note_stop())
            deliveries = [group.create_task(self._deliver_forever()) for _ in range(self.settings.concurrency)]
            group.create_task(self._settling.run())
            try:
                reason = await self._claiming.until(deadline)
            except WarehouseError as error:
                failure, reason = error, "claiming failed"
            await self._drain(reason, deadline)
            for task in (noting, *deliveries):
                task.cancel()
            await asyncio.wait(deliveries)
            doubted = self._trust.certain or (bool(self._trust.suspects) and self._doubted.is_set())
            self._settle_suspects()
            self._settling.close()
        if failure is not None:
            raise failure
        if doubted:
            return CREDENTIALS
        return STOP_REQUESTED if self.stop.is_set() else reason

    async def _note_stop(self) -> None:
        """The grace counts from the signal, also when a claim is on its way that has to be waited for."""
        await self.stop.wait()
        self._stopped_at = self.clock()

    # Delivering

    async def _deliver_forever(self) -> None:
        while True:
            entry = await self._waiting.get()
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
                    verdict = await self._verdict(entry)
            finally:
                self._gate.leave()
        except asyncio.CancelledError:
            self._finish(entry, Interrupted(reason="cut short by a stop"), began=began)
            raise
        if began is None:
            self._finish(entry, Interrupted(reason="never started"), began=None)
        else:
            self._heed(entry, verdict, began)

    async def _verdict(self, entry: Entry) -> Verdict:
        """A fault of ours that one entry brings to light costs that entry an attempt, and its neighbours nothing."""
        try:
            return await self.deliver(entry)
        except Exception as error:  # noqa: BLE001 -- whatever it is
            self._faults += 1
            await asyncio.to_thread(log_fault, Event.DELIVERY_FAULT, error, entry_id=entry.id)
            return Transient(reason=f"a fault of this program: {type(error).__name__}")

    def _heed(self, entry: Entry, verdict: Verdict, began: float) -> None:
        """Settle the entry, unless the verdict throws doubt on us all."""
        if not isinstance(verdict, Interrupted) and verdict.response_status is not None:
            # What got no answer says nothing of how long the service takes.
            self._pace.delivered(self.clock() - began)
        if isinstance(verdict, Transient) and verdict.response_status == _TOO_MANY_REQUESTS:
            self._gate.slow_down(verdict.retry_after_s)
        outcome = self._trust.weigh(entry, verdict, began=began)
        if outcome is not None:
            self._finish(entry, outcome, began=began)
        if self._trust.suspects:
            self._resolve()

    def _resolve(self) -> None:
        """A doubt ends when a 2xx clears us, when it is certain, or when nobody is left who could clear us."""
        if self._trust.cleared:
            self._settle_suspects()
            self._doubted.clear()
            self._gate.open()
            return
        if self._trust.grave:
            self._gate.close()
        somebody_left = self._gate.in_flight or not (self._trust.grave or self._nobody_waits())
        if self._trust.certain or not somebody_left:
            self._gate.close()  # what is claimed from now on clears nobody any more
            self._doubted.set()

    def _nobody_waits(self) -> bool:
        return self._waiting.empty() and not self._gate.waiting

    def _settle_suspects(self) -> None:
        for suspect in self._trust.suspects:
            self._finish(suspect.entry, self._trust.outcome(suspect), began=suspect.began)
        self._trust.told, self._trust.suspects = self._trust.suspects, []

    def _finish(self, entry: Entry, outcome: Outcome, *, began: float | None) -> None:
        self._settling.add(Finished(entry=entry, outcome=outcome, began=began, ended=self.clock()))

    # Ending

    async def _drain(self, reason: str, deadline: float) -> None:
        """Let what was claimed finish; when there is a reason to hurry, release what has not started."""
        delivered = asyncio.ensure_future(self._waiting.join())
        if reason in {NOTHING_READY, PROBED}:
            await first_of(
                asyncio.shield(delivered),
                self.stop.wait(),
                self._doubted.wait(),
                within_s=max(0.0, deadline - self.clock()),
            )
        if not delivered.done():
            self._release_unstarted()
            await first_of(asyncio.shield(delivered), self.stop.wait())
        if not delivered.done():
            since_stop = self.clock() - (self._stopped_at if self._stopped_at is not None else self.clock())
            await asyncio.wait({delivered}, timeout=max(0.0, self.settings.stop_grace_s - since_stop))
            delivered.cancel()

    def _release_unstarted(self) -> None:
        """Entries in the queue, and those that wait at the gate."""
        self._hurry = True
        while not self._waiting.empty():
            self._finish(self._waiting.get_nowait(), Interrupted(reason="never started"), began=None)
            self._waiting.task_done()
        self._gate.dismiss()

    async def _end(self, reason: str, seconds: float) -> None:
        """Say in the tables why this processor has ended, and what that means for the others."""
        ending = Ending(queue=self.queue, thread=self.thread, processor_id=self.processor_id)
        fault = self._trust.gravest() if reason == CREDENTIALS else None
        if fault is not None:
            await ending.place_hold(fault, seconds=self.settings.hold_s)
        elif self.settings.probe and self._trust.answered:
            await ending.lift_ended_holds()
        await ending.record(entries=self._settling.settled.total(), seconds=seconds, reason=reason)
        if fault is not None:
            raise CredentialsStop(fault.reason)
        if self._faults:
            raise DeliveryFault(f"{self._faults} deliveries met a fault of this program; see delivery_fault in the log")
        if self._trust.unanswered and not self._trust.answered and not self.stop.is_set():
            raise ServiceUnreachable(f"not one delivery got an answer; the last: {self._trust.unanswered}")


def _first_of_group(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """A task group wraps what one of its tasks raised; one reason is enough."""
    first = group.exceptions[0]
    return _first_of_group(first) if isinstance(first, BaseExceptionGroup) else first
