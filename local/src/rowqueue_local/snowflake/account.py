"""The sessions of the Snowflake stand-in, and what Snowflake does between them: table locks, and an end to orphans."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rowqueue_local.snowflake.engine import UNSUPPORTED, Conflict, Engine, Failure
from rowqueue_local.snowflake.session import Session
from rowqueue_local.snowflake.table_locks import LockTimedOut, Table, TableLocks, TooManyWaiters
from rowqueue_local.snowflake.weather import Weather, pass_by

if TYPE_CHECKING:
    from starlette.requests import Request

    from rowqueue_local.snowflake.statements import Statement

_CONFLICT_RETRIES: Final = 25  # with the growing pauses 1.6 s, and then the client is told
_CONFLICT_PAUSE_SECONDS: Final = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What bounds waiting.

    Attributes:
        lock_waiters: how many statements may wait for one table.
        lock_timeout_seconds: how long each of them may wait; a session can ask for less.
        orphan_seconds: how long a transaction may be idle while others wait for it (Snowflake: 5 minutes).
    """

    lock_waiters: int
    lock_timeout_seconds: float
    orphan_seconds: float


@dataclass(eq=False, slots=True, kw_only=True)
class Call:
    """One statement that a session sent.

    Attributes:
        session: who sent it.
        id: the client's request id. It stands in for Snowflake's query id too: a client's log shows it.
        statement: what it is.
        request: it, as the engine takes it.
        describe_only: the client wants to know its columns, and nothing is to happen.
        is_waiting: for its turn, for a lock or in the weather. Only then can it be cancelled; what runs is interrupted.
    """

    session: Session
    id: str
    statement: Statement
    request: Request
    describe_only: bool
    is_waiting: bool = True


class Account:
    """All sessions, and the locks between them.

    Attributes:
        locks: who holds which table.
        counters: ``refused_625``, ``conflict_retries`` and ``orphans`` so far.
        weather: how slow statements are; it may change at any time.
    """

    def __init__(self, engine: Engine, limits: Limits, *, weather: Weather) -> None:
        self.locks: TableLocks[Session] = TableLocks(max_waiters=limits.lock_waiters)
        self.counters: Counter[str] = Counter()
        self.weather = weather
        self._engine = engine
        self._limits = limits
        self._sessions: dict[str, Session] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def find(self, token: str) -> Session | None:
        """The session with this token, unless it has been closed."""
        return self._sessions.get(token)

    def open(self, token: str, parameters: dict[str, Any]) -> Session:
        """Add the session that the engine knows by ``token``."""
        self._sessions[token] = session = Session(self._engine, token, parameters)
        return session

    async def close(self, session: Session) -> None:
        """Roll back what is open, as Snowflake does, and forget the session."""
        del self._sessions[session.token]
        async with session.turn:
            session.rollback()
            self._engine.close(session.token)
            self.locks.release(session)

    async def perform(self, call: Call) -> bytes:
        """Run a statement when it is its turn.

        Returns:
            The answer for the client, JSON.

        Raises:
            Failure: it did not work, or was refused.
        """
        session = call.session
        async with session.turn:
            call.is_waiting = False
            session.statement_id = call.id
            try:
                await self._prepare(call)
                return await self._execute(call)
            finally:
                session.idle_since = time.monotonic()
                if session.transaction is None:
                    self.locks.release(session)

    async def end_orphans(self) -> None:
        """For ever: roll back transactions that have been idle too long while others wait for them."""
        limit = self._limits.orphan_seconds
        while True:
            await asyncio.sleep(min(1.0, limit / 4))
            for session in self._sessions.values():
                if session.idle_seconds() > limit and self.locks.is_in_the_way(session):
                    self.counters["orphans"] += 1
                    self._engine.rollback(session.token)
                    session.lose(f"it was idle for more than {limit:g} s while others waited for it")
                    self.locks.release(session)

    async def _prepare(self, call: Call) -> None:
        session, statement = call.session, call.statement
        if statement.refusal:
            raise Failure(UNSUPPORTED, "58000", f"[local stand-in] {statement.refusal}")
        if statement.kind not in {"commit", "rollback"}:
            session.require_transaction_intact()
        if not call.describe_only:
            await self._control_transaction(session, statement)
            if statement.locks:
                await self._lock(call)

    async def _control_transaction(self, session: Session, statement: Statement) -> None:
        """Begin and end transactions where Snowflake does (docs.snowflake.com/en/sql-reference/transactions)."""
        if statement.kind == "begin" or (statement.changes_rows and not session.autocommit):
            session.begin()
        elif statement.kind == "rollback":
            session.rollback()
        elif statement.kind == "commit" or statement.defines or statement.autocommit is not None:
            await session.commit()
            self.locks.release(session)
        if statement.autocommit is not None:
            session.autocommit = statement.autocommit

    async def _lock(self, call: Call) -> None:
        session = call.session
        table = (*self._engine.current_schema(session.token), *call.statement.locks)[-3:]
        limit = min(self._limits.lock_timeout_seconds, session.lock_timeout_seconds)
        call.is_waiting = True
        try:
            await self.locks.acquire(table, session, timeout_seconds=limit)
        except TooManyWaiters:
            why = f"the number of waiters for this lock exceeds the {self._limits.lock_waiters} statements limit"
            raise self._refused(call, table, why) from None
        except LockTimedOut:
            raise self._refused(call, table, f"it has waited for the {limit:g} seconds of its lock timeout") from None
        finally:
            call.is_waiting = False

    def _refused(self, call: Call, table: Table, why: str) -> Failure:
        """Worded as Snowflake words it when there are too many waiters: several independent reports quote it."""
        self.counters["refused_625"] += 1
        holder = self.locks.holder(table)
        statement = holder.statement_id if holder else ""
        transaction = holder.transaction.number if holder and holder.transaction else 0
        return Failure(
            625,
            "57014",
            f"Statement '{statement}' has locked table '{'.'.join(table)}' in transaction {transaction} and this lock "
            f"has not yet been released.\nYour statement '{call.id}' was aborted because {why}.",
        )

    async def _execute(self, call: Call) -> bytes:
        """Run what has got all its locks: the weather passes while the table is locked."""
        call.is_waiting = True
        await pass_by(self.weather.milliseconds(call.statement, describe_only=call.describe_only))
        call.is_waiting = False
        session = call.session
        if session.transaction is None:
            return await self._execute_alone(call)
        try:
            return await self._engine.execute(call.request)
        except Failure as failure:
            session.lose(f"a statement failed in it ({failure.message[:120]})")
            raise

    async def _execute_alone(self, call: Call) -> bytes:
        """Run a statement outside a transaction, again when the engine had a conflict: Snowflake knows none there."""
        for attempt in range(1, _CONFLICT_RETRIES + 1):
            try:
                return await self._execute_once(call)
            except Conflict:
                self.counters["conflict_retries"] += 1
                await asyncio.sleep(_CONFLICT_PAUSE_SECONDS * attempt)
        return await self._execute_once(call)

    async def _execute_once(self, call: Call) -> bytes:
        if call.statement.changes_rows and not call.describe_only:
            return await self._engine.execute_atomically(call.session.token, call.request)
        return await self._engine.execute(call.request)
