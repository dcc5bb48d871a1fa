"""From a number of tasks to RunTask requests that start each task once, even if two ticks launch at the same moment.

The tasks of one period of the schedule take numbered *slots*. The ``clientToken`` of a request names the period and its
first slot, and ECS never starts anything twice for one token. So a launch goes through the slots from the first. ECS
answers with the tasks that were started for a slot before. If that was another number of tasks, it answers with a
conflict that names them. This works for a tick that runs at the same moment, and for tasks that ListTasks does not show
yet. The slots after them are free.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rowqueue.errors import LaunchError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from rowqueue.poller.decide import Decision
    from rowqueue.poller.fargate import Fargate, RunTaskAnswer
    from rowqueue.poller.fleet import Task

LARGEST_LAUNCH = 10
"""Tasks in one RunTask request (AWS, RunTask.count)."""
BURST = 100
"""Tasks that Fargate starts at once (AWS, "Fargate throttling quotas")."""
RATE = 20.0
"""Tasks that Fargate starts per second after that."""

# AWS documents no list of these reasons for Fargate. These are from AWS's articles and public issue threads. An unknown
# reason counts as lasting, so that it is raised and the alarm reports it.
_PASSING = re.compile(
    r"capacity is unavailable"  # AWS re:Post, "Capacity is unavailable at this time"
    r"|limit on the number of (vcpus|tasks)"  # the quota of what runs at once: some of it will end
    r"|^resource:|^agent"
    r"|rate exceeded|throttl|limit exceeded|timed? ?out|try again",
    re.IGNORECASE,
)
# A quota below the size of a single task never lets one start.
_LASTING = re.compile(r"above your limit", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Launched:
    """The result of a launch.

    Attributes:
        started: ARNs of the tasks that run or will run, and that this tick had not seen before.
        failures: reasons why others were not started, each with its number of tasks.
        left: tasks for which the tick had no time.
        problem: the refusals that will not pass by themselves, if any.
    """

    started: tuple[str, ...] = ()
    failures: Mapping[str, int] = field(default_factory=dict)
    left: int = 0
    problem: LaunchError | None = None


def client_token(*, period: int, task_definition: str, first_slot: int) -> str:
    """The idempotency token of a request (at most 64 characters: AWS, RunTask.clientToken).

    The number of tasks is left out on purpose: two ticks that want different numbers then meet in a conflict.

    Args:
        period: the number of the current period of the schedule.
        task_definition: what is started.
        first_slot: tasks of that period before these.
    """
    return hashlib.sha256(f"{period}|{task_definition}|{first_slot}".encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Launcher:
    """Launches tasks.

    Attributes:
        tasks: ECS.
        task_definition: what is started.
        period: see :func:`client_token`.
        seconds_left: until the tick has to give up.
        sleep: waits a number of seconds.
    """

    tasks: Fargate
    task_definition: str
    period: int
    seconds_left: Callable[[], float]
    sleep: Callable[[float], None]

    def launch(self, decision: Decision, *, known: Collection[Task]) -> Launched:
        """Start the tasks in groups. What fails is left to the next tick, which counts again.

        Args:
            decision: how many, and whether the one task probes.
            known: the tasks that this tick has seen, live and stopped.
        """
        seen = {task.arn for task in known}
        started: list[str] = []
        taken = sum(task.period == self.period and task.is_of(self.task_definition) for task in known)
        slot, end = 0, decision.launch + taken
        while slot < end and len(started) < decision.launch:
            if self.seconds_left() <= 0:
                return Launched(started=tuple(started), left=min(end - slot, decision.launch))
            count = min(LARGEST_LAUNCH, end - slot)
            if len(started) >= BURST:
                self.sleep(count / RATE)
            token = client_token(period=self.period, task_definition=self.task_definition, first_slot=slot)
            try:
                answer = self.tasks.launch(count=count, token=token, period=self.period, probe=decision.probe)
            except LaunchError as error:
                return Launched(started=tuple(started), failures={"refused": count}, problem=error)
            started += [arn for arn in answer.started if arn not in seen]
            if answer.failures:  # another request would fail for the same reason
                return Launched(started=tuple(started), failures=Counter(answer.failures), problem=_lasting(answer))
            slot += answer.bound or count
        return Launched(started=tuple(started))


def is_passing(reason: str) -> bool:
    """Whether a reason in ``failures[]`` may be gone at the next tick: no capacity, a used-up quota, a throttle."""
    return bool(_PASSING.search(reason)) and not _LASTING.search(reason)


def _lasting(answer: RunTaskAnswer) -> LaunchError | None:
    lasting = sorted({reason for reason in answer.failures if not is_passing(reason)})
    if answer.passing or not lasting:
        return None
    return LaunchError(f"tasks cannot be started: {'; '.join(lasting)}")
