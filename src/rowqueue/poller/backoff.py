"""Back-off of launches: a broken image or certificate must not cost one task per minute without end."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from rowqueue.contract import ExitCode
from rowqueue.poller.fleet import HUNG

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from rowqueue.poller.fleet import Task

LONGEST_WAIT_S = 900.0
"""The longest back-off, however many launches have failed."""
_LONG_AGO = datetime.min.replace(tzinfo=UTC)

# Of ECS's TaskStopCode. Older pages of AWS call a Spot interruption TerminationNotice.
_FROM_OUTSIDE = frozenset(
    {"SpotInterruption", "TerminationNotice", "UserInitiated", "ServiceSchedulerInitiated", "InfrastructureHealth"}
)
# Reasons of TaskFailedToStart that say nothing about the image or the settings: Fargate had no machine, network
# interface or disk in time (dagster and AWS re:Post quote them; AWS has no complete list).
_NO_MACHINE = re.compile(
    r"capacity is unavailable"
    r"|timeout waiting for (network interface|ephemeralstorage) provisioning",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """How the recent launches ended, and until when the next one waits.

    Attributes:
        failures: tasks that died at boot, or over credentials, since the last good launch.
        unjudged: such tasks of a round in which others are still starting. The round may still go well.
        until: UTC, aware; nothing is launched before.
        reason: how the last of them ended.
    """

    failures: int = 0
    unjudged: int = 0
    until: datetime = _LONG_AGO
    reason: str | None = None


def may_have_died_at_boot(task: Task) -> bool:
    """Whether a task never ran, ended with an error, or hung. Whether it had claimed is not known here.

    A task that is stopping counts already. It stops within two minutes; until then its launch would be repeated.
    """
    if task.is_wanted or was_interrupted(task):
        return False
    return task.started_at is None or task.exit_code not in {ExitCode.DONE, None} or HUNG in (task.stopped_reason or "")


def was_interrupted(task: Task) -> bool:
    """Whether a task was ended from outside: a Spot interruption, a stop by a person, no capacity, a failing host.

    Nothing follows from it for the next launch. A stop by the poller because the task hung is no interruption, and
    neither is an end that the program itself explains with its exit code.
    """
    reason = task.stopped_reason or ""
    if HUNG in reason or ExitCode.is_failed_launch(task.exit_code):
        return False
    if task.has_failed_to_start:
        return bool(_NO_MACHINE.search(reason))
    return task.stop_code in _FROM_OUTSIDE


def backoff(tasks: Iterable[Task], *, claimed: Collection[str], definition: str, tick_s: float) -> Backoff:
    """Judge the recent launches in rounds; a round is what was requested in one period of the schedule.

    A round has failed if at least one of its tasks failed, none went well, and none is still starting. Interrupted
    tasks do not count. The wait doubles with each failed round since the last good one. A new revision of the task
    definition starts at zero.

    Args:
        tasks: those that ECS knows, live and stopped.
        claimed: ARNs of those that have claimed.
        definition: what would be launched, a family or an ARN.
        tick_s: seconds between ticks.
    """
    rounds: dict[int, list[tuple[datetime, Task]]] = {}
    for task in tasks:
        if task.created_at is not None and task.is_of(definition):
            number = int(task.created_at.timestamp() // tick_s)
            rounds.setdefault(number, []).append((task.created_at, task))
    failed: list[tuple[datetime, Task]] = []
    failed_rounds = unjudged = 0
    for _, requested in sorted(rounds.items(), reverse=True):
        if any(_went_well(task, claimed) for _, task in requested):
            break
        dead = [(at, task) for at, task in requested if _has_failed(task, claimed)]
        if any(_is_starting(task, claimed) for _, task in requested):
            unjudged += len(dead)
            continue
        failed += dead
        failed_rounds += bool(dead)
    if not failed:
        return Backoff(unjudged=unjudged)
    latest, task = max(failed, key=lambda pair: pair[0])
    wait_s = min(LONGEST_WAIT_S, tick_s * 2.0 ** min(failed_rounds, 32))
    until = latest + timedelta(seconds=wait_s)
    return Backoff(failures=len(failed), unjudged=unjudged, until=until, reason=task.ending)


def _has_failed(task: Task, claimed: Collection[str]) -> bool:
    return may_have_died_at_boot(task) and (task.arn not in claimed or ExitCode.is_failed_launch(task.exit_code))


def _went_well(task: Task, claimed: Collection[str]) -> bool:
    if _has_failed(task, claimed):
        return False
    # A processor that is interrupted while it boots also ends with 0. That says nothing about the image.
    is_done = task.has_stopped and task.exit_code == ExitCode.DONE and not was_interrupted(task)
    return task.arn in claimed or is_done


def _is_starting(task: Task, claimed: Collection[str]) -> bool:
    return task.is_wanted and task.arn not in claimed
