"""The Snowflake stand-in as a process, and the real connector."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from http.client import HTTPConnection
from typing import TYPE_CHECKING
from urllib.error import HTTPError
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import snowflake.connector
from snowflake.connector.constants import QueryStatus
from snowflake.connector.cursor import DictCursor
from snowflake.connector.errors import DatabaseError, IntegrityError, ProgrammingError

from rowqueue_local.processes import spawn, stop

if TYPE_CHECKING:
    from pathlib import Path

CREATE_QUEUE = "CREATE TABLE queue (id NUMBER AUTOINCREMENT, data VARCHAR NOT NULL, worker VARCHAR)"


class SnowflakeProcess:
    """A running stand-in."""

    def __init__(self, folder: Path, *options: str):
        self.stderr = folder / f"stderr-{uuid.uuid4().hex}"
        with self.stderr.open("wb") as stderr:
            self.process = spawn(
                [sys.executable, "-m", "rowqueue_local.snowflake", "--port", "0", *options],
                registry=folder / "registry",
                env=os.environ,
                stdout=subprocess.PIPE,
                stderr=stderr,
            )
        self.url = json.loads(self.process.stdout.readline())["ready"]
        self.address = urlsplit(self.url)

    def connect(self, schema: str = "public", **options):
        return snowflake.connector.connect(
            user="someone",
            password="anything",
            account="local",
            protocol="http",
            host=self.address.hostname,
            port=self.address.port,
            database="work",
            schema=schema,
            paramstyle="qmark",
            platform_detection_timeout_seconds=0.0,  # it asks the metadata services of three clouds, at times for 5 s
            **options,
        )

    def get(self, path: str, *, token: str = ""):
        request = urllib.request.Request(self.url + path, headers={"Authorization": f'Snowflake Token="{token}"'})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def post(self, path: str, body=None, *, token: str = ""):
        headers = {"Authorization": f'Snowflake Token="{token}"'}
        data = json.dumps(body or {}).encode()
        with urllib.request.urlopen(urllib.request.Request(self.url + path, data, headers), timeout=30) as answer:
            return json.load(answer)

    def stats(self, name: str):
        return self.get("/_local/stats")[name]

    def stop(self) -> int:
        code = stop(self.process, grace_seconds=5)
        self.process.stdout.close()
        return code


@contextlib.contextmanager
def running(folder: Path, *options: str):
    stand_in = SnowflakeProcess(folder, *options)
    try:
        yield stand_in
    finally:
        stand_in.stop()


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory):
    with running(tmp_path_factory.mktemp("snowflake"), "--lock-timeout", "20", "--hold-seconds", "0.05") as stand_in:
        yield stand_in
    assert stand_in.stderr.read_text() == ""


@pytest.fixture
def schema():
    """A new schema for each test, so that no other test locks its tables."""
    return f"s{uuid.uuid4().hex}"


@pytest.fixture
def connect(stand_in, schema):
    """Opens connections to the test's schema, and closes them after the test."""
    with contextlib.ExitStack() as opened:
        yield lambda **options: opened.enter_context(contextlib.closing(stand_in.connect(schema, **options)))


@pytest.fixture
def connection(connect):
    return connect()


def run(connection, text, *binds, **options):
    """The rows that a statement gives."""
    return connection.cursor().execute(text, binds or None, **options).fetchall()


def at(*parts: int) -> datetime:
    """A TIMESTAMP_NTZ, which has no zone."""
    return datetime(*parts, tzinfo=UTC).replace(tzinfo=None)


def refused(connection, text, *binds, **options) -> DatabaseError:
    with pytest.raises(DatabaseError) as caught:
        run(connection, text, *binds, **options)
    return caught.value


def until(condition, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true in time"
        time.sleep(0.02)


@pytest.fixture
def queue(connection):
    """A queue with the entries a, b and c."""
    run(connection, CREATE_QUEUE)
    run(connection, "INSERT INTO queue (data) VALUES ('a'), ('b'), ('c')")


@pytest.fixture
def in_background():
    """Runs functions in threads; their results raise what they raised."""
    with ThreadPoolExecutor(30) as threads:
        yield threads.submit


@contextlib.contextmanager
def locked(connection):
    """A transaction that has locked the queue; it is rolled back at the end."""
    run(connection, "BEGIN")
    run(connection, "UPDATE queue SET data = data")
    try:
        yield
    finally:
        run(connection, "ROLLBACK")


class TestValues:
    @pytest.mark.parametrize("type_name", ["TIMESTAMP_NTZ", "TIMESTAMP_TZ", "TIMESTAMP_LTZ"])
    def test_a_null_timestamp_comes_back_as_none(self, connection, type_name):
        assert run(connection, f"SELECT NULL::{type_name} FROM VALUES (1), (2)") == [(None,), (None,)]

    @pytest.mark.parametrize("type_name", ["TIMESTAMP_NTZ", "TIMESTAMP_TZ", "TIMESTAMP_LTZ"])
    def test_a_null_among_timestamps_comes_back_as_none(self, connection, type_name):
        rows = run(
            connection,
            f"SELECT column1::{type_name} FROM VALUES (NULL), ('2026-11-20 01:02:03'), (NULL), ('1969-12-31 23:59:58')",
        )
        times = [value and value.replace(tzinfo=None) for (value,) in rows]
        assert times == [None, at(2026, 11, 20, 1, 2, 3), None, at(1969, 12, 31, 23, 59, 58)]

    def test_the_smallest_of_no_timestamps_is_none(self, connection):
        run(connection, "CREATE TABLE t (claimed_at TIMESTAMP_NTZ, tz TIMESTAMP_TZ)")
        assert run(connection, "SELECT MIN(claimed_at), MAX(tz) FROM t") == [(None, None)]

    @pytest.mark.parametrize("year", [1, 1969, 1970, 2026, 9999])
    def test_a_timestamp_keeps_its_microseconds(self, connection, year):
        time_of_day = at(year, 12, 31, 23, 59, 59, 999_999)
        assert run(connection, f"SELECT '{time_of_day.isoformat()}'::TIMESTAMP_NTZ") == [(time_of_day,)]

    def test_other_nulls_come_back_as_none(self, connection):
        assert run(connection, "SELECT NULL::DATE, NULL::TIME, NULL::NUMBER(9, 2), NULL::BOOLEAN, NULL::VARIANT") == [
            (None,) * 5
        ]

    def test_bound_values_come_back_unchanged(self, connection):
        values = (
            Decimal("12.50"),
            Decimal(-3),
            2.5,
            -7,
            "x",
            True,
            None,
            datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
        )
        (row,) = run(connection, "SELECT ?, ?, ?, ?, ?, ?, ?, ?", *values)
        assert row == values

    def test_a_batch_may_have_nulls_and_decimals_in_it(self, connection):
        run(connection, "CREATE TABLE t (n NUMBER(9, 2), s VARCHAR)")
        rows = [(Decimal("1.25"), "a"), (None, None), (Decimal(2), "c")]
        assert connection.cursor().executemany("INSERT INTO t VALUES (?, ?)", rows).rowcount == 3
        assert run(connection, "SELECT * FROM t") == rows

    def test_many_entries_are_settled_by_one_update_from_a_bound_json_document(self, connection, queue):
        settled = json.dumps([{"id": 1, "worker": "w1"}, {"id": 3, "worker": "it's ✓"}])
        cursor = connection.cursor().execute(
            """
            UPDATE queue SET worker = s.worker
            FROM (SELECT f.value:id::NUMBER AS id, f.value:worker::VARCHAR AS worker
                  FROM TABLE(FLATTEN(INPUT => PARSE_JSON(?))) f) s
            WHERE queue.id = s.id
            """,
            (settled,),
        )
        assert cursor.rowcount == 2
        assert run(connection, "SELECT worker FROM queue ORDER BY id") == [("w1",), (None,), ("it's ✓",)]


class TestErrors:
    def test_null_in_a_column_that_must_not_be_null(self, connection, queue):
        error = refused(connection, "INSERT INTO queue (data) VALUES (NULL)")
        assert isinstance(error, IntegrityError)
        assert (error.errno, error.sqlstate) == (100072, "22000")

    def test_text_that_is_no_json(self, connection):
        error = refused(connection, "SELECT PARSE_JSON(?)", "{")
        assert (error.errno, error.sqlstate) == (100069, "22P02")

    def test_a_table_that_does_not_exist(self, connection):
        error = refused(connection, "SELECT * FROM nowhere")
        assert (type(error), error.errno, error.sqlstate) == (ProgrammingError, 2003, "42S02")
        assert error.msg.endswith("SQL compilation error:\nObject 'NOWHERE' does not exist or not authorized.")

    @pytest.mark.parametrize("text", ["SELECT ARRAY_APPEND([1], 2)", "SELECT INTERVAL '1 day'"])
    def test_an_unsupported_statement_is_refused_by_name(self, connection, text):
        error = refused(connection, text)
        assert (error.errno, error.sqlstate) == (390999, "58000")
        assert "[local stand-in]" in error.msg

    @pytest.mark.parametrize("text", ["CREATE OR ALTER TABLE queue (id NUMBER)", "CREATE STREAM s ON TABLE queue"])
    def test_what_the_engine_would_get_wrong_is_refused(self, connection, queue, text):
        assert refused(connection, text).errno == 390999
        assert run(connection, "SELECT COUNT(*) FROM queue") == [(3,)]

    @pytest.mark.parametrize(
        "text",
        [
            "-- sizes\nCREATE WAREHOUSE IF NOT EXISTS w WAREHOUSE_SIZE = XSMALL",
            "ALTER USER IF EXISTS u SET TYPE = SERVICE",
            "USE ROLE SYSADMIN",
            "USE WAREHOUSE w",
            "ALTER SESSION SET QUERY_TAG = 'x'",
        ],
    )
    def test_a_statement_without_an_effect_here_succeeds(self, connection, text):
        assert run(connection, text) == [("Statement executed successfully.",)]

    def test_a_session_that_is_gone(self, stand_in, connect):
        gone, other = connect(), connect()
        token = gone.rest.token
        gone.close()
        other.rest.update_tokens(token, other.rest.master_token)
        assert refused(other, "SELECT 1").errno == 390111

    @pytest.mark.parametrize("text", ["DELETE FROM queue", "BEGIN", "SELECT id FROM queue"])
    def test_describing_a_statement_does_not_run_it(self, connect, connection, queue, text):
        assert connection.cursor().describe(text)
        connection.close()
        assert run(connect(), "UPDATE queue SET worker = 'w'") == [(3, 0)]


class TestAmbiguousUpdates:
    TEXT = (
        "UPDATE queue SET worker = ? FROM (SELECT column1 AS item FROM VALUES (?), (?)) AS found"
        " WHERE data = found.item AND worker IS NULL"
    )

    def test_two_source_rows_for_a_target_are_refused_in_a_session_that_asks_for_it(self, connect, connection, queue):
        strict = connect(session_parameters={"ERROR_ON_NONDETERMINISTIC_UPDATE": True})
        error = refused(strict, self.TEXT, "w", "a", "a")
        assert (type(error), error.errno, error.sqlstate) == (ProgrammingError, 100090, "42P18")
        assert "Duplicate row detected during DML action" in error.msg
        assert run(connection, "SELECT COUNT(*) FROM queue WHERE worker IS NULL") == [(3,)], "nothing was written"
        assert run(strict, self.TEXT, "w", "a", "b") == [(2, 0)]

    def test_otherwise_one_of_them_is_written(self, connect, queue):
        assert run(connect(), self.TEXT, "w", "a", "a") == [(1, 0)]


class TestAsynchronousQueries:
    def test_the_result_of_a_query_that_nobody_waited_for_comes_back_in_another_session(self, connect, queue):
        sender = connect().cursor()
        sender.execute_async("UPDATE queue SET worker = ? WHERE data = ?", ("w", "b"))
        other = connect()
        until(lambda: not other.is_still_running(other.get_query_status(sender.sfqid)))
        assert other.get_query_status(sender.sfqid) is QueryStatus.SUCCESS
        assert other.cursor().query_result(sender.sfqid).rowcount == 1
        cursor = other.cursor()
        cursor.get_results_from_sfqid(sender.sfqid)
        assert cursor.fetchall() == [(1, 0)]

    def test_a_query_that_waits_is_running_and_its_result_url_answers_within_its_time(
        self, stand_in, connect, connection, queue
    ):
        waiter = connect()
        with locked(connection):
            cursor = waiter.cursor()
            cursor.execute_async("DELETE FROM queue")
            assert waiter.get_query_status(cursor.sfqid) is QueryStatus.RUNNING
            reply = stand_in.get(f"/queries/{cursor.sfqid}/result", token=connection.rest.token)
            assert (reply["code"], reply["success"]) == ("333333", True)
            assert reply["data"]["getResultUrl"] == f"/queries/{cursor.sfqid}/result"
        assert waiter.cursor().query_result(cursor.sfqid).fetchall() == [(3,)]

    def test_the_connector_5_asks_for_the_status_with_two_slashes(self, stand_in, connection):
        cursor = connection.cursor()
        cursor.execute("SELECT 1")
        reply = stand_in.get(f"/monitoring/queries//{cursor.sfqid}", token=connection.rest.token)
        assert reply["data"]["queries"] == [{"id": cursor.sfqid, "status": "SUCCESS"}]

    def test_an_error_is_in_the_status_and_in_the_result(self, connection):
        cursor = connection.cursor()
        cursor.execute_async("SELECT * FROM nowhere")
        until(lambda: connection.get_query_status(cursor.sfqid) is QueryStatus.FAILED_WITH_ERROR)
        with pytest.raises(ProgrammingError) as by_status:
            connection.get_query_status_throw_if_error(cursor.sfqid)
        with pytest.raises(ProgrammingError) as by_result:
            connection.cursor().query_result(cursor.sfqid)
        assert (by_status.value.errno, by_result.value.errno) == (2003, 2003)

    def test_a_query_id_that_was_never_given(self, connection):
        unknown = str(uuid.uuid4())
        assert connection.get_query_status(unknown) is QueryStatus.NO_DATA
        with pytest.raises(ProgrammingError) as caught:
            connection.cursor().query_result(unknown)
        assert (caught.value.errno, caught.value.sqlstate) == (709, "02000")

    def test_a_query_can_be_cancelled_by_its_id(self, stand_in, connect, connection, queue):
        waiter = connect()
        with locked(connection):
            cursor = waiter.cursor()
            cursor.execute_async("DELETE FROM queue")
            stand_in.post(f"/queries/{cursor.sfqid}/abort-request", token=connection.rest.token)
            with pytest.raises(ProgrammingError) as caught:
                waiter.cursor().query_result(cursor.sfqid)
        assert caught.value.errno == 604
        assert run(connection, "SELECT COUNT(*) FROM queue") == [(3,)]

    def test_a_query_has_its_request_id_as_its_query_id(self, connection):
        cursor = connection.cursor()
        cursor.execute("SELECT 'x' AS name")
        assert connection.cursor().query_result(cursor.sfqid).fetchall() == [("x",)]
        assert run(connection, f"SELECT name FROM TABLE(RESULT_SCAN('{cursor.sfqid}'))") == [("x",)]


class TestSeveralStatements:
    def test_each_has_a_result_of_its_own(self, connection):
        cursor = connection.cursor()
        text = (
            "CREATE TABLE t (a VARCHAR, b NUMBER); INSERT INTO t VALUES (?, ?), ('it''s; not', 2); SELECT a FROM t; --;"
        )
        cursor.execute(text, ("x", 1), num_statements=3)
        assert cursor.fetchall() == [("Table T successfully created.",)]
        assert cursor.nextset().fetchall() == [(2,)]
        assert cursor.nextset().fetchall() == [("x",), ("it's; not",)]
        assert cursor.nextset() is None

    @pytest.mark.parametrize(("asked", "named"), [({}, "1"), ({"num_statements": 3}, "3")])
    def test_another_number_than_was_asked_for_is_refused_and_nothing_runs(self, connection, queue, asked, named):
        error = refused(connection, "DELETE FROM queue; SELECT 1", **asked)
        assert (error.errno, error.sqlstate) == (8, "0A000")
        assert f"Actual statement count 2 did not match the desired statement count {named}." in error.msg
        assert run(connection, "SELECT COUNT(*) FROM queue") == [(3,)]

    def test_a_session_may_allow_any_number(self, connection):
        run(connection, "ALTER SESSION SET MULTI_STATEMENT_COUNT = 0")
        cursor = connection.cursor().execute("SELECT 1; SELECT 2")
        assert (cursor.fetchall(), cursor.nextset().fetchall()) == ([(1,)], [(2,)])
        run(connection, "ALTER SESSION UNSET MULTI_STATEMENT_COUNT")
        assert refused(connection, "SELECT 1; SELECT 2").errno == 8

    def test_the_answer_has_the_kind_by_which_other_drivers_know_it(self, stand_in, connection):
        body = {"sqlText": "SELECT 1; DELETE FROM nothing_yet; SELECT 2", "parameters": {"MULTI_STATEMENT_COUNT": 3}}
        run(connection, "CREATE TABLE nothing_yet (id NUMBER)")
        path = f"/queries/v1/query-request?requestId={uuid.uuid4()}"
        data = stand_in.post(path, body, token=connection.rest.token)["data"]
        assert data["statementTypeId"] == 0xA000
        assert (len(data["resultIds"].split(",")), len(data["resultTypes"].split(","))) == (3, 3)

    def test_the_first_error_ends_them(self, connection, queue):
        text = "DELETE FROM queue WHERE data = 'a'; SELECT * FROM nowhere; DELETE FROM queue"
        assert refused(connection, text, num_statements=0).errno == 2003
        assert run(connection, "SELECT COUNT(*) FROM queue") == [(2,)]

    def test_they_may_be_a_transaction_which_nobody_waits_for(self, connect, connection, queue):
        cursor = connection.cursor()
        cursor.execute_async("BEGIN; DELETE FROM queue; COMMIT", num_statements=3)
        other = connect().cursor()
        other.get_results_from_sfqid(cursor.sfqid)
        assert other.fetchall() == [("Statement executed successfully.",)]
        assert other.nextset().fetchall() == [(3,)]


class TestDriversWithoutArrow:
    """What the driver for Node sends and reads."""

    @pytest.fixture
    def send(self, stand_in, schema):
        """Sends a statement as that driver, and answers the data of the reply."""
        login = {"data": {"CLIENT_APP_ID": "JavaScript", "LOGIN_NAME": "someone", "PASSWORD": "anything"}}
        reply = stand_in.post(f"/session/v1/login-request?databaseName=work&schemaName={schema}", login)
        token = reply["data"]["token"]

        def send(text, request_id=None):
            path = f"/queries/v1/query-request?requestId={request_id or uuid.uuid4()}"
            return stand_in.post(path, {"sqlText": text}, token=token)["data"]

        yield send
        stand_in.post("/session?delete=true", token=token)

    def test_rows_come_as_texts_in_snowflakes_form(self, send):
        data = send(
            """
            SELECT 12.50::NUMBER(9, 2), 1.5::FLOAT, TRUE, FALSE, 'x', '1970-01-11'::DATE, '00:00:01.5'::TIME,
                   '1970-01-01 00:00:01.5'::TIMESTAMP_NTZ, '1969-12-31 23:59:58.5'::TIMESTAMP_NTZ,
                   '1970-01-01 00:00:01'::TIMESTAMP_TZ, PARSE_JSON('{"a": [1]}'), TO_BINARY('ff0a', 'HEX'), NULL
            """
        )
        assert data["queryResultFormat"] == "json"
        assert (data["total"], data["returned"]) == (1, 1)
        assert data["rowset"] == [
            [
                *("12.50", "1.5", "1", "0", "x", "10", "1.500000000"),
                *("1.500000000", "-1.500000000", "1.000000000 1440"),
                *('{"a":[1]}', "FF0A", None),
            ]
        ]

    def test_no_rows_are_an_empty_list(self, send):
        assert send("SELECT 1 AS n WHERE FALSE")["rowset"] == []

    def test_a_repeated_insert_runs_once_and_says_how_many_rows(self, send):
        send("CREATE TABLE t (a VARCHAR)")
        answers = [send("INSERT INTO t VALUES ('x')", request_id="one") for _ in range(2)]
        assert [answer["rowset"] for answer in answers] == [[["1"]], [["1"]]]
        assert send("SELECT COUNT(*) FROM t")["rowset"] == [["1"]]

    def test_the_connector_for_python_may_ask_for_texts_too(self, connection):
        text = "SELECT 1.25::NUMBER(5, 2), '2026-11-20 01:02:03.004'::TIMESTAMP_NTZ, '2026-11-20'::DATE, NULL, TRUE"
        expected = run(connection, text)
        run(connection, "ALTER SESSION SET PYTHON_CONNECTOR_QUERY_RESULT_FORMAT = 'JSON'")
        assert run(connection, text) == expected
        assert connection.cursor().execute("SELECT 1")._query_result_format == "json"


class TestStages:
    """What write_pandas of the connector sends; its own tests need pandas, which this project does not install."""

    @pytest.fixture
    def rows_of_parquet(self, tmp_path):
        path = tmp_path / "rows.parquet"
        pq.write_table(pa.table({"DATA": ["1", "2"], "REFERENCE": ["a", None]}), path)
        return path

    def test_an_uploaded_file_is_copied_into_a_table_and_the_other_columns_get_their_defaults(
        self, connection, queue, rows_of_parquet
    ):
        run(connection, "CREATE TEMP STAGE IDENTIFIER(?) FILE_FORMAT=(TYPE=PARQUET COMPRESSION=gzip)", "rows")
        run(connection, "CREATE TABLE t (id NUMBER AUTOINCREMENT, data VARCHAR, reference VARCHAR, n NUMBER DEFAULT 7)")
        assert run(connection, f"PUT 'file://{rows_of_parquet}' ? source_compression=auto_detect", "@ROWS")
        copied = run(
            connection,
            'COPY INTO IDENTIFIER(?) (DATA, REFERENCE) FROM (SELECT $1:"DATA", $1:"REFERENCE" FROM \'@ROWS\')'
            " FILE_FORMAT=(TYPE=PARQUET USE_VECTORIZED_SCANNER=FALSE COMPRESSION=auto) PURGE=TRUE ON_ERROR=?",
            *("T", "abort_statement"),
        )
        assert [row[1:4] for row in copied] == [("LOADED", 2, 2)]
        assert run(connection, "SELECT * FROM t ORDER BY id") == [(1, "1", "a", 7), (2, "2", None, 7)]

    def test_a_copy_begins_a_transaction_like_other_changes(self, connect, rows_of_parquet):
        connection = connect(autocommit=False)
        run(connection, "CREATE TEMP STAGE rows_")
        run(connection, "CREATE TABLE t (data VARCHAR)")
        run(connection, f"PUT 'file://{rows_of_parquet}' @rows_ AUTO_COMPRESS = FALSE OVERWRITE = TRUE")
        run(connection, 'COPY INTO t FROM (SELECT $1:"DATA" FROM @rows_) FILE_FORMAT = (TYPE = PARQUET)')
        connection.rollback()
        assert run(connection, "SELECT COUNT(*) FROM t") == [(0,)]

    @pytest.mark.parametrize(("option", "overwrite"), [("", False), ("OVERWRITE = TRUE", True)])
    def test_the_answer_to_put_has_what_the_connector_5_asks_for(self, stand_in, connection, option, overwrite):
        run(connection, "CREATE TEMP STAGE here")
        body = {"sqlText": f"PUT 'file:///tmp/some.parquet' @here {option}"}
        path = f"/queries/v1/query-request?requestId={uuid.uuid4()}"
        data = stand_in.post(path, body, token=connection.rest.token)["data"]
        assert (data["command"], data["overwrite"]) == ("UPLOAD", overwrite)
        info = data["stageInfo"]
        assert (info["locationType"], info["region"]) == ("GCS", "local")
        assert "X-Goog-SignedHeaders=host%3Bx-goog-if-generation-match" in info["presignedUrl"]


class TestLengths:
    def test_a_text_longer_than_its_column_is_refused(self, connection):
        run(connection, "CREATE TABLE t (a VARCHAR(3) NOT NULL DEFAULT 'abc', b CHAR(1), c VARCHAR)")
        run(connection, "INSERT INTO t (b, c) VALUES ('x', 'any length')")
        error = refused(connection, "INSERT INTO t (a) VALUES ('it''s')")
        assert (error.errno, error.sqlstate) == (100078, "22000")
        assert error.msg.endswith("String 'it's' is too long and would be truncated")
        assert refused(connection, "UPDATE t SET b = ?", "xy").errno == 100078
        assert refused(connection, "UPDATE t SET a = NULL").errno == 100072
        assert run(connection, "SELECT * FROM t") == [("abc", "x", "any length")]

    def test_its_length_is_in_characters(self, connection):
        run(connection, "CREATE TABLE t (a VARCHAR(3))")
        run(connection, "INSERT INTO t VALUES ('äöü')")
        assert run(connection, "DESCRIBE TABLE t")[0][1] == "VARCHAR(3)"

    def test_a_cast_cuts_a_text_and_a_default_that_is_too_long_is_refused(self, connection):
        text = "SELECT 'äöüß'::VARCHAR(3), CAST(NULL AS VARCHAR(3)), TYPEOF(PARSE_JSON('1'))::CHAR(3)::VARCHAR(1)"
        assert run(connection, text) == [("äöü", None, "I")]
        run(connection, "CREATE TABLE t AS SELECT 'abcdef'::VARCHAR(3) AS a")
        assert run(connection, "SELECT a FROM t") == [("abc",)]
        assert "DEFAULT 'abc'" in refused(connection, "ALTER TABLE t ADD COLUMN b VARCHAR(2) DEFAULT 'abc'").msg
        run(connection, "ALTER TABLE t ADD COLUMN b VARCHAR(3) DEFAULT 'abc'")

    def test_a_column_with_a_length_can_be_renamed_and_dropped_but_its_type_is_not_changed_here(self, connection):
        run(connection, "CREATE TABLE t (a VARCHAR(3), b NUMBER)")
        run(connection, "ALTER TABLE t RENAME COLUMN a TO c")
        assert refused(connection, "INSERT INTO t (c) VALUES ('long')").errno == 100078
        error = refused(connection, "ALTER TABLE t ALTER COLUMN c SET DATA TYPE VARCHAR(9)")
        assert (error.errno, "declared as VARCHAR(n)" in error.msg) == (390999, True)
        run(connection, "ALTER TABLE t DROP COLUMN c")


class TestWhatIsShown:
    def test_tables_with_their_rows_and_their_time(self, connection, queue):
        began = datetime.now(UTC)
        run(connection, "CREATE TABLE another (id NUMBER)")
        run(connection, "CREATE VIEW seen AS SELECT * FROM queue")
        cursor = connection.cursor(DictCursor)
        tables = {row["name"]: row for row in cursor.execute("SHOW TABLES").fetchall()}
        assert {name: row["rows"] for name, row in tables.items()} == {"QUEUE": 3, "ANOTHER": 0}
        views = cursor.execute("SHOW VIEWS LIKE 'se%'").fetchall()
        assert [row["name"] for row in views] == ["SEEN"]
        assert began < tables["ANOTHER"]["created_on"] < views[0]["created_on"] < datetime.now(UTC)
        run(connection, "DELETE FROM queue WHERE data = 'a'")
        assert run(connection, "SHOW TERSE OBJECTS LIKE 'QUEUE'")[0][1:3] == ("QUEUE", "TABLE")
        (shown,) = cursor.execute("SHOW OBJECTS LIKE 'QUEUE'").fetchall()
        assert shown["rows"] == 2

    def test_the_session_of_the_client(self, connect):
        text = "SELECT CURRENT_ACCOUNT_NAME(), CURRENT_ACCOUNT(), CURRENT_WAREHOUSE(), CURRENT_ORGANIZATION_NAME()"
        assert run(connect(warehouse="small"), text) == [("LOCAL", "LOCAL", "SMALL", "LOCAL")]
        other = connect()
        assert run(other, "SELECT CURRENT_WAREHOUSE()") == [(None,)]
        run(other, "USE WAREHOUSE large")
        assert run(other, "SELECT CURRENT_WAREHOUSE()") == [("LARGE",)]
        known = connect(warehouse="small", role="SYSADMIN")
        assert (known.warehouse, known.role) == ("SMALL", "SYSADMIN")

    def test_the_open_transaction(self, connect, connection, queue):
        other = connect(autocommit=False)
        assert run(other, "SELECT CURRENT_TRANSACTION()") == [(None,)]
        run(other, "DELETE FROM queue WHERE data = 'a'")
        ((number,),) = run(other, "SELECT CURRENT_TRANSACTION()")
        assert number.isdigit()
        assert run(connection, "SELECT CURRENT_TRANSACTION()") == [(None,)]
        other.rollback()
        assert run(other, "SELECT CURRENT_TRANSACTION()") == [(None,)]
        for end in ("COMMIT", "ROLLBACK"):
            run(connection, "BEGIN")
            ((later,),) = run(connection, "SELECT CURRENT_TRANSACTION()")
            assert later != number
            run(connection, end)
            assert run(connection, "SELECT CURRENT_TRANSACTION()") == [(None,)]

    def test_a_table_that_is_gone_does_not_take_its_old_results_along(self, connection, queue):
        cursor = connection.cursor().execute("SELECT data, id FROM queue ORDER BY id")
        run(connection, "DROP TABLE queue")
        earlier = connection.cursor()
        earlier.get_results_from_sfqid(cursor.sfqid)
        assert earlier.fetchall() == [("a", 1), ("b", 2), ("c", 3)]


class TestTransactions:
    def test_a_commit_after_a_failed_statement_is_refused(self, connect, connection, queue):
        run(connection, "BEGIN")
        run(connection, "INSERT INTO queue (data) VALUES ('lost')")
        refused(connection, "SELECT * FROM nowhere")
        assert refused(connection, "INSERT INTO queue (data) VALUES ('too late')").errno == 390998
        error = refused(connection, "COMMIT")
        assert (error.errno, error.sqlstate) == (390998, "58000")
        assert "nowhere" in error.msg.lower()
        assert run(connection, "SELECT COUNT(*) FROM queue") == [(3,)]

    def test_a_rollback_after_a_failed_statement_is_not(self, connection, queue):
        run(connection, "BEGIN")
        refused(connection, "SELECT * FROM nowhere")
        run(connection, "ROLLBACK")
        run(connection, "INSERT INTO queue (data) VALUES ('d')")
        assert run(connection, "SELECT COUNT(*) FROM queue") == [(4,)]

    def test_closing_a_connection_rolls_back_and_frees_the_table(self, connect, connection, queue):
        other = connect()
        run(other, "BEGIN TRANSACTION")
        assert run(other, "DELETE FROM queue") == [(3,)]
        other.close()
        assert run(connection, "UPDATE queue SET worker = 'w'") == [(3, 0)]

    def test_without_autocommit_a_change_waits_for_the_commit(self, connect, connection, queue):
        other = connect(autocommit=False)
        run(other, "INSERT INTO queue (data) VALUES ('d')")
        assert run(connection, "SELECT COUNT(*) FROM queue") == [(3,)]
        other.commit()
        assert run(connection, "SELECT COUNT(*) FROM queue") == [(4,)]
        run(other, "UPDATE queue SET worker = 'w'")
        other.rollback()
        assert run(connection, "SELECT COUNT(worker) FROM queue") == [(0,)]

    def test_autocommit_can_be_switched_and_then_commits_what_is_open(self, connect, connection, queue):
        other = connect()
        other.autocommit(False)
        run(other, "DELETE FROM queue WHERE data = 'a'")
        other.autocommit(True)
        assert run(connection, "SELECT COUNT(*) FROM queue") == [(2,)]
        run(connection, "UPDATE queue SET worker = 'w'")

    def test_ddl_commits_what_is_open(self, connect, connection, queue):
        other = connect()
        run(other, "BEGIN")
        run(other, "DELETE FROM queue")
        run(other, "CREATE TABLE another (id NUMBER)")
        run(other, "ROLLBACK")
        assert run(connection, "SELECT COUNT(*) FROM queue") == [(0,)]

    def test_a_begin_inside_a_transaction_changes_nothing(self, connection, queue):
        run(connection, "BEGIN")
        run(connection, "DELETE FROM queue")
        run(connection, "BEGIN")
        run(connection, "ROLLBACK")
        assert run(connection, "SELECT COUNT(*) FROM queue") == [(3,)]

    def test_a_merge_works_in_a_transaction(self, connection, queue):
        merge = """
            MERGE INTO queue q USING (SELECT 1 AS id, 'w' AS worker UNION ALL SELECT 99, 'new') s ON q.id = s.id
            WHEN MATCHED THEN UPDATE SET worker = s.worker WHEN NOT MATCHED THEN INSERT (data) VALUES (s.worker)
        """
        run(connection, "BEGIN")
        assert run(connection, merge) == [(1, 1)]
        run(connection, "ROLLBACK")
        assert run(connection, "SELECT COUNT(*), COUNT(worker) FROM queue") == [(3, 0)]
        assert run(connection, merge) == [(1, 1)]
        assert run(connection, "SELECT COUNT(*), COUNT(worker) FROM queue") == [(4, 1)]

    def test_a_batch_that_fails_half_way_leaves_nothing_behind(self, connection, queue):
        with pytest.raises(IntegrityError):
            connection.cursor().executemany("INSERT INTO queue (data) VALUES (?)", [("d",), (None,), ("e",)])
        assert run(connection, "SELECT COUNT(*) FROM queue") == [(3,)]

    def test_threads_may_share_a_connection(self, connection, queue, in_background):
        def work(number: int):
            run(connection, "INSERT INTO queue (data) VALUES (?)", f"n{number}")
            return run(connection, "SELECT ?", number)

        results = [in_background(work, number) for number in range(40)]
        assert [result.result() for result in results] == [[(number,)] for number in range(40)]
        assert run(connection, "SELECT COUNT(*) FROM queue") == [(43,)]

    def test_definitions_made_at_the_same_time_all_succeed(self, connect, connection, queue, in_background):
        connections = [connect() for _ in range(6)]
        text = "CREATE OR REPLACE VIEW ready AS SELECT * FROM queue"
        for result in [in_background(run, each, text) for each in connections for _ in range(3)]:
            result.result()
        assert run(connection, "SELECT COUNT(*) FROM ready") == [(3,)]


class TestLocks:
    def test_an_update_waits_for_the_transaction_that_has_locked_the_table(
        self, stand_in, connect, connection, queue, in_background
    ):
        waits = stand_in.stats("lock_waits")
        run(connection, "BEGIN")
        run(connection, "UPDATE queue SET worker = 'first' WHERE data = 'a'")
        second = in_background(run, connect(), "UPDATE queue SET worker = 'second' WHERE worker IS NULL")
        until(lambda: stand_in.stats("lock_waits") == waits + 1)
        assert not second.done()
        run(connect(), "INSERT INTO queue (data) VALUES ('d')")  # an INSERT does not wait

        run(connection, "COMMIT")
        assert second.result() == [(3, 0)]

    def test_one_waiter_too_many_is_refused_in_snowflakes_words(self, tmp_path):
        with running(tmp_path, "--lock-waiters", "0") as stand_in, stand_in.connect() as connection:
            run(connection, CREATE_QUEUE)
            with locked(connection), stand_in.connect() as other:
                error = refused(other, "UPDATE queue SET worker = 'w'")
            assert (type(error), error.errno, error.sqlstate) == (ProgrammingError, 625, "57014")
            assert "has locked table 'WORK.PUBLIC.QUEUE' in transaction" in error.msg
            assert "because the number of waiters for this lock exceeds the 0 statements limit." in error.msg

    def test_a_wait_ends_with_the_lock_timeout_of_the_session(self, connect, connection, queue):
        with locked(connection):
            began = time.monotonic()
            error = refused(connect(session_parameters={"LOCK_TIMEOUT": 1}), "TRUNCATE TABLE queue")
            assert (error.errno, error.sqlstate) == (625, "57014")
            assert 0.9 < time.monotonic() - began < 3

    def test_a_lock_timeout_of_nothing_does_not_wait(self, connect, connection, queue):
        with locked(connection):
            began = time.monotonic()
            assert refused(connect(session_parameters={"LOCK_TIMEOUT": 0}), "DELETE FROM queue").errno == 625
            assert time.monotonic() - began < 0.5


class TestOrphans:
    def test_a_transaction_that_is_idle_while_others_wait_is_rolled_back(self, tmp_path):
        with running(tmp_path, "--orphan-seconds", "0.4") as stand_in, stand_in.connect() as connection:
            run(connection, CREATE_QUEUE)
            run(connection, "INSERT INTO queue (data) VALUES ('a')")
            run(connection, "BEGIN")
            run(connection, "UPDATE queue SET worker = 'orphan'")
            time.sleep(1)  # it may be idle while nobody waits for it
            run(connection, "UPDATE queue SET worker = 'busy again'")

            began = time.monotonic()
            with stand_in.connect() as heir:
                assert run(heir, "UPDATE queue SET worker = 'heir' WHERE worker IS NULL") == [(1, 0)]
            assert 0.3 < time.monotonic() - began < 2
            assert stand_in.stats("orphans") == 1
            error = refused(connection, "COMMIT")
            assert error.errno == 390998
            assert "idle" in error.msg


class TestRequests:
    def test_a_statement_sent_twice_under_one_request_id_runs_once(self, connection, queue):
        request = {"_statement_params": {"requestId": str(uuid.uuid4())}}
        text = "INSERT INTO queue (data) VALUES ('once')"
        assert run(connection, text, **request) == [(1,)]
        assert run(connection, text, **request) == [(1,)]
        assert run(connection, "SELECT COUNT(*) FROM queue WHERE data = 'once'") == [(1,)]

    def test_a_repeat_waits_for_a_statement_that_has_not_ended(self, stand_in, connect, queue, in_background):
        with locked(connect()):
            waits, sender = stand_in.stats("lock_waits"), connect()
            path = f"/queries/v1/query-request?requestId={uuid.uuid4()}"
            body = {"sqlText": "UPDATE queue SET data = data || '!'"}
            first = in_background(stand_in.post, path, body, token=sender.rest.token)
            until(lambda: stand_in.stats("lock_waits") == waits + 1)
            second = in_background(stand_in.post, path, body, token=sender.rest.token)
            time.sleep(0.2)
            assert not second.done()
        assert first.result() == second.result()
        assert first.result()["data"]["rowset"] == [["3", "0"]]
        assert run(sender, "SELECT data FROM queue ORDER BY id") == [("a!",), ("b!",), ("c!",)]

    def test_a_statement_that_the_client_cancels_stops_waiting_for_the_lock(self, connect, connection, queue):
        other = connect()
        with locked(connection):
            error = refused(other, "UPDATE queue SET worker = 'cancelled'", timeout=1)
            assert (error.errno, error.sqlstate) == (604, "57014")
        assert run(other, "SELECT COUNT(worker) FROM queue") == [(0,)]
        assert run(other, "UPDATE queue SET worker = 'w'") == [(3, 0)]

    def test_a_statement_that_the_client_cancels_while_it_runs_is_interrupted(self, connection):
        began = time.monotonic()
        text = "SELECT COUNT(*) FROM TABLE(GENERATOR(ROWCOUNT => 3000000)) a, TABLE(GENERATOR(ROWCOUNT => 3000000)) b"
        assert refused(connection, text, timeout=1).errno == 604
        assert time.monotonic() - began < 5

    @pytest.mark.parametrize(("abort_detached", "expected"), [(False, 3), (True, 0)])
    def test_a_statement_whose_client_dies_runs_unless_the_session_says_otherwise(
        self, stand_in, connect, queue, abort_detached, expected
    ):
        sender = connect(session_parameters={"ABORT_DETACHED_QUERY": abort_detached})
        with locked(connect()):
            waits = stand_in.stats("lock_waits")
            client = HTTPConnection(stand_in.address.netloc)
            client.request(
                "POST",
                "/queries/v1/query-request",
                json.dumps({"sqlText": "UPDATE queue SET worker = 'ghost'"}),
                {"Authorization": f'Snowflake Token="{sender.rest.token}"'},
            )
            until(lambda: stand_in.stats("lock_waits") == waits + 1)
            client.close()
            time.sleep(0.2)
        # The statement of the dead client waits no longer, so this one gets the lock.
        assert run(connect(), "UPDATE queue SET data = data") == [(3, 0)]
        assert run(connect(), "SELECT COUNT(worker) FROM queue") == [(expected,)]

    def test_a_dead_client_does_not_matter_while_its_repeated_request_waits(
        self, stand_in, connect, queue, in_background
    ):
        sender = connect(session_parameters={"ABORT_DETACHED_QUERY": True})
        path, body = f"/queries/v1/query-request?requestId={uuid.uuid4()}", {"sqlText": "DELETE FROM queue"}
        with locked(connect()):
            waits = stand_in.stats("lock_waits")
            client = HTTPConnection(stand_in.address.netloc)
            client.request("POST", path, json.dumps(body), {"Authorization": f'Snowflake Token="{sender.rest.token}"'})
            until(lambda: stand_in.stats("lock_waits") == waits + 1)
            repeat = in_background(stand_in.post, path, body, token=sender.rest.token)
            time.sleep(0.2)
            client.close()
            time.sleep(0.2)
        assert repeat.result()["data"]["rowset"] == [["3"]]


class TestStatistics:
    def test_it_counts_what_was_sent(self, stand_in, connection, queue):
        stand_in.post("/_local/reset-stats")
        for number in range(3):
            run(connection, "SELECT ?", number)
        run(connection, "UPDATE queue SET worker = 'w'")
        stats = stand_in.get("/_local/stats")
        assert (stats["statements"], stats["by_kind"]) == (4, {"select": 3, "update": 1})
        assert {"text": "SELECT ?", "count": 3} in stand_in.get("/_local/statements")
        counters = ("refused_625", "lock_waits", "conflict_retries", "orphans")
        assert [stats[name] for name in counters] == [0] * 4

    def test_it_counts_sessions(self, stand_in, connect):
        sessions = stand_in.stats("sessions")
        connection = connect()
        assert stand_in.stats("sessions") == sessions + 1
        connection.close()
        assert stand_in.stats("sessions") == sessions


class TestTheProcess:
    def test_it_ends_at_once_and_silently_with_statements_in_progress(self, tmp_path, in_background):
        with running(tmp_path) as stand_in:
            idle, holder, waiter, busy = (stand_in.connect() for _ in range(4))
            run(holder, CREATE_QUEUE)
            run(holder, "INSERT INTO queue (data) VALUES ('a')")
            run(holder, "BEGIN")
            run(holder, "UPDATE queue SET worker = 'w'")
            blocked = in_background(refused, waiter, "UPDATE queue SET worker = 'w'")
            endless = (
                "SELECT COUNT(*) FROM TABLE(GENERATOR(ROWCOUNT => 3000000)) a, TABLE(GENERATOR(ROWCOUNT => 3000000)) b"
            )
            running_long = in_background(refused, busy, endless)
            until(lambda: stand_in.stats("lock_waits") == 1)
            time.sleep(0.3)

            began = time.monotonic()
            assert stand_in.process.poll() is None
            stand_in.process.terminate()
            assert stand_in.process.wait(5) == 0
            assert time.monotonic() - began < 2
            assert {blocked.result().errno, running_long.result().errno} == {604}
            assert stand_in.process.stdout.read() == b""
            assert stand_in.stderr.read_text() == ""
            del idle

    @pytest.mark.parametrize("kill", [False, True], ids=["SIGTERM", "SIGKILL"])
    def test_what_was_committed_survives_its_end(self, tmp_path, kill):
        options = ("--db-path", str(tmp_path / "new" / "db"))
        with running(tmp_path, *options) as stand_in:
            connection = stand_in.connect()
            run(connection, CREATE_QUEUE)
            run(connection, "INSERT INTO queue (data) VALUES ('kept')")
            run(connection, "BEGIN")
            run(connection, "INSERT INTO queue (data) VALUES ('never committed')")
            if kill:
                stand_in.process.kill()
                stand_in.process.wait()
        with running(tmp_path, *options) as stand_in, stand_in.connect() as connection:
            run(connection, "INSERT INTO queue (data) VALUES ('later')")
            assert run(connection, "SELECT data FROM queue ORDER BY id") == [("kept",), ("later",)]

    def test_it_keeps_a_bounded_number_of_results(self, tmp_path):
        with running(tmp_path, "--keep-results", "7") as stand_in, stand_in.connect() as connection:
            for number in range(20):
                assert run(connection, "SELECT ?", number) == [(number,)]
            assert stand_in.stats("results_kept") == 7

    def test_a_port_in_use_gets_an_error_in_a_sentence(self, stand_in):
        command = [sys.executable, "-m", "rowqueue_local.snowflake", "--port", str(stand_in.address.port)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert ended.returncode == 1
        assert ended.stderr.startswith(f"cannot listen on 127.0.0.1:{stand_in.address.port}: Address already in use")
        assert ended.stderr.count("\n") == 1


WORKERS = 25
ROWS = 300
WORKER = """
import random, sys, time, uuid
import snowflake.connector

connection = snowflake.connector.connect(
    user="u", password="p", account="local", protocol="http", host="127.0.0.1", port=int(sys.argv[1]), database="work",
    schema=sys.argv[2], paramstyle="qmark", platform_detection_timeout_seconds=0.0)
cursor, refusals = connection.cursor(), 0
while True:
    token = str(uuid.uuid4())
    try:
        cursor.execute(
            "UPDATE queue SET worker = ? FROM (SELECT id FROM queue WHERE worker IS NULL ORDER BY id LIMIT 4) s "
            "WHERE queue.id = s.id AND queue.worker IS NULL", (token,))
    except snowflake.connector.Error as error:
        if error.errno != 625:
            raise
        refusals += 1
        time.sleep(random.uniform(0.02, 0.2))
        continue
    claimed = cursor.execute("SELECT id FROM queue WHERE worker = ?", (token,)).fetchall()
    print(refusals, *[id for (id,) in claimed])
    refusals = 0
    if not claimed:
        break
connection.close()
"""


def test_25_processes_claim_every_row_once_although_some_are_refused(stand_in, schema, connection):
    run(connection, CREATE_QUEUE)
    run(connection, f"INSERT INTO queue (data) SELECT SEQ4()::VARCHAR FROM TABLE(GENERATOR(ROWCOUNT => {ROWS}))")
    refusals = stand_in.stats("refused_625")
    command = [sys.executable, "-c", WORKER, str(stand_in.address.port), schema]
    with contextlib.ExitStack() as stack:
        with locked(connection):
            workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(WORKERS)]
            for worker in workers:
                stack.callback(worker.wait)
                stack.callback(worker.kill)
            until(lambda: stand_in.stats("refused_625") >= refusals + WORKERS - 20, seconds=60)
        lines = [
            [int(word) for word in line.split()] for worker in workers for line in worker.communicate()[0].splitlines()
        ]
    claimed = [number for _, *ids in lines for number in ids]
    assert sorted(claimed) == list(range(1, ROWS + 1))
    assert sum(count for count, *_ in lines) == stand_in.stats("refused_625") - refusals > 0


def test_the_weather_slows_each_kind_of_statement_as_configured(tmp_path):
    with running(tmp_path, "--dml-ms", "600", "--select-ms", "250") as stand_in:
        assert stand_in.get("/_local/weather") == {"dml_ms": 600, "select_ms": 250, "login_ms": 0}
        with contextlib.closing(stand_in.connect()) as connection:
            run(connection, CREATE_QUEUE)
            assert seconds_of(connection, "INSERT INTO queue (data) VALUES ('a')") >= 0.6
            assert seconds_of(connection, "UPDATE queue SET data = 'b'") >= 0.6
            assert 0.25 <= seconds_of(connection, "SELECT COUNT(*) FROM queue") < 0.6
            stand_in.post("/_local/weather", {"login_ms": 500})
            assert seconds_of(connection, "SELECT COUNT(*) FROM queue") < 0.25
        began = time.monotonic()
        with contextlib.closing(stand_in.connect()):
            assert time.monotonic() - began >= 0.5


def test_slow_updates_of_one_table_add_up_and_slow_inserts_do_not(stand_in, connect):
    sessions = [connect() for _ in range(3)]
    run(sessions[0], CREATE_QUEUE)
    stand_in.post("/_local/weather", {"dml_ms": 300})
    try:
        with ThreadPoolExecutor(3) as threads:

            def together(text):
                began = time.monotonic()
                list(threads.map(lambda session: run(session, text), sessions))
                return time.monotonic() - began

            inserts = together("INSERT INTO queue (data) VALUES ('a')")
            updates = together("UPDATE queue SET worker = 'w'")
    finally:
        stand_in.post("/_local/weather")
    assert updates >= 0.9
    assert 0.3 <= inserts < 0.9


def test_a_statement_can_be_cancelled_during_its_latency_and_changes_nothing(stand_in, connect):
    connection = connect()
    run(connection, CREATE_QUEUE)
    stand_in.post("/_local/weather", {"dml_ms": 5_000})
    try:
        began = time.monotonic()
        error = refused(connection, "INSERT INTO queue (data) VALUES ('a')", timeout=1)
        assert error.errno == 604
        assert time.monotonic() - began < 4
    finally:
        stand_in.post("/_local/weather")
    assert run(connection, "SELECT COUNT(*) FROM queue") == [(0,)]


@pytest.mark.parametrize("wishes", [{"dml": 1}, {"dml_ms": -1}, {"dml_ms": "400"}, {"select_ms": True}])
def test_an_unknown_weather_is_refused_with_the_expected_values(stand_in, wishes):
    with pytest.raises(HTTPError) as caught:
        stand_in.post("/_local/weather", wishes)
    assert caught.value.code == 400
    with caught.value as answer:
        assert "expected some of dml_ms, login_ms, select_ms" in json.load(answer)["error"]
    assert stand_in.get("/_local/weather") == {"dml_ms": 0, "select_ms": 0, "login_ms": 0}


class TestTranslations:
    """A text is translated once; its names and values are looked up each time."""

    def test_the_same_text_serves_other_values(self, connection):
        run(connection, CREATE_QUEUE)
        for data in ("a", "b"):
            run(connection, "INSERT INTO queue (data) SELECT ?", data)
            assert run(connection, "SELECT COUNT(*) FROM queue WHERE data = ?", data) == [(1,)]

    def test_the_same_text_means_the_table_of_its_own_schema(self, stand_in, connection):
        run(connection, CREATE_QUEUE)
        run(connection, "INSERT INTO queue (data) SELECT ?", "a")
        with contextlib.closing(stand_in.connect(f"s{uuid.uuid4().hex}")) as elsewhere:
            run(elsewhere, CREATE_QUEUE)
            assert run(elsewhere, "SELECT COUNT(*) FROM queue") == [(0,)]
            assert run(connection, "SELECT COUNT(*) FROM queue") == [(1,)]

    def test_the_same_text_sees_a_table_that_was_replaced(self, connection):
        for columns in ("a VARCHAR, b VARCHAR", "b VARCHAR, a VARCHAR"):
            run(connection, f"CREATE OR REPLACE TABLE t ({columns})")
            run(connection, "INSERT INTO t (a, b) SELECT ?, ?", "first", "second")
            names = [column.strip().split()[0] for column in columns.split(",")]
            expected = tuple({"a": "first", "b": "second"}[name] for name in names)
            assert run(connection, "SELECT * FROM t") == [expected]

    def test_a_statement_with_a_bound_name_is_not_cached(self, connection):
        for table in ("one", "two"):
            run(connection, f"CREATE TABLE {table} (name VARCHAR)")
            run(connection, f"INSERT INTO {table} VALUES ('{table}')")
        assert [run(connection, "SELECT name FROM IDENTIFIER(?)", table) for table in ("one", "two")] == [
            [("one",)],
            [("two",)],
        ]

    def test_a_statement_with_a_random_value_is_not_cached(self, connection):
        drawn = {run(connection, "SELECT RANDOM()")[0][0] for _ in range(5)}
        assert len(drawn) == 5

    def test_a_fault_in_the_text_is_reported_each_time(self, connection):
        assert {refused(connection, "SELECT FROM WHERE").errno for _ in range(2)} == {1003}


def seconds_of(connection, text):
    began = time.monotonic()
    run(connection, text)
    return time.monotonic() - began


def test_an_earlier_result_comes_back_with_its_own_columns(connection):
    cursor = connection.cursor()
    cursor.execute("SELECT 1.25::NUMBER(10, 2) AS amount, 'x' AS name")
    earlier = cursor.sfqid
    run(connection, "SELECT 'y' AS amount, 2 AS name")
    cursor.execute(f"SELECT * FROM TABLE(RESULT_SCAN('{earlier}'))")
    assert cursor.fetchall() == [(Decimal("1.25"), "x")]
    assert [column.name for column in cursor.description] == ["AMOUNT", "NAME"]


def test_a_statement_that_was_sent_before_sees_what_was_defined_since(connection, queue):
    assert run(connection, "SELECT * FROM queue ORDER BY id")[0][1:] == ("a", None)
    run(connection, "ALTER TABLE queue ADD COLUMN size NUMBER")
    assert run(connection, "SELECT * FROM queue ORDER BY id")[0][1:] == ("a", None, None)
    run(connection, "CREATE OR REPLACE TABLE queue (id NUMBER, due DATE)")
    assert run(connection, "SELECT * FROM queue ORDER BY id") == []
    run(connection, "CREATE SCHEMA elsewhere")
    run(connection, "CREATE TABLE elsewhere.queue (id NUMBER)")
    run(connection, "INSERT INTO elsewhere.queue SELECT 7")
    run(connection, "USE SCHEMA elsewhere")
    assert run(connection, "SELECT * FROM queue ORDER BY id") == [(7,)]


def test_what_snowflake_refuses_in_alter_table_is_refused_and_changes_nothing(connection, queue):
    for change in (
        "ADD COLUMN due TIMESTAMP_NTZ DEFAULT SYSDATE()",
        "ADD COLUMN IF NOT EXISTS due VARCHAR DEFAULT 'x'",
        "ALTER COLUMN data SET DEFAULT 'x'",
    ):
        with pytest.raises(snowflake.connector.errors.ProgrammingError, match="Snowflake refuses this in ALTER TABLE"):
            run(connection, f"ALTER TABLE queue {change}")
    assert run(connection, "SELECT * FROM queue ORDER BY id")[0][1:] == ("a", None)


def test_two_tables_are_swapped_with_their_rows_and_their_sequences(connection, queue):
    run(connection, "CREATE TABLE other (id NUMBER AUTOINCREMENT START 100, data VARCHAR)")
    run(connection, "ALTER TABLE other SWAP WITH queue")
    assert [data for _, data, *_ in run(connection, "SELECT * FROM other ORDER BY id")] == ["a", "b", "c"]
    run(connection, "INSERT INTO queue (data) VALUES ('x')")
    assert run(connection, "SELECT * FROM queue") == [(100, "x")]


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ("[1, null, [2]]", [(None, "[0]", 0, "1"), (None, "[1]", 1, None), (None, "[2]", 2, "[2]")]),
        ('{"a": 1, "b.c": {"d": 2}}', [("a", "a", None, "1"), ("b.c", "b.c", None, '{"d":2}')]),
        ("[]", []),
        ("null", []),
    ],
)
def test_flatten_tells_key_path_index_and_value(connection, document, expected):
    flattened = "SELECT key, path, index, value::VARCHAR FROM TABLE(FLATTEN(INPUT => PARSE_JSON(?)))"
    assert run(connection, flattened, document) == expected
