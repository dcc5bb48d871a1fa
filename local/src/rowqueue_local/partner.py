"""A partner service that requires a client certificate and behaves as the payload asks.

``data`` may have an object ``partner`` with any of:

===============  =========================================================================
``status``       the HTTP status to answer, 200 by default
``first``        behave so only for the first N deliveries of the entry, then answer 200
``retry_after``  a ``Retry-After`` header, seconds
``delay_ms``     wait before answering
``hang_up``      close the connection without an answer
``body``         ``cut`` (closed in the middle), ``trickle`` (a byte a second), ``large`` (10 MB),
                 ``gzip`` (declared as compressed, but is not), ``page`` (nginx's, about a certificate),
                 ``echo`` (JSON that repeats that page)
``raw``          one of ``RAW_ANSWERS``, in place of an answer
``broken_tls``   one of ``BROKEN_TLS``, in place of an answer
===============  =========================================================================

It counts deliveries by ``Idempotency-Key``; ``GET /_local/stats`` answers the counts, ``GET /_local/deliveries`` each
delivery.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import ssl
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Sequence

NGINX_PAGE = """<html>\r
<head><title>400 No required SSL certificate was sent</title></head>\r
<body>\r
<center><h1>400 Bad Request</h1></center>\r
<center>No required SSL certificate was sent</center>\r
<hr><center>nginx</center>\r
</body>\r
</html>\r
"""
"""What nginx answers to a client without a certificate (ngx_http_special_response.c)."""
MAX_REQUEST_BYTES = 64 * 1024 * 1024


RAW_ANSWERS = {
    "a header of 9,000 bytes": b"HTTP/1.1 200 OK\r\nX-Long: %b\r\nContent-Length: 2\r\n\r\nok" % (b"x" * 9_000),
    "a header of 90,000 bytes": b"HTTP/1.1 200 OK\r\nX-Long: %b\r\nContent-Length: 2\r\n\r\nok" % (b"x" * 90_000),
    "a body after 204": b"HTTP/1.1 204 No Content\r\n\r\nbody",
    "bytes behind Content-Length": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more",
    "Content-Length with Transfer-Encoding": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    ),
    "two Content-Lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
    "a broken chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno number\r\nok\r\n0\r\n\r\n",
    "a header without a colon": b"HTTP/1.1 200 OK\r\nno colon\r\n\r\nok",
    "half of its headers": b"HTTP/1.1 200 OK\r\nContent-Len",
}
"""Answers with a 2xx and something that is no HTTP behind its status line, by what that is."""
BROKEN_TLS = {
    "plain text": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "a record that cannot be decrypted": b"\x17\x03\x03\x00\x20" + b"x" * 32,
}
"""Bytes in place of a TLS record, by what they are."""


@dataclass(slots=True, kw_only=True)
class ReceivedDelivery:
    """One delivery.

    Attributes:
        key: its idempotency key.
        began_at: seconds since the epoch.
        status: of the answer; None if there was none, or none yet.
        seconds: from its arrival to the answer; None as the status.
    """

    key: str
    began_at: float
    status: int | None = None
    seconds: float | None = None

    def answer(self, status: int) -> None:
        """Note the answer that is given now."""
        self.status, self.seconds = status, time.time() - self.began_at


@dataclass(slots=True)
class Ledger:
    """What the partner received.

    Attributes:
        requests: deliveries by idempotency key.
        done: keys that were answered with 2xx.
        answers: number of answers by status; ``hung_up`` if there was none.
        duplicates: deliveries of a key that had been answered with 2xx before.
        in_flight: deliveries that are not answered yet.
        most_in_flight: the largest number of these so far.
        deliveries: in the order of their arrival.
    """

    requests: Counter[str] = field(default_factory=Counter)
    done: set[str] = field(default_factory=set)
    answers: Counter[str] = field(default_factory=Counter)
    duplicates: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    deliveries: list[ReceivedDelivery] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The answer of ``/_local/stats``."""
        return {
            "requests": self.requests.total(),
            "keys": len(self.requests),
            "done": len(self.done),
            "duplicates": self.duplicates,
            "in_flight": self.in_flight,
            "most_in_flight": self.most_in_flight,
            "answers": dict(self.answers),
        }


_LEDGER = web.AppKey("ledger", Ledger)


def application() -> web.Application:
    """The service as an aiohttp application with its own ledger."""
    app = web.Application(client_max_size=MAX_REQUEST_BYTES)
    app[_LEDGER] = Ledger()
    app.router.add_post("/process", _process)
    app.router.add_get("/_local/stats", _stats)
    app.router.add_get("/_local/deliveries", _deliveries)
    return app


async def _stats(request: web.Request) -> web.Response:
    return web.json_response(request.app[_LEDGER].as_json())


async def _deliveries(request: web.Request) -> web.Response:
    return web.json_response({"deliveries": [asdict(delivery) for delivery in request.app[_LEDGER].deliveries]})


async def _process(request: web.Request) -> web.StreamResponse:
    ledger = request.app[_LEDGER]
    ledger.in_flight += 1
    ledger.most_in_flight = max(ledger.most_in_flight, ledger.in_flight)
    try:
        return await _answer(request, ledger)
    finally:
        ledger.in_flight -= 1


async def _answer(request: web.Request, ledger: Ledger) -> web.StreamResponse:
    key = request.headers.get("Idempotency-Key", "")
    body = await request.json(loads=partial(json.loads, parse_int=_number))
    ledger.requests[key] += 1
    ledger.deliveries.append(delivery := ReceivedDelivery(key=key, began_at=time.time()))
    ledger.duplicates += key in ledger.done
    behaviour = _behaviour(body, delivery=ledger.requests[key])
    await asyncio.sleep(behaviour.get("delay_ms", 0) / 1000)
    if behaviour.get("hang_up"):
        ledger.answers["hung_up"] += 1
        assert request.transport is not None
        request.transport.abort()
        return web.Response()  # never sent
    if "broken_tls" in behaviour:
        ledger.answers["broken_tls"] += 1
        return _break_tls(request, BROKEN_TLS[behaviour["broken_tls"]])
    if "raw" in behaviour:
        raw = RAW_ANSWERS[behaviour["raw"]]
        delivery.answer(int(raw[9:12]))
        ledger.answers[str(delivery.status)] += 1
        ledger.done.add(key)
        return _write_raw(request, raw)
    status = int(behaviour.get("status", 200))
    ledger.answers[str(status)] += 1
    delivery.answer(status)
    if 200 <= status < 300:  # noqa: PLR2004
        ledger.done.add(key)
    headers = {"Retry-After": str(behaviour["retry_after"])} if "retry_after" in behaviour else {}
    if "location" in behaviour:
        headers["Location"] = behaviour["location"]
    if "body" in behaviour:
        return await _ODD_BODIES[behaviour["body"]](request, status)
    answer = {"accepted": status < 300, "entry_id": body.get("entry_id"), "delivery": ledger.requests[key]}  # noqa: PLR2004
    return web.json_response(answer, status=status, headers=headers)


def _break_tls(request: web.Request, record: bytes) -> web.StreamResponse:
    assert request.transport is not None
    os.write(request.transport.get_extra_info("socket").fileno(), record)
    request.transport.close()
    return web.Response()  # never sent


def _write_raw(request: web.Request, answer: bytes) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.write(answer)
    request.transport.close()
    return web.Response()  # never sent


async def _cut(request: web.Request, status: int) -> web.StreamResponse:
    response = web.StreamResponse(status=status, headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"accepted": tr')
    assert request.transport is not None
    request.transport.abort()
    return response


async def _trickle(request: web.Request, status: int) -> web.StreamResponse:
    response = web.StreamResponse(status=status, headers={"Content-Length": "60"})
    await response.prepare(request)
    for _ in range(60):
        await response.write(b"x")
        await asyncio.sleep(1)
    return response


async def _large(_request: web.Request, status: int) -> web.StreamResponse:
    return web.Response(status=status, body=b"x" * 10_000_000)


async def _not_gzip(_request: web.Request, status: int) -> web.StreamResponse:
    return web.Response(status=status, body=b"not compressed at all", headers={"Content-Encoding": "gzip"})


async def _page(_request: web.Request, status: int) -> web.StreamResponse:
    return web.Response(status=status, text=NGINX_PAGE, content_type="text/html")


async def _echo(_request: web.Request, status: int) -> web.StreamResponse:
    return web.json_response({"error": "not valid", "input": NGINX_PAGE}, status=status)


_ODD_BODIES = {"cut": _cut, "trickle": _trickle, "large": _large, "gzip": _not_gzip, "page": _page, "echo": _echo}


def _number(digits: str) -> int | str:
    """Long numbers stay text: Python refuses to convert more than 4,300 digits, and a producer may send them."""
    return int(digits) if len(digits) < 20 else digits  # noqa: PLR2004


def _behaviour(body: Any, *, delivery: int) -> dict[str, Any]:
    """The behaviour that the payload asks for at this delivery."""
    data = body.get("data") if isinstance(body, dict) else None
    behaviour = data.get("partner") if isinstance(data, dict) else None
    if not isinstance(behaviour, dict) or delivery > behaviour.get("first", delivery):
        return {}
    return behaviour


def server_context(*, certificate: str, ca: str, tls: str | None = None) -> ssl.SSLContext:
    """TLS that accepts only clients with a certificate of ``ca``.

    Args:
        certificate: PEM file with the server's certificate and key.
        ca: PEM file.
        tls: the only TLS version, ``1.2`` or ``1.3``; both by default.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=ca)
    context.load_cert_chain(certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    if tls is not None:
        context.minimum_version = context.maximum_version = _TLS_VERSIONS[tls]
    return context


_TLS_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def web_server_in_front(*, certificate: str) -> tuple[web.Application, ssl.SSLContext]:
    """A web server that accepts a client without a certificate and answers with a 400 page, as nginx does."""

    async def page(_request: web.Request) -> web.Response:
        return web.Response(status=400, text=NGINX_PAGE, content_type="text/html")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", page)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    return app, context


async def serve(host: str, port: int, context: ssl.SSLContext) -> None:
    """Serve until SIGTERM. The first line on stdout is ``{"ready": "https://..."}``."""
    runner = web.AppRunner(application(), access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    site = web.TCPSite(runner, host, port, ssl_context=context)
    await site.start()
    bound = runner.addresses[0][1]
    print(json.dumps({"ready": f"https://{host}:{bound}"}), flush=True)  # noqa: T201 -- what the stack waits for
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
    await runner.cleanup()


def main(argv: Sequence[str] | None = None) -> None:
    """``python -m rowqueue_local.partner``."""
    parser = argparse.ArgumentParser(description="The partner service of the embedded stack.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument("--certificate", required=True, help="PEM file with certificate and key")
    parser.add_argument("--ca", required=True, help="PEM file with the CA of the accepted clients")
    arguments = parser.parse_args(argv)
    context = server_context(certificate=arguments.certificate, ca=arguments.ca)
    asyncio.run(serve(arguments.host, arguments.port, context))


if __name__ == "__main__":
    main()
