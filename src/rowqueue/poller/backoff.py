"""Back-off of launches: a broken image or certificate must not cost one task per minute without end."""

from __future__ import annotations

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """How the recent launches ended, and until when the next one waits.

    Attributes:
        failures: tasks that died at boot, or over credentials, since the last good launch.
        until: UTC, aware; nothing is launched before.
        reason: how the last of them ended.
    """

    failures: int = 0
    until: datetime = _LONG_AGO
    reason: str | None = None


def may_have_died_at_boot(task: Task) -> bool:
    """Whether a task never ran, ended with an error, or hung. Whether it had claimed is not known here.

    A task that is stopping counts already. It stops within two minutes; until then its launch would be repeated.
    """
    if task.desired_status != "STOPPED":
        return False
    return task.started_at is None or task.exit_code not in {ExitCode.DONE, None} or HUNG in (task.stopped_reason or "")


def backoff(tasks: Iterable[Task], *, claimed: Collection[str], definition: str, tick_s: float) -> Backoff:
    """Judge the recent launches in rounds; a round is what was requested in one period of the schedule.

    A round has failed if at least one of its tasks failed and none went well. Tasks that are still starting do not
    count. The wait doubles with each failed round since the last good one. A new revision of the task definition
    starts at zero.

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
    failed_rounds = 0
    for _, requested in sorted(rounds.items(), reverse=True):
        if any(_went_well(task, claimed) for _, task in requested):
            break
        dead = [(at, task) for at, task in requested if _has_failed(task, claimed)]
        failed += dead
        failed_rounds += bool(dead)
    if not failed:
        return Backoff()
    latest, task = max(failed, key=lambda pair: pair[0])
    wait_s = min(LONGEST_WAIT_S, tick_s * 2.0 ** min(failed_rounds, 32))
    return Backoff(failures=len(failed), until=latest + timedelta(seconds=wait_s), reason=task.ending)


def _has_failed(task: Task, claimed: Collection[str]) -> bool:
    return may_have_died_at_boot(task) and (task.arn not in claimed or ExitCode.is_failed_launch(task.exit_code))


def _went_well(task: Task, claimed: Collection[str]) -> bool:
    if _has_failed(task, claimed):
        return False
    return task.arn in claimed or task.last_status == "STOPPED"
