"""What the store promises, whatever account it runs on."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from rowqueue.errors import StatementRefused
from rowqueue.lifecycle import Settlement, Status
from rowqueue.records import Attempt, Death

BIG = 10**9


def test_the_contract_is_run_on_a_real_account():
    if not any(name.startswith("CONTRACT_SNOWFLAKE_") for name in os.environ):
        pytest.skip("no real account: set CONTRACT_SNOWFLAKE_ACCOUNT, _USER, _PASSWORD, _WAREHOUSE and _DATABASE")


def claim(store, entries=100, *, token="token", processor="dev-1", characters=BIG):
    return store.claim(processor_id=processor, claim_token=token, entries=entries, characters=characters)


def insert(sql, *data, **columns):
    names, values = ", ".join(["data", *columns]), list(columns.values())
    for item in data:
        marks = ", ".join("?" * (1 + len(values)))
        sql(f"INSERT INTO PROCESSING_QUEUE ({names}) VALUES ({marks})", item, *values)


def state(sql, *columns):
    rows = sql(f"SELECT {', '.join(columns)} FROM PROCESSING_QUEUE ORDER BY id")
    return [row[0] for row in rows] if len(columns) == 1 else [tuple(row) for row in rows]


def completed(entry, **changes):
    told = {"status": Status.COMPLETED, "response_status": 200, "result": "ok"} | changes
    return Settlement(entry_id=entry.id, claim_token=entry.claim_token, **told)


def attempt(entry, **changes):
    told = {"attempt": 1, "outcome": "succeeded", "started_ms_ago": 1500, "finished_ms_ago": 500} | changes
    return Attempt(entry_id=entry.id, claim_token=entry.claim_token, **told)


def test_the_insert_of_the_users_document_is_all_it_takes(sql, store):
    sql("""INSERT INTO PROCESSING_QUEUE (data) VALUES ('{"type": "new_type", "payload": {"a": 1}}')""")
    assert store.count_ready().entries == 1
    (entry,) = claim(store)
    assert json.loads(entry.data) == {"type": "new_type", "payload": {"a": 1}}
    assert len(entry.idempotency_key) == 36
    assert (entry.retry_count, entry.max_retries, entry.claim_token) == (0, None, "token")


def test_every_column_with_a_default_has_it_right_in_the_first_insert(sql):
    insert(sql, "{}")
    (row,) = state(sql, "status", "priority", "retry_count", "max_retries", "crash_count", "claimed_at", "completed_at")
    assert row == ("pending", 0, 0, None, 0, None, None)
    ((utc_now,),) = sql("SELECT ABS(DATEDIFF('second', available_at, SYSDATE())) FROM PROCESSING_QUEUE")
    assert utc_now < 60


def test_the_scripts_run_again_without_touching_a_row(sql, run_script):
    insert(sql, "{}")
    for script in ("01_create_table.sql", "03_monitoring_views.sql", "02_sample_data.sql", "02_sample_data.sql"):
        run_script(script)
    assert len(state(sql, "id")) == 6, "one of ours and five samples, not ten"


def test_an_empty_queue_has_a_quiet_pulse(store):
    pulse = store.pulse()
    assert (pulse.pending, pulse.processing, pulse.unknown) == (0, 0, 0)
    assert pulse.earliest_available_at is None
    assert pulse.earliest_claimed_at is None


def test_the_pulse_counts_and_tells_the_earliest_times(sql, store):
    insert(sql, "{}", "{}", "{}")
    sql("UPDATE PROCESSING_QUEUE SET status = 'on hold' WHERE id = (SELECT MAX(id) FROM PROCESSING_QUEUE)")
    claim(store, 1)
    pulse = store.pulse()
    assert (pulse.pending, pulse.processing, pulse.unknown) == (1, 1, 1)
    assert pulse.earliest_claimed_at >= pulse.earliest_available_at


def test_a_claim_takes_the_largest_priority_first_then_the_longest_available(sql, store):
    insert(sql, "1")
    insert(sql, "2", priority=5)
    insert(sql, "3", priority=5)
    insert(sql, "4", priority=9)
    assert [entry.data for entry in claim(store, 3)] == ["4", "2", "3"]
    assert state(sql, "status") == ["pending", "processing", "processing", "processing"]


def test_a_claim_takes_no_entry_before_its_time_and_none_that_is_out_of_attempts(sql, store):
    insert(sql, "later")
    sql("UPDATE PROCESSING_QUEUE SET available_at = DATEADD('hour', 1, SYSDATE())")
    insert(sql, "used up", retry_count=3)
    insert(sql, "own limit reached", retry_count=1, max_retries=1)
    insert(sql, "own limit open", retry_count=3, max_retries=4)
    assert store.count_ready().entries == 1
    assert [entry.data for entry in claim(store)] == ["own limit open"]


def test_a_claim_is_bounded_by_characters_but_takes_one_entry_always(sql, store):
    insert(sql, "x" * 1000, "y" * 1000, "z" * 1000)
    assert len(claim(store, token="a", characters=10)) == 1
    assert len(claim(store, token="b", characters=1500)) == 2


def test_many_claims_at_once_take_every_entry_exactly_once(sql, stores):
    insert(sql, *["{}"] * 60)
    workers = [stores() for _ in range(6)]

    def work(number):
        taken = []
        while workers[number].count_ready().entries:
            taken += claim(workers[number], 4, token=f"{number}-{len(taken)}", processor=f"dev-{number}")
        return [entry.id for entry in taken]

    with ThreadPoolExecutor(6) as pool:
        ids = [entry_id for taken in pool.map(work, range(6)) for entry_id in taken]
    assert len(ids) == len(set(ids)) == 60


def test_a_settle_writes_every_outcome_of_a_batch_in_one_go(sql, store):
    insert(sql, "1", "2", "3", "4")
    one, two, three, four = claim(store)
    settlements = [
        completed(one, result='it\'s done: \\ "ü😀" %s ?', response_status=201),
        completed(two, status=Status.FAILED, counted=True, error_message="no", response_status=400, result=None),
        completed(three, status=Status.PENDING, counted=True, delay_s=3600, error_message="later", response_status=503),
        completed(four, status=Status.PENDING, released=True, response_status=None, result=None),
    ]
    assert store.settle(settlements, [attempt(one)], processor_id="dev-1") == frozenset()
    assert state(sql, "status", "retry_count", "response_status", "result", "error_message", "processor_id") == [
        ("completed", 0, 201, 'it\'s done: \\ "ü😀" %s ?', None, "dev-1"),
        ("failed", 1, 400, None, "no", "dev-1"),
        ("pending", 1, 503, "ok", "later", "dev-1"),
        ("pending", 0, None, None, None, None),
    ]
    ((ended, failed, waits, free),) = sql("""
        SELECT COUNT(completed_at), COUNT(failed_at),
               COUNT_IF(DATEDIFF('minute', SYSDATE(), available_at) BETWEEN 58 AND 61),
               COUNT_IF(claimed_at IS NULL)
          FROM PROCESSING_QUEUE""")
    assert (ended, failed, waits, free) == (1, 1, 1, 1)
    assert store.count_ready().entries == 1, "what was released is ready at once"


def test_a_released_entry_keeps_its_place_and_what_was_known_of_it(sql, store):
    insert(sql, "{}")
    (entry,) = claim(store)
    before = state(sql, "available_at")
    again = completed(entry, status=Status.PENDING, counted=True, error_message="503", result=None)
    store.settle([again], [], processor_id="dev-1")
    (entry,) = claim(store, token="second")
    store.settle([completed(entry, status=Status.PENDING, released=True, result=None)], [], processor_id="dev-1")
    assert state(sql, "error_message", "retry_count") == [("503", 1)]
    assert state(sql, "available_at")[0] >= before[0]


def test_a_worker_that_lost_its_claim_changes_nothing_and_learns_it(sql, store):
    insert(sql, "1", "2")
    one, two = claim(store, token="old")
    sql("UPDATE PROCESSING_QUEUE SET claim_token = 'new', processor_id = 'dev-2' WHERE id = ?", one.id)
    lost = store.settle([completed(one, result="wrong"), completed(two)], [], processor_id="dev-1")
    assert lost == {one.id}
    assert state(sql, "status", "result", "processor_id") == [
        ("processing", None, "dev-2"),
        ("completed", "ok", "dev-1"),
    ]


def test_a_settle_that_is_sent_twice_records_once_and_is_no_loss(sql, store):
    insert(sql, "{}")
    entries = claim(store)
    for _ in range(2):
        lost = store.settle([completed(entries[0])], [attempt(entries[0])], processor_id="dev-1")
        assert lost == frozenset()
    assert sql("SELECT COUNT(*) FROM PROCESSING_ATTEMPTS") == [(1,)]


def test_an_attempt_is_recorded_with_times_by_snowflakes_clock(sql, store):
    insert(sql, "{}")
    (entry,) = claim(store)
    failed = attempt(entry, attempt=2, outcome="transient", response_status=503, error_message="no\0\ud800answer")
    store.settle([completed(entry)], [failed], processor_id="dev-1")
    ((row),) = sql("""
        SELECT entry_id, claim_token, attempt, processor_id, outcome, response_status, error_message,
               DATEDIFF('millisecond', started_at, finished_at)
          FROM PROCESSING_ATTEMPTS""")
    told = (entry.id, "token", 2, "dev-1", "transient", 503, "no\ufffd\ufffdanswer")
    assert tuple(row)[:7] == told
    assert 990 <= row[7] <= 1010


def test_only_stale_claims_are_reset_and_it_counts_as_a_retry(sql, store):
    insert(sql, "1", "2", "3")
    sql("UPDATE PROCESSING_QUEUE SET retry_count = 2 WHERE data = '2'")
    claim(store)
    sql("UPDATE PROCESSING_QUEUE SET claimed_at = DATEADD('minute', -31, SYSDATE()) WHERE data <> '3'")
    assert store.reset_stale(stale_threshold_s=1800) == 2
    assert state(sql, "status", "retry_count", "processor_id", "error_message") == [
        ("pending", 1, None, "no answer from dev-1 within the stale threshold"),
        ("failed", 3, None, "no answer from dev-1 within the stale threshold, and no attempts left"),
        ("processing", 0, "dev-1", None),
    ]


def test_a_worker_whose_claim_was_reset_can_not_settle_it_any_more(sql, store):
    insert(sql, "{}")
    (entry,) = claim(store)
    sql("UPDATE PROCESSING_QUEUE SET claimed_at = DATEADD('hour', -1, SYSDATE())")
    store.reset_stale(stale_threshold_s=1800)
    again = completed(entry, status=Status.PENDING, counted=True)
    assert store.settle([again], [], processor_id="dev-1") == {entry.id}
    assert state(sql, "status", "retry_count") == [("pending", 1)]


def test_a_processor_is_seen_from_its_first_claim_on(store):
    assert store.processors_seen(["dev-1", "dev-2"]) == frozenset()
    store.record_first_claim(processor_id="dev-1", entries=0)
    assert store.processors_seen(["dev-1", "dev-2"]) == {"dev-1"}
    store.record_end(processor_id="dev-1", entries=0, seconds=1.5, reason="nothing is ready")
    assert store.processors_seen(["dev-1"]) == {"dev-1"}


def test_a_table_that_is_not_there_is_named(sql, store):
    sql("DROP TABLE PROCESSING_QUEUE")
    with pytest.raises(StatementRefused, match="PROCESSING_QUEUE"):
        store.pulse()


@pytest.mark.parametrize(
    "view",
    ["QUEUE_STATUS_SUMMARY", "PROCESSING_METRICS", "PROCESSOR_PERFORMANCE", "STALE_ENTRIES", "FAILED_ENTRIES_ANALYSIS"],
)
def test_every_view_answers_on_an_empty_queue_and_on_one_with_every_status(view, sql, store):
    sql(f"SELECT * FROM {view}")
    insert(sql, "1", "2", "3", "4")
    one, two, three = claim(store, 3)
    store.settle([completed(one)], [attempt(one)], processor_id="dev-1")
    failed = completed(
        two, status=Status.FAILED, counted=True, error_message="the service answered 400", response_status=400
    )
    store.settle([failed], [attempt(two, outcome="permanent")], processor_id="dev-1")
    store.record_end(processor_id="dev-1", entries=2, seconds=2.0, reason="nothing is ready")
    sql("UPDATE PROCESSING_QUEUE SET claimed_at = DATEADD('minute', -20, SYSDATE()) WHERE id = ?", three.id)
    rows = sql(f"SELECT * FROM {view}")
    assert rows
    if view == "QUEUE_STATUS_SUMMARY":
        assert {(row[0], row[1]) for row in rows} == {
            ("completed", 1),
            ("failed", 1),
            ("processing", 1),
            ("pending", 1),
        }
    if view == "FAILED_ENTRIES_ANALYSIS":
        assert tuple(rows[0])[:3] == (400, "the service answered #", 1)
    if view == "PROCESSOR_PERFORMANCE":
        assert tuple(rows[0])[:4] == ("dev-1", 2, 1, 0)


def test_pending_entries_without_attempts_left_are_counted_apart_and_failed_with_what_to_do(sql, store):
    insert(sql, "fine")
    insert(sql, "used up", retry_count=3, error_message="503")
    insert(sql, "none from the start", max_retries=0)
    pulse = store.pulse()
    assert (pulse.pending, pulse.exhausted) == (1, 2)
    assert store.fail_exhausted() == 2
    told = "no attempts left: to requeue, set retry_count to 0"
    assert state(sql, "status", "error_message") == [("pending", None), ("failed", f"503; {told}"), ("failed", told)]
    assert store.pulse().exhausted == 0


def test_while_a_hold_stands_nothing_is_ready_and_nothing_is_claimed_not_even_by_a_probe(sql, store):
    insert(sql, "{}")
    store.place_hold(reason="the service answered 401", seconds=60, created_by="dev-1")
    for probe in (False, True):
        assert store.count_ready(probe=probe).entries == 0
        assert store.claim(processor_id="p", claim_token="t", entries=9, characters=BIG, probe=probe) == []
    pulse = store.pulse()
    assert (pulse.holds, pulse.hold_reason) == (1, "the service answered 401")
    assert pulse.held_until is not None


def test_a_hold_that_has_ended_lets_only_a_probe_claim_until_it_is_lifted(sql, store):
    insert(sql, "1", "2")
    store.place_hold(reason="x", seconds=60, created_by="dev-1")
    sql("UPDATE PROCESSING_HOLDS SET until_at = DATEADD('second', -1, SYSDATE())")
    assert store.count_ready().entries == 0
    assert claim(store) == []
    assert store.count_ready(probe=True).entries == 2
    assert len(store.claim(processor_id="p", claim_token="t", entries=1, characters=BIG, probe=True)) == 1
    store.lift_ended_holds()
    assert store.pulse().holds == 0
    assert len(claim(store)) == 1


def test_a_fleet_that_meets_the_same_fault_places_one_hold(sql, store):
    for name in ("dev-1", "dev-2", "dev-3"):
        store.place_hold(reason="x", seconds=60, created_by=name)
    assert sql("SELECT COUNT(*), MIN(created_by) FROM PROCESSING_HOLDS") == [(1, "dev-1")]


def test_a_hold_that_a_person_has_placed_without_an_end_stands_until_it_is_deleted(sql, store):
    insert(sql, "{}")
    sql("INSERT INTO PROCESSING_HOLDS (reason, created_by) VALUES ('maintenance at the partner', 'me')")
    assert claim(store) == []
    assert store.pulse().held_until.year == 9999
    store.lift_ended_holds()
    assert claim(store) == []
    sql("DELETE FROM PROCESSING_HOLDS")
    assert len(claim(store)) == 1


def test_an_entry_tells_its_age_when_it_is_claimed(sql, store):
    insert(sql, "{}")
    sql("UPDATE PROCESSING_QUEUE SET created_at = DATEADD('minute', -5, SYSDATE())")
    (entry,) = claim(store)
    assert 299 <= entry.age_s <= 310


def death(processor="dev-1", **changes):
    return Death(processor_id=processor, reason="the task has stopped: exit code 137", **changes)


def test_the_holders_are_told_with_what_they_hold_and_since_when(sql, store):
    insert(sql, "1", "2", "3")
    claim(store, 2, token="a", processor="dev-1")
    claim(store, 1, token="b", processor="dev-2")
    holders = {holder.processor_id: holder for holder in store.holders()}
    assert {name: holder.entries for name, holder in holders.items()} == {"dev-1": 2, "dev-2": 1}
    assert holders["dev-1"].earliest_claimed_at <= holders["dev-2"].earliest_claimed_at
    store.release_dead([death("dev-1"), death("dev-2")])
    assert store.holders() == []


def test_what_a_dead_worker_held_is_given_back_without_a_retry_and_nobody_elses(sql, store):
    insert(sql, "1", "2", "3")
    held = claim(store, 2, token="a", processor="dev-1")
    (other,) = claim(store, 1, token="b", processor="dev-2")
    store.record_deaths([death()])
    assert store.release_dead([death()]) == 2
    assert state(sql, "status", "retry_count", "crash_count") == [
        ("pending", 0, 0),
        ("pending", 0, 0),
        ("processing", 0, 0),
    ]
    assert store.release_dead([death()]) == 0, "again changes nothing"
    assert store.settle([completed(entry) for entry in held], [], processor_id="dev-1") == {e.id for e in held}
    assert store.settle([completed(other)], [], processor_id="dev-2") == frozenset()


def test_the_audit_trail_says_how_a_worker_died_once_and_not_over_what_it_has_recorded_itself(sql, store):
    insert(sql, "1", "2")
    first, _second = claim(store, 2)
    store.settle([], [attempt(first)], processor_id="dev-1")  # it had recorded the attempt, and not settled it
    for _ in range(2):
        store.record_deaths([death(crashed=True)])
    rows = sql("SELECT outcome, attempt, processor_id, error_message FROM PROCESSING_ATTEMPTS ORDER BY entry_id")
    assert [tuple(row) for row in rows] == [
        ("succeeded", 1, "dev-1", None),
        ("crashed", 1, "dev-1", "the task has stopped: exit code 137"),
    ]


def test_what_may_have_killed_a_worker_is_claimed_by_one_that_holds_nothing_and_with_no_others(sql, store):
    insert(sql, "1", "2", "3", "4", "5", "6")
    claim(store, 4)
    store.release_dead([death(crashed=True)])
    assert state(sql, "crash_count") == [1, 1, 1, 1, 0, 0]
    more = {"processor_id": "dev-2", "characters": BIG, "suspects": 3}
    busy = store.claim(claim_token="a", entries=9, holds_nothing=False, **more)
    assert [entry.data for entry in busy] == ["5", "6"], "a worker that holds something gets none of them"
    insert(sql, "7")
    suspects = store.claim(claim_token="b", entries=9, **more)
    assert [(entry.data, entry.is_suspect) for entry in suspects] == [("1", True), ("2", True), ("3", True)]
    assert [entry.data for entry in store.claim(claim_token="c", entries=9, **more)] == ["4"], "and not the 7 with it"
    insert(sql, "8", crash_count=1)
    assert [entry.data for entry in claim(store, 9, token="d")] == ["7"], "a block ends before the next of them"


def test_what_may_have_killed_two_workers_is_claimed_alone(sql, store):
    insert(sql, "1", "2", crash_count=2)
    insert(sql, "3", crash_count=1)
    insert(sql, "4", crash_count=2)
    taken = [
        store.claim(processor_id="dev-2", claim_token=token, entries=9, characters=BIG, suspects=3) for token in "abcd"
    ]
    assert [[entry.data for entry in block] for block in taken] == [["1"], ["2"], ["3"], ["4"]]


def test_a_probe_takes_one_suspect(sql, store):
    insert(sql, "1", "2", crash_count=1)
    assert len(store.claim(processor_id="p", claim_token="t", entries=1, characters=BIG, suspects=1, probe=True)) == 1


def test_an_entry_that_workers_keep_dying_on_alone_is_failed_as_poison(sql, store):
    insert(sql, "poison")
    for crashes in (1, 2):
        claim(store, token=f"t{crashes}")
        assert store.fail_poison([death(crashed=True, alone=True)], max_crashes=2) == 0
        assert store.release_dead([death(crashed=True, alone=True)]) == 1
        assert state(sql, "status", "crash_count") == [("pending", crashes)]
    claim(store, token="t3")
    assert store.fail_poison([death(crashed=True, alone=True)], max_crashes=2) == 1
    assert store.release_dead([death(crashed=True, alone=True)]) == 0
    ((status, crashes, told, failed_at),) = state(sql, "status", "crash_count", "error_message", "failed_at")
    assert (status, crashes) == ("failed", 3)
    assert told.startswith("poison: 3 workers have died holding it; the last: the task has stopped")
    assert failed_at is not None


def test_what_a_worker_could_deliver_and_not_record_counts_as_a_retry_and_ends_with_the_attempts(sql, store):
    insert(sql, "1")
    insert(sql, "2", retry_count=2)
    claim(store)
    assert store.release_dead([death(counted=True)]) == 2
    told = "the task has stopped: exit code 137"
    assert state(sql, "status", "retry_count", "crash_count", "error_message") == [
        ("pending", 1, 0, told),
        ("failed", 3, 0, told),
    ]


def test_a_row_that_was_set_to_processing_by_hand_is_seen_and_reset(sql, store):
    insert(sql, "1")
    sql("UPDATE PROCESSING_QUEUE SET status = 'processing', available_at = DATEADD('minute', -31, SYSDATE())")
    assert store.pulse().earliest_claimed_at is not None
    assert store.reset_stale(stale_threshold_s=1800) == 1
    assert state(sql, "status", "retry_count") == [("pending", 1)]


def test_suspects_are_not_ready_for_a_worker_that_holds_something(sql, store):
    insert(sql, "1", crash_count=1)
    insert(sql, "2")
    ready = store.count_ready()
    assert (ready.for_worker(holds_nothing=True), ready.for_worker(holds_nothing=False)) == (2, 1)


def test_without_a_death_alone_nothing_is_asked_of_snowflake(store):
    assert store.fail_poison([], max_crashes=2) == 0


def test_a_reset_leaves_a_line_in_the_audit_trail_also_for_a_row_that_nobody_claimed(sql, store):
    insert(sql, "1", "2")
    claim(store, 1)
    sql("UPDATE PROCESSING_QUEUE SET status = 'processing' WHERE data = '2'")  # by hand
    sql("UPDATE PROCESSING_QUEUE SET claimed_at = DATEADD('minute', -31, SYSDATE())")
    assert store.reset_stale(stale_threshold_s=1800) == 2
    rows = sql("SELECT outcome, processor_id, claim_token FROM PROCESSING_ATTEMPTS ORDER BY entry_id")
    assert [tuple(row) for row in rows] == [("reset", "dev-1", "token"), ("reset", "unknown", "none")]


def test_what_tasks_took_of_late_is_the_median_of_those_that_ended_within_the_hour(sql, store):
    assert store.recent_take() is None
    for number, taken in enumerate((0, 10, 30, 500)):
        store.record_end(processor_id=f"dev-{number}", entries=taken, seconds=1.0, reason="x")
    store.record_first_claim(processor_id="dev-9", entries=8)
    assert store.recent_take() == 30
    sql("UPDATE PROCESSORS SET recorded_at = DATEADD('minute', -61, SYSDATE()) WHERE entries = 500")
    assert store.recent_take() == 20
