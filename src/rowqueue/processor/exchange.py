"""What is sent for an entry, and what the service's answer means. Knows statuses and headers, but no HTTP library.

What an exception of the connection means is decided in :mod:`rowqueue.processor.connection_faults`.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import TYPE_CHECKING, NoReturn

import msgspec

from rowqueue.lifecycle import CredentialsFault, Permanent, Succeeded, Transient, Verdict
from rowqueue.processor.trace import trace_of

if TYPE_CHECKING:
    from rowqueue.lifecycle import Entry

_HEADER_VALUE = re.compile(r"[\x21-\x7e]{1,255}")


def body(entry: Entry, *, processor_id: str, now: datetime, max_characters: int) -> bytes:
    """The request's body: an envelope in JSON with ``data`` inside, byte for byte as it is in the table.

    Raises:
        ValueError: ``data`` is not JSON, or longer than ``max_characters``; the message says so.
    """
    characters = max(entry.characters, len(entry.data))
    if characters > max_characters:
        raise ValueError(f"data has {characters} characters, MAX_DATA_CHARACTERS is {max_characters}")
    by = f'"processor_id": {json.dumps(processor_id)}, "timestamp": "{now.isoformat()}"'
    start = f'{{"entry_id": {entry.id}, {by}, "data": '.encode()
    try:
        sent = entry.data.encode()
        _check(sent, entry.data)
    except (ValueError, RecursionError, msgspec.DecodeError) as error:
        raise ValueError(f"data is not JSON: {error}") from error
    return b"".join((start, sent, b"}"))


def headers(entry: Entry, *, span: int) -> dict[str, str]:
    """The request's headers. ``Idempotency-Key`` and the trace are the same for every delivery of the entry.

    Args:
        entry: as it was claimed.
        span: 64 bits, not all 0, that no other delivery of the entry has.

    Raises:
        ValueError: the entry's ``idempotency_key`` cannot be sent in a header.
    """
    if not _HEADER_VALUE.fullmatch(entry.idempotency_key):
        raise ValueError("idempotency_key: expected 1 to 255 visible ASCII characters")
    return {
        "Accept-Encoding": "identity",
        "Content-Type": "application/json",
        "Idempotency-Key": entry.idempotency_key,
        "X-Attempt": str(entry.attempt),
        "traceparent": trace_of(entry).parent(span),
    }


_WITHOUT_TREE = msgspec.json.Decoder(msgspec.Raw)
"""Reads JSON from end to end and builds nothing: 10 million characters take no memory, and 0.1 s at most."""
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_LONGEST_EXPLAINED = 100_000
"""Bytes up to which the standard library says where the fault is. For a longer text its tree would be too large."""


def _check(sent: bytes, data: str) -> None:
    """Check that a text is JSON by RFC 8259.

    The grammar allows an escape for half of a surrogate pair; msgspec refuses it. So on a fault these escapes are
    replaced by others of the same length, and the text is read again.

    Raises:
        ValueError: it is not; the message says where.
        DecodeError: it is not, and is long.
        RecursionError: it is nested too deeply to be read.
    """
    try:
        try:
            _WITHOUT_TREE.decode(sent)
        except msgspec.DecodeError:
            _WITHOUT_TREE.decode(_SURROGATE.sub(rb"\\u00", sent))
    except msgspec.DecodeError:
        if len(sent) <= _LONGEST_EXPLAINED:
            _EXPLAINS.decode(data)
        raise


def _refuse_constant(constant: str) -> NoReturn:
    """Python's parser accepts NaN and Infinity; JSON does not have them."""
    raise ValueError(f"{constant} is not a JSON value")


# It finds the same faults, and its messages are better. Numbers are not converted: past 4,300 digits that is an error.
_EXPLAINS = json.JSONDecoder(parse_constant=_refuse_constant, parse_int=len, parse_float=len)


class Meaning(StrEnum):
    """What a status says about the delivery."""

    SUCCEEDED = "succeeded"
    TRANSIENT = "transient"
    PERMANENT = "permanent"
    CREDENTIALS = "credentials"
    """Refused. Before the first 2xx of this task the likely cause is our credentials, not the entry."""
    CERTIFICATE = "certificate"
    """A web server's answer about our certificate. Until the first 2xx of this task it is weighed as a refusal is."""


_MEANING_OF_STATUS = (
    ((401, 403), Meaning.CREDENTIALS),
    ((495, 496), Meaning.CERTIFICATE),  # nginx's own statuses for a client certificate that is wrong or missing
    ((408, 425, 429), Meaning.TRANSIENT),
    (range(200, 300), Meaning.SUCCEEDED),
    (range(400, 500), Meaning.PERMANENT),
    (range(300, 400), Meaning.PERMANENT),  # redirects are not followed: an entry goes where the setting says
    (range(500, 600), Meaning.TRANSIENT),
    (range(100, 200), Meaning.TRANSIENT),  # an interim response in place of a final one: a fault on the way
)
"""From specific to general; the first match decides."""

# nginx, and what is built on it (OpenResty, Angie), answers a missing or untrusted client certificate with 400
# and a page of its own (ngx_http_special_response.c). The whole page has to have that shape, up to the line with the
# server's name: an application's answer may contain the sentence, because it may repeat what was sent to it. Apache,
# HAProxy, Envoy and AWS's load balancer end the TLS handshake instead; IIS and API Gateway answer 403.
_CERTIFICATE_PAGE = re.compile(
    r"\s*<html>\s*<head><title>400 (No required SSL certificate was sent|The SSL certificate error)</title></head>"
    r"\s*<body[^<>]*>\s*<center><h1>400 Bad Request</h1></center>\s*<center>\1</center>"
    r"\s*<hr><center>[^<>]*</center>\s*</body>\s*</html>\s*(<!--[^{}]*)?"
)


def meaning_of(status: int, html: str = "") -> Meaning:
    """What a status means. For a 400 the body decides whether it is a web server's page about our certificate.

    A number that is no HTTP status means a fault of the server (RFC 9110, 15).
    """
    if status == 400 and _CERTIFICATE_PAGE.fullmatch(html):  # noqa: PLR2004
        return Meaning.CERTIFICATE
    for statuses, meaning in _MEANING_OF_STATUS:
        if status in statuses:
            return meaning
    return Meaning.TRANSIENT


def verdict_of(status: int, phrase: str, result: str, *, html: str = "", retry_after_s: float | None = None) -> Verdict:
    """What an answer means for its entry.

    Args:
        status: of the answer.
        phrase: its reason phrase; may be empty.
        result: its body, as much as is kept.
        html: its body, as much as was read, if it is HTML.
        retry_after_s: what the service asked us to wait, seconds.
    """
    reason = f"the service answered {status} {phrase}".rstrip()
    match meaning_of(status, html):
        case Meaning.SUCCEEDED:
            return Succeeded(response_status=status, result=result)
        case Meaning.TRANSIENT:
            return Transient(reason=reason, response_status=status, retry_after_s=retry_after_s, result=result)
        case Meaning.PERMANENT:
            return Permanent(reason=reason, response_status=status, result=result)
        case Meaning.CREDENTIALS:
            return CredentialsFault(reason=reason, certain=False, response_status=status, result=result)
        case Meaning.CERTIFICATE:
            reason = f"{reason}, which is about our client certificate"
            return CredentialsFault(reason=reason, certain=False, response_status=status, result=result)


def retry_after_s(header: str | None, *, now: datetime) -> float | None:
    """Seconds from either form of ``Retry-After`` (RFC 9110, 10.2.3); ``None`` if it is absent or neither.

    Args:
        header: its value.
        now: UTC, aware.
    """
    if header is None:
        return None
    if re.fullmatch(r"[ \t]*[0-9]{1,12}[ \t]*", header):
        return float(header)
    try:
        at = parsedate_to_datetime(header)
        return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds())
    except (ValueError, OverflowError):
        return None
