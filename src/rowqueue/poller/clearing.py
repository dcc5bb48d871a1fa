"""Taking away what the dead and the stale hold, before anything is counted."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from rowqueue.errors import WarehouseError
from rowqueue.observability import Event, log_problem
from rowqueue.poller.rescue import Rescue, rescue

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from rowqueue.poller.fargate import Fargate
    from rowqueue.poller.fleet import Task
    from rowqueue.poller.queue import PolledQueue
    from rowqueue.records import Holder, Pulse
    from rowqueue.settings import PollerSettings

CLOCK_SKEW = timedelta(seconds=5)
"""How far the poller's clock may be off Snowflake's. It only decides whether to look closer, never what to write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleared:
    """What was taken away from the dead and the stale.

    Attributes:
        exhausted: entries failed because they had no attempts left.
        rescue: what dead tasks held.
        stale_reset: stale claims taken away.
        problem: why it could not be finished, if it could not.
    """

    exhausted: int = 0
    rescue: Rescue = field(default_factory=Rescue)
    stale_reset: int = 0
    problem: WarehouseError | None = None

    @property
    def freed(self) -> bool:
        """Whether entries may be ready that the pulse has not seen so."""
        return bool(self.stale_reset or self.rescue.released)


def clear(
    queue: PolledQueue,
    tasks: Fargate,
    pulse: Pulse,
    holders: Sequence[Holder],
    live: Sequence[Task],
    *,
    settings: PollerSettings,
    now: datetime,
    check: Callable[[str], None],
) -> Cleared:
    """Free what the dead and the stale hold. If the lock is not to be had, the rest of the tick goes on without it.

    Args:
        queue: the store.
        tasks: ECS.
        pulse: the glance at the queue.
        holders: who holds claims.
        live: tasks that ECS wants running.
        settings: the poller's.
        now: UTC, naive, as Snowflake tells time.
        check: raises when there is no time for the step it is told.

    Raises:
        LaunchError: ECS can not be asked; nothing is freed on a guess.
    """
    done = Cleared()
    try:
        if pulse.exhausted:
            done = replace(done, exhausted=queue.fail_exhausted())
        check("the rescue")
        rescued = rescue(
            queue,
            tasks,
            holders,
            live,
            environment=settings.environment,
            max_crashes=settings.max_crashes,
            now=now,
            check=check,
        )
        for death in rescued.deaths:
            log_problem(Event.CLAIMS_RESCUED, processor_id=death.processor_id, reason=death.reason)
        done = replace(done, rescue=rescued)
        check("the reset")
        if _some_may_be_stale(pulse, settings, now):
            done = replace(done, stale_reset=queue.reset_stale(stale_threshold_s=settings.stale_threshold_s))
    except WarehouseError as error:
        return replace(done, problem=error)
    return done


def _some_may_be_stale(pulse: Pulse, settings: PollerSettings, now: datetime) -> bool:
    """An UPDATE needs a warehouse and the table's lock even when it finds nothing."""
    earliest = pulse.earliest_claimed_at
    return earliest is not None and earliest <= now - timedelta(seconds=settings.stale_threshold_s) + CLOCK_SKEW
