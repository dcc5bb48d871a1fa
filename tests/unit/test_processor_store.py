"""What the processor's store does when Snowflake refuses a value or the connection fails. Snowflake is a fake."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from rowqueue.errors import LockContention, ValueRefused, WarehouseUnavailable
from rowqueue.lifecycle import Settlement, Status
from rowqueue.observability import configure
from rowqueue.poller.queue import PollerQueue
from rowqueue.processor.queue import ClaimRequest, Ready
from rowqueue.processor.store import RECORDED_MARGIN_S, UNSTORABLE, ProcessorStore
from rowqueue.settings import LOCK_TIMEOUT_S, STATEMENT_TIMEOUT_S
from rowqueue.sql import Attempt, ClaimedKey, SettlementRow


class RefusingWarehouse:
    """Refuses values with the word poison. The first ``failures`` statements fail.

    Attributes:
        settled: by entry id, what was settled: its status, its answer and its message.
        attempts: by entry id, the attempts on record.
    """

    def __init__(self, *, failures=0, fails_with=None):
        self.failures = failures
        self.fails_with = fails_with or WarehouseUnavailable("gone")
        self.settled = {}
        self.attempts = {}
        self.statements = []

    def change(self, statement, values):
        assert set(values) == set(statement.parameters)
        self.statements.append(statement.name)
        if self.failures:
            self.failures -= 1
            raise self.fails_with
        match statement.name:
            case "insert_attempts":
                rows = [Attempt(*row) for row in json.loads(values["attempts"])]
                refuse_poison(rows)
                self.attempts |= {row.entry_id: row for row in rows}
                return len(rows)
            case "settle":
                rows = [row for row in self.attempts.values() if row.entry_id not in self.settled]
            case "settle_bound":
                rows = [SettlementRow(*row) for row in json.loads(values["settlements"])]
                refuse_poison(rows)
        self.settled |= {row.entry_id: (row.status, row.result, row.error_message) for row in rows}
        return len(rows)

    def rows(self, statement, values):
        raise AssertionError(statement.name)


def refuse_poison(rows):
    if any("poison" in str(row) for row in rows):
        raise ValueRefused("cannot be stored", errno=100078)


def settlements(count, *, poisoned=()):
    return [
        Settlement(
            entry_id=n,
            claim_token="t",
            idempotency_key=f"key-{n}",
            status=Status.COMPLETED,
            result="poison" if n in poisoned else "fine",
        )
        for n in range(count)
    ]


def attempts(count, *, poisoned=(), outcome="succeeded"):
    return [
        Attempt(
            claim_token="t",
            attempt=1,
            outcome=outcome,
            response_status=200,
            status="completed",
            delay_ms=None,
            error_message=None,
            entry_id=n,
            started_ms_ago=2,
            finished_ms_ago=1,
            idempotency_key=f"key-{n}",
            trace_id=None,
            result="poison" if n in poisoned else "fine",
        )
        for n in range(count)
    ]


def store(warehouse, *, slept=None, patience_s=5.0):
    waits = slept if slept is not None else []
    return ProcessorStore(
        warehouse, queue="Q", processor_id="dev-1", max_retries=3, settle_patience_s=patience_s, sleep=waits.append
    )


@pytest.mark.parametrize("started", [True, False])
@pytest.mark.parametrize("poisoned", [[0], [49], [7, 8, 31], range(50)], ids=str)
def test_a_value_that_cannot_be_stored_delays_no_other_entry_and_its_own_outcome_is_recorded(poisoned, started):
    warehouse = RefusingWarehouse()
    made = attempts(50, poisoned=poisoned) if started else []
    assert store(warehouse).settle(settlements(50, poisoned=poisoned), made) == frozenset()
    assert warehouse.settled == {
        n: ("completed", None, UNSTORABLE) if n in poisoned else ("completed", "fine", None) for n in range(50)
    }
    assert set(warehouse.attempts) == {attempt.entry_id for attempt in made}


def test_one_such_value_among_many_is_found_by_halving():
    warehouse = RefusingWarehouse()
    store(warehouse).settle(settlements(512, poisoned={300}), [])
    assert len(warehouse.statements) < 25


def test_an_entry_is_settled_although_its_attempt_cannot_be_stored():
    warehouse = RefusingWarehouse()
    made = [attempt._replace(outcome="poison") if attempt.entry_id == 2 else attempt for attempt in attempts(4)]
    store(warehouse).settle(settlements(4), made)
    assert set(warehouse.settled) == {0, 1, 2, 3}
    assert set(warehouse.attempts) == {0, 1, 3}


@pytest.mark.parametrize("poisoned", [[0], [3, 4], range(8)], ids=str)
def test_when_the_join_is_refused_the_bound_form_finds_the_value(poisoned):
    class RefusedJoin(RefusingWarehouse):
        def change(self, statement, values):
            if statement.name == "insert_attempts":
                return 8
            if statement.name == "settle":
                raise ValueRefused("cannot be stored", errno=100078)
            return super().change(statement, values)

    warehouse = RefusedJoin()
    assert store(warehouse).settle(settlements(8, poisoned=poisoned), attempts(8)) == frozenset()
    assert warehouse.settled == {
        n: ("completed", None, UNSTORABLE) if n in poisoned else ("completed", "fine", None) for n in range(8)
    }


def test_a_settlement_that_is_refused_without_its_texts_too_is_raised():
    class TwiceRefusing(RefusingWarehouse):
        def change(self, statement, values):
            assert len(self.statements) < 2, "it would be sent without end"
            return super().change(statement, values)

    (refused,) = settlements(1)
    with pytest.raises(ValueRefused):
        store(TwiceRefusing()).settle([replace(refused, idempotency_key="poison")], [])


def test_after_a_broken_connection_the_same_is_sent_again_with_waits_between():
    warehouse, slept = RefusingWarehouse(failures=3), []
    assert store(warehouse, slept=slept).settle(settlements(2), []) == frozenset()
    assert warehouse.statements == ["settle_bound"] * 4
    assert len(slept) == 3


def test_a_count_is_repeated_after_a_broken_connection():
    class Breaking(RefusingWarehouse):
        def rows(self, statement, values):
            if self.failures:
                self.failures -= 1
                raise self.fails_with
            return [(7, 2)]

    slept = []
    assert store(Breaking(failures=3), slept=slept).count_ready() == Ready(entries=7, suspects=2)
    assert len(slept) == 3
    with pytest.raises(WarehouseUnavailable):
        store(Breaking(failures=4)).count_ready()


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ([], "one row, got 0"),
        ([(7, 2), (7, 2)], "one row, got 2"),
        ([(7,)], "rows of 2 columns, got some of [1]"),
        ([(7, 2), (7, 2, 0)], "rows of 2 columns, got some of [3]"),
    ],
)
def test_a_count_of_another_form_means_that_snowflake_could_not_be_used(answer, expected):
    warehouse = RefusingWarehouse()
    warehouse.rows = lambda statement, values: answer
    for sender in (store(warehouse), PollerQueue(warehouse, queue="Q", max_retries=3)):
        with pytest.raises(WarehouseUnavailable, match=re.escape(f"count_ready: expected {expected}")):
            sender.count_ready()


def test_claimed_rows_of_another_form_mean_that_snowflake_could_not_be_used():
    warehouse = RefusingWarehouse()
    warehouse.change = lambda statement, values: 1
    warehouse.rows = lambda statement, values: [("ok",)]
    with pytest.raises(WarehouseUnavailable, match=r"claimed: expected rows of 11 columns, got some of \[1\]"):
        store(warehouse).claim(ClaimRequest(token="t", entries=8, characters=100))


def test_a_connection_that_stays_broken_is_raised():
    with pytest.raises(WarehouseUnavailable):
        store(RefusingWarehouse(failures=10**9), patience_s=0.05).settle(settlements(2), [])


def test_a_settle_is_repeated_while_the_lock_is_taken():
    warehouse = RefusingWarehouse(failures=40, fails_with=LockContention("too many wait", errno=625))
    assert store(warehouse).settle(settlements(2), attempts(2)) == frozenset()
    assert set(warehouse.settled) == {0, 1}


def test_the_attempts_are_written_before_the_settle():
    warehouse = RefusingWarehouse()
    store(warehouse).settle(settlements(2), attempts(2))
    assert warehouse.statements == ["insert_attempts", "settle"]


# What the settle did not find


class ForgetfulWarehouse:
    """Its first joins do not see the attempts, as a session that was opened after the INSERT.

    Args:
        blind: how many joins see nothing.
        lost: entries that another worker has claimed.
    """

    def __init__(self, *, blind, lost=()):
        self.blind = blind
        self.statuses = dict.fromkeys(range(3), "processing")
        for entry_id in lost:
            del self.statuses[entry_id]
        self.statements = []
        self.bound = []
        self.seconds = []

    def change(self, statement, values):
        self.statements.append(statement.name)
        self.seconds += [values["seconds"]] if "seconds" in values else []
        if statement.name == "insert_attempts":
            return 3
        if statement.name == "settle_bound":
            self.bound = [SettlementRow(*row).entry_id for row in json.loads(values["settlements"])]
            return self.complete(self.bound)
        self.blind -= 1
        return 0 if self.blind >= 0 else self.complete(self.statuses)

    def complete(self, ids):
        found = [entry_id for entry_id in ids if self.statuses.get(entry_id) == "processing"]
        self.statuses |= dict.fromkeys(found, "completed")
        return len(found)

    def rows(self, statement, values):
        self.statements.append(statement.name)
        asked = [ClaimedKey(*row) for row in json.loads(values["claimed"])]
        return [(*key, self.statuses[key.entry_id]) for key in asked if key.entry_id in self.statuses]


def test_an_entry_that_is_still_processing_after_its_settle_is_settled_again():
    warehouse = ForgetfulWarehouse(blind=1)
    assert store(warehouse).settle(settlements(3), attempts(3)) == frozenset()
    assert warehouse.statements == ["insert_attempts", "settle", "settled", "settle"]
    assert set(warehouse.statuses.values()) == {"completed"}


def test_what_two_settles_do_not_find_is_settled_with_bound_values_and_is_not_lost():
    warehouse = ForgetfulWarehouse(blind=2, lost=[1])
    assert store(warehouse).settle(settlements(3), attempts(3)) == {1}
    assert warehouse.statements == ["insert_attempts", "settle", "settled", "settle", "settled", "settle_bound"]
    assert warehouse.bound == [0, 2]
    assert warehouse.statuses == {0: "completed", 2: "completed"}


def test_a_lost_claim_is_not_settled_again():
    warehouse = ForgetfulWarehouse(blind=0, lost=[1])
    assert store(warehouse).settle(settlements(3), attempts(3)) == {1}
    assert warehouse.statements == ["insert_attempts", "settle", "settled"]


def test_attempts_are_searched_from_the_first_time_that_the_batch_was_sent():
    warehouse, seconds = ForgetfulWarehouse(blind=0), iter([100.0, 100.25, 300.5])
    slow = ProcessorStore(
        warehouse, queue="Q", processor_id="dev-1", max_retries=3, sleep=lambda _: None, clock=lambda: next(seconds)
    )
    slow.settle(settlements(3), attempts(3))
    assert warehouse.seconds == [1 + RECORDED_MARGIN_S, 201 + RECORDED_MARGIN_S]


def test_attempts_are_found_by_a_join_that_waited_for_the_lock_as_long_as_it_may():
    assert RECORDED_MARGIN_S > LOCK_TIMEOUT_S + STATEMENT_TIMEOUT_S, "its value is bound before it waits"


# Rows with one id


class CopiedRows:
    """A claim that took these rows, given by id and idempotency key."""

    def __init__(self, *rows):
        self.claimed = [(entry_id, "{}", key, 0, None, 0, 0, 0.0, 2, 0, None) for entry_id, key in rows]

    def change(self, statement, values):
        return len(self.claimed)

    def rows(self, statement, values):
        return self.claimed


class SettledCopies(CopiedRows):
    """A claim of an entry with a copy and of two others.

    Args:
        after: for each settle, what it leaves: a status for each row, ``None`` if its claim is lost, in this order:
            the entry, its copy, the others.
    """

    ROWS = ((0, "key-0"), (0, "key-0"), (1, "key-1"), (2, "key-2"))

    def __init__(self, *after):
        super().__init__(*self.ROWS)
        self.after = [["processing"] * 4, *after]
        self.statements = []

    def change(self, statement, values):
        self.statements.append(statement.name)
        if not statement.name.startswith("settle"):
            return 4
        before = self.after.pop(0)
        return sum(
            status is not None and status != earlier for status, earlier in zip(self.after[0], before, strict=True)
        )

    def rows(self, statement, values):
        self.statements.append(statement.name)
        if statement.name == "claimed":
            return self.claimed
        left = zip(self.ROWS, self.after[0], strict=True)
        return [(entry_id, "t", key, status) for (entry_id, key), status in left if status is not None]


def settled_with_a_copy(warehouse, made):
    queue = store(warehouse)
    queue.claim(ClaimRequest(token="t", entries=9, characters=10**6))
    warehouse.statements.clear()
    return queue.settle(settlements(3), made)


@pytest.mark.parametrize("started", [True, False])
def test_a_copy_that_was_changed_too_hides_no_lost_claim(started):
    warehouse = SettledCopies(["completed", "completed", "completed", None])
    assert settled_with_a_copy(warehouse, attempts(3) if started else []) == {2}


def test_a_copy_that_was_changed_too_hides_no_entry_that_is_still_processing():
    warehouse = SettledCopies(["completed", "completed", "completed", "processing"], ["completed"] * 4)
    assert settled_with_a_copy(warehouse, attempts(3)) == frozenset()
    assert warehouse.statements == ["insert_attempts", "settle", "settled", "settle"]


def test_an_entry_whose_copies_became_different_is_lost():
    warehouse = SettledCopies(["completed", "failed", "completed", "completed"])
    assert settled_with_a_copy(warehouse, attempts(3)) == {0}


class AlreadySettled:
    """A settle changes no row, and these statuses are read back."""

    def __init__(self, statuses):
        self.statuses = statuses

    def change(self, statement, values):
        return 0

    def rows(self, statement, values):
        return [(0, "t", "key-0", status) for status in self.statuses]


@pytest.mark.parametrize(
    ("status", "found", "lost"),
    [
        (Status.PENDING, ["cancelled"], False),
        (Status.PENDING, ["cancelled", "pending"], False),
        (Status.PENDING, [], True),
        (Status.PENDING, ["failed"], True),
        (Status.COMPLETED, ["cancelled"], True),
    ],
)
def test_an_entry_that_a_person_has_cancelled_meanwhile_is_lost_only_if_it_would_not_become_pending(
    status, found, lost
):
    (settled,) = settlements(1)
    assert store(AlreadySettled(found)).settle([replace(settled, status=status)], []) == ({0} if lost else frozenset())


def test_an_entry_whose_copy_is_still_processing_is_settled_again():
    warehouse = SettledCopies(["completed", "processing", "completed", "completed"], ["completed"] * 4)
    assert settled_with_a_copy(warehouse, attempts(3)) == frozenset()
    assert warehouse.statements == ["insert_attempts", "settle", "settled", "settle", "settled"]


def claimed(*rows):
    request = ClaimRequest(token="t", entries=9, characters=10**6)
    return [(entry.id, entry.idempotency_key) for entry in store(CopiedRows(*rows)).claim(request)]


def test_a_copy_of_a_row_is_no_second_entry_and_rows_with_one_id_are_logged_and_counted(capsys):
    configure("processor", environment="dev")
    assert claimed((7, "a"), (8, "b"), (7, "a"), (9, "c"), (9, "d")) == [(7, "a"), (8, "b"), (9, "c"), (9, "d")]
    (line,) = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (line["event"], line["ids"], line["count"], line["DuplicateIds"]) == ("duplicate_ids", [7, 9], 2, 2)


def test_nothing_is_logged_about_rows_with_ids_of_their_own(capsys):
    assert claimed((7, "a"), (8, "b")) == [(7, "a"), (8, "b")]
    assert capsys.readouterr().out == ""


def test_an_entry_whose_copy_was_settled_is_forgotten():
    warehouse = SettledCopies(["completed"] * 4, ["processing"] * 3 + ["completed"])
    queue = store(warehouse)
    queue.claim(ClaimRequest(token="t", entries=9, characters=10**6))
    for _ in range(2):
        warehouse.statements.clear()
        queue.settle(settlements(3), attempts(3))
    assert warehouse.statements == ["insert_attempts", "settle"]
