"""What a tick observes, step by step: each step asks ECS or Snowflake and returns a larger observation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, assert_never

from rowqueue.contract import processor_id
from rowqueue.poller.backoff import backoff, may_have_died_at_boot, was_interrupted
from rowqueue.poller.decide import HoldState, Need, Observation
from rowqueue.poller.fleet import survey, unlisted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from rowqueue.poller.fargate import Fargate
    from rowqueue.poller.fleet import Task
    from rowqueue.poller.queue import PollerQueue
    from rowqueue.settings import PollerSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Observer:
    """What the steps need.

    Attributes:
        queue: the poller's store.
        tasks: ECS.
        settings: the poller's.
        now: UTC, aware.
        check: raises if there is no time left for the step that it names.
    """

    queue: PollerQueue
    tasks: Fargate
    settings: PollerSettings
    now: datetime
    check: Callable[[str], None]

    def overview(self) -> Observation:
        """The first step: the live tasks, the pulse, and the workers that have claims."""
        live = tuple(self.tasks.live_tasks())
        self.check("the pulse")
        pulse = self.queue.pulse()
        self.check("the claimants")
        claimants = tuple(self.queue.claimants()) if pulse.processing else ()
        return Observation(now=self.now, pulse=pulse, live=live, claimants=claimants)

    def with_fleet(self, seen: Observation) -> Observation:
        """Which live tasks have claimed, and so which are starting, hung or overdue."""
        claimed = self._claimed(seen.live) if seen.live else frozenset()
        with_claims = {claimant.processor_id for claimant in seen.claimants}
        claimed |= {task.arn for task in seen.live if self._name(task) in with_claims}
        fleet = survey(
            seen.live,
            claimed=claimed,
            now=self.now,
            boot_deadline_s=self.settings.boot_deadline_s,
            oldest_task_s=self.settings.oldest_task_s,
        )
        return replace(seen, claimed=claimed, fleet=fleet)

    def with_needed(self, need: Need, seen: Observation) -> Observation:
        """What a decision needs."""
        match need:
            case Need.BACKOFF:
                return self._with_backoff(seen)
            case Need.COUNT:
                self.check("the count")
                return replace(seen, ready=self.queue.count_ready(probe=seen.hold is HoldState.ENDED))
            case Need.RECENT_TAKE:
                self.check("the recent take")
                return replace(seen, recent_take=self.queue.recent_take() or 0.0)
        assert_never(need)

    def under_lease(self, seen: Observation, launched: Mapping[str, datetime]) -> Observation:
        """List the tasks again, because another tick may have launched some; and look up the back-off if unknown.

        Args:
            seen: the observation so far.
            launched: ARNs of the tasks that earlier ticks launched, each with the time of its launch.
        """
        if seen.backoff is None:
            seen = self._with_backoff(seen)
        self.check("the list under the lease")
        listed = {task.arn: task for task in self.tasks.live_tasks()}
        missing = [arn for arn in launched if arn not in listed]
        others = unlisted(launched, listed=listed, described=self.tasks.find(missing) if missing else {}, now=self.now)
        counted = {task.arn for task in seen.live}
        present = {task.arn: task for task in (*seen.stopped, *others, *listed.values()) if not task.has_stopped}
        new = [task for arn, task in present.items() if arn not in counted]
        return replace(
            seen,
            late=tuple(task for task in new if task.is_wanted),
            stopping=tuple(task for task in new if not task.is_wanted),
            launched={arn: at for arn, at in launched.items() if arn in present},
        )

    def _with_backoff(self, seen: Observation) -> Observation:
        self.check("the back-off")
        seen = replace(seen, stopped=tuple(self.tasks.stopped_tasks()))
        unclear = [task for task in seen.known if may_have_died_at_boot(task)]
        if unclear:  # one of the others that was interrupted after its first claim ends the back-off
            unclear += [task for task in seen.known if was_interrupted(task)]
        recent = backoff(
            seen.known,
            claimed=seen.claimed | (self._claimed(unclear) if unclear else frozenset()),
            definition=self.settings.task_definition,
            tick_s=self.settings.tick_s,
        )
        return replace(seen, backoff=recent)

    def _claimed(self, tasks: Iterable[Task]) -> frozenset[str]:
        """ARNs of those that have made their first claim."""
        self.check("the processors")
        names = {self._name(task): task.arn for task in tasks}
        return frozenset(names[name] for name in self.queue.processors_seen(names))

    def _name(self, task: Task) -> str:
        return processor_id(self.settings.environment, task.arn)
