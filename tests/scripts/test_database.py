"""The SQL of the scripts: they create the tables, and follow an entry until it ends."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import snowflake.connector

import database
from rowqueue import credentials
from rowqueue.cli import session_of_a_person
from rowqueue.processor.store import ProcessorStore

ROOT = Path(__file__).parents[2]


class SleepingClock:
    """A clock that moves only when something sleeps."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def entry(status, *, failed=0, answered=None, error=None, result=None):
    return status, failed, answered, error, result


def followed(*looks, within_s=10):
    lines, remaining, clock = [], list(looks), SleepingClock()

    def look():
        return remaining.pop(0) if len(remaining) > 1 else remaining[0]

    code = database.follow(look, lines.append, within_s=within_s, clock=clock, sleep=clock.sleep)
    return code, lines


def test_each_change_of_an_entry_is_printed_once():
    code, lines = followed(
        entry("pending"), entry("pending"), entry("processing"), entry("completed", answered=200, result='{"ok": 1}')
    )
    assert code == 0
    assert lines == [
        "   0.0 s  pending",
        "   4.0 s  processing",
        '   6.0 s  completed, the service answered 200, result: {"ok": 1}',
    ]


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_a_failed_or_cancelled_entry_gives_exit_code_1_and_the_reason(status):
    code, lines = followed(entry(status, failed=3, answered=503, error="gave up"))
    assert code == 1
    assert lines == [f"   0.0 s  {status}, 3 attempts failed, the service answered 503, gave up"]


def test_an_entry_that_takes_too_long_has_its_own_exit_code():
    code, lines = followed(entry("pending"), within_s=6)
    assert code == 3
    assert lines[-1] == "still pending after 6 s"


def test_a_missing_entry_is_reported():
    assert followed(None) == (1, ["there is no such entry"])


def behind(*holds, within_s=10, completes_at_s=None):
    """Follow a pending entry; each hold is a pair of when it is placed and when it ends, seconds, or None."""
    clock, lines = SleepingClock(), []

    def hold():
        for number, (placed_s, ends_s) in enumerate(holds, 1):
            at = clock() - 100
            if placed_s <= at and (ends_s is None or at < ends_s):
                left = None if ends_s is None else ends_s - at
                until = None if ends_s is None else f"end {number}"
                reason = f"the service answered 40{number}"
                return database.Hold(scope="default", kind="credentials", reason=reason, until=until, left_s=left)
        return None

    def look():
        done = completes_at_s is not None and clock() - 100 >= completes_at_s
        return entry("completed" if done else "pending", answered=200 if done else None)

    code = database.follow(look, lines.append, within_s=within_s, hold=hold, clock=clock, sleep=clock.sleep)
    return code, lines


LIFT = "when the cause is gone: CALL LIFT_HOLD('default', 'the cause is gone');"


def test_a_hold_is_named_with_its_end_and_the_statement_that_ends_it_and_is_waited_for():
    code, lines = behind((4, 304), completes_at_s=312)
    assert code == 0
    assert lines == [
        "   0.0 s  pending",
        f"   4.0 s  a hold stands until end 1 UTC, and nothing is claimed: the service answered 401; {LIFT}",
        " 312.0 s  completed, the service answered 200",
    ]


def test_after_a_hold_the_time_starts_again_once():
    assert behind((0, 300))[1][-1] == "still pending after 310 s"
    code, lines = behind((0, 300), (302, 602))
    assert code == 3
    assert [line.split(" ")[-1] for line in lines] == ["pending", "gone');", "gone');", "s"]
    assert lines[-1] == "still pending after 310 s"


@pytest.mark.parametrize("ends_s", [None, 3601])
def test_a_hold_without_an_end_or_with_a_late_one_is_named_and_not_waited_for(ends_s):
    code, lines = behind((0, ends_s))
    assert code == 3
    assert f"a hold stands until {'a person ends it' if ends_s is None else 'end 1 UTC'}, " in lines[1]
    assert lines[-1] == "still pending after 10 s"


def test_a_fence_is_named_without_a_statement_because_its_migration_ends_it():
    fence = database.Hold(scope="*", kind="fence", reason="entries get a colour", until=None, left_s=None)
    assert database.described_hold(fence) == (
        "a hold stands until its migration ends, and nothing is claimed: entries get a colour; "
        "if no migration runs: rowqueue migrate"
    )


def test_roles_come_before_the_migration_grants_after_it_and_samples_only_on_request():
    assert database.chosen(sample_data=False, roles=True) == (["00_roles.sql"], ["04_grants.sql"])
    assert database.chosen(sample_data=True, roles=True) == (["00_roles.sql"], ["02_sample_data.sql", "04_grants.sql"])
    assert database.chosen(sample_data=True, roles=False) == ([], ["02_sample_data.sql"])


@pytest.fixture(scope="module")
def stand_in():
    """The environment of an administrator of a fresh Snowflake stand-in."""
    service = subprocess.Popen(
        [sys.executable, "-m", "rowqueue_local.snowflake", "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    try:
        port = json.loads(service.stdout.readline())["ready"].rsplit(":", 1)[1]
        environ = {name: value for name, value in os.environ.items() if not name.startswith("SNOWFLAKE_")}
        yield environ | {
            "SNOWFLAKE_ACCOUNT": "local",
            "SNOWFLAKE_USER": "admin",
            "SNOWFLAKE_PASSWORD": "canary-password",
            "SNOWFLAKE_HOST": "127.0.0.1",
            "SNOWFLAKE_PORT": port,
            "SNOWFLAKE_PROTOCOL": "http",
            "SNOWFLAKE_DATABASE": "orders_queue",
            "SNOWFLAKE_SCHEMA": "work",
        }
    finally:
        service.terminate()
        service.wait(10)
        service.stdout.close()


@contextlib.contextmanager
def session(environ):
    names = ("account", "user", "password", "host", "port", "protocol", "database", "schema")
    arguments = {name: environ[f"SNOWFLAKE_{name.upper()}"] for name in names}
    with snowflake.connector.connect(**arguments, platform_detection_timeout_seconds=0.0) as connection:
        yield connection.cursor()


def run(environ, script, *arguments):
    command = [ROOT / "scripts" / script] if script.endswith(".sh") else [sys.executable, ROOT / "scripts" / script]
    return subprocess.run([*command, *arguments], env=environ, capture_output=True, text=True, timeout=60, check=False)


def test_the_database_is_created_under_other_names_and_a_second_run_changes_nothing(stand_in):
    for migration in (["0001_create_table"], []):
        done = run(stand_in, "setup_database.sh", "--sample-data")
        assert done.returncode == 0, done.stderr
        lines = [line for line in done.stderr.splitlines() if not line.startswith("03_")]
        assert [re.split(r"[:;] ", line)[0] for line in lines] == [
            "00_roles.sql",
            *migration,
            "the tables have version 1",
            "02_sample_data.sql",
            "04_grants.sql",
            "the queue exists",
        ]
        assert ("nothing to do" in done.stderr) == (not migration)
    run(stand_in, "database.py", "insert", "mine", "--data", '{"order": 1}').check_returncode()
    done = run(stand_in, "database.py", "follow", "mine", "--within", "0")
    assert done.returncode == 3
    assert re.fullmatch(r" +\d+\.\d s  pending\nstill pending after 0 s\n", done.stdout)
    assert run(stand_in, "database.py", "follow", "sample-order-1001", "--within", "0").returncode == 3


def test_the_hold_of_a_processor_is_named_and_lifted_by_the_statement_that_is_printed(stand_in):
    environ = stand_in | {"SNOWFLAKE_SCHEMA": "stopped"}
    run(environ, "setup_database.sh").check_returncode()
    run(environ, "database.py", "insert", "mine", "--data", '{"order": 1}').check_returncode()
    settings = credentials.settings_of_a_person(environ)
    with contextlib.closing(session_of_a_person(settings, environ, tag="test")) as warehouse:
        store = ProcessorStore(warehouse, queue=settings.table, processor_id="dev-1", max_retries=3)
        store.place_hold(reason="the service answered 401", seconds=7200)
    shown = run(environ, "database.py", "follow", "mine", "--within", "0").stdout
    found = re.search(
        r"a hold stands until 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC, and nothing is claimed: the service answered 401; "
        r"when the cause is gone: (CALL LIFT_HOLD\('default', '[^']+'\));",
        shown,
    )
    assert found, shown
    with session(environ) as cursor:
        assert cursor.execute(found[1]).fetchall() == [(1,)]
        cursor.execute("INSERT INTO PROCESSING_HOLDS (scope, reason, created_by) VALUES ('elsewhere', 'x', 'me')")
    assert "a hold stands" not in run(environ, "database.py", "follow", "mine", "--within", "0").stdout
    with session(environ) as cursor:
        cursor.execute("INSERT INTO PROCESSING_HOLDS (reason, created_by) VALUES ('night', 'me')")
    assert "CALL LIFT_HOLD('*', " in run(environ, "database.py", "follow", "mine", "--within", "0").stdout


def test_the_owner_of_the_schema_can_skip_the_roles(stand_in):
    environ = stand_in | {"SNOWFLAKE_SCHEMA": "work"}
    run(environ, "setup_database.sh").check_returncode()
    done = run(environ, "setup_database.sh", "--skip-roles")
    assert done.returncode == 0, done.stderr
    assert "roles" not in done.stderr


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"SNOWFLAKE_ACCOUNT": ""}, "SNOWFLAKE_ACCOUNT: expected a value (Snowflake account identifier), got nothing"),
        ({"SNOWFLAKE_PASSWORD": ""}, "expected SNOWFLAKE_USER with SNOWFLAKE_PASSWORD; or with SNOWFLAKE_PRIVATE_KEY"),
        ({"SNOWFLAKE_DATABASE": "x; y"}, "SNOWFLAKE_DATABASE: expected a Snowflake identifier"),
        (
            {"SNOWFLAKE_AUTHENTICATION": "key_pair", "SNOWFLAKE_PRIVATE_KEY": "canary"},
            "SNOWFLAKE_PRIVATE_KEY: expected a PKCS#8 private key in PEM",
        ),
    ],
)
def test_a_missing_or_wrong_variable_is_one_sentence(stand_in, changes, message):
    done = run(stand_in | changes, "setup_database.sh")
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert "canary" not in done.stderr


def test_a_script_that_snowflake_refuses_is_named_with_the_reason(stand_in):
    done = run(stand_in | {"SNOWFLAKE_DATABASE": "NEW_DB"}, "setup_database.sh", "--skip-roles")
    assert done.returncode == 2
    assert "Snowflake: " in done.stderr
    assert "NEW_DB" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_older_table_is_adopted_and_its_entries_can_be_followed(stand_in):
    environ = stand_in | {"SNOWFLAKE_SCHEMA": "older"}
    with session(environ) as cursor:
        cursor.execute((ROOT / "tests" / "older_tables" / "sketch.sql").read_text().rstrip().removesuffix(";"))
        cursor.execute("INSERT INTO PROCESSING_QUEUE (data) SELECT PARSE_JSON('{\"order\": 1}')")
    done = run(environ, "setup_database.sh")
    assert done.returncode == 0, done.stderr
    assert done.stderr.index("has an older shape") < done.stderr.index("create, copy, rename")
    run(environ, "database.py", "insert", "mine", "--data", '{"order": 2}').check_returncode()
    assert run(environ, "database.py", "follow", "mine", "--within", "0").returncode == 3
    with session(environ) as cursor:
        assert cursor.execute("SELECT data FROM PROCESSING_QUEUE ORDER BY id").fetchall() == [
            ('{"order":1}',),
            ('{"order": 2}',),
        ]


def test_the_name_of_the_queue_reaches_tables_views_and_grants(stand_in):
    environ = stand_in | {"SNOWFLAKE_TABLE": "orders", "SNOWFLAKE_SCHEMA": "other"}
    done = run(environ, "setup_database.sh", "--dry-run", "--sample-data")
    assert not re.findall(r".*\bPROCESSING_QUEUE\b.*", done.stdout)
    assert len(re.findall(r"GRANT .* ON TABLE ORDERS TO ROLE", done.stdout)) >= 2
    done = run(environ, "setup_database.sh", "--sample-data")
    assert done.returncode == 0, done.stderr
    with session(environ) as cursor:
        assert cursor.execute("SELECT entries FROM QUEUE_STATUS_SUMMARY").fetchall() == [(5,)]
        assert cursor.execute("SELECT COUNT(*) FROM ORDERS").fetchall() == [(5,)]


def test_a_dry_run_whose_reader_goes_away_ends_without_an_error(stand_in):
    script = ROOT / "scripts" / "setup_database.sh"
    shown = subprocess.run(
        ["bash", "-c", f"'{script}' --dry-run | :"],
        env=stand_in, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert shown.stderr == ""


def test_a_password_is_not_printed_by_a_dry_run(stand_in):
    done = run(stand_in, "setup_database.sh", "--dry-run")
    assert "CREATE USER IF NOT EXISTS" in done.stdout
    assert "SET queue_database = 'ORDERS_QUEUE';" in done.stdout
    assert "canary" not in done.stdout + done.stderr
