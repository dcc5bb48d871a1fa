"""The poller's changes of the queue in memory, beside :class:`~rowqueue_local.memory_queue.MemoryQueue`.

It follows the rules of ``queries.sql``. ``tests/queue_histories.py`` plays the same histories on both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rowqueue.contract import DEFAULT_DESTINATION, AttemptOutcome
from rowqueue.lifecycle import MAX_ERROR_MESSAGE_CHARACTERS, Status
from rowqueue.sql import Attempt
from rowqueue_local.memory_queue import AttemptRow, become, best_by_claim, settlement_on_record, write

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from rowqueue.poller.records import Death
    from rowqueue_local.memory_queue import MemoryTables, QueueRow


class MemoryPoller:
    """The poller's statements that change rows; see :class:`~rowqueue.poller.queue.PollerQueue`.

    Args:
        tables: shared with the processors.
        max_retries: counted attempts, unless the entry has its own limit.
        destination: whose exhausted entries are failed.
    """

    def __init__(self, tables: MemoryTables, *, max_retries: int = 3, destination: str = DEFAULT_DESTINATION) -> None:
        self.tables = tables
        self._destination = destination
        self._max_retries = max_retries

    def fail_exhausted(self) -> int:
        """See :meth:`rowqueue.poller.queue.PollerQueue.fail_exhausted`."""
        exhausted = [
            row
            for row in self.tables.queue
            if row.status == Status.PENDING
            and row.destination == self._destination
            and not row.cancel_requested
            and not self._left(row)
        ]
        for row in exhausted:
            earlier = f"{row.error_message}; " if row.error_message else ""
            self._fail(row, f"{earlier}no attempts left; REQUEUE_ENTRIES gives new ones")
        return len(exhausted)

    def end_cancelled(self) -> int:
        """See :meth:`rowqueue.poller.queue.PollerQueue.end_cancelled`."""
        cancelled = [row for row in self.tables.queue if row.status == Status.PENDING and row.cancel_requested]
        for row in cancelled:
            become(row, Status.PENDING, self.tables.clock())
            row.updated_at = self.tables.clock()
        return len(cancelled)

    def record_deaths(self, deaths: Sequence[Death]) -> None:
        """See :meth:`rowqueue.poller.queue.PollerQueue.record_deaths`."""
        for row, death in self._of(deaths):
            outcome = AttemptOutcome.CRASHED if death.crashed else AttemptOutcome.INTERRUPTED
            self._record(row, outcome, death.reason)

    def fail_poison(self, deaths: Sequence[Death], *, max_crashes: int) -> int:
        """See :meth:`rowqueue.poller.queue.PollerQueue.fail_poison`."""
        poison = [
            (row, death)
            for row, death in self._of(deaths)
            if row.crash_count >= max_crashes and self._on_record(row) is None
        ]
        for row, death in poison:
            row.crash_count += 1
            self._fail(row, f"poison: {row.crash_count} workers have died on it; the last: {death.reason}")
        return len(poison)

    def release_dead(self, deaths: Sequence[Death]) -> int:
        """See :meth:`rowqueue.poller.queue.PollerQueue.release_dead`."""
        in_hand = self._of(deaths)
        for row, death in in_hand:
            if self._settle_on_record(row):
                continue
            row.crash_count += death.crashed
            if death.crashed or death.counted:
                row.error_message = death.reason
            self._take_away(row, counted=death.counted)
        return len(in_hand)

    def reset_stale(self, *, stale_threshold_s: float, claimed_since: datetime | None = None) -> int:  # noqa: ARG002
        """See :meth:`rowqueue.poller.queue.PollerQueue.reset_stale`."""
        before = self.tables.clock() - stale_threshold_s
        stale = [row for row in self.tables.queue if row.status == Status.PROCESSING and _since(row) < before]
        for row in stale:
            if self._settle_on_record(row):
                continue
            self._record(row, AttemptOutcome.RESET, "no answer within the stale threshold")
            worker = row.processor_id or "an unknown worker"
            self._take_away(row, counted=True)
            left = "" if row.status == Status.PENDING else ", and no attempts left"
            row.error_message = f"no answer from {worker} within the stale threshold{left}"
        return len(stale)

    def _of(self, deaths: Sequence[Death]) -> list[tuple[QueueRow, Death]]:
        """What the dead have in hand."""
        by_worker = {death.processor_id: death for death in deaths}
        return [
            (row, by_worker[row.processor_id])
            for row in self.tables.queue
            if row.status == Status.PROCESSING and row.processor_id in by_worker
        ]

    def _record(self, row: QueueRow, outcome: AttemptOutcome, reason: str) -> None:
        """Add an attempt, unless its worker has recorded it."""
        token = row.claim_token or "none"
        if any(recorded.made.key == (row.id, token, row.idempotency_key) for recorded in self.tables.attempts):
            return
        attempt = Attempt(
            claim_token=token,
            attempt=row.earlier_attempts + row.retry_count + 1,
            outcome=outcome,
            response_status=None,
            status="",
            delay_ms=None,
            error_message=reason,
            entry_id=row.id,
            started_ms_ago=round((self.tables.clock() - _since(row)) * 1000),
            finished_ms_ago=0,
            idempotency_key=row.idempotency_key,
            trace_id=None,
            result=None,
        )
        worker, now = row.processor_id or "unknown", self.tables.clock()
        self.tables.attempts.append(AttemptRow(processor_id=worker, made=attempt, recorded_at=now, by_poller=True))

    def _on_record(self, row: QueueRow) -> AttemptRow | None:
        """What its worker recorded about a claimed row."""
        key = (row.id, row.claim_token, row.idempotency_key)
        mine = [recorded for recorded in self.tables.attempts if recorded.made.key == key and not recorded.by_poller]
        return next(iter(best_by_claim(mine).values()), None)

    def _settle_on_record(self, row: QueueRow) -> bool:
        """Settle a claimed row as its worker recorded, if it did; returns whether it had."""
        recorded = self._on_record(row)
        if recorded is None:
            return False
        settlement = settlement_on_record(recorded, self.tables.clock())
        write(row, settlement, self.tables.clock())
        if settlement.released:
            row.claim_token = None
        return True

    def _take_away(self, row: QueueRow, *, counted: bool) -> None:
        row.retry_count += counted
        row.updated_at = self.tables.clock()
        row.claim_token, row.processor_id, row.claimed_at = None, None, None
        used_up = counted and not self._left(row)
        become(row, Status.FAILED if used_up else Status.PENDING, self.tables.clock())

    def _fail(self, row: QueueRow, reason: str) -> None:
        become(row, Status.FAILED, self.tables.clock())
        row.updated_at = self.tables.clock()
        row.error_message = reason[:MAX_ERROR_MESSAGE_CHARACTERS]

    def _left(self, row: QueueRow) -> bool:
        """Whether the entry has attempts left."""
        return row.retry_count < (self._max_retries if row.max_retries is None else row.max_retries)


def _since(row: QueueRow) -> float:
    return row.available_at if row.claimed_at is None else row.claimed_at
