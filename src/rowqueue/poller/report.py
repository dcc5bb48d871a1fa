"""What one tick saw, did and why: one log line. Its numbers are also the metrics."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import MAXYEAR
from typing import TYPE_CHECKING

from rowqueue.contract import HoldAnswer, tick_answer, utc_text
from rowqueue.observability import Event, Metric, embedded, log
from rowqueue.poller.backoff import Backoff
from rowqueue.poller.decide import HoldState

if TYPE_CHECKING:
    from rowqueue.contract import TickAnswer
    from rowqueue.errors import RowqueueError, TickOverdue
    from rowqueue.poller.cleaning import Freed, Stopped
    from rowqueue.poller.decide import Decision, Observation
    from rowqueue.poller.launching import Launched
    from rowqueue.poller.records import Pulse


@dataclass(frozen=True, slots=True, kw_only=True)
class TickReport:
    """What one tick saw and did.

    Attributes:
        by: the trigger of the tick.
        seen: what it observed.
        decision: what it decided, and why.
        freed: which entries it freed before.
        stopped: which hung and overdue tasks it stopped.
        launched: the result of the launch.
        overdue: why the tick gave up, if it had no time for the rest.
        seconds: how long it took.
    """

    by: str
    seen: Observation
    decision: Decision
    freed: Freed
    stopped: Stopped
    launched: Launched
    overdue: TickOverdue | None = None
    seconds: float

    @property
    def problem(self) -> RowqueueError | None:
        """What is raised after the line, if a part of the tick failed."""
        return self.freed.problem or self.stopped.problem or self.launched.problem or self.overdue

    @property
    def reason(self) -> str:
        """Why this number of tasks was launched, and why others were not."""
        missing = [f"{count} not started: {why}" for why, count in self.launched.failures.items()]
        missing += [f"{self.launched.left} left to the next tick, for lack of time"] if self.launched.left else []
        return "; ".join([self.decision.reason, *missing, *_unserved(self.seen.pulse)])

    @property
    def backoff(self) -> Backoff:
        """How the recent launches ended; as if all were good, if they were not looked up."""
        return self.seen.backoff or Backoff()


def answer_of(report: TickReport, *, environment: str) -> TickAnswer:
    """What the function answers."""
    seen = report.seen
    return tick_answer(
        environment=environment,
        pending=seen.pulse.pending,
        ready=seen.ready,
        reason=report.reason,
        hold=_hold(seen.pulse),
        next_due_at=seen.next_due_at,
        stale_reset=report.freed.stale_reset,
        rescued=report.freed.released,
        started=report.launched.started,
    )


def _unserved(pulse: Pulse) -> list[str]:
    """Entries that wait although nobody works for them."""
    if not pulse.unserved:
        return []
    return [
        f"{pulse.unserved} pending are of destinations that no program serves, such as {pulse.unserved_destination!r}"
    ]


def _hold(pulse: Pulse) -> HoldAnswer | None:
    if not pulse.holds:
        return None
    until = pulse.held_until
    ends = until is not None and until.year < MAXYEAR  # the pulse names the last year if a person has to end it
    return HoldAnswer(reason=pulse.hold_reason or "", until=utc_text(until) if until and ends else None)


def publish(report: TickReport) -> None:
    """Write the line. After a good tick it is also the heartbeat; an alarm goes off if it is missing for minutes."""
    log(
        Event.TICK,
        by=report.by,
        need=report.decision.need,
        planned=report.decision.launch,
        reason=report.reason,
        probe=report.decision.probe,
        entries_per_container=report.decision.entries_per_container,
        overdue=len(report.seen.fleet.overdue),
        exhausted_failed=report.freed.exhausted,
        cancelled=report.freed.cancelled,
        launch_failures=dict(report.launched.failures),
        launches_left=report.launched.left,
        on_demand_for_spot=report.launched.replaced,
        boot_failure=report.backoff.reason,
        deaths={death.processor_id: death.reason for death in report.freed.deaths},
        hold=report.seen.pulse.hold_reason,
        hold_kind=report.seen.pulse.hold_kind,
        unserved=report.seen.pulse.unserved,
        unserved_destination=report.seen.pulse.unserved_destination,
        seconds=round(report.seconds, 3),
        problem=None if report.problem is None else str(report.problem),
        **embedded(_metrics(report)),
    )


def _metrics(report: TickReport) -> dict[Metric, float | list[float]]:
    pulse, fleet, freed, launched = report.seen.pulse, report.seen.fleet, report.freed, report.launched
    ready = report.decision.ready
    heartbeat: dict[Metric, float | list[float]] = {} if report.problem else {Metric.TICKS_COMPLETED: 1}
    counted: dict[Metric, float | list[float]] = {} if ready is None else {Metric.ENTRIES_READY: ready}
    # A tick that gave up may not have sorted the tasks.
    sorted_: dict[Metric, float | list[float]] = {
        Metric.TASKS_LIVE: fleet.live,
        Metric.TASKS_STARTING: fleet.starting,
        Metric.TASKS_HUNG: len(fleet.hung),
    }
    return (
        heartbeat
        | counted
        | ({} if report.overdue else sorted_)
        | {
            Metric.ENTRIES_PENDING: pulse.pending,
            Metric.ENTRIES_PROCESSING: pulse.processing,
            Metric.ENTRIES_UNKNOWN_STATUS: pulse.unknown,
            Metric.ENTRIES_EXHAUSTED: pulse.exhausted,
            Metric.OLDEST_READY_SECONDS: round(report.seen.oldest_ready_s, 1),
            Metric.STALE_ENTRIES_RESET: freed.stale_reset,
            Metric.ENTRIES_RESCUED: freed.released,
            Metric.ENTRIES_POISONED: freed.poisoned,
            Metric.ENTRIES_FAILED: freed.poisoned + freed.exhausted,
            Metric.HOLDS: int(report.seen.hold is HoldState.STANDING),
            Metric.FENCE_SECONDS: round(report.seen.fenced_s, 1),
            Metric.TASKS_STOPPED: report.stopped.count,
            Metric.TASKS_LAUNCHED: len(launched.started),
            Metric.LAUNCH_FAILURES: sum(launched.failures.values()),
            Metric.BOOT_FAILURES: report.backoff.failures,
        }
    )
