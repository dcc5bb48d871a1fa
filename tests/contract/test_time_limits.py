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
LEFT_S = 1.2
GRACE_S = 3.0
"""Lambda ends the function five seconds after the tick's end. The driver's own limits would be ten seconds."""


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
    """A warehouse of a tick, and the tick."""
    tick = SomeTick()
    settings = SnowflakeSettings.from_env(environ | {"SNOWFLAKE_PORT": str(relay.port)})
    login = {"user": environ["SNOWFLAKE_USER"], "password": environ["SNOWFLAKE_PASSWORD"]}
    return SnowflakeWarehouse(settings, login, query_tag="limits", seconds_left=tick.seconds_left), tick


class SomeTick:
    """It has 50 seconds, until a test leaves it a second."""

    def __init__(self):
        self.ends_at = time.monotonic() + 50

    def leave(self, seconds):
        self.ends_at = time.monotonic() + seconds

    def seconds_left(self):
        return self.ends_at - time.monotonic()


def test_a_login_without_an_answer_ends_with_the_tick(relay, ticking):
    warehouse, tick = ticking
    relay.swallows_all = True
    tick.leave(LEFT_S)
    with pytest.raises(WarehouseUnavailable, match=r"no answer|cannot be reached|Snowflake: "):
        warehouse.rows(STATEMENT, {})
    assert tick.seconds_left() > -GRACE_S


@pytest.mark.parametrize("cancelled", [True, False])
def test_a_late_statement_without_an_answer_ends_with_the_tick(relay, ticking, cancelled):
    warehouse, tick = ticking
    assert warehouse.rows(STATEMENT, {}) == [(1,)]  # the session is opened with the limits of a whole step
    relay.swallow_open_connections()
    relay.swallows_all = not cancelled
    tick.leave(LEFT_S)
    with pytest.raises(WarehouseUnavailable, match=r"no answer|cannot be reached|Snowflake: "):
        warehouse.rows(STATEMENT, {})
    assert tick.seconds_left() > -GRACE_S


def test_a_session_that_snowflake_does_not_end_is_left_behind_soon(relay, ticking):
    warehouse, tick = ticking
    assert warehouse.rows(STATEMENT, {}) == [(1,)]
    relay.swallows_all = True
    warehouse.close()
    assert tick.seconds_left() > 50 - 4
