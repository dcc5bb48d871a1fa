"""One tick, in order: live tasks, pulse, rescue, hung tasks, count, plan, launch, and one log line that explains it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from datetime import UTC
from typing import TYPE_CHECKING

from rowqueue.contract import processor_id
from rowqueue.errors import LaunchError, TickOverdue
from rowqueue.observability import Event, Metric, embedded, log, log_problem
from rowqueue.poller.backoff import Backoff, backoff, ending, may_have_died_at_boot, restrained
from rowqueue.poller.clearing import CLOCK_SKEW, clear
from rowqueue.poller.fleet import HUNG, OVERDUE, Fleet, survey
from rowqueue.poller.launching import Launched, launch
from rowqueue.poller.plan import Demand, Holding, Plan, plan
from rowqueue.poller.report import Report, publish
from rowqueue.settings import LARGEST_BLOCK, STEP_S, TICK_DEADLINE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from rowqueue.poller.fargate import Fargate
    from rowqueue.poller.fleet import Task
    from rowqueue.poller.queue import PolledQueue
    from rowqueue.records import Holder, Pulse
    from rowqueue.settings import PollerSettings


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
            RowqueueError: a number could not be read, and nothing is launched on a guess; or, after everything else was
                done and told, something was refused for good, or what the dead and the stale hold could not be freed.
            TickOverdue: the time is used up; the next tick does the rest.
        """
        began = self.seconds_left()
        live = self.tasks.live_tasks()
        self._check("the pulse")
        pulse = self.queue.pulse()
        self._check("the holders")
        holders = self.queue.holders() if pulse.processing else []
        cleared = clear(
            self.queue, self.tasks, pulse, holders, live, settings=self.settings, now=self._utc(), check=self._check
        )
        self._check("the survey")
        fleet, claimed = self._survey(live, holders)
        stopped, not_stopped = self._stop_hung(fleet)
        holding = self._holding(pulse)
        recent, known = Backoff(), list(live)
        if not live and self._may_be_ready(pulse, holding, freed=cleared.freed):
            # Before the count, which wakes the warehouse: while launches keep dying nobody shall pay for that too.
            recent, known = self._recent(live, claimed)
        ready = self._ready(pulse, holding, recent, freed=cleared.freed)
        per_container = self._per_container(ready or 0)
        demand = Demand(
            ready=ready or 0,
            live=fleet.live,
            starting=fleet.starting,
            entries_per_container=per_container,
            max_containers=self.settings.max_containers,
            holding=holding,
        )
        decided = restrained(plan(demand), recent, now=self.now)
        launched = Launched()
        if decided.launch:
            self._check(f"launching {decided.launch} tasks")
            if live:
                recent, known = self._recent(live, claimed)
            decided, launched = self._launch(demand, recent, known)
        problem = cleared.problem or not_stopped or (LaunchError(launched.fatal) if launched.fatal else None)
        report = Report(
            by=by,
            pulse=pulse,
            held=holding is Holding.STANDING,
            plan=decided,
            ready=ready,
            per_container=per_container,
            oldest_ready_s=self._oldest_ready_s(pulse),
            stale_reset=cleared.stale_reset,
            exhausted=cleared.exhausted,
            rescue=cleared.rescue,
            fleet=fleet,
            stopped=stopped,
            launched=launched,
            recent=recent,
            seconds=began - self.seconds_left(),
            problem=None if problem is None else str(problem),
        )
        publish(report)
        if problem is not None:
            raise problem
        return report

    def attend(self, task_arn: str) -> Report | None:
        """ECS has said that a task stopped: free what it holds, and see what that calls for.

        An event may be late, doubled or forged, so ECS is asked; what it does not confirm changes nothing.

        Returns:
            The report of the tick that followed; ``None`` where nothing was freed, for then there is nothing to do.

        Raises:
            RowqueueError: as :meth:`tick`.
        """
        task = self._confirmed(task_arn)
        if task is None:
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

    def _confirmed(self, task_arn: str) -> Task | None:
        """The task, if ECS says that it is ours and has stopped."""
        if not self.tasks.may_be_on_our_cluster(task_arn):
            return None
        task = self.tasks.find([task_arn]).get(task_arn.rsplit("/", 1)[-1])
        return task if task and self.tasks.is_ours(task) and task.last_status == "STOPPED" else None

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

    def _stop_hung(self, fleet: Fleet) -> tuple[int, LaunchError | None]:
        """Stop what hangs or is overdue, whatever the queue says; returns how many, and what was refused for good."""
        stopped, refused = 0, None
        for task, reason in [*((task, HUNG) for task in fleet.hung), *((task, OVERDUE) for task in fleet.overdue)]:
            self._check("stopping what hangs")
            try:
                problem = self.tasks.stop(task, reason=reason)
            except LaunchError as error:
                refused, problem = error, str(error)
            if problem is None:
                stopped += 1
            else:
                log_problem(Event.TASK_NOT_STOPPED, task=task.arn, error=problem)
        return stopped, refused

    def _may_be_ready(self, pulse: Pulse, holding: Holding, *, freed: bool) -> bool:
        """Whether a claim may find something, as far as the pulse can tell, and there may be a task to make it."""
        at = pulse.earliest_available_at
        maybe = freed or (at is not None and at <= self._utc() + CLOCK_SKEW)
        return maybe and holding is not Holding.STANDING and self.settings.max_containers > 0

    def _ready(self, pulse: Pulse, holding: Holding, recent: Backoff, *, freed: bool) -> int | None:
        """Entries that a claim would take; ``None`` where nothing could be launched, and they are not counted."""
        if self.now < recent.until or holding is Holding.STANDING or not self.settings.max_containers:
            return None
        if not self._may_be_ready(pulse, holding, freed=freed):
            return 0
        self._check("the count")
        return self.queue.count_ready(probe=holding is Holding.ENDED).entries

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

    def _recent(self, live: list[Task], claimed: set[str]) -> tuple[Backoff, list[Task]]:
        """How launches have gone of late, and the tasks that tell."""
        # A task that has stopped since it was listed is in both; the later word counts.
        known = list({task.arn: task for task in [*live, *self.tasks.stopped_tasks()]}.values())
        doubtful = [task for task in known if may_have_died_at_boot(task)]
        recent = backoff(
            known,
            claimed=claimed | (self._claimed(doubtful) if doubtful else set()),
            definition=self.settings.task_definition,
            tick_s=self.settings.tick_s,
        )
        return recent, known

    def _launch(self, demand: Demand, recent: Backoff, known: list[Task]) -> tuple[Plan, Launched]:
        """Carry the plan out. Right before, the tasks are listed again: another tick may have launched meanwhile."""
        seen = {task.arn: task for task in known}
        late = [task for task in self.tasks.live_tasks() if task.arn not in seen]
        demand = replace(demand, live=demand.live + len(late), starting=demand.starting + len(late))
        decided = restrained(plan(demand), recent, now=self.now)
        launched = launch(
            self.tasks,
            decided,
            period=int(self.now.timestamp() // self.settings.tick_s),
            task_definition=self.settings.task_definition,
            known=[*seen.values(), *late],
            seconds_left=self.seconds_left,
            sleep=self.sleep,
        )
        return decided, launched

    def _oldest_ready_s(self, pulse: Pulse) -> float:
        if pulse.earliest_available_at is None:
            return 0.0
        return max(0.0, (self._utc() - pulse.earliest_available_at).total_seconds())

    def _utc(self) -> datetime:
        """As Snowflake tells time: UTC without a zone."""
        return self.now.astimezone(UTC).replace(tzinfo=None)

    def _check(self, step: str) -> None:
        if self.seconds_left() < STEP_S:
            raise TickOverdue(f"the tick gave up before {step}: its {TICK_DEADLINE_S} s are nearly over")
