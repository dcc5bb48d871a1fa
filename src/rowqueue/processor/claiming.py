"""Claiming: a block goes into the queue when it is nearly empty, until there is a reason to claim no more."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rowqueue.errors import WarehouseError
from rowqueue.observability import Event, log, log_problem
from rowqueue.processor.growth import Bounds, Seen, next_block
from rowqueue.processor.waiting import first_of, in_thread

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from concurrent.futures import Executor

    from rowqueue.lifecycle import Entry
    from rowqueue.processor.holding import Held
    from rowqueue.processor.pace import Pace
    from rowqueue.settings import ProcessorSettings
    from rowqueue.store import QueueStore

NOTHING_READY = "nothing is ready"
BUDGET_SPENT = "the budget is spent"
STOP_REQUESTED = "stop requested"
PROBED = "the probe is done"
CREDENTIALS = "credentials stop"

_LOOK_S = 0.05
"""How often it is looked whether there is room for the next block: less to get wrong than a wake-up for each entry."""
_MOST_LAG_S = 10.0
"""While outcomes have waited for so long to be settled, nothing is claimed: a stop could not settle them in time."""
_SUSPECTS = 100
"""Entries that a worker has died on are claimed so many at a time, and alone after the next death: the largest block is
a hundred times a hundred, so neither round takes longer than the other."""
_PAUSE_S = 0.3
"""Mean wait before a claim that came back empty, though entries are ready, is tried again."""


@dataclass(slots=True, kw_only=True)
class Claiming:
    """Claims blocks.

    Attributes:
        queue: the store.
        thread: in which the queue is used.
        settings: block size, budget.
        processor_id: under which entries are claimed.
        waiting: where claimed entries go.
        held: what is held; it grows with each claim.
        pace: how early the next block is claimed, and how large it is.
        lag_s: seconds for which the oldest outcome has waited to be settled.
        stop: set when a stop is asked for.
        doubted: set when the service seems to refuse us.
        clock: seconds, monotonic.
        rng: for jitter.
        new_token: a claim token never used before.
    """

    queue: QueueStore
    thread: Executor
    settings: ProcessorSettings
    processor_id: str
    waiting: asyncio.Queue[Entry]
    held: Held
    pace: Pace
    lag_s: Callable[[], float]
    stop: asyncio.Event
    doubted: asyncio.Event
    clock: Callable[[], float]
    rng: Callable[[], float]
    new_token: Callable[[], str]
    _block: int = field(init=False)

    def __post_init__(self) -> None:
        self._block = self.settings.max_entries

    async def until(self, deadline: float) -> str:
        """Claim until the deadline, or until there is another reason to stop; returns the reason.

        Raises:
            WarehouseError: a claim failed.
        """
        first = True
        while not self._hurried():
            if self.clock() >= deadline:
                return BUDGET_SPENT
            began = self.clock()
            entries = await self._claim()
            short = self._is_short(entries)
            if first:
                first = False
                await self._record_first_claim(len(entries))
            if self.settings.probe:
                return PROBED
            if any(entry.is_suspect for entry in entries):
                # A worker has died on one of them. If this one does too, no others are to blame.
                await self._wait_until_nothing_is_held(deadline - self.clock())
            else:
                await self._wait_for_room(deadline)
                if short and entries:
                    await self._let_some_come(len(entries), began + self.settings.flush_s - self.clock())
                self._grow(entries, left_s=deadline - self.clock())
                if short and not self._hurried() and not await self._something_ready(deadline, pause=not entries):
                    return NOTHING_READY
        return STOP_REQUESTED if self.stop.is_set() else CREDENTIALS

    async def _something_ready(self, deadline: float, *, pause: bool) -> bool:
        """Look, and if there is something wait until this worker may have it.

        A look takes no lock; a claim locks the table also when it finds nothing.

        Args:
            deadline: of the wait.
            pause: whether to wait a little in any case: another worker was quicker, or waits for the same lock.
        """
        ready = await in_thread(self.thread, self.queue.count_ready)
        if ready.entries and not ready.for_worker(holds_nothing=not self.held.entries):
            await self._wait_until_nothing_is_held(deadline - self.clock())
        elif ready.entries and pause:
            await self._pause(2 * _PAUSE_S * self.rng())
        return ready.entries > 0

    async def _record_first_claim(self, entries: int) -> None:
        """If it can not be recorded, the poller takes this task for one that is starting; no reason to give up."""
        try:
            await in_thread(
                self.thread, lambda: self.queue.record_first_claim(processor_id=self.processor_id, entries=entries)
            )
        except WarehouseError as error:
            log_problem(Event.PROCESSOR_NOT_RECORDED, error=str(error))

    async def _claim(self) -> list[Entry]:
        token = self.new_token()
        began = self.clock()
        most = 1 if self.settings.probe else self.settings.max_block_entries
        entries = await in_thread(
            self.thread,
            lambda: self.queue.claim(
                processor_id=self.processor_id,
                claim_token=token,
                entries=min(self._block, most),
                characters=self.settings.max_block_characters,
                suspects=min(_SUSPECTS, most),
                holds_nothing=not self.held.entries,
                probe=self.settings.probe,
            ),
        )
        seconds = self.clock() - began
        self.pace.claimed(seconds)
        if entries:
            log(Event.BLOCK_CLAIMED, claim_token=token, entries=len(entries), seconds=round(seconds, 3))
        self.held.take(len(entries))
        for entry in entries:
            self.waiting.put_nowait(entry)
        return entries

    async def _wait_for_room(self, deadline: float) -> None:
        """Until so little waits that the next block will be there just before it is drained, and not much sooner.

        Sooner would let urgent entries, which a later claim would take first, wait behind this block.
        """
        while self._is_busy() and not self._hurried() and (left_s := deadline - self.clock()) > 0:
            await self._pause(min(_LOOK_S, left_s))

    def _is_busy(self) -> bool:
        ahead = min(self.pace.ahead(), self.settings.max_block_entries // 2)
        return self.waiting.qsize() > ahead or self.lag_s() > _MOST_LAG_S

    async def _let_some_come(self, came: int, within_s: float) -> None:
        """The queue is nearly empty: a claim for each entry that trickles in would cost two statements each.

        After a block of some size the next claim is made as soon as there is nothing else to do.
        """
        if within_s > 0 and came < self.settings.max_entries:
            await self._pause(within_s)
        elif within_s > 0:
            await first_of(self.waiting.join(), self.stop.wait(), self.doubted.wait(), within_s=within_s)

    async def _wait_until_nothing_is_held(self, within_s: float) -> None:
        await first_of(self.held.nothing.wait(), self.stop.wait(), self.doubted.wait(), within_s=within_s)

    def _hurried(self) -> bool:
        return self.stop.is_set() or self.doubted.is_set()

    def _is_short(self, block: list[Entry]) -> bool:
        """Whether a claim was bounded neither by entries nor by characters."""
        characters = sum(len(entry.data) for entry in block)
        return len(block) < self._block and characters < self.settings.max_block_characters

    def _grow(self, block: list[Entry], *, left_s: float) -> None:
        seen = Seen(
            asked=self._block,
            came=len(block),
            full=not self._is_short(block),
            claim_s=self.pace.claim_s,
            per_second=self.pace.per_second(),
            at_once=self.settings.concurrency,
            left_s=left_s,
        )
        bounds = Bounds(
            first=self.settings.max_entries,
            most=self.settings.max_block_entries,
            stale_s=60 * self.settings.stale_threshold_minutes,
        )
        self._block = next_block(seen, bounds)

    async def _pause(self, seconds: float) -> None:
        await first_of(self.stop.wait(), self.doubted.wait(), within_s=seconds)
