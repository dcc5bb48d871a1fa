"""The sketch: a simple program, as a baseline. Do not copy it.

It claims eight entries, opens new TLS connections for them, and records each with its own UPDATE and COMMIT in the
event loop. This version is faster than the sketch: it loops in one process with one login, whereas the sketch starts a
task for every eight entries.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import aiohttp
import snowflake.connector

from rowqueue_local.bench.work import Stretch
from rowqueue_local.task_parts import tls

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from snowflake.connector import SnowflakeConnection

    from rowqueue_local.bench.work import Job

_BATCH = 8
_CLAIM = f"""
UPDATE PROCESSING_QUEUE
   SET status = 'processing', processor_id = ?, claimed_at = SYSDATE()
 WHERE status = 'pending'
   AND id IN (SELECT id FROM PROCESSING_QUEUE WHERE status = 'pending' AND retry_count < 3 ORDER BY id LIMIT {_BATCH})
"""  # noqa: S608 -- a constant
_CLAIMED = "SELECT id, data, idempotency_key FROM PROCESSING_QUEUE WHERE processor_id = ? AND status = 'processing'"
_RECORD = "UPDATE PROCESSING_QUEUE SET status = ?, completed_at = SYSDATE() WHERE id = ? AND processor_id = ?"


def prepare(job: Job) -> Callable[[], Stretch]:
    """Log in to Snowflake; the returned function works until a claim is empty."""
    environ = job.environ
    connection = snowflake.connector.connect(
        account=environ["SNOWFLAKE_ACCOUNT"],
        user=environ["SNOWFLAKE_USER"],
        password=environ["SNOWFLAKE_PASSWORD"],
        database=environ["SNOWFLAKE_DATABASE"],
        schema=environ["SNOWFLAKE_SCHEMA"],
        host=environ["SNOWFLAKE_HOST"],
        port=int(environ["SNOWFLAKE_PORT"]),
        protocol=environ["SNOWFLAKE_PROTOCOL"],
        paramstyle="qmark",
        autocommit=False,
        platform_detection_timeout_seconds=0.0,
    )
    context = tls(environ)

    def run() -> Stretch:
        began, delivered = time.monotonic(), 0
        while batch := _claim(connection, job.name):
            asyncio.run(_deliver(connection, batch, job, context))
            delivered += len(batch)
        return Stretch(began=began, ended=time.monotonic(), entries=delivered)

    return run


def _claim(connection: SnowflakeConnection, name: str) -> list[tuple[int, str, str]]:
    with connection.cursor() as cursor:
        cursor.execute(_CLAIM, (name,))
        cursor.execute(_CLAIMED, (name,))
        batch = [(int(number), str(data), str(key)) for number, data, key in cursor.fetchall()]
    connection.commit()
    return batch


async def _deliver(
    connection: SnowflakeConnection, batch: list[tuple[int, str, str]], job: Job, context: ssl.SSLContext
) -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:

        async def deliver(number: int, data: str, key: str) -> None:
            body = f'{{"entry_id": {number}, "data": {data}, "processor_id": "{job.name}"}}'
            headers = {"Content-Type": "application/json", "Idempotency-Key": key}
            async with session.post(job.environ["EXTERNAL_SERVICE_URL"], data=body, headers=headers) as answer:
                status = "completed" if answer.status < 300 else "failed"  # noqa: PLR2004 -- HTTP
                await answer.read()
            with connection.cursor() as cursor:
                cursor.execute(_RECORD, (status, number, job.name))
            connection.commit()

        await asyncio.gather(*(deliver(*entry) for entry in batch))
