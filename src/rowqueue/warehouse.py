"""Snowflake through its driver: connect, run, and say in our words what went wrong.

The only importer of ``snowflake.connector``. It relies on PEP 249 plus ``errno`` and ``sqlstate`` and on no private
module, so that a change of driver is a change of this file.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, TypeVar

import snowflake.connector
import tenacity
from snowflake.connector import errors as driver

from rowqueue.errors import (
    LockContention,
    LoginRefused,
    StatementRefused,
    ValueRefused,
    WarehouseError,
    WarehouseUnavailable,
)
from rowqueue.observability import Event, log_problem
from rowqueue.settings import LOCK_TIMEOUT_S, STATEMENT_TIMEOUT_S

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rowqueue.settings import SnowflakeSettings
    from rowqueue.sql import Statement

T = TypeVar("T")

LOGIN_TIMEOUT_S = 15
NETWORK_TIMEOUT_S = STATEMENT_TIMEOUT_S + 5
"""The driver repeats a request for this long; without a limit it does so for ever (measured on 4.8.1)."""

# What an error number means for us. Snowflake publishes no list; these are the ones reported and measured.
_LOCK_CONTENTION = frozenset({625})  # also the table's lock not free in time
_CANCELLED = frozenset({604, 630})  # by somebody, or by STATEMENT_TIMEOUT_IN_SECONDS
_LOGIN_REFUSED = frozenset({*range(390100, 390104), 390144, *range(390186, 390202), *range(394300, 394307)})
# The driver's own, before it asks anybody: an unfit private key, no AWS region or credentials, a host that is not
# Snowflake's and is therefore not shown who we are (4.8.1, errorcode.py).
_LOGIN_IMPOSSIBLE = frozenset({251008, 251017, 251018, 251021})
_SESSION_GONE = frozenset({390111, 390112, 390114, 390115})
_UNAVAILABLE = frozenset({250001, 250003, 250006, 251005, 290503, 580503})
_INTERNAL = frozenset({603})
_NOT_THERE = frozenset({904, 2003, 2043})  # a column, a table or a view that is missing, or not granted
_HINT = "; run snowflake/01_create_table.sql, or grant the role what it needs"
_VALUE_REFUSED = range(100_000, 101_000)  # SQLSTATE class 22 is wider: it also holds a used-up quota


class SnowflakeWarehouse:
    """One session, used from one thread.

    The driver lets threads share a connection but serialises their statements and shares their transaction, so nothing
    is gained by it. The session is opened when it is first needed, and again after it was lost.

    Args:
        settings: where.
        login: the driver's arguments that say who we are.
        query_tag: stands in Snowflake's query history; constant, for it is part of what the result cache compares.
        lock_patience_s: seconds for which a statement that was refused at the lock is sent again.
        network_patience_s: seconds for which the driver repeats a request before it says that the connection failed.
    """

    def __init__(
        self,
        settings: SnowflakeSettings,
        login: Mapping[str, object],
        *,
        query_tag: str,
        lock_patience_s: float = LOCK_TIMEOUT_S,
        network_patience_s: int = NETWORK_TIMEOUT_S,
    ) -> None:
        self._arguments = _connect_arguments(settings, query_tag, network_patience_s) | dict(login)
        self._connection: snowflake.connector.SnowflakeConnection | None = None
        # The 21st waiter for a table's lock is refused at once (errno 625). Whoever repeats without a random wait only
        # keeps the queue full: measured on the stand-in, 25 workers that did left entries stuck.
        self._at_the_lock = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(LockContention),
            wait=tenacity.wait_random_exponential(multiplier=0.1, max=3),
            stop=tenacity.stop_after_delay(lock_patience_s),
            before_sleep=_log_retry,
            reraise=True,
        )

    def connect(self) -> None:
        """Open the session now, to learn early whether it can be opened.

        Raises:
            LoginRefused: the credentials are wrong.
            WarehouseUnavailable: Snowflake can not be reached.
        """
        if self._connection is None:
            self._connection = _in_our_words(lambda: snowflake.connector.connect(**self._arguments))

    def rows(self, statement: Statement, values: Mapping[str, object]) -> list[tuple[Any, ...]]:
        """Run a query and fetch all of it.

        Raises:
            WarehouseError: see the tree in :mod:`rowqueue.errors`.
        """
        return self._run(statement, values, lambda cursor: [tuple(row) for row in cursor.fetchall()])

    def change(self, statement: Statement, values: Mapping[str, object]) -> int:
        """Run a statement that changes rows; returns how many.

        Raises:
            WarehouseError: see the tree in :mod:`rowqueue.errors`.
        """
        return self._run(statement, values, lambda cursor: int(cursor.rowcount or 0))

    def close(self) -> None:
        """End the session; an error on the way out changes nothing any more."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(driver.Error, OSError):
                connection.close()

    def _run(self, statement: Statement, values: Mapping[str, object], read: Callable[[Any], T]) -> T:
        bound = statement.bind(values)
        return self._at_the_lock(lambda: self._run_once(statement.text, bound, read))

    def _run_once(self, text: str, bound: tuple[object, ...], read: Callable[[Any], T]) -> T:
        self.connect()
        assert self._connection is not None
        connection = self._connection

        def run() -> T:
            with connection.cursor() as cursor:
                cursor.execute(text, bound)
                return read(cursor)

        try:
            return _in_our_words(run)
        except WarehouseUnavailable:
            self.close()
            raise


def _connect_arguments(settings: SnowflakeSettings, query_tag: str, network_patience_s: int) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "account": settings.account,
        "warehouse": settings.warehouse,
        "database": settings.database,
        "schema": settings.schema,
        "port": settings.port,
        "protocol": settings.protocol,
        "paramstyle": "qmark",
        "login_timeout": LOGIN_TIMEOUT_S,
        "network_timeout": network_patience_s,
        "client_session_keep_alive": False,
        # The driver asks the metadata services of three clouds where it runs, and may wait seconds for a name server to
        # say that there are none (measured on 4.8.1). Only a float switches it off.
        "platform_detection_timeout_seconds": 0.0,
        # Session settings travel with the login, so that they cost no statement.
        "session_parameters": {
            "ABORT_DETACHED_QUERY": True,
            "AUTOCOMMIT": True,
            "LOCK_TIMEOUT": LOCK_TIMEOUT_S,
            "QUERY_TAG": query_tag,
            "STATEMENT_TIMEOUT_IN_SECONDS": STATEMENT_TIMEOUT_S,
            "TIMEZONE": "UTC",
            "USE_CACHED_RESULT": True,
        },
    }
    if settings.role:
        arguments["role"] = settings.role
    if settings.host:
        arguments["host"] = settings.host
    return arguments


def _in_our_words(run: Callable[[], T]) -> T:
    try:
        return run()
    except driver.Error as error:
        raise _translated(error) from error
    except OSError as error:
        raise WarehouseUnavailable(f"Snowflake can not be reached: {error}") from error


def _translated(error: driver.Error) -> WarehouseError:
    """The driver's error as ours, the most specific first."""
    errno = error.errno if (error.errno or 0) > 0 else None
    kind: type[WarehouseError]
    if errno in _LOCK_CONTENTION:
        kind = LockContention
    elif errno in _LOGIN_REFUSED | _LOGIN_IMPOSSIBLE:
        kind = LoginRefused
    elif errno in _SESSION_GONE | _UNAVAILABLE | _CANCELLED | _INTERNAL:
        kind = WarehouseUnavailable
    elif errno in _VALUE_REFUSED or isinstance(error, driver.IntegrityError):
        kind = ValueRefused
    elif isinstance(error, driver.ProgrammingError | driver.NotSupportedError):
        kind = StatementRefused
    else:
        kind = WarehouseUnavailable
    hint = _HINT if errno in _NOT_THERE else ""
    return kind(_first_line(error) + hint, errno=errno)


def _first_line(error: driver.Error) -> str:
    return f"Snowflake: {str(error).strip().splitlines()[0]}"


def _log_retry(state: tenacity.RetryCallState) -> None:
    log_problem(
        Event.WAREHOUSE_RETRY, attempt=state.attempt_number, error=str(state.outcome and state.outcome.exception())
    )
