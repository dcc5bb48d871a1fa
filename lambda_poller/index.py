"""The Lambda's entry point (``index.handler``): reads the settings, builds the parts and calls them."""

from __future__ import annotations

import json
import os
import time
import uuid
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rowqueue import credentials, observability
from rowqueue.errors import RowqueueError
from rowqueue.observability import Event, Metric, embedded, log_problem
from rowqueue.poller import fargate, lease
from rowqueue.poller.queue import PollerQueue
from rowqueue.poller.report import answer_of
from rowqueue.poller.tick import Poller
from rowqueue.poller.triggers import Refusal, TaskStopped, Tick, trigger_of
from rowqueue.settings import TICK_DEADLINE_S, PollerSettings
from rowqueue.warehouse import SnowflakeWarehouse

if TYPE_CHECKING:
    from rowqueue.poller.report import TickReport

observability.configure("poller", environment=os.environ.get("ENVIRONMENT", "unknown"))


def handler(event: Any, context: object) -> dict[str, Any]:
    """Run one tick, or react to a task that has stopped.

    Args:
        event: an empty object (the schedule's or a person's), an SNS notification (a push), a signed ``POST /trigger``
            to the function's URL, or an "ECS Task State Change". Anything else is refused, so that a trigger that is
            configured wrongly becomes visible.
        context: Lambda's; not used.

    Returns:
        ``{"statusCode": 200, "body": "<JSON>"}``; the body is a :class:`rowqueue.contract.TickAnswer`, or
        ``{}`` after a stop that left nothing to do. Another status if a request to the URL is refused.

    Raises:
        RowqueueError: the tick could not be completed. It is raised because the alarm counts Lambda's errors.
    """
    del context
    try:
        trigger = trigger_of(event)
        if isinstance(trigger, Refusal):
            return {"statusCode": trigger.status, "body": json.dumps({"message": trigger.message})}
        settings = PollerSettings.from_env(os.environ)
        report = _run(trigger, settings)
    except RowqueueError as error:
        failed = embedded({Metric.TICKS_FAILED: 1})
        log_problem(Event.TICK_FAILED, error=str(error), kind=type(error).__name__, **failed)
        raise
    return {
        "statusCode": 200,
        "body": json.dumps(answer_of(report, environment=settings.environment) if report else {}),
    }


def _run(trigger: Tick | TaskStopped, settings: PollerSettings) -> TickReport | None:
    deadline = time.monotonic() + TICK_DEADLINE_S

    def seconds_left() -> float:
        return deadline - time.monotonic()

    login = credentials.login(settings.snowflake, environment=settings.environment, seconds_left=seconds_left)
    tag = f"{settings.environment}-snowflake-poller"
    with closing(SnowflakeWarehouse(settings.snowflake, login, query_tag=tag, seconds_left=seconds_left)) as warehouse:
        poller = Poller(
            queue=PollerQueue(warehouse, queue=settings.snowflake.table, max_retries=settings.max_retries),
            tasks=fargate.connect(settings, seconds_left=seconds_left),
            lease=lease.for_tick(settings, tick=uuid.uuid4().hex, seconds_left=seconds_left),
            settings=settings,
            now=datetime.now(UTC),
            seconds_left=seconds_left,
        )
        return poller.tick(by=trigger.by) if isinstance(trigger, Tick) else poller.attend(trigger.task_arn)
