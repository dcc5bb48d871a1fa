"""The sessions of the Snowflake stand-in, the table locks between them, and the end of orphaned transactions."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rowqueue_local.snowflake import statements
from rowqueue_local.snowflake.access import Access
from rowqueue_local.snowflake.engine import Conflict, Engine
from rowqueue_local.snowflake.failures import UNSUPPORTED, Failure
from rowqueue_local.snowflake.procedures import called, rendered_literal
from rowqueue_local.snowflake.results import ResultOwners
from rowqueue_local.snowflake.scripting import ProcedureRun
from rowqueue_local.snowflake.session import Session
from rowqueue_local.snowflake.table_locks import LockTimedOut, Table, TableLocks, TooManyWaiters
from rowqueue_local.snowflake.weather import Weather, pass_by

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from rowqueue_local.snowflake.identity import Identity
    from rowqueue_local.snowflake.procedures import Called, Procedure, Procedures
    from rowqueue_local.snowflake.statements import StatementFacts

_CONFLICT_RETRIES: Final = 25  # 1.6 s with the growing pauses; then the client gets the error
_CONFLICT_PAUSE_SECONDS: Final = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountLimits:
    """Limits of the statements that wait for a lock.

    Attributes:
        lock_waiters: number of statements that may wait for one table.
        lock_timeout_seconds: how long each may wait; a session can ask for less.
        orphan_seconds: how long a transaction may be idle while others wait for it (Snowflake: 5 minutes).
    """

    lock_waiters: int
    lock_timeout_seconds: float
    orphan_seconds: float


@dataclass(eq=False, slots=True, kw_only=True)
class StatementCall:
    """One statement that a session sent.

    Attributes:
        session: the sender.
        id: Snowflake's query id. A request with one statement has its request id, because a client's log shows that.
        text: as it was sent.
        bindings: the values of its question marks, as they were sent.
        statement: facts from its first words.
        request: the request for the engine.
        asking: makes a request for the engine with another text.
        describe_only: whether the client asks only for the columns, and the statement must not run.
        is_waiting: whether it waits for its turn, for a lock or for the latency. Only then can it be cancelled; a
            running statement is interrupted.
    """

    session: Session
    id: str
    text: str
    bindings: dict[str, dict[str, Any]]
    statement: StatementFacts
    request: Request
    asking: Callable[[str], Request]
    describe_only: bool
    is_waiting: bool = True


class Account:
    """All sessions, and the locks between them.

    Attributes:
        locks: which session has locked which table.
        counters: ``refused_625``, ``conflict_retries`` and ``orphans`` so far.
        weather: how slow statements are; it may change at any time.
        access: the users, roles and grants.
        results: whose the results of the latest queries are.
    """

    def __init__(self, engine: Engine, limits: AccountLimits, *, weather: Weather, procedures: Procedures) -> None:
        self.locks: TableLocks[Session] = TableLocks(max_waiters=limits.lock_waiters)
        self.counters: Counter[str] = Counter()
        self.weather = weather
        self.results = ResultOwners()
        self.access = Access(engine, self.results)
        self._engine = engine
        self._limits = limits
        self._procedures = procedures
        self._sessions: dict[str, Session] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def find(self, token: str) -> Session | None:
        """The open session with this token."""
        return self._sessions.get(token)

    def open(self, token: str, parameters: dict[str, Any], identity: Identity, *, client: str) -> Session:
        """Add a session of the driver ``client`` for the engine's connection ``token``."""
        self._sessions[token] = session = Session(self._engine, token, parameters, identity, client=client)
        return session

    async def close(self, session: Session) -> None:
        """Roll back the open transaction, as Snowflake does, and remove the session."""
        del self._sessions[session.token]
        async with session.turn:
            session.rollback()
            self._engine.close(session.token)
            self.locks.release(session)

    async def perform(self, call: StatementCall) -> bytes:
        """Run a statement when it is its turn.

        Returns:
            The answer for the client, JSON.

        Raises:
            Failure: the statement failed or was refused.
        """
        session = call.session
        async with session.turn:
            call.is_waiting = False
            session.statement_id = call.id
            try:
                await self._prepare(call)
                if call.statement.kind == "call":
                    return await self._call(call)
                return await self._execute(call)
            finally:
                session.idle_since = time.monotonic()
                if session.transaction is None:
                    self.locks.release(session)

    async def end_orphans(self) -> None:
        """Loop without end: roll back transactions that are idle too long while others wait for them."""
        limit = self._limits.orphan_seconds
        while True:
            await asyncio.sleep(min(1.0, limit / 4))
            for session in self._sessions.values():
                if session.idle_seconds() > limit and self.locks.is_in_the_way(session):
                    self.counters["orphans"] += 1
                    self._engine.rollback(session.token)
                    session.lose(f"it was idle for more than {limit:g} s while others waited for it")
                    self.locks.release(session)

    async def _prepare(self, call: StatementCall) -> None:
        session, statement = call.session, call.statement
        _require_supported(statement)
        if statement.kind not in {"commit", "rollback"}:
            session.require_transaction_intact()
        self.access.authorize(session, statement, call.text)
        if not call.describe_only:
            await self._control_transaction(session, statement)
            if not statement.for_engine:
                self.access.perform(session, statement, call.text)
            if statement.locks:
                await self._lock(call, statement)

    async def _control_transaction(self, session: Session, statement: StatementFacts) -> None:
        """Begin and end transactions as Snowflake does (docs.snowflake.com/en/sql-reference/transactions)."""
        if statement.kind == "begin" or (statement.changes_rows and not session.autocommit):
            session.begin()
        elif statement.kind == "rollback":
            session.rollback()
        elif statement.kind == "commit" or statement.defines or statement.autocommit is not None:
            await session.commit()
            self.locks.release(session)
        if statement.autocommit is not None:
            session.autocommit = statement.autocommit
        session.set_parameters(statement.parameters)

    async def _lock(self, call: StatementCall, statement: StatementFacts) -> None:
        session = call.session
        table = (*self._engine.current_schema(session.token), *statement.locks)[-3:]
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

    def _refused(self, call: StatementCall, table: Table, why: str) -> Failure:
        """The error in Snowflake's words for too many waiters, which several independent reports quote."""
        self.counters["refused_625"] += 1
        owner = self.locks.owner_of(table)
        statement = owner.statement_id if owner else ""
        transaction = owner.transaction.number if owner and owner.transaction else 0
        return Failure(
            625,
            "57014",
            f"Statement '{statement}' has locked table '{'.'.join(table)}' in transaction {transaction} and this lock "
            f"has not yet been released.\nYour statement '{call.id}' was aborted because {why}.",
        )

    async def _execute(self, call: StatementCall) -> bytes:
        """Run a statement that has its locks. The latency passes while the table is locked."""
        call.is_waiting = True
        await pass_by(self.weather.milliseconds(call.statement, describe_only=call.describe_only))
        call.is_waiting = False
        session = call.session
        if call.statement.defines and call.statement.for_engine and not call.describe_only:
            return await self._define(call)
        if session.transaction is None:
            return await self._execute_alone(call)
        try:
            return await self._engine.execute(call.request, call.id)
        except Failure as failure:
            session.lose(f"a statement failed in it ({failure.message[:120]})")
            raise

    async def _define(self, call: StatementCall) -> bytes:
        """Run DDL, and record whose object it made and which grants are left."""
        existed = self.access.exists(call.session, call.statement, call.text)
        run = self._create_procedure if call.statement.defines_procedure else self._execute_alone
        answer = await run(call)
        self.access.note(call.session, call.statement, call.text, existed=existed)
        return answer

    async def _create_procedure(self, call: StatementCall) -> bytes:
        name = self._procedures.create(call.text, self._engine.current_schema(call.session.token))
        return await self._engine.execute(
            call.asking(f"SELECT 'Function {name} successfully created.' AS status"), call.id
        )

    async def _call(self, call: StatementCall) -> bytes:
        """Run a procedure: a client gets one row with what it returns."""
        place = self._engine.current_schema(call.session.token)

        def find(wanted: Called) -> Procedure:
            procedure, home = self._procedures.find(wanted, place)
            if home != place:
                raise Failure(UNSUPPORTED, "58000", "[local stand-in] a procedure of another schema is not supported")
            return procedure

        wanted = called(call.text)
        procedure = find(wanted)
        if call.describe_only:
            return await self._engine.execute(call.asking(f"SELECT NULL AS {procedure.name}"), call.id)
        arguments: tuple[Any, ...] = ()
        if wanted.arguments:
            (arguments,) = await self._engine.rows(call.session.token, wanted.query, call.bindings)
        returned = await ProcedureRun(_Statements(self, call), find).call(procedure, arguments)
        return await self._engine.execute(
            call.asking(f"SELECT {rendered_literal(returned)} AS {procedure.name}"), call.id
        )

    async def run_in_procedure(self, call: StatementCall, text: str) -> list[tuple[Any, ...]]:
        """Run a statement of the procedure that ``call`` has called."""
        session, statement = call.session, statements.read(text)
        _require_supported(statement)
        session.require_transaction_intact()
        if statement.locks:
            await self._lock(call, statement)
        call.is_waiting = True
        await pass_by(self.weather.milliseconds(statement, describe_only=False))
        call.is_waiting = False
        try:
            return await self._engine.rows(session.token, text, {})
        except Failure as failure:
            session.lose(f"a statement failed in it ({failure.message[:120]})")
            raise
        finally:
            if session.transaction is None:
                self.locks.release(session)

    async def _execute_alone(self, call: StatementCall) -> bytes:
        """Run a statement outside a transaction, and repeat it after a conflict, which Snowflake does not have."""
        for attempt in range(1, _CONFLICT_RETRIES + 1):
            try:
                return await self._execute_once(call)
            except Conflict:
                self.counters["conflict_retries"] += 1
                await asyncio.sleep(_CONFLICT_PAUSE_SECONDS * attempt)
        return await self._execute_once(call)

    async def _execute_once(self, call: StatementCall) -> bytes:
        if call.statement.changes_rows and not call.describe_only:
            return await self._engine.execute_atomically(call.session.token, call.request, call.id)
        return await self._engine.execute(call.request, call.id)


class _Statements:
    """The statements of a procedure, in the session that called it."""

    def __init__(self, account: Account, call: StatementCall) -> None:
        self._account = account
        self._call = call

    @property
    def in_transaction(self) -> bool:
        """See :class:`~rowqueue_local.snowflake.scripting.ScriptSession`, also for the others."""
        return self._call.session.transaction is not None

    async def rows(self, text: str) -> list[tuple[Any, ...]]:
        return await self._account.run_in_procedure(self._call, text)

    async def begin(self) -> None:
        self._call.session.begin()

    async def commit(self) -> None:
        await self._call.session.commit()
        self._account.locks.release(self._call.session)

    async def rollback(self) -> None:
        self._call.session.rollback()
        self._account.locks.release(self._call.session)


def _require_supported(statement: StatementFacts) -> None:
    if statement.refusal:
        raise Failure(UNSUPPORTED, "58000", f"[local stand-in] {statement.refusal}")
