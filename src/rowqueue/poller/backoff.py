"""Launches that die at boot: a broken image or certificate must not bill a task a minute for ever."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from rowqueue.contract import ExitCode
from rowqueue.poller.fleet import HUNG
from rowqueue.poller.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from rowqueue.poller.fleet import Task

LONGEST_WAIT_S = 900.0
"""However often launches have died, one more is tried after so many seconds."""
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """How launches have gone of late.

    Attributes:
        failures: tasks that died at boot, or over credentials, since the last that did not.
        until: UTC, aware; nothing is launched before.
        reason: how the last of them ended.
    """

    failures: int = 0
    until: datetime = _LONG_AGO
    reason: str | None = None


def may_have_died_at_boot(task: Task) -> bool:
    """Whether a task never ran, ended with an error or hung; whether it had claimed is not known here.

    A task that is on its way down counts: it takes up to two minutes, in which its launch would else be repeated.
    """
    if task.desired_status != "STOPPED":
        return False
    return task.started_at is None or task.exit_code not in {ExitCode.DONE, None} or HUNG in (task.stopped_reason or "")


def backoff(tasks: Iterable[Task], *, claimed: Collection[str], definition: str, tick_s: float) -> Backoff:
    """Judge the launches of late, in rounds: what was requested in one period of the schedule.

    A round has failed when a task of it has and none went well; tasks that are still starting say nothing. The wait
    doubles with each failed round since the last good one. A new revision of the task definition starts afresh.

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
    return Backoff(failures=len(failed), until=latest + timedelta(seconds=wait_s), reason=ending(task))


def restrained(plan: Plan, recent: Backoff, *, now: datetime) -> Plan:
    """The plan, when launches of late have failed: nothing for a while, then one task that tries."""
    if not recent.failures:
        return plan
    told = f"the last {recent.failures} launches failed ({recent.reason})"
    if now < recent.until:
        reason = f"{told}; the next try is at {recent.until:%H:%M:%S} UTC"
        return Plan(launch=0, need=plan.need, reason=reason, probe=plan.probe)
    if not plan.launch:
        return plan
    return Plan(launch=1, need=plan.need, reason=f"{told}; one task tries again", probe=plan.probe)


def ending(task: Task) -> str:
    """How a task ended, for people: stop code, exit code and ECS's reason."""
    exited = None if task.exit_code is None else f"exit code {task.exit_code}"
    return ", ".join(part for part in (task.stop_code, exited, task.stopped_reason) if part) or "no reason given"


def _has_failed(task: Task, claimed: Collection[str]) -> bool:
    return may_have_died_at_boot(task) and (task.arn not in claimed or ExitCode.is_failed_launch(task.exit_code))


def _went_well(task: Task, claimed: Collection[str]) -> bool:
    if _has_failed(task, claimed):
        return False
    return task.arn in claimed or task.last_status == "STOPPED"
