"""The Lambda's entry point (``index.handler``): reads settings, builds the parts, runs one tick."""

from __future__ import annotations

import json
import os
import time
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

from rowqueue import credentials, observability
from rowqueue.errors import EventError, RowqueueError
from rowqueue.observability import Event, Metric, embedded, log_problem
from rowqueue.poller import fargate
from rowqueue.poller.poll import Report, poll
from rowqueue.settings import TICK_DEADLINE_S, PollerSettings
from rowqueue.store import QueueStore
from rowqueue.warehouse import SnowflakeWarehouse

_PATIENCE_S = 10
"""The poller waits for the lock and the network no longer than this: the next tick is the better retry."""

observability.configure("poller", environment=os.environ.get("ENVIRONMENT", "unknown"))


def handler(event: Any, context: object) -> dict[str, Any]:
    """Run one tick.

    Args:
        event: an empty object: the schedule's or a person's. Anything else is refused, so that a trigger which is
            wired wrongly shows.
        context: Lambda's; not needed.

    Returns:
        ``{"statusCode": 200, "body": "<JSON>"}``; the body holds ``pendingEntries`` (ready to be claimed),
        ``staleEntriesReset``, ``containersLaunched`` and ``tasks`` (``taskArn`` and ``processorId`` of each).

    Raises:
        RowqueueError: the tick could not be completed. Raised, not answered: the alarm looks at Lambda's errors.
    """
    del context
    try:
        if event not in ({}, None):
            raise EventError(f"expected an empty event {{}}, got {_described(event)}")
        settings = PollerSettings.from_env(os.environ)
        report = _tick(settings)
    except RowqueueError as error:
        failed = embedded({Metric.TICKS_FAILED: 1})
        log_problem(Event.TICK_FAILED, error=str(error), kind=type(error).__name__, **failed)
        raise
    return {"statusCode": 200, "body": json.dumps(_answer(report, settings))}


def _described(event: Any) -> str:
    """An event by its outline: its values may be anything, and are not for the log."""
    if isinstance(event, dict):
        return f"an object with {', '.join(sorted(map(str, event))[:5])}"
    return f"a {type(event).__name__}"


def _tick(settings: PollerSettings) -> Report:
    deadline = time.monotonic() + TICK_DEADLINE_S
    login = credentials.login(settings.snowflake, environment=settings.environment)
    tag = f"{settings.environment}-snowflake-poller"
    warehouse = SnowflakeWarehouse(
        settings.snowflake, login, query_tag=tag, lock_patience_s=_PATIENCE_S, network_patience_s=_PATIENCE_S
    )
    with closing(warehouse):
        queue = QueueStore(warehouse, queue=settings.snowflake.table, max_retries=settings.max_retries)
        return poll(
            queue,
            fargate.connect(settings),
            settings,
            now=datetime.now(UTC),
            seconds_left=lambda: deadline - time.monotonic(),
        )


def _answer(report: Report, settings: PollerSettings) -> dict[str, Any]:
    return {
        "pendingEntries": report.ready,
        "staleEntriesReset": report.stale_reset,
        "containersLaunched": len(report.launched),
        "tasks": [
            {"taskArn": arn, "processorId": fargate.processor_id(settings.environment, arn)} for arn in report.launched
        ],
    }
