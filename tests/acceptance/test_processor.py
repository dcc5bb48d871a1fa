"""container/processor.py as a process: normal end, stop, kill, and failed start."""

from __future__ import annotations

import json
import re
import signal
import time

import pytest

from rowqueue.contract import ExitCode
from rowqueue_local import authority, deployment
from rowqueue_local.snowflake.proxy import Disturbance, proxying


def counts(sql):
    return dict(sql("SELECT status, COUNT(*) FROM PROCESSING_QUEUE GROUP BY status"))


def processing(sql):
    return counts(sql).get("processing", 0)


@pytest.fixture
def in_hand(sql, wait_until):
    """Waits until a worker has this number of entries in hand."""
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


def test_sigterm_during_a_block_settles_finished_entries_and_releases_the_rest(sql, insert, processor, in_hand):
    insert(20, delay_ms=1500)
    with processor(MAX_ENTRIES="20", MAX_CONCURRENT_DELIVERIES="5") as process:
        in_hand(20)
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
def test_a_stop_during_the_start_counts_no_attempt(sql, insert, processor, after_s):
    insert(20, delay_ms=100)
    with processor() as process:
        time.sleep(after_s)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) in {0, -signal.SIGTERM}, process.log()  # the latter before main() runs
    assert not processing(sql)
    assert sql("SELECT SUM(retry_count) FROM PROCESSING_QUEUE") == [(0,)]


# A processor that hangs on purpose. All parts of its longest life but the budget are zero.
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


def test_the_watchdog_ends_a_hanging_processor_with_1_and_prints_all_stacks(processor):
    hanging = {"CONTAINER_TIMEOUT_SECONDS": "1", "SERVICE_TIMEOUT_SECONDS": "0.1"}
    with processor(["-c", HANGING], PYTHONPATH="container", **hanging) as process:
        assert process.wait(15) == 1
        assert "Timeout (0:00:01.1" in process.log()
        assert "most recent call first" in process.log()


def test_deliveries_that_outlast_the_grace_period_are_released(sql, insert, processor, in_hand):
    insert(4, delay_ms=20_000)
    with processor(STOP_GRACE_SECONDS="0.3") as process:
        in_hand(4)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert counts(sql) == {"pending": 4}


def test_after_sigkill_the_poller_resets_the_claims_and_nothing_is_lost(
    sql, insert, processor, in_hand, tick, wait_until
):
    insert(10, delay_ms=3000, first=1)
    with processor(MAX_ENTRIES="10") as process:
        in_hand(10)
        process.kill()
        assert process.wait(10) == -signal.SIGKILL
    assert counts(sql) == {"processing": 10}
    assert wait_until(lambda: tick()["staleEntriesReset"]) == 10
    wait_until(lambda: counts(sql) == {"completed": 10}, seconds=30)
    assert sql("SELECT DISTINCT retry_count FROM PROCESSING_QUEUE") == [(1,)], "a stale reset counts as a retry"


def test_a_credentials_stop_places_a_hold_and_a_probe_ends_it(deployed, sql, insert, processor, tick, wait_until):
    insert(6, status=401, first=1)
    with processor(HOLD_SECONDS="3", MAX_CONCURRENT_DELIVERIES="6") as process:
        assert process.wait(20) == 4
        logged = json.loads(process.log().splitlines()[-1])
    assert logged["error"] == "the service answered 401 Unauthorized"
    assert counts(sql) == {"pending": 6}
    assert sql("SELECT SUM(retry_count) FROM PROCESSING_QUEUE") == [(0,)], "it is no entry's fault"
    assert sql("SELECT reason, created_by FROM PROCESSING_HOLDS") == [(logged["error"], "dev-test")]

    answer = tick()
    assert answer["containersLaunched"] == 0, "while the hold stands nothing is launched"
    assert (answer["pendingEntries"], answer["readyEntries"], answer["reason"]) == (6, None, "a hold stands")
    assert answer["hold"]["reason"] == logged["error"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", answer["hold"]["until"])
    sql("UPDATE PROCESSING_HOLDS SET until_at = SYSDATE()")
    assert tick()["containersLaunched"] == 1, "then one task probes, though more would be needed"
    wait_until(lambda: sql("SELECT COUNT(*) FROM PROCESSING_HOLDS") == [(0,)])
    assert counts(sql) == {"completed": 1, "pending": 5}
    wait_until(lambda: tick()["containersLaunched"])
    wait_until(lambda: counts(sql) == {"completed": 6}, seconds=30)


def test_entries_of_every_kind_get_the_right_status(sql, insert, processor):
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


def test_all_missing_settings_are_reported_together_with_exit_code_2(processor):
    with processor(EXTERNAL_SERVICE_URL="http://plain", SNOWFLAKE_TABLE="1; DROP", CERT_BUCKET="") as process:
        assert process.wait(10) == 2
        logged = json.loads(process.log())["error"]
    assert [line.split(":")[0] for line in logged.splitlines()] == [
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
        logged = json.loads(process.log())["error"]
    assert logged.startswith("s3://dev-snowflake-processor-certs/dev/client.pem: ")
    assert "expired on" in logged
    assert counts(sql) == {"pending": 3}


def test_a_login_that_is_refused_after_a_claim_ends_it_with_6(deployed, sql, insert, processor, in_hand, wait_until):
    insert(4, delay_ms=1500)
    refused = {
        True: {"code": "390100", "message": "Incorrect username or password was specified."},
        False: {"code": "390111", "message": "Session no longer exists. New login required to access the service."},
    }
    answer = Disturbance(
        matches=lambda _: True, answer=lambda sent: {"success": False, "data": None, **refused["login" in sent.path]}
    )
    with proxying(deployed.snowflake) as proxy, processor(SNOWFLAKE_PORT=proxy.url.rsplit(":", 1)[1]) as process:
        in_hand(4)
        wait_until(lambda: sql("SELECT COUNT(*) FROM PROCESSORS") == [(1,)])
        proxy.disturb("login refused", answer)
        assert process.wait(40) == ExitCode.NO_SNOWFLAKE, process.log()
        assert "Incorrect username" in process.log()


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
