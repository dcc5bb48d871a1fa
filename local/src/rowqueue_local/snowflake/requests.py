"""Requests to the Snowflake stand-in: a repeated request runs its statement only once."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from rowqueue_local.snowflake.engine import Failure, cancelled

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from rowqueue_local.snowflake.account import Account, StatementCall
    from rowqueue_local.snowflake.engine import Engine
    from rowqueue_local.snowflake.session import Session

_DISTINCT_TEXTS: Final = 2_000
_TEXT_LENGTH: Final = 20_000

RequestKey = tuple[str, str]
"""A session token and a request id."""


@dataclass(slots=True)
class StatementLog:
    """Statistics of the statements; repeated requests are not counted again.

    Attributes:
        total: number of statements.
        by_kind: number of each kind; see ``statements``.
        texts: how often each text came; long texts are cut, and after 2,000 texts new ones are not added.
    """

    total: int = 0
    by_kind: Counter[str] = field(default_factory=Counter)
    texts: Counter[str] = field(default_factory=Counter)

    def add(self, kind: str, text: str) -> None:
        """Count a statement."""
        self.total += 1
        self.by_kind[kind] += 1
        text = text[:_TEXT_LENGTH]
        if text in self.texts or len(self.texts) < _DISTINCT_TEXTS:
            self.texts[text] += 1


@dataclass(slots=True)
class _Run:
    """A statement in progress, and the number of requests that wait for its answer."""

    call: StatementCall
    clients: int = 0


class Requests:
    """The statements in progress, and the latest answers.

    After a network error the connector repeats a request with the same id, and a statement outlives its request. So
    each statement runs in its own task, and any number of requests may wait for it.

    Args:
        account: runs the statements.
        engine: interrupts a statement that is dropped while it runs.
        keep: number of answers to keep for repeated requests.
    """

    def __init__(self, account: Account, engine: Engine, *, keep: int) -> None:
        self._account = account
        self._engine = engine
        self._keep = keep
        self._running: dict[RequestKey, _Run] = {}
        self._answers: dict[RequestKey, asyncio.Task[bytes]] = {}

    async def answer(
        self, key: RequestKey, call: Callable[[], StatementCall], client_leaves: Callable[[], Coroutine[Any, Any, None]]
    ) -> bytes:
        """The answer to a request: the one of an earlier request with the same key, or of the new ``call``.

        ``client_leaves`` ends when the client has closed its connection.
        """
        if key not in self._answers:
            self._start(key, call())
        answer = self._answers[key]
        run = self._running.get(key)
        if run is not None and run.call.session.drops_detached:
            await self._drop_when_left(key, run, client_leaves)
        return await asyncio.shield(answer)

    def drop(self, key: RequestKey) -> None:
        """Drop a statement; its answer is then errno 604."""
        run = self._running.get(key)
        if run is None:
            return
        if run.call.is_waiting:
            self._answers[key].cancel()
        else:
            self._engine.interrupt(run.call.session.token)

    def drop_all(self, session: Session | None = None) -> None:
        """Drop every statement, or every one of ``session``."""
        for key, run in list(self._running.items()):
            if session is None or session is run.call.session:
                self.drop(key)

    def _start(self, key: RequestKey, call: StatementCall) -> None:
        self._running[key] = run = _Run(call)
        self._answers[key] = asyncio.create_task(self._perform(key, run))
        for old in list(self._answers)[: max(0, len(self._answers) - self._keep)]:
            if old not in self._running:
                del self._answers[old]

    async def _drop_when_left(
        self, key: RequestKey, run: _Run, client_leaves: Callable[[], Coroutine[Any, Any, None]]
    ) -> None:
        answer = self._answers[key]
        left = asyncio.create_task(client_leaves())
        run.clients += 1
        await asyncio.wait({answer, left}, return_when=asyncio.FIRST_COMPLETED)
        run.clients -= 1
        left.cancel()
        if answer.done() or run.clients:
            return
        self.drop(key)
        if run.call.is_waiting:
            del self._answers[key]  # it has not run, so a repeated request runs it

    async def _perform(self, key: RequestKey, run: _Run) -> bytes:
        try:
            return await self._account.perform(run.call)
        except Failure as failure:
            return rendered(failure, run.call.id)
        except asyncio.CancelledError:
            return rendered(cancelled(), run.call.id)
        finally:
            if self._running[key] is run:  # otherwise this one was dropped, and a repeated request runs
                del self._running[key]


def rendered(failure: Failure, statement_id: str = "") -> bytes:
    """A failure in the form that the connector reads."""
    code = f"{failure.errno:06d}"
    data = {"errorCode": code, "sqlState": failure.sqlstate, "queryId": statement_id}
    return json.dumps({"data": data, "code": code, "message": failure.message, "success": False}).encode()
