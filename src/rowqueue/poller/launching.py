"""From a number of tasks to RunTask requests, by a tick that has the lease."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from rowqueue.aws import ATTEMPT_S
from rowqueue.errors import LaunchError
from rowqueue.poller.fleet import TaskRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rowqueue.poller.decide import Decision
    from rowqueue.poller.fargate import Fargate, RunTaskAnswer

LARGEST_LAUNCH = 10
"""Tasks in one RunTask request (AWS, RunTask.count)."""
BURST = 100
"""Tasks that Fargate starts at once (AWS, "Fargate throttling quotas")."""
RATE = 20.0
"""Tasks that Fargate starts per second after that."""

_NO_CAPACITY = re.compile(
    r"capacity is unavailable", re.IGNORECASE
)  # AWS re:Post, "Capacity is unavailable at this time"
# AWS documents no list of these reasons for Fargate. These are from AWS's articles and public issue threads. An unknown
# reason counts as lasting, so that it is raised and the alarm reports it.
_PASSING = re.compile(
    _NO_CAPACITY.pattern
    + r"|limit on the number of (vcpus|tasks)"  # the quota of what runs at once: some of it will end
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
        started: ARNs of the tasks that were started.
        failures: reasons why others were not started, each with its number of tasks.
        left: tasks for which the tick had no time.
        replaced: tasks that were requested on demand, because Spot had no capacity for them.
        unanswered: a request that may have started tasks that nobody knows of.
        problem: the refusals that will not pass by themselves, if any.
    """

    started: tuple[str, ...] = ()
    failures: Mapping[str, int] = field(default_factory=dict)
    left: int = 0
    replaced: int = 0
    unanswered: TaskRequest | None = None
    problem: LaunchError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Launcher:
    """Launches tasks.

    Attributes:
        tasks: ECS.
        tick: a name that no other tick has. The tokens are made of it; with a number they have at most 64 characters
            (AWS, RunTask.clientToken).
        replace_spot: whether tasks are requested on demand if Spot has no capacity for them.
        seconds_left: until the tick has to give up.
        sleep: waits a number of seconds.
    """

    tasks: Fargate
    tick: str
    replace_spot: bool
    seconds_left: Callable[[], float]
    sleep: Callable[[float], None]

    def launch(self, decision: Decision) -> Launched:
        """Start the tasks in groups. What fails is left to the next tick, which counts again.

        Args:
            decision: how many, and whether the one task probes.
        """
        done = Launched()
        missing, requests, on_demand = decision.launch, 0, False
        while missing > 0:
            if self.seconds_left() < ATTEMPT_S:
                return replace(done, left=missing)
            count = min(LARGEST_LAUNCH, missing)
            if len(done.started) >= BURST:
                self.sleep(count / RATE)
            token = f"{self.tick}-{requests}"
            request = TaskRequest(token=token, count=count, probe=decision.probe, on_demand=on_demand)
            try:
                answer = self.tasks.launch(request)
            except LaunchError as error:
                return replace(done, failures={"refused": count}, problem=error)
            done = replace(done, started=done.started + answer.started)
            requests += 1
            missing -= count
            if self.replace_spot and not on_demand and has_no_capacity(answer):
                # For the rest of the tick, Spot is not asked again.
                on_demand, missing = True, missing + len(answer.failures)
                done = replace(done, replaced=missing)
            elif answer.failures:  # another request would fail for the same reason
                unanswered = request if answer.unanswered else None
                failures = Counter(answer.failures)
                return replace(done, failures=failures, unanswered=unanswered, problem=_lasting(answer))
        return done

    def repeat(self, request: TaskRequest) -> Launched:
        """Send a request of an earlier tick again. ECS names the tasks that it started then, or starts them now.

        A refusal of the repetition says nothing about the first time.
        """
        try:
            answer = self.tasks.launch(request)
        except LaunchError as error:
            return Launched(failures={"refused": request.count}, unanswered=request, problem=error)
        unanswered = request if answer.passing else None
        return Launched(started=answer.started, failures=Counter(answer.failures), unanswered=unanswered)


def has_no_capacity(answer: RunTaskAnswer) -> bool:
    """Whether tasks were not started, and the only reason is that there is no capacity for them."""
    return bool(answer.failures) and all(_NO_CAPACITY.search(reason) for reason in answer.failures)


def is_passing(reason: str) -> bool:
    """Whether a reason in ``failures[]`` may be gone at the next tick: no capacity, a used-up quota, a throttle."""
    return bool(_PASSING.search(reason)) and not _LASTING.search(reason)


def _lasting(answer: RunTaskAnswer) -> LaunchError | None:
    lasting = sorted({reason for reason in answer.failures if not is_passing(reason)})
    if answer.passing or not lasting:
        return None
    return LaunchError(f"tasks cannot be started: {'; '.join(lasting)}")
