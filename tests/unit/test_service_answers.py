"""The outcome of a delivery for each answer and each error, with a fake HTTP session."""

from __future__ import annotations

import asyncio
import json
import ssl
from datetime import UTC, datetime

import aiohttp
import pytest

from rowqueue.lifecycle import CredentialsFault, Entry, Permanent, Succeeded, Transient
from rowqueue.processor.service import Limits, Service, connect

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
LIMITS = Limits(timeout_s=5.0, max_data_characters=100, max_result_characters=10)


PAGE = (
    b"<html>\r\n<head><title>400 The SSL certificate error</title></head>\r\n<body>\r\n"
    b"<center><h1>400 Bad Request</h1></center>\r\n<center>The SSL certificate error</center>\r\n"
    b"<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
)


class Answer:
    """An aiohttp response, with its body in pieces. An exception among them is raised when it is read."""

    def __init__(self, *pieces, status=200, reason="Fine", **headers):
        self.pieces = list(pieces)
        self.status = status
        self.reason = reason
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.content = self
        self.asked = []
        self.released = 0

    def at_eof(self):
        return not self.pieces

    async def read(self, most):
        self.asked.append(most)
        piece = self.pieces.pop(0)
        if isinstance(piece, Exception):
            raise piece
        if isinstance(piece, float):
            await asyncio.sleep(piece)
            return b""
        self.pieces[:0] = [piece[most:]] if piece[most:] else []
        return piece[:most]

    def release(self):
        self.released += 1


class PlayedSession:
    """Keeps what is posted and answers with one thing."""

    def __init__(self, answer):
        self.answer = answer
        self.posts = []

    async def post(self, url, **arguments):
        self.posts.append((url, arguments))
        if isinstance(self.answer, Exception):
            raise self.answer
        if isinstance(self.answer, float):
            await asyncio.sleep(self.answer)
        return self.answer


def entry(data="{}", **changes):
    return Entry(**({"id": 7, "data": data, "idempotency_key": "key", "claim_token": "t"} | changes))


async def outcome_of(answer, *, limits=LIMITS, item=None):
    session = PlayedSession(answer)
    service = Service(
        session,
        url="https://partner/process",
        processor_id="dev-1",
        limits=limits,
        now=lambda: NOW,
        new_span=lambda: 0xABC,
    )
    outcome = await service.deliver(item or entry())
    if isinstance(answer, Answer):
        assert answer.released == 1
    return outcome


async def test_an_entry_is_posted_once_and_redirects_are_not_followed():
    session = PlayedSession(Answer(b"ok"))
    service = Service(
        session, url="https://partner/process", processor_id="dev-1", limits=LIMITS, now=lambda: NOW, new_span=lambda: 5
    )
    await service.deliver(entry('{"a": 1}'))
    ((url, arguments),) = session.posts
    assert url == "https://partner/process"
    assert set(arguments) == {"data", "headers", "allow_redirects"}
    assert arguments["allow_redirects"] is False
    sent = json.loads(arguments["data"])
    assert (sent["entry_id"], sent["processor_id"], sent["data"]) == (7, "dev-1", {"a": 1})
    assert sent["timestamp"].startswith("2026-11-20T12:00:00")
    assert arguments["headers"]["traceparent"].endswith("-0000000000000005-01")


@pytest.mark.parametrize(("size", "kept"), [(9, "x" * 9), (10, "x" * 10), (11, "x" * 10 + "[cut]")])
async def test_an_answer_longer_than_is_kept_is_cut(size, kept):
    assert await outcome_of(Answer(b"x" * size)) == Succeeded(response_status=200, result=kept)


async def test_an_answer_in_pieces_is_put_together():
    assert await outcome_of(Answer(b"ab", b"cd", b"ef")) == Succeeded(response_status=200, result="abcdef")


@pytest.mark.parametrize(("kept", "most"), [(10, 8000), (1998, 8000), (1999, 8000), (2000, 8004)])
async def test_no_more_is_read_than_could_be_kept_or_tells_a_web_servers_page(kept, most):
    limits = Limits(timeout_s=5, max_data_characters=100, max_result_characters=kept)
    answer = Answer(b"x" * 3000, b"x" * 30_000)
    await outcome_of(answer, limits=limits)
    assert answer.asked == [most, most - 3000]
    assert sum(map(len, answer.pieces)) == 33_000 - most


async def test_bytes_that_are_no_utf_8_are_replaced():
    assert (await outcome_of(Answer(b"a\xffb"))).result == "a\ufffdb"


async def test_an_encoded_answer_is_not_read_and_the_result_says_why():
    answer = Answer(b"no gzip", Content_Encoding="gzip")
    limits = Limits(timeout_s=5, max_data_characters=100, max_result_characters=1000)
    outcome = await outcome_of(answer, limits=limits)
    assert outcome.result == "[not kept: it came gzip-encoded though we ask for identity]"
    assert answer.asked == []


async def test_an_answer_that_says_identity_is_read():
    assert (await outcome_of(Answer(b"ok", Content_Encoding="identity"))).result == "ok"


@pytest.mark.parametrize("error", [aiohttp.ClientPayloadError("cut"), OSError("cut"), TimeoutError()])
@pytest.mark.parametrize(("status", "kind"), [(200, Succeeded), (503, Transient), (422, Permanent)])
async def test_a_body_that_is_cut_off_changes_nothing_about_what_the_status_means(error, status, kind):
    limits = Limits(timeout_s=5, max_data_characters=100, max_result_characters=1000)
    outcome = await outcome_of(Answer(b"half", error, status=status), limits=limits)
    assert isinstance(outcome, kind)
    kept = f"half[the answer was cut off: {type(error).__name__}]"
    assert (outcome.response_status, outcome.result) == (status, kept)


async def test_a_body_that_never_ends_is_cut_off_after_the_timeout():
    began = asyncio.get_running_loop().time()
    limits = Limits(timeout_s=5, max_data_characters=100, max_result_characters=1000)
    outcome = await outcome_of(Answer(b"half", 3.0, 3.0, status=200), limits=limits)
    assert outcome.result == "half[the answer was cut off: TimeoutError]"
    assert asyncio.get_running_loop().time() - began == pytest.approx(5, abs=0.01)


async def test_no_answer_within_the_timeout_is_transient():
    assert await outcome_of(60.0) == Transient(reason="no answer within 5 s")


@pytest.mark.parametrize(
    ("header", "expected"),
    [({}, None), ({"Retry_After": "7"}, 7), ({"Retry_After": "Fri, 20 Nov 2026 12:00:30 GMT"}, 30)],
)
async def test_the_wait_that_the_service_asks_for_is_counted_from_now(header, expected):
    outcome = await outcome_of(Answer(b"", status=429, reason="Slow down", **header))
    assert outcome == Transient(
        reason="the service answered 429 Slow down", response_status=429, retry_after_s=expected, result=""
    )


async def test_a_status_without_a_phrase_stands_alone():
    assert (await outcome_of(Answer(b"", status=500, reason=None))).reason == "the service answered 500"


async def test_a_page_about_our_certificate_is_recognised_beyond_what_is_kept():
    answer = Answer(PAGE, status=400, reason="Bad Request", Content_Type="text/html; charset=utf-8")
    outcome = await outcome_of(answer)
    assert isinstance(outcome, CredentialsFault)
    assert not outcome.certain
    assert outcome.result == "<html>\r\n<h[cut]"


@pytest.mark.parametrize("headers", [{}, {"Content_Type": "text/plain"}, {"Content_Type": "application/json"}])
async def test_a_page_about_our_certificate_that_is_not_sent_as_html_is_the_entrys_own_fault(headers):
    assert isinstance(await outcome_of(Answer(PAGE, status=400, **headers)), Permanent)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ssl.SSLError("bad"), CredentialsFault(reason="TLS failed: SSLError: ('bad',)", certain=False)),
        (
            ssl.SSLCertVerificationError("bad"),
            CredentialsFault(
                reason="the service's certificate is not trusted: SSLCertVerificationError: ('bad',)", certain=True
            ),
        ),
        (
            aiohttp.ServerDisconnectedError("gone"),
            CredentialsFault(reason="the service closed the connection: ServerDisconnectedError: gone", certain=False),
        ),
        (OSError("no route"), Transient(reason="the connection failed: OSError: no route")),
        (aiohttp.ClientError("odd"), Transient(reason="the request failed: ClientError: odd")),
        (
            aiohttp.InvalidURL("https://"),
            Permanent(reason="the service's URL is not usable: InvalidURL: https://"),
        ),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_an_error_without_an_answer_says_what_it_was(error, expected):
    assert await outcome_of(error) == expected


async def test_a_fault_of_this_program_is_raised():
    with pytest.raises(ZeroDivisionError):
        await outcome_of(ZeroDivisionError())


@pytest.mark.parametrize(("size", "sent"), [(100, True), (101, False)])
async def test_data_longer_than_its_limit_is_not_sent(size, sent):
    outcome = await outcome_of(Answer(b"ok"), item=entry('"' + "x" * (size - 2) + '"')) if sent else None
    if sent:
        assert isinstance(outcome, Succeeded)
        return
    session = PlayedSession(Answer(b"ok"))
    service = Service(session, url="https://partner/", processor_id="dev-1", limits=LIMITS)
    outcome = await service.deliver(entry('"' + "x" * (size - 2) + '"'))
    assert outcome == Permanent(reason="data has 101 characters, MAX_DATA_CHARACTERS is 100")
    assert session.posts == []


async def test_without_a_span_of_the_test_each_delivery_has_a_random_one():
    session = PlayedSession(Answer(b"ok"))
    service = Service(session, url="https://partner/", processor_id="dev-1", limits=LIMITS)
    await service.deliver(entry())
    await service.deliver(entry())
    spans = {arguments["headers"]["traceparent"].split("-")[2] for _, arguments in session.posts}
    assert len(spans) == 2
    assert all(len(span) == 16 and int(span, 16) for span in spans)


async def test_the_pool_has_a_connection_for_each_delivery_and_keeps_no_cookies():
    async with connect(
        ssl.create_default_context(), url="https://partner/", processor_id="dev-1", concurrency=7, limits=LIMITS
    ) as service:
        session = service._session
        assert session.connector.limit == 7
        assert session.timeout.total is None
        assert session.headers["User-Agent"].startswith("rowqueue/")
        assert not session.auto_decompress
        assert isinstance(session.cookie_jar, aiohttp.DummyCookieJar)
    assert session.closed


async def cancelled_after_a_second(answer):
    delivering = asyncio.create_task(outcome_of(answer))
    await asyncio.sleep(1)
    delivering.cancel()
    return await delivering


@pytest.mark.parametrize(
    "answer",
    [60.0, Answer(60.0, status=503), Answer(60.0, status=422)],
    ids=["before the answer", "in the body of a 503", "in the body of a 422"],
)
async def test_a_cancelled_delivery_stays_cancelled_unless_the_service_has_done_its_work(answer):
    with pytest.raises(asyncio.CancelledError):
        await cancelled_after_a_second(answer)


@pytest.mark.parametrize("status", [200, 204])
async def test_a_delivery_that_is_cancelled_in_the_body_of_a_2xx_succeeds_with_what_was_read(status):
    limits = Limits(timeout_s=5, max_data_characters=100, max_result_characters=1000)
    session = PlayedSession(Answer(b"half", 60.0, status=status))
    service = Service(session, url="https://partner/", processor_id="dev-1", limits=limits)
    delivering = asyncio.create_task(service.deliver(entry()))
    await asyncio.sleep(1)
    delivering.cancel()
    assert await delivering == Succeeded(response_status=status, result="half[the answer was cut off: a stop]")
    assert delivering.cancelling(), "so that its caller ends too"


async def test_a_delivery_that_is_cancelled_at_its_time_out_stays_cancelled():
    delivering = asyncio.create_task(outcome_of(60.0))
    asyncio.get_running_loop().call_later(LIMITS.timeout_s, delivering.cancel)
    with pytest.raises(asyncio.CancelledError):
        await delivering
