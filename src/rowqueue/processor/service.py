"""The partner's service: one POST over mutual TLS, and what becomes of it. The only importer of aiohttp here."""

from __future__ import annotations

import random
import ssl
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

import aiohttp

from rowqueue import __version__
from rowqueue.lifecycle import CredentialsFault, Entry, Permanent, Succeeded, Transient, Verdict
from rowqueue.processor import request
from rowqueue.processor.answers import Meaning, meaning_of, retry_after_s, verdict_of
from rowqueue.processor.shared_timeout import SharedTimeout

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


class Fault(StrEnum):
    """What an exception says of the delivery."""

    CERTIFICATE = "certificate"
    """TLS or a certificate, ours or theirs: no entry's fault."""
    DISCONNECT = "disconnect"
    """Closed without an answer: so does a server that refuses our certificate, and so does one that restarts."""
    TRANSIENT = "transient"
    PERMANENT = "permanent"


FAULTS: tuple[tuple[type[BaseException], Fault, str], ...] = (
    (aiohttp.ClientConnectorCertificateError, Fault.CERTIFICATE, "the service's certificate is not trusted"),
    (aiohttp.ServerFingerprintMismatch, Fault.CERTIFICATE, "the service's certificate is not the expected one"),
    (ssl.SSLEOFError, Fault.DISCONNECT, "the service closed the connection"),
    (ssl.SSLZeroReturnError, Fault.DISCONNECT, "the service closed the connection"),
    (ssl.SSLSyscallError, Fault.DISCONNECT, "the service closed the connection"),
    (ssl.SSLError, Fault.CERTIFICATE, "TLS failed"),
    (aiohttp.ClientSSLError, Fault.CERTIFICATE, "TLS failed"),
    (TimeoutError, Fault.TRANSIENT, "no answer in time"),
    (aiohttp.InvalidURL, Fault.PERMANENT, "the service's URL is not usable"),
    (aiohttp.NonHttpUrlClientError, Fault.PERMANENT, "the service's URL is not usable"),
    (aiohttp.RedirectClientError, Fault.PERMANENT, "the service redirects to no usable URL"),
    (aiohttp.TooManyRedirects, Fault.PERMANENT, "the service redirects"),
    (aiohttp.ClientProxyConnectionError, Fault.TRANSIENT, "no connection to the proxy"),
    (aiohttp.ClientConnectorError, Fault.TRANSIENT, "no connection"),
    (aiohttp.ServerDisconnectedError, Fault.DISCONNECT, "the service closed the connection"),
    (ConnectionError, Fault.DISCONNECT, "the service closed the connection"),
    (aiohttp.ServerConnectionError, Fault.TRANSIENT, "the connection failed"),
    (aiohttp.ClientOSError, Fault.DISCONNECT, "the connection failed"),
    (aiohttp.ClientConnectionError, Fault.TRANSIENT, "the connection failed"),
    (aiohttp.ClientPayloadError, Fault.TRANSIENT, "the answer was cut off"),
    (aiohttp.UploadAbortedError, Fault.TRANSIENT, "the request was cut off"),
    (aiohttp.ClientResponseError, Fault.TRANSIENT, "the answer is not HTTP"),
    (aiohttp.ClientError, Fault.TRANSIENT, "the request failed"),
    (OSError, Fault.TRANSIENT, "the connection failed"),
)
"""From specific to general; the first match decides. The tree is not what it looks like: a certificate error *is* a
ClientConnectionError, and a total time-out is no ClientError at all."""


_TELLING = (ssl.SSLError, ConnectionResetError, ConnectionAbortedError, BrokenPipeError)


def fault_of(error: BaseException) -> tuple[Fault, str]:
    """What an exception means, and its name for people.

    What it was raised from is looked at first. A server that refuses our certificate says so in a TLS alert, which
    under TLS 1.3 arrives only with the first read (RFC 8446, 4.4.2.4), where aiohttp wraps it; or it resets the
    connection, which under TLS 1.2 shows as one that could not be made (measured with OpenSSL 3 on both sides).

    Raises:
        KeyError: it is none that a delivery can end with.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, _TELLING):
            error = cause
            break
        cause = cause.__cause__ or cause.__context__
    for kind, fault, told in FAULTS:
        if isinstance(error, kind):
            return fault, told
    raise KeyError(type(error))


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of a delivery.

    Attributes:
        timeout_s: it takes no longer, seconds, from the connection to the last byte kept.
        max_data_characters: more is not sent.
        max_result_characters: more of an answer is not kept.
    """

    timeout_s: float
    max_data_characters: int
    max_result_characters: int


_PAGE_CHARACTERS = 2000
"""A web server's page about our certificate says so within these."""


class Service:
    """The partner's service behind one pooled session.

    Args:
        session: aiohttp's, with the client certificate.
        url: where entries are POSTed.
        processor_id: told to the service.
        limits: of each delivery.
        now: UTC, aware.
        new_span: 64 bits for a trace; unique and no secret, so it asks the system for nothing.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        url: str,
        processor_id: str,
        limits: Limits,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        new_span: Callable[[], int] = lambda: random.getrandbits(64) or 1,
    ) -> None:
        self._session = session
        self._url = url
        self._processor_id = processor_id
        self._limits = limits
        self._now = now
        self._new_span = new_span
        self._timeout = SharedTimeout(limits.timeout_s)

    async def deliver(self, entry: Entry) -> Verdict:
        """POST one entry and say how it ended. Only cancellation is raised."""
        try:
            body = request.body(
                entry,
                processor_id=self._processor_id,
                now=self._now(),
                max_characters=self._limits.max_data_characters,
            )
            headers = request.headers(entry, span=self._new_span())
        except ValueError as error:
            return Permanent(reason=str(error))
        response: aiohttp.ClientResponse | None = None
        try:
            with self._timeout:
                response = await self._session.post(self._url, data=body, headers=headers, allow_redirects=False)
                page = await self._page(response)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            if response is None:
                return self._verdict_of_fault(error)
            # The status decides; for a 2xx the work is done there, whatever becomes of the body.
            page = f"[the answer was cut off: {type(error).__name__}]"
        finally:
            if response is not None:
                response.release()
        return self._verdict(response, page)

    def _verdict(self, response: aiohttp.ClientResponse, page: str) -> Verdict:
        status = response.status
        most = self._limits.max_result_characters
        result = page if len(page) <= most else page[:most] + "[cut]"
        if meaning_of(status) is Meaning.SUCCEEDED:
            return Succeeded(response_status=status, result=result)
        asked_s = retry_after_s(response.headers.get("Retry-After"), now=self._now())
        return verdict_of(status, response.reason or "", result, page=page, retry_after_s=asked_s)

    async def _page(self, response: aiohttp.ClientResponse) -> str:
        """The answer as text: a little more than is kept, and enough to recognise a web server's page.

        It is not decompressed: we ask for none (``Accept-Encoding: identity``), and a small one could be a bomb.
        """
        encoding = response.headers.get("Content-Encoding", "identity")
        if encoding != "identity":
            return f"[not kept: it came {encoding}-encoded though we ask for identity]"
        read = b""
        # Bytes that so many characters can take in UTF-8, and one more to see that there is more.
        most = 4 * max(self._limits.max_result_characters + 1, _PAGE_CHARACTERS)
        while len(read) < most and not response.content.at_eof():
            read += await response.content.read(most - len(read))
        return read.decode("utf-8", "replace")

    def _verdict_of_fault(self, error: BaseException) -> Verdict:
        fault, told = fault_of(error)
        if isinstance(error, TimeoutError):
            reason = f"no answer within {self._limits.timeout_s:g} s"
        else:
            reason = f"{told}: {type(error).__name__}: {error}"
        match fault:
            case Fault.CERTIFICATE:
                return CredentialsFault(reason=reason, certain=True)
            case Fault.DISCONNECT:
                return CredentialsFault(reason=reason, certain=False)
            case Fault.TRANSIENT:
                return Transient(reason=reason)
            case Fault.PERMANENT:
                return Permanent(reason=reason)


@asynccontextmanager
async def connect(
    context: ssl.SSLContext, *, url: str, processor_id: str, concurrency: int, limits: Limits
) -> AsyncIterator[Service]:
    """The service behind a pool of ``concurrency`` connections, which close at the end."""
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=concurrency, ssl=context),
        timeout=aiohttp.ClientTimeout(total=None),  # Service bounds the whole delivery itself
        headers={"User-Agent": f"rowqueue/{__version__}"},
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
    )
    async with session:
        yield Service(session, url=url, processor_id=processor_id, limits=limits)
