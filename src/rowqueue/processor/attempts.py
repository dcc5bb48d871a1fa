"""Deliveries that have ended, and the attempts that the audit trail gets of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rowqueue.contract import AttemptOutcome
from rowqueue.lifecycle import (
    MAX_ERROR_MESSAGE_CHARACTERS,
    Doubted,
    Interrupted,
    Permanent,
    Status,
    Succeeded,
    Transient,
)
from rowqueue.processor.trace import trace_of
from rowqueue.sql import Attempt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rowqueue.lifecycle import Entry, Outcome, Settlement


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A delivery that has ended.

    Attributes:
        entry: as it was claimed.
        outcome: how it ended.
        began: when it was started, seconds on the run's clock; ``None`` if it never was.
        ended: when it ended, on the same clock.
    """

    entry: Entry
    outcome: Outcome
    began: float | None
    ended: float


def answer_of(outcome: Outcome) -> str | None:
    """What the service answered, if it did and the outcome keeps it."""
    return None if isinstance(outcome, Interrupted) else outcome.result


def reason_of(outcome: Outcome) -> str | None:
    """Why it is no success."""
    return None if isinstance(outcome, Succeeded) else outcome.reason


def attempts_of(deliveries: Sequence[Delivery], settlements: Sequence[Settlement], *, now: float) -> list[Attempt]:
    """The attempts of those deliveries that were started, each with what becomes of its entry.

    Args:
        deliveries: as they are settled.
        settlements: of these deliveries, in the same order.
        now: seconds, on the run's clock.
    """
    return [
        _attempt(delivery, settlement, delivery.began, now)
        for delivery, settlement in zip(deliveries, settlements, strict=True)
        if delivery.began is not None
    ]


def _attempt(delivery: Delivery, settlement: Settlement, began: float, now: float) -> Attempt:
    """An attempt. The reason is recorded once, in the words that the entry gets; a released entry keeps its own.

    The answer is recorded also where the entry does not get it.
    """
    outcome = delivery.outcome
    retried = settlement.status is Status.PENDING and not settlement.released
    message = reason_of(outcome) if settlement.released else settlement.error_message
    return Attempt(
        claim_token=settlement.claim_token,
        attempt=delivery.entry.attempt,
        outcome=_recorded(outcome),
        response_status=outcome.response_status if isinstance(outcome, Doubted) else settlement.response_status,
        status=settlement.status,
        delay_ms=round(settlement.delay_s * 1000) if retried else None,
        error_message=message and message[:MAX_ERROR_MESSAGE_CHARACTERS],
        entry_id=settlement.entry_id,
        started_ms_ago=round((now - began) * 1000),
        finished_ms_ago=round((now - delivery.ended) * 1000),
        idempotency_key=settlement.idempotency_key,
        trace_id=trace_of(delivery.entry).trace_id,
        result=answer_of(outcome),
    )


def _recorded(outcome: Outcome) -> AttemptOutcome:
    match outcome:
        case Succeeded():
            return AttemptOutcome.SUCCEEDED
        case Transient():
            return AttemptOutcome.TRANSIENT
        case Permanent():
            return AttemptOutcome.PERMANENT
        case Interrupted():
            return AttemptOutcome.INTERRUPTED
        case Doubted():
            return AttemptOutcome.DOUBTFUL
