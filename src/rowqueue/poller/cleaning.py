"""What a tick cleans up before it counts: entries that dead tasks had in hand, stale claims, and tasks that hang.

Level-triggered: each tick that sees entries in processing compares who has claims with what ECS reports. A stop event
only makes this happen sooner; one that is lost, late, repeated or forged changes nothing. Only ECS decides who is dead.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from rowqueue.contract import ExitCode, task_id
from rowqueue.errors import LaunchError, WarehouseError
from rowqueue.lifecycle import MAX_ERROR_MESSAGE_CHARACTERS
from rowqueue.observability import Event, log_problem
from rowqueue.poller.decide import CLOCK_SKEW
from rowqueue.poller.fleet import HUNG, OVERDUE
from rowqueue.poller.records import Death

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Freed:
    """What was freed.

    Attributes:
        exhausted: entries failed because they had no attempts left.
        deaths: the dead tasks whose claims were taken away.
        released: entries of dead tasks given back, or failed if the release counted as their last attempt.
        poisoned: entries of dead tasks failed because they crashed too many workers.
        stale_reset: stale claims taken away.
        problem: why it could not be finished, if it could not.
    """

    exhausted: int = 0
    deaths: tuple[Death, ...] = ()
    released: int = 0
    poisoned: int = 0
    stale_reset: int = 0
    problem: WarehouseError | None = None

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
    """

    queue: PollerQueue
    tasks: Fargate
    settings: PollerSettings
    check: Callable[[str], None]

    def free(self, seen: Observation) -> Freed:
        """Free what the dead and the stale claims block. If Snowflake fails here, the rest of the tick goes on.

        Raises:
            LaunchError: ECS refuses or does not answer; nothing is freed on a guess.
        """
        done = Freed()
        try:
            if seen.pulse.exhausted:
                done = replace(done, exhausted=self.queue.fail_exhausted())
            self.check("the rescue")
            done = self._rescue(seen, done)
            for death in done.deaths:
                log_problem(Event.CLAIMS_RESCUED, processor_id=death.processor_id, reason=death.reason)
            self.check("the reset")
            if self._some_may_be_stale(seen):
                reset = self.queue.reset_stale(stale_threshold_s=self.settings.stale_threshold_s)
                done = replace(done, stale_reset=reset)
        except WarehouseError as error:
            return replace(done, problem=error)
        return done

    def stop_hung(self, fleet: Fleet) -> Stopped:
        """Stop hung and overdue tasks, whatever the queue contains."""
        done = Stopped()
        for task, reason in [*((task, HUNG) for task in fleet.hung), *((task, OVERDUE) for task in fleet.overdue)]:
            self.check("stopping hung tasks")
            try:
                problem = self.tasks.stop(task, reason=reason)
            except LaunchError as error:
                done, problem = replace(done, problem=error), str(error)
            if problem is None:
                done = replace(done, count=done.count + 1)
            else:
                log_problem(Event.TASK_NOT_STOPPED, task=task.arn, error=problem)
        return done

    def _rescue(self, seen: Observation, done: Freed) -> Freed:
        dead = self._deaths(seen)
        if not dead:
            return done
        self.queue.record_deaths(dead)
        self.check("failing poison entries")
        poisoned = self.queue.fail_poison(
            [death for death in dead if death.alone], max_crashes=self.settings.max_crashes
        )
        self.check("the release")
        return replace(done, deaths=dead, poisoned=poisoned, released=self.queue.release_dead(dead))

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
        return Death(processor_id=claimant.processor_id, reason="the task has stopped, and ECS no longer knows it")
    if task.last_status != "STOPPED":
        return None
    crashed = has_crashed(task)
    return Death(
        processor_id=claimant.processor_id,
        reason=f"the task has stopped: {task.ending}"[:MAX_ERROR_MESSAGE_CHARACTERS],
        crashed=crashed,
        counted=ExitCode.counts_as_retry(task.exit_code),
        alone=crashed and claimant.entries == 1,
    )


def has_crashed(task: Task) -> bool:
    """Whether the task died by itself (out of memory, a signal, a fault), or hung and had to be stopped.

    A stop by a person, a deployment, a Spot interruption or a failing host says nothing about the task's entries.
    """
    reason = task.stopped_reason or ""
    if task.stop_code == _BY_ITSELF:
        return _OUT_OF_MEMORY in reason or ExitCode.is_crash(task.exit_code)
    return HUNG in reason or OVERDUE in reason
