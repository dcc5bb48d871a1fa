"""A processor's run: claiming, delivering and settling at the same time, from the first claim to the last settle.

*Claiming* takes blocks of entries in hand, *delivering* sends them to the service, *settling* writes the outcomes back.
*Looking* reads what people say meanwhile. This module starts the four, and brings them to an end in order.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rowqueue.errors import CredentialsStop, DeliveryFault, ServiceUnreachable, WarehouseError
from rowqueue.observability import Event, Metric, embedded, log, log_problem
from rowqueue.processor import memory
from rowqueue.processor.claiming import (
    CREDENTIALS,
    LONGEST_LAG_S,
    NOTHING_READY,
    PROBED,
    RETRY_PAUSE_S,
    STOP_REQUESTED,
    Claiming,
    first_of,
)
from rowqueue.processor.delivering import Delivering
from rowqueue.processor.gate import LONGEST_PAUSE_S, SHORTEST_PAUSE_S, Gate
from rowqueue.processor.in_hand import InHand
from rowqueue.processor.looking import LOOK_EVERY_S, Looking
from rowqueue.processor.settling import Settling
from rowqueue.processor.trust import Trust

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Awaitable, Callable

    from rowqueue.lifecycle import CredentialsFault, Entry, RetryPolicy, Verdict
    from rowqueue.processor.queue import Queue
    from rowqueue.settings import ProcessorSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """What a processor did.

    Attributes:
        reason: why it stopped claiming.
        settled: number of entries by result: completed, failed, pending (to be retried) or released.
        seconds: from the first claim to the last settle.
    """

    reason: str
    settled: Counter[str]
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Pauses:
    """Time constants of a run, seconds.

    Attributes:
        longest_lag_s: see :data:`~rowqueue.processor.claiming.LONGEST_LAG_S`.
        retry_s: see :data:`~rowqueue.processor.claiming.RETRY_PAUSE_S`.
        shortest_s: see :data:`~rowqueue.processor.gate.SHORTEST_PAUSE_S`.
        longest_s: see :data:`~rowqueue.processor.gate.LONGEST_PAUSE_S`.
        look_s: see :data:`~rowqueue.processor.looking.LOOK_EVERY_S`.
    """

    longest_lag_s: float = LONGEST_LAG_S
    retry_s: float = RETRY_PAUSE_S
    shortest_s: float = SHORTEST_PAUSE_S
    longest_s: float = LONGEST_PAUSE_S
    look_s: float = LOOK_EVERY_S


class Processor:
    """One run.

    Args:
        queue: where entries are claimed and settled.
        deliver: delivers one entry.
        policy: how often and how soon to retry.
        settings: block sizes, concurrency, times.
        stop: when it is set, nothing more is claimed, what is in flight may finish within the grace, and the rest is
            released.
        clock: seconds, monotonic, of the event loop.
        rng: for jitter.
        new_token: makes a claim token that was never used before.
        pauses: time constants.
    """

    def __init__(
        self,
        *,
        queue: Queue,
        deliver: Callable[[Entry], Awaitable[Verdict]],
        policy: RetryPolicy,
        settings: ProcessorSettings,
        stop: asyncio.Event,
        clock: Callable[[], float] = time.monotonic,
        rng: Callable[[], float] = random.random,
        new_token: Callable[[], str] = lambda: uuid.uuid4().hex,
        pauses: Pauses = Pauses(),
    ) -> None:
        self._queue = queue
        self._settings = settings
        self._stop = stop
        self._stopped_at: float | None = None
        self._clock = clock
        self._doubted = asyncio.Event()
        self._hold_seen = asyncio.Event()
        flushed = asyncio.Event()
        self._in_hand = InHand()
        self._trust = Trust()
        gate = Gate(
            most=settings.concurrency,
            clock=clock,
            shortest_pause_s=pauses.shortest_s,
            longest_pause_s=pauses.longest_s,
        )
        self._settling = Settling(
            queue=queue,
            policy=policy,
            in_hand=self._in_hand,
            flush_s=settings.flush_s,
            flush_entries=settings.flush_entries,
            flushed=flushed,
            stop_s=settings.settle_at_stop_s,
            most_answer_bytes=memory.for_entries(settings.task_memory_mib) / 2,
            clock=clock,
            rng=rng,
        )
        self._delivering = Delivering(
            deliver=deliver,
            in_hand=self._in_hand,
            gate=gate,
            trust=self._trust,
            settle=self._settling.add,
            room=self._settling.room,
            doubted=self._doubted,
            clock=clock,
        )
        self._looking = Looking(
            queue=queue,
            in_hand=self._in_hand,
            delivering=self._delivering,
            flushed=flushed,
            hold_seen=self._hold_seen,
            clock=clock,
            every_s=pauses.look_s,
        )
        self._claiming = Claiming(
            queue=queue,
            settings=settings,
            in_hand=self._in_hand,
            gate=gate,
            lag_s=self._settling.lag_s,
            pace=self._settling.pace,
            stop=stop,
            doubted=self._doubted,
            hold_seen=self._hold_seen,
            clock=clock,
            rng=rng,
            new_token=new_token,
            longest_lag_s=pauses.longest_lag_s,
            retry_pause_s=pauses.retry_s,
        )

    async def run(self) -> RunReport:
        """Claim, deliver and settle until there is a reason to stop.

        Raises:
            WarehouseError: Snowflake could not be used. The poller frees the entries in hand.
            CredentialsStop: mutual TLS or authorization failed; all entries were released, and a hold placed.
            ServiceUnreachable: no delivery got an answer; each was settled as a retry.
            DeliveryFault: a delivery met a fault of this program; it was settled as a retry.
        """
        began = self._clock()
        try:
            reason = await self._run_loops(deadline=began + self._settings.budget_s)
        except BaseExceptionGroup as group:
            raise _first_of_group(group) from group
        report = RunReport(reason=reason, settled=self._settling.settled, seconds=self._clock() - began)
        fault = self._trust.gravest() if reason == CREDENTIALS else None
        await self._record_end(report, fault)
        self._raise_what_went_wrong(fault)
        return report

    async def _run_loops(self, *, deadline: float) -> str:
        """Run the loops; returns why they ended. Deliveries that have ended are settled even if a claim fails."""
        failure: WarehouseError | None = None
        async with asyncio.TaskGroup() as group:
            watching = [group.create_task(self._note_stop()), group.create_task(self._looking.run())]
            deliveries = [group.create_task(self._delivering.run()) for _ in range(self._settings.concurrency)]
            group.create_task(self._settling.run())
            try:
                reason = await self._claiming.until(deadline)
            except WarehouseError as error:
                failure, reason = error, "claiming failed"
            await self._drain(reason, deadline)
            for task in (*watching, *deliveries):
                task.cancel()
            await asyncio.wait(deliveries)
            refused = self._delivering.conclude()
            self._settling.close()
        if failure is not None:
            raise failure
        if refused:
            return CREDENTIALS
        return STOP_REQUESTED if self._stop.is_set() else reason

    async def _note_stop(self) -> None:
        """Record the time of the stop. The grace counts from then, even if a claim has not returned yet."""
        await self._stop.wait()
        self._stopped_at = self._clock()

    async def _drain(self, reason: str, deadline: float) -> None:
        """Let deliveries finish. Unless there is time for all of them, release those that have not started."""
        finished = asyncio.ensure_future(self._in_hand.all_finished())
        if reason in {NOTHING_READY, PROBED}:
            await first_of(
                asyncio.shield(finished),
                self._stop.wait(),
                self._doubted.wait(),
                self._hold_seen.wait(),
                within_s=max(0.0, deadline - self._clock()),
            )
        if not finished.done():
            self._delivering.release_unstarted()
            await first_of(asyncio.shield(finished), self._stop.wait())
        if not finished.done():
            now = self._clock()
            since_stop = now - (now if self._stopped_at is None else self._stopped_at)
            await asyncio.wait({finished}, timeout=max(0.0, self._settings.stop_grace_s - since_stop))
            finished.cancel()

    async def _record_end(self, report: RunReport, fault: CredentialsFault | None) -> None:
        """Place a hold or lift ended ones, and record the end of the run."""
        if fault is not None:
            log_problem(Event.CREDENTIALS_STOP, error=fault.reason, **embedded({Metric.CREDENTIALS_STOPS: 1}))
            await self._try(self._queue.place_hold(reason=fault.reason, seconds=self._settings.hold_s))
        elif self._settings.probe and self._trust.answered and await self._try(self._queue.lift_ended_holds()):
            log(Event.HOLDS_LIFTED)
        entries, seconds = report.settled.total(), round(report.seconds, 3)
        await self._try(self._queue.record_end(entries=entries, seconds=seconds, reason=report.reason))

    async def _try(self, write: Awaitable[None]) -> bool:
        """Write. A failure is logged, and does not change how the run ends."""
        try:
            await write
        except WarehouseError as error:
            log_problem(Event.PROCESSOR_NOT_RECORDED, error=str(error))
            return False
        return True

    def _raise_what_went_wrong(self, fault: CredentialsFault | None) -> None:
        faults = self._delivering.faults
        if fault is not None:
            raise CredentialsStop(fault.reason)
        if faults:
            raise DeliveryFault(f"{faults} deliveries met a fault of this program; see delivery_fault in the log")
        if self._trust.unanswered and not self._trust.answered and not self._stop.is_set():
            raise ServiceUnreachable(f"no delivery got an answer; the last: {self._trust.unanswered}")


def _first_of_group(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error inside a task group's group of errors; one reason is enough."""
    first = group.exceptions[0]
    return _first_of_group(first) if isinstance(first, BaseExceptionGroup) else first
