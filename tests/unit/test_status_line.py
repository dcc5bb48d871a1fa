"""The status that is read from the first bytes of an answer, on a real TLS connection in memory."""

from __future__ import annotations

import contextlib
import ssl

import pytest
import trustme

from rowqueue.processor.status_line import FirstBytesKept

CA = trustme.CA()


@pytest.fixture
def connection():
    """The client's end, and a function by which the server sends bytes that the client then reads."""
    theirs, ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    CA.issue_cert("partner").configure_cert(theirs)
    CA.configure_trust(ours)
    ours.sslobject_class = FirstBytesKept
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ours.wrap_bio(to_client, to_server, server_hostname="partner")
    server = theirs.wrap_bio(to_server, to_client, server_side=True)
    for end in (client, server, client, server):
        with contextlib.suppress(ssl.SSLWantReadError):
            end.do_handshake()

    def send(data):
        server.write(data)
        return client.read(65_536)

    return client, send


@pytest.mark.parametrize(
    ("parts", "status"),
    [
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"], 200),
        ([b"HTTP/1.0 204\r\n"], 204),
        ([b"H", b"TTP/1.", b"1 2", b"00", b" "], 200),
        ([b"HTTP/1.1 503 Busy\r\n"], 503),
        ([b"HTTP/1.1 200"], None),
        ([b"HTTP/1.1 2000 OK\r\n"], None),
        ([b"HTTP/1.1 100 Continue\r\n\r\n"], None),
        ([b"HTTP/1.1 999 Odd\r\n"], None),
        ([b"HTTP/2 200 OK\r\n"], None),
        ([b"{}HTTP/1.1 200 OK\r\n"], None),
        ([], None),
    ],
)
def test_the_status_is_known_as_soon_as_its_line_shows_it(connection, parts, status):
    client, send = connection
    assert [send(part) for part in parts] == parts, "nothing is taken away from the reader"
    assert client.status == status


def test_what_is_forgotten_is_no_answer_to_the_next_request(connection):
    client, send = connection
    send(b"HTTP/1.1 200 OK\r\n\r\n")
    client.forget()
    assert client.status is None
    send(b"HTTP/1.1 422 No\r\n\r\n")
    assert client.status == 422


def test_bytes_between_an_answer_and_the_next_request_are_surplus(connection):
    client, send = connection
    send(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert not client.idle, "a new connection has no answer that could come twice"
    client.forget()
    send(b"HTTP/1.1 200 OK\r\n\r\n")
    client.rest()
    assert (client.idle, client.surplus, client.status) == (True, False, 200)
    client.forget()
    assert not client.idle
    send(b"HTTP/1.1 200 OK\r\n\r\n")
    client.rest()
    with contextlib.suppress(ssl.SSLWantReadError):
        client.read(65_536)
    assert not client.surplus, "there was nothing to read"
    send(b"H")
    assert client.surplus
