"""Finished deliveries as they are written back: in batches, with their attempts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rowqueue.lifecycle import MAX_ERROR_MESSAGE_CHARACTERS, Interrupted, Permanent, Succeeded, Transient
from rowqueue.records import Attempt, as_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rowqueue.lifecycle import Entry, Outcome

MAX_FLUSH_BYTES = 900_000
"""Of JSON in one statement. Snowflake advises at most 1 MB, binds included ("Limits on Query Text Size")."""
_OVERHEAD_BYTES = 150
"""What an outcome takes in either statement beside the two texts, generously: 80 with an id of six digits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """An entry whose delivery has ended.

    Attributes:
        entry: as it was claimed.
        outcome: how it ended.
        began: when its delivery was started, seconds on the run's clock; ``None`` if it never was.
        ended: when it ended, on the same clock.
    """

    entry: Entry
    outcome: Outcome
    began: float | None
    ended: float


def flushes(finished: Sequence[Finished]) -> Iterator[list[Finished]]:
    """Cut what is to be written into batches that fit into one statement each."""
    batch: list[Finished] = []
    size = 0
    for item in finished:
        grows_by = _bytes(item.outcome)
        if batch and size + grows_by > MAX_FLUSH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += grows_by
    if batch:
        yield batch


def _bytes(outcome: Outcome) -> int:
    """What the outcome takes as JSON."""
    match outcome:
        case Succeeded(result=result):
            texts = [result]
        case Transient(result=result, reason=reason) | Permanent(result=result, reason=reason):
            texts = [result, reason[:MAX_ERROR_MESSAGE_CHARACTERS]]
        case Interrupted(reason=reason):
            texts = [reason]
    return _OVERHEAD_BYTES + sum(len(as_json(text).encode("utf-8", "replace")) for text in texts if text)


def attempts_of(finished: Sequence[Finished], *, now: float) -> list[Attempt]:
    """The audit trail of those that were started.

    Args:
        finished: as it is settled.
        now: seconds, on the run's clock.
    """
    return [_attempt(item, item.began, now) for item in finished if item.began is not None]


def _attempt(item: Finished, began: float, now: float) -> Attempt:
    name, status, error = _told(item.outcome)
    return Attempt(
        entry_id=item.entry.id,
        claim_token=item.entry.claim_token,
        attempt=item.entry.attempt,
        outcome=name,
        started_ms_ago=round((now - began) * 1000),
        finished_ms_ago=round((now - item.ended) * 1000),
        response_status=status,
        error_message=None if error is None else error[:MAX_ERROR_MESSAGE_CHARACTERS],
    )


def _told(outcome: Outcome) -> tuple[str, int | None, str | None]:
    match outcome:
        case Succeeded(response_status=status):
            return "succeeded", status, None
        case Transient(response_status=status, reason=reason):
            return "transient", status, reason
        case Permanent(response_status=status, reason=reason):
            return "permanent", status, reason
        case Interrupted(reason=reason):
            return "interrupted", None, reason
