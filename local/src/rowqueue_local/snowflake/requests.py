"""Requests to the Snowflake stand-in: a repeated request runs its statement only once."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from rowqueue_local.snowflake.engine import cancelled
from rowqueue_local.snowflake.failures import Failure
from rowqueue_local.snowflake.results import not_found

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from rowqueue_local.snowflake.account import Account, StatementCall
    from rowqueue_local.snowflake.engine import Engine
    from rowqueue_local.snowflake.session import Session

_DISTINCT_TEXTS: Final = 2_000
_TEXT_LENGTH: Final = 20_000
_SEVERAL: Final = 0xA000  # drivers look for this kind, before they look for the ids of the results
_RUNNING: Final = "333333"  # the client asks again
_DETACHED: Final = "333334"  # the client asked not to wait

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


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryRequest:
    """The statements of one request.

    Attributes:
        calls: the statements, in their order.
        summary: the statement whose row says that all of them ran; ``None`` for a request with one statement.
    """

    calls: tuple[StatementCall, ...]
    summary: StatementCall | None = None


@dataclass(slots=True)
class _Run:
    """A request in progress: its first and its present statement, and the number of clients that wait for it."""

    first: StatementCall
    call: StatementCall
    clients: int = 0

    @property
    def has_not_run(self) -> bool:
        """Whether no statement of it has begun, so that a repeated request may run it."""
        return self.call is self.first and self.call.is_waiting


class Requests:
    """The statements in progress, and the latest answers.

    After a network error the connector repeats a request with the same id, and a statement outlives its request. So
    each request runs in its own task, and any number of clients may wait for it. A client may also leave at once and
    ask for the answer later, by its query id, from any session of the same user.

    Args:
        account: runs the statements.
        engine: interrupts a statement that is dropped while it runs.
        keep: number of answers to keep for repeated requests.
        hold_seconds: how long a client that asks for the answer by its id waits, before it has to ask again.
    """

    def __init__(self, account: Account, engine: Engine, *, keep: int, hold_seconds: float) -> None:
        self._account = account
        self._engine = engine
        self._keep = keep
        self._hold_seconds = hold_seconds
        self._running: dict[RequestKey, _Run] = {}
        self._answers: dict[RequestKey, asyncio.Future[bytes]] = {}

    def start(self, key: RequestKey, request: Callable[[], QueryRequest]) -> bytes:
        """Start a request, unless one with the same key was there before. The answer tells where to get the result."""
        if key not in self._answers:
            self._start(key, request())
        return _in_progress(key[1], _DETACHED)

    async def result(self, query_id: str, user: str) -> bytes:
        """The answer to an earlier request of the user, or to one of its statements."""
        key = self._key_of(query_id, user)
        if key is None:
            return rendered(not_found(query_id), query_id)
        answer = self._answers[key]
        await asyncio.wait({answer}, timeout=self._hold_seconds)
        return answer.result() if answer.done() else _in_progress(query_id, _RUNNING)

    def status(self, query_id: str, user: str) -> list[dict[str, Any]]:
        """What Snowflake's monitoring says of a query of the user; nothing if there is no such query."""
        key = self._key_of(query_id, user)
        if key is None:
            return []
        if not self._answers[key].done():
            return [{"id": query_id, "status": "RUNNING"}]
        reply = json.loads(self._answers[key].result())
        if reply["success"]:
            return [{"id": query_id, "status": "SUCCESS"}]
        code, message = reply["code"], reply["message"]
        return [{"id": query_id, "status": "FAILED_WITH_ERROR", "errorCode": code, "errorMessage": message}]

    def drop_query(self, query_id: str, user: str) -> None:
        """Drop a query of any session of the user."""
        if key := self._key_of(query_id, user):
            self.drop(key)

    async def answer(
        self,
        key: RequestKey,
        request: Callable[[], QueryRequest],
        client_leaves: Callable[[], Coroutine[Any, Any, None]],
    ) -> bytes:
        """The answer to a request: the one of an earlier request with the same key, or of the new ``request``.

        ``client_leaves`` ends when the client has closed its connection.
        """
        if key not in self._answers:
            self._start(key, request())
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

    def _key_of(self, query_id: str, user: str) -> RequestKey | None:
        if not self._account.results.has(user, query_id):
            return None
        return next((key for key in self._answers if key[1] == query_id), None)

    def _start(self, key: RequestKey, request: QueryRequest) -> None:
        for call in (*request.calls, *filter(None, [request.summary])):
            self._account.results.note(call.id, call.session.identity.user)
        self._running[key] = run = _Run(request.calls[0], request.calls[0])
        self._answers[key] = asyncio.create_task(self._perform(key, run, request))
        for old in list(self._answers)[: max(0, len(self._answers) - self._keep)]:
            if old not in self._running:
                del self._answers[old]

    async def _drop_when_left(
        self, key: RequestKey, run: _Run, client_leaves: Callable[[], Coroutine[Any, Any, None]]
    ) -> None:
        answer = self._answers[key]
        left = asyncio.create_task(client_leaves())
        run.clients += 1
        either: set[asyncio.Future[Any]] = {answer, left}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        run.clients -= 1
        left.cancel()
        if answer.done() or run.clients:
            return
        self.drop(key)
        if run.has_not_run:
            del self._answers[key]  # so a repeated request runs it

    async def _perform(self, key: RequestKey, run: _Run, request: QueryRequest) -> bytes:
        try:
            if request.summary is None:
                return await self._account.perform(run.call)
            return await self._perform_each(key, run, request.calls, request.summary)
        except Failure as failure:
            return rendered(failure, key[1])
        except asyncio.CancelledError:
            return rendered(cancelled(), key[1])
        finally:
            if self._running[key] is run:  # otherwise this one was dropped, and a repeated request runs
                del self._running[key]

    async def _perform_each(
        self, key: RequestKey, run: _Run, calls: tuple[StatementCall, ...], summary: StatementCall
    ) -> bytes:
        """Run the statements in their order, and keep the answer of each under its own id. The first error ends it."""
        kinds = []
        for call in calls:
            run.call = call
            answer = await self._account.perform(call)
            kinds.append(json.loads(answer)["data"].get("statementTypeId", 0))
            done: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
            self._answers[key[0], call.id] = done
            done.set_result(answer)
        run.call = summary
        reply = json.loads(await self._account.perform(summary))
        reply["data"]["statementTypeId"] = _SEVERAL
        reply["data"]["resultIds"] = ",".join(call.id for call in calls)
        reply["data"]["resultTypes"] = ",".join(str(kind) for kind in kinds)
        return json.dumps(reply).encode()


def _in_progress(query_id: str, code: str) -> bytes:
    data = {"queryId": query_id, "getResultUrl": f"/queries/{query_id}/result", "queryAbortsAfterSecs": 300}
    message = "Query execution in progress"
    return json.dumps({"data": data, "code": code, "message": message, "success": True}).encode()


def rendered(failure: Failure, statement_id: str = "") -> bytes:
    """A failure in the form that the connector reads."""
    code = f"{failure.errno:06d}"
    data = {"errorCode": code, "sqlState": failure.sqlstate, "queryId": statement_id}
    return json.dumps({"data": data, "code": code, "message": failure.message, "success": False}).encode()
