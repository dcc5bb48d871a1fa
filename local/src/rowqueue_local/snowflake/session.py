"""One session of the Snowflake stand-in: its parameters and its transaction."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rowqueue_local.snowflake.failures import Failure

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rowqueue_local.snowflake.engine import Engine
    from rowqueue_local.snowflake.identity import Identity

LOST_TRANSACTION: Final = 390998
"""The errno of a statement in a transaction that the engine has already rolled back. Snowflake has no such code."""

_ARROW_CLIENTS: Final = "PythonConnector"
_FORMAT: Final = "PYTHON_CONNECTOR_QUERY_RESULT_FORMAT"

_numbers = itertools.count(1)


@dataclass(slots=True)
class Transaction:
    """An open transaction; ``lost`` says why the engine has rolled it back without the client's request."""

    number: int
    lost: str | None = None


class Session:
    """A session and its connection to the engine.

    Args:
        engine: runs its statements.
        token: the client sends it with every request; the engine's name of the connection.
        parameters: the session parameters of the login.
        identity: who logged in.
        client: the name of the driver.

    Attributes:
        identity: who uses it, and with which roles.
        roles_version: that of the roles that the engine knows; see :mod:`rowqueue_local.snowflake.access`.
        number: the session id for the client.
        autocommit: whether each change outside a transaction is its own transaction.
        lock_timeout_seconds: the session's LOCK_TIMEOUT.
        reads_arrow: whether its driver reads rows in the form of Arrow; the others get texts.
        statements_per_request: the number that a request must have; 0 is any (MULTI_STATEMENT_COUNT).
        drops_detached: whether a statement is dropped when its client has gone (ABORT_DETACHED_QUERY).
        turn: locked by the running statement, because Snowflake runs one statement of a session at a time.
        statement_id: the latest statement.
        idle_since: when it ended, in seconds on the monotonic clock.
        transaction: the open one.
    """

    def __init__(
        self, engine: Engine, token: str, parameters: dict[str, Any], identity: Identity, *, client: str
    ) -> None:
        named = {name.upper(): value for name, value in parameters.items()}
        self.token = token
        self.identity = identity
        self.roles_version = -1
        self.number = next(_numbers)
        self.autocommit = _is_true(named.get("AUTOCOMMIT", True))
        self.lock_timeout_seconds = float(named.get("LOCK_TIMEOUT", math.inf))
        self.drops_detached = _is_true(named.get("ABORT_DETACHED_QUERY", False))
        self.statements_per_request = 1
        self._client_reads_arrow = client.startswith(_ARROW_CLIENTS)
        self.reads_arrow = self._client_reads_arrow
        self.set_parameters(named)
        self.turn = asyncio.Lock()
        self.statement_id = ""
        self.idle_since = time.monotonic()
        self.transaction: Transaction | None = None
        self._engine = engine
        if _is_true(named.get("ERROR_ON_NONDETERMINISTIC_UPDATE", False)):
            engine.refuse_ambiguous_updates(token)

    def set_parameters(self, given: Mapping[str, object]) -> None:
        """Set the parameters that say how requests and answers look; ``None`` resets one."""
        if "MULTI_STATEMENT_COUNT" in given:
            count = given["MULTI_STATEMENT_COUNT"]
            self.statements_per_request = 1 if count is None else int(str(count))
        if _FORMAT in given:
            self.reads_arrow = self._client_reads_arrow and str(given[_FORMAT]).upper() != "JSON"

    def begin(self) -> None:
        """Begin a transaction. Inside one this does nothing, as on Snowflake."""
        if self.transaction is None:
            self.transaction = Transaction(next(_numbers))
            self._engine.set_answer(self.token, "transaction", str(self.transaction.number))
            self._engine.begin(self.token)

    async def commit(self) -> None:
        """Commit the open transaction, if there is one.

        Raises:
            Failure: its work is lost; the transaction has ended anyway.
        """
        if self.transaction is None:
            return
        lost = self.transaction.lost
        if lost:
            self.rollback()
            raise _lost("COMMIT", lost, "It has been rolled back; Snowflake would have kept the rest of it.")
        try:
            await self._engine.commit(self.token)
        finally:
            self._end()

    def rollback(self) -> None:
        """Roll back the open transaction, if there is one."""
        if self.transaction is not None:
            self._engine.rollback(self.token)
            self._end()

    def _end(self) -> None:
        self.transaction = None
        self._engine.set_answer(self.token, "transaction", None)

    def lose(self, reason: str) -> None:
        """Record that the work of the open transaction is lost. From now on it can only be ended."""
        if self.transaction is not None:
            self.transaction.lost = self.transaction.lost or reason

    def require_transaction_intact(self) -> None:
        """Raise ``Failure`` if the work of the open transaction is lost."""
        if self.transaction is not None and self.transaction.lost:
            raise _lost("the statement", self.transaction.lost, "Only ROLLBACK is possible.")

    def idle_seconds(self) -> float:
        """Seconds without a statement; 0 while one runs or waits."""
        return 0 if self.turn.locked() else time.monotonic() - self.idle_since


def _lost(what: str, reason: str, way_out: str) -> Failure:
    message = f"[local stand-in] {what} is refused: this transaction has lost its work, because {reason}. {way_out}"
    return Failure(LOST_TRANSACTION, "58000", message)


def _is_true(value: object) -> bool:
    """A session parameter as a boolean; it may be text."""
    return str(value).lower() == "true"
