"""Snowflake through its driver: connects, runs statements, and translates the driver's errors.

The only importer of ``snowflake.connector``. It uses PEP 249, ``errno`` and ``sqlstate``, and no private module, so
another driver would change only this file.
"""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import snowflake.connector
import tenacity
from snowflake.connector import errors as driver

from rowqueue.errors import (
    LockContention,
    LoginRefused,
    ObjectMissing,
    StatementRefused,
    ValueRefused,
    WarehouseError,
    WarehouseUnavailable,
)
from rowqueue.observability import Event, log_problem
from rowqueue.settings import LOCK_TIMEOUT_S, STATEMENT_TIMEOUT_S, STEP_S
from rowqueue.time_limit import within

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rowqueue.settings import SnowflakeSettings
    from rowqueue.sql import Statement

T = TypeVar("T")

LOGIN_TIMEOUT_S = 15
NETWORK_TIMEOUT_S = STATEMENT_TIMEOUT_S + 5
"""How long the driver repeats a request. Without this limit it never stops (measured on 4.8.1)."""

_TIME_LIMITS = ("login_timeout", "network_timeout", "socket_timeout")
"""The driver's arguments that limit a login and a request. Without the last one, it waits a minute for an answer
(measured on 4.8.1)."""
_SHORTEST_S = 1
_PATIENCE_S = 1.0
"""How much longer a tick waits for the driver than the driver should take. The limits of a session stay those of the
statement that opened it, and they count for each address and for each piece of an answer (measured on 4.8.1)."""
_CLOSING_S = 2.0
"""How long a tick waits for Snowflake to end the session."""

# What an error number means here. Snowflake publishes no list; these were reported by users or measured.
_LOCK_CONTENTION = frozenset({625})  # too many waiting statements, or the lock was not free in time
_CANCELLED = frozenset({604, 630})  # by a person, or by STATEMENT_TIMEOUT_IN_SECONDS
_LOGIN_REFUSED = frozenset({*range(390100, 390104), 390144, *range(390186, 390202), *range(394300, 394307)})
# The driver raises these before it sends anything: an unfit private key, no AWS region or credentials, a host that is
# not Snowflake's (4.8.1, errorcode.py).
_LOGIN_IMPOSSIBLE = frozenset({251008, 251017, 251018, 251021})
_SESSION_GONE = frozenset({390111, 390112, 390114, 390115})
_UNAVAILABLE = frozenset({250001, 250003, 250006, 251005, 290503, 580503})
_INTERNAL = frozenset({603})
# A column or an object that is missing or not granted, a missing privilege, and a session without a warehouse, a
# database or a schema: the login names them, and Snowflake leaves out what the role may not use.
_NOT_THERE = frozenset({606, 904, 2003, 2043, 3001, 90105, 90106})
_ADVICE = "run: rowqueue migrate; or grant the role what it needs"
_SURPRISE_CHARACTERS = 300
_AMBIGUOUS = 100_090  # an UPDATE found two source rows for a target: no value is to blame
_VALUE_REFUSED = range(100_000, 101_000)  # SQLSTATE class 22 is wider: it also contains a used-up quota


class SnowflakeWarehouse:
    """One session, used from one thread.

    Threads could share the connection, but the driver would run their statements one after the other and in one
    transaction. The session is opened when it is first needed, and again after it was lost.

    Args:
        settings: where the queue is.
        login: the driver's arguments for the login.
        query_tag: appears in Snowflake's query history. It must be constant, because the result cache compares it.
        lock_patience_s: how long a statement is repeated that was refused at the lock, seconds.
        network_patience_s: how long the driver repeats a request before it reports that the connection failed, seconds.
        login_timeout_s: how long the driver repeats a login, seconds.
        statement_s: time limit of a statement, with its wait for the lock, seconds.
        seconds_left: until the tick has to give up. Then no statement takes longer than STEP_S or than what is
            left, with its login and its waits. ``None`` outside a tick.
        advice: what to do if an object is missing or not granted; ``None``: migrate, or grant.
    """

    def __init__(
        self,
        settings: SnowflakeSettings,
        login: Mapping[str, object],
        *,
        query_tag: str,
        lock_patience_s: float = LOCK_TIMEOUT_S,
        network_patience_s: int = NETWORK_TIMEOUT_S,
        login_timeout_s: int = LOGIN_TIMEOUT_S,
        statement_s: int = STATEMENT_TIMEOUT_S,
        seconds_left: Callable[[], float] | None = None,
        advice: str | None = None,
    ) -> None:
        times = {"login_timeout": login_timeout_s, "network_timeout": network_patience_s}
        limit_s = statement_s if seconds_left is None else STEP_S
        self._arguments = _connect_arguments(settings, query_tag, limit_s=limit_s) | times | dict(login)
        self._seconds_left = seconds_left
        self._advice = advice or _ADVICE
        self._connection: snowflake.connector.SnowflakeConnection | None = None
        # The 21st statement that waits for a table's lock is refused at once (errno 625). The wait before it is
        # repeated is random: on the stand-in, without a random wait, 25 workers left entries stuck.
        self._at_the_lock = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(LockContention),
            wait=tenacity.wait_random_exponential(multiplier=0.1, max=3),
            stop=tenacity.stop_after_delay(lock_patience_s),
            before_sleep=_log_retry,
            reraise=True,
        )

    def connect(self) -> None:
        """Open the session now, so that a wrong login is found early.

        Raises:
            LoginRefused: the credentials are wrong.
            WarehouseUnavailable: Snowflake cannot be reached.
        """
        self._connect({})

    def _connect(self, times: Mapping[str, int], step: _Step | None = None) -> None:
        if self._connection is None:
            arguments = {**self._arguments, **times}
            self._connection = _with_our_errors(
                lambda: snowflake.connector.connect(**arguments), step, advice=self._advice
            )

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

    def close(self, *, wait: bool = True) -> None:
        """End the session. An error while it ends is ignored.

        Args:
            wait: until Snowflake has answered. That may take long if the connection is broken. A tick waits for two
                seconds at most, and not beyond its end.
        """
        connection, self._connection = self._connection, None
        if connection is None:
            return
        ending = threading.Thread(target=_end, args=(connection,), daemon=True)
        ending.start()
        if wait:
            ending.join(None if self._seconds_left is None else max(0.0, min(_CLOSING_S, self._seconds_left())))

    def _run(self, statement: Statement, values: Mapping[str, object], read: Callable[[Any], T]) -> T:
        bound = _bound(statement, values)
        if self._seconds_left is None:
            return self._at_the_lock(lambda: self._run_once(statement.text, bound, read))
        step = _Step.of(self._seconds_left)
        if step.left_s < _SHORTEST_S:
            raise WarehouseUnavailable(f"no time is left in this tick for the statement {statement.name}")
        retrying = self._at_the_lock.copy(stop=lambda state: step.left_s - state.upcoming_sleep < _SHORTEST_S)
        return retrying(lambda: self._run_once(statement.text, bound, read, step))

    def _run_once(self, text: str, bound: tuple[object, ...], read: Callable[[Any], T], step: _Step | None = None) -> T:
        self._connect({} if step is None else dict.fromkeys(_TIME_LIMITS, step.whole_s()), step)
        assert self._connection is not None
        connection = self._connection
        # After this time the driver cancels the statement. It is shorter than the wait for an answer; otherwise the
        # driver would repeat the request after that wait (measured on 4.8.1).
        timeout_s = None if step is None else step.whole_s(less=1)

        def run() -> T:
            cursor = connection.cursor()
            # In a tick it is not closed. After a time-out that would wait for the driver to cancel (measured on 4.8.1).
            with cursor if step is None else contextlib.nullcontext():
                cursor.execute(text, bound, timeout=timeout_s)
                return read(cursor)

        try:
            return _with_our_errors(run, step, advice=self._advice)
        except WarehouseUnavailable:
            self.close(wait=step is None)
            raise


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """One statement within a tick.

    Attributes:
        seconds_left: until the tick has to give up.
        ends_at_s: what ``seconds_left`` returns when the step has to be over.
    """

    seconds_left: Callable[[], float]
    ends_at_s: float

    @classmethod
    def of(cls, seconds_left: Callable[[], float]) -> _Step:
        """A step that begins now."""
        return cls(seconds_left=seconds_left, ends_at_s=max(0.0, seconds_left() - STEP_S))

    @property
    def left_s(self) -> float:
        """Until the step has to be over, seconds."""
        return self.seconds_left() - self.ends_at_s

    def whole_s(self, *, less: int = 0) -> int:
        """The same for the driver, which takes whole seconds."""
        return max(_SHORTEST_S, round(self.left_s) - less)


def _end(connection: snowflake.connector.SnowflakeConnection) -> None:
    with contextlib.suppress(Exception):
        connection.close()


def _bound(statement: Statement, values: Mapping[str, object]) -> tuple[object, ...]:
    """The values in the order of the question marks.

    Raises:
        TypeError: a name is missing, or one is not in the statement.
    """
    if set(values) != set(statement.parameters):
        expected = sorted(set(statement.parameters))
        raise TypeError(f"{statement.name}: expected values for {expected}, got {sorted(values)}")
    return tuple(values[name] for name in statement.parameters)


def _connect_arguments(settings: SnowflakeSettings, query_tag: str, *, limit_s: int) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "account": settings.account,
        "warehouse": settings.warehouse,
        "database": settings.database,
        "schema": settings.schema,
        "port": settings.port,
        "protocol": settings.protocol,
        "paramstyle": "qmark",
        "client_session_keep_alive": False,
        # The driver asks the metadata services of three clouds where it runs, and may wait seconds for a name server
        # (measured on 4.8.1). Only a float switches this off.
        "platform_detection_timeout_seconds": 0.0,
        # Session parameters are sent with the login, so that they cost no statement.
        "session_parameters": {
            "ABORT_DETACHED_QUERY": True,
            "AUTOCOMMIT": True,
            # An UPDATE with two source rows for a target is refused. Otherwise one of them is written, at random.
            "ERROR_ON_NONDETERMINISTIC_UPDATE": True,
            "LOCK_TIMEOUT": min(LOCK_TIMEOUT_S, limit_s),
            "QUERY_TAG": query_tag,
            "STATEMENT_TIMEOUT_IN_SECONDS": limit_s,
            "TIMEZONE": "UTC",
            "USE_CACHED_RESULT": True,
        },
    }
    if settings.role:
        arguments["role"] = settings.role
    if settings.host:
        arguments["host"] = settings.host
    return arguments


def _with_our_errors(run: Callable[[], T], step: _Step | None = None, *, advice: str) -> T:
    """Call the driver, in a tick only until the step is over.

    It trusts what it receives: an answer that is not Snowflake's can make it raise anything. A proxy that
    answers ``[]``, for example, causes a KeyError or an AttributeError. That is no fault of this program.
    """
    try:
        return run() if step is None else within(max(_SHORTEST_S, step.left_s) + _PATIENCE_S, run)
    except driver.Error as error:
        raise _translated(error, advice) from error
    except OSError as error:
        raise WarehouseUnavailable(f"Snowflake cannot be reached: {error}") from error
    except Exception as error:
        surprise = f"{type(error).__name__}: {error}"[:_SURPRISE_CHARACTERS]
        raise WarehouseUnavailable(f"Snowflake could not be used; the driver raised {surprise}") from error


def _translated(error: driver.Error, advice: str) -> WarehouseError:
    """The driver's error as ours, the most specific first."""
    errno = error.errno if (error.errno or 0) > 0 else None
    kind: type[WarehouseError]
    if errno in _LOCK_CONTENTION:
        kind = LockContention
    elif errno in _LOGIN_REFUSED | _LOGIN_IMPOSSIBLE:
        kind = LoginRefused
    elif errno in _SESSION_GONE | _UNAVAILABLE | _CANCELLED | _INTERNAL:
        kind = WarehouseUnavailable
    elif (errno in _VALUE_REFUSED and errno != _AMBIGUOUS) or isinstance(error, driver.IntegrityError):
        kind = ValueRefused
    elif errno in _NOT_THERE:
        kind = ObjectMissing
    elif isinstance(error, driver.ProgrammingError | driver.NotSupportedError):
        kind = StatementRefused
    else:
        kind = WarehouseUnavailable
    message = _in_one_line(error)
    if kind is ObjectMissing:
        message = f"{message.rstrip('.')}; {advice}"
    return kind(message, errno=errno)


def _in_one_line(error: driver.Error) -> str:
    """The driver's message. If its first line ends with a colon ("SQL compilation error:"), the next has the reason."""
    first, *more = str(error).strip().splitlines()
    return f"Snowflake: {' '.join([first, *more[:1]]) if first.endswith(':') else first}"


def _log_retry(state: tenacity.RetryCallState) -> None:
    log_problem(
        Event.WAREHOUSE_RETRY, attempt=state.attempt_number, error=str(state.outcome and state.outcome.exception())
    )
