"""The container's entry point: reads settings, builds the parts, runs until there is a reason to stop.

It exits with one of :class:`rowqueue.contract.ExitCode`. The watchdog ends a task that runs for too long with 1 (FAULT)
and logs the stacks of all threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import gc
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING

import structlog

from rowqueue import credentials, observability
from rowqueue.contract import ExitCode
from rowqueue.errors import (
    CertificateError,
    CertificateUnreadable,
    CredentialsError,
    CredentialsStop,
    LoginRefused,
    RowqueueError,
    SchemaError,
    ServiceUnreachable,
    SettingsError,
    WarehouseError,
)
from rowqueue.lifecycle import RetryPolicy
from rowqueue.observability import Event, log, log_fault, log_problem
from rowqueue.processor import certificates, service
from rowqueue.processor.identity import processor_id
from rowqueue.processor.queue import SnowflakeQueue
from rowqueue.processor.run import Processor, RunReport
from rowqueue.processor.store import ProcessorStore
from rowqueue.settings import ProcessorSettings
from rowqueue.warehouse import SnowflakeWarehouse

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping

    from rowqueue.processor.queue import Queue

_EXIT_CODES: tuple[tuple[type[RowqueueError], ExitCode], ...] = (
    (SettingsError, ExitCode.SETTINGS),
    (CredentialsError, ExitCode.SETTINGS),
    (LoginRefused, ExitCode.SETTINGS),
    (SchemaError, ExitCode.SETTINGS),
    (CertificateError, ExitCode.CERTIFICATES),
    (CredentialsStop, ExitCode.CREDENTIALS_STOP),
    (ServiceUnreachable, ExitCode.NO_ANSWER),
    (WarehouseError, ExitCode.NO_SNOWFLAKE),
    (RowqueueError, ExitCode.FAULT),
)


def main() -> ExitCode:
    """Run one processor."""
    observability.configure("processor")
    began = False
    # As PID 1 a process ignores SIGTERM unless it handles it, and a stop may be requested while this one starts.
    stopped_early = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped_early.set())
    try:
        settings = ProcessorSettings.from_env(os.environ)
        name = processor_id(settings, os.environ)
        structlog.contextvars.bind_contextvars(processor_id=name, Environment=settings.environment)
        login = credentials.login(settings.snowflake, environment=settings.environment)
        tag = f"{settings.environment}-snowflake-processor"
        with (
            contextlib.closing(SnowflakeWarehouse(settings.snowflake, login, query_tag=tag)) as warehouse,
            contextlib.closing(_for_looks(settings, login, query_tag=tag)) as looks,
        ):
            store = ProcessorStore(
                warehouse,
                queue=settings.snowflake.table,
                processor_id=name,
                max_retries=settings.max_retries,
                stale_threshold_s=settings.stale_threshold_s,
            )
            looking = ProcessorStore(
                looks, queue=settings.snowflake.table, processor_id=name, max_retries=settings.max_retries
            )
            context = _certificates(settings, store)
            warehouse.connect()
            store.require_schema()
            began = True
            faulthandler.dump_traceback_later(settings.longest_life_s, exit=True)
            tune_garbage_collection()
            with contextlib.closing(SnowflakeQueue(store, looking=looking)) as queue:
                report = asyncio.run(_run_until_stopped(settings, queue, context, name, stopped=stopped_early.is_set))
    except RowqueueError as error:
        return _failed(error, began=began)
    except Exception as fault:  # noqa: BLE001 -- a fault of this program is one line in the log, not a bare traceback
        log_fault(Event.PROCESSOR_FAILED, fault)
        return ExitCode.FAULT
    log(Event.PROCESSOR_ENDED, reason=report.reason, seconds=round(report.seconds, 3), **report.settled)
    return ExitCode.DONE


def tune_garbage_collection() -> None:
    """Collect less often: entries form no reference cycles, and the search for them took CPU (docs/performance.md)."""
    gc.set_threshold(20_000, 20, 20)
    gc.freeze()  # the imported modules stay, so the collector need not visit them


async def run(
    settings: ProcessorSettings, queue: Queue, context: ssl.SSLContext, name: str, *, stop: asyncio.Event
) -> RunReport:
    """Build the parts and run them.

    Args:
        settings: the processor's.
        queue: where entries are claimed and settled.
        context: has the client certificate.
        name: the processor's id.
        stop: set when a stop is requested.

    Raises:
        RowqueueError: see :meth:`rowqueue.processor.run.Processor.run`.
    """
    deadline = settings.entry_deadline_minutes
    policy = RetryPolicy(
        max_retries=settings.max_retries,
        backoff_s=settings.backoff_s,
        backoff_cap_s=settings.backoff_cap_s,
        deadline_s=None if deadline is None else deadline * 60,
    )
    limits = service.Limits(
        timeout_s=settings.service_timeout_s,
        max_data_characters=settings.max_data_characters,
        max_result_characters=settings.max_result_characters,
    )
    connecting = service.connect(
        context, url=settings.service_url, processor_id=name, concurrency=settings.concurrency, limits=limits
    )
    async with connecting as partner:
        processor = Processor(queue=queue, deliver=partner.deliver, policy=policy, settings=settings, stop=stop)
        return await processor.run()


def _for_looks(settings: ProcessorSettings, login: Mapping[str, object], *, query_tag: str) -> SnowflakeWarehouse:
    """A session for looks, opened by the first one. A statement of it takes no longer than a step of a tick."""
    ends = time.monotonic() + settings.longest_life_s
    return SnowflakeWarehouse(
        settings.snowflake, login, query_tag=query_tag, seconds_left=lambda: ends - time.monotonic()
    )


def _certificates(settings: ProcessorSettings, store: ProcessorStore) -> ssl.SSLContext:
    """Load the certificates. If they are unfit, place a hold, so that the poller starts no more tasks that fail."""
    try:
        return certificates.load(settings.cert_bucket, settings.environment, passphrase=settings.key_passphrase)
    except CertificateUnreadable:
        raise
    except CertificateError as error:
        try:
            store.place_hold(reason=str(error), seconds=settings.hold_s)
        except WarehouseError as failure:
            log_problem(Event.PROCESSOR_NOT_RECORDED, error=str(failure))
        raise


async def _run_until_stopped(
    settings: ProcessorSettings,
    queue: Queue,
    context: ssl.SSLContext,
    name: str,
    *,
    stopped: Callable[[], bool],
) -> RunReport:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _request_stop, stop, number)
    if stopped():
        _request_stop(stop, signal.SIGTERM)
    log(
        Event.PROCESSOR_STARTED,
        entries_per_container=settings.entries_per_container,
        concurrency=settings.concurrency,
        budget_s=settings.budget_s,
    )
    return await run(settings, queue, context, name, stop=stop)


def _request_stop(stop: asyncio.Event, number: signal.Signals) -> None:
    log(Event.STOP_REQUESTED, signal=number.name)
    stop.set()


def _failed(error: RowqueueError, *, began: bool) -> ExitCode:
    log_problem(Event.PROCESSOR_FAILED, error=str(error), kind=type(error).__name__)
    if began and isinstance(error, LoginRefused):
        # The login was accepted before, and entries may have been delivered since without a record.
        return ExitCode.NO_SNOWFLAKE
    return next(code for kind, code in _EXIT_CODES if isinstance(error, kind))


if __name__ == "__main__":
    sys.exit(main())
