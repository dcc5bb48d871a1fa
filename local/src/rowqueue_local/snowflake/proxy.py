"""A proxy in front of the Snowflake stand-in. It cuts connections, or answers in the place of Snowflake.

It runs in its own thread. What it does may change at any time::

    with proxying("http://127.0.0.1:1234") as proxy:
        proxy.disturb("my cut", Disturbance(matches=lambda sent: sent.text.startswith("UPDATE"), forward=True))
        ...  # programs use proxy.url
        proxy.stop("my cut")
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_LARGEST_REQUEST = 2**30
_NOT_FORWARDED = frozenset({"host", "content-length", "content-encoding"})
_START_WITHIN_S = 10
_QUERY = "/queries/v1/query-request"
"""Other requests repeat the text of a statement: the driver aborts one that it has given up with ``abort-request``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One request of the driver.

    Attributes:
        path: such as ``/session/v1/login-request``.
        text: the statement; empty if the request does not run one.
        values: the bound values, as text.
        session: the session's token; empty at a login.
    """

    path: str
    text: str = ""
    values: tuple[str, ...] = ()
    session: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disturbance:
    """What the proxy does to some requests.

    Attributes:
        matches: whether it concerns a request. It runs in the proxy's thread and must return at once.
        forward: whether the request reaches Snowflake before the connection is cut.
        answer: makes the JSON that is answered in the place of Snowflake; None cuts the connection.
        then: called with the request before the cut, in a thread of its own; it may take its time.
    """

    matches: Callable[[Sent], bool]
    forward: bool = False
    answer: Callable[[Sent], Mapping[str, Any]] | None = None
    then: Callable[[Sent], None] | None = None


@dataclass(slots=True, kw_only=True)
class Proxy:
    """The controls of a running proxy; safe to use from several threads.

    Attributes:
        url: where it listens.
        met: the number of disturbed requests, by the name of the disturbance.
    """

    url: str = ""
    met: Counter[str] = field(default_factory=Counter)
    _disturbances: Mapping[str, Disturbance] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def disturb(self, name: str, disturbance: Disturbance) -> None:
        """Begin a disturbance. The first one that matches a request is applied."""
        with self._lock:
            self._disturbances = {**self._disturbances, name: disturbance}

    def stop(self, name: str) -> None:
        """End a disturbance, if it has begun."""
        with self._lock:
            self._disturbances = {known: what for known, what in self._disturbances.items() if known != name}

    def meet(self, sent: Sent) -> Disturbance | None:
        """The disturbance of a request, counted; None if it passes."""
        for name, disturbance in self._disturbances.items():
            if disturbance.matches(sent):
                with self._lock:
                    self.met[name] += 1
                return disturbance
        return None


@contextlib.contextmanager
def proxying(
    upstream: str,
    *,
    observe: Callable[[Sent], None] | None = None,
    ran: Callable[[Sent, float], None] | None = None,
) -> Iterator[Proxy]:
    """Run a proxy.

    Args:
        upstream: the URL of the stand-in.
        observe: called with each request before it is disturbed or forwarded, in the proxy's thread.
        ran: called with each request that Snowflake has run or may have run, and when it was forwarded, seconds since
            the epoch; not for one that was cut before, answered by the proxy, or refused by Snowflake.
    """
    proxy, listening, stop = Proxy(), threading.Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        async with aiohttp.ClientSession(auto_decompress=False, connector=aiohttp.TCPConnector(limit=0)) as upstreams:
            handler = _Handler(proxy, upstream, upstreams, observe, ran)
            app = web.Application(client_max_size=_LARGEST_REQUEST)
            app.router.add_route("*", "/{path:.*}", handler.answer)
            # A request is cancelled when its client goes, so that the stand-in notices that too.
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            proxy.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            listening.set()
            await stop.wait()
            await runner.cleanup()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="snowflake-proxy", daemon=True)
    thread.start()
    if not listening.wait(_START_WITHIN_S):
        raise TimeoutError("the proxy in front of Snowflake did not start")
    try:
        yield proxy
    finally:
        loops[0].call_soon_threadsafe(stop.set)
        thread.join(_START_WITHIN_S)


class _Handler:
    def __init__(
        self,
        proxy: Proxy,
        upstream: str,
        upstreams: aiohttp.ClientSession,
        observe: Callable[[Sent], None] | None,
        ran: Callable[[Sent, float], None] | None,
    ) -> None:
        self._proxy = proxy
        self._upstream = upstream
        self._upstreams = upstreams
        self._observe = observe
        self._ran = ran

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.read()  # aiohttp has decompressed it
        sent = _sent(request, body)
        if self._observe:
            self._observe(sent)
        disturbance = self._proxy.meet(sent)
        if disturbance is None:
            return await self._run(request, body, sent)
        if disturbance.answer is not None:
            return web.json_response(disturbance.answer(sent))
        if disturbance.forward:
            await self._run(request, body, sent)
        if disturbance.then:
            await asyncio.to_thread(disturbance.then, sent)
        if request.transport is not None:
            request.transport.abort()
        return web.Response()  # never sent

    async def _run(self, request: web.Request, body: bytes, sent: Sent) -> web.Response:
        at, may_have_run = time.time(), True  # also if this is cancelled, because the client went
        try:
            answer = await self._forward(request, body)
            may_have_run = _is_success(answer)
            return answer
        finally:
            if self._ran and may_have_run:
                self._ran(sent, at)

    async def _forward(self, request: web.Request, body: bytes) -> web.Response:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _NOT_FORWARDED}
        url = f"{self._upstream}{request.rel_url}"
        try:
            async with self._upstreams.request(request.method, url, data=body, headers=headers) as answer:
                return web.Response(
                    body=await answer.read(), status=answer.status, content_type=answer.content_type or "text/plain"
                )
        except aiohttp.ClientError:  # the stand-in ends
            return web.Response(status=503)


def _is_success(answer: web.Response) -> bool:
    try:
        return json.loads(answer.text or "").get("success") is True
    except ValueError:
        return False


def _sent(request: web.Request, body: bytes) -> Sent:
    content = json.loads(body) if body[:1] == b"{" else {}
    bindings = content.get("bindings") or {}
    return Sent(
        path=request.path,
        text=content.get("sqlText", "") if request.path == _QUERY else "",
        values=tuple(str(bound.get("value")) for bound in bindings.values()),
        session=request.headers.get("Authorization", ""),
    )
