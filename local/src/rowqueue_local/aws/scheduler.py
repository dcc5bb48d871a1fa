"""EventBridge Scheduler: invokes the functions of the deployed schedules when they are due."""

from __future__ import annotations

import logging
import re
import threading
import time
import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from rowqueue_local.aws.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_log = logging.getLogger(__name__)

LOOK_SECONDS = 0.5  # interval of reading the schedules; a new one is found within this time
_RATE = re.compile(r"rate\((?P<number>[1-9]\d*) (?P<unit>minute|hour|day)s?\)")


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A schedule that is ENABLED.

    Attributes:
        expression: such as ``rate(1 minute)``.
        target: the ARN of its target.
        input: the event, a text with ``<aws.scheduler.…>`` placeholders.
        bounded: whether it has a start or an end date.
    """

    arn: str
    region: str
    expression: str
    target: str
    input: str
    bounded: bool = False


def period_of(schedule: Schedule) -> float | None:
    """Seconds between two invocations; None if this stand-in does not run the schedule."""
    rate = _RATE.fullmatch(schedule.expression)
    if rate is None or schedule.bounded or ":lambda:" not in schedule.target:
        return None
    return timedelta(**{f"{rate['unit']}s": int(rate["number"])}).total_seconds()


def event_of(schedule: Schedule, now: datetime, execution_id: str) -> str:
    """The event of one invocation: the schedule's input with its placeholders replaced as documented."""
    values = {
        "scheduled-time": f"{now:%Y-%m-%dT%H:%M:%SZ}",
        "execution-id": execution_id,
        "attempt-number": "1",
        "schedule-arn": schedule.arn,
    }
    event = schedule.input
    for name, value in values.items():
        event = event.replace(f"<aws.scheduler.{name}>", value)
    return event


@dataclass(frozen=True)
class Due:
    """When a schedule is due next.

    Attributes:
        at: on the clock of ``agenda_after``.
        period: seconds from one time to the next.
    """

    at: float
    period: float


def agenda_after(
    agenda: Mapping[str, Due], schedules: Iterable[Schedule], now: float, tick: float | None
) -> dict[str, Due]:
    """Update an agenda: new and changed schedules begin a period, others keep their time.

    Args:
        agenda: by the ARN of the schedule.
        schedules: the present ones.
        now: seconds on a monotonic clock.
        tick: seconds; replaces every period unless it is None.
    """
    updated = {}
    for schedule in schedules:
        own_period = period_of(schedule)
        if own_period is not None:
            period = tick or own_period
            known = agenda.get(schedule.arn)
            updated[schedule.arn] = known if known and known.period == period else Due(now + period, period)
    return updated


def moved_on(due: Due, now: float) -> Due:
    """The next time after one that has come; missed times are skipped."""
    following = due.at + due.period
    return replace(due, at=following if following > now else now + due.period)


class Scheduler:
    """Reads the schedules and invokes what is due, in its own thread.

    Args:
        schedules: returns those that are ENABLED.
        invoke: invokes a function asynchronously, given region, ARN and event.
        tick: seconds; replaces every rate unless it is None.
    """

    def __init__(
        self,
        schedules: Callable[[], Iterable[Schedule]],
        invoke: Callable[[str, str, str], None],
        tick: float | None,
    ) -> None:
        self._schedules = schedules
        self._invoke = invoke
        self._tick = tick
        self._left_out: set[Schedule] = set()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="scheduler", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Stop invoking."""
        self._closing.set()
        self._thread.join()

    def _run(self) -> None:
        agenda: dict[str, Due] = {}
        pause = 0.0
        while not self._closing.wait(pause):
            schedules = {schedule.arn: schedule for schedule in self._schedules()}
            self._name_left_out(schedules.values())
            agenda = agenda_after(agenda, schedules.values(), time.monotonic(), self._tick)
            for name, due in agenda.items():
                if due.at <= time.monotonic():
                    agenda[name] = moved_on(due, time.monotonic())
                    self._fire(schedules[name])
            next_at = min((due.at for due in agenda.values()), default=time.monotonic() + LOOK_SECONDS)
            pause = min(LOOK_SECONDS, max(0.0, next_at - time.monotonic()))

    def _fire(self, schedule: Schedule) -> None:
        event = event_of(schedule, datetime.now(UTC), str(uuid.uuid4()))
        try:
            self._invoke(schedule.region, schedule.target, event)
        except ApiError as error:
            _log.warning("%s: %s: %s", schedule.arn, error.code, error)

    def _name_left_out(self, schedules: Iterable[Schedule]) -> None:
        for schedule in schedules:
            if period_of(schedule) is None and schedule not in self._left_out:
                self._left_out.add(schedule)
                why = "only rate() schedules of Lambda functions without start and end are"
                _log.warning("%s: %s is not run here, %s", schedule.arn, schedule.expression, why)
