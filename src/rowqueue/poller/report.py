"""What one tick saw, did and why: one log line, whose numbers are the metrics too."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rowqueue.observability import Event, Metric, embedded, log
from rowqueue.poller.backoff import Backoff
from rowqueue.poller.fleet import Fleet
from rowqueue.poller.launching import Launched
from rowqueue.poller.rescue import Rescue, by_processor

if TYPE_CHECKING:
    from rowqueue.poller.plan import Plan
    from rowqueue.records import Pulse


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What one tick saw and did.

    Attributes:
        by: what has triggered the tick.
        pulse: the glance at the queue.
        held: whether a hold stands; one that has ended and awaits its probe does not.
        plan: what was decided, and why.
        ready: entries that a claim would take, 0 if the pulse ruled that out, ``None`` if they were not counted.
        per_container: ready entries for which one task is started.
        oldest_ready_s: how long the entry that has been ready for longest has waited, seconds.
        stale_reset: stale claims taken away.
        exhausted: entries failed because they had no attempts left.
        rescue: what dead tasks held, and is free again.
        fleet: the live tasks, before the launch.
        stopped: tasks that were told to end, for they hung or were overdue.
        launched: what became of the launch.
        recent: how launches have gone of late, if there was one to decide.
        seconds: how long the tick took.
        problem: what is raised after the line, if the tick was not a good one.
    """

    by: str
    pulse: Pulse
    held: bool
    plan: Plan
    ready: int | None
    per_container: int
    oldest_ready_s: float
    stale_reset: int = 0
    exhausted: int = 0
    rescue: Rescue = field(default_factory=Rescue)
    fleet: Fleet = field(default_factory=Fleet)
    stopped: int = 0
    launched: Launched = field(default_factory=Launched)
    recent: Backoff = field(default_factory=Backoff)
    seconds: float = 0.0
    problem: str | None = None


def publish(report: Report) -> None:
    """Write the line. That of a good tick is the heartbeat too: without it for some minutes, an alarm goes off."""
    log(
        Event.TICK,
        by=report.by,
        need=report.plan.need,
        planned=report.plan.launch,
        reason=report.plan.reason,
        probe=report.plan.probe,
        entries_per_container=report.per_container,
        overdue=len(report.fleet.overdue),
        exhausted_failed=report.exhausted,
        launch_failures=dict(report.launched.failures),
        launches_left=report.launched.left,
        boot_failure=report.recent.reason,
        deaths=by_processor(report.rescue.deaths),
        hold=report.pulse.hold_reason,
        seconds=round(report.seconds, 3),
        problem=report.problem,
        **embedded(_metrics(report)),
    )


def _metrics(report: Report) -> dict[Metric, float | list[float]]:
    pulse, fleet, rescue, launched = report.pulse, report.fleet, report.rescue, report.launched
    heartbeat: dict[Metric, float | list[float]] = {} if report.problem else {Metric.TICKS_COMPLETED: 1}
    counted: dict[Metric, float | list[float]] = {} if report.ready is None else {Metric.ENTRIES_READY: report.ready}
    return (
        heartbeat
        | counted
        | {
            Metric.ENTRIES_PENDING: pulse.pending,
            Metric.ENTRIES_PROCESSING: pulse.processing,
            Metric.ENTRIES_UNKNOWN_STATUS: pulse.unknown,
            Metric.ENTRIES_EXHAUSTED: pulse.exhausted,
            Metric.OLDEST_READY_SECONDS: round(report.oldest_ready_s, 1),
            Metric.STALE_ENTRIES_RESET: report.stale_reset,
            Metric.ENTRIES_RESCUED: rescue.released,
            Metric.ENTRIES_POISONED: rescue.poisoned,
            Metric.ENTRIES_FAILED: rescue.poisoned + report.exhausted,
            Metric.HOLDS: int(report.held),
            Metric.TASKS_LIVE: fleet.live,
            Metric.TASKS_STARTING: fleet.starting,
            Metric.TASKS_HUNG: len(fleet.hung),
            Metric.TASKS_STOPPED: report.stopped,
            Metric.TASKS_LAUNCHED: len(launched.started),
            Metric.LAUNCH_FAILURES: sum(launched.failures.values()),
            Metric.BOOT_FAILURES: report.recent.failures,
        }
    )
