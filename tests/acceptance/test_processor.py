"""container/processor.py as a process: what it does when it is asked to stop, killed, or can not start."""

from __future__ import annotations

import json
import signal
import time

import pytest

from rowqueue_local import authority, deployment


def counts(sql):
    return dict(sql("SELECT status, COUNT(*) FROM PROCESSING_QUEUE GROUP BY status"))


def processing(sql):
    return counts(sql).get("processing", 0)


@pytest.fixture
def held(sql, wait_until):
    """Waits until so many entries are held by a worker."""
    return lambda count: wait_until(lambda: processing(sql) >= count)


def test_it_delivers_what_is_ready_and_ends_with_0(sql, insert, processor):
    insert(30)
    with processor() as process:
        assert process.wait(30) == 0
    assert counts(sql) == {"completed": 30}
    results = sql("SELECT response_status, result, processor_id, error_message FROM PROCESSING_QUEUE LIMIT 1")
    assert results[0][0] == 200
    assert json.loads(results[0][1])["accepted"] is True
    assert results[0][2:] == ("dev-test", None)
    assert sql("SELECT event, entries, reason FROM PROCESSORS ORDER BY recorded_at") == [
        ("first_claim", 8, None),
        ("ended", 30, "nothing is ready"),
    ]
    assert sql("SELECT COUNT(*), MIN(outcome), MAX(attempt) FROM PROCESSING_ATTEMPTS") == [(30, "succeeded", 1)]


def test_its_log_is_json_lines_with_stable_names(insert, processor):
    insert(3)
    with processor() as process:
        process.wait(30)
        events = [json.loads(line)["event"] for line in process.log().splitlines()]
    assert events[:2] == ["certificate_checked", "processor_started"]
    assert events[-1] == "processor_ended"
    assert {"block_claimed", "block_settled"} <= set(events)


def test_sigterm_in_the_middle_settles_what_finished_releases_what_did_not_start(sql, insert, processor, held):
    insert(20, delay_ms=1500)
    with processor(MAX_ENTRIES="20", MAX_CONCURRENT_DELIVERIES="5") as process:
        held(20)
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        asked = time.monotonic()
        assert process.wait(20) == 0
        assert time.monotonic() - asked < 5
    assert counts(sql) == {"completed": 5, "pending": 15}
    untouched = sql(
        "SELECT COUNT(*), SUM(retry_count), COUNT(processor_id) FROM PROCESSING_QUEUE WHERE status = 'pending'"
    )
    assert untouched == [(15, 0, 0)], "an interruption costs no retry"
    assert sql("SELECT COUNT(*) FROM PROCESSING_ATTEMPTS") == [(5,)], "and no attempt"
    assert sql("SELECT reason FROM PROCESSORS WHERE event = 'ended'") == [("stop requested",)]


@pytest.mark.parametrize("after_s", [0.5, 0.8, 1.1])
def test_a_stop_that_comes_while_it_starts_costs_nothing_either(sql, insert, processor, after_s):
    insert(20, delay_ms=100)
    with processor() as process:
        time.sleep(after_s)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) in {0, -signal.SIGTERM}, process.log()  # the latter before it has got to main()
    assert not processing(sql)
    assert sql("SELECT SUM(retry_count) FROM PROCESSING_QUEUE") == [(0,)]


# A processor that hangs to order, with every part of its longest life but the budget taken away.
HANGING = """
import asyncio, sys
from rowqueue import settings
settings.LOCK_TIMEOUT_S = settings.STATEMENT_TIMEOUT_S = settings.SETTLE_PATIENCE_S = 0
import processor
async def hang(self):
    await asyncio.sleep(3600)
processor.Processor.run = hang
sys.exit(processor.main())
"""


def test_the_watchdog_ends_what_hangs_with_1_and_the_stacks_of_all_threads(processor):
    hanging = {"CONTAINER_TIMEOUT_SECONDS": "1", "SERVICE_TIMEOUT_SECONDS": "0.1"}
    with processor(["-c", HANGING], PYTHONPATH="container", **hanging) as process:
        assert process.wait(15) == 1
        assert "Timeout (0:00:01.1" in process.log()
        assert "most recent call first" in process.log()


def test_what_is_not_done_within_the_grace_is_released_too(sql, insert, processor, held):
    insert(4, delay_ms=20_000)
    with processor(STOP_GRACE_SECONDS="0.3") as process:
        held(4)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert counts(sql) == {"pending": 4}


def test_after_sigkill_in_the_middle_the_poller_resets_the_claims_and_nothing_is_lost(
    sql, insert, processor, held, tick, wait_until
):
    insert(10, delay_ms=3000, first=1)
    with processor(MAX_ENTRIES="10") as process:
        held(10)
        process.kill()
        assert process.wait(10) == -signal.SIGKILL
    assert counts(sql) == {"processing": 10}
    assert wait_until(lambda: tick()["staleEntriesReset"]) == 10
    wait_until(lambda: counts(sql) == {"completed": 10}, seconds=30)
    assert sql("SELECT DISTINCT retry_count FROM PROCESSING_QUEUE") == [(1,)], "a stale reset counts as a retry"


def test_a_credentials_stop_holds_the_queue_and_a_probe_lets_it_go_on(
    deployed, sql, insert, processor, tick, wait_until
):
    insert(6, status=401, first=1)
    with processor(HOLD_SECONDS="3", MAX_CONCURRENT_DELIVERIES="6") as process:
        assert process.wait(20) == 4
        told = json.loads(process.log().splitlines()[-1])
    assert told["error"] == "the service answered 401 Unauthorized"
    assert counts(sql) == {"pending": 6}
    assert sql("SELECT SUM(retry_count) FROM PROCESSING_QUEUE") == [(0,)], "it is no entry's fault"
    assert sql("SELECT reason, created_by FROM PROCESSING_HOLDS") == [(told["error"], "dev-test")]

    assert tick()["containersLaunched"] == 0, "while the hold stands nothing is launched"
    sql("UPDATE PROCESSING_HOLDS SET until_at = SYSDATE()")
    assert tick()["containersLaunched"] == 1, "then one task probes, though more would be needed"
    wait_until(lambda: sql("SELECT COUNT(*) FROM PROCESSING_HOLDS") == [(0,)])
    assert counts(sql) == {"completed": 1, "pending": 5}
    wait_until(lambda: tick()["containersLaunched"])
    wait_until(lambda: counts(sql) == {"completed": 6}, seconds=30)


def test_entries_of_every_kind_end_as_they_should_and_harm_no_neighbour(sql, insert, processor):
    insert(5)
    insert(1, status=400)
    insert(1, status=503)
    insert(1, status=500, first=1)
    insert(1, hang_up=True, first=1)
    sql("INSERT INTO PROCESSING_QUEUE (data) SELECT 'not JSON'")
    for _ in range(3):
        with processor(RETRY_BACKOFF_SECONDS="0") as process:
            assert process.wait(30) == 0
    assert counts(sql) == {"completed": 7, "failed": 3}
    reasons = [
        reason for (reason,) in sql("SELECT error_message FROM PROCESSING_QUEUE WHERE status = 'failed' ORDER BY id")
    ]
    assert reasons == [
        "the service answered 400 Bad Request",
        "gave up after 3 of 3 attempts: the service answered 503 Service Unavailable",
        "data is not JSON: Expecting value: line 1 column 1 (char 0)",
    ]


def test_missing_settings_are_told_together_and_end_it_with_2(processor):
    with processor(EXTERNAL_SERVICE_URL="http://plain", SNOWFLAKE_TABLE="1; DROP", CERT_BUCKET="") as process:
        assert process.wait(10) == 2
        told = json.loads(process.log())["error"]
    assert [line.split(":")[0] for line in told.splitlines()] == [
        "CERT_BUCKET",
        "EXTERNAL_SERVICE_URL",
        "SNOWFLAKE_TABLE",
    ]


@pytest.fixture
def certificate_of(deployed):
    """Puts a certificate into the bucket for one test."""
    s3 = deployment.client(deployed, "s3")
    names = {"client.pem": deployed.certificates.client, "client-key.pem": deployed.certificates.client_key}

    def put(files):
        s3.put_object(Bucket=deployment.BUCKET, Key="dev/client.pem", Body=files.client.read_bytes())
        s3.put_object(Bucket=deployment.BUCKET, Key="dev/client-key.pem", Body=files.client_key.read_bytes())

    yield put
    for name, path in names.items():
        s3.put_object(Bucket=deployment.BUCKET, Key=f"dev/{name}", Body=path.read_bytes())


def test_an_expired_certificate_ends_it_with_3_before_anything_is_claimed(
    sql, insert, processor, certificate_of, tmp_path
):
    from datetime import UTC, datetime, timedelta

    certificate_of(authority.issue(tmp_path / "expired", client_expires=datetime.now(UTC) - timedelta(days=2)))
    insert(3)
    with processor() as process:
        assert process.wait(15) == 3
        told = json.loads(process.log())["error"]
    assert told.startswith("s3://dev-snowflake-processor-certs/dev/client.pem: ")
    assert "expired on" in told
    assert counts(sql) == {"pending": 3}


def test_snowflake_out_of_reach_ends_it_with_6_and_one_clear_line(processor, unused_tcp_port):
    with processor(SNOWFLAKE_PORT=str(unused_tcp_port)) as process:
        assert process.wait(40) == 6
        told = process.log()
    assert "Traceback" not in told
    assert json.loads(told.splitlines()[-1])["error"].startswith("Snowflake: ")


def test_no_secret_is_in_what_it_prints(deployed, insert, processor):
    insert(3)
    with processor() as process:
        process.wait(30)
        assert deployed.password not in process.log()


def test_no_file_of_a_certificate_is_left(insert, processor, tmp_path):
    insert(1)
    with processor() as process:
        process.wait(30)
    assert [path.name for path in tmp_path.rglob("*")] == ["processor.log"]
