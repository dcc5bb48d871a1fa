"""Runs the stored procedures of the Snowflake stand-in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from rowqueue_local.snowflake.failures import UNSUPPORTED, Failure
from rowqueue_local.snowflake.procedures import called, expression_with_values, with_values

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rowqueue_local.snowflake.procedures import Block, Called, Instruction, Procedure


class ScriptSession(Protocol):
    """What a procedure needs of the session that called it."""

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        ...

    async def rows(self, text: str) -> list[tuple[Any, ...]]:
        """Run a statement, and wait for the lock that it needs."""
        ...

    async def begin(self) -> None:
        """Begin a transaction."""
        ...

    async def commit(self) -> None:
        """Commit the open transaction."""
        ...

    async def rollback(self) -> None:
        """Roll back the open transaction, if there is one."""
        ...


@dataclass(frozen=True, slots=True)
class _Returned:
    """The value of RETURN."""

    value: object


class ProcedureRun:
    """Runs a procedure with the rights of its owner.

    Args:
        session: of the caller.
        find: the procedure that a CALL means.
    """

    def __init__(self, session: ScriptSession, find: Callable[[Called], Procedure]) -> None:
        self._session = session
        self._find = find

    async def call(self, procedure: Procedure, arguments: Sequence[object]) -> object:
        """Call a procedure; returns what it returns.

        Raises:
            Failure: a statement failed and no handler caught it. The transaction that the procedure began is rolled
                back, as on Snowflake.
        """
        was_in_transaction = self._session.in_transaction
        values = dict(zip(procedure.parameters, arguments, strict=True))
        try:
            returned = await self._block(procedure.block, values)
        except BaseException:
            if not was_in_transaction:
                await self._session.rollback()
            raise
        if self._session.in_transaction and not was_in_transaction:
            await self._session.rollback()
            what = "Scoped transaction started in stored procedure is incomplete and it was rolled back."
            raise Failure(90232, "22000", f"Stored procedure execution error: {what}")
        return returned.value if returned else None

    async def _block(self, block: Block, values: dict[str, object]) -> _Returned | None:
        try:
            return await self._all(block.instructions, values, None)
        except Failure as failure:
            if block.handler is None:
                raise
            return await self._all(block.handler, values, failure)

    async def _all(
        self, instructions: Sequence[Instruction], values: dict[str, object], caught: Failure | None
    ) -> _Returned | None:
        for instruction in instructions:
            try:
                returned = await self._one(instruction, values, caught)
            except _Raised as raised:
                raise raised.failure from None
            except Failure as failure:
                raise _uncaught(failure, instruction) from None
            if returned is not None:
                return returned
        return None

    async def _one(
        self, instruction: Instruction, values: dict[str, object], caught: Failure | None
    ) -> _Returned | None:
        match instruction.kind:
            case "block" if instruction.block is not None:
                return await self._nested(instruction.block, values)
            case "return":
                return _Returned(await self._value(instruction.text, values))
            case "raise" if caught is not None:
                raise _Raised(caught)
            case "begin" | "commit" | "rollback":
                await self._control_transaction(instruction.kind)
            case "set":
                values[instruction.names[0]] = await self._value(instruction.text, values)
            case "call":
                wanted = called(instruction.text)
                given = [await self._value(text, values) for text in wanted.arguments]
                await self.call(self._find(wanted), given)
            case _:
                rows = await self._session.rows(with_values(instruction.text, values))
                if instruction.names:
                    values |= zip(instruction.names, _only(rows), strict=True)
        return None

    async def _nested(self, block: Block, values: dict[str, object]) -> _Returned | None:
        try:
            return await self._block(block, values)
        except Failure as failure:
            raise _Raised(failure) from None

    async def _control_transaction(self, kind: str) -> None:
        match kind:
            case "begin" if self._session.in_transaction:
                why = (
                    "[local stand-in] a procedure begins a transaction, and one is open: COMMIT or ROLLBACK it first. "
                    "Snowflake would run the procedure's transaction on its own"
                )
                raise Failure(UNSUPPORTED, "58000", why)
            case "begin":
                await self._session.begin()
            case "commit":
                await self._session.commit()
            case _:
                await self._session.rollback()

    async def _value(self, text: str, values: dict[str, object]) -> object:
        """The value of an expression."""
        name = text.removeprefix(":").upper()
        if name in values:
            return values[name]
        ((value,),) = await self._session.rows(f"SELECT {expression_with_values(text, values)}")
        return value


class _Raised(Exception):  # noqa: N818 - how a failure passes through a block, with the place that it has already
    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure


def _only(rows: list[tuple[Any, ...]]) -> tuple[Any, ...]:
    """The row of a SELECT INTO."""
    if len(rows) != 1:
        raise Failure(UNSUPPORTED, "58000", f"[local stand-in] SELECT INTO: expected one row, got {len(rows)}")
    return rows[0]


def _uncaught(failure: Failure, at: Instruction) -> Failure:
    """The failure as Snowflake reports it: with the place in the procedure, and with the number of the first error."""
    place = f"Uncaught exception of type 'STATEMENT_ERROR' on line {at.line} at position {at.position}"
    return type(failure)(failure.errno, failure.sqlstate, f"{place} : {failure.message}")
