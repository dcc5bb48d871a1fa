"""From a number of tasks to RunTask requests that start each of them once, whoever else is launching at the moment.

A launch takes numbered *slots* of the schedule's period, from the number of tasks that were requested in it so far. The
``clientToken`` of a request names the period and its first slot, so that of two ticks which have seen the same only one
starts tasks. Where they have counted differently, ECS answers with a conflict and says how many tasks the token stands
for: those slots are taken, and the launch goes on behind them.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rowqueue.errors import LaunchError
from rowqueue.poller import refusals

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rowqueue.poller.fargate import Fargate, Launch
    from rowqueue.poller.plan import Plan

LARGEST_LAUNCH = 10
"""Tasks in one RunTask request (AWS, RunTask.count)."""
BURST = 100
"""Fargate starts so many tasks at once (AWS, "Fargate throttling quotas") ..."""
RATE = 20.0
"""... and then so many a second."""

TAKEN = "another tick has launched these already"
TIME_UP = "the tick's time was up"


@dataclass(frozen=True, slots=True, kw_only=True)
class Launched:
    """What has become of a launch.

    Attributes:
        started: ARNs of the tasks that run or will.
        failures: why others were not started by this tick, with how often.
        fatal: what will not pass by itself, if anything was refused for such a reason.
    """

    started: tuple[str, ...] = ()
    failures: Mapping[str, int] = field(default_factory=dict)
    fatal: str | None = None


def client_token(*, period: int, task_definition: str, first_slot: int) -> str:
    """The idempotency token of a request (at most 64 characters: AWS, RunTask.clientToken).

    The number of tasks is left out on purpose: two ticks that want different numbers then meet in a conflict.

    Args:
        period: the number of the schedule's period that now falls into.
        task_definition: what is started.
        first_slot: tasks requested in that period before these.
    """
    return hashlib.sha256(f"{period}|{task_definition}|{first_slot}".encode()).hexdigest()


def launch(
    tasks: Fargate,
    plan: Plan,
    *,
    period: int,
    task_definition: str,
    first_slot: int,
    seconds_left: Callable[[], float],
    sleep: Callable[[float], None],
) -> Launched:
    """Start what the plan says, in groups. What does not succeed is left to the next tick, which counts again.

    Args:
        tasks: ECS.
        plan: how many, and whether one is sent to probe.
        period: see :func:`client_token`.
        task_definition: what is started.
        first_slot: tasks requested in that period so far, stopped ones included.
        seconds_left: until the tick has to give up.
        sleep: waits so many seconds.
    """
    started: list[str] = []
    failures: Counter[str] = Counter()
    slot, left = first_slot, plan.launch
    while left > 0:
        if seconds_left() <= 0:
            failures[TIME_UP] += left
            break
        count = min(LARGEST_LAUNCH, left)
        if slot - first_slot >= BURST:
            sleep(count / RATE)
        token = client_token(period=period, task_definition=task_definition, first_slot=slot)
        try:
            answer = tasks.launch(count=count, token=token, probe=plan.probe)
        except LaunchError as error:
            return Launched(started=tuple(started), failures=failures, fatal=str(error))
        done = min(left, answer.bound or count) if answer.conflict else count
        slot += answer.bound or done
        left -= done
        failures.update({TAKEN: done} if answer.conflict else answer.failures)
        started += answer.started
        if answer.failures:  # more of the same would meet the same
            return Launched(started=tuple(started), failures=failures, fatal=_lasting(answer))
    return Launched(started=tuple(started), failures=failures)


def _lasting(answer: Launch) -> str | None:
    lasting = sorted({reason for reason in answer.failures if not refusals.is_passing(reason)})
    if answer.passing or not lasting:
        return None
    return f"tasks can not be started: {'; '.join(lasting)}"
