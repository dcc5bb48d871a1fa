"""The HTTP endpoints of the Snowflake stand-in: those that Snowflake's drivers use, and ``/_local`` for tests."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import uuid
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rowqueue_local.snowflake import rowsets, statements
from rowqueue_local.snowflake.account import Account, StatementCall
from rowqueue_local.snowflake.failures import UNSUPPORTED, Failure
from rowqueue_local.snowflake.identity import logged_in
from rowqueue_local.snowflake.requests import QueryRequest, Requests, StatementLog, rendered
from rowqueue_local.snowflake.several import SentPart, parts_of
from rowqueue_local.snowflake.weather import UnknownWeather, Weather, pass_by

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from starlette.types import Message

    from rowqueue_local.snowflake.account import AccountLimits
    from rowqueue_local.snowflake.engine import Engine
    from rowqueue_local.snowflake.procedures import Procedures
    from rowqueue_local.snowflake.session import Session

_NOTHING: Final = "SELECT 'Statement executed successfully.' AS \"status\""
_ALL_RAN: Final = "SELECT 'Multiple statements executed successfully.' AS \"multiple statement execution\""
_ORGANIZATION: Final = "LOCAL"
_SUCCESS: Final = {"data": None, "code": None, "message": None, "success": True}


class SnowflakeStandIn:
    """The stand-in without its socket.

    Args:
        engine: runs the SQL.
        limits: of the statements that wait for a lock.
        keep_answers: number of answers to keep, in case a request is repeated.
        hold_seconds: how long a client that asks for a result by its id waits before it has to ask again.
        weather: how slow it is at first.
        procedures: the stored procedures.
    """

    def __init__(
        self,
        engine: Engine,
        limits: AccountLimits,
        *,
        keep_answers: int,
        hold_seconds: float,
        weather: Weather,
        procedures: Procedures,
    ) -> None:
        self._engine = engine
        self._account = Account(engine, limits, weather=weather, procedures=procedures)
        self._requests = Requests(self._account, engine, keep=keep_answers, hold_seconds=hold_seconds)
        self._log = StatementLog()

    def application(self) -> Starlette:
        """The ASGI application. Endpoints that are not ours are fakesnow's (heartbeat, uploads)."""
        ours = [
            Route("/session/v1/login-request", self._login, methods=["POST"]),
            Route("/session", self._session, methods=["POST"]),
            Route("/queries/v1/query-request", self._query, methods=["POST"]),
            Route("/queries/v1/abort-request", self._abort, methods=["POST"]),
            Route("/queries/{query_id}/result", self._result),
            Route("/queries/{query_id}/abort-request", self._abort_query, methods=["POST"]),
            Route("/monitoring/queries/{query_id:path}", self._status),
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
            identity = logged_in(self._account.access.roles, body["data"], request.query_params)
            raw = json.dumps({"data": {**body["data"], "SESSION_PARAMETERS": {}}}).encode()
            wanted = (request.query_params.get("databaseName"), request.query_params.get("schemaName"))
            place = zip(("databaseName", "schemaName"), self._account.access.places(identity, *wanted), strict=True)
            query = urlencode([(name, value) for name, value in place if value]).encode()
            reply = await self._engine.login(_with_body(request, raw, query_string=query))
        except Failure as failure:
            return _json(rendered(failure))
        data = reply["data"]
        session = self._account.open(data["token"], parameters, identity, client=_client(request, body["data"]))
        data["sessionInfo"] |= {"roleName": identity.role, "warehouseName": identity.warehouse}
        account = str(body["data"].get("ACCOUNT_NAME") or "local").upper()
        for function in ("account", "account_name"):
            self._engine.set_answer(session.token, function, account)
        self._engine.set_answer(session.token, "organization_name", _ORGANIZATION)
        self._engine.set_answer(session.token, "session", str(session.number))
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
            return _json(rendered(_no_session()))
        raw = await _raw(request)
        body = json.loads(raw)
        key = (session.token, request.query_params.get("requestId") or str(uuid.uuid4()))
        try:
            parts = _parts(session, body)
        except Failure as failure:
            return _json(rendered(failure, key[1]))

        def query() -> QueryRequest:
            if len(parts) == 1:
                return QueryRequest(calls=(self._call(session, key[1], request, body, raw),))
            return self._several(session, key[1], request, parts)

        if body.get("asyncExec"):
            return _json(self._requests.start(key, query))
        return _delivered(session, await self._requests.answer(key, query, lambda: _client_leaves(request)))

    def _several(self, session: Session, query_id: str, request: Request, parts: list[SentPart]) -> QueryRequest:
        bodies = [{"sqlText": part.text, "bindings": part.bindings} for part in parts]
        calls = [self._call(session, str(uuid.uuid4()), request, body, json.dumps(body).encode()) for body in bodies]
        summary = StatementCall(
            session=session,
            id=query_id,
            text=_ALL_RAN,
            bindings={},
            statement=statements.read(_ALL_RAN),
            request=_asking(request, _ALL_RAN),
            asking=partial(_asking, request),
            describe_only=False,
        )
        return QueryRequest(calls=tuple(calls), summary=summary)

    def _call(
        self, session: Session, query_id: str, request: Request, body: Mapping[str, Any], raw: bytes
    ) -> StatementCall:
        statement = statements.read(body["sqlText"])
        describe_only = bool(body.get("describeOnly"))
        self._log.add(statement.kind, body["sqlText"])
        if not statement.for_engine:
            raw = json.dumps({"sqlText": _NOTHING, "describeOnly": describe_only}).encode()
        return StatementCall(
            session=session,
            id=query_id,
            text=body["sqlText"],
            bindings=body.get("bindings") or {},
            statement=statement,
            request=_with_body(request, raw),
            asking=partial(_asking, request),
            describe_only=describe_only,
        )

    async def _result(self, request: Request) -> Response:
        session = self._account.find(_token(request))
        if session is None:
            return _json(rendered(_no_session()))
        return _delivered(session, await self._requests.result(request.path_params["query_id"], session.identity.user))

    async def _status(self, request: Request) -> Response:
        session = self._account.find(_token(request))
        if session is None:
            return _json(rendered(_no_session()))
        # The connector 5.2 asks for /monitoring/queries//<id>.
        queries = self._requests.status(request.path_params["query_id"].lstrip("/"), session.identity.user)
        return JSONResponse({"data": {"queries": queries}, "success": True})

    async def _abort_query(self, request: Request) -> Response:
        session = self._account.find(_token(request))
        if session is None:
            return _json(rendered(_no_session()))
        self._requests.drop_query(request.path_params["query_id"], session.identity.user)
        return JSONResponse(_SUCCESS)

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


def _client(request: Request, login: Mapping[str, Any]) -> str:
    """The driver: what builds on the connector for Python may give another name, but keeps its user agent."""
    agent = request.headers.get("user-agent", "")
    return "PythonConnector" if "PythonConnector" in agent else str(login.get("CLIENT_APP_ID", ""))


def _parts(session: Session, body: Mapping[str, Any]) -> list[SentPart]:
    """The statements of a request.

    Raises:
        Failure: there are more or fewer than the client asked for.
    """
    parts = parts_of(body["sqlText"], body.get("bindings") or {})
    asked = (body.get("parameters") or {}).get("MULTI_STATEMENT_COUNT", session.statements_per_request)
    if int(asked) not in {0, len(parts)}:
        why = f"Actual statement count {len(parts)} did not match the desired statement count {asked}."
        raise Failure(8, "0A000", why)
    return parts


def _no_session() -> Failure:
    return Failure(390111, "08003", "Session no longer exists. New login required.")


def _delivered(session: Session, answer: bytes) -> Response:
    return _json(answer if session.reads_arrow else rowsets.as_texts(answer))


def _token(request: Request) -> str:
    return request.headers.get("authorization", "").removeprefix('Snowflake Token="').removesuffix('"')


async def _raw(request: Request) -> bytes:
    raw = await request.body()
    return gzip.decompress(raw) if request.headers.get("content-encoding") == "gzip" else raw


def _with_body(request: Request, raw: bytes, **scope: bytes) -> Request:
    """The same request with this body, which can be read again, and with these parts of its scope."""

    async def receive() -> Message:
        return {"type": "http.request", "body": raw, "more_body": False}

    headers = [pair for pair in request.scope["headers"] if pair[0] not in {b"content-encoding", b"content-length"}]
    return Request({**request.scope, "headers": headers, **scope}, receive)


def _asking(request: Request, text: str) -> Request:
    """The same request with another statement, without values."""
    return _with_body(request, json.dumps({"sqlText": text}).encode())


def _json(content: bytes) -> Response:
    return Response(content, media_type="application/json")


async def _unexpected(_: Request, error: Exception) -> Response:
    """Answer an error as a failed statement: the connector would repeat an HTTP 5xx without end and hide the reason."""
    return _json(rendered(Failure(UNSUPPORTED, "58000", f"[local stand-in] {type(error).__name__}: {error}")))


async def _client_leaves(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
