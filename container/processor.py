"""The container's entry point: reads settings, builds the parts, runs until there is a reason to stop.

It exits with one of :class:`rowqueue.contract.ExitCode`. The watchdog ends a task that runs for too long with 1 (FAULT)
and logs the stacks of all threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
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
    ServiceUnreachable,
    SettingsError,
    WarehouseError,
)
from rowqueue.lifecycle import RetryPolicy
from rowqueue.observability import Event, log, log_fault, log_problem
from rowqueue.processor import certificates, service
from rowqueue.processor.identity import processor_id
from rowqueue.processor.run import Processor, Report
from rowqueue.settings import ProcessorSettings
from rowqueue.store import QueueStore
from rowqueue.warehouse import SnowflakeWarehouse

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

_EXIT_CODES: tuple[tuple[type[RowqueueError], ExitCode], ...] = (
    (SettingsError, ExitCode.SETTINGS),
    (CredentialsError, ExitCode.SETTINGS),
    (LoginRefused, ExitCode.SETTINGS),
    (CertificateError, ExitCode.CERTIFICATES),
    (CredentialsStop, ExitCode.CREDENTIALS_STOP),
    (ServiceUnreachable, ExitCode.NO_ANSWER),
    (WarehouseError, ExitCode.NO_SNOWFLAKE),
    (RowqueueError, ExitCode.FAULT),
)


def main() -> ExitCode:
    """Run one processor."""
    observability.configure("processor")
    # As PID 1 a process ignores SIGTERM unless it handles it, and a stop may come while this one starts.
    early = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: early.set())
    try:
        settings = ProcessorSettings.from_env(os.environ)
        name = processor_id(settings, os.environ)
        structlog.contextvars.bind_contextvars(processor_id=name, Environment=settings.environment)
        login = credentials.login(settings.snowflake, environment=settings.environment)
        tag = f"{settings.environment}-snowflake-processor"
        with contextlib.closing(SnowflakeWarehouse(settings.snowflake, login, query_tag=tag)) as warehouse:
            queue = QueueStore(warehouse, queue=settings.snowflake.table, max_retries=settings.max_retries)
            context = _certificates(settings, queue, name)
            warehouse.connect()
            faulthandler.dump_traceback_later(settings.longest_life_s, exit=True)
            with ThreadPoolExecutor(1, thread_name_prefix="warehouse") as thread:
                report = asyncio.run(_run(settings, queue, thread, context, name, stopped=early.is_set))
    except RowqueueError as error:
        return _failed(error)
    except Exception as fault:  # noqa: BLE001 -- it belongs into the log as one line, like everything else
        log_fault(Event.PROCESSOR_FAILED, fault)
        return ExitCode.FAULT
    log(Event.PROCESSOR_ENDED, reason=report.reason, seconds=round(report.seconds, 3), **report.settled)
    return ExitCode.DONE


def _certificates(settings: ProcessorSettings, queue: QueueStore, name: str) -> ssl.SSLContext:
    """With unfit certificates no task can do anything, so a hold keeps the poller from starting one each minute."""
    try:
        return certificates.load(settings.cert_bucket, settings.environment, passphrase=settings.key_passphrase)
    except CertificateUnreadable:
        raise
    except CertificateError as error:
        try:
            queue.place_hold(reason=str(error), seconds=settings.hold_s, created_by=name)
        except WarehouseError as failure:
            log_problem(Event.PROCESSOR_NOT_RECORDED, error=str(failure))
        raise


async def _run(
    settings: ProcessorSettings,
    queue: QueueStore,
    thread: ThreadPoolExecutor,
    context: ssl.SSLContext,
    name: str,
    *,
    stopped: Callable[[], bool],
) -> Report:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _request_stop, stop, number)
    if stopped():
        _request_stop(stop, signal.SIGTERM)
    deadline = settings.entry_deadline_minutes
    policy = RetryPolicy(
        max_retries=settings.max_retries,
        backoff_s=settings.backoff_s,
        backoff_cap_s=settings.backoff_cap_s,
        deadline_s=None if deadline is None else deadline * 60,
    )
    log(
        Event.PROCESSOR_STARTED,
        block=settings.max_entries,
        concurrency=settings.concurrency,
        budget_s=settings.budget_s,
    )
    async with service.connect(
        context,
        url=settings.service_url,
        processor_id=name,
        concurrency=settings.concurrency,
        limits=service.Limits(
            timeout_s=settings.service_timeout_s,
            max_data_characters=settings.max_data_characters,
            max_result_characters=settings.max_result_characters,
        ),
    ) as partner:
        return await Processor(
            queue=queue,
            deliver=partner.deliver,
            policy=policy,
            settings=settings,
            processor_id=name,
            thread=thread,
            stop=stop,
        ).run()


def _request_stop(stop: asyncio.Event, number: signal.Signals) -> None:
    log(Event.STOP_REQUESTED, signal=number.name)
    stop.set()


def _failed(error: RowqueueError) -> ExitCode:
    log_problem(Event.PROCESSOR_FAILED, error=str(error), kind=type(error).__name__)
    return next(code for kind, code in _EXIT_CODES if isinstance(error, kind))


if __name__ == "__main__":
    sys.exit(main())
