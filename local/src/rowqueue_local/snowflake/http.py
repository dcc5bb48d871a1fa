"""The HTTP endpoints of the Snowflake stand-in: those that the connector (4.8.1) uses, and ``/_local`` for tests."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import uuid
from typing import TYPE_CHECKING, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rowqueue_local.snowflake import statements
from rowqueue_local.snowflake.account import Account, StatementCall
from rowqueue_local.snowflake.engine import UNSUPPORTED, Engine, Failure
from rowqueue_local.snowflake.requests import Requests, StatementLog, rendered
from rowqueue_local.snowflake.weather import UnknownWeather, Weather, pass_by

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import Message

    from rowqueue_local.snowflake.account import AccountLimits
    from rowqueue_local.snowflake.session import Session

_NOTHING: Final = "SELECT 'Statement executed successfully.' AS \"status\""
_SUCCESS: Final = {"data": None, "code": None, "message": None, "success": True}


class SnowflakeStandIn:
    """The stand-in without its socket.

    Args:
        engine: runs the SQL.
        limits: of the statements that wait for a lock.
        keep_answers: number of answers to keep, in case a request is repeated.
        weather: how slow it is at first.
    """

    def __init__(self, engine: Engine, limits: AccountLimits, *, keep_answers: int, weather: Weather) -> None:
        self._engine = engine
        self._account = Account(engine, limits, weather=weather)
        self._requests = Requests(self._account, engine, keep=keep_answers)
        self._log = StatementLog()

    def application(self) -> Starlette:
        """The ASGI application. Endpoints that are not ours are fakesnow's (heartbeat, query status, uploads)."""
        ours = [
            Route("/session/v1/login-request", self._login, methods=["POST"]),
            Route("/session", self._session, methods=["POST"]),
            Route("/queries/v1/query-request", self._query, methods=["POST"]),
            Route("/queries/v1/abort-request", self._abort, methods=["POST"]),
            Route("/_local/stats", self._stats),
            Route("/_local/statements", self._statements),
            Route("/_local/reset-stats", self._reset_stats, methods=["POST"]),
            Route("/_local/weather", self._weather, methods=["GET", "POST"]),
        ]
        routes = [*ours, *self._engine.routes]
        return Starlette(routes=routes, lifespan=self._lifespan, exception_handlers={Exception: _unexpected})

    def drop_statements(self) -> None:
        """Drop every statement that runs or waits, so that no client delays the end."""
        self._requests.drop_all()

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        orphans = asyncio.create_task(self._account.end_orphans())
        yield
        orphans.cancel()

    async def _login(self, request: Request) -> Response:
        body = json.loads(await _raw(request))
        await pass_by(self._account.weather.login_ms)
        # The engine must not see these: some names would change its behaviour (FAKESNOW_DB_PATH, nop_regexes).
        parameters = body["data"].pop("SESSION_PARAMETERS", None) or {}
        try:
            raw = json.dumps({"data": {**body["data"], "SESSION_PARAMETERS": {}}}).encode()
            reply = await self._engine.login(_with_body(request, raw))
        except Failure as failure:
            return _json(rendered(failure))
        data = reply["data"]
        session = self._account.open(data["token"], parameters)
        # Without a master token the connector regards the connection as closed and never sends the end of the session.
        data |= {"masterToken": session.token, "sessionId": session.number}
        data["parameters"] += [
            {"name": "AUTOCOMMIT", "value": session.autocommit},
            {"name": "CLIENT_TELEMETRY_ENABLED", "value": False},
        ]
        return JSONResponse(reply)

    async def _session(self, request: Request) -> Response:
        session = self._account.find(_token(request))
        if session and "delete" in request.query_params:
            self._requests.drop_all(session)
            await self._account.close(session)
        return JSONResponse(_SUCCESS)

    async def _query(self, request: Request) -> Response:
        session = self._account.find(_token(request))
        if session is None:
            return _json(rendered(Failure(390111, "08003", "Session no longer exists. New login required.")))
        raw = await _raw(request)
        key = (session.token, request.query_params.get("requestId") or str(uuid.uuid4()))
        answer = await self._requests.answer(
            key, lambda: self._call(session, key[1], request, raw), lambda: _client_leaves(request)
        )
        return _json(answer)

    def _call(self, session: Session, request_id: str, request: Request, raw: bytes) -> StatementCall:
        body = json.loads(raw)
        statement = statements.read(body["sqlText"])
        describe_only = bool(body.get("describeOnly"))
        self._log.add(statement.kind, body["sqlText"])
        if not statement.for_engine:
            raw = json.dumps({"sqlText": _NOTHING, "describeOnly": describe_only}).encode()
        return StatementCall(
            session=session,
            id=request_id,
            statement=statement,
            request=_with_body(request, raw),
            describe_only=describe_only,
        )

    async def _abort(self, request: Request) -> Response:
        body = json.loads(await _raw(request))
        self._requests.drop((_token(request), body.get("requestId", "")))
        return JSONResponse(_SUCCESS)

    async def _stats(self, _: Request) -> Response:
        counters = self._account.counters
        return JSONResponse(
            {
                "sessions": len(self._account),
                "statements": self._log.total,
                "by_kind": self._log.by_kind,
                "refused_625": counters["refused_625"],
                "lock_waits": self._account.locks.waits,
                "conflict_retries": counters["conflict_retries"],
                "orphans": counters["orphans"],
                "results_kept": self._engine.results_kept,
            }
        )

    async def _statements(self, _: Request) -> Response:
        return JSONResponse([{"text": text, "count": count} for text, count in self._log.texts.items()])

    async def _reset_stats(self, _: Request) -> Response:
        self._log = StatementLog()
        self._account.counters.clear()
        self._account.locks.waits = 0
        return JSONResponse(_SUCCESS)

    async def _weather(self, request: Request) -> Response:
        """Answer the weather. POST changes it first, for every statement that starts later."""
        if request.method == "POST":
            try:
                self._account.weather = Weather.requested(json.loads(await _raw(request)))
            except UnknownWeather as error:
                return JSONResponse({"error": str(error)}, status_code=400)
        return JSONResponse(self._account.weather.as_json())


def _token(request: Request) -> str:
    return request.headers.get("authorization", "").removeprefix('Snowflake Token="').removesuffix('"')


async def _raw(request: Request) -> bytes:
    raw = await request.body()
    return gzip.decompress(raw) if request.headers.get("content-encoding") == "gzip" else raw


def _with_body(request: Request, raw: bytes) -> Request:
    """The same request with this body, which can be read again."""

    async def receive() -> Message:
        return {"type": "http.request", "body": raw, "more_body": False}

    headers = [pair for pair in request.scope["headers"] if pair[0] not in {b"content-encoding", b"content-length"}]
    return Request({**request.scope, "headers": headers}, receive)


def _json(content: bytes) -> Response:
    return Response(content, media_type="application/json")


async def _unexpected(_: Request, error: Exception) -> Response:
    """Answer an error as a failed statement: the connector would repeat an HTTP 5xx without end and hide the reason."""
    return _json(rendered(Failure(UNSUPPORTED, "58000", f"[local stand-in] {type(error).__name__}: {error}")))


async def _client_leaves(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
