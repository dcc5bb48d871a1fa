"""Claiming: the next block is claimed shortly before the last one is used up, until there is a reason to stop."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rowqueue.errors import WarehouseError
from rowqueue.observability import Event, log, log_problem
from rowqueue.processor import memory
from rowqueue.processor.blocks import BlockLimits, LastBlock, next_block, unstarted_at_claim
from rowqueue.processor.queue import ClaimRequest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from rowqueue.processor.gate import Gate
    from rowqueue.processor.in_hand import InHand
    from rowqueue.processor.pace import SettlePace
    from rowqueue.processor.queue import Queue
    from rowqueue.settings import ProcessorSettings

NOTHING_READY = "nothing is ready"
BUDGET_SPENT = "the budget is spent"
STOP_REQUESTED = "stop requested"
PROBED = "the probe is done"
HOLD_STANDS = "a hold stands"
CREDENTIALS = "credentials stop"

LONGEST_LAG_S = 10.0
"""While outcomes have waited this long for their settle, nothing is claimed: a stop could not settle them in time."""
RETRY_PAUSE_S = 0.3
"""Mean wait before the next claim when a claim came back empty although entries are ready."""
_SHORTEST_CLAIM_S = 0.1
_POLL_S = 0.05
"""Seconds between checks for room for the next block. A signal from each delivery would cost more."""
_SUSPECTS = 100
"""Suspects that are claimed together. The largest block has a hundred times as many entries, so finding the one that
crashes workers takes no more than two rounds of a hundred claims."""


async def first_of(*awaitables: Awaitable[object], within_s: float | None = None) -> None:
    """Return when the first of them is done, or after ``within_s`` seconds. The others are cancelled."""
    tasks = {asyncio.ensure_future(awaitable) for awaitable in awaitables}
    try:
        await asyncio.wait(tasks, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Block:
    """What is remembered of a claim. Its entries are not: their data is freed as they are delivered.

    Attributes:
        entries: how many came.
        suspects: whether a worker has died on any of them.
        full: whether the claim was limited by entries or by characters, so that more may be ready.
    """

    entries: int
    suspects: bool
    full: bool


class Claiming:
    """Claims blocks.

    Args:
        queue: where they come from.
        settings: block sizes and times.
        in_hand: takes what is claimed.
        gate: knows how many deliveries may be in flight, and how long they take.
        lag_s: seconds for which the oldest outcome has waited for its settle.
        pace: how quickly outcomes are settled.
        stop: set when a stop is requested.
        doubted: set when the service seems to refuse our credentials.
        hold_seen: set when a hold was placed.
        clock: seconds, monotonic, of the event loop.
        rng: for jitter.
        new_token: makes a claim token that was never used before.
        longest_lag_s: see :data:`LONGEST_LAG_S`.
        retry_pause_s: see :data:`RETRY_PAUSE_S`.
    """

    def __init__(
        self,
        *,
        queue: Queue,
        settings: ProcessorSettings,
        in_hand: InHand,
        gate: Gate,
        lag_s: Callable[[], float],
        pace: Callable[[], SettlePace],
        stop: asyncio.Event,
        doubted: asyncio.Event,
        hold_seen: asyncio.Event,
        clock: Callable[[], float],
        rng: Callable[[], float],
        new_token: Callable[[], str],
        longest_lag_s: float = LONGEST_LAG_S,
        retry_pause_s: float = RETRY_PAUSE_S,
    ) -> None:
        self._queue = queue
        self._settings = settings
        self._in_hand = in_hand
        self._gate = gate
        self._lag_s = lag_s
        self._pace = pace
        self._stop = stop
        self._doubted = doubted
        self._hold_seen = hold_seen
        self._clock = clock
        self._rng = rng
        self._new_token = new_token
        self._longest_lag_s = longest_lag_s
        self._retry_pause_s = retry_pause_s
        self._memory = memory.for_entries(settings.task_memory_mib)
        self._block_size = settings.entries_per_container
        self._characters = settings.max_block_characters
        self._claim_s = _SHORTEST_CLAIM_S

    async def until(self, deadline: float) -> str:
        """Claim until the deadline, or until there is another reason to stop; returns the reason.

        Raises:
            WarehouseError: a claim failed.
        """
        first = True
        while not self._interrupted():
            if self._clock() >= deadline:
                return BUDGET_SPENT
            began = self._clock()
            block = await self._claim()
            if first:
                first = False
                await self._record_first_claim(block.entries)
            if self._settings.probe:
                return PROBED
            if block.suspects:
                # If this worker dies too, only these entries can be the cause.
                await self._until_nothing_in_hand(deadline - self._clock())
            elif not await self._prepare_next(block, began=began, deadline=deadline):
                return NOTHING_READY
        if self._stop.is_set():
            return STOP_REQUESTED
        return HOLD_STANDS if self._hold_seen.is_set() else CREDENTIALS

    async def _claim(self) -> _Block:
        token = self._new_token()
        began = self._clock()
        most = 1 if self._settings.probe else self._settings.max_block_entries
        free = memory.characters_to_claim(
            most=self._memory, taken=self._in_hand.bytes, longest=self._settings.max_data_characters
        )
        self._characters = min(self._settings.max_block_characters, free)
        request = ClaimRequest(
            token=token,
            entries=min(self._block_size, most),
            characters=self._characters,
            suspects=min(_SUSPECTS, most),
            nothing_in_hand=not self._in_hand.entries,
            probe=self._settings.probe,
            longest=self._settings.max_data_characters,
        )
        entries = await self._queue.claim(request)
        seconds = self._clock() - began
        self._claim_s = max(_SHORTEST_CLAIM_S, (self._claim_s + seconds) / 2)
        if entries:
            log(Event.BLOCK_CLAIMED, claim_token=token, entries=len(entries), seconds=round(seconds, 3))
        self._in_hand.take(entries, at=began)
        characters = sum(len(entry.data) for entry in entries)
        return _Block(
            entries=len(entries),
            suspects=any(entry.is_suspect for entry in entries),
            full=len(entries) >= self._block_size or characters >= self._characters,
        )

    async def _record_first_claim(self, entries: int) -> None:
        """Record it. Without the record the poller counts this task as starting, so a failure is only logged."""
        try:
            await self._queue.record_first_claim(entries=entries)
        except WarehouseError as error:
            log_problem(Event.PROCESSOR_NOT_RECORDED, error=str(error))

    async def _prepare_next(self, block: _Block, *, began: float, deadline: float) -> bool:
        """Wait until the next block should be claimed, and decide its size; returns whether to claim it."""
        short = not block.full
        await self._until_room(deadline)
        if short and block.entries:
            await self._let_entries_arrive(block.entries, began + self._settings.flush_s - self._clock())
        self._block_size = next_block(self._last(block, left_s=deadline - self._clock()), self._limits())
        return not short or self._interrupted() or await self._something_ready(deadline, pause=not block.entries)

    async def _until_room(self, deadline: float) -> None:
        """Wait until the next block would arrive just before this one is used up.

        An earlier claim would put this block ahead of urgent entries that arrive in the meantime.
        """
        while self._is_busy() and not self._interrupted() and self._clock() < deadline:
            await self._pause(_POLL_S)

    def _is_busy(self) -> bool:
        enough = unstarted_at_claim(room=self._gate.room, per_second=self._per_second(), claim_s=self._claim_s)
        return (
            self._in_hand.unstarted > min(enough, self._settings.max_block_entries // 2)
            or self._lag_s() > self._longest_lag_s
            or not memory.allows_claim(most=self._memory, taken=self._in_hand.bytes)
            or self._settleable(within_s=self._settings.settle_at_stop_s / 2) <= 0
        )

    async def _let_entries_arrive(self, came: int, within_s: float) -> None:
        """Wait a little when the queue is nearly empty: one claim for each entry that arrives would be expensive.

        After a block at least as large as the first one, the wait ends early when all deliveries have ended.
        """
        if within_s <= 0:
            return
        if came < self._settings.entries_per_container:
            await self._pause(within_s)
        else:
            await self._first_of(self._in_hand.all_finished(), within_s=within_s)

    async def _something_ready(self, deadline: float, *, pause: bool) -> bool:
        """Whether entries are ready. If there are only suspects, wait until this worker may claim them.

        A count takes no lock. A claim locks the table even when it finds nothing.

        Args:
            deadline: the wait ends then.
            pause: whether the last claim came back empty, so that another worker was quicker.
        """
        ready = await self._queue.count_ready()
        if ready.entries and not ready.for_worker(nothing_in_hand=not self._in_hand.entries):
            await self._until_nothing_in_hand(deadline - self._clock())
        elif ready.entries and pause:
            await self._pause(2 * self._retry_pause_s * self._rng())
        return ready.entries > 0

    async def _until_nothing_in_hand(self, within_s: float) -> None:
        await self._first_of(self._in_hand.nothing.wait(), within_s=within_s)

    async def _pause(self, seconds: float) -> None:
        await self._first_of(within_s=seconds)

    async def _first_of(self, *awaitables: Awaitable[object], within_s: float) -> None:
        """Wait for the first of them, for an interruption, or for ``within_s`` seconds."""
        await first_of(*awaitables, self._stop.wait(), self._doubted.wait(), self._hold_seen.wait(), within_s=within_s)

    def _interrupted(self) -> bool:
        return self._stop.is_set() or self._doubted.is_set() or self._hold_seen.is_set()

    def _last(self, block: _Block, *, left_s: float) -> LastBlock:
        return LastBlock(
            asked=self._block_size,
            came=block.entries,
            full=block.full,
            claim_s=self._claim_s,
            per_second=self._per_second(),
            concurrency=self._settings.concurrency,
            left_s=left_s,
            settleable=self._settleable(within_s=self._settings.settle_at_stop_s),
        )

    def _per_second(self) -> float | None:
        """How many entries can be delivered and settled in a second; ``None`` before the first answer."""
        delivered = self._gate.per_second
        return None if delivered is None else min(delivered, self._pace().per_second)

    def _settleable(self, *, within_s: float) -> float:
        return self._pace().settleable(
            within_s=within_s, in_hand=self._in_hand.entries, first_block=self._settings.entries_per_container
        )

    def _limits(self) -> BlockLimits:
        return BlockLimits(
            entries_per_container=self._settings.entries_per_container,
            largest=self._settings.max_block_entries,
            stale_s=self._settings.stale_threshold_s,
        )
