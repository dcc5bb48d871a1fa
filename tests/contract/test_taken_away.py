"""Whoever takes a claim away settles what its worker has recorded, and releases the rest, in one statement."""

from __future__ import annotations

import pytest
from queue_contract import attempt, released, retried, settlement

from rowqueue.lifecycle import Status
from rowqueue.poller.records import Death
from rowqueue.processor.queue import ClaimRequest

REASON = "the task has stopped: exit code 137"


def death(**changes):
    return Death(processor_id="dev-1", reason=REASON, **changes)


def rescue(poller, **changes):
    deaths = [death(**changes)]
    poller.record_deaths(deaths)
    poller.fail_poison([death for death in deaths if death.alone], max_crashes=0)
    poller.release_dead(deaths)


def crash(sql, poller):
    rescue(poller, crashed=True)


def crash_alone(sql, poller):
    rescue(poller, crashed=True, alone=True)


def end_without_snowflake(sql, poller):
    rescue(poller, counted=True)


def known_claim_time(sql, poller):
    (claimant,) = poller.claimants()
    rescue(poller, claimed_since=claimant.earliest_claimed_at)


def reset(sql, poller):
    sql("UPDATE PROCESSING_QUEUE SET claimed_at = DATEADD('hour', -1, SYSDATE())")
    poller.reset_stale(stale_threshold_s=1800, claimed_since=poller.pulse().earliest_claimed_at)


taken_away = pytest.mark.parametrize("take_away", [crash, reset], ids=lambda way: way.__name__)


@pytest.fixture
def insert(sql):
    def run(*data, **columns):
        names, values = ", ".join(["data", *columns]), list(columns.values())
        for item in data:
            marks = ", ".join("?" * (1 + len(values)))
            sql(f"INSERT INTO PROCESSING_QUEUE ({names}) VALUES ({marks})", item, *values)

    return run


@pytest.fixture
def claim(workers):
    return lambda **more: workers().claim(ClaimRequest(token="token", entries=100, characters=10**9, **more))


@pytest.fixture
def record(workers):
    """Records attempts, as a worker that ends before it settles."""
    return lambda *settlements: workers().settle([], [attempt(settled) for settled in settlements])


def rows(sql, *columns):
    return [tuple(row) for row in sql(f"SELECT {', '.join(columns)} FROM PROCESSING_QUEUE ORDER BY data")]


@pytest.mark.parametrize(
    "take_away", [crash, crash_alone, end_without_snowflake, known_claim_time, reset], ids=lambda way: way.__name__
)
def test_a_success_on_record_completes_its_entry_with_its_answer(sql, poller, insert, claim, record, take_away):
    insert("{}", retry_count=2)
    (entry,) = claim()
    record(settlement(entry, result="the answer", response_status=201))
    take_away(sql, poller)
    assert rows(sql, "status", "result", "response_status", "retry_count", "crash_count", "error_message") == [
        ("completed", "the answer", 201, 2, 0, None)
    ]
    ((completed_at, failed_at, worker, token),) = rows(sql, "completed_at", "failed_at", "processor_id", "claim_token")
    assert completed_at is not None
    assert (failed_at, worker, token) == (None, "dev-1", "token")
    assert claim() == []


def test_a_success_counts_also_if_the_clock_of_its_server_was_behind_that_of_the_claim(
    sql, poller, insert, claim, record
):
    insert("{}")
    (entry,) = claim()
    record(settlement(entry))
    sql("UPDATE PROCESSING_ATTEMPTS SET recorded_at = DATEADD('second', -50, recorded_at)")
    known_claim_time(sql, poller)
    assert rows(sql, "status") == [("completed",)]


@taken_away
def test_every_other_outcome_on_record_is_settled_as_its_worker_would_have_done(
    sql, poller, insert, claim, record, take_away
):
    insert("1", "2", "3", "4")
    one, two, three, four = claim()
    record(
        settlement(one, Status.FAILED, counted=True, error_message="no", response_status=400, result="bad"),
        retried(two, delay_s=3600),
        released(three),
        released(four, doubted=True),
    )
    take_away(sql, poller)
    columns = "status", "retry_count", "crash_count", "doubts", "response_status", "error_message", "result"
    assert rows(sql, *columns) == [
        ("failed", 1, 0, 0, 400, "no", "bad"),
        ("pending", 1, 0, 0, 503, "503", None),
        ("pending", 0, 0, 0, None, None, None),
        ("pending", 0, 0, 1, None, None, None),
    ]
    assert [failed is not None for (failed,) in rows(sql, "failed_at")] == [True, False, False, False]
    assert [token for (token,) in rows(sql, "claim_token")] == ["token", "token", None, None]
    assert [claimed is None for (claimed,) in rows(sql, "claimed_at")] == [False, False, True, True]
    waits = sql("SELECT DATEDIFF('second', SYSDATE(), available_at) > 3000 FROM PROCESSING_QUEUE ORDER BY data")
    assert [bool(row[0]) for row in waits] == [False, True, False, False]


@taken_away
def test_what_a_person_has_cancelled_does_not_become_pending(sql, poller, insert, claim, record, take_away):
    insert("1", "2", "3", "4", "5")
    insert("6", retry_count=2)
    one, two, three, *_ = claim()
    who_and_why = "cancelled_by = 'me', cancel_reason = 'why'"
    sql(f"UPDATE PROCESSING_QUEUE SET cancel_requested = TRUE, {who_and_why} WHERE data <> '5'")
    record(settlement(one), settlement(two, Status.FAILED, counted=True, error_message="no"), retried(three))
    take_away(sql, poller)
    last = "failed" if take_away is reset else "cancelled"  # a reset is its third attempt, and a crash none
    found = rows(sql, "status", "cancelled_at", "cancelled_by", "cancel_reason", "cancel_requested")
    assert [row[0] for row in found] == ["completed", "failed", "cancelled", "cancelled", "pending", last]
    assert all((row[0] == "cancelled") == (row[1] is not None) for row in found)
    assert {row[2:] for row in found if row[0] == "cancelled"} == {("me", "why", True)}
    too_late = {row[2:] for row in found if row[0] != "cancelled"}
    assert too_late == {(None, None, False)}


@taken_away
def test_what_is_not_on_record_is_released_beside_it(sql, poller, insert, claim, record, take_away):
    insert("1", "2", "3")
    entries = claim()
    record(settlement(entries[1]))
    take_away(sql, poller)
    assert [status for (status,) in rows(sql, "status")] == ["pending", "completed", "pending"]
    assert rows(sql, "crash_count", "retry_count")[1] == (0, 0)
    outcomes = [row[0] for row in sql("SELECT outcome FROM PROCESSING_ATTEMPTS ORDER BY entry_id")]
    assert outcomes[1] == "succeeded"
    assert len(outcomes) == 3, "no second row about what the worker recorded itself"


@taken_away
def test_an_outcome_that_was_recorded_twice_is_settled_once_and_a_success_goes_first(
    sql, poller, insert, claim, record, take_away
):
    insert("1", "2")
    one, two = claim()
    record(retried(one), retried(two))
    sql("INSERT INTO PROCESSING_ATTEMPTS SELECT * FROM PROCESSING_ATTEMPTS")  # an INSERT that ran twice
    sql(
        "INSERT INTO PROCESSING_ATTEMPTS (entry_id, claim_token, idempotency_key, attempt, processor_id, started_at,"
        " finished_at, outcome, entry_status, result)"
        " SELECT id, claim_token, idempotency_key, 1, 'dev-1', claimed_at, claimed_at, 'succeeded', 'completed', 'ok'"
        " FROM PROCESSING_QUEUE WHERE data = '1'"
    )
    take_away(sql, poller)
    assert rows(sql, "status", "retry_count", "result") == [("completed", 0, "ok"), ("pending", 1, None)]


@taken_away
def test_an_outcome_of_another_claim_of_the_entry_is_not_settled_again(sql, poller, insert, claim, record, take_away):
    insert("{}")
    (entry,) = claim()
    record(retried(entry))
    sql("UPDATE PROCESSING_QUEUE SET claim_token = 'later'")
    take_away(sql, poller)
    ((status, error),) = rows(sql, "status", "error_message")
    assert status == "pending"
    assert error != "503"


def test_two_rows_with_one_id_get_each_its_own_outcome_when_their_worker_dies(sql, poller, insert, claim, record):
    insert("1", id=7, idempotency_key="one")
    insert("2", id=7, idempotency_key="two")
    insert("3", id=7, idempotency_key="three")
    one, two, _three = sorted(claim(), key=lambda entry: entry.data)
    record(settlement(one), settlement(two, Status.FAILED, counted=True, error_message="no"))
    crash(sql, poller)
    assert rows(sql, "status", "result", "error_message", "crash_count") == [
        ("completed", "ok", None, 0),
        ("failed", None, "no", 0),
        ("pending", None, REASON, 1),
    ]
    trail = sql("SELECT idempotency_key, outcome FROM PROCESSING_ATTEMPTS ORDER BY idempotency_key")
    assert [tuple(row) for row in trail] == [("one", "succeeded"), ("three", "crashed"), ("two", "permanent")]


@taken_away
def test_copies_of_a_row_are_taken_away_alike(sql, poller, insert, claim, record, take_away):
    insert("1", "1", id=7, idempotency_key="one")
    insert("2", "2", id=7, idempotency_key="two")
    one, _two = sorted(claim(), key=lambda entry: entry.data)
    record(settlement(one))
    take_away(sql, poller)
    assert [status for (status,) in rows(sql, "status")] == ["completed"] * 2 + ["pending"] * 2


@taken_away
def test_of_outcomes_without_a_success_the_earliest_on_record_is_settled(sql, poller, insert, claim, record, take_away):
    insert("{}")
    (entry,) = claim()
    record(retried(entry, error_message="first"))
    sql(
        "INSERT INTO PROCESSING_ATTEMPTS (entry_id, claim_token, idempotency_key, attempt, processor_id, started_at,"
        " finished_at, recorded_at, outcome, entry_status, error_message)"
        " SELECT id, claim_token, idempotency_key, 1, 'dev-1', claimed_at, DATEADD('minute', -1, SYSDATE()),"
        " DATEADD('minute', 1, SYSDATE()), 'permanent', 'failed', 'second' FROM PROCESSING_QUEUE"
    )
    take_away(sql, poller)
    assert rows(sql, "status", "error_message") == [("pending", "first")]


# Rows that a person set to processing have no token


def set_by_hand(insert):
    """Copies of a row that a person set to processing, each with a worker's name."""
    for number, worker in enumerate(("dev-1", "dev-2")):
        insert(f"{number}", id=7, idempotency_key="key", status="processing", processor_id=worker, crash_count=2)


def test_the_copy_of_a_row_without_a_token_is_not_released_with_another_workers(sql, poller, insert):
    set_by_hand(insert)
    assert poller.release_dead([death(crashed=True)]) == 1
    assert rows(sql, "status", "crash_count") == [("pending", 3), ("processing", 2)]


def test_the_copy_of_a_row_without_a_token_is_not_failed_with_another_workers(sql, poller, insert):
    set_by_hand(insert)
    assert poller.fail_poison([death(crashed=True, alone=True)], max_crashes=2) == 1
    assert rows(sql, "status") == [("failed",), ("processing",)]


def test_the_copy_of_a_stale_row_without_a_token_is_not_reset_before_it_is_stale(sql, poller, insert):
    set_by_hand(insert)
    sql("UPDATE PROCESSING_QUEUE SET available_at = DATEADD('minute', -31, SYSDATE()) WHERE data = '0'")
    assert poller.reset_stale(stale_threshold_s=1800) == 1
    assert rows(sql, "status") == [("pending",), ("processing",)]


def test_a_row_that_a_person_set_to_processing_is_reset_although_it_has_no_token(sql, poller, insert):
    insert("1", "1", id=7, idempotency_key="key")
    sql("UPDATE PROCESSING_QUEUE SET status = 'processing', available_at = DATEADD('minute', -31, SYSDATE())")
    assert poller.reset_stale(stale_threshold_s=1800) == 2
    assert rows(sql, "status", "retry_count") == [("pending", 1)] * 2


def test_a_worker_that_records_after_its_claim_was_reset_keeps_its_outcome_in_the_trail(
    sql, poller, workers, insert, claim
):
    insert("{}")
    (entry,) = claim()
    reset(sql, poller)
    assert workers().settle([settlement(entry)], [attempt(settlement(entry))]) == {entry.id}
    assert rows(sql, "status", "retry_count") == [("pending", 1)]
    outcomes = {row[0] for row in sql("SELECT outcome FROM PROCESSING_ATTEMPTS")}
    assert outcomes == {"reset", "succeeded"}


# The same record, read by a worker that still has its claim


def test_a_settle_after_an_insert_that_ran_twice_settles_each_entry_once(sql, workers, insert, claim, record):
    insert("1", "2")
    settlements = [retried(entry) for entry in claim()]
    record(*settlements)
    sql("INSERT INTO PROCESSING_ATTEMPTS SELECT * FROM PROCESSING_ATTEMPTS")
    assert workers().settle(settlements, [attempt(settled) for settled in settlements]) == frozenset()
    assert rows(sql, "status", "retry_count") == [("pending", 1)] * 2


def test_of_two_outcomes_on_record_a_settle_writes_the_success(sql, workers, insert, claim, record):
    insert("{}")
    (entry,) = claim()
    failed = retried(entry)
    record(failed)
    sql(
        "INSERT INTO PROCESSING_ATTEMPTS (entry_id, claim_token, idempotency_key, attempt, processor_id, started_at,"
        " finished_at, outcome, entry_status, result)"
        " SELECT id, claim_token, idempotency_key, 1, 'dev-1', claimed_at, claimed_at, 'succeeded', 'completed', 'ok'"
        " FROM PROCESSING_QUEUE"
    )
    workers().settle([failed], [attempt(failed)])
    assert rows(sql, "status", "retry_count", "result") == [("completed", 0, "ok")]


def test_what_the_poller_recorded_about_a_claim_that_stands_does_not_disturb_its_settle(
    sql, poller, workers, insert, claim
):
    insert("1", "2")
    one, two = claim()
    poller.record_deaths([death(crashed=True)])  # and the tick ended before the release
    outcomes = [settlement(one), retried(two)]
    assert workers().settle(outcomes, [attempt(settled) for settled in outcomes]) == frozenset()
    assert rows(sql, "status", "retry_count", "result") == [("completed", 0, "ok"), ("pending", 1, None)]
    recorded = sorted(row[0] for row in sql("SELECT outcome FROM PROCESSING_ATTEMPTS"))
    assert recorded == ["crashed", "crashed", "succeeded", "transient"]
