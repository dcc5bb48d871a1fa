"""What separate processes agree on: exit codes, names, and words that one writes and another reads.

The poller launches processors and reads how they end; people and scripts read the poller's answer; SQL reads what both
record. Everything that has to be the same on both sides is declared here, once.
"""

from __future__ import annotations

import re
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Self, TypedDict

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

CONTAINER = "processor"
"""The container's name in the task definition. The overrides of a launch refer to it."""
MAX_ENTRIES = "MAX_ENTRIES"
"""Environment variable of a processor: the size of its first block."""
PROBE = "PROBE"
"""Environment variable of a processor: ``1`` makes it try a single entry after a hold."""

DEFAULT_DESTINATION = "default"
"""The destination of an entry that names none; the only one that the programs serve."""
SCHEMA_VERSION = 1
"""The version of the schema that this program was built for. It is also the program's own number: a claim compares it
with ``SCHEMA_VERSION.oldest_program``."""

OTHER_NAMES = frozenset(
    {
        "DELIVERY_ATTEMPTS",
        "ENTRY_HISTORY",
        "FAILED_ENTRIES_ANALYSIS",
        "PROCESSING_ACTIONS",
        "PROCESSING_ACTION_ENTRIES",
        "PROCESSING_ATTEMPTS",
        "PROCESSING_HOLDS",
        "PROCESSING_METRICS",
        "PROCESSING_PUSHES",
        "PROCESSING_QUEUE_INSERTS",
        "PROCESSORS",
        "PROCESSOR_PERFORMANCE",
        "QUEUE_ENTRIES",
        "QUEUE_STATUS_SUMMARY",
        "SCHEMA_VERSION",
        "STALE_ENTRIES",
    }
)
"""The tables, views and streams beside the queue. The queue has a name of its own."""

_DESTINATION = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_TASK_ID = re.compile(r"[0-9a-f]{32}")  # AWS, the long format of ECS's ARNs


class ExitCode(IntEnum):
    """How a processor ends. Any other number, for example 137 after SIGKILL, was not its own decision.

    Attributes:
        meaning: the sentence in the tables of README.md and docs/architecture.md.
    """

    meaning: str

    DONE = 0, "nothing was ready any more, a hold stands, the time budget was spent, or a stop was requested"
    FAULT = 1, "a fault of this program, or the watchdog ended a task that ran for too long"
    SETTINGS = 2, "the settings or the credentials for Snowflake are wrong, or the tables are of another version"
    CERTIFICATES = (
        3,
        "the certificates are missing, expired or unfit, and a hold is placed; or S3 fails; nothing was claimed",
    )
    CREDENTIALS_STOP = (
        4,
        "a credentials stop: mutual TLS or authorization failed; entries in hand were released, and a hold is placed",
    )
    NO_ANSWER = 5, "no delivery got an answer; each entry waits for its retry"
    NO_SNOWFLAKE = 6, "Snowflake could not be used"

    def __new__(cls, code: int, meaning: str) -> Self:
        """Make a member of its number and its sentence."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member

    @staticmethod
    def is_crash(code: int | None) -> bool:
        """Whether an exit code means that the processor crashed, possibly because of an entry it had in hand.

        Args:
            code: as ECS reports it; ``None`` if the container never ran.
        """
        return code is not None and code not in _ORDERLY

    @staticmethod
    def is_failed_launch(code: int | None) -> bool:
        """Whether another launch would meet the same fault, even if this processor had claimed entries."""
        return code in _FAILED_LAUNCH

    @staticmethod
    def counts_as_retry(code: int | None) -> bool:
        """Whether the processor may have delivered entries without recording it.

        Their release counts as a retry. Otherwise the same entries could be delivered again without end.
        """
        return code == ExitCode.NO_SNOWFLAKE


_ORDERLY = frozenset(ExitCode) - {ExitCode.FAULT}
_FAILED_LAUNCH = frozenset({ExitCode.CERTIFICATES, ExitCode.CREDENTIALS_STOP, ExitCode.NO_SNOWFLAKE})


def why_too_new(version: int | None) -> str | None:
    """Why this program cannot work with the tables; ``None`` if they are new enough.

    Args:
        version: of the tables; ``None`` if they have none.
    """
    if (version or 0) >= SCHEMA_VERSION:
        return None
    return f"this program needs version {SCHEMA_VERSION} of the tables, and they have {version or 'none'}"


def why_too_old(oldest_program: int | None) -> str | None:
    """Why the tables do not permit this program to claim; ``None`` if they do.

    Args:
        oldest_program: the number from which on programs may claim.
    """
    if (oldest_program or 0) <= SCHEMA_VERSION:
        return None
    return f"the tables permit programs from version {oldest_program} on, and this one is {SCHEMA_VERSION}"


class AttemptOutcome(StrEnum):
    """How a delivery ended: the words in ``PROCESSING_ATTEMPTS.outcome``."""

    SUCCEEDED = "succeeded"
    TRANSIENT = "transient"
    PERMANENT = "permanent"
    INTERRUPTED = "interrupted"
    """Released because of a stop of our own or a certificate fault; not counted."""
    DOUBTFUL = "doubtful"
    """Released because of a fault of credentials that the entry may not have caused; not counted."""
    CRASHED = "crashed"
    """Written by the poller: the processor crashed."""
    RESET = "reset"
    """Written by the poller: the claim was stale."""


class HoldKind(StrEnum):
    """Who placed a hold: the words in ``PROCESSING_HOLDS.kind``."""

    PERSON = "person"
    CREDENTIALS = "credentials"
    """A processor, because the service did not accept our credentials."""
    FENCE = "fence"
    """A migration, while it changes what a claim may take."""


class ProcessorEvent(StrEnum):
    """What happened to a processor: the words in ``PROCESSORS.event``."""

    FIRST_CLAIM = "first_claim"
    ENDED = "ended"


def valid_destination(name: str) -> str:
    """The same name, if it is one of a destination. It becomes part of the text of statements.

    Raises:
        ValueError: it is not.
    """
    if not _DESTINATION.fullmatch(name):
        raise ValueError(
            f"{name!r}: expected the name of a destination: 1 to 63 of a-z, 0-9, - and _, the first a letter or digit"
        )
    return name


def processor_id(environment: str, task_arn: str) -> str:
    """The name under which an ECS task claims: ``<environment>-<task id>``. It leads from a row to the task's log."""
    return f"{environment}-{task_arn.rsplit('/', 1)[-1]}"


def task_id(processor_id: str | None, environment: str) -> str | None:
    """The ECS task that claims under a name; ``None`` if the name is not of an ECS task of this environment."""
    prefix, _, name = (processor_id or "").rpartition("-")
    return name if prefix == environment and _TASK_ID.fullmatch(name) else None


class LaunchedTask(TypedDict):
    """One task in a :class:`TickAnswer`."""

    taskArn: str
    processorId: str


class HoldAnswer(TypedDict):
    """The hold in a :class:`TickAnswer`.

    Attributes:
        reason: why nothing is claimed.
        until: its end, UTC, as in 2026-11-20T12:00:00Z; ``None`` if a person has to end it. An end in the past means
            that a probe has to be answered first.
    """

    reason: str
    until: str | None


class TickAnswer(TypedDict):
    """What the function answers after a tick.

    Attributes:
        pendingEntries: pending entries with attempts left when the tick began, ready or not.
        readyEntries: entries that a claim would take; ``None`` if they were not counted, because the tick could not
            launch for them or none could be ready.
        reason: why the tick launched what it launched, or nothing.
        hold: the hold that stands or waits for its probe; ``None`` without one.
        nextDueAt: when the first pending entry becomes ready, UTC; ``None`` if there is none or it is ready.
        staleEntriesReset: stale claims that were taken away.
        entriesRescued: entries that dead tasks had in hand and that are free again.
        containersLaunched: tasks that this tick started.
        tasks: these tasks.
    """

    pendingEntries: int
    readyEntries: int | None
    reason: str
    hold: HoldAnswer | None
    nextDueAt: str | None
    staleEntriesReset: int
    entriesRescued: int
    containersLaunched: int
    tasks: list[LaunchedTask]


def tick_answer(
    *,
    environment: str,
    pending: int,
    ready: int | None,
    reason: str,
    hold: HoldAnswer | None,
    next_due_at: datetime | None,
    stale_reset: int,
    rescued: int,
    started: Iterable[str],
) -> TickAnswer:
    """Build the answer of a tick.

    Args:
        environment: names the processors.
        pending: pending entries with attempts left.
        ready: entries that a claim would take; ``None`` if they were not counted.
        reason: of the decision.
        hold: see :class:`HoldAnswer`.
        next_due_at: UTC, naive.
        stale_reset: stale claims that were taken away.
        rescued: entries that were taken from dead tasks.
        started: ARNs of the tasks that the tick started.
    """
    tasks = [LaunchedTask(taskArn=arn, processorId=processor_id(environment, arn)) for arn in started]
    return TickAnswer(
        pendingEntries=pending,
        readyEntries=ready,
        reason=reason,
        hold=hold,
        nextDueAt=None if next_due_at is None else utc_text(next_due_at),
        staleEntriesReset=stale_reset,
        entriesRescued=rescued,
        containersLaunched=len(tasks),
        tasks=tasks,
    )


def utc_text(at: datetime) -> str:
    """A naive time in UTC as ISO 8601, as in 2026-11-20T12:00:00Z."""
    return f"{at.isoformat(timespec='seconds')}Z"
