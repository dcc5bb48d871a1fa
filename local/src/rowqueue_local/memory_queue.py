"""The queue in memory: a :class:`~rowqueue.processor.queue.Queue` for tests, without Snowflake and without threads.

It follows the rules of ``queries.sql``. Both implementations pass ``tests/queue_contract.py``, which
``tests/contract/test_queue.py`` runs on Snowflake and ``tests/unit/test_memory_queue.py`` in memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

from rowqueue.contract import DEFAULT_DESTINATION, SCHEMA_VERSION, AttemptOutcome, HoldKind, ProcessorEvent
from rowqueue.lifecycle import MAX_ERROR_MESSAGE_CHARACTERS, Entry, Settlement, Status, storable
from rowqueue.processor.queue import LookAnswer, Ready, key_of
from rowqueue.sql import ClaimedKey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from rowqueue.processor.queue import ClaimRequest, Queue
    from rowqueue.sql import Attempt


@dataclass(slots=True, kw_only=True)
class QueueRow:
    """A row of PROCESSING_QUEUE, with the table's columns and defaults. Times are seconds on the tables' clock."""

    id: int
    data: str
    idempotency_key: str
    created_at: float
    available_at: float
    updated_at: float
    destination: str = DEFAULT_DESTINATION
    traceparent: str | None = None
    status: str = Status.PENDING
    priority: int = 0
    retry_count: int = 0
    max_retries: int | None = None
    crash_count: int = 0
    doubts: int = 0
    requeued: int = 0
    earlier_attempts: int = 0
    cancel_requested: bool = False
    claim_token: str | None = None
    processor_id: str | None = None
    claimed_at: float | None = None
    tried_at: float | None = None
    completed_at: float | None = None
    failed_at: float | None = None
    cancelled_at: float | None = None
    cancelled_by: str | None = None
    cancel_reason: str | None = None
    response_status: int | None = None
    result: str | None = None
    error_message: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRow:
    """A row of PROCESSING_ATTEMPTS.

    Attributes:
        by_poller: whether the poller noted how a claim ended. That says nothing about what becomes of the entry.
    """

    processor_id: str
    made: Attempt
    recorded_at: float
    by_poller: bool = False


@dataclass(slots=True, kw_only=True)
class HoldRow:
    """A row of PROCESSING_HOLDS. ``until_at`` is ``None`` if a person has to end the hold."""

    reason: str
    scope: str = "*"
    kind: str = HoldKind.PERSON
    until_at: float | None = None
    created_by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessorRow:
    """A row of PROCESSORS."""

    processor_id: str
    event: ProcessorEvent
    entries: int
    seconds: float | None = None
    reason: str | None = None


@dataclass(slots=True, kw_only=True)
class MemoryTables:
    """What several :class:`MemoryQueue` share.

    Attributes:
        clock: seconds.
        queue: PROCESSING_QUEUE.
        attempts: PROCESSING_ATTEMPTS.
        holds: PROCESSING_HOLDS.
        processors: PROCESSORS.
        oldest_program: of SCHEMA_VERSION.
    """

    clock: Callable[[], float]
    queue: list[QueueRow] = field(default_factory=list)
    attempts: list[AttemptRow] = field(default_factory=list)
    holds: list[HoldRow] = field(default_factory=list)
    processors: list[ProcessorRow] = field(default_factory=list)
    oldest_program: int = SCHEMA_VERSION
    _ids: count[int] = field(default_factory=lambda: count(1))

    def insert(self, data: str = "{}", **columns: object) -> QueueRow:
        """Insert one row. Columns that are not given have the table's defaults."""
        number, now = next(self._ids), self.clock()
        defaults = {"id": number, "idempotency_key": f"key-{number}"}
        times = dict.fromkeys(("created_at", "available_at", "updated_at"), now)
        row = QueueRow(data=data, **(defaults | times | columns))  # type: ignore[arg-type]  # a wrong column is a TypeError
        self.queue.append(row)
        return row


class MemoryQueue:
    """The queue of one processor.

    Args:
        tables: shared with other processors.
        processor_id: claims, attempts, holds and records carry it.
        max_retries: counted attempts, unless the entry has its own limit.
        destination: whose entries are claimed and counted.
    """

    def __init__(
        self,
        tables: MemoryTables,
        *,
        processor_id: str = "dev-1",
        max_retries: int = 3,
        destination: str = DEFAULT_DESTINATION,
    ) -> None:
        self.tables = tables
        self._destination = destination
        self._processor_id = processor_id
        self._max_retries = max_retries

    async def claim(self, request: ClaimRequest) -> list[Entry]:
        """See :meth:`rowqueue.processor.queue.Queue.claim`."""
        now = self.tables.clock()
        ready = self._ready(probe=request.probe, nothing_in_hand=request.nothing_in_hand)
        block = list(_bounded(_by_copy(ready).values(), request))
        for copies in block:
            _make_alike(copies)
        for row in (row for copies in block for row in copies):
            row.status, row.claim_token = Status.PROCESSING, request.token
            row.processor_id, row.claimed_at, row.tried_at = self._processor_id, now, now
            row.updated_at = now
        return [_entry(copies[0], request, now) for copies in block]

    async def count_ready(self) -> Ready:
        """See :meth:`rowqueue.processor.queue.Queue.count_ready`."""
        ready = self._ready(probe=False, nothing_in_hand=True)
        return Ready(entries=len(ready), suspects=sum(row.crash_count > 0 for row in ready))

    async def look(self, tokens: Sequence[str]) -> LookAnswer:
        """See :meth:`rowqueue.processor.queue.Queue.look`."""
        now = self.tables.clock()
        asked = [row for row in self.tables.queue if row.cancel_requested and row.status == Status.PROCESSING]
        cancelled = [key for key in _by_claim(asked) if key.claim_token in tokens]
        hold = any(hold.until_at is None or hold.until_at > now for hold in self._my_holds())
        return LookAnswer(hold=hold, cancelled=frozenset(cancelled))

    async def settle(self, settlements: Sequence[Settlement], attempts: Sequence[Attempt]) -> frozenset[int]:
        """See :meth:`rowqueue.processor.queue.Queue.settle`."""
        recorded = {row.made.key for row in self._mine()}
        now = self.tables.clock()
        self.tables.attempts += [
            AttemptRow(processor_id=self._processor_id, made=_storable(attempt), recorded_at=now)
            for attempt in attempts
            if attempt.key not in recorded
        ]
        on_record = self._on_record({attempt.key for attempt in attempts})
        rows = _by_claim(self.tables.queue)
        return frozenset(
            s.entry_id
            for s in settlements
            if not self._settle_one(rows.get(key_of(s), []), on_record.get(key_of(s), s), expected=s.status)
        )

    def _mine(self) -> list[AttemptRow]:
        """This worker's attempts. What the poller noted about its claims is not among them."""
        return [row for row in self.tables.attempts if row.processor_id == self._processor_id and not row.by_poller]

    def _on_record(self, keys: set[ClaimedKey]) -> dict[ClaimedKey, Settlement]:
        """What this worker's attempts say about these claims."""
        mine = [row for row in self._mine() if row.made.key in keys]
        now = self.tables.clock()
        return {key: settlement_on_record(row, now) for key, row in best_by_claim(mine).items()}

    async def place_hold(self, *, reason: str, seconds: float) -> None:
        """See :meth:`rowqueue.processor.queue.Queue.place_hold`."""
        now = self.tables.clock()
        if not any(hold.until_at is None or hold.until_at > now for hold in self._my_holds()):
            self.tables.holds.append(
                HoldRow(
                    reason=storable(reason[:MAX_ERROR_MESSAGE_CHARACTERS]) or "",
                    scope=self._destination,
                    kind=HoldKind.CREDENTIALS,
                    until_at=now + seconds,
                    created_by=self._processor_id,
                )
            )

    async def lift_ended_holds(self) -> None:
        """See :meth:`rowqueue.processor.queue.Queue.lift_ended_holds`."""
        now = self.tables.clock()
        ended = [hold for hold in self._my_holds() if hold.until_at is not None and hold.until_at <= now]
        for hold in ended:
            if hold.kind != HoldKind.FENCE:
                self.tables.holds.remove(hold)

    async def record_first_claim(self, *, entries: int) -> None:
        """See :meth:`rowqueue.processor.queue.Queue.record_first_claim`."""
        event = ProcessorEvent.FIRST_CLAIM
        self.tables.processors.append(ProcessorRow(processor_id=self._processor_id, event=event, entries=entries))

    async def record_end(self, *, entries: int, seconds: float, reason: str) -> None:
        """See :meth:`rowqueue.processor.queue.Queue.record_end`."""
        self.tables.processors.append(
            ProcessorRow(
                processor_id=self._processor_id,
                event=ProcessorEvent.ENDED,
                entries=entries,
                seconds=seconds,
                reason=reason,
            )
        )

    def _ready(self, *, probe: bool, nothing_in_hand: bool) -> list[QueueRow]:
        now = self.tables.clock()
        if any(not probe or hold.until_at is None or hold.until_at > now for hold in self._my_holds()):
            return []
        if self.tables.oldest_program > SCHEMA_VERSION:
            return []
        ready = [
            row
            for row in self.tables.queue
            if row.status == Status.PENDING
            and row.destination == self._destination
            and not row.cancel_requested
            and row.available_at <= now
            and row.retry_count < (self._max_retries if row.max_retries is None else row.max_retries)
            and (nothing_in_hand or not row.crash_count)
        ]
        return sorted(
            ready,
            key=lambda row: (
                -math.inf if row.tried_at is None or not probe else row.tried_at,
                -row.priority,
                row.available_at,
                row.id,
                row.idempotency_key,
            ),
        )

    def _my_holds(self) -> list[HoldRow]:
        """The holds that this worker obeys."""
        return [hold for hold in self.tables.holds if hold.scope in {"*", self._destination}]

    def _settle_one(self, rows: Sequence[QueueRow], settlement: Settlement, *, expected: Status) -> bool:
        """Settle the rows of a claim; returns whether that was done, now or by an earlier call."""
        in_hand = [row for row in rows if row.status == Status.PROCESSING]
        for row in in_hand:
            write(row, settlement, self.tables.clock())
        cancelled = {Status.CANCELLED} if expected is Status.PENDING else set()
        return bool(in_hand) or (bool(rows) and {row.status for row in rows} <= {expected, *cancelled})


def write(row: QueueRow, settlement: Settlement, now: float) -> None:
    """Settle a row: the rule of the statement ``settle``."""
    become(row, settlement.status, now)
    row.updated_at = now
    row.retry_count += settlement.counted
    row.doubts += settlement.doubted
    if settlement.released:
        row.processor_id, row.claimed_at = None, None
        return
    if settlement.status is Status.PENDING:
        row.available_at = now + settlement.delay_s
    row.response_status = settlement.response_status
    row.result, row.error_message = storable(settlement.result), storable(settlement.error_message)


def become(row: QueueRow, status: Status, now: float) -> None:
    """Give a row a status, with its time. What a person has cancelled becomes cancelled instead of pending.

    A cancel that came too late is removed from the row.
    """
    row.status = Status.CANCELLED if status is Status.PENDING and row.cancel_requested else status
    row.completed_at = now if row.status is Status.COMPLETED else None
    row.failed_at = now if row.status is Status.FAILED else None
    row.cancelled_at = now if row.status is Status.CANCELLED else None
    if row.status in {Status.COMPLETED, Status.FAILED}:
        row.cancel_requested, row.cancelled_by, row.cancel_reason = False, None, None


def best_by_claim(rows: Iterable[AttemptRow]) -> dict[ClaimedKey, AttemptRow]:
    """The attempt that counts for each claim: a success first, then the earliest."""
    ranked = sorted(rows, key=lambda row: (row.made.outcome != AttemptOutcome.SUCCEEDED, row.recorded_at))
    return {row.made.key: row for row in reversed(ranked)}


def _by_copy(rows: Iterable[QueueRow]) -> dict[tuple[int, str], list[QueueRow]]:
    """Rows by id and key, in their order. More than one have both only if somebody copied a row."""
    found: dict[tuple[int, str], list[QueueRow]] = {}
    for row in rows:
        found.setdefault((row.id, row.idempotency_key), []).append(row)
    return found


def _make_alike(copies: Sequence[QueueRow]) -> None:
    """Give copies the largest of their counts and the smallest of their limits."""
    limits = [row.max_retries for row in copies if row.max_retries is not None]
    retries = max(row.retry_count for row in copies)
    crashes = max(row.crash_count for row in copies)
    doubts = max(row.doubts for row in copies)
    earlier = max(row.earlier_attempts for row in copies)
    for row in copies:
        row.earlier_attempts = earlier
        row.retry_count, row.crash_count, row.doubts = retries, crashes, doubts
        row.max_retries = min(limits, default=None)


def _by_claim(rows: Iterable[QueueRow]) -> dict[ClaimedKey, list[QueueRow]]:
    found: dict[ClaimedKey, list[QueueRow]] = {}
    for row in rows:
        if row.claim_token is not None:
            found.setdefault(ClaimedKey(row.id, row.claim_token, row.idempotency_key), []).append(row)
    return found


def settlement_on_record(row: AttemptRow, now: float) -> Settlement:
    """What an attempt on record makes of its entry: the rule of the statement ``settle``."""
    made = row.made
    return Settlement(
        entry_id=made.entry_id,
        claim_token=made.claim_token,
        idempotency_key=made.idempotency_key,
        status=Status(made.status),
        counted=made.outcome in {AttemptOutcome.TRANSIENT, AttemptOutcome.PERMANENT},
        released=made.outcome in {AttemptOutcome.INTERRUPTED, AttemptOutcome.DOUBTFUL},
        doubted=made.outcome == AttemptOutcome.DOUBTFUL,
        delay_s=row.recorded_at + (made.delay_ms or 0) / 1000 - now,
        response_status=made.response_status,
        result=made.result,
        error_message=made.error_message,
    )


def _bounded(ready: Iterable[list[QueueRow]], request: ClaimRequest) -> Iterable[list[QueueRow]]:
    """The block that a claim takes, each row with its copies: the rule of QUALIFY in the statement ``claim``."""
    characters = suspects = alone = 0
    for number, copies in enumerate(ready, start=1):
        crashes = max(row.crash_count for row in copies)
        suspects += crashes > 0
        alone += crashes > 1
        most = 1
        if not suspects:
            most = request.entries
        elif suspects == number and not alone:
            most = request.suspects
        if number > most or characters >= request.characters:
            return
        yield copies
        characters += len(copies[0].data)


def _storable(attempt: Attempt) -> Attempt:
    return attempt._replace(error_message=storable(attempt.error_message), result=storable(attempt.result))


def _entry(row: QueueRow, request: ClaimRequest, now: float) -> Entry:
    return Entry(
        id=row.id,
        data=row.data if len(row.data) <= request.longest else "",
        idempotency_key=row.idempotency_key,
        claim_token=request.token,
        retry_count=row.retry_count,
        max_retries=row.max_retries,
        crash_count=row.crash_count,
        doubts=row.doubts,
        age_s=now - row.created_at,
        characters=len(row.data),
        earlier_attempts=row.earlier_attempts,
        traceparent=row.traceparent,
    )


if TYPE_CHECKING:
    # mypy compares the methods with the Protocol here, except for the names of positional parameters. The tests are not
    # typed, so nothing else does.
    _queue: type[Queue] = MemoryQueue
