"""The queue as the processors see it: one method per duty. The poller's own duties are in :mod:`rowqueue.poller.queue`.

Knows which statement does what and what its rows mean; knows neither the driver nor the network's moods beyond the one
question they raise here: after a broken connection, did the statement run?
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import tenacity

from rowqueue import sql
from rowqueue.errors import LockContention, ValueRefused, WarehouseUnavailable
from rowqueue.lifecycle import MAX_ERROR_MESSAGE_CHARACTERS, Entry
from rowqueue.observability import Event, log_problem
from rowqueue.records import Ready, as_json, as_table, attempt_row, settlement_row, storable
from rowqueue.settings import SETTLE_PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rowqueue.lifecycle import Settlement
    from rowqueue.records import Attempt
    from rowqueue.sql import Statement

UNSTORABLE = "what the service answered could not be stored"


class Warehouse(Protocol):
    """What runs statements."""

    def rows(self, statement: Statement, values: Mapping[str, object]) -> list[tuple[Any, ...]]:
        """Run a query."""
        ...

    def change(self, statement: Statement, values: Mapping[str, object]) -> int:
        """Run a statement that changes rows; returns how many."""
        ...


class QueueStore:
    """The duties of the queue.

    Args:
        warehouse: runs the statements.
        queue: the queue table's name, already validated.
        max_retries: counted attempts, unless the entry has its own limit.
        settle_patience_s: for so long outcomes are sent again before they are given up.
        sleep: waits so many seconds before something is sent again over a new connection.
    """

    def __init__(
        self,
        warehouse: Warehouse,
        *,
        queue: str,
        max_retries: int,
        settle_patience_s: float = SETTLE_PATIENCE_S,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._warehouse = warehouse
        self._repeating = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(WarehouseUnavailable),
            wait=tenacity.wait_random_exponential(multiplier=0.2, max=3),
            stop=tenacity.stop_after_attempt(4),
            sleep=sleep,
            before_sleep=_tell,
            reraise=True,
        )
        # What was delivered is delivered again if it can not be recorded, so a settle is the last to give up.
        self._persisting = self._repeating.copy(
            retry=tenacity.retry_if_exception_type((WarehouseUnavailable, LockContention)),
            stop=tenacity.stop_after_delay(settle_patience_s),
        )
        self._statements = sql.statements(queue=queue, max_retries=max_retries)
        self._max_retries = max_retries

    def count_ready(self, *, probe: bool = False) -> Ready:
        """What claims would take now: nothing while there is a hold, but for a probe after its end.

        Args:
            probe: whether to count in spite of a hold that has ended.
        """
        ((entries, suspects),) = self._rows("count_ready", max_retries=self._max_retries, probe=int(probe))
        return Ready(entries=entries, suspects=suspects)

    def claim(
        self,
        *,
        processor_id: str,
        claim_token: str,
        entries: int,
        characters: int,
        suspects: int = 1,
        holds_nothing: bool = True,
        probe: bool = False,
    ) -> list[Entry]:
        """Take a batch; an empty list does not mean that nothing is ready, for another worker may have been quicker.

        Args:
            processor_id: who takes it.
            claim_token: never used before.
            entries: at most so many.
            characters: at most so much data, but always one entry.
            suspects: at most so many that one worker has died on, and no others with them; after more deaths, one.
            holds_nothing: whether the worker holds no other entry, and may get suspects.
            probe: whether to claim in spite of a hold that has ended.

        Raises:
            WarehouseUnavailable: it can not be known whether the claim was made.
        """
        try:
            claimed = self._change(
                "claim",
                claim_token=claim_token,
                processor_id=processor_id,
                max_retries=self._max_retries,
                entries=entries,
                characters=characters,
                suspects=suspects,
                holds_nothing=int(holds_nothing),
                probe=int(probe),
            )
        except WarehouseUnavailable:
            claimed = 1  # it may have been made: the token tells
        return self._repeating(lambda: self._claimed(claim_token)) if claimed else []

    def _claimed(self, claim_token: str) -> list[Entry]:
        return [
            Entry(
                id=entry_id,
                data=data,
                idempotency_key=idempotency_key,
                claim_token=claim_token,
                retry_count=retry_count,
                max_retries=max_retries,
                crash_count=crash_count,
                age_s=age_s,
            )
            for entry_id, data, idempotency_key, retry_count, max_retries, crash_count, age_s in self._rows(
                "claimed", claim_token=claim_token
            )
        ]

    def settle(
        self, settlements: Sequence[Settlement], attempts: Sequence[Attempt], *, processor_id: str
    ) -> frozenset[int]:
        """Write outcomes back, the audit trail first; after a broken connection once more, which does no harm.

        Returns:
            The entries whose claim was lost: somebody else holds or has settled them, and nothing was changed.

        Raises:
            WarehouseUnavailable: it can not be known what was written.
        """
        made = as_table(map(attempt_row, attempts))
        sent = as_table(map(settlement_row, settlements))
        if attempts:
            self._persisting(lambda: self._change("insert_attempts", processor_id=processor_id, attempts=made))
        changed = self._persisting(lambda: self._change("settle", settlements=sent))
        return frozenset() if changed == len(settlements) else self._persisting(lambda: self._lost(settlements))

    def settle_or_bisect(
        self, settlements: Sequence[Settlement], attempts: Sequence[Attempt], *, processor_id: str
    ) -> frozenset[int]:
        """As :meth:`settle`, but a value that Snowflake refuses holds back no neighbour: halving the batch finds it.

        The outcome is recorded all the same, without what could not be stored.
        """
        try:
            return self.settle(settlements, attempts, processor_id=processor_id)
        except ValueRefused as error:
            if len(settlements) == 1:
                log_problem(Event.OUTCOME_UNSTORABLE, entry_id=settlements[0].entry_id, error=str(error))
                bare = replace(settlements[0], result=None, error_message=UNSTORABLE)
                return self.settle([bare], [], processor_id=processor_id)
        half = len(settlements) // 2
        lost: frozenset[int] = frozenset()
        for part in (settlements[:half], settlements[half:]):
            ids = {settlement.entry_id for settlement in part}
            made = [attempt for attempt in attempts if attempt.entry_id in ids]
            lost |= self.settle_or_bisect(part, made, processor_id=processor_id)
        return lost

    def _lost(self, settlements: Sequence[Settlement]) -> frozenset[int]:
        """Of entries that a settle did not change, those that do not stand as it would have left them.

        A settle that is sent twice changes nothing the second time, and that is no loss.
        """
        sent = as_json([{"entry_id": s.entry_id, "claim_token": s.claim_token} for s in settlements])
        standing = {(entry_id, status) for entry_id, status in self._rows("settled", settlements=sent)}
        return frozenset(s.entry_id for s in settlements if (s.entry_id, s.status.value) not in standing)

    def place_hold(self, *, reason: str, seconds: float, created_by: str) -> None:
        """Keep everything from being claimed for so many seconds, unless a hold stands already."""
        self._repeating(
            lambda: self._change(
                "place_hold",
                reason=storable(reason[:MAX_ERROR_MESSAGE_CHARACTERS]),
                seconds=seconds,
                created_by=created_by,
            )
        )

    def lift_ended_holds(self) -> None:
        """Let claiming go on, for a probe was answered."""
        self._repeating(lambda: self._change("lift_ended_holds"))

    def record_first_claim(self, *, processor_id: str, entries: int) -> None:
        """Say that this processor has claimed for the first time, so that it no longer counts as starting."""
        self._change(
            "record_processor",
            processor_id=processor_id,
            event="first_claim",
            entries=entries,
            seconds=None,
            reason=None,
        )

    def record_end(self, *, processor_id: str, entries: int, seconds: float, reason: str) -> None:
        """Say that this processor has ended, what it did and why it stopped."""
        self._change(
            "record_processor",
            processor_id=processor_id,
            event="ended",
            entries=entries,
            seconds=seconds,
            reason=reason,
        )

    def _rows(self, name: str, **values: object) -> list[tuple[Any, ...]]:
        return self._warehouse.rows(self._statements[name], values)

    def _change(self, name: str, **values: object) -> int:
        return self._warehouse.change(self._statements[name], values)


def _tell(state: tenacity.RetryCallState) -> None:
    failure = state.outcome.exception() if state.outcome else None
    log_problem(Event.WAREHOUSE_RETRY, attempt=state.attempt_number, error=str(failure))
