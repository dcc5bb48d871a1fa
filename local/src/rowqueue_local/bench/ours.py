"""Our processor, built of the parts that ``container/processor.py`` builds it of."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from rowqueue import credentials, observability
from rowqueue.lifecycle import RetryPolicy
from rowqueue.processor import service
from rowqueue.processor.run import Processor
from rowqueue.settings import ProcessorSettings
from rowqueue.store import QueueStore
from rowqueue.warehouse import SnowflakeWarehouse
from rowqueue_local.bench.work import Stretch, tls

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from rowqueue.processor.run import Report
    from rowqueue_local.bench.work import Job


def prepare(job: Job) -> Callable[[], Stretch]:
    """Log in to Snowflake; what is returned claims, delivers and settles until nothing is ready."""
    settings = ProcessorSettings.from_env(job.environ)
    observability.configure("processor", environment=settings.environment)
    login = credentials.login(settings.snowflake, environment=settings.environment)
    warehouse = SnowflakeWarehouse(settings.snowflake, login, query_tag="bench")
    warehouse.connect()
    queue = QueueStore(warehouse, queue=settings.snowflake.table, max_retries=settings.max_retries)
    context = tls(job.environ)

    def run() -> Stretch:
        began = time.monotonic()
        report = asyncio.run(_run(settings, queue, context, job.name))
        return Stretch(began=began, ended=began + report.seconds, entries=report.settled["completed"])

    return run


async def _run(settings: ProcessorSettings, queue: QueueStore, context: ssl.SSLContext, name: str) -> Report:
    limits = service.Limits(
        timeout_s=settings.service_timeout_s,
        max_data_characters=settings.max_data_characters,
        max_result_characters=settings.max_result_characters,
    )
    connecting = service.connect(
        context, url=settings.service_url, processor_id=name, concurrency=settings.concurrency, limits=limits
    )
    with ThreadPoolExecutor(1, thread_name_prefix="warehouse") as thread:
        async with connecting as partner:
            processor = Processor(
                queue=queue,
                deliver=partner.deliver,
                policy=RetryPolicy(max_retries=settings.max_retries),
                settings=settings,
                processor_id=name,
                thread=thread,
                stop=asyncio.Event(),
            )
            return await processor.run()
