"""The tasks: what they are, and which of them are starting, working, hung or overdue. Decisions on values only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime

LARGEST_LAUNCH = 10
"""Tasks in one RunTask request (AWS, RunTask.count)."""
KNOWN_WITHIN = timedelta(minutes=5)
"""A launched task that ECS does not know after this time does not exist. ECS lags by seconds; AWS states no bound."""
HUNG = "hung: no claim within BOOT_DEADLINE_SECONDS"
"""A reason that the poller gives when it stops a task. It recognizes the task by it later."""
OVERDUE = "overdue: alive for longer than any processor may be"
"""The other reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A task as ECS describes it. Times are UTC, aware; ``None`` if the task has not reached that point.

    Attributes:
        arn: its ARN.
        definition: the ARN of its task definition.
        last_status: its state, from PROVISIONING to STOPPED.
        desired_status: RUNNING or STOPPED.
        created_at: when it was requested.
        started_at: when its container started.
        stop_code: the kind of stop, for example EssentialContainerExited.
        stopped_reason: ECS's description of the stop.
        exit_code: the container's; ``None`` also if it never ran.
        provider: its capacity provider, for example FARGATE_SPOT; ``None`` if it was launched without one.
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
    provider: str | None = None

    @property
    def id(self) -> str:
        """The last part of the ARN."""
        return self.arn.rsplit("/", 1)[-1]

    @property
    def begun_at(self) -> datetime | None:
        """When it started, or was requested if it has not started; ``None`` if ECS reports neither."""
        return self.started_at or self.created_at

    @property
    def has_stopped(self) -> bool:
        """Whether nothing of it is left."""
        return self.last_status == "STOPPED"

    @property
    def has_failed_to_start(self) -> bool:
        """Whether RunTask accepted it and it never ran."""
        return self.stop_code == "TaskFailedToStart"

    @property
    def is_wanted(self) -> bool:
        """Whether ECS wants it running. Otherwise it has stopped or is stopping."""
        return self.desired_status == "RUNNING"

    @property
    def ending(self) -> str:
        """How it ended, for people: stop code, exit code and ECS's reason."""
        exited = None if self.exit_code is None else f"exit code {self.exit_code}"
        return ", ".join(part for part in (self.stop_code, exited, self.stopped_reason) if part) or "no reason given"

    def is_of(self, definition: str) -> bool:
        """Whether it was started from this task definition.

        Args:
            definition: an ARN or a name; without a revision it stands for all revisions.
        """
        if self.definition is None:
            return False
        named, wanted = (arn.rsplit("/", 1)[-1] for arn in (self.definition, definition))
        return named == wanted if ":" in wanted else named.split(":")[0] == wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRequest:
    """What one RunTask asks for.

    Attributes:
        token: ECS never starts anything twice for the same token, so the request can be repeated.
        count: tasks to start, at most ten.
        probe: whether the task tries a single entry after a hold.
        on_demand: whether the tasks run on demand, whatever the share of Spot.
    """

    token: str
    count: int
    probe: bool = False
    on_demand: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """The live tasks, sorted.

    Attributes:
        live: number of all of them.
        starting: number of those that have not claimed yet and are younger than the boot deadline.
        hung: those that have not claimed and are older.
        overdue: those that have claimed and should have ended long ago.
    """

    live: int = 0
    starting: int = 0
    hung: tuple[Task, ...] = ()
    overdue: tuple[Task, ...] = ()

    @property
    def unclaimed(self) -> int:
        """Number of tasks that have not claimed, hung ones included."""
        return self.starting + len(self.hung)


def unlisted(
    launched: Mapping[str, datetime], *, listed: Collection[str], described: Mapping[str, Task], now: datetime
) -> tuple[Task, ...]:
    """The launched tasks that ListTasks does not show, and that have not stopped as far as ECS knows.

    Args:
        launched: ARNs of launched tasks, each with the time of its launch.
        listed: ARNs of the tasks that ListTasks shows.
        described: by id, what DescribeTasks knows of the others.
        now: UTC, aware.
    """
    found = []
    for arn, at in launched.items():
        if arn not in listed:
            task = described.get(arn.rsplit("/", 1)[-1])
            if task is None and now - at < KNOWN_WITHIN:
                found.append(Task(arn=arn))
            elif task is not None and not task.has_stopped:
                found.append(task)
    return tuple(found)


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
        claimed: ARNs of those that have claimed, or have entries in hand.
        now: UTC, aware.
        boot_deadline_s: seconds within which a task makes its first claim, from its start or else its request.
        oldest_task_s: seconds within which a task ends by itself, from its start.
    """
    boot, oldest = timedelta(seconds=boot_deadline_s), timedelta(seconds=oldest_task_s)
    # A task of unknown age was created a moment ago: ECS lists it, but cannot describe it yet.
    aged = [(task, now - task.begun_at if task.begun_at else timedelta()) for task in live]
    return Fleet(
        live=len(live),
        starting=sum(task.arn not in claimed and age < boot for task, age in aged),
        hung=tuple(task for task, age in aged if task.arn not in claimed and age >= boot),
        overdue=tuple(task for task, age in aged if task.arn in claimed and age >= oldest),
    )
