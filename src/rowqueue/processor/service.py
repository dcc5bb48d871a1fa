"""The partner's service: one POST over mutual TLS, and what its answer means. The only importer of aiohttp here."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, NoReturn

import aiohttp

from rowqueue import __version__
from rowqueue.lifecycle import Entry, Outcome, Permanent, Succeeded, Transient

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Callable

_TRANSIENT_STATUSES = frozenset({408, 425, 429})  # and every 5xx

# What an exception of aiohttp means, from specific to general, for its tree is not what it looks like: a certificate
# error *is* a ClientConnectionError, and a total time-out is no ClientError at all.
_OUTCOME_OF: tuple[tuple[type[BaseException], type[Transient | Permanent], str], ...] = (
    (TimeoutError, Transient, "no answer within {timeout:g} s"),
    (aiohttp.InvalidURL, Permanent, "the service's URL is not usable"),
    (aiohttp.ClientConnectorCertificateError, Transient, "the service's certificate is not trusted"),
    (aiohttp.ClientSSLError, Transient, "TLS failed"),
    (aiohttp.ClientConnectorError, Transient, "no connection"),
    (aiohttp.ServerDisconnectedError, Transient, "the service hung up before it answered"),
    (aiohttp.ClientPayloadError, Transient, "the answer was cut off"),
    (aiohttp.ClientResponseError, Transient, "the answer is not HTTP"),
    (aiohttp.ClientError, Transient, "the request failed"),
    (OSError, Transient, "the connection failed"),
)


class Service:
    """The partner's service behind one pooled session.

    Args:
        session: aiohttp's, with the client certificate.
        url: where entries are POSTed.
        processor_id: told to the service.
        timeout_s: a delivery takes no longer, seconds.
        max_result_characters: how much of an answer is kept.
        now: UTC, aware.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        url: str,
        processor_id: str,
        timeout_s: float,
        max_result_characters: int,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._session = session
        self._url = url
        self._processor_id = processor_id
        self._timeout_s = timeout_s
        self._max_result_characters = max_result_characters
        self._now = now

    async def deliver(self, entry: Entry) -> Outcome:
        """POST one entry and say how it ended. Only cancellation is raised."""
        try:
            body = self._body(entry)
        except (ValueError, RecursionError) as error:
            return Permanent(reason=f"data is not JSON: {error}")
        try:
            async with asyncio.timeout(self._timeout_s), self._post(entry, body) as response:
                return await self._outcome(response)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            return self._fault(error)

    def _post(self, entry: Entry, body: bytes) -> aiohttp.client._RequestContextManager:
        return self._session.post(
            self._url,
            data=body,
            allow_redirects=False,
            headers={
                "Content-Type": "application/json",
                "Idempotency-Key": entry.idempotency_key,
                "X-Attempt": str(entry.attempt),
            },
        )

    def _body(self, entry: Entry) -> bytes:
        """The request, with ``data`` spliced in as it stands: what passed the check goes out byte for byte."""
        json.loads(entry.data, parse_constant=_refuse_constant, parse_int=_any_number, parse_float=_any_number)
        envelope = json.dumps(
            {"entry_id": entry.id, "processor_id": self._processor_id, "timestamp": self._now().isoformat()}
        )
        return f'{envelope[:-1]}, "data": {entry.data}}}'.encode()

    async def _outcome(self, response: aiohttp.ClientResponse) -> Outcome:
        status = response.status
        if 200 <= status < 300:  # noqa: PLR2004 -- the work is done there, whatever becomes of the body
            try:
                return Succeeded(response_status=status, result=await self._result(response))
            except (TimeoutError, aiohttp.ClientError, OSError) as error:
                return Succeeded(response_status=status, result=f"[the answer was cut off: {_name(error)}]")
        result = await self._result(response)
        reason = f"the service answered {status} {response.reason or ''}".rstrip()
        if status in _TRANSIENT_STATUSES or status >= 500:  # noqa: PLR2004
            retry_after_s = _retry_after_s(response.headers.get("Retry-After"), self._now())
            return Transient(reason=reason, response_status=status, retry_after_s=retry_after_s, result=result)
        return Permanent(reason=reason, response_status=status, result=result)

    async def _result(self, response: aiohttp.ClientResponse) -> str:
        """The answer as text, as much of it as is kept; marked when there was more."""
        kept = b""
        most = self._max_result_characters * 4  # bytes that many characters can take in UTF-8
        while len(kept) <= most and (chunk := await response.content.read(most + 1 - len(kept))):
            kept += chunk
        answer = kept.decode("utf-8", "replace")
        if len(answer) <= self._max_result_characters:
            return answer
        return answer[: self._max_result_characters] + "[cut]"

    def _fault(self, error: BaseException) -> Outcome:
        for kind, outcome, reason in _OUTCOME_OF:
            if isinstance(error, kind):
                told = reason.format(timeout=self._timeout_s)
                return outcome(reason=told if isinstance(error, TimeoutError) else f"{told}: {_name(error)}: {error}")
        raise AssertionError(f"unmapped: {error!r}")


@asynccontextmanager
async def connect(
    context: ssl.SSLContext,
    *,
    url: str,
    processor_id: str,
    concurrency: int,
    timeout_s: float,
    max_result_characters: int,
) -> AsyncIterator[Service]:
    """The service behind a pool of ``concurrency`` connections, which close at the end."""
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=concurrency, ssl=context),
        timeout=aiohttp.ClientTimeout(total=None),  # Service bounds the whole delivery itself
        headers={"User-Agent": f"rowqueue/{__version__}"},
        auto_decompress=True,
        cookie_jar=aiohttp.DummyCookieJar(),
    )
    async with session:
        yield Service(
            session,
            url=url,
            processor_id=processor_id,
            timeout_s=timeout_s,
            max_result_characters=max_result_characters,
        )


def _refuse_constant(constant: str) -> NoReturn:
    """NaN and Infinity: Python's parser takes them, JSON does not."""
    raise ValueError(f"{constant} is not a JSON value")


def _any_number(digits: str) -> int:
    """Numbers are passed on as they are written; converting a very long one is refused by Python and not needed."""
    return len(digits)


def _retry_after_s(header: str | None, now: datetime) -> float | None:
    """Seconds from either form of the header (RFC 9110, 10.2.3); ``None`` if it is absent or neither."""
    if header is None:
        return None
    if header.strip().isdecimal():
        return float(header)
    try:
        at = parsedate_to_datetime(header)
    except ValueError:
        return None
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds())


def _name(error: BaseException) -> str:
    return type(error).__name__
