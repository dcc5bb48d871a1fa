"""Freeing what dead tasks hold: who holds claims is compared with what ECS says of them.

Level-triggered: each tick that sees something processing looks again, so that a stop event only makes it faster, and
one that is lost, late, doubled or forged changes nothing. ECS alone says who is dead.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from rowqueue.contract import ExitCode, task_id
from rowqueue.lifecycle import MAX_ERROR_MESSAGE_CHARACTERS
from rowqueue.poller.backoff import ending
from rowqueue.poller.fleet import HUNG, OVERDUE
from rowqueue.records import Death

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from rowqueue.poller.fargate import Fargate
    from rowqueue.poller.fleet import Task
    from rowqueue.poller.queue import PolledQueue
    from rowqueue.records import Holder

_FORGOTTEN = timedelta(hours=1)
"""ECS shows a stopped task for an hour at least (AWS, DescribeTasks). One that it does not know before is not of this
cluster, or not of ECS, and is left to the stale reset."""
_BY_ITSELF = "EssentialContainerExited"
_OUT_OF_MEMORY = "OutOfMemory"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescue:
    """What was freed.

    Attributes:
        deaths: whose claims they were.
        released: entries given back, or failed where that counts and was their last attempt.
        poisoned: entries failed, for they have killed too many workers.
    """

    deaths: tuple[Death, ...] = ()
    released: int = 0
    poisoned: int = 0


def rescue(
    queue: PolledQueue,
    tasks: Fargate,
    holders: Sequence[Holder],
    live: Sequence[Task],
    *,
    environment: str,
    max_crashes: int,
    now: datetime,
    check: Callable[[str], None],
) -> Rescue:
    """Free what dead tasks hold.

    Args:
        queue: the store.
        tasks: ECS.
        holders: who holds claims.
        live: tasks that ECS wants running; they are not asked about.
        environment: ours; the claims of others are left alone.
        max_crashes: deaths that an entry may have had a part in; if the next worker dies on it alone, it is poison.
        now: UTC, naive, as Snowflake tells time.
        check: raises when there is no time for the step it is told.

    Raises:
        LaunchError: ECS can not be asked; nothing is freed on a guess.
        WarehouseError: Snowflake failed; the next tick goes on.
    """
    alive = {task.id for task in live}
    missing = {
        name: holder for holder in holders if (name := task_id(holder.processor_id, environment)) not in {None, *alive}
    }
    if not missing:
        return Rescue()
    known = tasks.find(sorted(str(name) for name in missing))
    dead = tuple(
        death
        for name, holder in missing.items()
        if (death := _death_of_ours(tasks, holder, known.get(str(name)), now)) is not None
    )
    if not dead:
        return Rescue()
    queue.record_deaths(dead)
    check("what is poison")
    poisoned = queue.fail_poison([death for death in dead if death.alone], max_crashes=max_crashes)
    check("the release")
    return Rescue(deaths=dead, released=queue.release_dead(dead), poisoned=poisoned)


def _death_of_ours(tasks: Fargate, holder: Holder, task: Task | None, now: datetime) -> Death | None:
    return None if task is not None and not tasks.is_ours(task) else death_of(holder, task, now=now)


def death_of(holder: Holder, task: Task | None, *, now: datetime) -> Death | None:
    """How the worker died; ``None`` if it may yet live.

    Args:
        holder: what it holds.
        task: as ECS knows it; ``None``: it does not.
        now: UTC, naive.
    """
    assert holder.processor_id is not None
    if task is None:
        if holder.earliest_claimed_at is None or now - holder.earliest_claimed_at < _FORGOTTEN:
            return None
        return Death(processor_id=holder.processor_id, reason="the task has stopped, and ECS knows it no longer")
    if task.last_status != "STOPPED":
        return None
    crashed = has_crashed(task)
    return Death(
        processor_id=holder.processor_id,
        reason=f"the task has stopped: {ending(task)}"[:MAX_ERROR_MESSAGE_CHARACTERS],
        crashed=crashed,
        counted=ExitCode.counts_as_retry(task.exit_code),
        alone=crashed and holder.entries == 1,
    )


def has_crashed(task: Task) -> bool:
    """Whether it died by itself: memory used up, a signal, a fault; also when it hung and had to be stopped.

    A stop by a person, a deployment, a Spot interruption or a failing host says nothing about what the task held.
    """
    told = task.stopped_reason or ""
    if task.stop_code == _BY_ITSELF:
        return _OUT_OF_MEMORY in told or ExitCode.is_crash(task.exit_code)
    return HUNG in told or OVERDUE in told


def by_processor(deaths: Sequence[Death]) -> Mapping[str, str]:
    """For the log: how each has died."""
    return {death.processor_id: death.reason for death in deaths}
