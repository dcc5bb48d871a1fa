"""What a tick cleans up before it counts: entries that dead tasks had in hand, stale claims, and tasks that hang.

Level-triggered: each tick that sees entries in processing compares who has claims with what ECS reports. A stop event
only makes this happen sooner; one that is lost, late, repeated or forged changes nothing. Only ECS decides who is dead.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from rowqueue.contract import ExitCode, task_id
from rowqueue.errors import LaunchError, TickOverdue, WarehouseError
from rowqueue.lifecycle import MAX_ERROR_MESSAGE_CHARACTERS
from rowqueue.observability import Event, log_problem
from rowqueue.poller.decide import CLOCK_SKEW
from rowqueue.poller.fleet import HUNG, OVERDUE
from rowqueue.poller.records import Death
from rowqueue.settings import STEP_S
from rowqueue.time_limit import within

if TYPE_CHECKING:
    from collections.abc import Callable

    from rowqueue.poller.decide import Observation
    from rowqueue.poller.fargate import Fargate
    from rowqueue.poller.fleet import Fleet, Task
    from rowqueue.poller.queue import PollerQueue
    from rowqueue.poller.records import Claimant
    from rowqueue.settings import PollerSettings

_FORGOTTEN = timedelta(hours=1)
"""ECS shows a stopped task for at least an hour (AWS, DescribeTasks). A younger task that ECS does not know is not of
this cluster, or not an ECS task. Its claims are left to the stale reset."""
_BY_ITSELF = "EssentialContainerExited"
_OUT_OF_MEMORY = "OutOfMemory"
MOST_STOPS = 60
"""Tasks that one tick stops at most: ECS takes 100 changes at once and then 40 per second (AWS, "Request throttling for
the Amazon ECS API", cluster resource modify actions), RunTask included. So a launch always has requests left."""
_STOPS_AT_ONCE = 10
_EXHAUSTED_NEED_S = 3 * STEP_S
"""Time that has to be left before entries that nobody takes are ended: a step for this, the count, and the launch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Freed:
    """What was freed.

    Attributes:
        exhausted: entries failed because they had no attempts left.
        cancelled: pending entries whose cancel was requested.
        deaths: the dead tasks whose claims were taken away.
        released: entries of dead tasks given back, settled as the task had recorded, or failed if the release counted
            as their last attempt.
        poisoned: entries of dead tasks failed because they crashed too many workers.
        stale_reset: stale claims taken away.
        problem: the error of the most urgent duty that failed, if one did.
    """

    exhausted: int = 0
    cancelled: int = 0
    deaths: tuple[Death, ...] = ()
    released: int = 0
    poisoned: int = 0
    stale_reset: int = 0
    problem: LaunchError | WarehouseError | TickOverdue | None = None

    @property
    def has_effect(self) -> bool:
        """Whether entries may be ready now that the pulse did not see as ready."""
        return bool(self.released or self.stale_reset)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """What became of hung and overdue tasks.

    Attributes:
        count: tasks that were stopped.
        problem: a refusal that will not pass by itself, if there was one.
    """

    count: int = 0
    problem: LaunchError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleaner:
    """Frees entries that nobody works on, and stops tasks that hang.

    Attributes:
        queue: the poller's store.
        tasks: ECS.
        settings: the poller's.
        check: raises if there is no time left for the step that it names.
        seconds_left: until the tick has to give up.
    """

    queue: PollerQueue
    tasks: Fargate
    settings: PollerSettings
    check: Callable[[str], None]
    seconds_left: Callable[[], float]

    def free(self, seen: Observation) -> Freed:
        """Free what the dead and the stale claims block, and fail entries that no claim would take.

        The most urgent duty goes first. A duty that fails, or for which no time is left, is logged. The others and the
        rest of the tick go on.
        """
        done = Freed()
        for duty, work in (
            ("the rescue", self._rescue),
            ("the reset", self._reset),
            ("the failing of exhausted entries", self._fail_exhausted),
            ("the end of cancelled entries", self._end_cancelled),
        ):
            try:
                done = work(seen, done)
            except (LaunchError, WarehouseError, TickOverdue) as error:
                log_problem(Event.CLEANING_FAILED, duty=duty, error=str(error))
                done = replace(done, problem=done.problem or error)
        return done

    def stop_hung(self, fleet: Fleet) -> Stopped:
        """Stop hung and overdue tasks, whatever the queue contains. Each kind starts with the oldest.

        Many are stopped at the same time, and at most MOST_STOPS in one tick. After STEP_S seconds no stop starts, and
        none is waited for. So there is time left for the launch.
        """
        tasks = [
            *((task, HUNG) for task in sorted(fleet.hung, key=_age_order)),
            *((task, OVERDUE) for task in sorted(fleet.overdue, key=_age_order)),
        ][:MOST_STOPS]
        if not tasks:
            return Stopped()
        self.check("stopping hung tasks")
        last_start = self.seconds_left() - STEP_S
        with ThreadPoolExecutor(1 if len(tasks) <= _STOPS_AT_ONCE else _STOPS_AT_ONCE) as threads:
            refusals = list(threads.map(lambda pair: self._refusal(*pair, last_start=last_start), tasks))
        done = Stopped()
        for (task, _), refusal in zip(tasks, refusals, strict=True):
            if refusal is None:
                done = replace(done, count=done.count + 1)
                continue
            log_problem(Event.TASK_NOT_STOPPED, task=task.arn, error=str(refusal))
            if isinstance(refusal, LaunchError):
                done = replace(done, problem=done.problem or refusal)
        return done

    def _refusal(self, task: Task, reason: str, *, last_start: float) -> LaunchError | str | None:
        """Stop one task; returns why it was not stopped: an error that will not pass by itself, or a sentence."""
        left_s = self.seconds_left() - last_start
        if left_s <= 0:
            return f"{task.id} is left to the next tick"
        try:
            return within(left_s, lambda: self.tasks.stop(task, reason=reason))
        except TimeoutError as error:
            return f"{task.id} may not have been stopped: {error}"
        except LaunchError as error:
            return error

    def _reset(self, seen: Observation, done: Freed) -> Freed:
        self.check("the reset")
        if not self._some_may_be_stale(seen):
            return done
        reset = self.queue.reset_stale(
            stale_threshold_s=self.settings.stale_threshold_s, claimed_since=seen.pulse.earliest_claimed_at
        )
        return replace(done, stale_reset=reset)

    def _fail_exhausted(self, seen: Observation, done: Freed) -> Freed:
        """The least urgent duty: only while the count and the launch have enough time after it."""
        if not seen.pulse.exhausted or self.seconds_left() < _EXHAUSTED_NEED_S:
            return done
        return replace(done, exhausted=self.queue.fail_exhausted())

    def _end_cancelled(self, seen: Observation, done: Freed) -> Freed:
        """As little urgent: no claim takes these entries."""
        if not seen.pulse.cancels or self.seconds_left() < _EXHAUSTED_NEED_S:
            return done
        return replace(done, cancelled=self.queue.end_cancelled())

    def _rescue(self, seen: Observation, done: Freed) -> Freed:
        self.check("the rescue")
        dead = self._deaths(seen)
        if not dead:
            return done
        self.queue.record_deaths(dead)
        self.check("failing poison entries")
        poisoned = self.queue.fail_poison(
            [death for death in dead if death.alone], max_crashes=self.settings.max_crashes
        )
        self.check("the release")
        released = self.queue.release_dead(dead)
        for death in dead:
            log_problem(Event.CLAIMS_RESCUED, processor_id=death.processor_id, reason=death.reason)
        return replace(done, deaths=dead, poisoned=poisoned, released=released)

    def _deaths(self, seen: Observation) -> tuple[Death, ...]:
        """The workers that have claims, are not live, and are dead according to ECS."""
        live = {task.id for task in seen.live}
        named = ((task_id(claimant.processor_id, self.settings.environment), claimant) for claimant in seen.claimants)
        missing = {name: claimant for name, claimant in named if name is not None and name not in live}
        if not missing:
            return ()
        known = self.tasks.find(sorted(missing))
        found = ((claimant, known.get(name)) for name, claimant in missing.items())
        return tuple(
            death
            for claimant, task in found
            if (task is None or self.tasks.is_ours(task)) and (death := death_of(claimant, task, now=seen.utc))
        )

    def _some_may_be_stale(self, seen: Observation) -> bool:
        """Whether a reset may find something. Its UPDATE needs a warehouse and the lock even if it finds nothing."""
        earliest = seen.pulse.earliest_claimed_at
        threshold = timedelta(seconds=self.settings.stale_threshold_s)
        return earliest is not None and earliest <= seen.utc - threshold + CLOCK_SKEW


def _age_order(task: Task) -> datetime:
    return task.begun_at or datetime.max.replace(tzinfo=UTC)


def death_of(claimant: Claimant, task: Task | None, *, now: datetime) -> Death | None:
    """How a worker died; ``None`` if it may still be alive.

    Args:
        claimant: the worker.
        task: its task; ``None`` if ECS does not know it.
        now: UTC, naive.
    """
    assert claimant.processor_id is not None
    if task is None:
        if claimant.earliest_claimed_at is None or now - claimant.earliest_claimed_at < _FORGOTTEN:
            return None
        return Death(
            processor_id=claimant.processor_id,
            reason="the task has stopped, and ECS no longer knows it",
            claimed_since=claimant.earliest_claimed_at,
        )
    if task.last_status != "STOPPED":
        return None
    crashed = has_crashed(task)
    return Death(
        processor_id=claimant.processor_id,
        reason=f"the task has stopped: {task.ending}"[:MAX_ERROR_MESSAGE_CHARACTERS],
        crashed=crashed,
        counted=ExitCode.counts_as_retry(task.exit_code),
        alone=crashed and claimant.entries == 1,
        claimed_since=claimant.earliest_claimed_at,
    )


def has_crashed(task: Task) -> bool:
    """Whether the task died by itself (out of memory, a signal, a fault), or hung and had to be stopped.

    A stop by a person, a deployment, a Spot interruption or a failing host says nothing about the task's entries.
    """
    reason = task.stopped_reason or ""
    if task.stop_code == _BY_ITSELF:
        return _OUT_OF_MEMORY in reason or ExitCode.is_crash(task.exit_code)
    return HUNG in reason or OVERDUE in reason
