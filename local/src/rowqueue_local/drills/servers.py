"""Servers that a drill or a test runs in its own process, for faults that no payload can ask for."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

_STARTS_WITHIN_S = 10.0


@contextlib.contextmanager
def serving(app: web.Application, context: ssl.SSLContext | None, *, host: str = "127.0.0.1") -> Iterator[int]:
    """Serve in another thread; yields the port.

    Raises:
        TimeoutError: the server did not start.
    """
    ready = threading.Event()
    bound: dict[str, int] = {}
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, host, 0, ssl_context=context).start()
        bound["port"] = runner.addresses[0][1]
        ready.set()
        await stop.wait()
        await runner.cleanup()

    def run() -> None:
        with contextlib.closing(loop):
            loop.run_until_complete(serve())

    thread = threading.Thread(target=run, name="server")
    thread.start()
    try:
        if not ready.wait(_STARTS_WITHIN_S):
            raise TimeoutError("the server did not start")
        yield bound["port"]
    finally:
        with contextlib.suppress(RuntimeError):  # it has ended by itself; its thread reports why
            loop.call_soon_threadsafe(stop.set)
        thread.join(_STARTS_WITHIN_S)
