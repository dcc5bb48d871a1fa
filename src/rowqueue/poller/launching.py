"""From a number of tasks to RunTask requests that start each of them once, whoever else is launching at the moment.

The tasks of one period of the schedule take numbered *slots*. The ``clientToken`` of a request names the period and its
first slot, and a token never starts anything twice. So a launch walks the slots from the first: ECS answers what was
started there before, or, if that was another number of tasks, with a conflict that names them. That holds for a tick
which runs at the same moment, and for what ListTasks does not show yet. The slots behind are free.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rowqueue.errors import LaunchError
from rowqueue.poller import refusals

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rowqueue.poller.fargate import Fargate, Launch
    from rowqueue.poller.fleet import Task
    from rowqueue.poller.plan import Plan

LARGEST_LAUNCH = 10
"""Tasks in one RunTask request (AWS, RunTask.count)."""
BURST = 100
"""Fargate starts so many tasks at once (AWS, "Fargate throttling quotas") ..."""
RATE = 20.0
"""... and then so many a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launched:
    """What has become of a launch.

    Attributes:
        started: ARNs of the tasks that run or will, and that this tick had not seen before.
        failures: why others were not started, with how often.
        left: tasks for which the tick had no time.
        fatal: what will not pass by itself, if anything was refused for such a reason.
    """

    started: tuple[str, ...] = ()
    failures: Mapping[str, int] = field(default_factory=dict)
    left: int = 0
    fatal: str | None = None


def client_token(*, period: int, task_definition: str, first_slot: int) -> str:
    """The idempotency token of a request (at most 64 characters: AWS, RunTask.clientToken).

    The number of tasks is left out on purpose: two ticks that want different numbers then meet in a conflict.

    Args:
        period: the number of the schedule's period that now falls into.
        task_definition: what is started.
        first_slot: tasks of that period before these.
    """
    return hashlib.sha256(f"{period}|{task_definition}|{first_slot}".encode()).hexdigest()


def launch(
    tasks: Fargate,
    plan: Plan,
    *,
    period: int,
    task_definition: str,
    known: Sequence[Task],
    seconds_left: Callable[[], float],
    sleep: Callable[[float], None],
) -> Launched:
    """Start what the plan says, in groups. What does not succeed is left to the next tick, which counts again.

    Args:
        tasks: ECS.
        plan: how many, and whether one is sent to probe.
        period: see :func:`client_token`.
        task_definition: what is started.
        known: the tasks that this tick has seen, live and stopped.
        seconds_left: until the tick has to give up.
        sleep: waits so many seconds.
    """
    seen = {task.arn for task in known}
    started: list[str] = []
    taken = sum(task.period == period and task.is_of(task_definition) for task in known)
    slot, end = 0, plan.launch + taken
    while slot < end and len(started) < plan.launch:
        if seconds_left() <= 0:
            return Launched(started=tuple(started), left=min(end - slot, plan.launch))
        count = min(LARGEST_LAUNCH, end - slot)
        if len(started) >= BURST:
            sleep(count / RATE)
        token = client_token(period=period, task_definition=task_definition, first_slot=slot)
        try:
            answer = tasks.launch(count=count, token=token, period=period, probe=plan.probe)
        except LaunchError as error:
            return Launched(started=tuple(started), failures={"refused": count}, fatal=str(error))
        started += [arn for arn in answer.started if arn not in seen]
        if answer.failures:  # more of the same would meet the same
            return Launched(started=tuple(started), failures=Counter(answer.failures), fatal=_lasting(answer))
        slot += answer.bound or count
    return Launched(started=tuple(started))


def _lasting(answer: Launch) -> str | None:
    lasting = sorted({reason for reason in answer.failures if not refusals.is_passing(reason)})
    if answer.passing or not lasting:
        return None
    return f"tasks can not be started: {'; '.join(lasting)}"
