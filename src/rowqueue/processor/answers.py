"""What the service's answer means, without HTTP: the half of the outcome table that goes by status.

The other half, what a fault of the connection means, goes by aiohttp's exceptions and stands in :mod:`.service`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum

from rowqueue.lifecycle import CredentialsFault, Permanent, Succeeded, Transient, Verdict


class Meaning(StrEnum):
    """What a status says of the delivery."""

    SUCCEEDED = "succeeded"
    TRANSIENT = "transient"
    PERMANENT = "permanent"
    CREDENTIALS = "credentials"
    """Refused: if the service has never let this task in, most likely for who we are and not for what we sent."""
    CERTIFICATE = "certificate"
    """nginx's own statuses for a client certificate that is wrong (495) or missing (496)."""


_MEANING_OF_STATUS = (
    ((401, 403), Meaning.CREDENTIALS),
    ((495, 496), Meaning.CERTIFICATE),
    ((408, 425, 429), Meaning.TRANSIENT),
    (range(200, 300), Meaning.SUCCEEDED),
    (range(400, 500), Meaning.PERMANENT),
    (range(300, 400), Meaning.PERMANENT),  # redirects are not followed: an entry goes where the setting says
    (range(500, 600), Meaning.TRANSIENT),
    (range(100, 200), Meaning.TRANSIENT),  # an interim response for a final one: a fault on the way
)
"""From specific to general; the first match decides."""

# nginx answers a missing or untrusted client certificate with 400 and a page of its own (ngx_http_special_response.c).
_CERTIFICATE_PAGES = ("no required ssl certificate was sent", "the ssl certificate error")


def meaning_of(status: int, page: str = "") -> Meaning:
    """What a status means, and for a 400 whether it is a web server's page about our certificate.

    What is no HTTP status at all is taken for a fault of the server (RFC 9110, 15).
    """
    if status == 400 and any(text in page.lower() for text in _CERTIFICATE_PAGES):  # noqa: PLR2004
        return Meaning.CERTIFICATE
    for statuses, meaning in _MEANING_OF_STATUS:
        if status in statuses:
            return meaning
    return Meaning.TRANSIENT


def verdict_of(
    status: int, phrase: str, result: str, *, page: str | None = None, retry_after_s: float | None = None
) -> Verdict:
    """What an answer means for its entry.

    Args:
        status: of the answer.
        phrase: its reason phrase, may be empty.
        result: its body, as much as is kept.
        page: its body, as much as was read, if that is more.
        retry_after_s: what the service asked us to wait, seconds.
    """
    reason = f"the service answered {status} {phrase}".rstrip()
    match meaning_of(status, result if page is None else page):
        case Meaning.SUCCEEDED:
            return Succeeded(response_status=status, result=result)
        case Meaning.TRANSIENT:
            return Transient(reason=reason, response_status=status, retry_after_s=retry_after_s, result=result)
        case Meaning.PERMANENT:
            return Permanent(reason=reason, response_status=status, result=result)
        case Meaning.CREDENTIALS:
            return CredentialsFault(reason=reason, certain=False, response_status=status)
        case Meaning.CERTIFICATE:
            return CredentialsFault(
                reason=f"{reason}: it does not accept our client certificate", certain=True, response_status=status
            )


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
