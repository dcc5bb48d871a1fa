"""From a number of tasks to RunTask requests, by a tick that has the lease."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from rowqueue.aws import ATTEMPT_S
from rowqueue.errors import LaunchError
from rowqueue.poller.fargate import SPOT
from rowqueue.poller.fleet import LARGEST_LAUNCH, TaskRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from rowqueue.poller.decide import Decision
    from rowqueue.poller.fargate import Fargate, RunTaskAnswer
    from rowqueue.poller.fleet import Task

BURST = 100
"""Tasks that Fargate starts at once (AWS, "Fargate throttling quotas")."""
RATE = 20.0
"""Tasks that Fargate starts per second after that."""

SPOT_PAUSE = timedelta(minutes=5)
"""Spot is not asked for this time after the request of a task for which it had no capacity."""

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

    def launch(self, decision: Decision, *, spot_is_full: bool = False) -> Launched:
        """Start the tasks in groups. What fails is left to the next tick, which counts again.

        Args:
            decision: how many, and whether the one task probes.
            spot_is_full: whether Spot had no capacity a short time ago.
        """
        on_demand = self.replace_spot and spot_is_full
        done = Launched(replaced=decision.launch if on_demand else 0)
        missing, requests = decision.launch, 0
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
                failures = Counter(done.failures) + Counter(refused=count)
                return replace(done, failures=failures, problem=done.problem or error)
            done = replace(done, started=done.started + answer.started)
            requests += 1
            missing -= count
            if not answer.failures:
                continue
            for_capacity = _without_capacity(answer) if self.replace_spot and not on_demand else 0
            if for_capacity:
                # For the rest of the tick, Spot is not asked again.
                on_demand, missing = True, missing + for_capacity
                others = [reason for reason in answer.failures if not has_no_capacity(reason)]
                done = replace(done, replaced=missing, failures=Counter(others), problem=_lasting(answer))
            else:  # another request would fail for the same reason
                return replace(
                    done,
                    failures=Counter(done.failures) + Counter(answer.failures),
                    unanswered=request if answer.unanswered else None,
                    problem=done.problem or _lasting(answer),
                )
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


def has_no_capacity(reason: str) -> bool:
    """Whether a task was not started because there is no capacity for it."""
    return bool(_NO_CAPACITY.search(reason))


def spot_is_full(tasks: Iterable[Task], *, now: datetime) -> bool:
    """Whether Spot had no capacity for a task that RunTask had accepted a short time ago.

    Args:
        tasks: those that ECS knows.
        now: UTC, aware.
    """
    return any(
        task.provider == SPOT
        and task.has_failed_to_start
        and has_no_capacity(task.stopped_reason or "")
        and task.created_at is not None
        and now - task.created_at < SPOT_PAUSE
        for task in tasks
    )


def _without_capacity(answer: RunTaskAnswer) -> int:
    """Number of tasks that were not started for lack of capacity. Of a request without an answer nobody knows that."""
    return 0 if answer.unanswered else sum(map(has_no_capacity, answer.failures))


def is_passing(reason: str) -> bool:
    """Whether a reason in ``failures[]`` may be gone at the next tick: no capacity, a used-up quota, a throttle."""
    return bool(_PASSING.search(reason)) and not _LASTING.search(reason)


def _lasting(answer: RunTaskAnswer) -> LaunchError | None:
    lasting = sorted({reason for reason in answer.failures if not is_passing(reason)})
    if answer.passing or not lasting:
        return None
    return LaunchError(f"tasks cannot be started: {'; '.join(lasting)}")
