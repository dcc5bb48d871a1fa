"""Our processor, run by the container's entry point."""

from __future__ import annotations

import asyncio
import time
from contextlib import closing
from typing import TYPE_CHECKING

from rowqueue import credentials, observability
from rowqueue.processor.queue import SnowflakeQueue
from rowqueue.processor.store import ProcessorStore
from rowqueue.settings import ProcessorSettings
from rowqueue.warehouse import SnowflakeWarehouse
from rowqueue_local.bench.work import Stretch
from rowqueue_local.task_parts import entry_point, tls

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from rowqueue.processor.run import RunReport
    from rowqueue_local.bench.work import Job


def prepare(
    job: Job, *, drive: Callable[[Coroutine[object, object, RunReport]], RunReport] = asyncio.run
) -> Callable[[], Stretch]:
    """Log in to Snowflake; the returned function claims, delivers and settles until nothing is ready.

    Args:
        job: what to do.
        drive: runs the processor in an event loop.
    """
    settings = ProcessorSettings.from_env(job.environ)
    observability.configure("processor", environment=settings.environment)
    login = credentials.login(settings.snowflake, environment=settings.environment)
    warehouse = SnowflakeWarehouse(settings.snowflake, login, query_tag="bench")
    warehouse.connect()
    store = ProcessorStore(
        warehouse, queue=settings.snowflake.table, processor_id=job.name, max_retries=settings.max_retries
    )
    context = tls(job.environ)
    processor = entry_point()

    def run() -> Stretch:
        processor.tune_garbage_collection()
        began = time.monotonic()
        with closing(SnowflakeQueue(store)) as queue:
            report = drive(processor.run(settings, queue, context, job.name, stop=asyncio.Event()))
        return Stretch(began=began, ended=began + report.seconds, entries=report.settled["completed"])

    return run
