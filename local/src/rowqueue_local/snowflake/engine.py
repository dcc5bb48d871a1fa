"""The engine of the Snowflake stand-in: fakesnow, used through its HTTP endpoints.

Only this module, ``repairs`` and ``shortcuts`` import fakesnow. ``pyproject.toml`` pins its release.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import shutil
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

import duckdb
import fakesnow.cursor
import fakesnow.server
from fakesnow.instance import FakeSnow
from fakesnow.transforms.stage import LOCAL_BUCKET_PATH
from snowflake.connector.errors import Error as ConnectorError
from starlette.concurrency import run_in_threadpool

from rowqueue_local.snowflake import lengths, repairs, shortcuts
from rowqueue_local.snowflake.ambiguity import AmbiguousUpdate
from rowqueue_local.snowflake.failures import UNSUPPORTED, Failure, not_there

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from sqlglot import exp
    from starlette.requests import Request
    from starlette.routing import BaseRoute

_NO_NUMBER: Final = re.compile(r'Could not convert string "(.*?)" to (?:DECIMAL|INT|DOUBLE)', re.DOTALL)
_KNOWN_FAULTS: Final = (
    ("NOT NULL constraint", 100072, "22000", "NULL result in a non-nullable column"),
    ("Malformed JSON", 100069, "22P02", "Error parsing JSON"),
)
_NO_TABLE: Final = re.compile(r"Catalog Error: Table with name (.+?) does not exist!")
_CHECKED_COLUMN: Final = "Cannot change the type of a column that has a CHECK constraint"

_unhandled: ContextVar[BaseException | None] = ContextVar("unhandled", default=None)


class Conflict(Failure):
    """Two transactions wrote the same rows or definitions, and this one failed. Snowflake would make it wait."""


def cancelled() -> Failure:
    """Snowflake's answer to a cancelled statement."""
    return Failure(604, "57014", "SQL execution canceled")


class Engine:
    """The databases, with one connection for each session token.

    A connection runs one statement at a time; the caller has to ensure that.

    Args:
        db_path: the folder with a file for each database; without it everything is in memory.
        keep_results: number of results that RESULT_SCAN can read. A statement makes two.
        checks_updates: whether a session can have ambiguous updates refused. The check costs a query for each of them.
    """

    def __init__(self, *, db_path: Path | None, keep_results: int, checks_updates: bool = True) -> None:
        repairs.apply()
        shortcuts.take()
        self._checks_updates = checks_updates
        _set_up_logging()
        self._fakesnow = FakeSnow(db_path=db_path)
        # The statements are small, sessions have their own threads, and other processes need the cores.
        self._fakesnow.duck_conn.execute("SET threads = 1")
        self._fakesnow.results_cache = repairs.RecentResults(keep_results)
        # fakesnow's documented way, a database path in the login, fails from the second connection on.
        fakesnow.server.shared_fs = self._fakesnow

    async def login(self, request: Request) -> dict[str, Any]:
        """Connect, and create the database and the schema if they are missing.

        Returns:
            fakesnow's answer; ``["data"]["token"]`` is the name of the connection.
        """
        with _mapped_to_failures():
            response = await fakesnow.server.login_request(request)
        reply: dict[str, Any] = json.loads(response.body)
        token = reply["data"]["token"]
        # Otherwise fakesnow would begin and end transactions itself.
        fakesnow.server.sessions[token]._autocommit = True  # noqa: SLF001
        return reply

    async def execute(self, request: Request, query_id: str) -> bytes:
        """Run the statement in ``request``, and keep its result under ``query_id`` for RESULT_SCAN.

        Returns:
            The answer for the client, JSON.
        """
        _unhandled.set(None)
        with _mapped_to_failures():
            response = await fakesnow.server.query_request(request)
            if error := _unhandled.get():
                raise error
        body: bytes = response.body
        reply = json.loads(body)
        if not reply["success"]:
            raise _refused(int(reply["code"]), (reply["data"] or {}).get("sqlState", "58000"), reply["message"])
        return self._named(query_id, body, reply["data"].get("queryId"))

    def _named(self, query_id: str, body: bytes, engines_id: str | None) -> bytes:
        """The answer with our query id. A client that does not wait has to know the id before the statement runs."""
        if engines_id is None:  # the answer to PUT has none
            return body
        results = self._fakesnow.results_cache
        if engines_id in results:
            results[query_id] = results[engines_id]
        return body.replace(engines_id.encode(), query_id.encode(), 1)

    async def rows(self, token: str, text: str, bindings: Mapping[str, dict[str, Any]]) -> list[tuple[Any, ...]]:
        """Run a statement of a procedure.

        Args:
            token: the connection.
            text: the statement.
            bindings: the values of its question marks, as the client sends them.
        """
        connection = fakesnow.server.sessions[token]
        values = tuple(fakesnow.server.from_binding(bindings[str(place)]) for place in range(1, len(bindings) + 1))

        def run() -> list[tuple[Any, ...]]:
            cursor = connection.cursor()
            cursor.execute(text, binding_params=values, server=True)
            return [tuple(row) for row in cursor.fetchall()]

        with _mapped_to_failures():
            return await run_in_threadpool(run)

    async def execute_atomically(self, token: str, request: Request, query_id: str) -> bytes:
        """Run the statement in its own transaction: fakesnow splits a MERGE or an array of bindings into several."""
        self.begin(token)
        try:
            answer = await self.execute(request, query_id)
            await self.commit(token)
        except BaseException:
            self.rollback(token)
            raise
        return answer

    def set_answer(self, token: str, function: str, answer: str | None) -> None:
        """Set what CURRENT_ACCOUNT(), CURRENT_TRANSACTION() and the like answer in a session from now on."""
        value = "NULL" if answer is None else "'" + answer.replace("'", "''") + "'"
        _connection(token).execute(f"SET VARIABLE {repairs.SESSION}{function} = {value}")

    def begin(self, token: str) -> None:
        """Begin a transaction. Its snapshot is taken by its first statement, not now."""
        with _mapped_to_failures():
            _connection(token).begin()

    async def commit(self, token: str) -> None:
        """Commit. The engine writes its log to the disk."""
        with _mapped_to_failures():
            await run_in_threadpool(_connection(token).commit)

    def rollback(self, token: str) -> None:
        """Roll back, also if the engine has already abandoned the transaction."""
        with contextlib.suppress(duckdb.TransactionException):
            _connection(token).rollback()

    def refuse_ambiguous_updates(self, token: str) -> None:
        """From now on, refuse an UPDATE of this connection that finds more than one source row for a target."""
        if self._checks_updates:
            repairs.refuse_ambiguous_updates(fakesnow.server.sessions[token])

    def interrupt(self, token: str) -> None:
        """Make the running statement of the connection fail, if there is one."""
        _connection(token).interrupt()

    def close(self, token: str) -> None:
        """Roll back and remove the connection."""
        self.rollback(token)
        _connection(token).close()
        del fakesnow.server.sessions[token]

    def current_schema(self, token: str) -> tuple[str, str]:
        """The database and the schema of unqualified names."""
        session = fakesnow.server.sessions[token]
        return session.database or "", session.schema or ""

    def parsed(self, token: str, text: str) -> exp.Expr | None:
        """The syntax tree of a statement; None if it cannot be parsed. It must not be changed."""
        session = fakesnow.server.sessions[token]
        with contextlib.suppress(Exception):  # the engine parses it too, and says what is wrong
            tree: exp.Expr = fakesnow.cursor.parse_one(session.variables.inline_variables(text))
            return tree
        return None

    def variable(self, token: str, name: str) -> str:
        """The value of a session variable.

        Raises:
            Failure: there is none of that name.
        """
        written = fakesnow.server.sessions[token].variables._variables  # noqa: SLF001 - there is no other way in
        for known, value in written.items():
            if known.upper() == name.upper():
                return str(_one_value(_connection(token), f"SELECT {value}"))
        raise Failure(904, "42000", f"SQL compilation error: error\nSession variable '${name.upper()}' does not exist")

    def set_identity(self, token: str, *, user: str, role: str, roles: list[str]) -> None:
        """What CURRENT_USER(), CURRENT_ROLE() and IS_ROLE_IN_SESSION() answer in a session from now on."""
        connection = _connection(token)
        for name, value in (("user", [user]), ("role", [role]), ("roles", roles)):
            quoted = ", ".join("'" + text.replace("'", "''") + "'" for text in value)
            given = f"[{quoted}]" if name == "roles" else quoted
            connection.execute(f"SET VARIABLE {repairs.SESSION}{name} = {given}")

    def relations(self, token: str, database: str, schema: str) -> dict[str, str]:
        """The tables and views of a schema by name, in upper case, each with ``TABLE`` or ``VIEW``."""
        rows = _connection(token).execute(
            "SELECT upper(table_name), IF(table_type = 'VIEW', 'VIEW', 'TABLE') FROM information_schema.tables"
            " WHERE upper(table_catalog) = ? AND upper(table_schema) = ?",
            [database, schema],
        )
        return dict(rows.fetchall())

    def schemas(self, token: str, database: str) -> frozenset[str]:
        """The schemas of a database, in upper case; none if there is no such database."""
        rows = _connection(token).execute(
            "SELECT upper(schema_name) FROM information_schema.schemata WHERE upper(catalog_name) = ?", [database]
        )
        return frozenset(name for (name,) in rows.fetchall())

    @property
    def routes(self) -> list[BaseRoute]:
        """The HTTP endpoints of fakesnow."""
        return list(fakesnow.server.routes)

    @property
    def results_kept(self) -> int:
        """Number of results that RESULT_SCAN can read."""
        return len(self._fakesnow.results_cache)

    def shutdown(self) -> None:
        """Close every connection. With the last one the engine merges its log into the database files."""
        for token in list(fakesnow.server.sessions):
            self.close(token)
        self._fakesnow.duck_conn.close()
        shutil.rmtree(LOCAL_BUCKET_PATH, ignore_errors=True)  # the files of the stages


def _connection(token: str) -> duckdb.DuckDBPyConnection:
    connection: duckdb.DuckDBPyConnection = fakesnow.server.sessions[token]._duck_conn  # noqa: SLF001
    return connection


def _one_value(connection: duckdb.DuckDBPyConnection, query: str) -> object:
    row = connection.execute(query).fetchone()
    return row[0] if row else None


@contextlib.contextmanager
def _mapped_to_failures() -> Iterator[None]:
    try:
        yield
    except ConnectorError as error:
        raise _refused(error.errno or UNSUPPORTED, error.sqlstate or "58000", error.msg or str(error)) from error
    except Exception as error:
        raise _failure(error) from error


def _refused(errno: int, sqlstate: str, message: str) -> Failure:
    """What the engine refused, with Snowflake's number and text where the engine has its own."""
    if number := _NO_NUMBER.search(message):
        return Failure(100038, "22018", f"Numeric value '{number[1]}' is not recognized")
    if missing := _NO_TABLE.search(message):
        return not_there("Object", missing[1])
    if _CHECKED_COLUMN in message:
        why = "the engine cannot change the type of a column that was declared as VARCHAR(n)"
        return Failure(UNSUPPORTED, "58000", f"[local stand-in] {why}")
    return Failure(errno, sqlstate, message)


def _failure(error: Exception) -> Failure:
    text = str(error)
    if isinstance(error, duckdb.TransactionException) and "conflict" in text.lower():
        return Conflict(UNSUPPORTED, "58000", f"[local stand-in] a conflict that Snowflake does not have: {text}")
    if isinstance(error, AmbiguousUpdate):
        return Failure(100090, "42P18", str(error))
    if isinstance(error, duckdb.InterruptException):
        return cancelled()
    if too_long := lengths.complaint(text):
        return Failure(100078, "22000", too_long)
    for words, errno, sqlstate, message in _KNOWN_FAULTS:
        if words in text:
            return Failure(errno, sqlstate, f"{message}: {text}")
    return Failure(UNSUPPORTED, "58000", f"[local stand-in] {type(error).__name__}: {text}")


def _set_up_logging() -> None:
    # fakesnow shares uvicorn's list of handlers, so this makes a new list instead of adding to it.
    fakesnow.server.logger.handlers = [_UnhandledErrors(logging.ERROR)]
    fakesnow.server.logger.propagate = False
    # fakesnow warns at every CREATE TABLE about clauses that only Snowflake has.
    logging.getLogger("sqlglot").setLevel(logging.ERROR)


class _UnhandledErrors(logging.Handler):
    """Collects unexpected errors: fakesnow answers them with a bare HTTP 500 and writes them only to its log."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            _unhandled.set(record.exc_info[1])
