"""A stand-in for Snowflake, which Snowflake's own drivers use over HTTP.

``python -m rowqueue_local.snowflake --port 0`` prints ``{"ready": "http://127.0.0.1:…"}`` once it listens, and ends on
SIGTERM. fakesnow runs the SQL. This package adds what many workers on one queue meet on Snowflake: one UPDATE, DELETE
or MERGE at a time for each table, errno 625 when too many statements wait, repeated requests that run once, and a
latency on request. It accepts more than Snowflake does. Its speed does not tell Snowflake's speed.
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

from rowqueue_local.snowflake.account import AccountLimits
from rowqueue_local.snowflake.engine import Engine
from rowqueue_local.snowflake.http import SnowflakeStandIn
from rowqueue_local.snowflake.procedures import Procedures
from rowqueue_local.snowflake.weather import LONGEST_MS, Weather

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

_SHUTDOWN_SECONDS: Final = 1
_KEEP_ALIVE_SECONDS: Final = 3600  # longer than a client pauses, so that no client uses a connection while it is closed


class _Server(uvicorn.Server):
    """Prints when it listens, and drops all statements when it ends."""

    def __init__(self, stand_in: SnowflakeStandIn, listener: socket.socket) -> None:
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
        print(json.dumps({"ready": f"http://{host}:{port}"}), flush=True)  # noqa: T201 - the parent waits for it

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._stand_in.drop_statements()
        await super().shutdown(sockets)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Serve until SIGTERM or SIGINT."""
    options = _options(argv)
    # A warning about fakesnow's own code. Its release is pinned.
    warnings.filterwarnings("ignore", message="Arrow output on a DB-API result")
    listener = _listen(options.host, options.port)
    engine = Engine(
        db_path=options.db_path,
        keep_results=options.keep_results,
        checks_updates=not options.unchecked_updates,
    )
    limits = AccountLimits(
        lock_waiters=options.lock_waiters,
        lock_timeout_seconds=options.lock_timeout,
        orphan_seconds=options.orphan_seconds,
    )
    weather = Weather(dml_ms=options.dml_ms, select_ms=options.select_ms, login_ms=options.login_ms)
    procedures = Procedures(options.db_path and options.db_path / "procedures.json")
    stand_in = SnowflakeStandIn(
        engine,
        limits,
        keep_answers=options.keep_results,
        hold_seconds=options.hold_seconds,
        weather=weather,
        procedures=procedures,
    )
    server = _Server(stand_in, listener)
    for number in (signal.SIGINT, signal.SIGTERM):
        # Uvicorn restores the earlier handlers and raises the signal again. The default handler would kill the process.
        signal.signal(number, server.handle_exit)
    server.run(sockets=[listener])
    engine.shutdown()
    # Skip the interpreter's teardown: the engine's bindings would report leaks.
    os._exit(0)


def _listen(host: str, port: int) -> socket.socket:
    try:
        listener = socket.create_server((host, port))
    except OSError as error:
        sys.exit(f"cannot listen on {host}:{port}: {error.strerror}")
    # The connections inherit this option. Asyncio sets it only on sockets with an explicit protocol, which this one has
    # not. Without it every answer takes 40 ms longer.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m rowqueue_local.snowflake", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True, help="0 takes a free one")
    parser.add_argument("--db-path", type=_directory, help="folder for the databases; without it they are in memory")
    parser.add_argument("--lock-waiters", type=int, default=20, help="statements that may wait for one table")
    parser.add_argument("--lock-timeout", type=float, default=60, help="seconds")
    parser.add_argument("--orphan-seconds", type=float, default=300, help="longest idle time of a blocking transaction")
    parser.add_argument("--keep-results", type=int, default=200, help="results and answers that are kept")
    parser.add_argument("--hold-seconds", type=float, default=45, help="longest wait for a result by its id")
    parser.add_argument("--unchecked-updates", action="store_true", help="ignore ERROR_ON_NONDETERMINISTIC_UPDATE")
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
