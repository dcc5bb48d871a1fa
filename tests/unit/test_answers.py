"""The outcome table: every status and every exception has a row and a decided meaning."""

from __future__ import annotations

import inspect
import json
import ssl
import tracemalloc
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http import HTTPStatus

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rowqueue.lifecycle import CredentialsFault, Entry, Permanent, Succeeded, Transient
from rowqueue.processor.connection_faults import ALERTS_ABOUT_CERTIFICATES, ConnectionFault, fault_of
from rowqueue.processor.exchange import Meaning, body, meaning_of, retry_after_s, verdict_of

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize("status", range(100, 600))
def test_every_status_has_a_meaning(status):
    expected = {2: Meaning.SUCCEEDED, 3: Meaning.PERMANENT, 4: Meaning.PERMANENT}.get(status // 100, Meaning.TRANSIENT)
    special = {
        401: Meaning.CREDENTIALS,
        403: Meaning.CREDENTIALS,
        408: Meaning.TRANSIENT,
        425: Meaning.TRANSIENT,
        429: Meaning.TRANSIENT,
        495: Meaning.CERTIFICATE,
        496: Meaning.CERTIFICATE,
    }
    assert meaning_of(status) is special.get(status, expected)


@pytest.mark.parametrize("status", [0, 99, 600, 999])
def test_a_number_that_is_no_status_is_transient(status):
    assert meaning_of(status) is Meaning.TRANSIENT


SENTENCES = ["No required SSL certificate was sent", "The SSL certificate error"]


def nginx_page(sentence, *, server="nginx", body="<body>", after=""):
    """As ngx_http_special_response.c writes it."""
    lines = [
        "<html>",
        f"<head><title>400 {sentence}</title></head>",
        body,
        "<center><h1>400 Bad Request</h1></center>",
        f"<center>{sentence}</center>",
        f"<hr><center>{server}</center>",
        "</body>",
        "</html>",
        after,
    ]
    return "\r\n".join(lines)


@pytest.mark.parametrize("sentence", SENTENCES)
@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"server": "nginx/1.18.0 (Ubuntu)"},
        {"server": "openresty"},
        {"body": '<body bgcolor="white">'},
        {"after": "<!-- a padding to disable MSIE and Chrome friendly error page -->\r\n" * 6},
    ],
    ids=["plain", "with its version", "openresty", "before 1.17", "padded"],
)
def test_a_web_servers_page_about_our_certificate_is_a_fault_of_credentials_that_is_not_certain(sentence, shape):
    page = nginx_page(sentence, **shape)
    verdict = verdict_of(400, "Bad Request", "as kept", html=page)
    assert verdict == CredentialsFault(
        reason="the service answered 400 Bad Request, which is about our client certificate",
        certain=False,
        response_status=400,
        result="as kept",
    )


@pytest.mark.parametrize("sentence", SENTENCES)
@pytest.mark.parametrize(
    "answer",
    [
        '{{"error": "invalid", "input": "{0}"}}',
        '{{"error": "invalid", "input": "{1}"}}',
        "{0}",
        "invalid input: {1}",
        "<html><head><title>400 {0}</title></head></html>",
        '<html><body><form><input name="note" value="{1}"></form></body></html>',
        "<html>\n<head><title>Validation failed</title></head><body>{1}</body></html>",
        "{1}<p>and more</p>",
        "{1}{1}",
        "amount is missing",
    ],
)
def test_an_answer_that_repeats_the_sentence_of_such_a_page_is_the_entrys_own_fault(sentence, answer):
    text = answer.format(sentence, nginx_page(sentence))
    assert isinstance(verdict_of(400, "Bad Request", text, html=text), Permanent)


@pytest.mark.parametrize("sentence", SENTENCES)
def test_a_page_with_more_than_a_servers_name_in_its_last_line_is_the_entrys_own_fault(sentence):
    page = nginx_page(sentence, server='<a href="/help">Help</a>')
    assert isinstance(verdict_of(400, "Bad Request", page, html=page), Permanent)


def test_such_a_page_with_another_status_means_what_its_status_means():
    page = nginx_page(SENTENCES[0])
    assert isinstance(verdict_of(200, "OK", page, html=page), Succeeded)
    assert isinstance(verdict_of(503, "Busy", page, html=page), Transient)


def test_a_page_that_is_no_html_is_the_entrys_own_fault():
    assert isinstance(verdict_of(400, "Bad Request", nginx_page(SENTENCES[0])), Permanent)


@pytest.mark.parametrize("status", [s.value for s in HTTPStatus if s.value >= 200])
def test_a_verdict_keeps_status_and_phrase(status):
    verdict = verdict_of(status, HTTPStatus(status).phrase, "body", retry_after_s=3)
    assert verdict.response_status == status
    if not isinstance(verdict, Succeeded):
        assert f"the service answered {status} {HTTPStatus(status).phrase}" in verdict.reason
    if isinstance(verdict, Transient):
        assert verdict.retry_after_s == 3


DECIDED = {
    "ClientConnectionError": ConnectionFault.TRANSIENT,
    "ClientConnectionResetError": ConnectionFault.DOUBTFUL,
    "ClientConnectorCertificateError": ConnectionFault.CERTIFICATE,
    "ClientConnectorDNSError": ConnectionFault.TRANSIENT,
    "ClientConnectorError": ConnectionFault.TRANSIENT,
    "ClientConnectorSSLError": ConnectionFault.DOUBTFUL,
    "ClientError": ConnectionFault.TRANSIENT,
    "ClientHttpProxyError": ConnectionFault.TRANSIENT,
    "ClientOSError": ConnectionFault.DOUBTFUL,
    "ClientPayloadError": ConnectionFault.TRANSIENT,
    "ClientProxyConnectionError": ConnectionFault.TRANSIENT,
    "ClientResponseError": ConnectionFault.TRANSIENT,
    "ClientSSLError": ConnectionFault.DOUBTFUL,
    "ConnectionTimeoutError": ConnectionFault.TRANSIENT,
    "ContentTypeError": ConnectionFault.TRANSIENT,
    "InvalidURL": ConnectionFault.PERMANENT,
    "InvalidUrlClientError": ConnectionFault.PERMANENT,
    "InvalidUrlRedirectClientError": ConnectionFault.PERMANENT,
    "NonHttpUrlClientError": ConnectionFault.PERMANENT,
    "NonHttpUrlRedirectClientError": ConnectionFault.PERMANENT,
    "RedirectClientError": ConnectionFault.PERMANENT,
    "ServerConnectionError": ConnectionFault.TRANSIENT,
    "ServerDisconnectedError": ConnectionFault.DOUBTFUL,
    "ServerFingerprintMismatch": ConnectionFault.CERTIFICATE,
    "ServerTimeoutError": ConnectionFault.TRANSIENT,
    "SocketTimeoutError": ConnectionFault.TRANSIENT,
    "TooManyRedirects": ConnectionFault.PERMANENT,
    "UploadAbortedError": ConnectionFault.TRANSIENT,
    "WSServerHandshakeError": ConnectionFault.TRANSIENT,
}
NEVER_FROM_A_POST = {
    "BadContentDispositionHeader",  # warnings of the multipart parser
    "BadContentDispositionParam",
    "EofStream",  # the body reader's own signal
    "WebSocketError",
    "WSMessageTypeError",
}


def exported():
    found = {name: getattr(aiohttp, name) for name in aiohttp.__all__}
    return {name: kind for name, kind in found.items() if inspect.isclass(kind) and issubclass(kind, BaseException)}


def test_every_exception_that_aiohttp_exports_has_a_decided_meaning():
    assert set(exported()) == set(DECIDED) | NEVER_FROM_A_POST, "decide what it means, in FAULTS and here"


@pytest.mark.parametrize("name", DECIDED)
def test_each_exception_has_the_meaning_that_was_decided(name):
    kind = getattr(aiohttp, name)
    error = kind.__new__(kind)  # without its many arguments: the table goes by class
    assert fault_of(error)[0] is DECIDED[name]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (TimeoutError(), ConnectionFault.TRANSIENT),
        (ConnectionResetError(), ConnectionFault.DOUBTFUL),
        (OSError(), ConnectionFault.TRANSIENT),
        (ssl.SSLError(), ConnectionFault.DOUBTFUL),
        (ssl.SSLCertVerificationError(), ConnectionFault.CERTIFICATE),
        (ssl.SSLEOFError(), ConnectionFault.DOUBTFUL),
        (ssl.SSLSyscallError(), ConnectionFault.DOUBTFUL),
        (ssl.SSLZeroReturnError(), ConnectionFault.DOUBTFUL),
    ],
)
def test_each_exception_of_python_has_its_meaning(error, expected):
    assert fault_of(error)[0] is expected


@pytest.mark.parametrize(
    ("kind", "description"),
    [
        (aiohttp.ClientConnectorCertificateError, "the service's certificate is not trusted"),
        (aiohttp.ServerFingerprintMismatch, "the service's certificate is not the expected one"),
        (ssl.SSLEOFError, "the service closed the connection"),
        (ssl.SSLZeroReturnError, "the service closed the connection"),
        (ssl.SSLSyscallError, "the service closed the connection"),
        (ssl.SSLCertVerificationError, "the service's certificate is not trusted"),
        (ssl.SSLError, "TLS failed"),
        (aiohttp.ClientSSLError, "TLS failed"),
        (TimeoutError, "no answer in time"),
        (aiohttp.InvalidURL, "the service's URL is not usable"),
        (aiohttp.NonHttpUrlClientError, "the service's URL is not usable"),
        (aiohttp.RedirectClientError, "the service redirects to no usable URL"),
        (aiohttp.TooManyRedirects, "the service redirects"),
        (aiohttp.ClientProxyConnectionError, "no connection to the proxy"),
        (aiohttp.ClientConnectorError, "no connection"),
        (aiohttp.ServerDisconnectedError, "the service closed the connection"),
        (ConnectionError, "the service closed the connection"),
        (aiohttp.ServerConnectionError, "the connection failed"),
        (aiohttp.ClientOSError, "the connection failed"),
        (aiohttp.ClientConnectionError, "the connection failed"),
        (aiohttp.ClientPayloadError, "the answer was cut off"),
        (aiohttp.UploadAbortedError, "the request was cut off"),
        (aiohttp.ClientResponseError, "the answer is not HTTP"),
        (aiohttp.ClientError, "the request failed"),
        (OSError, "the connection failed"),
    ],
)
def test_each_exception_has_its_description(kind, description):
    assert fault_of(kind.__new__(kind))[1] == description


def failed_with(reason):
    """What aiohttp raises when TLS has failed with one of OpenSSL's reasons."""
    wrapped = aiohttp.ClientOSError(1, f"[SSL: {reason}]")
    wrapped.__cause__ = ssl.SSLError(1, f"[SSL: {reason}]")
    wrapped.__cause__.reason = reason
    return wrapped


@pytest.mark.parametrize("reason", sorted(ALERTS_ABOUT_CERTIFICATES))
def test_an_alert_about_a_certificate_is_recognised_where_aiohttp_has_wrapped_it(reason):
    assert fault_of(failed_with(reason)) == (
        ConnectionFault.CERTIFICATE,
        "the service does not accept our certificate",
    )


@pytest.mark.parametrize(
    "reason",
    [
        "WRONG_VERSION_NUMBER",
        "DECRYPTION_FAILED_OR_BAD_RECORD_MAC",
        "SSLV3_ALERT_BAD_RECORD_MAC",
        "SSLV3_ALERT_HANDSHAKE_FAILURE",
        "TLSV1_ALERT_INTERNAL_ERROR",
        "TLSV1_ALERT_PROTOCOL_VERSION",
        "UNEXPECTED_MESSAGE",
    ],
)
def test_a_failure_of_tls_that_is_not_about_a_certificate_is_not_certain(reason):
    assert fault_of(failed_with(reason)) == (ConnectionFault.DOUBTFUL, "TLS failed")


def test_an_alert_in_the_handshake_is_recognised_although_aiohttp_raises_an_error_of_tls_too():
    wrapped = aiohttp.ClientConnectorSSLError.__new__(aiohttp.ClientConnectorSSLError)
    assert isinstance(wrapped, ssl.SSLError)
    wrapped.__cause__ = ssl.SSLError(1, "[SSL: TLSV1_ALERT_UNKNOWN_CA]")
    wrapped.__cause__.reason = "TLSV1_ALERT_UNKNOWN_CA"
    assert fault_of(wrapped)[0] is ConnectionFault.CERTIFICATE


def test_the_names_of_the_alerts_are_those_of_openssl():
    known = set(ssl._ssl.err_codes_to_names.values())
    assert known >= ALERTS_ABOUT_CERTIFICATES
    of_certificates = {name for name in known if "ALERT" in name and "CERTIFICATE" in name}
    assert of_certificates | {"TLSV1_ALERT_ACCESS_DENIED", "TLSV1_ALERT_UNKNOWN_CA"} <= ALERTS_ABOUT_CERTIFICATES


@pytest.mark.parametrize(
    ("cause", "expected"),
    [(ConnectionResetError(), ConnectionFault.DOUBTFUL), (ConnectionRefusedError(), ConnectionFault.TRANSIENT)],
)
def test_a_reset_in_the_handshake_may_be_a_refusal_but_a_refused_connection_is_not(cause, expected):
    failed = aiohttp.ClientConnectorError.__new__(aiohttp.ClientConnectorError)
    failed.__cause__ = cause
    assert fault_of(failed)[0] is expected


def test_an_exception_that_no_delivery_can_end_with_has_no_meaning():
    with pytest.raises(KeyError):
        fault_of(ZeroDivisionError())


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("soon", None),
        ("-5", None),
        ("9" * 400, None),
        ("²", None),
        ("7\x1f", None),
        ("Wed, 21 Oct 99999999999 07:28:00 GMT", None),
        ("Wed, 21 Oct 2026 07:28:00 +99999999", None),
        ("", None),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90.0),
        (format_datetime(NOW - timedelta(days=1), usegmt=True), 0.0),
    ],
)
def test_retry_after_is_read_in_both_forms(header, expected):
    assert retry_after_s(header, now=NOW) == expected


@given(st.text())
def test_any_retry_after_header_gives_none_or_a_wait_that_is_not_negative(header):
    seconds = retry_after_s(header, now=NOW)
    assert seconds is None or seconds >= 0


# What is sent


def body_of(data):
    entry = Entry(id=7, data=data, idempotency_key="key", claim_token="t")
    return body(entry, processor_id="dev-1", now=NOW, max_characters=50)


@pytest.mark.parametrize("data", ['{"a":  1}', "[1e999999999, 1]", '"ü"', "null", "1" * 50])
def test_data_is_sent_byte_for_byte(data):
    sent = body_of(data)
    assert sent.endswith(f'"data": {data}}}'.encode())
    assert sent.startswith(b'{"entry_id": 7, "processor_id": "dev-1", "timestamp": "2026-11-20T12:00:00+00:00"')


@pytest.mark.parametrize("data", ["", "not JSON", "{'a': 1}", '{"a": NaN}', "[1, 2", '{"a": "\udc80"}'])
def test_data_that_is_not_json_is_refused(data):
    with pytest.raises(ValueError, match=r"^data is not JSON: "):
        body_of(data)


def test_data_that_is_too_long_is_refused_with_both_lengths():
    with pytest.raises(ValueError, match="data has 51 characters, MAX_DATA_CHARACTERS is 50"):
        body_of("1" * 51)


def test_data_that_was_left_out_of_the_claim_is_refused_with_its_length_in_the_table():
    entry = Entry(id=7, data="", idempotency_key="key", claim_token="t", characters=10**8)
    with pytest.raises(ValueError, match="data has 100000000 characters, MAX_DATA_CHARACTERS is 50"):
        body(entry, processor_id="dev-1", now=NOW, max_characters=50)


# What counts as JSON


def _no_constant(constant):
    raise ValueError(constant)


BUILDING = json.JSONDecoder(parse_constant=_no_constant, parse_int=len, parse_float=len)
"""The standard library's decoder, which builds the value: a second opinion."""
WORDS = r"""
null true false nul nulll True NaN Infinity -Infinity
- -0 01 -01 1. .5 +1 0x10 1_000 1e5 1E+5 1e+ 1.5e 1e999 -1e-999
"" "é😀" "a a" \" '' "\" "\\" "\/\b\f\n\r\t" "\a" "\x" "\u12" "\uZZZZ"
"\ud800" "\udc00\ud800" "\uD83D\uDE00" "\ud800\u0041" "\ud800x" "\ud8" "\ud8zz" "\\ud800" "\\\ud800" \ud800 [\ud800]
[ ] [] [1,] [,1] [1]] [1 [[[]]] {} {} {}{} /*c*/1 1//c
{"a"} {"a":} {"a":1,} {"a":1,"a":2} {"a":1 {"a" {"a":{"b":[{}]}} {'a':1} {a:1} {1:2}
"""
SPACED = ["", "  ", "1 2", '"a" "b"', '{"a":1 "b":2}', "[1 2]", " \t\n\r[ 1 , 2 ]\r\n\t ", "\x0b1", "\x0c[]", "\xa01"]
CHARACTERS = ['"\t"', '"\x00"', '"\x1f"', '"\x7f"', '"\u2028"', '"\udc80"', "\ufeff1", "1\u0661", "\u0661"]
LONG = ["9" * 5000, "0." + "1" * 9000, "-" + "1" * 9000 + ".5e+7"]
DEEP = ["[" * 500 + "]" * 500, "[" * 500 + "]" * 499, "[" * 100_000, '{"a":' * 100_000]
EDGES = [*WORDS.split(), *SPACED, *CHARACTERS, *LONG, *DEEP]


def accepts(check, data):
    try:
        check(data)
    except (ValueError, RecursionError):
        return False
    return True


def check_and_send(data):
    body(
        Entry(id=7, data=data, idempotency_key="key", claim_token="t"),
        processor_id="dev-1",
        now=NOW,
        max_characters=10**7,
    )


@pytest.mark.parametrize("data", EDGES, ids=[repr(edge)[:40] for edge in EDGES])
def test_the_check_takes_for_json_what_the_standard_library_does(data):
    def build(text):
        BUILDING.decode(text)
        text.encode()

    assert accepts(check_and_send, data) is accepts(build, data)


@pytest.mark.parametrize(
    "data",
    ["[" + "[]," * 333_000 + "1]", '[{"a":1}' + ',{"a":1}' * 125_000 + "]", "[1" + ",1" * 500_000 + "]"],
    ids=["lists", "objects", "numbers"],
)
def test_the_check_of_a_million_characters_builds_nothing(data):
    tracemalloc.start()
    try:
        check_and_send(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2.5 * len(data), "the text as bytes, and these inside the body"


@pytest.mark.parametrize(("length", "reason"), [(90_000, "Expecting value: line 1"), (110_000, "JSON is malformed")])
def test_where_a_long_text_is_no_json_is_said_without_building_it(length, reason):
    with pytest.raises(ValueError, match=f"^data is not JSON: {reason}"):
        check_and_send("[" + "1," * (length // 2) + "]")
