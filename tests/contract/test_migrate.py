"""``rowqueue migrate``: what it makes of empty, current and older tables, and how it goes on after a break."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import subprocess
import sys
import uuid
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from rowqueue import sql
from rowqueue.cli import main
from rowqueue.errors import SchemaError, WarehouseUnavailable
from rowqueue.migrate import runner, scripts
from rowqueue.poller.queue import PollerQueue
from rowqueue.processor.queue import ClaimRequest
from rowqueue.processor.store import ProcessorStore
from rowqueue.settings import SnowflakeSettings
from rowqueue.warehouse import SnowflakeWarehouse

OLDER = Path(__file__).parents[1] / "older_tables"
AT = "'2026-01-02 03:04:05'"
STATUSES = ("pending", "processing", "completed", "failed")
FIRST = {"from": 0, "to": 1, "applied": ["0001_create_table"], "pending": []}
ADOPTED = FIRST | {"applied": ["adopt PROCESSING_QUEUE", "0001_create_table"]}
NOTHING = {"from": 1, "to": 1, "applied": [], "pending": []}


class BreaksOff:
    """A session that is lost when it is asked for one change more than ``after``."""

    def __init__(self, warehouse, after):
        self.rows = warehouse.rows
        self._warehouse = warehouse
        self.left = after

    def change(self, statement, values):
        if not self.left:
            raise WarehouseUnavailable("broken off")
        self.left -= 1
        return self._warehouse.change(statement, values)


class Schema:
    """A fresh schema, and what the tests do with it."""

    def __init__(self, environ):
        self.environ = environ
        self.settings = SnowflakeSettings.from_env({**environ, "SNOWFLAKE_AUTHENTICATION": "password"})
        self.said, self.asked, self.slept = [], [], []
        login = {"user": environ["SNOWFLAKE_USER"], "password": environ["SNOWFLAKE_PASSWORD"]}
        self.warehouse = SnowflakeWarehouse(self.settings, login, query_tag="test")

    def sql(self, text, *values):
        statement = sql.Statement(name="test", text=text, parameters=tuple(str(n) for n in range(len(values))))
        return self.warehouse.rows(statement, {str(n): value for n, value in enumerate(values)})

    def script(self, text):
        for statement in scripts.split(text):
            self.sql(statement)

    def migrate(self, *, queue="PROCESSING_QUEUE", later=None, breaks_off_after=None, views=False, **options):
        """A migration; without views and procedures it takes a third of the time."""
        brought = scripts.read(queue=queue, later=later)
        warehouse = self.warehouse if breaks_off_after is None else BreaksOff(self.warehouse, breaks_off_after)
        report = runner.migrate(
            warehouse,
            brought if views else replace(brought, repeated=()),
            queue=queue,
            tell=self.said.append,
            sleep=self.slept.append,
            agree=lambda lines: self.asked.append(lines) or True,
            **options,
        )
        return report.as_json()

    def migrate_broken_off_after_each_statement(self, **options):
        """Each run gets one statement further than the one before; returns how many were broken off."""
        breaks = 0
        while True:
            try:
                self.migrate(breaks_off_after=breaks, **options)
            except WarehouseUnavailable:
                breaks += 1
            else:
                return breaks

    def columns(self, table):
        found = self.sql(
            "SELECT column_name FROM INFORMATION_SCHEMA.COLUMNS "
            "WHERE table_schema = CURRENT_SCHEMA() AND table_name = ?",
            table,
        )
        return {name for (name,) in found}


@pytest.fixture
def schema(account):
    name = f"M_{uuid.uuid4().hex[:12].upper()}"
    schema = Schema(account | {"SNOWFLAKE_SCHEMA": name})
    schema.sql(f"CREATE SCHEMA IF NOT EXISTS {name}")
    schema.sql(f"USE SCHEMA {name}")
    yield schema
    schema.sql(f"DROP SCHEMA {name} CASCADE")
    schema.warehouse.close()


def sketch(schema):
    """The sketch's table, with 100 rows in every status."""
    schema.script((OLDER / "sketch.sql").read_text())
    at = dict.fromkeys(("claimed", "completed", "failed"), "NULL")
    for status in STATUSES:
        worker = "NULL" if status == "pending" else "'dev-1'"
        times = at | {"claimed": "NULL" if status == "pending" else f"{AT}::TIMESTAMP_NTZ"}
        times |= {status: f"{AT}::TIMESTAMP_NTZ"} if status in at else {}
        schema.sql(
            f"""
            INSERT INTO PROCESSING_QUEUE (data, status, processor_id, created_at, claimed_at, completed_at, failed_at,
                                          retry_count, error_message)
            SELECT PARSE_JSON('{{"n": ' || value || '}}'), '{status}', {worker},
                   '2026-01-02 05:04:05 +0200'::TIMESTAMP_TZ,
                   {times["claimed"]}, {times["completed"]}, {times["failed"]}, IFF(value = 7, NULL, value),
                   IFF(value < 50, 'no answer', NULL)
              FROM TABLE(FLATTEN(INPUT => PARSE_JSON(?)))""",
            json.dumps(list(range(100))),
        )


def sketch_rows(schema, table="PROCESSING_QUEUE"):
    return schema.sql(
        "SELECT id, data, status, processor_id, claimed_at, completed_at, failed_at, COALESCE(retry_count, 0), "
        f"error_message FROM {table} ORDER BY id"
    )


def test_an_empty_schema_gets_all_tables_and_views_and_a_second_run_has_nothing_to_do(schema):
    assert schema.migrate(views=True) == FIRST
    assert schema.sql("SELECT version, oldest_program FROM SCHEMA_VERSION") == [(1, 1)]
    assert schema.sql("SELECT * FROM QUEUE_STATUS_SUMMARY") == []
    schema.sql("INSERT INTO PROCESSING_QUEUE (data) VALUES ('1')")
    assert schema.migrate(views=True) == NOTHING
    assert schema.sql("SELECT COUNT(*) FROM PROCESSING_QUEUE") == [(1,)]
    assert schema.asked == []


def test_a_dry_run_changes_nothing(schema):
    assert schema.migrate(dry_run=True) == FIRST | {"applied": [], "pending": FIRST["applied"]}
    assert schema.columns("PROCESSING_QUEUE") == set()


def test_a_dry_run_says_that_views_and_procedures_would_be_replaced(schema):
    said = "the tables have version {}{}; views and procedures would be replaced\n".format
    assert run(schema, "--dry-run").stdout == said(0, "; to do: 0001_create_table")
    schema.migrate()
    assert run(schema, "--dry-run").stdout == said(1, ": nothing to do")
    assert json.loads(run(schema, "--dry-run", "--json").stdout) == NOTHING


def test_with_another_role_the_command_says_which_role_to_use(schema):
    schema.migrate()
    schema.sql("CREATE ROLE IF NOT EXISTS WRONG")
    schema.sql("GRANT ROLE WRONG TO ROLE SYSADMIN")
    schema.sql(f"GRANT USAGE ON WAREHOUSE {schema.environ['SNOWFLAKE_WAREHOUSE']} TO ROLE WRONG")
    schema.sql(f"GRANT USAGE ON DATABASE {schema.environ['SNOWFLAKE_DATABASE']} TO ROLE WRONG")
    schema.sql(f"GRANT USAGE ON SCHEMA {schema.environ['SNOWFLAKE_SCHEMA']} TO ROLE WRONG")
    schema.environ |= {"SNOWFLAKE_ROLE": "WRONG"}
    done = run(schema)
    assert done.exit_code == 1
    assert done.stderr.endswith("; use the role that owns the tables\n")
    assert "rowqueue migrate" not in done.stderr
    assert ".;" not in done.stderr


def test_the_columns_that_the_plan_reads_from_the_script_are_those_that_snowflake_makes(schema):
    schema.migrate()
    for table, create in scripts.read().tables.items():
        assert schema.columns(table) == scripts.columns(create)


def test_every_row_of_the_sketch_is_kept_and_a_second_run_has_nothing_to_do(schema):
    sketch(schema)
    before = sketch_rows(schema)
    assert schema.migrate() == ADOPTED
    assert sketch_rows(schema) == before
    assert [row[2] for row in before] == [status for status in STATUSES for _ in range(100)]
    created = schema.sql(
        "SELECT COUNT(DISTINCT idempotency_key), MIN(created_at), MAX(available_at) FROM PROCESSING_QUEUE"
    )
    assert created == [(400, *[datetime(2026, 1, 2, 3, 4, 5)] * 2)]  # noqa: DTZ001 -- UTC, without the offset
    assert sketch_rows(schema, "PROCESSING_QUEUE_BEFORE_1") == before
    ((lines),) = schema.asked
    assert lines[0].startswith("PROCESSING_QUEUE has an older shape")
    assert "Pause the producers" in lines[1]
    store = ProcessorStore(schema.warehouse, queue="PROCESSING_QUEUE", processor_id="new", max_retries=3)
    claimed = store.claim(ClaimRequest(token="t", entries=100, characters=10_000))
    assert [(entry.data, entry.retry_count) for entry in claimed] == [
        ('{"n":0}', 0),
        ('{"n":1}', 1),
        ('{"n":2}', 2),
        ('{"n":7}', 0),
    ]
    poller = PollerQueue(schema.warehouse, queue="PROCESSING_QUEUE", max_retries=3)
    assert poller.reset_stale(stale_threshold_s=60) == 100
    schema.sql("INSERT INTO PROCESSING_QUEUE (data) VALUES ('1')")
    assert schema.sql("SELECT MAX(id) FROM PROCESSING_QUEUE WHERE status = 'pending'")[0][0] > before[-1][0]
    assert schema.migrate() == NOTHING


def test_an_adoption_that_is_broken_off_again_and_again_ends_with_all_rows(schema):
    sketch(schema)
    before = sketch_rows(schema)
    assert schema.migrate_broken_off_after_each_statement() > 5
    assert sketch_rows(schema) == before
    assert sketch_rows(schema, "PROCESSING_QUEUE_BEFORE_1") == before
    assert schema.columns("PROCESSING_QUEUE_ADOPTING") == set()
    assert schema.migrate() == NOTHING


def test_a_row_that_is_inserted_between_the_copy_and_the_rename_is_kept(schema):
    sketch(schema)

    class ProducerInserts(BreaksOff):
        def change(self, statement, values):
            if statement.name == "keep":
                schema.sql("INSERT INTO PROCESSING_QUEUE (data) SELECT PARSE_JSON('{\"late\": 1}')")
            return self._warehouse.change(statement, values)

    runner.migrate(
        ProducerInserts(schema.warehouse, None),
        replace(scripts.read(), repeated=()),
        queue="PROCESSING_QUEUE",
        tell=schema.said.append,
        sleep=schema.slept.append,
    )
    assert schema.sql("SELECT data, status FROM PROCESSING_QUEUE WHERE data LIKE '%late%'") == [
        ('{"late":1}', "pending")
    ]
    assert schema.sql("SELECT COUNT(*), COUNT(DISTINCT id) FROM PROCESSING_QUEUE") == [(401, 401)]


def test_snowflake_refuses_the_second_of_two_runs_at_once_and_the_queue_is_adopted_once(schema):
    """The second looks before the first renames, and goes on after it: the tightest places."""
    sketch(schema)
    before = sketch_rows(schema)

    class AnotherRuns(BreaksOff):
        def change(self, statement, values):
            if statement.name == "keep":
                schema.migrate()
            return self._warehouse.change(statement, values)

    with pytest.raises(SchemaError, match="another run works on it"):
        runner.migrate(
            AnotherRuns(schema.warehouse, None),
            scripts.read(),
            queue="PROCESSING_QUEUE",
            tell=schema.said.append,
            sleep=schema.slept.append,
        )
    assert sketch_rows(schema) == before
    assert schema.columns("PROCESSING_QUEUE_BEFORE_1_2") == set()
    schema.migrate()
    assert sketch_rows(schema, "PROCESSING_QUEUE_BEFORE_1") == before


def test_odd_statuses_and_missing_numbers_of_a_sketch_get_their_plain_meaning(schema):
    schema.sql(
        "CREATE TABLE PROCESSING_QUEUE (id NUMBER, data VARCHAR, status VARCHAR, priority VARCHAR, retry_count NUMBER)"
    )
    schema.sql(
        """
        INSERT INTO PROCESSING_QUEUE VALUES (1, '1', 'PENDING', '7', NULL), (2, '2', 'Waiting', NULL, 1),
                                            (3, '3', NULL, NULL, 1)"""
    )
    schema.migrate()
    assert schema.sql("SELECT id, status, priority, retry_count FROM PROCESSING_QUEUE ORDER BY id") == [
        (1, "pending", 7, 0),
        (2, "Waiting", 0, 1),
        (3, "unknown", 0, 1),
    ]
    assert "no program touches such rows: Waiting (1 rows), unknown (1 rows)" in " ".join(schema.asked[0])


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ("NULL, '1', 'pending', '1'", "ID: expected an id in each row, got NULL (1 rows)"),
        ("1, '1', 'waiting_for_the_partner', '1'", "STATUS: expected at most 20 characters, got 'waiting_for_the_"),
        ("1, '1', 'pending', 'high'", "PRIORITY: expected a number, got 'high' (1 rows)"),
    ],
)
def test_rows_that_cannot_be_copied_are_named_with_an_example(schema, values, said):
    schema.sql("CREATE TABLE PROCESSING_QUEUE (id NUMBER, data VARCHAR, status VARCHAR, priority VARCHAR)")
    schema.sql(f"INSERT INTO PROCESSING_QUEUE VALUES ({values})")
    with pytest.raises(SchemaError, match=re.escape(said)):
        schema.migrate()
    assert schema.asked == []
    assert schema.columns("PROCESSING_QUEUE") == {"ID", "DATA", "STATUS", "PRIORITY"}


def test_a_second_queue_in_the_schema_is_refused_before_anything_is_changed(schema):
    schema.migrate(queue="orders", views=True)
    with pytest.raises(SchemaError, match="is ORDERS, and SNOWFLAKE_TABLE is PROCESSING_QUEUE"):
        schema.migrate(views=True)
    assert schema.columns("PROCESSING_QUEUE") == set()


def test_nothing_is_changed_if_the_person_does_not_agree(schema):
    sketch(schema)
    with pytest.raises(SchemaError, match="nothing was changed"):
        runner.migrate(
            schema.warehouse, scripts.read(), queue="PROCESSING_QUEUE", tell=print, sleep=print, agree=lambda _: False
        )
    assert "AVAILABLE_AT" not in schema.columns("PROCESSING_QUEUE")


def test_our_tables_of_before_the_first_release_keep_their_rows(schema):
    schema.script((OLDER / "before_0_1_0.sql").read_text())
    schema.sql("INSERT INTO PROCESSING_QUEUE (data, reference, doubt_count) VALUES ('1', 'r', 7)")
    schema.sql("INSERT INTO PROCESSING_HOLDS (reason, created_by) VALUES ('x', 'me')")
    schema.sql(
        """
        INSERT INTO PROCESSING_ATTEMPTS (entry_id, claim_token, attempt, processor_id, started_at, finished_at, outcome)
        SELECT 1, 't', 1, 'p', SYSDATE(), SYSDATE(), 'succeeded'"""
    )
    ((key,),) = schema.sql("SELECT idempotency_key FROM PROCESSING_QUEUE")
    assert schema.migrate_broken_off_after_each_statement() > 5
    assert schema.sql("SELECT id, data, reference, doubts, idempotency_key, destination FROM PROCESSING_QUEUE") == [
        (1, "1", "r", 7, key, "default")
    ]
    assert schema.sql("SELECT scope, kind, reason FROM PROCESSING_HOLDS") == [("*", "person", "x")]
    assert schema.sql("SELECT entry_id, outcome FROM PROCESSING_ATTEMPTS") == [(1, "succeeded")]
    assert schema.migrate() == NOTHING


def test_tables_of_version_1_that_were_made_before_a_column_was_added_get_it(schema):
    schema.migrate()
    schema.sql("INSERT INTO PROCESSING_QUEUE (data, reference) VALUES ('1', 'r')")
    schema.sql("ALTER TABLE PROCESSING_QUEUE DROP COLUMN updated_at")
    schema.sql("DROP TABLE PROCESSING_ACTIONS")
    assert schema.migrate() == NOTHING | {"applied": ADOPTED["applied"]}
    assert schema.sql("SELECT id, reference, updated_at IS NOT NULL FROM PROCESSING_QUEUE") == [(1, "r", True)]
    assert schema.sql("SELECT version, oldest_program FROM SCHEMA_VERSION") == [(1, 1)]
    assert schema.migrate() == NOTHING


def test_a_table_that_is_no_queue_is_refused_with_what_it_lacks(schema):
    schema.sql("CREATE TABLE PROCESSING_QUEUE (id NUMBER, status VARCHAR)")
    with pytest.raises(SchemaError, match=r"cannot be adopted: .*\['DATA'\] missing"):
        schema.migrate()
    schema.sql("CREATE OR REPLACE TABLE PROCESSING_QUEUE (id VARCHAR, data VARCHAR, status VARCHAR)")
    with pytest.raises(SchemaError, match="expected an ID of the type NUMBER, got TEXT"):
        schema.migrate()


def test_a_schema_that_is_newer_than_the_program_is_refused_with_both_numbers(schema):
    schema.migrate()
    schema.sql("INSERT INTO SCHEMA_VERSION (version, oldest_program, applied_by) VALUES (4, 1, 'me')")
    with pytest.raises(SchemaError, match="the tables have version 4, and this program knows 1"):
        schema.migrate()


def test_the_queue_may_have_another_name(schema):
    assert schema.migrate(queue="orders", views=True) == FIRST
    schema.sql("INSERT INTO ORDERS (data) VALUES ('1')")
    assert schema.sql("SELECT entries FROM QUEUE_STATUS_SUMMARY") == [(1,)]
    assert schema.columns("PROCESSING_QUEUE") == set()
    assert schema.migrate(queue="orders") == NOTHING


NEXT = """-- Made up: a new column, and a claim that leaves some entries out.
-- fence: entries with a colour are for newer programs

ALTER TABLE PROCESSING_QUEUE ADD COLUMN IF NOT EXISTS shade VARCHAR;
ALTER TABLE PROCESSING_QUEUE ADD COLUMN colour VARCHAR NOT NULL DEFAULT 'red';
INSERT INTO SCHEMA_VERSION (version, oldest_program, applied_by)
SELECT 2, 2, CURRENT_USER()
 WHERE NOT EXISTS (SELECT 1 FROM SCHEMA_VERSION WHERE version >= 2);
"""


@pytest.fixture
def later(tmp_path):
    (tmp_path / "0002_colour.sql").write_text(NEXT)
    return tmp_path


def test_a_later_migration_is_applied_behind_a_fence_that_is_lifted_after_its_version_is_on_record(schema, later):
    schema.migrate()
    schema.sql("INSERT INTO PROCESSING_QUEUE (data) VALUES ('1')")
    seen = []

    class Watching(BreaksOff):
        def change(self, statement, values):
            holds = schema.sql("SELECT scope, kind, until_at, created_by FROM PROCESSING_HOLDS")
            seen.append((statement.name, schema.sql("SELECT MAX(version) FROM SCHEMA_VERSION")[0][0], holds))
            return self._warehouse.change(statement, values)

    watched = Watching(schema.warehouse, None)
    report = runner.migrate(
        watched,
        scripts.read(later=later),
        queue="PROCESSING_QUEUE",
        tell=schema.said.append,
        sleep=schema.slept.append,
    )
    assert report.as_json() == {"from": 1, "to": 2, "applied": ["0002_colour"], "pending": []}
    fence = [("*", "fence", None, "migration 0002")]
    names = [name for name, _, _ in seen]
    assert names[:5] == ["place_fence", *(f"0002_colour.sql, statement {n}" for n in (1, 2, 3)), "lift_fence"]
    assert [holds for _, _, holds in seen[:6]] == [[], fence, fence, fence, fence, []]
    assert [version for _, version, _ in seen[:5]] == [1, 1, 1, 1, 2]
    (waited,) = schema.slept
    assert waited == pytest.approx(runner.FENCE_S, abs=1)
    assert schema.sql("SELECT colour FROM PROCESSING_QUEUE") == [("red",)]


def test_a_fence_is_not_lifted_while_older_programs_may_claim(schema, later):
    schema.migrate()

    class PermitsOlderPrograms(BreaksOff):
        def change(self, statement, values):
            if statement.name.endswith("statement 3"):
                schema.sql("INSERT INTO SCHEMA_VERSION (version, oldest_program, applied_by) VALUES (2, 1, 'me')")
                return 1
            return self._warehouse.change(statement, values)

    runner.migrate(
        PermitsOlderPrograms(schema.warehouse, None),
        replace(scripts.read(later=later), repeated=()),
        queue="PROCESSING_QUEUE",
        tell=schema.said.append,
        sleep=schema.slept.append,
    )
    assert schema.sql("SELECT created_by FROM PROCESSING_HOLDS") == [("migration 0002",)]


def test_a_migration_that_is_broken_off_again_and_again_ends_and_waits_only_for_what_is_left(schema, later):
    schema.migrate()
    assert schema.migrate_broken_off_after_each_statement(later=later) >= 4
    assert schema.sql("SELECT version, oldest_program FROM SCHEMA_VERSION ORDER BY version") == [(1, 1), (2, 2)]
    assert schema.sql("SELECT * FROM PROCESSING_HOLDS") == []
    assert max(schema.slept) <= runner.FENCE_S
    assert schema.migrate(later=later) == {"from": 2, "to": 2, "applied": [], "pending": []}


def test_a_fence_of_another_version_and_the_hold_of_a_person_are_not_lifted(schema, later):
    schema.migrate()
    schema.sql("INSERT INTO PROCESSING_HOLDS (reason, created_by) VALUES ('x', 'me')")
    schema.sql("INSERT INTO PROCESSING_HOLDS (kind, reason, created_by) VALUES ('fence', 'x', 'migration 0003')")
    schema.migrate(later=later)
    assert schema.sql("SELECT created_by FROM PROCESSING_HOLDS ORDER BY created_by") == [("me",), ("migration 0003",)]


def run(schema, *arguments):
    environ = {name: None for name in os.environ if name.startswith("SNOWFLAKE_")} | schema.environ
    return CliRunner().invoke(main, ["migrate", *arguments], env=environ)


def test_the_command_names_a_fence_that_it_cannot_lift(schema):
    schema.migrate()
    schema.sql("INSERT INTO PROCESSING_HOLDS (kind, reason, created_by) VALUES ('fence', 'x', 'migration 0002')")
    done = run(schema, "--json", "--dry-run")
    assert (done.exit_code, json.loads(done.stdout)) == (0, NOTHING)
    assert done.stderr.startswith("the fence of migration 0002 stands, and nothing is claimed")


def test_the_command_prints_one_object_and_nothing_else_where_no_person_looks(schema):
    sketch(schema)
    done = run(schema, "--dry-run", "--json")
    assert (done.exit_code, json.loads(done.stdout)["pending"], done.stderr) == (0, ADOPTED["applied"], "")
    done = run(schema, "--json")
    assert (done.exit_code, json.loads(done.stdout)) == (0, ADOPTED)
    assert done.stderr.startswith("PROCESSING_QUEUE has an older shape")  # said before it is done
    done = run(schema)
    assert (done.exit_code, done.stdout, done.stderr) == (0, "the tables have version 1: nothing to do\n", "")


def test_an_error_of_the_command_is_one_line_and_its_exit_code_says_whether_to_run_it_again(schema):
    schema.sql("CREATE TABLE PROCESSING_QUEUE (id NUMBER, status VARCHAR)")
    done = run(schema, "--json")
    assert (done.exit_code, done.stdout) == (2, "")
    assert re.fullmatch(r"Error: PROCESSING_QUEUE cannot be adopted: .*\n", done.stderr)
    schema.sql("DROP TABLE PROCESSING_QUEUE")
    schema.sql("CREATE TABLE QUEUE_STATUS_SUMMARY (id NUMBER)")  # where a view has to be
    done = run(schema, "--json")
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1].startswith("Error: 03_monitoring_views.sql, statement 1: Snowflake: ")


@pytest.mark.parametrize(
    ("answer", "exit_code", "said"), [("n", 2, "nothing was changed"), ("y", 0, "adopt PROCESSING_QUEUE")]
)
def test_a_person_at_a_terminal_is_asked_before_an_adoption(schema, answer, exit_code, said):
    sketch(schema)
    leader, follower = pty.openpty()
    program = subprocess.Popen(
        [sys.executable, "-m", "rowqueue.cli", "migrate"],
        env=os.environ | schema.environ,
        stdin=follower,
        stdout=follower,
        stderr=follower,
    )
    os.close(follower)
    seen = b""
    with contextlib.suppress(OSError):  # at the end of the program
        while True:
            seen += os.read(leader, 1000)
            if b"Go on? [y/N]: " in seen and answer:
                os.write(leader, f"{answer}\n".encode())
                answer = ""
    os.close(leader)
    assert program.wait(10) == exit_code
    assert said in seen.decode()
