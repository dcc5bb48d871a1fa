"""A Snowflake for one machine, that the real snowflake-connector-python 4.8.1 talks to over HTTP.

``python -m rowqueue_local.snowflake --port 0`` prints ``{"ready": "http://127.0.0.1:…"}`` once it listens, and ends on
SIGTERM. The SQL is fakesnow's; this adds what a queue with many workers meets on Snowflake: one UPDATE, DELETE or MERGE
at a time for each table, errno 625 when too many wait, honest errors, repeated requests that run once, and a latency if
one is asked for. It is more permissive than Snowflake; how fast it is says nothing of how fast Snowflake is.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Final

import uvicorn

from rowqueue_local.snowflake.account import Limits
from rowqueue_local.snowflake.engine import Engine
from rowqueue_local.snowflake.http import StandIn
from rowqueue_local.snowflake.weather import LONGEST_MS, Weather

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

_SHUTDOWN_SECONDS: Final = 1
_KEEP_ALIVE_SECONDS: Final = 3600  # longer than a client pauses, so that none finds its connection just being closed


class _Server(uvicorn.Server):
    """Says when it listens, and lets no statement hold up its end."""

    def __init__(self, stand_in: StandIn, listener: socket.socket) -> None:
        super().__init__(
            uvicorn.Config(
                stand_in.application(),
                access_log=False,
                log_level="error",
                timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            )
        )
        self._stand_in = stand_in
        self._listener = listener

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        host, port = self._listener.getsockname()[:2]
        print(json.dumps({"ready": f"http://{host}:{port}"}), flush=True)  # noqa: T201 - whoever starts it waits for it

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._stand_in.drop_statements()
        await super().shutdown(sockets)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Serve until SIGTERM or SIGINT."""
    options = _options(argv)
    # fakesnow's business, in a release that is pinned.
    warnings.filterwarnings("ignore", message="Arrow output on a DB-API result")
    listener = _listen(options.host, options.port)
    engine = Engine(db_path=options.db_path, keep_results=options.keep_results)
    limits = Limits(
        lock_waiters=options.lock_waiters,
        lock_timeout_seconds=options.lock_timeout,
        orphan_seconds=options.orphan_seconds,
    )
    weather = Weather(dml_ms=options.dml_ms, select_ms=options.select_ms, login_ms=options.login_ms)
    stand_in = StandIn(engine, limits, keep_answers=options.keep_results, weather=weather)
    server = _Server(stand_in, listener)
    for number in (signal.SIGINT, signal.SIGTERM):
        # Uvicorn puts back the handlers it found and then raises the signal again; the default one would kill us here.
        signal.signal(number, server.handle_exit)
    server.run(sockets=[listener])
    engine.shutdown()
    # Not by way of the interpreter: the engine's bindings would report what they leaked.
    os._exit(0)


def _listen(host: str, port: int) -> socket.socket:
    try:
        listener = socket.create_server((host, port))
    except OSError as error:
        sys.exit(f"can not listen on {host}:{port}: {error.strerror}")
    # The connections inherit it. Asyncio sets it only on sockets whose protocol is spelt out, which it is not here, and
    # without it every answer takes 40 ms longer.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m rowqueue_local.snowflake", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True, help="0 takes a free one")
    parser.add_argument("--db-path", type=_directory, help="where to keep the databases; in memory without it")
    parser.add_argument("--lock-waiters", type=int, default=20, help="statements that may wait for one table")
    parser.add_argument("--lock-timeout", type=float, default=60, help="seconds")
    parser.add_argument("--orphan-seconds", type=float, default=300, help="idle time of a transaction that blocks")
    parser.add_argument("--keep-results", type=int, default=200, help="results and answers that are kept")
    for name in ("dml", "select", "login"):
        added = f"milliseconds added to each {name}; POST /_local/weather changes it later"
        parser.add_argument(f"--{name}-ms", type=_milliseconds, default=0.0, help=added)
    return parser.parse_args(argv)


def _milliseconds(text: str) -> float:
    try:
        given = float(text)
    except ValueError:
        given = -1
    if not 0 <= given <= LONGEST_MS:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to {LONGEST_MS}, got {text!r}")
    return given


def _directory(path: str) -> Path:
    Path(path).mkdir(parents=True, exist_ok=True)
    return Path(path)


if __name__ == "__main__":
    main()
