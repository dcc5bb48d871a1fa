"""What the poller reads from the tables, and what it writes about workers that died."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rowqueue.contract import SCHEMA_VERSION

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulse:
    """The state of the queue in one row of the statement ``pulse``, in the order of its columns.

    Times are UTC, naive, by Snowflake's clock. Pending entries are those of this program's destination; entries whose
    cancel was requested are only in ``cancels``.

    Attributes:
        pending: pending entries with attempts left, ready or not.
        exhausted: pending entries without: a limit was lowered, or a requeue did not reset ``retry_count``.
        earliest_available_at: when the first pending entry is or was ready.
        processing: entries that workers have claimed, of every destination.
        earliest_claimed_at: when the first of them was claimed.
        unknown: entries in a status that this program does not know.
        cancels: pending entries, of every destination, whose cancel was requested.
        unserved: pending entries of other destinations, which no program serves.
        unserved_destination: the name of one of these destinations.
        holds: holds that stand, and holds that have ended and wait for a probe.
        held_until: when the last hold ends; in the year 9999 if a person has to end it.
        hold_reason: the reason of the hold that ends last.
        hold_kind: its kind, a :class:`~rowqueue.contract.HoldKind`.
        fenced_since: when the oldest fence was placed; ``None`` without one.
        version: of the schema.
        oldest_program: programs that know only an earlier version claim nothing.
    """

    pending: int
    exhausted: int
    earliest_available_at: datetime | None
    processing: int
    earliest_claimed_at: datetime | None
    unknown: int
    cancels: int = 0
    unserved: int = 0
    unserved_destination: str | None = None
    holds: int = 0
    held_until: datetime | None = None
    hold_reason: str | None = None
    hold_kind: str | None = None
    fenced_since: datetime | None = None
    version: int | None = SCHEMA_VERSION
    oldest_program: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimant:
    """A worker that has claims.

    Attributes:
        processor_id: the worker; ``None`` if a person set rows to processing.
        entries: how many it has in hand.
        earliest_claimed_at: when it claimed the first of them; UTC, naive, by Snowflake's clock; ``None`` as above.
    """

    processor_id: str | None
    entries: int
    earliest_claimed_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """A worker that died with entries in hand.

    Attributes:
        processor_id: the worker.
        reason: a sentence.
        crashed: whether it died by itself, so that one of the entries may have been the cause.
        counted: whether the release counts as a retry, because the worker may have delivered without recording it.
        alone: whether it had a single entry in hand when it crashed.
        claimed_since: when it claimed the first of them; UTC, naive, by Snowflake's clock; ``None`` if that is unknown.
            Its attempts were recorded after that, and no others are searched.
    """

    processor_id: str
    reason: str
    crashed: bool = False
    counted: bool = False
    alone: bool = False
    claimed_since: datetime | None = None
