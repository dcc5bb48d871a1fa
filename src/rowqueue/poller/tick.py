"""One tick: observe the queue and the tasks, decide how many tasks to launch, act, and write one log line."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from rowqueue.contract import processor_id
from rowqueue.errors import LaunchError, TickOverdue
from rowqueue.observability import Event, Metric, embedded, log, log_problem
from rowqueue.poller.cleaning import Cleaner, Freed, Stopped
from rowqueue.poller.decide import Decision, Need, decide
from rowqueue.poller.fleet import KNOWN_WITHIN
from rowqueue.poller.launching import Launched, Launcher, spot_is_full
from rowqueue.poller.lease import EarlierLaunches, TakenElsewhere
from rowqueue.poller.observe import Observer
from rowqueue.poller.report import TickReport, publish
from rowqueue.settings import STEP_S, TICK_DEADLINE_S

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from rowqueue.poller.decide import Observation
    from rowqueue.poller.fargate import Fargate
    from rowqueue.poller.fleet import Task, TaskRequest
    from rowqueue.poller.lease import Lease, Taken
    from rowqueue.poller.queue import PollerQueue
    from rowqueue.settings import PollerSettings


class Poller:
    """Runs a tick. Ticks may overlap: the lease and the guarded statements make that harmless.

    Args:
        queue: the poller's store.
        tasks: ECS.
        lease: the right to launch.
        settings: the poller's.
        now: UTC, aware.
        seconds_left: until the tick has to give up; asked before each step.
        sleep: waits a number of seconds.
    """

    def __init__(
        self,
        *,
        queue: PollerQueue,
        tasks: Fargate,
        lease: Lease,
        settings: PollerSettings,
        now: datetime,
        seconds_left: Callable[[], float],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._queue = queue
        self._tasks = tasks
        self._lease = lease
        self._now = now
        self._settings = settings
        self._seconds_left = seconds_left
        self._observer = Observer(queue=queue, tasks=tasks, settings=settings, now=now, check=self._check)
        self._cleaner = Cleaner(
            queue=queue, tasks=tasks, settings=settings, check=self._check, seconds_left=seconds_left
        )
        self._launcher = Launcher(
            tasks=tasks,
            tick=lease.tick,
            replace_spot=settings.may_replace_spot,
            seconds_left=seconds_left,
            sleep=sleep,
        )

    def tick(self, *, by: str = "schedule") -> TickReport:
        """Run one tick.

        Args:
            by: the trigger, for the log line.

        Raises:
            RowqueueError: a number could not be read, and nothing is launched on a guess; or, after everything else was
                done and logged, a request was refused for good, or entries could not be freed.
            TickOverdue: the time is used up; the next tick does the rest. The line says what was done.
        """
        began = self._seconds_left()
        seen = self._observer.overview()
        freed, stopped, launched, overdue = Freed(), Stopped(), Launched(), None
        decision = Decision(ready=None, entries_per_container=self._settings.entries_per_container)
        try:
            freed = self._cleaner.free(seen)
            seen = self._observer.with_fleet(replace(seen, freed=freed.has_effect))
            stopped = self._cleaner.stop_hung(seen.fleet)
            seen, decision = self._decide(seen)
            if decision.launch:
                self._check(f"launching {decision.launch} tasks")
                seen, decision, launched = self._launch(seen, decision)
        except TickOverdue as error:
            overdue, decision = error, replace(decision, launch=0, reason=str(error))
        report = TickReport(
            by=by,
            seen=seen,
            decision=decision,
            freed=freed,
            stopped=stopped,
            launched=launched,
            overdue=overdue,
            seconds=began - self._seconds_left(),
        )
        publish(report)
        if report.problem is not None:
            raise report.problem
        return report

    def attend(self, task_arn: str) -> TickReport | None:
        """React to ECS's event that a task stopped: free the entries it had in hand, with a tick.

        An event may be late, repeated or forged, so the poller asks ECS. Without ECS's confirmation nothing changes.

        Returns:
            The report of the tick; ``None`` if the task had no entries in hand, because then there is nothing to do.

        Raises:
            RowqueueError: as :meth:`tick`.
        """
        task = self._confirmed(task_arn)
        if task is None:
            log(Event.TASK_STOPPED, task=task_arn, confirmed=False)
            return None
        name = processor_id(self._settings.environment, task.arn)
        self._check("the claimants")
        entries = [claimant.entries for claimant in self._queue.claimants() if claimant.processor_id == name]
        log_problem(
            Event.TASK_STOPPED,
            task=task_arn,
            confirmed=True,
            processor_id=name,
            stop_code=task.stop_code,
            exit_code=task.exit_code,
            reason=task.ending,
            ran=task.started_at is not None,
            entries_in_hand=sum(entries),
            **embedded({Metric.TASKS_DIED: 1}),
        )
        return self.tick(by="task_stopped") if entries else None

    def _confirmed(self, task_arn: str) -> Task | None:
        """The task, if ECS says that it is ours and has stopped."""
        if not self._tasks.may_be_on_our_cluster(task_arn):
            return None
        task = self._tasks.find([task_arn]).get(task_arn.rsplit("/", 1)[-1])
        return task if task and self._tasks.is_ours(task) and task.last_status == "STOPPED" else None

    def _decide(self, seen: Observation) -> tuple[Observation, Decision]:
        """Decide, and observe what the decision needs until there is one."""
        while isinstance(decision := decide(seen, self._settings), Need):
            seen = self._observer.with_needed(decision, seen)
        return seen, decision

    def _launch(self, seen: Observation, decision: Decision) -> tuple[Observation, Decision, Launched]:
        """Take the lease, look and decide again, launch, and give the lease back.

        If a fault of this program ends the launch, the lease is kept until it expires: nobody knows what was started.
        """
        try:
            lease = self._lease.take()
        except LaunchError as error:
            decision = replace(decision, launch=0, reason="nothing is launched without the lease")
            return seen, decision, Launched(problem=error)
        if isinstance(lease, TakenElsewhere):
            until = "" if lease.until is None else f"; it expires at {lease.until:%H:%M:%S} UTC"
            return seen, replace(decision, launch=0, reason=f"another tick has the lease{until}"), Launched()
        earlier = self._plausible(lease.earlier)
        seen, decision = self._decide_under(lease, seen, earlier)
        repeated = Launched()
        if (request := earlier.unanswered) is not None:
            # Also if a probe is due: until it is answered, an ordinary task claims nothing and ends by itself.
            allowed = decision.launch >= request.count
            if allowed:
                repeated = self._launcher.repeat(request)
            if not allowed or repeated.unanswered:
                decision = replace(decision, launch=0, reason=_while_unanswered(decision, request, repeated=allowed))
                problem = self._lease.give_back(lease, earlier)
                return seen, decision, replace(repeated, problem=repeated.problem or problem)
            named = dict.fromkeys(repeated.started, earlier.asked_at or self._now)
            earlier = EarlierLaunches(launched={**earlier.launched, **named})
            seen, decision = self._decide_under(lease, seen, earlier)
            of_earlier = f"{len(repeated.started)} tasks are of an earlier launch that was not answered"
            decision = replace(decision, reason=f"{decision.reason}; {of_earlier}")
        launched = self._launcher.launch(decision, spot_is_full=spot_is_full(seen.stopped, now=self._now))
        earlier = EarlierLaunches(
            launched={**seen.launched, **dict.fromkeys(launched.started, self._now)},
            unanswered=launched.unanswered,
            asked_at=self._now if launched.unanswered else None,
        )
        problem = self._lease.give_back(lease, earlier)
        # The tick whose request was not answered has not reported the tasks that the repetition named.
        launched = replace(launched, started=repeated.started + launched.started, problem=launched.problem or problem)
        return seen, decision, launched

    def _decide_under(self, lease: Taken, seen: Observation, earlier: EarlierLaunches) -> tuple[Observation, Decision]:
        """List the tasks again and decide again. If that fails, give the lease back."""
        try:
            return self._decide(self._observer.under_lease(seen, earlier.launched))
        except BaseException:
            self._lease.give_back(lease, earlier)
            raise

    def _plausible(self, earlier: EarlierLaunches) -> EarlierLaunches:
        """What the lease says, without what cannot be: the lease may have been damaged.

        A launch was in the past, its tasks are on our cluster, and an old request is not repeated any more.
        """
        launched = {
            arn: min(at, self._now) for arn, at in earlier.launched.items() if self._tasks.may_be_on_our_cluster(arn)
        }
        asked_at = earlier.asked_at and min(earlier.asked_at, self._now)
        if asked_at is None or self._now - asked_at >= KNOWN_WITHIN:
            return EarlierLaunches(launched=launched)
        return EarlierLaunches(launched=launched, unanswered=earlier.unanswered, asked_at=asked_at)

    def _check(self, step: str) -> None:
        if self._seconds_left() < STEP_S:
            raise TickOverdue(f"the tick gave up before {step}: its {TICK_DEADLINE_S} s are nearly over")


def _while_unanswered(decision: Decision, request: TaskRequest, *, repeated: bool) -> str:
    """Why nothing is launched while an earlier launch has no answer.

    A decision that does not allow the tasks of that launch allows none beside them.
    """
    if repeated:
        return "an earlier launch has not been answered yet"
    earlier = f"an earlier launch of {request.count} tasks was not answered and is not repeated: they may be live"
    return f"{decision.reason}; {earlier}"
