"""What the measured systems share: the payload and the form of their reports."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a worker has to do.

    Attributes:
        environ: the stack's addresses and the processor's settings, as environment variables.
        name: of this worker in this run.
        entries: how many the limit sends, because it has no queue.
        concurrency: deliveries in flight.
        data: the ``data`` of every entry.
    """

    environ: Mapping[str, str]
    name: str
    entries: int
    concurrency: int
    data: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """The time from the first claim to the last settle.

    Attributes:
        began: seconds on the monotonic clock, which the processes share.
        ended: the same.
        entries: how many were delivered.
        longest_block_s: the longest time for which the event loop ran nothing else, if that was watched.
    """

    began: float
    ended: float
    entries: int
    longest_block_s: float | None = None


def payload(service_ms: int) -> str:
    """The ``data`` of an entry, about 200 characters; the body of its delivery has 320."""
    order = {"id": "A-1700000", "currency": "EUR", "amount": "129.90", "items": [{"sku": "S-1002", "count": 2}] * 2}
    partner = {"partner": {"delay_ms": service_ms}} if service_ms else {}
    return json.dumps({"type": "order", "payload": order, **partner})
