"""What the live tasks are up to: starting, working, hung, or past their time. Decisions on values, nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

HUNG = "hung: no claim within BOOT_DEADLINE_SECONDS"
"""The reason of the stop. :mod:`rowqueue.poller.rescue` knows a stop of ours by these two."""
OVERDUE = "overdue: alive for longer than any processor may be"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A task as ECS knows it. Times are UTC, aware, and ``None`` where it has not come that far.

    Attributes:
        arn: its ARN.
        definition: the ARN of its task definition.
        last_status: where it is: PROVISIONING to STOPPED.
        desired_status: RUNNING or STOPPED.
        created_at: when it was requested.
        started_at: when its container started.
        stop_code: what kind of stop, e.g. EssentialContainerExited.
        stopped_reason: ECS's words for it.
        exit_code: the container's; ``None`` also where it never ran.
        period: the period of the schedule that it was launched in, as its launch says.
    """

    arn: str
    definition: str | None = None
    last_status: str = "PROVISIONING"
    desired_status: str = "RUNNING"
    created_at: datetime | None = None
    started_at: datetime | None = None
    stop_code: str | None = None
    stopped_reason: str | None = None
    exit_code: int | None = None
    period: int | None = None

    @property
    def id(self) -> str:
        """The last part of the ARN."""
        return self.arn.rsplit("/", 1)[-1]

    def is_of(self, definition: str) -> bool:
        """Whether it was started from this task definition, an ARN or a name; without a revision, from any of these."""
        if self.definition is None:
            return False
        named, wanted = (arn.rsplit("/", 1)[-1] for arn in (self.definition, definition))
        return named == wanted if ":" in wanted else named.split(":")[0] == wanted

    @property
    def begun_at(self) -> datetime | None:
        """When it started, or was requested while it has not; ``None`` if ECS says neither."""
        return self.started_at or self.created_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """The live tasks by what they are up to.

    Attributes:
        live: how many there are.
        starting: those that have not claimed yet and are young enough to be on their way.
        hung: those that have not claimed and are too old to be.
        overdue: those that claimed once and should have ended long ago.
    """

    live: int = 0
    starting: int = 0
    hung: tuple[Task, ...] = ()
    overdue: tuple[Task, ...] = ()


def survey(
    live: Sequence[Task],
    *,
    claimed: Collection[str],
    now: datetime,
    boot_deadline_s: float,
    oldest_task_s: float,
) -> Fleet:
    """Sort the live tasks.

    Args:
        live: those that ECS wants running.
        claimed: ARNs of those that have claimed, or hold entries.
        now: UTC, aware.
        boot_deadline_s: seconds from its start, or its request, within which a task claims for the first time.
        oldest_task_s: seconds from its start within which a task has ended by itself.
    """
    boot, oldest = timedelta(seconds=boot_deadline_s), timedelta(seconds=oldest_task_s)
    # A task of unknown age has only just been seen.
    aged = [(task, now - task.begun_at if task.begun_at else timedelta()) for task in live]
    return Fleet(
        live=len(live),
        starting=sum(task.arn not in claimed and age < boot for task, age in aged),
        hung=tuple(task for task, age in aged if task.arn not in claimed and age >= boot),
        overdue=tuple(task for task, age in aged if task.arn in claimed and age >= oldest),
    )
