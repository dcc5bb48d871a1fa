"""A processor is killed in the middle of a block: another one claims its entries within seconds, or two ticks."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rowqueue.contract import processor_id
from rowqueue_local.drills import Drill, Verdict
from rowqueue_local.drills.stage import Stage, staged, wait_until
from rowqueue_local.stack import StackError

if TYPE_CHECKING:
    from pathlib import Path

    from rowqueue_local.drills import Tell

ENTRIES = 12
IN_FLIGHT = 6
TICK_S = 4
_MOST_TICKS, _MOST_SECONDS = 2, 15
_POLLER = {"ENTRIES_PER_CONTAINER": str(ENTRIES), "MAX_CONTAINERS": "4"}
# The first delivery of some entries lasts until the kill, however slow the machine is.
_SLOW = {"delay_ms": 20_000, "first": 1}
_PROCESSOR = {"MAX_CONCURRENT_DELIVERIES": str(IN_FLIGHT), "FLUSH_SECONDS": "0.2"}


def _play(state: Path, tell: Tell) -> Verdict:
    tell("with the stop event: the schedule never fires")
    with staged(state, poller=_POLLER, processor=_PROCESSOR) as stage:
        with_event = _kill(stage, tell, first_tick=stage.invoke)
    tell(f"without it: a tick every {TICK_S} s")
    with staged(state, tick_s=TICK_S, poller=_POLLER, processor=_PROCESSOR) as stage:
        stage.stack.inject(events={"suppressed": True})
        without = _kill(stage, tell, first_tick=lambda: None)
    figures = {
        "seconds_to_reclaim": with_event["seconds"],
        "ticks_to_reclaim": without["ticks"],
        "seconds_to_reclaim_without_the_event": without["seconds"],
        "held_at_death": with_event["in_hand"] + without["in_hand"],
        "lost": with_event["lost"] + without["lost"],
        "recorded_twice": with_event["recorded_twice"] + without["recorded_twice"],
        "retries_spent": with_event["retries"] + without["retries"],
    }
    kept = (
        figures["held_at_death"] > 0
        and not (figures["lost"] or figures["recorded_twice"] or figures["retries_spent"])
        and 0 < figures["ticks_to_reclaim"] <= _MOST_TICKS
        and figures["seconds_to_reclaim"] <= _MOST_SECONDS
    )
    compressed = {"TICK_SECONDS": f"{TICK_S} instead of 60, without the event"}
    return Verdict(kept=kept, figures=figures, compressed=compressed)


def _kill(stage: Stage, tell: Tell, *, first_tick: Any) -> dict[str, Any]:
    """Kill the first processor while it delivers, then wait until every entry has ended."""
    stage.insert([_SLOW] * IN_FLIGHT + [{}] * (ENTRIES - IN_FLIGHT))
    first_tick()
    if not wait_until(lambda: stage.stack.partner_stats()["in_flight"] == IN_FLIGHT, seconds=60):
        raise StackError(f"no processor reached {IN_FLIGHT} deliveries in flight: {stage.counts()}")
    (victim,) = stage.live()
    name = processor_id("dev", victim)
    ticks_before = len(stage.ticks())
    stage.stack.signal(victim, "SIGKILL")
    killed = time.monotonic()
    in_hand = _in_hand(stage, name)
    tell(f"{name} is killed, {in_hand} entries in hand")
    if not wait_until(lambda: _claimed_by_others(stage, name) != [], seconds=60):
        raise StackError(f"no other processor claimed its entries: {stage.counts()}")
    seconds = time.monotonic() - killed
    tell(f"another processor claims them after {seconds:.1f} s")
    wait_until(lambda: stage.counts() == {"completed": ENTRIES}, seconds=90)
    ((twice,),) = stage.sql(
        "SELECT COUNT(*) FROM (SELECT entry_id FROM PROCESSING_ATTEMPTS WHERE outcome = 'succeeded' "
        "GROUP BY entry_id HAVING COUNT(*) > 1)"
    )
    ((retries,),) = stage.sql("SELECT SUM(retry_count) FROM PROCESSING_QUEUE")
    return {
        "seconds": round(seconds, 1),
        "ticks": _ticks_to_launch(stage, ticks_before, _claimed_by_others(stage, name)),
        "in_hand": in_hand,
        "lost": ENTRIES - stage.counts().get("completed", 0),
        "recorded_twice": int(twice),
        "retries": int(retries),
    }


def _in_hand(stage: Stage, name: str) -> int:
    ((in_hand,),) = stage.sql(
        "SELECT COUNT(*) FROM PROCESSING_QUEUE WHERE status = 'processing' AND processor_id = ?", name
    )
    return int(in_hand)


def _claimed_by_others(stage: Stage, name: str) -> list[str]:
    """The processors that claimed entries of the killed one."""
    rows = stage.sql(
        "SELECT DISTINCT q.processor_id FROM PROCESSING_QUEUE AS q JOIN PROCESSING_ATTEMPTS AS a ON a.entry_id = q.id "
        "WHERE a.processor_id = ? AND a.outcome = 'crashed' AND q.processor_id <> ?",
        name,
        name,
    )
    return [str(other) for (other,) in rows]


def _ticks_to_launch(stage: Stage, ticks_before: int, others: list[str]) -> int:
    """Scheduled ticks after the kill, up to the one that launched the task with the entries.

    The ticks during that task's start are not counted. Their number depends on the machine, because the drill shortens
    the tick but not the start.
    """
    launched = min(task["created_at"] for task in stage.stack.launches()["tasks"] if f"dev-{task['id']}" in others)
    earlier = [tick for tick in stage.ticks()[ticks_before:] if tick["by"] == "schedule" and _ended(tick) < launched]
    return len(earlier) + 1


def _ended(tick: dict[str, Any]) -> float:
    return datetime.fromisoformat(tick["timestamp"]).timestamp()


DRILL = Drill(
    name="kill",
    promise="Entries of a killed processor are claimed again at once with the stop event, within two ticks without it.",
    play=_play,
)
