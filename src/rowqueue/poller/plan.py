"""How many tasks to start: arithmetic on counts, nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Holding(StrEnum):
    """Whether there is a reason not to claim."""

    NONE = "none"
    STANDING = "standing"
    """Nothing is claimed, so nothing is started."""
    ENDED = "ended"
    """One task may try one entry; what it learns lifts the hold or places another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What the tick has counted.

    Attributes:
        ready: entries that a claim would take now.
        live: tasks that ECS wants running, from the moment they are requested.
        starting: those of them that have not made a claim and are young enough to be on their way.
        entries_per_container: ready entries for which one task is started.
        max_containers: most tasks alive at once.
        holding: whether there is a reason not to claim.
    """

    ready: int
    live: int
    starting: int
    entries_per_container: int
    max_containers: int
    holding: Holding = Holding.NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do about it.

    Attributes:
        launch: tasks to start.
        need: tasks that the ready entries call for beyond those that are starting; negative when too many are.
        reason: for the log line.
        probe: whether the one task is sent to try a single entry.
    """

    launch: int
    need: int
    reason: str
    probe: bool = False


def plan(demand: Demand) -> Plan:
    """Start what the ready entries need, minus what is on its way, within the cap.

    Tasks that have claimed are not subtracted: the entries they took are no longer ready. Tasks that are starting are,
    or each tick of their boot would start as many again.
    """
    if demand.holding is Holding.STANDING:
        return Plan(launch=0, need=0, reason="a hold stands")
    if demand.holding is Holding.ENDED:
        return _probe(demand)
    wanted = -(-demand.ready // demand.entries_per_container)
    need = wanted - demand.starting
    room = max(0, demand.max_containers - demand.live)
    launch = max(0, min(need, room))
    return Plan(launch=launch, need=need, reason=_reason(demand, need=need, room=room))


def _probe(demand: Demand) -> Plan:
    if demand.ready == 0:
        return Plan(launch=0, need=0, reason="a hold has ended, nothing is ready to probe with")
    if demand.live > 0:
        return Plan(launch=0, need=1, reason="a hold has ended, its probe waits until no task is left")
    return Plan(launch=min(1, demand.max_containers), need=1, reason="a hold has ended, one task probes", probe=True)


def _reason(demand: Demand, *, need: int, room: int) -> str:
    if demand.ready == 0:
        return "nothing is ready"
    if need <= 0:
        return "the tasks that are starting are enough"
    if need > room:
        return "bounded by MAX_CONTAINERS"
    return "one task for each ENTRIES_PER_CONTAINER ready entries, less those starting"
