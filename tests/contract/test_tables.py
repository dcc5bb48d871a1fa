"""The tables, the views, and the poller's statements. A processor's statements are in test_queue.py."""

from __future__ import annotations

import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from queue_contract import attempt, retried, settlement, started

from rowqueue.errors import StatementRefused
from rowqueue.lifecycle import Status
from rowqueue.poller.records import Death
from rowqueue.processor.queue import ClaimRequest
from rowqueue.processor.store import ProcessorStore
from rowqueue.settings import SnowflakeSettings

BIG = 10**9
MONITORING = (Path(__file__).parents[2] / "snowflake" / "03_monitoring_views.sql").read_text(encoding="utf-8")


def test_the_contract_is_run_on_a_real_account():
    if not any(name.startswith("CONTRACT_SNOWFLAKE_") for name in os.environ):
        pytest.skip("no real account: set CONTRACT_SNOWFLAKE_ACCOUNT, _USER, _PASSWORD, _WAREHOUSE and _DATABASE")


def claim(workers, entries=100, *, token="token", processor="dev-1", **more):
    return workers(processor).claim(ClaimRequest(token=token, entries=entries, characters=BIG, **more))


def insert(sql, *data, **columns):
    names, values = ", ".join(["data", *columns]), list(columns.values())
    for item in data:
        marks = ", ".join("?" * (1 + len(values)))
        sql(f"INSERT INTO PROCESSING_QUEUE ({names}) VALUES ({marks})", item, *values)


def state(sql, *columns):
    rows = sql(f"SELECT {', '.join(columns)} FROM PROCESSING_QUEUE ORDER BY id")
    return [row[0] for row in rows] if len(columns) == 1 else [tuple(row) for row in rows]


def test_an_insert_of_data_is_enough_for_a_claim(sql, poller, workers):
    sql("""INSERT INTO PROCESSING_QUEUE (data) VALUES ('{"type": "new_type", "payload": {"a": 1}}')""")
    assert poller.count_ready() == 1
    (entry,) = claim(workers)
    assert json.loads(entry.data) == {"type": "new_type", "payload": {"a": 1}}
    assert len(entry.idempotency_key) == 36
    assert (entry.retry_count, entry.max_retries, entry.claim_token) == (0, None, "token")


def test_every_column_with_a_default_gets_it_in_an_insert(sql):
    insert(sql, "{}")
    (row,) = state(sql, "status", "priority", "retry_count", "max_retries", "crash_count", "claimed_at", "completed_at")
    assert row == ("pending", 0, 0, None, 0, None, None)
    ((utc_now,),) = sql("SELECT ABS(DATEDIFF('second', available_at, SYSDATE())) FROM PROCESSING_QUEUE")
    assert utc_now < 60


def test_the_pulse_of_an_empty_queue_is_zero(poller):
    pulse = poller.pulse()
    assert (pulse.pending, pulse.processing, pulse.unknown) == (0, 0, 0)
    assert pulse.earliest_available_at is None
    assert pulse.earliest_claimed_at is None


def test_the_pulse_has_counts_and_the_earliest_times(sql, poller, workers):
    insert(sql, "{}", "{}", "{}")
    sql("UPDATE PROCESSING_QUEUE SET status = 'on hold' WHERE id = (SELECT MAX(id) FROM PROCESSING_QUEUE)")
    claim(workers, 1)
    pulse = poller.pulse()
    assert (pulse.pending, pulse.processing, pulse.unknown) == (1, 1, 1)
    assert pulse.earliest_claimed_at >= pulse.earliest_available_at


def test_the_pulse_has_entries_that_no_program_serves_and_those_that_a_person_cancelled(sql, poller):
    insert(sql, "1", "2", destination="acme")
    insert(sql, "3", destination="beta")
    insert(sql, "4", destination="beta", cancel_requested=True)
    insert(sql, "5", cancel_requested=True, retry_count=3)
    insert(sql, "6")
    pulse = poller.pulse()
    assert (pulse.pending, pulse.exhausted, pulse.unknown, pulse.cancels) == (1, 0, 0, 2)
    assert (pulse.unserved, pulse.unserved_destination) == (3, "acme")


def test_the_pulse_has_the_hold_that_ends_last_the_oldest_fence_and_the_versions(sql, poller):
    pulse = poller.pulse()
    assert (pulse.holds, pulse.hold_kind, pulse.fenced_since) == (0, None, None)
    assert (pulse.version, pulse.oldest_program) == (1, 1)
    for kind, scope, hours in (("credentials", "default", 1), ("person", "*", 2), ("person", "acme", 9)):
        sql(
            "INSERT INTO PROCESSING_HOLDS (kind, scope, reason, created_by, until_at)"
            " SELECT ?, ?, ?, 'me', DATEADD('hour', ?, SYSDATE())",
            kind,
            scope,
            f"{kind} {scope}",
            hours,
        )
    pulse = poller.pulse()
    assert (pulse.holds, pulse.hold_kind, pulse.hold_reason, pulse.fenced_since) == (2, "person", "person *", None)
    sql("INSERT INTO PROCESSING_HOLDS (kind, reason, created_by) VALUES ('fence', 'version 2', 'me')")
    sql("INSERT INTO SCHEMA_VERSION (version, oldest_program, applied_by) VALUES (3, 2, 'me')")
    pulse = poller.pulse()
    assert (pulse.holds, pulse.hold_kind, pulse.hold_reason) == (3, "fence", "version 2")
    ((since,),) = sql("SELECT created_at FROM PROCESSING_HOLDS WHERE kind = 'fence'")
    assert pulse.fenced_since == since
    assert (pulse.version, pulse.oldest_program) == (3, 2)


def test_times_after_the_year_9999_do_not_end_the_pulse(sql, poller):
    insert(sql, "1")
    sql("UPDATE PROCESSING_QUEUE SET available_at = DATEADD('year', 20000, SYSDATE())")
    sql(
        "INSERT INTO PROCESSING_HOLDS (reason, created_by, until_at)"
        " SELECT 'maintenance', 'me', DATEADD('year', 20000, SYSDATE())"
    )
    pulse = poller.pulse()
    assert (pulse.holds, pulse.hold_reason, pulse.pending) == (1, "maintenance", 1)
    assert pulse.held_until.year == pulse.earliest_available_at.year == 9999


def test_exhausted_entries_of_another_destination_and_cancelled_ones_are_not_failed(sql, poller):
    insert(sql, "1", retry_count=3, cancelled_by="me", cancel_reason="why")
    insert(sql, "2", retry_count=3, destination="acme")
    insert(sql, "3", retry_count=3, cancel_requested=True)
    assert poller.fail_exhausted() == 1
    assert state(sql, "status") == ["failed", "pending", "pending"]
    assert state(sql, "cancelled_by", "cancel_reason")[0] == (None, None)


def test_pending_entries_whose_cancel_was_requested_are_cancelled_whatever_their_destination(sql, poller, workers):
    insert(sql, "1")
    assert claim(workers)
    insert(sql, "2", cancel_requested=True)
    insert(sql, "3", cancel_requested=True, destination="acme", cancelled_by="me", cancel_reason="why")
    insert(sql, "4")
    sql("UPDATE PROCESSING_QUEUE SET updated_at = '2000-01-01', cancel_requested = cancel_requested OR data = '1'")
    assert poller.end_cancelled() == poller.pulse().cancels + 2 == 2
    assert state(sql, "status") == ["processing", "cancelled", "cancelled", "pending"]
    times = state(sql, "cancelled_at", "updated_at > '2001-01-01'")
    assert [(at is not None, updated) for at, updated in times] == [(False, False), *[(True, True)] * 2, (False, False)]


def test_what_the_poller_records_and_changes_has_the_attempts_number_and_the_time(sql, poller, workers):
    insert(sql, "1", "2", "3", earlier_attempts=4, retry_count=1, crash_count=1)
    (one, *_) = [claim(workers, 1, token=f"{n}", processor=f"dev-{n}", suspects=1) for n in (1, 2, 3)]
    assert [entry.attempt for entry in one] == [6]
    sql("UPDATE PROCESSING_QUEUE SET updated_at = '1970-01-01 00:00:00'::TIMESTAMP_NTZ")
    deaths = [Death(processor_id=f"dev-{n}", reason="exit code 137", crashed=True) for n in (1, 2)]
    poller.record_deaths(deaths)
    assert poller.fail_poison(deaths[:1], max_crashes=1) == 1
    assert poller.release_dead(deaths) == 1
    sql("UPDATE PROCESSING_QUEUE SET claimed_at = DATEADD('hour', -1, SYSDATE()) WHERE status = 'processing'")
    assert poller.reset_stale(stale_threshold_s=1800) == 1
    assert {tuple(row) for row in sql("SELECT outcome, attempt FROM PROCESSING_ATTEMPTS")} == {
        ("crashed", 6),
        ("reset", 6),
    }
    ((oldest,),) = sql("SELECT MAX(DATEDIFF('second', updated_at, SYSDATE())) FROM PROCESSING_QUEUE")
    assert oldest < 60


def test_many_claims_at_once_take_every_entry_exactly_once(environ, sql, warehouses):
    insert(sql, *["{}"] * 60)
    table = SnowflakeSettings.from_env(environ).table
    stores = [
        ProcessorStore(warehouses(), queue=table, processor_id=f"dev-{number}", max_retries=3) for number in range(6)
    ]

    def work(number):
        taken = []
        while stores[number].count_ready().entries:
            taken += stores[number].claim(ClaimRequest(token=f"{number}-{len(taken)}", entries=4, characters=BIG))
        return [entry.id for entry in taken]

    with ThreadPoolExecutor(6) as pool:
        ids = [entry_id for taken in pool.map(work, range(6)) for entry_id in taken]
    assert len(ids) == len(set(ids)) == 60


def test_only_stale_claims_are_reset_and_it_counts_as_a_retry(sql, poller, workers):
    insert(sql, "1", "2", "3")
    sql("UPDATE PROCESSING_QUEUE SET retry_count = 2 WHERE data = '2'")
    claim(workers)
    sql("UPDATE PROCESSING_QUEUE SET claimed_at = DATEADD('minute', -31, SYSDATE()) WHERE data <> '3'")
    assert poller.reset_stale(stale_threshold_s=1800) == 2
    assert state(sql, "status", "retry_count", "processor_id", "error_message") == [
        ("pending", 1, None, "no answer from dev-1 within the stale threshold"),
        ("failed", 3, None, "no answer from dev-1 within the stale threshold, and no attempts left"),
        ("processing", 0, "dev-1", None),
    ]


def test_a_worker_with_a_long_name_does_not_stop_the_reset_of_others(sql, poller):
    insert(sql, "1", "2")
    sql("UPDATE PROCESSING_QUEUE SET status = 'processing', available_at = DATEADD('hour', -1, SYSDATE())")
    sql("UPDATE PROCESSING_QUEUE SET processor_id = ?, retry_count = 2 WHERE data = '1'", "x" * 2000)
    assert poller.reset_stale(stale_threshold_s=1800) == 2
    assert state(sql, "status", "error_message") == [
        ("failed", f"no answer from {'x' * 200} within the stale threshold, and no attempts left"),
        ("pending", "no answer from an unknown worker within the stale threshold"),
    ]


def test_a_worker_whose_claim_was_reset_cannot_settle_it(sql, poller, workers):
    insert(sql, "{}")
    (entry,) = claim(workers)
    sql("UPDATE PROCESSING_QUEUE SET claimed_at = DATEADD('hour', -1, SYSDATE())")
    poller.reset_stale(stale_threshold_s=1800)
    again = retried(entry)
    assert workers().settle([again], []) == {entry.id}
    assert state(sql, "status", "retry_count") == [("pending", 1)]


def test_a_processor_is_seen_after_its_first_claim(poller, workers):
    assert poller.processors_seen(["dev-1", "dev-2"]) == frozenset()
    workers().record_first_claim(entries=0)
    assert poller.processors_seen(["dev-1", "dev-2"]) == {"dev-1"}
    workers().record_end(entries=0, seconds=1.5, reason="nothing is ready")
    assert poller.processors_seen(["dev-1"]) == {"dev-1"}


class TestReplacedAndDroppedTables:
    """Tests that replace or drop tables and views."""

    @pytest.fixture
    def environ(self, fresh_schema):
        return fresh_schema

    def test_the_scripts_run_again_without_touching_a_row(self, sql, run_script):
        insert(sql, "{}")
        for script in ("01_create_table.sql", "03_monitoring_views.sql", "02_sample_data.sql", "02_sample_data.sql"):
            run_script(script)
        assert len(state(sql, "id")) == 6, "one of ours and five samples, not ten"

    def test_a_missing_table_is_named(self, sql, poller):
        sql("DROP TABLE PROCESSING_QUEUE")
        with pytest.raises(StatementRefused, match="PROCESSING_QUEUE"):
            poller.pulse()


VIEWS = re.findall(r"^CREATE OR REPLACE (?:SECURE )?VIEW (\w+)", MONITORING, re.MULTILINE)


def test_every_view_answers_on_an_empty_queue_and_on_one_with_every_status(sql, workers):
    assert len(VIEWS) == 8
    for view in VIEWS:
        sql(f"SELECT * FROM {view}")
    insert(sql, "1", "2", "3", "4")
    one, two, three = claim(workers, 3)
    failed = settlement(two, Status.FAILED, counted=True, error_message="the service answered 400", response_status=400)
    workers().settle(*started([settlement(one), failed]))
    workers().record_end(entries=2, seconds=2.0, reason="nothing is ready")
    sql("UPDATE PROCESSING_QUEUE SET claimed_at = DATEADD('minute', -31, SYSDATE()) WHERE id = ?", three.id)
    rows = {view: [tuple(row) for row in sql(f"SELECT * FROM {view}")] for view in VIEWS}
    assert all(rows.values())
    assert {row[:2] for row in rows["QUEUE_STATUS_SUMMARY"]} == {
        ("completed", 1),
        ("failed", 1),
        ("processing", 1),
        ("pending", 1),
    }
    assert rows["FAILED_ENTRIES_ANALYSIS"][0][:5] == ("default", 400, "the service answered #", None, 1)
    assert rows["PROCESSOR_PERFORMANCE"][0][:4] == ("dev-1", 2, 1, 0)


def test_the_view_of_stale_entries_uses_the_threshold_of_the_programs(sql, environ, warehouses, workers):
    for minutes in (9, 11, 29, 31):
        insert(sql, "{}", status="processing", reference=f"{minutes}")
    sql("UPDATE PROCESSING_QUEUE SET claimed_at = DATEADD('minute', -reference::NUMBER(38, 0), SYSDATE())")

    def stale():
        return {int(reference) for (reference,) in sql("SELECT reference FROM STALE_ENTRIES")}

    workers().record_first_claim(entries=0)
    assert stale() == {31}, "the default"
    table, warehouse = SnowflakeSettings.from_env(environ).table, warehouses()
    for seconds, expected in ((600.0, {11, 29, 31}), (10.5, {9, 11, 29, 31}), (1800.0, {31})):
        store = ProcessorStore(warehouse, queue=table, processor_id="dev-1", max_retries=3, stale_threshold_s=seconds)
        store.record_first_claim(entries=0)
        assert stale() == expected


def test_pending_entries_without_attempts_left_are_counted_apart_and_failed_with_advice(sql, poller):
    insert(sql, "fine")
    insert(sql, "used up", retry_count=3, error_message="503")
    insert(sql, "none from the start", max_retries=0)
    pulse = poller.pulse()
    assert (pulse.pending, pulse.exhausted) == (1, 2)
    assert poller.fail_exhausted() == 2
    message = "no attempts left; REQUEUE_ENTRIES gives new ones"
    assert state(sql, "status", "error_message") == [
        ("pending", None),
        ("failed", f"503; {message}"),
        ("failed", message),
    ]
    assert poller.pulse().exhausted == 0


def test_while_a_hold_stands_nothing_is_ready_and_nothing_is_claimed_not_even_by_a_probe(sql, poller, workers):
    insert(sql, "{}")
    workers().place_hold(reason="the service answered 401", seconds=60)
    for probe in (False, True):
        assert poller.count_ready(probe=probe) == 0
        assert claim(workers, 9, probe=probe) == []
    pulse = poller.pulse()
    assert (pulse.holds, pulse.hold_reason) == (1, "the service answered 401")
    assert pulse.held_until is not None


def test_after_a_hold_has_ended_only_a_probe_claims_until_it_is_lifted(sql, poller, workers):
    insert(sql, "1", "2")
    workers().place_hold(reason="x", seconds=60)
    sql("UPDATE PROCESSING_HOLDS SET until_at = DATEADD('second', -1, SYSDATE())")
    assert poller.count_ready() == 0
    assert claim(workers, token="a") == []
    assert poller.count_ready(probe=True) == 2
    assert len(claim(workers, 1, token="b", probe=True)) == 1
    workers().lift_ended_holds()
    assert poller.pulse().holds == 0
    assert len(claim(workers, token="c")) == 1


def test_a_persons_hold_without_an_end_stands_until_it_is_deleted(sql, poller, workers):
    insert(sql, "{}")
    sql("INSERT INTO PROCESSING_HOLDS (reason, created_by) VALUES ('maintenance at the partner', 'me')")
    assert claim(workers) == []
    assert poller.pulse().held_until.year == 9999
    workers().lift_ended_holds()
    assert claim(workers) == []
    sql("DELETE FROM PROCESSING_HOLDS")
    assert len(claim(workers)) == 1


def death(processor="dev-1", **changes):
    return Death(processor_id=processor, reason="the task has stopped: exit code 137", **changes)


def test_the_workers_with_claims_are_listed_with_their_entries_and_times(sql, poller, workers):
    insert(sql, "1", "2", "3")
    claim(workers, 2, token="a", processor="dev-1")
    claim(workers, 1, token="b", processor="dev-2")
    claimants = {claimant.processor_id: claimant for claimant in poller.claimants()}
    assert {name: claimant.entries for name, claimant in claimants.items()} == {"dev-1": 2, "dev-2": 1}
    assert claimants["dev-1"].earliest_claimed_at <= claimants["dev-2"].earliest_claimed_at
    poller.release_dead([death("dev-1"), death("dev-2")])
    assert poller.claimants() == []


def test_the_copies_of_a_row_are_one_entry_of_their_worker(sql, poller, workers):
    insert(sql, "1", "1", id=7, idempotency_key="one")
    claim(workers)
    assert [claimant.entries for claimant in poller.claimants()] == [1]
    insert(sql, "2", id=7, idempotency_key="two")
    claim(workers)
    assert [claimant.entries for claimant in poller.claimants()] == [2], "another key is another entry"


def test_what_a_dead_worker_had_in_hand_is_released_without_a_retry_and_nothing_else(sql, poller, workers):
    insert(sql, "1", "2", "3")
    in_hand = claim(workers, 2, token="a", processor="dev-1")
    (other,) = claim(workers, 1, token="b", processor="dev-2")
    poller.record_deaths([death()])
    assert poller.release_dead([death()]) == 2
    assert state(sql, "status", "retry_count", "crash_count") == [
        ("pending", 0, 0),
        ("pending", 0, 0),
        ("processing", 0, 0),
    ]
    assert poller.release_dead([death()]) == 0, "again changes nothing"
    assert workers().settle([settlement(entry) for entry in in_hand], []) == {e.id for e in in_hand}
    assert workers("dev-2").settle([settlement(other)], []) == frozenset()


def test_a_death_is_recorded_once_and_not_for_attempts_that_the_worker_recorded_itself(sql, poller, workers):
    insert(sql, "1", "2")
    first, _second = claim(workers, 2)
    workers().settle([], [attempt(settlement(first))])  # it had recorded the attempt, and not settled it
    for _ in range(2):
        poller.record_deaths([death(crashed=True)])
    rows = sql("SELECT outcome, attempt, processor_id, error_message FROM PROCESSING_ATTEMPTS ORDER BY entry_id")
    assert [tuple(row) for row in rows] == [
        ("succeeded", 1, "dev-1", None),
        ("crashed", 1, "dev-1", "the task has stopped: exit code 137"),
    ]


def test_suspects_are_claimed_by_a_worker_with_nothing_in_hand_and_without_other_entries(sql, poller, workers):
    insert(sql, "1", "2", "3", "4", "5", "6")
    claim(workers, 4)
    poller.release_dead([death(crashed=True)])
    assert state(sql, "crash_count") == [1, 1, 1, 1, 0, 0]
    more = {"processor": "dev-2", "suspects": 3}
    busy = claim(workers, 9, token="a", nothing_in_hand=False, **more)
    assert [entry.data for entry in busy] == ["5", "6"], "a worker with entries in hand gets none of them"
    insert(sql, "7")
    suspects = claim(workers, 9, token="b", **more)
    assert [(entry.data, entry.is_suspect) for entry in suspects] == [("1", True), ("2", True), ("3", True)]
    assert [entry.data for entry in claim(workers, 9, token="c", **more)] == ["4"], "and not the 7 with it"
    insert(sql, "8", crash_count=1)
    assert [entry.data for entry in claim(workers, 9, token="d")] == ["7"], "a block ends before the next of them"


def test_an_entry_that_crashes_workers_alone_is_failed_as_poison(sql, poller, workers):
    insert(sql, "poison")
    for crashes in (1, 2):
        claim(workers, token=f"t{crashes}")
        assert poller.fail_poison([death(crashed=True, alone=True)], max_crashes=2) == 0
        assert poller.release_dead([death(crashed=True, alone=True)]) == 1
        assert state(sql, "status", "crash_count") == [("pending", crashes)]
    claim(workers, token="t3")
    sql("UPDATE PROCESSING_QUEUE SET cancel_requested = TRUE, cancelled_by = 'me', cancel_reason = 'too late'")
    assert poller.fail_poison([death(crashed=True, alone=True)], max_crashes=2) == 1
    assert state(sql, "cancel_requested", "cancelled_by", "cancel_reason") == [(False, None, None)]
    assert poller.release_dead([death(crashed=True, alone=True)]) == 0
    ((status, crashes, message, failed_at),) = state(sql, "status", "crash_count", "error_message", "failed_at")
    assert (status, crashes) == ("failed", 3)
    assert message.startswith("poison: 3 workers have died on it; the last: the task has stopped")
    assert failed_at is not None


def test_an_entry_with_a_copy_is_failed_as_poison_with_its_copy(sql, poller, workers):
    insert(sql, "1", "2", id=7, idempotency_key="key", crash_count=2)
    claim(workers)
    sql("UPDATE PROCESSING_QUEUE SET crash_count = 0 WHERE data = '2'")
    assert poller.fail_poison([death(crashed=True, alone=True)], max_crashes=2) == 2
    assert state(sql, "status") == ["failed", "failed"]


def test_the_release_of_what_a_worker_may_have_delivered_unrecorded_counts_as_a_retry(sql, poller, workers):
    insert(sql, "1")
    insert(sql, "2", retry_count=2)
    claim(workers)
    assert poller.release_dead([death(counted=True)]) == 2
    message = "the task has stopped: exit code 137"
    assert state(sql, "status", "retry_count", "crash_count", "error_message") == [
        ("pending", 1, 0, message),
        ("failed", 3, 0, message),
    ]


def test_a_row_that_a_person_set_to_processing_is_seen_and_reset(sql, poller):
    insert(sql, "1")
    sql("UPDATE PROCESSING_QUEUE SET status = 'processing', available_at = DATEADD('minute', -31, SYSDATE())")
    assert poller.pulse().earliest_claimed_at is not None
    assert poller.reset_stale(stale_threshold_s=1800) == 1
    assert state(sql, "status", "retry_count") == [("pending", 1)]


def test_without_a_worker_that_died_on_one_entry_no_statement_is_sent(poller):
    assert poller.fail_poison([], max_crashes=2) == 0


def test_a_reset_is_in_the_audit_trail_also_for_a_row_that_no_worker_claimed(sql, poller, workers):
    insert(sql, "1", "2")
    claim(workers, 1)
    sql("UPDATE PROCESSING_QUEUE SET status = 'processing' WHERE data = '2'")  # by hand
    sql("UPDATE PROCESSING_QUEUE SET claimed_at = DATEADD('minute', -31, SYSDATE())")
    assert poller.reset_stale(stale_threshold_s=1800) == 2
    rows = sql("SELECT outcome, processor_id, claim_token FROM PROCESSING_ATTEMPTS ORDER BY entry_id")
    assert [tuple(row) for row in rows] == [("reset", "dev-1", "token"), ("reset", "unknown", "none")]


def test_the_recent_take_is_the_median_of_tasks_that_ended_within_the_hour(sql, poller, workers):
    assert poller.recent_take() is None
    for number, taken in enumerate((0, 10, 30, 500)):
        workers(f"dev-{number}").record_end(entries=taken, seconds=1.0, reason="x")
    workers("dev-9").record_first_claim(entries=8)
    assert poller.recent_take() == 30
    sql("UPDATE PROCESSORS SET recorded_at = DATEADD('minute', -61, SYSDATE()) WHERE entries = 500")
    assert poller.recent_take() == 20
