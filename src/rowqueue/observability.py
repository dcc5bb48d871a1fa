"""Logs and metrics: one JSON object per line with a stable ``event`` name; on a terminal, a readable line.

A line may have metrics in CloudWatch's embedded metric format, so that nothing but the log is sent.
"""

from __future__ import annotations

import logging
import sys
import time
from enum import StrEnum
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Mapping

    from structlog.typing import EventDict, Processor

NAMESPACE = "SnowflakeProcessor"


class Event(StrEnum):
    """The names of log lines. Log queries depend on them."""

    TICK = "tick"
    TICK_FAILED = "tick_failed"
    TASK_STOPPED = "task_stopped"
    CLAIMS_RESCUED = "claims_rescued"
    CLEANING_FAILED = "cleaning_failed"
    TASK_NOT_STOPPED = "task_not_stopped"
    PROCESSOR_STARTED = "processor_started"
    PROCESSOR_ENDED = "processor_ended"
    PROCESSOR_FAILED = "processor_failed"
    STOP_REQUESTED = "stop_requested"
    BLOCK_CLAIMED = "block_claimed"
    BLOCK_SETTLED = "block_settled"
    CLAIM_LOST = "claim_lost"
    DUPLICATE_IDS = "duplicate_ids"
    CERTIFICATE_CHECKED = "certificate_checked"
    CREDENTIALS_STOP = "credentials_stop"
    HOLDS_LIFTED = "holds_lifted"
    HOLD_SEEN = "hold_seen"
    ENTRIES_CANCELLED = "entries_cancelled"
    LOOK_FAILED = "look_failed"
    DELIVERY_FAULT = "delivery_fault"
    OUTCOME_UNSTORABLE = "outcome_unstorable"
    PROCESSOR_NOT_RECORDED = "processor_not_recorded"
    WAREHOUSE_RETRY = "warehouse_retry"


class Metric(StrEnum):
    """Every metric, each with the dimension ``Environment``."""

    ENTRIES_COMPLETED = "EntriesCompleted"
    ENTRIES_FAILED = "EntriesFailed"
    ENTRIES_RETRIED = "EntriesRetried"
    ENTRIES_RELEASED = "EntriesReleased"
    DELIVERY_MILLISECONDS = "DeliveryMilliseconds"
    CLAIMS_LOST = "ClaimsLost"
    DUPLICATE_IDS = "DuplicateIds"
    """Ids that more than one row of a claim had."""
    CERTIFICATE_DAYS_LEFT = "CertificateDaysLeft"
    CREDENTIALS_STOPS = "CredentialsStops"
    TICKS_COMPLETED = "TicksCompleted"
    """The heartbeat."""
    TICKS_FAILED = "TicksFailed"
    ENTRIES_PENDING = "EntriesPending"
    ENTRIES_PROCESSING = "EntriesProcessing"
    ENTRIES_READY = "EntriesReady"
    ENTRIES_UNKNOWN_STATUS = "EntriesUnknownStatus"
    ENTRIES_EXHAUSTED = "EntriesExhausted"
    OLDEST_READY_SECONDS = "OldestReadySeconds"
    STALE_ENTRIES_RESET = "StaleEntriesReset"
    HOLDS = "Holds"
    FENCE_SECONDS = "FenceSeconds"
    """How long a migration's fence has been standing; 0 without one."""
    TASKS_LIVE = "TasksLive"
    TASKS_STARTING = "TasksStarting"
    TASKS_LAUNCHED = "TasksLaunched"
    LAUNCH_FAILURES = "LaunchFailures"
    BOOT_FAILURES = "BootFailures"
    TASKS_HUNG = "TasksHung"
    TASKS_STOPPED = "TasksStopped"
    TASKS_DIED = "TasksDied"
    ENTRIES_RESCUED = "EntriesRescued"
    ENTRIES_POISONED = "EntriesPoisoned"


_UNITS = {
    Metric.DELIVERY_MILLISECONDS: "Milliseconds",
    Metric.OLDEST_READY_SECONDS: "Seconds",
    Metric.FENCE_SECONDS: "Seconds",
}
_MOST_VALUES = 100  # of one metric in one line (CloudWatch, embedded metric format specification)


def configure(service: str, *, environment: str | None = None) -> None:
    """Send structured logs to stdout. Libraries log only problems.

    Args:
        service: ``poller`` or ``processor``; in every line.
        environment: in every line, if it is known already; metrics need it.
    """
    rendering: list[Processor]
    if sys.stdout.isatty():
        plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        rendering = [_without_embedding, plain]
    else:
        # No local variables: a password or an entry's data may be among them.
        stacks = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        rendering = [structlog.processors.ExceptionRenderer(stacks), structlog.processors.JSONRenderer(default=str)]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *rendering,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.bind_contextvars(service=service)
    if environment is not None:
        structlog.contextvars.bind_contextvars(Environment=environment)
    logging.getLogger("snowflake.connector").setLevel(logging.ERROR)
    logging.getLogger("botocore").setLevel(logging.WARNING)


def _without_embedding(_logger: object, _name: str, line: EventDict) -> EventDict:
    """On a terminal, leave out CloudWatch's declaration of the metrics. Their values stay."""
    line.pop("_aws", None)
    return line


def log(event: Event, /, **details: object) -> None:
    """Write one line."""
    structlog.get_logger().info(event.value, **details)


def log_problem(event: Event, /, **details: object) -> None:
    """Write one line about a problem."""
    structlog.get_logger().warning(event.value, **details)


def log_fault(event: Event, fault: BaseException, /, **details: object) -> None:
    """Write one line about a fault of this program, with its stack. It reads files: do not call it on an event loop."""
    structlog.get_logger().error(event.value, exc_info=fault, **details)


def embedded(metrics: Mapping[Metric, float | list[float]], *, now: float | None = None) -> dict[str, object]:
    """Metrics as fields of a log line.

    Args:
        metrics: one value or several values each. Of more than 100, an even selection is kept.
        now: seconds since the epoch.
    """
    declared = [{"Name": metric.value, "Unit": _UNITS.get(metric, "Count")} for metric in metrics]
    about = {"Namespace": NAMESPACE, "Dimensions": [["Environment"]], "Metrics": declared}
    timestamp = int((time.time() if now is None else now) * 1000)
    values = {metric.value: _selected(value) for metric, value in metrics.items()}
    return {"_aws": {"Timestamp": timestamp, "CloudWatchMetrics": [about]}, **values}


def _selected(value: float | list[float]) -> float | list[float]:
    if not isinstance(value, list) or len(value) <= _MOST_VALUES:
        return value
    ordered = sorted(value)
    return [ordered[index * len(ordered) // _MOST_VALUES] for index in range(_MOST_VALUES)]
