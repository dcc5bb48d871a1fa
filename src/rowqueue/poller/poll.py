"""One tick, in order: live tasks, pulse, rescue, hung tasks, count, plan, launch, and one log line that explains it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from datetime import UTC, timedelta
from typing import TYPE_CHECKING

from rowqueue.errors import LaunchError, TickOverdue
from rowqueue.observability import Event, Metric, embedded, log, log_problem
from rowqueue.poller.backoff import Backoff, backoff, ending, may_have_died_at_boot, restrained
from rowqueue.poller.fleet import HUNG, OVERDUE, Fleet, processor_id, survey
from rowqueue.poller.launching import Launched, launch
from rowqueue.poller.plan import Demand, Holding, Plan, plan
from rowqueue.poller.report import Report, publish
from rowqueue.poller.rescue import Rescue, rescue
from rowqueue.settings import LARGEST_BLOCK, TICK_DEADLINE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from rowqueue.poller.fargate import Fargate
    from rowqueue.poller.fleet import Task
    from rowqueue.poller.queue import PolledQueue
    from rowqueue.records import Holder, Pulse
    from rowqueue.settings import PollerSettings

CLOCK_SKEW = timedelta(seconds=5)
"""How far the poller's clock may be off Snowflake's. It only decides whether to look closer, never what to write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Poller:
    """A tick's tools. Ticks may overlap: the launch tokens and the guarded statements make that harmless.

    Attributes:
        queue: the store.
        tasks: ECS.
        settings: the poller's.
        now: UTC, aware.
        seconds_left: until the tick has to give up; asked before each step.
        sleep: waits so many seconds.
    """

    queue: PolledQueue
    tasks: Fargate
    settings: PollerSettings
    now: datetime
    seconds_left: Callable[[], float]
    sleep: Callable[[float], None] = time.sleep

    def tick(self, *, by: str = "schedule") -> Report:
        """Run one tick.

        Args:
            by: what has triggered it, for the log line.

        Raises:
            RowqueueError: a number could not be read or something was refused for good; nothing is launched on a guess.
            TickOverdue: the time is used up; the next tick does the rest.
        """
        began = self.seconds_left()
        live = self.tasks.live_tasks()
        self._check("the pulse")
        pulse = self.queue.pulse()
        self._check("the rescue")
        exhausted = self.queue.fail_exhausted() if pulse.exhausted else 0
        holders = self.queue.holders() if pulse.processing else []
        rescued = self._rescue(holders, live)
        stale_reset = self._reset_stale(pulse)
        self._check("the survey")
        fleet, claimed = self._survey(live, holders)
        stopped, not_stopped = self._stop_hung(fleet)
        self._check("the count")
        freed = bool(stale_reset or rescued.released)
        holding = self._holding(pulse)
        ready = self._ready(pulse, holding, freed=freed)
        per_container = self._per_container(ready)
        demand = Demand(
            ready=ready,
            live=fleet.live,
            starting=fleet.starting,
            entries_per_container=per_container,
            max_containers=self.settings.max_containers,
            holding=holding,
        )
        decided, recent, launched = self._launch(demand, live, claimed)
        report = Report(
            by=by,
            pulse=pulse,
            plan=decided,
            ready=ready,
            per_container=per_container,
            oldest_ready_s=self._oldest_ready_s(pulse),
            stale_reset=stale_reset,
            exhausted=exhausted,
            rescue=rescued,
            fleet=fleet,
            stopped=stopped,
            launched=launched,
            recent=recent,
            seconds=began - self.seconds_left(),
        )
        publish(report)
        if problem := launched.fatal or not_stopped:
            raise LaunchError(problem)
        return report

    def attend(self, task_arn: str) -> Report | None:
        """ECS has said that a task stopped: free what it holds, and see what that calls for.

        An event may be late, doubled or forged, so ECS is asked; what it does not confirm changes nothing.

        Returns:
            The report of the tick that followed; ``None`` where nothing was freed, for then there is nothing to do.

        Raises:
            RowqueueError: as :meth:`tick`.
        """
        task = self.tasks.find([task_arn]).get(task_arn.rsplit("/", 1)[-1])
        if task is None or task.last_status != "STOPPED":
            log(Event.TASK_STOPPED, task=task_arn, confirmed=False)
            return None
        name = processor_id(self.settings.environment, task.arn)
        held = [holder for holder in self.queue.holders() if holder.processor_id == name]
        log_problem(
            Event.TASK_STOPPED,
            task=task_arn,
            confirmed=True,
            processor_id=name,
            stop_code=task.stop_code,
            exit_code=task.exit_code,
            reason=ending(task),
            ran=task.started_at is not None,
            entries_held=sum(holder.entries for holder in held),
            **embedded({Metric.TASKS_DIED: 1}),
        )
        return self.tick(by="task_stopped") if held else None

    def _rescue(self, holders: list[Holder], live: list[Task]) -> Rescue:
        rescued = rescue(
            self.queue,
            self.tasks,
            holders,
            live,
            environment=self.settings.environment,
            max_crashes=self.settings.max_crashes,
            now=self._utc(),
        )
        for death in rescued.deaths:
            log_problem(Event.CLAIMS_RESCUED, processor_id=death.processor_id, reason=death.reason)
        return rescued

    def _reset_stale(self, pulse: Pulse) -> int:
        """Only when there is something: an UPDATE needs a warehouse and the lock even when it finds nothing."""
        threshold = timedelta(seconds=self.settings.stale_threshold_s)
        if pulse.earliest_claimed_at is None or pulse.earliest_claimed_at > self._utc() - threshold + CLOCK_SKEW:
            return 0
        return self.queue.reset_stale(stale_threshold_s=self.settings.stale_threshold_s)

    def _survey(self, live: list[Task], holders: list[Holder]) -> tuple[Fleet, set[str]]:
        """The live tasks by what they are up to, and those that have claimed."""
        claimed = self._claimed(live) if live else set()
        holding = {holder.processor_id for holder in holders}
        claimed |= {task.arn for task in live if processor_id(self.settings.environment, task.arn) in holding}
        fleet = survey(
            live,
            claimed=claimed,
            now=self.now,
            boot_deadline_s=self.settings.boot_deadline_s,
            oldest_task_s=self.settings.oldest_task_s,
        )
        return fleet, claimed

    def _claimed(self, tasks: Iterable[Task]) -> set[str]:
        """ARNs of those that have made their first claim."""
        names = {processor_id(self.settings.environment, task.arn): task.arn for task in tasks}
        return {names[name] for name in self.queue.processors_seen(names)}

    def _stop_hung(self, fleet: Fleet) -> tuple[int, str | None]:
        """Stop what hangs or is overdue, whatever the queue says; returns how many, and what was refused for good."""
        stopped = 0
        for task, reason in [*((task, HUNG) for task in fleet.hung), *((task, OVERDUE) for task in fleet.overdue)]:
            try:
                problem = self.tasks.stop(task, reason=reason)
            except LaunchError as error:
                return stopped, str(error)
            if problem is None:
                stopped += 1
            else:
                log_problem(Event.TASK_NOT_STOPPED, task=task.arn, error=problem)
        return stopped, None

    def _ready(self, pulse: Pulse, holding: Holding, *, freed: bool) -> int:
        """Entries that a claim would take; not counted where the pulse says that there can be none."""
        at = pulse.earliest_available_at
        maybe = freed or (at is not None and at <= self._utc() + CLOCK_SKEW)
        if holding is Holding.STANDING or not maybe:
            return 0
        return self.queue.count_ready(probe=holding is Holding.ENDED)

    def _holding(self, pulse: Pulse) -> Holding:
        """By the poller's clock; the claim itself looks again, by Snowflake's."""
        if not pulse.holds:
            return Holding.NONE
        assert pulse.held_until is not None
        return Holding.STANDING if pulse.held_until > self._utc() else Holding.ENDED

    def _per_container(self, ready: int) -> int:
        """A target for each task, not its capacity; by a setting it follows what tasks took of late."""
        target = self.settings.entries_per_container
        if not self.settings.adaptive or ready <= target:
            return target
        return min(LARGEST_BLOCK, max(target, math.floor(self.queue.recent_take() or 0)))

    def _launch(self, demand: Demand, live: list[Task], claimed: set[str]) -> tuple[Plan, Backoff, Launched]:
        """Plan, and carry it out unless launches of late say better not."""
        decided = plan(demand)
        if not decided.launch:
            return decided, Backoff(), Launched()
        self._check(f"launching {decided.launch} tasks")
        # Another tick may have launched since this one listed the tasks, also in a period that has ended since.
        listed = {task.arn for task in live}
        late = [task for task in self.tasks.live_tasks() if task.arn not in listed]
        decided = plan(replace(demand, live=demand.live + len(late), starting=demand.starting + len(late)))
        known = [*live, *late, *self.tasks.stopped_tasks()]
        doubtful = [task for task in known if may_have_died_at_boot(task)]
        recent = backoff(
            known,
            claimed=claimed | (self._claimed(doubtful) if doubtful else set()),
            definition=self.settings.task_definition,
            tick_s=self.settings.tick_s,
        )
        decided = restrained(decided, recent, now=self.now)
        period = self._period(self.now)
        launched = launch(
            self.tasks,
            decided,
            period=period,
            task_definition=self.settings.task_definition,
            first_slot=sum(task.created_at is None or self._period(task.created_at) == period for task in known),
            seconds_left=self.seconds_left,
            sleep=self.sleep,
        )
        return decided, recent, launched

    def _period(self, at: datetime) -> int:
        return int(at.timestamp() // self.settings.tick_s)

    def _oldest_ready_s(self, pulse: Pulse) -> float:
        if pulse.earliest_available_at is None:
            return 0.0
        return max(0.0, (self._utc() - pulse.earliest_available_at).total_seconds())

    def _utc(self) -> datetime:
        """As Snowflake tells time: UTC without a zone."""
        return self.now.astimezone(UTC).replace(tzinfo=None)

    def _check(self, step: str) -> None:
        if self.seconds_left() <= 0:
            raise TickOverdue(f"the tick gave up before {step}: {TICK_DEADLINE_S} s are over, and the next one is due")
