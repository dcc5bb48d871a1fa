"""What the scripts ask of Snowflake: the tables are made as the scripts stand, and an entry is followed to its end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import database

ROOT = Path(__file__).parents[2]


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def entry(status, *, failed=0, answered=None, error=None, result=None):
    return status, failed, answered, error, result


def followed(*looks, within_s=10):
    told, remaining, clock = [], list(looks), Clock()

    def look():
        return remaining.pop(0) if len(remaining) > 1 else remaining[0]

    code = database.follow(look, told.append, within_s=within_s, clock=clock, sleep=clock.sleep)
    return code, told


def test_each_change_of_an_entry_is_told_once():
    code, told = followed(
        entry("pending"), entry("pending"), entry("processing"), entry("completed", answered=200, result='{"ok": 1}')
    )
    assert code == 0
    assert told == [
        "   0.0 s  pending",
        "   4.0 s  processing",
        '   6.0 s  completed, the service answered 200, result: {"ok": 1}',
    ]


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_an_entry_that_ends_otherwise_gives_another_code_and_the_reason(status):
    code, told = followed(entry(status, failed=3, answered=503, error="gave up"))
    assert code == 1
    assert told == [f"   0.0 s  {status}, 3 attempts failed, the service answered 503, gave up"]


def test_an_entry_that_takes_too_long_gives_a_code_of_its_own():
    code, told = followed(entry("pending"), within_s=6)
    assert code == 3
    assert told[-1] == "still pending after 6 s"


def test_an_entry_that_is_gone_is_told():
    assert followed(None) == (1, ["there is no such entry"])


def test_scripts_are_run_in_the_order_of_their_numbers_and_samples_only_when_asked_for():
    def named(**options):
        return [path.name[:2] for path in database.chosen(**options)]

    assert named(sample_data=False, roles=True) == ["00", "01", "03", "04"]
    assert named(sample_data=True, roles=True) == ["00", "01", "02", "03", "04"]
    assert named(sample_data=True, roles=False) == ["01", "02", "03"]


@pytest.fixture(scope="module")
def stand_in():
    """The environment of a person who may do everything in a fresh Snowflake stand-in."""
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


def run(environ, script, *arguments):
    command = [ROOT / "scripts" / script] if script.endswith(".sh") else [sys.executable, ROOT / "scripts" / script]
    return subprocess.run([*command, *arguments], env=environ, capture_output=True, text=True, timeout=60, check=False)


def test_the_database_is_made_in_a_place_of_ones_own_and_again_without_harm(stand_in):
    for _ in range(2):
        done = run(stand_in, "setup_database.sh", "--sample-data")
        assert done.returncode == 0, done.stderr
        assert [line.split(":")[0] for line in done.stderr.splitlines()[1:-1]] == [
            "00_roles.sql",
            "01_create_table.sql",
            "02_sample_data.sql",
            "03_monitoring_views.sql",
            "04_grants.sql",
        ]
    run(stand_in, "database.py", "insert", "mine", "--data", '{"order": 1}').check_returncode()
    done = run(stand_in, "database.py", "follow", "mine", "--within", "0")
    assert (done.returncode, done.stdout) == (3, "   0.0 s  pending\nstill pending after 0 s\n")
    assert run(stand_in, "database.py", "follow", "sample-order-1001", "--within", "0").returncode == 3


def test_who_owns_the_schema_can_leave_the_roles_to_others(stand_in):
    environ = stand_in | {"SNOWFLAKE_SCHEMA": "work"}
    run(environ, "setup_database.sh").check_returncode()
    done = run(environ, "setup_database.sh", "--skip-roles")
    assert done.returncode == 0, done.stderr
    assert "roles" not in done.stderr


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"SNOWFLAKE_ACCOUNT": ""}, "SNOWFLAKE_ACCOUNT: expected Snowflake account identifier, got nothing"),
        ({"SNOWFLAKE_PASSWORD": ""}, "expected SNOWFLAKE_USER with SNOWFLAKE_PASSWORD; or with SNOWFLAKE_PRIVATE_KEY"),
        ({"SNOWFLAKE_DATABASE": "x; y"}, "SNOWFLAKE_DATABASE: expected a Snowflake identifier"),
        (
            {"SNOWFLAKE_AUTHENTICATION": "key_pair", "SNOWFLAKE_PRIVATE_KEY": "canary"},
            "SNOWFLAKE_PRIVATE_KEY: expected a PKCS#8 private key in PEM",
        ),
    ],
)
def test_what_is_missing_is_a_sentence(stand_in, changes, told):
    done = run(stand_in | changes, "setup_database.sh")
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert "canary" not in done.stderr


def test_a_script_that_snowflake_refuses_is_named_with_the_reason(stand_in):
    done = run(stand_in | {"SNOWFLAKE_DATABASE": "NEW_DB"}, "setup_database.sh", "--skip-roles")
    assert done.returncode == 2
    assert "Snowflake: " in done.stderr
    assert "NEW_DB" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_password_is_not_printed_by_a_dry_run(stand_in):
    done = run(stand_in, "setup_database.sh", "--dry-run")
    assert "CREATE USER IF NOT EXISTS" in done.stdout
    assert "SET queue_database = 'ORDERS_QUEUE';" in done.stdout
    assert "canary" not in done.stdout + done.stderr
