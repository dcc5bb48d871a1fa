"""One delivery over real mutual TLS, against a real server whose behaviour the entry asks for."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta

import pytest
import trustme
from aiohttp import web

from rowqueue.lifecycle import CredentialsFault, Entry, Permanent, Succeeded, Transient
from rowqueue.processor import certificates, service
from rowqueue_local import authority, partner
from rowqueue_local.drills.servers import serving


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return authority.issue(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    """Certificates of a CA that neither side trusts."""
    return authority.issue(tmp_path_factory.mktemp("stranger"))


@pytest.fixture(scope="module")
def url(files):
    context = partner.server_context(certificate=str(files.server), ca=str(files.ca))
    with serving(partner.application(), context) as port:
        yield f"https://127.0.0.1:{port}/process"


def client_context(files, *, now=None):
    objects = {path.name: path.read_bytes() for path in (files.client, files.client_key, files.ca)}
    return certificates.ssl_context(objects, now=now or datetime.now(UTC))


def entry(data, **changes):
    return Entry(**({"id": 1, "data": data, "idempotency_key": "key", "claim_token": "token"} | changes))


def asking(**what):
    return json.dumps({"partner": what})


async def deliver(url, context, *entries, timeout_s=5.0, max_result_characters=1000):
    limits = service.Limits(
        timeout_s=timeout_s, max_data_characters=1_000_000, max_result_characters=max_result_characters
    )
    async with service.connect(context, url=url, processor_id="dev-1", concurrency=8, limits=limits) as connected:
        outcomes = [await connected.deliver(item) for item in entries]
    # After a failed handshake the loop closes the connection a few turns later, and here the loop ends at once.
    await asyncio.sleep(0.02)
    return outcomes[0] if len(outcomes) == 1 else outcomes


@pytest.fixture(scope="module")
def trusted(files):
    return client_context(files)


async def test_a_2xx_succeeds_and_keeps_the_answer(url, trusted):
    outcome = await deliver(url, trusted, entry('{"a": 1}', id=42))
    assert isinstance(outcome, Succeeded)
    assert outcome.response_status == 200
    assert json.loads(outcome.result) == {"accepted": True, "entry_id": 42, "delivery": 1}


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 599])
async def test_a_status_that_may_pass_is_transient(url, trusted, status):
    outcome = await deliver(url, trusted, entry(asking(status=status)))
    assert isinstance(outcome, Transient)
    assert outcome.response_status == status
    assert outcome.reason.startswith(f"the service answered {status}")


@pytest.mark.parametrize("status", [301, 302, 400, 404, 409, 422, 499])
async def test_a_redirect_or_another_4xx_is_permanent(url, trusted, status):
    outcome = await deliver(url, trusted, entry(asking(status=status)))
    assert isinstance(outcome, Permanent)
    assert outcome.response_status == status


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_permanent_and_nothing_is_sent_to_where_it_points(files, trusted, status):
    asked = []

    async def redirect(request):
        asked.append(request.path)
        return web.Response(status=status, headers={"Location": "/elsewhere"})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", redirect)
    with serving(app, partner.server_context(certificate=str(files.server), ca=str(files.ca))) as port:
        outcome = await deliver(f"https://127.0.0.1:{port}/process", trusted, entry("{}"))
    assert isinstance(outcome, Permanent)
    assert outcome.response_status == status
    assert asked == ["/process"]


async def test_the_wait_that_the_service_asks_for_is_in_the_outcome(url, trusted):
    outcome = await deliver(url, trusted, entry(asking(status=429, retry_after=7)))
    assert outcome.retry_after_s == 7


async def test_a_closed_connection_may_be_a_refusal_of_our_credentials(url, trusted):
    outcome = await deliver(url, trusted, entry(asking(hang_up=True)))
    assert isinstance(outcome, CredentialsFault)
    assert not outcome.certain


@pytest.mark.parametrize("what", partner.RAW_ANSWERS)
async def test_a_2xx_completes_its_entry_also_if_what_follows_its_status_line_is_no_http(url, trusted, what):
    fine, odd = await deliver(url, trusted, entry("{}", idempotency_key="fine"), entry(asking(raw=what)))
    assert isinstance(fine, Succeeded)
    assert isinstance(odd, Succeeded), odd
    assert odd.response_status == (204 if "204" in what else 200)
    if what == "a header of 9,000 bytes":
        assert odd.result == "ok"
    else:
        assert odd.result.startswith("[the answer could not be read: ")


@pytest.mark.parametrize("what", partner.BROKEN_TLS)
async def test_a_broken_record_in_an_open_tls_connection_is_no_certain_fault(url, trusted, what):
    _, broken = await deliver(url, trusted, entry("{}"), entry(asking(broken_tls=what)))
    assert isinstance(broken, CredentialsFault)
    assert broken.reason.startswith("TLS failed: ")
    assert not broken.certain


async def test_the_status_of_an_earlier_answer_on_the_same_connection_is_not_taken_for_a_later_one(url, trusted):
    fine, closed = await deliver(url, trusted, entry("{}"), entry(asking(hang_up=True)))
    assert isinstance(fine, Succeeded)
    assert isinstance(closed, CredentialsFault)


async def test_the_status_of_an_earlier_answer_is_not_taken_for_a_delivery_without_a_connection(files, trusted):
    async def answer_and_close(_request):
        response = web.Response()
        response.force_close()
        return response

    app = web.Application()
    app.router.add_post("/", answer_and_close)
    limits = service.Limits(timeout_s=5.0, max_data_characters=1000, max_result_characters=1000)
    with contextlib.ExitStack() as server:
        context = partner.server_context(certificate=str(files.server), ca=str(files.ca))
        url = f"https://127.0.0.1:{server.enter_context(serving(app, context))}/"
        async with service.connect(trusted, url=url, processor_id="dev-1", concurrency=1, limits=limits) as connected:
            assert isinstance(await connected.deliver(entry("{}")), Succeeded)
            await asyncio.to_thread(server.close)
            outcome = await connected.deliver(entry("{}"))
    assert isinstance(outcome, Transient)
    assert outcome.reason.startswith("no connection")


async def test_a_request_whose_pooled_connection_is_dropped_is_not_sent_again_by_itself(files, trusted):
    """An idempotent method would be: aiohttp sends it again on a new connection."""
    connections, requests = set(), []

    async def drop_the_second(request):
        requests.append(request.headers["Idempotency-Key"])
        connections.add(request.transport)
        if len(requests) == 2:
            request.transport.abort()
        return web.Response(text="fine")

    app = web.Application()
    app.router.add_route("*", "/", drop_the_second)
    with serving(app, partner.server_context(certificate=str(files.server), ca=str(files.ca))) as port:
        keys = [entry("{}", idempotency_key=key) for key in ("a", "b", "c")]
        outcomes = await deliver(f"https://127.0.0.1:{port}/", trusted, *keys)
    assert requests == ["a", "b", "c"]
    assert len(connections) == 2, "the second request went out on the connection of the first"
    assert [type(outcome) for outcome in outcomes] == [Succeeded, CredentialsFault, Succeeded]


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@contextlib.contextmanager
def repeating(files, repeat, *, first=1):
    """A partner that answers its ``first`` requests with 200 and calls ``repeat``, and all others with 400.

    Yields its URL, the keys it received and the connections they came on.
    """
    keys, connections = [], []

    async def answer(request):
        keys.append(request.headers["Idempotency-Key"])
        connections.append(request.transport)
        if len(keys) > first:
            await asyncio.sleep(0.05)  # so that an answer that is already there would win
            return web.Response(status=400, text="no")
        response = web.StreamResponse(headers={"Content-Length": "2"})
        await response.prepare(request)
        await repeat(request.transport)
        return response

    app = web.Application()
    app.router.add_post("/", answer)
    with serving(app, partner.server_context(certificate=str(files.server), ca=str(files.ca))) as port:
        yield f"https://127.0.0.1:{port}/", keys, connections


def later(data, *, after_s):
    """The body at once, and the surplus while the connection is idle."""

    async def write(transport):
        transport.write(b"ok")
        asyncio.get_running_loop().call_later(after_s, transport.write, data)

    return write


async def with_its_late_body(transport):
    """The headers alone, then body and surplus in one piece: aiohttp releases the connection before it sees both."""
    await asyncio.sleep(0.05)
    transport.write(b"ok" + OK)


@pytest.mark.parametrize(
    "repeat",
    [later(OK, after_s=0.05), later(OK[:20], after_s=0.05), later(b"and more", after_s=0.05), with_its_late_body],
    ids=["an answer", "half of an answer", "no answer", "together with a late body"],
)
async def test_a_connection_with_bytes_that_nobody_asked_for_is_not_used_again(files, trusted, repeat):
    limits = service.Limits(timeout_s=5.0, max_data_characters=1000, max_result_characters=1000)
    with repeating(files, repeat) as (url, keys, connections):
        async with service.connect(trusted, url=url, processor_id="dev-1", concurrency=1, limits=limits) as connected:
            outcomes = []
            for key in ("a", "b", "c"):
                outcomes.append(await connected.deliver(entry("{}", idempotency_key=key)))
                await asyncio.sleep(0.15)  # the surplus bytes arrive
    assert [outcome.response_status for outcome in outcomes] == [200, 400, 400]
    assert keys == ["a", "b", "c"], "each is sent once"
    assert connections[0] is not connections[1], "the second request has a connection of its own"
    assert connections[1] is connections[2], "a connection without such bytes is used again"


async def test_a_delivery_passes_over_every_connection_with_bytes_that_nobody_asked_for(files, trusted):
    limits = service.Limits(timeout_s=5.0, max_data_characters=1000, max_result_characters=1000)
    with repeating(files, later(OK, after_s=0.2), first=3) as (url, keys, connections):
        async with service.connect(trusted, url=url, processor_id="dev-1", concurrency=3, limits=limits) as connected:
            await asyncio.gather(*(connected.deliver(entry("{}", idempotency_key=key)) for key in ("a", "b", "c")))
            await asyncio.sleep(0.35)
            outcome = await connected.deliver(entry("{}", idempotency_key="d"))
    assert isinstance(outcome, Permanent)
    assert sorted(keys) == ["a", "b", "c", "d"]
    assert len(set(connections)) == 4


@contextlib.contextmanager
def answering_with_the_handshake(context, answer):
    """A server whose answer comes in one piece with the end of the handshake; yields its port."""
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # its handshake ends with the server's part
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        plain, _ = listener.accept()
        with plain:
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            end = context.wrap_bio(incoming, outgoing, server_side=True)
            sent = 0
            while not sent:
                incoming.write(plain.recv(65_536))
                with contextlib.suppress(ssl.SSLWantReadError):
                    end.do_handshake()
                    sent = end.write(answer)
                plain.sendall(outgoing.read())
            plain.recv(65_536)  # until the client has read it

    thread = threading.Thread(target=serve)
    thread.start()
    with listener:
        yield listener.getsockname()[1]
        thread.join(5)


async def test_an_answer_that_comes_with_the_handshake_is_the_first_answer(files, trusted):
    """A proxy that is full may do that. No earlier answer could have come twice."""
    context = partner.server_context(certificate=str(files.server), ca=str(files.ca))
    busy = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    with answering_with_the_handshake(context, busy) as port:
        outcome = await deliver(f"https://127.0.0.1:{port}/", trusted, entry("{}"), timeout_s=1.0)
    assert outcome == Transient(reason="the service answered 503 Busy", response_status=503, result="")


@pytest.mark.parametrize(
    ("sent", "result"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 60\r\n\r\nhalf", "half[the answer was cut off: a stop]"),
        (b"HTTP/1.1 200 OK\r\nContent-Len", "[the answer was cut off: a stop]"),
    ],
    ids=["in its body", "in its headers"],
)
async def test_a_stop_while_a_2xx_trickles_leaves_the_entry_completed(files, trusted, sent, result):
    written = threading.Event()

    async def trickle(request):
        request.transport.write(sent)
        written.set()
        await asyncio.sleep(60)

    app = web.Application()
    app.router.add_post("/", trickle)
    with serving(app, partner.server_context(certificate=str(files.server), ca=str(files.ca))) as port:
        delivering = asyncio.create_task(deliver(f"https://127.0.0.1:{port}/", trusted, entry("{}")))
        await asyncio.to_thread(written.wait, 5)
        await asyncio.sleep(0.1)  # the bytes are in the socket; the loop reads them
        delivering.cancel()
        assert await delivering == Succeeded(response_status=200, result=result)


async def test_a_slow_service_is_transient_within_the_timeout(url, trusted):
    outcome = await deliver(url, trusted, entry(asking(delay_ms=5000)), timeout_s=0.2)
    assert outcome == Transient(reason="no answer within 0.2 s")


async def test_a_port_without_a_server_is_transient(trusted, unused_tcp_port):
    outcome = await deliver(f"https://127.0.0.1:{unused_tcp_port}/", trusted, entry("{}"))
    assert isinstance(outcome, Transient)
    assert outcome.reason.startswith("no connection")


@pytest.mark.parametrize(
    "data",
    ["", "not JSON", "{'a': 1}", '{"a": NaN}', "[1, 2", '{"a": "\udc80"}', "[" * 200_000],
    ids=["empty", "text", "single quotes", "NaN", "cut off", "lone surrogate", "deep"],
)
async def test_data_that_is_not_json_fails_alone_and_is_never_sent(trusted, unused_tcp_port, data):
    outcome = await deliver(f"https://127.0.0.1:{unused_tcp_port}/", trusted, entry(data))
    assert isinstance(outcome, Permanent)
    assert outcome.reason.startswith("data is not JSON")


@pytest.mark.parametrize(
    "data",
    ['{"a": 1, "a": 2}', "1e400", "9" * 5000, '"\\u0000 😀 \\" \'"', "[]", "null", ' {"b" : 1.10} '],
    ids=["duplicate keys", "huge float", "huge integer", "text", "list", "null", "spaces"],
)
async def test_any_json_arrives_byte_for_byte(files, trusted, data):
    bodies = []

    async def keep(request):
        bodies.append(await request.text())
        return web.Response()

    app = web.Application()
    app.router.add_post("/", keep)
    with serving(app, partner.server_context(certificate=str(files.server), ca=str(files.ca))) as port:
        outcome = await deliver(f"https://127.0.0.1:{port}/", trusted, entry(data))
    assert isinstance(outcome, Succeeded)
    assert bodies[0].endswith(f', "data": {data}}}')
    assert bodies[0].startswith('{"entry_id": 1, "processor_id": "dev-1", "timestamp": "')


async def test_every_delivery_of_an_entry_carries_the_same_key_and_its_attempt_number(files, trusted):
    seen = []

    async def keep(request):
        seen.append(request.headers.copy())
        return web.Response(status=503)

    app = web.Application()
    app.router.add_post("/", keep)
    with serving(app, partner.server_context(certificate=str(files.server), ca=str(files.ca))) as port:
        await deliver(f"https://127.0.0.1:{port}/", trusted, entry("{}"), entry("{}", retry_count=1))
    first, second = seen
    assert [headers["Idempotency-Key"] for headers in seen] == ["key", "key"]
    assert [headers["X-Attempt"] for headers in seen] == ["1", "2"]
    assert first["User-Agent"].startswith("rowqueue/")
    version, trace, span, flags = first["traceparent"].split("-")
    assert (version, len(trace), len(span), flags) == ("00", 32, 16, "01")
    assert second["traceparent"].split("-")[1] == trace, "one trace an entry"
    assert second["traceparent"].split("-")[2] != span, "one span a delivery"


async def test_a_2xx_whose_body_never_ends_completes_within_the_timeout(url, trusted):
    outcome = await deliver(url, trusted, entry(asking(body="trickle")), timeout_s=0.5)
    assert outcome == Succeeded(response_status=200, result="x[the answer was cut off: TimeoutError]")


@pytest.mark.parametrize("key", ["a\nb", "a\rb", "a\0b", "", "ü", "x" * 300], ids=repr)
async def test_an_idempotency_key_that_cannot_be_a_header_fails_its_entry_alone(trusted, unused_tcp_port, key):
    outcome = await deliver(f"https://127.0.0.1:{unused_tcp_port}/", trusted, entry("{}", idempotency_key=key))
    assert outcome == Permanent(reason="idempotency_key: expected 1 to 255 visible ASCII characters")


async def test_data_that_is_too_long_fails_with_both_lengths_in_the_reason(trusted, unused_tcp_port):
    outcome = await deliver(f"https://127.0.0.1:{unused_tcp_port}/", trusted, entry('"' + "x" * 1_000_000 + '"'))
    assert outcome == Permanent(reason="data has 1000002 characters, MAX_DATA_CHARACTERS is 1000000")


@pytest.mark.parametrize("tls", ["1.2", "1.3"])
async def test_a_service_that_refuses_our_certificate_is_a_fault_of_credentials(files, stranger, trusted, tls):
    context = await asyncio.to_thread(
        partner.server_context, certificate=str(files.server), ca=str(stranger.ca), tls=tls
    )
    with serving(partner.application(), context) as port:
        for _ in range(3):
            outcome = await deliver(f"https://127.0.0.1:{port}/process", trusted, entry("{}"))
            assert isinstance(outcome, CredentialsFault), outcome


@contextlib.contextmanager
def refusing(context):
    """A server that sends the alert of a failed handshake, and then waits for the client to close; yields its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def refuse():
        plain, _ = listener.accept()
        with plain, contextlib.suppress(OSError):  # ssl.SSLError is one
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            end = context.wrap_bio(incoming, outgoing, server_side=True)
            while received := plain.recv(65_536):
                incoming.write(received)
                with contextlib.suppress(ssl.SSLError):
                    end.do_handshake()
                plain.sendall(outgoing.read())

    thread = threading.Thread(target=refuse)
    thread.start()
    with listener:
        yield listener.getsockname()[1]
        thread.join(5)


@pytest.mark.parametrize("tls", ["1.2", "1.3"])
async def test_an_alert_about_our_certificate_is_certain(files, stranger, trusted, tls):
    context = await asyncio.to_thread(
        partner.server_context, certificate=str(files.server), ca=str(stranger.ca), tls=tls
    )
    with refusing(context) as port:
        outcome = await deliver(f"https://127.0.0.1:{port}/process", trusted, entry("{}"))
    assert isinstance(outcome, CredentialsFault)
    assert outcome.reason.startswith("the service does not accept our certificate: ")
    assert outcome.certain


@pytest.mark.parametrize("kept", [0, 50, 1000])
async def test_a_web_servers_page_about_our_certificate_is_recognised_even_if_little_of_it_is_kept(
    files, trusted, kept
):
    with serving(*partner.web_server_in_front(certificate=str(files.server))) as port:
        url = f"https://127.0.0.1:{port}/process"
        outcome = await deliver(url, trusted, entry("{}"), max_result_characters=kept)
    assert isinstance(outcome, CredentialsFault)
    assert outcome.response_status == 400


@pytest.mark.parametrize("kind", ["long", "binary", "cut off", "bad gzip"])
async def test_a_2xx_completes_whatever_its_body_is(files, trusted, kind):
    async def answer(request):
        if kind == "long":
            return web.Response(text="x" * 100_000)
        if kind == "binary":
            return web.Response(body=b"\xff\xfe\x00")
        if kind == "bad gzip":
            return web.Response(body=b"no gzip at all", headers={"Content-Encoding": "gzip"})
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b"half")
        request.transport.abort()
        return response

    app = web.Application()
    app.router.add_post("/", answer)
    with serving(app, partner.server_context(certificate=str(files.server), ca=str(files.ca))) as port:
        outcome = await deliver(f"https://127.0.0.1:{port}/", trusted, entry("{}"), max_result_characters=50)
    assert isinstance(outcome, Succeeded), outcome
    if kind == "long":
        assert outcome.result == "x" * 50 + "[cut]"


async def test_a_client_without_a_certificate_is_refused(url, files):
    context = ssl.create_default_context(cafile=files.ca)
    outcome = await deliver(url, context, entry("{}"))
    assert isinstance(outcome, CredentialsFault)


async def test_a_client_of_another_ca_is_refused(url, files, stranger):
    objects = {"client.pem": stranger.client, "client-key.pem": stranger.client_key, "ca-cert.pem": files.ca}
    pems = {name: await asyncio.to_thread(path.read_bytes) for name, path in objects.items()}
    context = await asyncio.to_thread(certificates.ssl_context, pems, now=datetime.now(UTC))
    outcome = await deliver(url, context, entry("{}"))
    assert isinstance(outcome, CredentialsFault)


async def test_a_service_of_another_ca_gets_no_request(files, stranger, trusted):
    app, context = partner.application(), partner.server_context(certificate=str(stranger.server), ca=str(files.ca))
    with serving(app, context) as port:
        outcome = await deliver(f"https://127.0.0.1:{port}/process", trusted, entry("{}"))
    assert outcome.reason.startswith("the service's certificate is not trusted")
    assert app[partner._LEDGER].requests.total() == 0


@pytest.fixture
def elsewhere(tmp_path):
    """A partner whose certificate names another host, and a client that trusts its CA."""
    files = authority.issue(tmp_path, host="api.example.com")
    return partner.server_context(certificate=str(files.server), ca=str(files.ca)), client_context(files)


async def test_a_service_with_another_host_name_gets_no_request(elsewhere):
    server, client = elsewhere
    app = partner.application()
    with serving(app, server) as port:
        outcome = await deliver(f"https://127.0.0.1:{port}/process", client, entry("{}"))
    assert outcome.reason.startswith("the service's certificate is not trusted")
    assert "IP address mismatch" in outcome.reason
    assert app[partner._LEDGER].requests.total() == 0


async def test_a_service_with_an_expired_certificate_gets_no_request():
    ca = trustme.CA()
    expired = ca.issue_cert("127.0.0.1", not_after=datetime.now(UTC) - timedelta(days=1))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    expired.configure_cert(server)
    client = ssl.create_default_context()
    ca.configure_trust(client)
    with serving(partner.application(), server) as port:
        outcome = await deliver(f"https://127.0.0.1:{port}/process", client, entry("{}"))
    assert "certificate has expired" in outcome.reason
