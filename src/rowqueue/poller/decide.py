"""What a tick decides: how many tasks to launch, from what it has observed. No clock, no network, no log."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from datetime import UTC, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from rowqueue.contract import why_too_old
from rowqueue.poller.fleet import Fleet
from rowqueue.settings import LARGEST_BLOCK

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from rowqueue.poller.backoff import Backoff
    from rowqueue.poller.fleet import Task
    from rowqueue.poller.records import Claimant, Pulse
    from rowqueue.settings import PollerSettings

CLOCK_SKEW = timedelta(seconds=5)
"""Largest expected difference between the poller's clock and Snowflake's. Every time that is written is Snowflake's."""


class HoldState(StrEnum):
    """Whether a hold stops claiming."""

    NONE = "none"
    STANDING = "standing"
    """Nothing is claimed, so nothing is launched."""
    ENDED = "ended"
    """One task may try one entry. Its result lifts the hold or places another."""


class Need(StrEnum):
    """What has to be observed before a decision is possible."""

    BACKOFF = "how the recent launches ended"
    COUNT = "how many entries are ready"
    """This wakes the warehouse."""
    RECENT_TAKE = "how many entries recent processors took"


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What a tick has seen so far. It grows with :func:`dataclasses.replace`.

    Attributes:
        now: UTC, aware.
        pulse: the overview of the queue.
        live: the tasks that ECS wants running.
        claimants: who has claims.
        freed: whether entries may be ready that the pulse did not see as ready.
        claimed: ARNs of the tasks that have claimed.
        fleet: the live tasks, sorted.
        backoff: how the recent launches ended; ``None`` if not looked up.
        stopped: the stopped tasks that ECS still knows, looked up with the back-off.
        ready: entries that a claim would take; ``None`` if not counted.
        recent_take: entries that a recent processor took, 0 if there was none; ``None`` if not asked.
        late: tasks that this tick learned of only when it had the lease, and that may still claim.
        stopping: tasks that ECS does not want running any more and that have not stopped; known under the lease.
        launched: ARNs of the tasks that earlier ticks launched and that may be live, each with the time of its launch.
    """

    now: datetime
    pulse: Pulse
    live: tuple[Task, ...] = ()
    claimants: tuple[Claimant, ...] = ()
    freed: bool = False
    claimed: frozenset[str] = frozenset()
    fleet: Fleet = field(default_factory=Fleet)
    backoff: Backoff | None = None
    stopped: tuple[Task, ...] = ()
    ready: int | None = None
    recent_take: float | None = None
    late: tuple[Task, ...] = ()
    stopping: tuple[Task, ...] = ()
    launched: Mapping[str, datetime] = field(default_factory=dict)

    @property
    def utc(self) -> datetime:
        """The time as Snowflake stores it: UTC without a zone."""
        return self.now.astimezone(UTC).replace(tzinfo=None)

    @property
    def hold(self) -> HoldState:
        """Whether a hold stands, by the poller's clock. A claim checks the holds again by Snowflake's clock."""
        if not self.pulse.holds:
            return HoldState.NONE
        assert self.pulse.held_until is not None
        return HoldState.STANDING if self.pulse.held_until > self.utc else HoldState.ENDED

    @property
    def why_too_old(self) -> str | None:
        """Why no program of this release may claim; ``None`` if it may."""
        return why_too_old(self.pulse.oldest_program)

    @property
    def fenced_s(self) -> float:
        """How long the oldest fence has been standing, seconds; 0 without one."""
        since = self.pulse.fenced_since
        return 0.0 if since is None else max(0.0, (self.utc - since).total_seconds())

    @property
    def known(self) -> tuple[Task, ...]:
        """Every task seen, once. A task that stopped after it was listed as live counts as stopped."""
        return tuple({task.arn: task for task in (*self.live, *self.stopped, *self.late)}.values())

    @property
    def present(self) -> int:
        """Number of the tasks that count for ``MAX_CONTAINERS``: all that have not stopped."""
        return self.fleet.live + len(self.late) + len(self.stopping)

    @property
    def oldest_ready_s(self) -> float:
        """How long the entry that became ready first has been ready, seconds."""
        since = self.pulse.earliest_available_at
        return 0.0 if since is None else max(0.0, (self.utc - since).total_seconds())

    @property
    def next_due_at(self) -> datetime | None:
        """When the first pending entry becomes ready; ``None`` if there is none or it is ready. UTC, naive."""
        at = self.pulse.earliest_available_at
        return at if at is not None and at > self.utc else None

    @property
    def is_backing_off(self) -> bool:
        """Whether recent launches failed and the back-off is not over."""
        return self.backoff is not None and self.now < self.backoff.until

    @property
    def trial_is_starting(self) -> bool:
        """Whether recent launches failed and a task that tries again has not claimed yet."""
        if self.backoff is None or not self.backoff.failures:
            return False
        return self.fleet.unclaimed + len(self.late) > 0

    @property
    def may_be_ready(self) -> bool:
        """Whether a claim may find an entry, as far as the pulse shows."""
        at = self.pulse.earliest_available_at
        return self.freed or (at is not None and at <= self.utc + CLOCK_SKEW)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """How many tasks to launch, and why.

    Attributes:
        launch: tasks to start.
        need: tasks that the ready entries call for beyond those that are starting; negative if too many are starting.
        reason: for the log line.
        probe: whether the one task tries a single entry after a hold.
        ready: entries that a claim would take; 0 if the pulse rules them out; ``None`` if they were not counted,
            because nothing could be launched.
        entries_per_container: ready entries for which one task is started.
    """

    launch: int = 0
    need: int = 0
    reason: str = ""
    probe: bool = False
    ready: int | None
    entries_per_container: int


def decide(seen: Observation, settings: PollerSettings) -> Need | Decision:
    """Decide how many tasks to launch, or say what has to be observed first."""
    if (need := _needed(seen, settings)) is not None:
        return need
    ready = seen.ready
    if _may_launch(seen, settings) and not seen.may_be_ready:
        ready = 0
    blank = Decision(ready=ready, entries_per_container=_entries_per_container(seen, settings))
    if (reason := seen.why_too_old) is not None:
        return replace(blank, reason=reason)
    match seen.hold:
        case HoldState.STANDING:
            return replace(blank, reason="a hold stands")
        case _ if settings.max_containers == 0:
            return replace(blank, reason="MAX_CONTAINERS is 0")
        case HoldState.ENDED:
            decision = _probe(blank, seen, settings.max_containers)
        case HoldState.NONE:
            decision = _share(blank, seen, settings.max_containers)
    return _restrained(decision, seen)


def _needed(seen: Observation, settings: PollerSettings) -> Need | None:
    if not (_may_launch(seen, settings) and seen.may_be_ready):
        return None
    # Before the count: while launches keep failing, the count would only cost warehouse time.
    if seen.backoff is None and seen.fleet.live == seen.fleet.unclaimed:
        return Need.BACKOFF
    if seen.ready is None:
        return None if seen.is_backing_off or seen.trial_is_starting else Need.COUNT
    if settings.adaptive and seen.ready > settings.entries_per_container and seen.recent_take is None:
        return Need.RECENT_TAKE
    return None


def _may_launch(seen: Observation, settings: PollerSettings) -> bool:
    return seen.hold is not HoldState.STANDING and settings.max_containers > 0 and seen.why_too_old is None


def _entries_per_container(seen: Observation, settings: PollerSettings) -> int:
    """A target for each task, not its capacity. If the setting says so, it rises to what recent processors took."""
    return min(LARGEST_BLOCK, max(settings.entries_per_container, math.floor(seen.recent_take or 0)))


def _share(blank: Decision, seen: Observation, max_containers: int) -> Decision:
    """Launch what the ready entries need, minus what is starting, within the cap.

    Tasks that have claimed are not subtracted: the entries they took are no longer ready. Tasks that are starting are
    subtracted. Otherwise each tick would launch the same number again while they boot. Those of them that have died are
    subtracted until their round is judged. Otherwise they would be replaced as fast as they die.
    """
    ready, late = blank.ready or 0, len(seen.late)
    unjudged = seen.backoff.unjudged if seen.backoff else 0
    need = -(-ready // blank.entries_per_container) - (seen.fleet.starting + late + unjudged)
    room = max(0, max_containers - seen.present)
    if ready == 0:
        reason = f"nothing is ready{_next_due(seen)}"
    elif need <= 0:
        reason = "the tasks that are starting are enough"
    elif need > room:
        reason = "bounded by MAX_CONTAINERS"
    else:
        reason = "one task for each ENTRIES_PER_CONTAINER ready entries, less those starting"
    return replace(blank, launch=max(0, min(need, room)), need=need, reason=reason)


def _next_due(seen: Observation) -> str:
    due = seen.next_due_at
    return "" if due is None else f"; the next entry is due at {due:%Y-%m-%d %H:%M:%S} UTC"


def _probe(blank: Decision, seen: Observation, max_containers: int) -> Decision:
    if not blank.ready:
        return replace(blank, reason=f"a hold has ended, nothing is ready to probe with{_next_due(seen)}")
    if seen.fleet.live + len(seen.late) > 0:
        return replace(blank, need=1, reason="a hold has ended, its probe waits until no task is left")
    if seen.present >= max_containers > 0:
        return replace(blank, need=1, reason="a hold has ended, its probe waits until a task has stopped")
    return replace(blank, launch=min(1, max_containers), need=1, reason="a hold has ended, one task probes", probe=True)


def _restrained(decision: Decision, seen: Observation) -> Decision:
    """The same decision, unless recent launches failed: then a wait, and one task at a time."""
    recent = seen.backoff
    if recent is None or not recent.failures:
        return decision
    failed = f"the last {recent.failures} launches failed ({recent.reason})"
    if seen.is_backing_off:
        return replace(decision, launch=0, reason=f"{failed}; the next try is at {recent.until:%H:%M:%S} UTC")
    if seen.trial_is_starting:
        return replace(decision, launch=0, reason=f"{failed}; the task that tries again is still starting")
    if not decision.launch:
        return decision
    return replace(decision, launch=1, reason=f"{failed}; one task tries again")
