"""A Snowflake that is reached and answers nothing: in a tick, a login and a statement end with what is left of it."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import pytest

from rowqueue.errors import WarehouseUnavailable
from rowqueue.settings import SnowflakeSettings
from rowqueue.sql import Statement
from rowqueue.warehouse import SnowflakeWarehouse

STATEMENT = Statement(name="look", text="SELECT 1", parameters=())
LEFT_S = 2.0
GRACE_S = 1.5
"""For a busy machine. The driver's own limit is a minute."""


class Relay:
    """Passes bytes between the driver and the stand-in, and swallows those of some connections."""

    def __init__(self, upstream):
        self.upstream = upstream
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.sockets, self.swallowed, self.swallows_all = [self.listener], set(), False
        self._start(self._accept)

    def swallow_open_connections(self):
        """A new one still works, so that the driver can cancel its statement."""
        self.swallowed = set(self.sockets)

    def close(self):
        for one in self.sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self):
        while True:
            client, _ = self.listener.accept()
            server = socket.create_connection(self.upstream)
            self.sockets += [client, server]
            self._start(self._pump, client, server)
            self._start(self._pump, server, client)

    def _pump(self, source, target):
        while received := source.recv(65536):
            if not (self.swallows_all or source in self.swallowed):
                target.sendall(received)

    def _start(self, run, *arguments):
        def until_closed():
            with contextlib.suppress(OSError):
                run(*arguments)

        threading.Thread(target=until_closed, daemon=True).start()


@pytest.fixture
def relay(stand_in):
    host, port = stand_in.removeprefix("http://").split(":")
    relay = Relay((host, int(port)))
    yield relay
    relay.close()


@pytest.fixture
def ticking(environ, relay):
    """A warehouse of a tick that has two seconds left, and a function that says how long the tick has run."""
    began = [time.monotonic()]
    settings = SnowflakeSettings.from_env(environ | {"SNOWFLAKE_PORT": str(relay.port)})
    login = {"user": environ["SNOWFLAKE_USER"], "password": environ["SNOWFLAKE_PASSWORD"]}

    def seconds():
        return time.monotonic() - began[0]

    def restart():
        began[0] = time.monotonic()

    warehouse = SnowflakeWarehouse(settings, login, query_tag="limits", seconds_left=lambda: LEFT_S - seconds())
    return warehouse, seconds, restart


def test_a_login_without_an_answer_ends_with_the_tick(relay, ticking):
    warehouse, seconds, _ = ticking
    relay.swallows_all = True
    with pytest.raises(WarehouseUnavailable):
        warehouse.rows(STATEMENT, {})
    assert seconds() < LEFT_S + GRACE_S


def test_a_statement_without_an_answer_ends_with_the_tick(relay, ticking):
    warehouse, seconds, restart = ticking
    assert warehouse.rows(STATEMENT, {}) == [(1,)]
    restart()
    relay.swallow_open_connections()
    with pytest.raises(WarehouseUnavailable):
        warehouse.rows(STATEMENT, {})
    assert seconds() < LEFT_S + GRACE_S
