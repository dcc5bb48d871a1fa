"""One tick, in order: live tasks, pulse, reset, count, plan, launch, and one log line that explains it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, timedelta
from typing import TYPE_CHECKING

from rowqueue.errors import TickOverdue
from rowqueue.observability import Event, Metric, embedded, log
from rowqueue.poller.fargate import Launch, client_token, processor_id
from rowqueue.poller.plan import Demand, Holding, Plan, groups, plan
from rowqueue.settings import TICK_DEADLINE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from rowqueue.poller.fargate import Fargate, Task
    from rowqueue.records import Pulse
    from rowqueue.settings import PollerSettings
    from rowqueue.store import QueueStore

CLOCK_SKEW = timedelta(seconds=5)
"""How far the poller's clock may be off Snowflake's. It only decides whether to look closer, never what to write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What one tick saw and did.

    Attributes:
        ready: entries that a claim would take, or 0 if the pulse ruled that out.
        stale_reset: claims taken away.
        live: tasks alive before the launch.
        starting: those of them that have not claimed yet.
        plan: what was decided, and why.
        launched: ARNs of the tasks started.
        failures: why others were not, with how often.
    """

    ready: int
    stale_reset: int
    live: int
    starting: int
    plan: Plan
    launched: tuple[str, ...] = ()
    failures: Mapping[str, int] = field(default_factory=dict)


def poll(
    queue: QueueStore,
    tasks: Fargate,
    settings: PollerSettings,
    *,
    now: datetime,
    seconds_left: Callable[[], float],
) -> Report:
    """Run one tick. It is safe to run twice at once: the launch token and the guarded statements see to it.

    Args:
        queue: the store.
        tasks: ECS.
        settings: the poller's.
        now: UTC, aware.
        seconds_left: until the tick has to give up; asked before each step.

    Raises:
        RowqueueError: a number could not be read or a launch was refused; nothing is launched on a guess.
        TickOverdue: the time is used up; the next tick does the rest.
    """
    live = tasks.live_tasks()
    _check(seconds_left, "the pulse")
    pulse = queue.pulse()
    _check(seconds_left, "the reset")
    stale_reset = _reset(queue, pulse, settings, now)
    _check(seconds_left, "the count")
    holding = _holding(pulse, now)
    look = holding is not Holding.STANDING and (stale_reset or _something_may_be_ready(pulse, now))
    ready = queue.count_ready(probe=holding is Holding.ENDED) if look else 0
    starting = _starting(queue, live, settings, now) if ready else 0
    decided = plan(
        Demand(ready=ready, live=len(live), starting=starting, holding=holding),
        entries_per_container=settings.entries_per_container,
        max_containers=settings.max_containers,
    )
    launch = _launch(tasks, decided, settings, live=len(live), now=now, seconds_left=seconds_left)
    report = Report(
        ready=ready,
        stale_reset=stale_reset,
        live=len(live),
        starting=starting,
        plan=decided,
        launched=launch.task_arns,
        failures=launch.failures,
    )
    _log(report, pulse, oldest_ready_s=_oldest_ready_s(pulse, now))
    return report


def _utc(now: datetime) -> datetime:
    """As Snowflake tells time: UTC without a zone."""
    return now.astimezone(UTC).replace(tzinfo=None)


def _reset(queue: QueueStore, pulse: Pulse, settings: PollerSettings, now: datetime) -> int:
    """Only when there is something: an UPDATE needs a warehouse and the table's lock even when it finds nothing."""
    if pulse.exhausted:
        queue.fail_exhausted()
    threshold = timedelta(seconds=settings.stale_threshold_s)
    if pulse.earliest_claimed_at is None or pulse.earliest_claimed_at > _utc(now) - threshold + CLOCK_SKEW:
        return 0
    return queue.reset_stale(stale_threshold_s=settings.stale_threshold_s)


def _something_may_be_ready(pulse: Pulse, now: datetime) -> bool:
    return pulse.earliest_available_at is not None and pulse.earliest_available_at <= _utc(now) + CLOCK_SKEW


def _holding(pulse: Pulse, now: datetime) -> Holding:
    """By the poller's clock; the claim itself looks again, by Snowflake's."""
    if not pulse.holds:
        return Holding.NONE
    assert pulse.held_until is not None
    return Holding.STANDING if pulse.held_until > _utc(now) else Holding.ENDED


def _starting(queue: QueueStore, live: list[Task], settings: PollerSettings, now: datetime) -> int:
    """Live tasks that are young enough to be on their way to their first claim."""
    deadline = timedelta(seconds=settings.boot_deadline_s)
    young = [task for task in live if task.begun_at is None or now - task.begun_at < deadline]
    names = [processor_id(settings.environment, task.arn) for task in young]
    return len(names) - len(queue.processors_seen(names))


def _check(seconds_left: Callable[[], float], step: str) -> None:
    if seconds_left() <= 0:
        raise TickOverdue(f"the tick gave up before {step}: {TICK_DEADLINE_S} s are over, and the next one is due")


def _launch(
    tasks: Fargate,
    decided: Plan,
    settings: PollerSettings,
    *,
    live: int,
    now: datetime,
    seconds_left: Callable[[], float],
) -> Launch:
    started: list[str] = []
    failures: Counter[str] = Counter()
    for before, count in groups(decided.launch):
        _check(seconds_left, f"launching {decided.launch - before} of {decided.launch} tasks")
        token = client_token(
            period=int(now.timestamp() // settings.tick_s),
            task_definition=settings.task_definition,
            first_slot=live + before,
            count=count,
            probe=decided.probe,
        )
        launch = tasks.launch(count=count, token=token, probe=decided.probe)
        started += launch.task_arns
        failures.update(launch.failures)
    return Launch(task_arns=tuple(started), failures=failures)


def _oldest_ready_s(pulse: Pulse, now: datetime) -> float:
    """How long the entry that has been ready for longest has waited, seconds; 0 if none is ready."""
    if pulse.earliest_available_at is None:
        return 0.0
    return max(0.0, (_utc(now) - pulse.earliest_available_at).total_seconds())


def _log(report: Report, pulse: Pulse, *, oldest_ready_s: float) -> None:
    """The one line that explains the tick, with every number in it; the metrics are the same numbers."""
    metrics: dict[Metric, float | list[float]] = {
        Metric.TICKS_COMPLETED: 1,
        Metric.ENTRIES_PENDING: pulse.pending,
        Metric.ENTRIES_PROCESSING: pulse.processing,
        Metric.ENTRIES_READY: report.ready,
        Metric.ENTRIES_UNKNOWN_STATUS: pulse.unknown,
        Metric.ENTRIES_EXHAUSTED: pulse.exhausted,
        Metric.OLDEST_READY_SECONDS: round(oldest_ready_s, 1),
        Metric.STALE_ENTRIES_RESET: report.stale_reset,
        Metric.HOLDS: pulse.holds,
        Metric.TASKS_LIVE: report.live,
        Metric.TASKS_STARTING: report.starting,
        Metric.TASKS_LAUNCHED: len(report.launched),
        Metric.LAUNCH_FAILURES: sum(report.failures.values()),
    }
    log(
        Event.TICK,
        need=report.plan.need,
        planned=report.plan.launch,
        launch_failures=dict(report.failures),
        hold=pulse.hold_reason,
        reason=report.plan.reason,
        **embedded(metrics),
    )
