"""The plan of a storm: which entries arrive and which faults happen, and when. It is a pure function of the seed."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

FAULTS_A_MINUTE = 45
"""Planned ones. Some have no effect, such as a cut while nothing is sent, and are not counted."""
BY_A_PERSON = "stopped by a person"
"""The reason that a StopTask of the storm gives."""
_LAST_FAULT = 0.95
"""The part of the time in which faults begin, so that the last ones last for a moment."""
_LEAST_ENTRIES = 5_000
_ENTRIES_A_MINUTE = 1_000
_SECONDS_BETWEEN_BATCHES = 4.0
_LATEST_SCHEDULED_S = 10.0


class FaultKind(StrEnum):
    """The kinds of faults."""

    KILL = "kill"
    """SIGKILL of a task's program."""
    KILL_BEFORE_SETTLE = "kill_before_settle"
    """SIGKILL of a program that has recorded attempts and sends their settle; the settle does not arrive."""
    KILL_AFTER_SETTLE = "kill_after_settle"
    """The same, but the settle arrives."""
    FREEZE = "freeze"
    """SIGSTOP, and SIGCONT some seconds later."""
    FREEZE_UNTIL_STOPPED = "freeze_until_stopped"
    """SIGSTOP, until the poller stops the task."""
    FROZEN_START = "frozen_start"
    """Tasks that freeze as soon as they run."""
    SPOT_NOTICE = "spot_notice"
    STOP_TASK = "stop_task"
    """StopTask by a person."""
    SLOW_START = "slow_start"
    RUN_TASK_THROTTLED = "run_task_throttled"
    RUN_TASK_ANSWER_LOST = "run_task_answer_lost"
    """Tasks are launched, but the answer is an error."""
    NO_CAPACITY = "no_capacity"
    PARTLY_PLACED = "partly_placed"
    LIST_TASKS_REFUSED = "list_tasks_refused"
    LIST_TASKS_LAG = "list_tasks_lag"
    DESCRIBE_TASKS_REFUSED = "describe_tasks_refused"
    STOP_TASK_REFUSED = "stop_task_refused"
    EVENTS_LOST = "events_lost"
    EVENTS_DOUBLED = "events_doubled"
    EVENTS_LATE = "events_late"
    CERTIFICATE_AWAY = "certificate_away"
    """The client certificate is deleted from S3, and put back."""
    S3_AWAY = "s3_away"
    CLAIM_CUT_BEFORE = "claim_cut_before"
    """The connection to Snowflake is cut before the statement arrives."""
    CLAIM_CUT_AFTER = "claim_cut_after"
    """It is cut after the statement has committed."""
    ATTEMPTS_CUT_BEFORE = "attempts_cut_before"
    ATTEMPTS_CUT_AFTER = "attempts_cut_after"
    SETTLE_CUT_BEFORE = "settle_cut_before"
    SETTLE_CUT_AFTER = "settle_cut_after"
    RESCUE_CUT_BEFORE = "rescue_cut_before"
    RESCUE_CUT_AFTER = "rescue_cut_after"
    SNOWFLAKE_AWAY = "snowflake_away"
    SESSIONS_LOST = "sessions_lost"
    """Snowflake does not know the sessions any more."""
    LOGIN_REFUSED = "login_refused"
    """The same, and it refuses every login."""
    NEW_REVISION = "new_revision"
    """A new revision of the task definition is deployed."""
    LAMBDA_THROTTLED = "lambda_throttled"
    LAMBDA_TIMED_OUT = "lambda_timed_out"
    PUSH_DOUBLED = "push_doubled"


_DURATIONS: Mapping[FaultKind, tuple[float, float]] = {
    FaultKind.FREEZE: (0.5, 6.0),
    FaultKind.SLOW_START: (2.0, 5.0),
    FaultKind.LIST_TASKS_LAG: (4.0, 10.0),
    FaultKind.EVENTS_LOST: (3.0, 8.0),
    FaultKind.EVENTS_DOUBLED: (3.0, 8.0),
    FaultKind.EVENTS_LATE: (3.0, 8.0),
    FaultKind.CERTIFICATE_AWAY: (3.0, 6.0),
    FaultKind.PUSH_DOUBLED: (3.0, 8.0),
    FaultKind.KILL_BEFORE_SETTLE: (8.0, 8.0),
    FaultKind.KILL_AFTER_SETTLE: (8.0, 8.0),
    FaultKind.FROZEN_START: (1.0, 3.0),
    # A tick that ends while it has the lease delays all launches until the lease expires.
    FaultKind.LAMBDA_TIMED_OUT: (0.5, 1.5),
    FaultKind.RESCUE_CUT_BEFORE: (4.0, 10.0),
    FaultKind.RESCUE_CUT_AFTER: (4.0, 10.0),
}
_USUAL_DURATION = (1.0, 5.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedFault:
    """One fault.

    Attributes:
        at_s: when it begins, seconds since the storm began.
        lasts_s: how long it lasts, seconds; some kinds happen at once.
        pick: chooses a task where several could be hit; from 0 to 1.
    """

    at_s: float
    kind: FaultKind
    lasts_s: float
    pick: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedEntry:
    """One entry.

    Attributes:
        key: its idempotency key.
        priority: as in the table.
        after_s: from its INSERT until it is ready, seconds.
        behaviour: what it asks of the partner.
    """

    key: str
    priority: int
    after_s: float
    behaviour: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedBatch:
    """Entries that are inserted together.

    Attributes:
        at_s: when, seconds since the storm began.
    """

    at_s: float
    entries: tuple[PlannedEntry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StormPlan:
    """The whole storm.

    Attributes:
        faults: in the order of their beginnings.
        batches: in the order of their INSERTs.
    """

    seed: int
    minutes: float
    faults: tuple[PlannedFault, ...] = field(repr=False)
    batches: tuple[PlannedBatch, ...] = field(repr=False)

    @property
    def entries(self) -> int:
        """The number of entries."""
        return sum(len(batch.entries) for batch in self.batches)


def plan(seed: int, minutes: float) -> StormPlan:
    """Plan a storm.

    Args:
        seed: the same seed and the same minutes make the same plan.
        minutes: how long faults happen. A storm of less than a minute has fewer than 5,000 entries.
    """
    seconds = minutes * 60
    return StormPlan(
        seed=seed,
        minutes=minutes,
        faults=tuple(_faults(random.Random(f"{seed} faults"), seconds)),  # noqa: S311 -- no secret
        batches=tuple(_batches(random.Random(f"{seed} entries"), seed, seconds)),  # noqa: S311
    )


def _faults(chance: random.Random, seconds: float) -> Iterator[PlannedFault]:
    """Faults in rounds. A round has every kind once, so that a storm of some minutes meets all of them."""
    at_s, between_s = 0.0, 60 / FAULTS_A_MINUTE
    round_: list[FaultKind] = []
    while (at_s := at_s + between_s * chance.uniform(0.5, 1.5)) < seconds * _LAST_FAULT:
        if not round_:
            round_ = list(FaultKind)
            chance.shuffle(round_)
        kind = round_.pop()
        duration = chance.uniform(*_DURATIONS.get(kind, _USUAL_DURATION))
        yield PlannedFault(at_s=at_s, kind=kind, lasts_s=min(duration, seconds - at_s), pick=chance.random())


def _batches(chance: random.Random, seed: int, seconds: float) -> Iterator[PlannedBatch]:
    """Entries in batches of different sizes. The first comes at once, the last after nine tenths of the time."""
    minutes = seconds / 60
    entries = round(max(_ENTRIES_A_MINUTE * minutes, _LEAST_ENTRIES * min(1.0, minutes)))
    count = max(1, int(seconds * 0.9 / _SECONDS_BETWEEN_BATCHES))
    cuts = [0, *sorted(chance.randrange(entries + 1) for _ in range(count - 1)), entries]
    for number, (first, end) in enumerate(pairwise(cuts)):
        made = tuple(_entry(chance, f"storm-{seed}-{n}", seconds) for n in range(first, end))
        yield PlannedBatch(at_s=number * _SECONDS_BETWEEN_BATCHES, entries=made)


def _entry(chance: random.Random, key: str, seconds: float) -> PlannedEntry:
    latest_s = min(_LATEST_SCHEDULED_S, seconds / 4)
    return PlannedEntry(
        key=key,
        priority=chance.choice((0, 0, 0, 5, 10)),
        after_s=chance.uniform(0, latest_s) if chance.random() < 0.1 else 0.0,  # noqa: PLR2004
        behaviour=_behaviour(chance),
    )


def _behaviour(chance: random.Random) -> dict[str, Any]:
    """Nine of ten are answered 200, some of these late; the others meet a fault, most of them once."""
    drawn = chance.random()
    if drawn < 0.70:  # noqa: PLR2004
        return {"delay_ms": chance.randrange(20, 200)}
    if drawn < 0.90:  # noqa: PLR2004
        return {"delay_ms": chance.randrange(200, 1500)}
    return chance.choice(
        (
            {"status": 500, "first": 1},
            {"status": 503, "first": 2, "delay_ms": 100},
            {"status": 429, "retry_after": 1, "first": 1},
            {"hang_up": True, "first": 1},
            {"status": 503},
            {"status": 400},
            {"status": 422, "delay_ms": 300},
            {"delay_ms": 3000, "body": "cut"},
        )
    )
