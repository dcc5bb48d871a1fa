"""The engine of the Snowflake stand-in: fakesnow, reached through its own HTTP endpoints.

Only this module, ``repairs`` and ``shortcuts`` import fakesnow, in the release that ``pyproject.toml`` pins.
"""

from __future__ import annotations

import contextlib
import json
import logging
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

import duckdb
import fakesnow.server
from fakesnow.instance import FakeSnow
from starlette.concurrency import run_in_threadpool

from rowqueue_local.snowflake import repairs, shortcuts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from starlette.requests import Request
    from starlette.routing import BaseRoute

UNSUPPORTED: Final = 390999
"""The errno of what only the stand-in refuses. Snowflake has no such code, so nobody takes it for a real answer."""

_unhandled: ContextVar[BaseException | None] = ContextVar("unhandled", default=None)


class Failure(Exception):  # noqa: N818 - an answer to the client, not a fault of ours
    """What the client is told when a statement did not work."""

    def __init__(self, errno: int, sqlstate: str, message: str) -> None:
        super().__init__(errno, sqlstate, message)
        self.errno = errno
        self.sqlstate = sqlstate
        self.message = message


class Conflict(Failure):
    """Two transactions wrote the same rows or definitions, and this one lost. Snowflake would have made it wait."""


def cancelled() -> Failure:
    """What Snowflake answers when a statement was cancelled."""
    return Failure(604, "57014", "SQL execution canceled")


class Engine:
    """The databases, and one connection to them for each session token.

    A connection runs one statement at a time: whoever calls sees to that.

    Args:
        db_path: the directory with a file for each database; without it everything is in memory.
        keep_results: how many results stay available to RESULT_SCAN. A statement leaves two.
    """

    def __init__(self, *, db_path: Path | None, keep_results: int) -> None:
        repairs.apply()
        shortcuts.take()
        _set_up_logging()
        self._fakesnow = FakeSnow(db_path=db_path)
        # A queue's statements are small, and other processes want the other cores; sessions have threads of their own.
        self._fakesnow.duck_conn.execute("SET threads = 1")
        self._fakesnow.results_cache = repairs.RecentResults(keep_results)
        # A database path that comes with a login, fakesnow's documented way, fails from the second connection on.
        fakesnow.server.shared_fs = self._fakesnow

    async def login(self, request: Request) -> dict[str, Any]:
        """Connect, and create the database and the schema when they are missing.

        Returns:
            fakesnow's answer; ``["data"]["token"]`` names the connection from now on.
        """
        with _told_as_failures():
            response = await fakesnow.server.login_request(request)
        reply: dict[str, Any] = json.loads(response.body)
        # fakesnow would begin and end transactions on its own account otherwise.
        fakesnow.server.sessions[reply["data"]["token"]]._autocommit = True  # noqa: SLF001
        return reply

    async def execute(self, request: Request) -> bytes:
        """Run the statement in ``request``.

        Returns:
            The answer for the client, JSON.
        """
        _unhandled.set(None)
        with _told_as_failures():
            response = await fakesnow.server.query_request(request)
            if error := _unhandled.get():
                raise error
        body: bytes = response.body
        reply = json.loads(body)
        if not reply["success"]:
            raise Failure(int(reply["code"]), (reply["data"] or {}).get("sqlState", "58000"), reply["message"])
        return body

    async def execute_atomically(self, token: str, request: Request) -> bytes:
        """Run the statement in a transaction of its own: fakesnow makes several of a MERGE or an array of bindings."""
        self.begin(token)
        try:
            answer = await self.execute(request)
            await self.commit(token)
        except BaseException:
            self.rollback(token)
            raise
        return answer

    def begin(self, token: str) -> None:
        """Begin a transaction. What it sees is settled by its first statement, not now."""
        with _told_as_failures():
            _connection(token).begin()

    async def commit(self, token: str) -> None:
        """Commit; the engine writes its log to the disk here."""
        with _told_as_failures():
            await run_in_threadpool(_connection(token).commit)

    def rollback(self, token: str) -> None:
        """Roll back, also when the engine has already given the transaction up."""
        with contextlib.suppress(duckdb.TransactionException):
            _connection(token).rollback()

    def interrupt(self, token: str) -> None:
        """Make the statement that the connection runs fail; without one, nothing happens."""
        _connection(token).interrupt()

    def close(self, token: str) -> None:
        """Roll back, and forget the connection."""
        self.rollback(token)
        _connection(token).close()
        del fakesnow.server.sessions[token]

    def current_schema(self, token: str) -> tuple[str, str]:
        """The database and the schema that an unqualified name means."""
        session = fakesnow.server.sessions[token]
        return session.database or "", session.schema or ""

    @property
    def routes(self) -> list[BaseRoute]:
        """The HTTP endpoints that fakesnow has."""
        return list(fakesnow.server.routes)

    @property
    def results_kept(self) -> int:
        """How many results RESULT_SCAN can find."""
        return len(self._fakesnow.results_cache)

    def shutdown(self) -> None:
        """Close every connection; with the last one the engine folds its log into the database files."""
        for token in list(fakesnow.server.sessions):
            self.close(token)
        self._fakesnow.duck_conn.close()


def _connection(token: str) -> duckdb.DuckDBPyConnection:
    connection: duckdb.DuckDBPyConnection = fakesnow.server.sessions[token]._duck_conn  # noqa: SLF001
    return connection


@contextlib.contextmanager
def _told_as_failures() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise _failure(error) from error


def _failure(error: Exception) -> Failure:
    told = str(error)
    if isinstance(error, duckdb.TransactionException) and "conflict" in told.lower():
        return Conflict(UNSUPPORTED, "58000", f"[local stand-in] a conflict that Snowflake does not have: {told}")
    if isinstance(error, duckdb.InterruptException):
        return cancelled()
    if "NOT NULL constraint" in told:
        return Failure(100072, "22000", f"NULL result in a non-nullable column: {told}")
    if "Malformed JSON" in told:
        return Failure(100069, "22P02", f"Error parsing JSON: {told}")
    return Failure(UNSUPPORTED, "58000", f"[local stand-in] {type(error).__name__}: {told}")


def _set_up_logging() -> None:
    # fakesnow shares uvicorn's list of handlers, hence a new list and not an addition to that one.
    fakesnow.server.logger.handlers = [_UnhandledErrors(logging.ERROR)]
    fakesnow.server.logger.propagate = False
    # It warns of every CREATE TABLE that it leaves out what only Snowflake has.
    logging.getLogger("sqlglot").setLevel(logging.ERROR)


class _UnhandledErrors(logging.Handler):
    """fakesnow turns what it did not expect into a bare HTTP 500, and tells the error only to its log."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            _unhandled.set(record.exc_info[1])
