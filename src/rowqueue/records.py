"""What goes to the tables and comes from them, as values: no statement and no driver in sight."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from rowqueue.lifecycle import Settlement


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulse:
    """What one glance at the queue shows. Times are UTC, naive, by Snowflake's clock.

    Attributes:
        pending: entries that wait, ready or not, and have attempts left.
        exhausted: pending entries without: a limit was lowered, or a requeue forgot ``retry_count``.
        earliest_available_at: when the first of them is or was ready.
        processing: entries that workers hold.
        earliest_claimed_at: when the first of them was claimed.
        unknown: entries in a status that is none of ours.
        holds: reasons not to claim, also those that have ended and await a probe.
        held_until: when the last of them ends; far away if a person has to end it.
        hold_reason: one of the reasons.
    """

    pending: int
    exhausted: int
    earliest_available_at: datetime | None
    processing: int
    earliest_claimed_at: datetime | None
    unknown: int
    holds: int = 0
    held_until: datetime | None = None
    hold_reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """What claims would take now.

    Attributes:
        entries: how many.
        suspects: how many of them a worker has died on; only a worker that holds nothing gets one of these.
    """

    entries: int
    suspects: int = 0

    def for_worker(self, *, holds_nothing: bool) -> int:
        """How many a worker could get."""
        return self.entries if holds_nothing else self.entries - self.suspects


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who holds claims.

    Attributes:
        processor_id: the worker; ``None`` if somebody set a row to processing by hand.
        entries: how many it holds.
        earliest_claimed_at: when it claimed the first of them; UTC, naive, by Snowflake's clock; ``None`` as above.
    """

    processor_id: str | None
    entries: int
    earliest_claimed_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """A worker that is gone while it holds claims.

    Attributes:
        processor_id: the worker.
        reason: for people.
        crashed: whether it died by itself, so that what it held may have been the cause.
        counted: whether the release counts as a retry, as a reset does: it may have delivered and could not record it.
        alone: whether it then held a single entry.
    """

    processor_id: str
    reason: str
    crashed: bool = False
    counted: bool = False
    alone: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One delivery that was started, for the audit trail.

    Attributes:
        entry_id: the entry.
        claim_token: the claim it was made under.
        attempt: its number, from 1.
        outcome: ``succeeded``, ``transient``, ``permanent`` or ``interrupted``.
        started_ms_ago: milliseconds since it was started.
        finished_ms_ago: milliseconds since it ended.
        response_status: the HTTP status, if there was an answer.
        error_message: why it failed, if it did.
    """

    entry_id: int
    claim_token: str
    attempt: int
    outcome: str
    started_ms_ago: int
    finished_ms_ago: int
    response_status: int | None = None
    error_message: str | None = None


_as_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def as_json(value: object) -> str:
    """As it is bound: neither escaped nor spaced, so that it takes no more bytes than it has to."""
    return _as_json(value)


def as_table(rows: Iterable[Mapping[str, object]]) -> str:
    """Many rows as they are bound: by position, for their names would be most of what is sent."""
    return _as_json([list(row.values()) for row in rows])


def settlement_row(settlement: Settlement) -> dict[str, object]:
    """In the order in which the statement ``settle`` reads it."""
    return {
        "entry_id": settlement.entry_id,
        "claim_token": settlement.claim_token,
        "status": settlement.status.value,
        "counted": int(settlement.counted),
        "released": int(settlement.released),
        "delay_ms": round(settlement.delay_s * 1000),
        "response_status": settlement.response_status,
        "result": storable(settlement.result),
        "error_message": storable(settlement.error_message),
    }


def attempt_row(attempt: Attempt) -> dict[str, object]:
    """In the order in which the statement ``insert_attempts`` reads it.

    What most rows have in common stands together: the driver compresses what it sends, and does so in half the time.
    """
    return {
        "claim_token": attempt.claim_token,
        "attempt": attempt.attempt,
        "outcome": attempt.outcome,
        "response_status": attempt.response_status,
        "error_message": storable(attempt.error_message),
        "entry_id": attempt.entry_id,
        "started_ms_ago": attempt.started_ms_ago,
        "finished_ms_ago": attempt.finished_ms_ago,
    }


def death_row(death: Death) -> dict[str, object]:
    """As the statements about deaths read it."""
    return {
        "processor_id": death.processor_id,
        "reason": storable(death.reason),
        "crashed": int(death.crashed),
        "counted": int(death.counted),
    }


def storable(value: str | None) -> str | None:
    """What a service sent may hold what no VARCHAR takes: NUL and lone surrogates become U+FFFD."""
    if value is None or (value.isascii() and "\0" not in value):
        return value
    return value.replace("\0", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
