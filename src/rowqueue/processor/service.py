"""The partner's service: one POST over mutual TLS, and how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import io
import random
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import aiohttp

from rowqueue import __version__
from rowqueue.lifecycle import CredentialsFault, Entry, Permanent, Succeeded, Transient, Verdict
from rowqueue.processor import exchange
from rowqueue.processor.connection_faults import ConnectionFault, fault_of
from rowqueue.processor.exchange import Meaning, meaning_of, retry_after_s, verdict_of
from rowqueue.processor.status_line import FirstBytesKept

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Callable

    from aiohttp.connector import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of a delivery.

    Attributes:
        timeout_s: seconds from the connection to the last byte that is kept.
        max_data_characters: longer ``data`` is not sent.
        max_result_characters: the rest of a longer answer is not kept.
    """

    timeout_s: float
    max_data_characters: int
    max_result_characters: int


_PAGE_CHARACTERS = 2000
"""A web server's page about our certificate is recognised by its first characters."""


_LARGEST_PART = 65_536
"""Bytes that are sent at once."""

_MAX_HEADER_BYTES = 65_536
"""Longest header of an answer that is read; aiohttp's default is 8,190. Of an answer with a longer one only the status
is known."""

_tls: ContextVar[FirstBytesKept | None] = ContextVar("tls", default=None)
"""The TLS connection that the delivery of this asyncio task was sent on."""


class _SurplusBytes(aiohttp.ClientError):
    """Bytes arrived on a pooled connection before this request. Nothing was sent, and aiohttp closes the connection."""


class _Request(aiohttp.ClientRequest):
    """aiohttp's request. It tells the delivery which connection it goes out on, and refuses one with surplus bytes."""

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        tls = conn.transport and conn.transport.get_extra_info("ssl_object")
        if isinstance(tls, FirstBytesKept):
            # TLS cannot see where an answer ends. aiohttp can, but it may release the connection before it has parsed
            # what came in the same piece as the end.
            behind_the_end = conn.protocol is not None and conn.protocol.should_close
            if tls.idle and (tls.surplus or behind_the_end):
                raise _SurplusBytes
            tls.forget()
            conn.add_callback(tls.rest)  # when it goes back to the pool
            _tls.set(tls)
        return await super().send(conn)


class Service:
    """The partner's service behind one pooled session.

    Args:
        session: aiohttp's, with the client certificate.
        url: where entries are POSTed.
        processor_id: sent to the service with each entry.
        limits: of each delivery.
        now: UTC, aware.
        new_span: 64 bits for a trace. They must be unique but not secret, so a pseudo-random number will do.
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

    async def deliver(self, entry: Entry) -> Verdict:
        """POST one entry; returns how it ended. Raises nothing but a cancellation.

        A cancellation after the status of a 2xx has arrived is not raised: the service has done its work. The caller
        finds it in ``asyncio.current_task().cancelling()``.
        """
        try:
            body = exchange.body(
                entry,
                processor_id=self._processor_id,
                now=self._now(),
                max_characters=self._limits.max_data_characters,
            )
            headers = exchange.headers(entry, span=self._new_span())
        except ValueError as error:
            return Permanent(reason=str(error))
        _tls.set(None)
        response: aiohttp.ClientResponse | None = None
        read = bytearray()
        missing = ""
        try:
            async with asyncio.timeout(self._limits.timeout_s):
                response = await self._post(body, headers)
                await self._read(response, read)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            if _status(response) is None:
                return self._verdict_of_fault(error)
            how = "could not be read" if response is None else "was cut off"
            missing = f"[the answer {how}: {type(error).__name__}]"
        except asyncio.CancelledError:
            status = _status(response)
            if status is None or meaning_of(status) is not Meaning.SUCCEEDED:
                raise
            missing = "[the answer was cut off: a stop]"
        finally:
            if response is not None:
                response.release()
        return self._verdict(response, read.decode("utf-8", "replace"), missing)

    async def _post(self, body: bytes, headers: dict[str, str]) -> aiohttp.ClientResponse:
        """POST on the first connection without surplus bytes. A new connection has none."""
        while True:
            with contextlib.suppress(_SurplusBytes):
                return await self._session.post(self._url, data=_in_parts(body), headers=headers, allow_redirects=False)

    def _verdict(self, response: aiohttp.ClientResponse | None, page: str, missing: str) -> Verdict:
        """What the status means: it decides, also if the rest of the answer is missing.

        Args:
            response: None if only its status is known.
            page: what was read of the body.
            missing: a note for the result, why the rest of the answer is missing; empty if nothing is.
        """
        status = _status(response)
        assert status is not None
        most = self._limits.max_result_characters
        result = page + missing if len(page) <= most else page[:most] + "[cut]"
        if meaning_of(status) is Meaning.SUCCEEDED:
            return Succeeded(response_status=status, result=result)
        if response is None:
            return verdict_of(status, "", result)
        asked_s = retry_after_s(response.headers.get("Retry-After"), now=self._now())
        html = page if response.headers.get("Content-Type", "").lower().startswith("text/html") else ""
        return verdict_of(status, response.reason or "", result, html=html, retry_after_s=asked_s)

    async def _read(self, response: aiohttp.ClientResponse, read: bytearray) -> None:
        """Append the answer to ``read``: a little more than is kept, and enough to recognise a web server's page.

        It is never decompressed. We ask for ``Accept-Encoding: identity``, and a small compressed body may be huge.
        """
        encoding = response.headers.get("Content-Encoding", "identity")
        if encoding != "identity":
            read += f"[not kept: it came {encoding}-encoded though we ask for identity]".encode()
            return
        # A character takes up to 4 bytes in UTF-8. One character more shows that the answer is longer.
        most = 4 * max(self._limits.max_result_characters + 1, _PAGE_CHARACTERS)
        while len(read) < most and not response.content.at_eof():
            read += await response.content.read(most - len(read))

    def _verdict_of_fault(self, error: BaseException) -> Verdict:
        fault, description = fault_of(error)
        if isinstance(error, TimeoutError):
            reason = f"no answer within {self._limits.timeout_s:g} s"
        else:
            reason = f"{description}: {type(error).__name__}: {error}"
        match fault:
            case ConnectionFault.CERTIFICATE:
                return CredentialsFault(reason=reason, certain=True)
            case ConnectionFault.DOUBTFUL:
                return CredentialsFault(reason=reason, certain=False)
            case ConnectionFault.TRANSIENT:
                return Transient(reason=reason)
            case ConnectionFault.PERMANENT:
                return Permanent(reason=reason)


def _in_parts(body: bytes) -> bytes | io.BytesIO:
    """A large body in a form that aiohttp sends in parts. It would encrypt and buffer ``bytes`` all at once."""
    return body if len(body) <= _LARGEST_PART else io.BytesIO(body)


def _status(response: aiohttp.ClientResponse | None) -> int | None:
    """The status of this delivery's answer, also if only its status line could be read."""
    if response is not None:
        return response.status
    tls = _tls.get()
    return None if tls is None else tls.status


@contextlib.asynccontextmanager
async def connect(
    context: ssl.SSLContext, *, url: str, processor_id: str, concurrency: int, limits: Limits
) -> AsyncIterator[Service]:
    """The service behind a pool of ``concurrency`` connections. They are closed at the end.

    A delivery is one request. When a connection from the pool turns out to be closed, aiohttp repeats a request only if
    its method is idempotent (aiohttp 3.14, ``IDEMPOTENT_METHODS``). POST is not.
    """
    context.sslobject_class = FirstBytesKept
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=concurrency, ssl=context),
        timeout=aiohttp.ClientTimeout(total=None),  # Service limits the whole delivery itself
        headers={"User-Agent": f"rowqueue/{__version__}"},
        auto_decompress=False,
        request_class=_Request,
        max_field_size=_MAX_HEADER_BYTES,
        cookie_jar=aiohttp.DummyCookieJar(),
    )
    async with session:
        yield Service(session, url=url, processor_id=processor_id, limits=limits)
