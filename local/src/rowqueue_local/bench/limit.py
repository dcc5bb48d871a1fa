"""The limit: the same requests in a plain loop, without a queue and without records."""

from __future__ import annotations

import asyncio
import time
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import aiohttp

from rowqueue.lifecycle import Entry
from rowqueue.processor import exchange
from rowqueue_local.bench.work import Stretch
from rowqueue_local.task_parts import tls

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

    from rowqueue_local.bench.work import Job


def prepare(job: Job) -> Callable[[], Stretch]:
    """Make the body once; the returned function sends it once for each entry."""
    context = tls(job.environ)
    entry = Entry(id=1_000_000, data=job.data, idempotency_key=uuid.uuid4().hex, claim_token="")
    body = exchange.body(entry, processor_id=job.name, now=datetime.now(UTC), max_characters=len(job.data))
    headers = exchange.headers(entry, span=1)

    def run() -> Stretch:
        began = time.monotonic()
        asyncio.run(_send(job, context, body, headers))
        return Stretch(began=began, ended=time.monotonic(), entries=job.entries)

    return run


async def _send(job: Job, context: ssl.SSLContext, body: bytes, headers: dict[str, str]) -> None:
    numbers = iter(range(job.entries))
    connector = aiohttp.TCPConnector(limit=job.concurrency, ssl=context)
    async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as group:
        for _ in range(job.concurrency):
            group.create_task(_post(session, job.environ["EXTERNAL_SERVICE_URL"], body, headers, numbers))


async def _post(
    session: aiohttp.ClientSession, url: str, body: bytes, headers: dict[str, str], numbers: Iterator[int]
) -> None:
    key = headers["Idempotency-Key"]
    for number in numbers:
        own = headers | {"Idempotency-Key": f"{key}-{number}"}
        async with session.post(url, data=body, headers=own) as answer:
            answer.raise_for_status()
            await answer.read()
