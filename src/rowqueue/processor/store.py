"""The statements that a processor sends."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import tenacity

from rowqueue import sql
from rowqueue.contract import DEFAULT_DESTINATION, ProcessorEvent
from rowqueue.errors import LockContention, ValueRefused, WarehouseUnavailable
from rowqueue.lifecycle import MAX_ERROR_MESSAGE_CHARACTERS, Entry, Status, storable
from rowqueue.observability import Event, Metric, embedded, log_problem
from rowqueue.processor.parts import parts_of
from rowqueue.processor.queue import LookAnswer, Ready, key_of
from rowqueue.settings import LOCK_TIMEOUT_S, SETTLE_PATIENCE_S, STATEMENT_TIMEOUT_S
from rowqueue.sql import ClaimedKey, SettlementRow

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rowqueue.lifecycle import Settlement
    from rowqueue.processor.parts import Part
    from rowqueue.processor.queue import ClaimRequest
    from rowqueue.sql import Attempt, Warehouse

RECORDED_MARGIN_S = LOCK_TIMEOUT_S + STATEMENT_TIMEOUT_S + 20
"""Added to the time since a batch was sent first, in which its attempts were recorded. The sum is bound before the
statement waits: at the lock it is repeated with the same value for LOCK_TIMEOUT_S, and the last time it may take
STATEMENT_TIMEOUT_S. The rest is for a login, and for clocks that differ. A settle reads the answers that this worker
recorded in that time, so a longer margin would cost."""
UNSTORABLE = "Snowflake cannot store what the service answered"


class ProcessorStore(sql.Sender):
    """The statements that a processor sends. Each call blocks until Snowflake has answered.

    Args:
        warehouse: runs the statements.
        queue: the queue table's name, validated.
        processor_id: claims, attempts, holds and records carry it.
        max_retries: counted attempts, unless the entry has its own limit.
        destination: whose entries are claimed and counted, and the scope of a hold that this processor places.
        stale_threshold_s: recorded for the view STALE_ENTRIES.
        settle_patience_s: how long a settle is repeated before it fails, seconds. Its entries are then delivered again.
        sleep: waits, seconds, before a statement is sent again.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        warehouse: Warehouse,
        *,
        queue: str,
        processor_id: str,
        max_retries: int,
        destination: str = DEFAULT_DESTINATION,
        stale_threshold_s: float | None = None,
        settle_patience_s: float = SETTLE_PATIENCE_S,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(warehouse, queue=queue, max_retries=max_retries, destination=destination)
        self._clock = clock
        self._processor_id = processor_id
        self._stale_threshold_s = stale_threshold_s
        self._copied: set[ClaimedKey] = set()
        self._repeating = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(WarehouseUnavailable),
            wait=tenacity.wait_random_exponential(multiplier=0.2, max=3),
            stop=tenacity.stop_after_attempt(4),
            sleep=sleep,
            before_sleep=_log_repetition,
            reraise=True,
        )
        # An outcome that is not recorded means another delivery, so a settle is repeated for longer than anything else.
        self._persisting = self._repeating.copy(
            retry=tenacity.retry_if_exception_type((WarehouseUnavailable, LockContention)),
            stop=tenacity.stop_after_delay(settle_patience_s),
        )

    def require_schema(self) -> None:
        """See :meth:`rowqueue.sql.Sender.require_schema`."""
        self._repeating(super().require_schema)

    def count_ready(self, *, probe: bool = False) -> Ready:
        """See :meth:`~rowqueue.processor.queue.Queue.count_ready`.

        Args:
            probe: whether to count even if an ended hold has not been lifted.
        """
        entries, suspects = self._repeating(
            lambda: self._row(
                "count_ready",
                columns=2,
                max_retries=self._max_retries,
                destination=self._destination,
                probe=int(probe),
            )
        )
        return Ready(entries=entries, suspects=suspects)

    def claim(self, request: ClaimRequest) -> list[Entry]:
        """See :meth:`~rowqueue.processor.queue.Queue.claim`.

        Raises:
            WarehouseUnavailable: it is unknown whether the claim was made.
        """
        try:
            claimed = self._change(
                "claim",
                claim_token=request.token,
                processor_id=self._processor_id,
                destination=self._destination,
                max_retries=self._max_retries,
                entries=request.entries,
                characters=request.characters,
                suspects=request.suspects,
                nothing_in_hand=int(request.nothing_in_hand),
                probe=int(request.probe),
            )
        except WarehouseUnavailable:
            claimed = 1  # The claim may have been made. Reading by its token tells.
        return self._repeating(lambda: self._claimed(request)) if claimed else []

    def _claimed(self, request: ClaimRequest) -> list[Entry]:
        """What was claimed. Copies of a row, with its id and its key, are one entry."""
        rows = self._rows("claimed", columns=11, claim_token=request.token, longest=request.longest)
        _log_duplicates([entry_id for entry_id, *_ in rows])
        keys = Counter(ClaimedKey(entry_id, request.token, key) for entry_id, _, key, *_ in rows)
        self._copied |= {key for key, count in keys.items() if count > 1}
        entries = {
            (entry_id, idempotency_key): Entry(
                id=entry_id,
                data=data,
                idempotency_key=idempotency_key,
                claim_token=request.token,
                retry_count=retry_count,
                max_retries=max_retries,
                crash_count=crash_count,
                doubts=doubts,
                age_s=age_s,
                characters=characters,
                earlier_attempts=earlier_attempts,
                traceparent=traceparent,
            )
            for (
                entry_id,
                data,
                idempotency_key,
                retry_count,
                max_retries,
                crash_count,
                doubts,
                age_s,
                characters,
                earlier_attempts,
                traceparent,
            ) in rows
        }
        return list(entries.values())

    def look(self, tokens: Sequence[str]) -> LookAnswer:
        """See :meth:`~rowqueue.processor.queue.Queue.look`. It is not repeated: the next look is."""
        rows = self._rows("look", columns=4, destination=self._destination, tokens=json.dumps(tokens))
        cancelled = frozenset(ClaimedKey(*key) for _, *key in rows if key[0] is not None)
        return LookAnswer(hold=any(holds for holds, *_ in rows), cancelled=cancelled)

    def settle(self, settlements: Sequence[Settlement], attempts: Sequence[Attempt]) -> frozenset[int]:
        """See :meth:`~rowqueue.processor.queue.Queue.settle`.

        The attempts are inserted, in as many statements as their size needs; an INSERT waits for no lock. Then one
        UPDATE settles all entries that have an attempt. The rest is settled with bound values.

        Raises:
            WarehouseUnavailable: it is unknown what was written.
        """
        began = self._clock()
        recorded: set[ClaimedKey] = set()
        for part in parts_of(attempts, _storable_attempt):
            recorded |= self._record_attempts(part, began)
        started = [settlement for settlement in settlements if key_of(settlement) in recorded]
        bound = [settlement for settlement in settlements if key_of(settlement) not in recorded]
        lost: frozenset[int] = frozenset()
        if started:
            lost, unsettled = self._settle_started(started, began)
            bound += unsettled
        for rest in parts_of(bound, _settlement_row):
            lost |= self._settle_bound(rest)
        self._copied.difference_update(map(key_of, settlements))
        return lost

    def _record_attempts(self, part: Part[Attempt], began: float) -> set[ClaimedKey]:
        """Insert attempts. When Snowflake refuses a value, the part is halved until the value is found.

        Returns:
            Those that are recorded. One whose texts are refused is recorded without them, if that is possible.
        """
        try:
            self._persisting(lambda: self._insert(part.text, began))
        except ValueRefused as error:
            if len(part.items) > 1:
                return set().union(*(self._record_attempts(half, began) for half in part.halves()))
            (made,) = part.items
            plain = made._replace(result=None, error_message=UNSTORABLE)
            if made == plain:
                return set()
            log_problem(Event.OUTCOME_UNSTORABLE, entry_id=made.entry_id, error=str(error))
            return self._record_attempts(next(parts_of([plain], _storable_attempt)), began)
        return {attempt.key for attempt in part.items}

    def _settle_bound(self, part: Part[Settlement]) -> frozenset[int]:
        """Settle with values in the statement; a refused value is found as in :meth:`_record_attempts`."""
        try:
            changed = self._persisting(lambda: self._change("settle_bound", settlements=part.text))
            if self._all_changed(changed, part.items):
                return frozenset()
        except ValueRefused as error:
            if len(part.items) > 1:
                return frozenset().union(*map(self._settle_bound, part.halves()))
            (settlement,) = part.items
            plain = replace(settlement, result=None, error_message=UNSTORABLE)
            if settlement == plain:
                raise
            log_problem(Event.OUTCOME_UNSTORABLE, entry_id=settlement.entry_id, error=str(error))
            return self._settle_bound(next(parts_of([plain], _settlement_row)))
        lost, unsettled = self._read_back(part.items)
        return lost.union(settlement.entry_id for settlement in unsettled)

    def _settle_started(self, started: Sequence[Settlement], began: float) -> tuple[frozenset[int], list[Settlement]]:
        """Settle with what the attempts say.

        A session that was opened after the INSERT may not see it yet, so the UPDATE is repeated once.

        Returns:
            The entries whose claim is lost, and what is not settled yet.
        """
        lost: frozenset[int] = frozenset()
        unsettled = list(started)
        for _ in range(2):
            try:
                changed = self._persisting(lambda: self._join(began))
            except ValueRefused:
                return lost, unsettled  # one of them is to blame, and the bound form finds it
            if self._all_changed(changed, unsettled):
                return lost, []
            lost, unsettled = self._read_back(started)
            if not unsettled:
                break
        return lost, unsettled

    def _all_changed(self, changed: int, settlements: Sequence[Settlement]) -> bool:
        """Whether the number of changed rows shows that each entry was settled. With copies it shows nothing."""
        return changed == len(settlements) and self._copied.isdisjoint(map(key_of, settlements))

    def _read_back(self, settlements: Sequence[Settlement]) -> tuple[frozenset[int], list[Settlement]]:
        """Compare the rows with what was sent. After a settle that ran twice there is no difference.

        Returns:
            The entries whose claim is lost, and what is not settled yet.
        """
        found: dict[ClaimedKey, set[str]] = {}
        for part in parts_of(map(key_of, settlements), tuple):
            for *key, status in self._persisting(partial(self._statuses, part.text)):
                found.setdefault(ClaimedKey(*key), set()).add(status)
        lost, unsettled = [], []
        for settlement in settlements:
            statuses = found.get(key_of(settlement), set())
            if Status.PROCESSING in statuses:
                unsettled.append(settlement)
            elif not statuses or not statuses <= _may_become(settlement.status):
                lost.append(settlement.entry_id)
        return frozenset(lost), unsettled

    def place_hold(self, *, reason: str, seconds: float) -> None:
        """See :meth:`~rowqueue.processor.queue.Queue.place_hold`."""
        self._repeating(
            lambda: self._change(
                "place_hold",
                destination=self._destination,
                reason=storable(reason[:MAX_ERROR_MESSAGE_CHARACTERS]),
                seconds=seconds,
                created_by=self._processor_id,
            )
        )

    def lift_ended_holds(self) -> None:
        """See :meth:`~rowqueue.processor.queue.Queue.lift_ended_holds`."""
        self._repeating(lambda: self._change("lift_ended_holds", destination=self._destination))

    def record_first_claim(self, *, entries: int) -> None:
        """See :meth:`~rowqueue.processor.queue.Queue.record_first_claim`."""
        self._record(ProcessorEvent.FIRST_CLAIM, entries=entries, seconds=None, reason=None)

    def record_end(self, *, entries: int, seconds: float, reason: str) -> None:
        """See :meth:`~rowqueue.processor.queue.Queue.record_end`."""
        self._record(ProcessorEvent.ENDED, entries=entries, seconds=seconds, reason=reason)

    def _record(self, event: ProcessorEvent, *, entries: int, seconds: float | None, reason: str | None) -> None:
        self._change(
            "record_processor",
            processor_id=self._processor_id,
            event=event.value,
            entries=entries,
            seconds=seconds,
            reason=reason,
            stale_threshold_s=self._stale_threshold_s,
        )

    def _insert(self, attempts: str, began: float) -> int:
        return self._change(
            "insert_attempts",
            attempts=attempts,
            processor_id=self._processor_id,
            seconds=self._seconds_since(began),
        )

    def _join(self, began: float) -> int:
        return self._change("settle", processor_id=self._processor_id, seconds=self._seconds_since(began))

    def _statuses(self, claimed: str) -> list[tuple[Any, ...]]:
        return self._rows("settled", columns=4, claimed=claimed)

    def _seconds_since(self, began: float) -> int:
        """For how long a statement looks back for attempts that were recorded since ``began``."""
        return math.ceil(self._clock() - began) + RECORDED_MARGIN_S


def _may_become(status: Status) -> set[str]:
    """What an entry may be after it was settled with a status: what a person has cancelled does not become pending."""
    return {status, Status.CANCELLED} if status is Status.PENDING else {status}


def _settlement_row(settlement: Settlement) -> SettlementRow:
    return SettlementRow(
        entry_id=settlement.entry_id,
        claim_token=settlement.claim_token,
        idempotency_key=settlement.idempotency_key,
        status=settlement.status.value,
        counted=int(settlement.counted),
        released=int(settlement.released),
        doubted=int(settlement.doubted),
        delay_ms=round(settlement.delay_s * 1000),
        response_status=settlement.response_status,
        result=storable(settlement.result),
        error_message=storable(settlement.error_message),
    )


def _storable_attempt(attempt: Attempt) -> Attempt:
    if attempt.error_message is None and attempt.result is None:
        return attempt
    return attempt._replace(error_message=storable(attempt.error_message), result=storable(attempt.result))


def _log_duplicates(ids: Sequence[int]) -> None:
    """Log ids that several rows have: somebody inserted copies, ids included."""
    duplicates = sorted(entry_id for entry_id, rows in Counter(ids).items() if rows > 1)
    if duplicates:
        metrics = embedded({Metric.DUPLICATE_IDS: len(duplicates)})
        log_problem(Event.DUPLICATE_IDS, ids=duplicates[:20], count=len(duplicates), **metrics)


def _log_repetition(state: tenacity.RetryCallState) -> None:
    failure = state.outcome.exception() if state.outcome else None
    log_problem(Event.WAREHOUSE_RETRY, attempt=state.attempt_number, error=str(failure))
