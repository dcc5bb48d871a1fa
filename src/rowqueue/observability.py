"""Logs: one JSON object a line with a stable ``event`` name; on a terminal, the same for people."""

from __future__ import annotations

import logging
import sys
from enum import StrEnum

import structlog


class Event(StrEnum):
    """The names that log queries rely on."""

    TICK = "tick"
    TICK_FAILED = "tick_failed"
    PROCESSOR_STARTED = "processor_started"
    PROCESSOR_ENDED = "processor_ended"
    PROCESSOR_FAILED = "processor_failed"
    STOP_REQUESTED = "stop_requested"
    BLOCK_CLAIMED = "block_claimed"
    BLOCK_SETTLED = "block_settled"
    CLAIM_LOST = "claim_lost"
    WAREHOUSE_RETRY = "warehouse_retry"


def configure(service: str) -> None:
    """Send structured logs to stdout, and let libraries speak only of what is wrong.

    Args:
        service: ``poller`` or ``processor``; in every line.
    """
    pretty = sys.stdout.isatty()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.dev.ConsoleRenderer() if pretty else structlog.processors.JSONRenderer(default=str),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.bind_contextvars(service=service)
    logging.getLogger("snowflake.connector").setLevel(logging.ERROR)
    logging.getLogger("botocore").setLevel(logging.WARNING)


def log(event: Event, /, **details: object) -> None:
    """Write one line."""
    structlog.get_logger().info(event.value, **details)


def log_problem(event: Event, /, **details: object) -> None:
    """Write one line that somebody should look at."""
    structlog.get_logger().warning(event.value, **details)
