"""The connection to Snowflake is cut before or after a claim or a settle has committed: nothing is lost, nothing twice.

A proxy stands between the driver and the stand-in. While it cuts, the driver repeats its request until it gives up, and
the store has to find out for itself whether the statement ran.
"""

from __future__ import annotations

import time

import pytest
from queue_contract import retried, started

from rowqueue.processor.queue import ClaimRequest
from rowqueue.processor.store import ProcessorStore
from rowqueue.settings import SnowflakeSettings
from rowqueue.warehouse import SnowflakeWarehouse
from rowqueue_local.snowflake.proxy import Disturbance, proxying

DRIVER_PATIENCE_S = 1
CLAIM = "UPDATE PROCESSING_QUEUE\n   SET status = 'processing'"
NO_SESSION = {"success": False, "code": "390111", "message": "Session no longer exists.", "data": None}


class Cuts:
    """Cuts the connection for a while when a statement with a given beginning is sent.

    Attributes:
        until: when the cutting ends.
        ran: the texts of the statements that Snowflake ran.
    """

    def __init__(self, proxy, ran):
        self._proxy, self.until, self.ran = proxy, 0.0, ran

    @property
    def seen(self):
        """How often it cut."""
        return self._proxy.met["cut"]

    def cut(self, statement, *, forward):
        self.until = time.monotonic() + DRIVER_PATIENCE_S + 1.0

        def matches(sent):
            return time.monotonic() < self.until and sent.text.startswith(statement)

        self._proxy.disturb("cut", Disturbance(matches=matches, forward=forward))

    def lose_session(self):
        """Snowflake does not know the session any more that sends the next statement."""
        lost = []

        def matches(sent):
            lost.extend([sent.session] if sent.text and not lost else [])
            return sent.session in lost and bool(sent.text)

        self._proxy.disturb("cut", Disturbance(matches=matches, answer=lambda _: NO_SESSION))


@pytest.fixture
def proxied(environ, stand_in):
    """A store behind a proxy that can cut."""
    ran = []
    with proxying(stand_in, ran=lambda sent, _: ran.append(sent.text)) as proxy:
        port = proxy.url.rpartition(":")[2]
        settings = SnowflakeSettings.from_env(environ | {"SNOWFLAKE_PORT": port})
        login = {"user": "tester", "password": "tester"}
        warehouse = SnowflakeWarehouse(settings, login, query_tag="cut", network_patience_s=DRIVER_PATIENCE_S)
        yield ProcessorStore(warehouse, queue=settings.table, processor_id="dev-1", max_retries=3), Cuts(proxy, ran)
        warehouse.close()


@pytest.fixture
def entry(sql):
    sql("INSERT INTO PROCESSING_QUEUE (data) VALUES ('{}')")


def claim(store, token="token"):
    return store.claim(ClaimRequest(token=token, entries=10, characters=10**6))


def claims(texts):
    return [text for text in texts if text.startswith(CLAIM)]


def settle(store, entry):
    return store.settle(*started([retried(entry)]))


def state(sql):
    return [tuple(row) for row in sql("SELECT status, retry_count, claim_token FROM PROCESSING_QUEUE")]


def test_cut_before_a_claim_committed_the_entry_stays_pending_and_is_claimed_next_time(proxied, sql, entry):
    store, proxy = proxied
    proxy.cut(CLAIM, forward=False)
    assert claim(store) == []
    assert proxy.seen > 0
    assert state(sql) == [("pending", 0, None)]
    assert not claims(proxy.ran)
    time.sleep(max(0.0, proxy.until - time.monotonic()))
    assert len(claim(store, "second")) == 1
    assert len(claims(proxy.ran)) == 1


def test_cut_after_a_claim_committed_the_token_tells_what_was_claimed(proxied, sql, entry):
    store, proxy = proxied
    proxy.cut(CLAIM, forward=True)
    (claimed,) = claim(store)
    assert proxy.seen > 0
    assert claimed.claim_token == "token"
    assert claims(proxy.ran)
    assert state(sql) == [("processing", 0, "token")]


def test_cut_before_a_settle_committed_it_is_sent_again_and_recorded_once(proxied, sql, entry):
    store, proxy = proxied
    (claimed,) = claim(store)
    proxy.cut("UPDATE PROCESSING_QUEUE\n   SET status = IFF(made.", forward=False)
    assert settle(store, claimed) == frozenset()
    assert proxy.seen > 0
    assert state(sql) == [("pending", 1, "token")]
    assert sql("SELECT COUNT(*) FROM PROCESSING_ATTEMPTS")[0][0] == 1


def test_cut_after_a_settle_committed_it_is_recorded_once_and_is_no_lost_claim(proxied, sql, entry):
    store, proxy = proxied
    (claimed,) = claim(store)
    proxy.cut("UPDATE PROCESSING_QUEUE\n   SET status = IFF(made.", forward=True)
    assert settle(store, claimed) == frozenset()
    assert proxy.seen > 0
    assert state(sql) == [("pending", 1, "token")], "counted once, though it was sent more than once"
    assert sql("SELECT COUNT(*) FROM PROCESSING_ATTEMPTS")[0][0] == 1


def test_cut_after_the_attempts_were_inserted_they_are_there_once(proxied, sql, entry):
    store, proxy = proxied
    (claimed,) = claim(store)
    proxy.cut("INSERT INTO PROCESSING_ATTEMPTS", forward=True)
    assert settle(store, claimed) == frozenset()
    assert proxy.seen > 0
    assert sql("SELECT COUNT(*) FROM PROCESSING_ATTEMPTS")[0][0] == 1


def test_a_session_that_snowflake_lost_is_opened_again_and_the_settle_is_recorded_once(proxied, sql, entry):
    store, proxy = proxied
    (claimed,) = claim(store)
    proxy.lose_session()
    assert settle(store, claimed) == frozenset()
    assert proxy.seen == 1
    assert state(sql) == [("pending", 1, "token")]
    assert sql("SELECT COUNT(*) FROM PROCESSING_ATTEMPTS")[0][0] == 1
