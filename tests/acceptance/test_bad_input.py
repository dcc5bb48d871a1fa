"""Bad input gets a clear error that names its source, and does not affect other entries."""

from __future__ import annotations

import json
import time

import pytest

from rowqueue_local import deployment

DEEP = "[" * 100_000 + "]" * 100_000

# The input, its status, and for failed entries the beginning of the reason.
ENTRIES = {
    "text": ("not JSON", "failed", "data is not JSON: Expecting value"),
    "empty": ("", "failed", "data is not JSON: Expecting value"),
    "single quotes": ("{'a': 1}", "failed", "data is not JSON: Expecting property name"),
    "cut off": ('{"a": [1, 2', "failed", "data is not JSON: Expecting"),
    "NaN": ('{"a": NaN}', "failed", "data is not JSON: NaN is not a JSON value"),
    "a real NUL": ('{"a": "x\0y"}', "failed", "data is not JSON: Invalid control character"),
    "deep nesting": (DEEP, "failed", "data is not JSON: maximum recursion depth"),
    "too long": (
        json.dumps("x" * 16_000_000),
        "failed",
        "data has 16000002 characters, MAX_DATA_CHARACTERS is 10000000",
    ),
    "not an object": ("[1, 2, 3]", "completed", None),
    "a number": ("7", "completed", None),
    "1 MB": (json.dumps({"a": "x" * 1_000_000}), "completed", None),
    "an escaped NUL": ('{"a": "\\u0000"}', "completed", None),
    "an escaped lone surrogate": ('{"a": "\\ud800"}', "completed", None),
    "emoji": ('{"a": "😀 é 漢"}', "completed", None),
    "SQL": ('{"a": "\'; DROP TABLE PROCESSING_QUEUE; --"}', "completed", None),
    "quotes and backslashes": (json.dumps({"a": "\\ \" ' %s ? $$ {x}"}), "completed", None),
    "duplicate keys": ('{"a": 1, "a": 2}', "completed", None),
    "huge numbers": ('{"a": 1e999, "b": ' + "9" * 10_000 + "}", "completed", None),
}


def test_odd_entries_complete_or_fail_without_an_effect_on_other_entries(sql, insert, processor, capsys):
    insert(10)
    for name, (data, _, _) in ENTRIES.items():
        sql("INSERT INTO PROCESSING_QUEUE (data, reference) VALUES (?, ?)", data, name)
    insert(10)
    with processor(MAX_ENTRIES="50") as process:
        assert process.wait(60) == 0, process.log()[-2000:]
        assert "Traceback" not in process.log()
    rows = sql("SELECT reference, status, error_message FROM PROCESSING_QUEUE WHERE reference IS NOT NULL ORDER BY id")
    neighbours = sql("SELECT status, COUNT(*) FROM PROCESSING_QUEUE WHERE reference IS NULL GROUP BY status")
    assert neighbours == [("completed", 20)]
    with capsys.disabled():
        print(f"\n{'input':<28} {'became':<10} {'neighbours':<14} reason")
        for name, status, reason in rows:
            print(f"{name:<28} {status:<10} {'20 completed':<14} {reason or ''}"[:140])
    for name, status, reason in rows:
        _, expected, begins = ENTRIES[name]
        assert status == expected, (name, reason)
        assert (reason or "").startswith(begins or ""), (name, reason)
    unsent = sql("SELECT COUNT(*) FROM PROCESSING_QUEUE WHERE status = 'failed' AND response_status IS NOT NULL")
    assert unsent == [(0,)], "what is not JSON is not sent"


@pytest.mark.parametrize(
    ("environ", "code", "message"),
    [
        (
            {"SNOWFLAKE_SCHEMA": "NO_SUCH_SCHEMA"},
            2,
            "this program needs version 1 of the tables, and they have none: Snowflake: ",
        ),
        ({"SNOWFLAKE_TABLE": "NO_SUCH_TABLE"}, 6, "NO_SUCH_TABLE"),
        ({"CERT_BUCKET": "no-such-bucket"}, 3, "s3://no-such-bucket/dev/client.pem: cannot be read"),
        ({"SNOWFLAKE_PORT": "1"}, 6, '"error": "Snowflake: '),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, 3, "cannot be read: Could not connect to the endpoint URL"),
        (
            {"CLIENT_KEY_PASSPHRASE": "canary-passphrase", "MAX_ENTRIES": "none"},
            2,
            "MAX_ENTRIES: expected a whole number",
        ),
        (
            {"SNOWFLAKE_USER": "", "SNOWFLAKE_PRIVATE_KEY": "", "ENVIRONMENT": "prod"},
            2,
            "secret prod-snowflake-credentials: cannot be read",
        ),
    ],
    ids=["schema", "table", "bucket", "snowflake", "aws", "setting", "environment"],
)
def test_a_wrong_setting_is_named_soon_after_the_start(deployed, sql, insert, processor, environ, code, message):
    insert(1)
    began = time.monotonic()
    with processor(**environ) as process:
        assert process.wait(45) == code, process.log()
        output = process.log()
    assert time.monotonic() - began < 40
    assert "Traceback" not in output
    error = json.loads(output.splitlines()[-1])
    assert error["event"] == "processor_failed"
    assert message in f'"error": "{error["error"]}"'
    assert deployed.password not in output
    assert "canary-passphrase" not in output
    is_held = sql("SELECT COUNT(*) FROM PROCESSING_HOLDS") == [(1,)]
    assert is_held == ("CERT_BUCKET" in environ), "an unfit certificate places a hold; an unreachable S3 may come back"


def test_an_unreachable_partner_is_named_and_its_entries_are_retried_later(sql, insert, processor, unused_tcp_port):
    insert(3)
    with processor(
        EXTERNAL_SERVICE_URL=f"https://127.0.0.1:{unused_tcp_port}/", RETRY_BACKOFF_SECONDS="900"
    ) as process:
        assert process.wait(30) == 5
        error = json.loads(process.log().splitlines()[-1])
    assert error["error"].startswith("no delivery got an answer; the last: no connection")
    assert sql("SELECT status, SUM(retry_count) FROM PROCESSING_QUEUE GROUP BY status") == [("pending", 3)]


def test_a_missing_column_is_named_with_the_script_to_run(sql, insert, processor):
    insert(1)
    sql("ALTER TABLE PROCESSING_QUEUE RENAME COLUMN max_retries TO max_retries_away")
    try:
        with processor() as process:
            assert process.wait(30) == 6
            message = json.loads(process.log().splitlines()[-1])["error"]
    finally:
        sql("ALTER TABLE PROCESSING_QUEUE RENAME COLUMN max_retries_away TO max_retries")
    assert "MAX_RETRIES" in message.upper()
    assert message.endswith("; run: rowqueue migrate; or grant the role what it needs")


def test_a_program_that_is_too_old_for_the_tables_claims_nothing_and_says_both_versions(sql, insert, processor):
    insert(1)
    sql("INSERT INTO SCHEMA_VERSION (version, oldest_program, applied_by) VALUES (2, 2, 'me')")
    try:
        with processor() as process:
            assert process.wait(30) == 2
            message = json.loads(process.log().splitlines()[-1])["error"]
    finally:
        sql("DELETE FROM SCHEMA_VERSION WHERE version = 2")
    assert message.startswith("the tables permit programs from version 2 on, and this one is 1: ")
    assert sql("SELECT COUNT(*) FROM PROCESSING_QUEUE WHERE status = 'pending'") == [(1,)]


def test_an_entry_with_an_unknown_status_is_counted_and_never_touched(sql, insert, processor, tick):
    insert(3)
    sql("UPDATE PROCESSING_QUEUE SET status = 'on hold' WHERE id = (SELECT MIN(id) FROM PROCESSING_QUEUE)")
    with processor() as process:
        assert process.wait(30) == 0
    tick()
    assert dict(sql("SELECT status, COUNT(*) FROM PROCESSING_QUEUE GROUP BY status")) == {"on hold": 1, "completed": 2}


def test_no_secret_is_in_any_log_of_function_or_tasks(deployed, insert, tick, wait_until, sql):
    insert(3)
    wait_until(lambda: tick()["containersLaunched"])
    wait_until(lambda: sql("SELECT COUNT(*) FROM PROCESSING_QUEUE WHERE status = 'completed'") == [(3,)])
    logs = deployment.client(deployed, "logs")
    groups = [f"/aws/lambda/{deployment.POLLER}", f"/ecs/{deployment.PROCESSOR}"]

    def lines():
        return [event["message"] for group in groups for event in logs.filter_log_events(logGroupName=group)["events"]]

    wait_until(lambda: any("processor_ended" in line for line in lines()))
    assert any('"event": "tick"' in line for line in lines())
    assert not [line for line in lines() if deployed.password in line]
    for file in (deployed.options.state / "logs").glob("*.log"):
        assert deployed.password not in file.read_text()
