"""One login to the Snowflake stand-in: what it asked for, and its transaction."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rowqueue_local.snowflake.engine import Failure

if TYPE_CHECKING:
    from rowqueue_local.snowflake.engine import Engine

LOST_TRANSACTION: Final = 390998
"""The errno of a statement in a transaction whose work the engine has thrown away. Snowflake has no such code."""

_numbers = itertools.count(1)


@dataclass(slots=True)
class Transaction:
    """An open transaction; ``lost`` says why its work is gone although the client has not rolled it back."""

    number: int
    lost: str | None = None


class Session:
    """A login, and its connection to the engine.

    Args:
        engine: what runs its statements.
        token: what the client shows with every request, and the engine's name for the connection.
        parameters: the session parameters of the login.

    Attributes:
        number: the session id that the client is told.
        autocommit: whether a change outside a transaction is a transaction of its own.
        lock_timeout_seconds: the session's own LOCK_TIMEOUT.
        drops_detached: a statement whose client has gone is given up (ABORT_DETACHED_QUERY).
        turn: held by the statement that runs; Snowflake runs those of one session one at a time.
        statement_id: the latest statement.
        idle_since: when it ended, in seconds on the monotonic clock.
        transaction: the open one.
    """

    def __init__(self, engine: Engine, token: str, parameters: dict[str, Any]) -> None:
        named = {name.upper(): value for name, value in parameters.items()}
        self.token = token
        self.number = next(_numbers)
        self.autocommit = _is_true(named.get("AUTOCOMMIT", True))
        self.lock_timeout_seconds = float(named.get("LOCK_TIMEOUT", math.inf))
        self.drops_detached = _is_true(named.get("ABORT_DETACHED_QUERY", False))
        self.turn = asyncio.Lock()
        self.statement_id = ""
        self.idle_since = time.monotonic()
        self.transaction: Transaction | None = None
        self._engine = engine

    def begin(self) -> None:
        """Begin a transaction; inside one nothing happens, as on Snowflake."""
        if self.transaction is None:
            self._engine.begin(self.token)
            self.transaction = Transaction(next(_numbers))

    async def commit(self) -> None:
        """Commit the open transaction, if there is one.

        Raises:
            Failure: its work could not be kept; the transaction is over all the same.
        """
        if self.transaction is None:
            return
        lost, self.transaction = self.transaction.lost, None
        if lost:
            self._engine.rollback(self.token)
            raise _lost("COMMIT", lost, "It has been rolled back; Snowflake would have kept the rest of it.")
        await self._engine.commit(self.token)

    def rollback(self) -> None:
        """Roll the open transaction back, if there is one."""
        if self.transaction is not None:
            self._engine.rollback(self.token)
            self.transaction = None

    def lose(self, reason: str) -> None:
        """Note that the work of the open transaction is gone. From now on it can only be ended."""
        if self.transaction is not None:
            self.transaction.lost = self.transaction.lost or reason

    def require_transaction_intact(self) -> None:
        """Raise ``Failure`` when the work of the open transaction is lost."""
        if self.transaction is not None and self.transaction.lost:
            raise _lost("the statement", self.transaction.lost, "Only ROLLBACK is left.")

    def idle_seconds(self) -> float:
        """For how long no statement has run; 0 while one does, or waits."""
        return 0 if self.turn.locked() else time.monotonic() - self.idle_since


def _lost(what: str, reason: str, way_out: str) -> Failure:
    told = f"[local stand-in] {what} is refused: this transaction has lost its work, because {reason}. {way_out}"
    return Failure(LOST_TRANSACTION, "58000", told)


def _is_true(value: object) -> bool:
    """A session parameter as a boolean: it may come as text."""
    return str(value).lower() == "true"
