"""A processor is killed in the middle of a block: another one claims its entries within seconds.

Without the stop event, the schedule has to rescue the entries and launch another processor within two ticks.
"""

from __future__ import annotations

import time
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
        "ticks_to_relaunch_without_the_event": without["ticks_to_relaunch"],
        "triggers_without_the_event": without["triggers"],
        "stop_events_without_the_event": without["stop_events"],
        "seconds_to_reclaim_without_the_event": without["seconds"],
        "in_hand_at_death": with_event["in_hand"] + without["in_hand"],
        "lost": with_event["lost"] + without["lost"],
        "recorded_twice": with_event["recorded_twice"] + without["recorded_twice"],
        "retries_spent": with_event["retries"] + without["retries"],
    }
    kept = (
        figures["in_hand_at_death"] > 0
        and not (figures["lost"] or figures["recorded_twice"] or figures["retries_spent"])
        and figures["triggers_without_the_event"] == ["schedule"]
        and figures["stop_events_without_the_event"] == 0
        and 0 < figures["ticks_to_relaunch_without_the_event"] <= _MOST_TICKS
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
    if not wait_until(lambda: _claimed_by_others(stage, name), seconds=60):
        raise StackError(f"no other processor claimed its entries: {stage.counts()}")
    seconds = time.monotonic() - killed
    tell(f"another processor claims them after {seconds:.1f} s")
    wait_until(lambda: stage.counts() == {"completed": ENTRIES}, seconds=90)
    ((twice,),) = stage.sql(
        "SELECT COUNT(*) FROM (SELECT entry_id FROM PROCESSING_ATTEMPTS WHERE outcome = 'succeeded' "
        "GROUP BY entry_id HAVING COUNT(*) > 1)"
    )
    ((retries,),) = stage.sql("SELECT SUM(retry_count) FROM PROCESSING_QUEUE")
    ticks = stage.ticks()[ticks_before:]
    return {
        "seconds": round(seconds, 1),
        "triggers": sorted({tick["by"] for tick in ticks}),
        "stop_events": len(stage.logged("task_stopped")),
        "ticks_to_relaunch": _ticks_to_relaunch(ticks, name),
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


def _claimed_by_others(stage: Stage, name: str) -> bool:
    """Whether another processor has claimed entries of the killed one."""
    ((others,),) = stage.sql(
        "SELECT COUNT(*) FROM PROCESSING_QUEUE AS q JOIN PROCESSING_ATTEMPTS AS a ON a.entry_id = q.id "
        "WHERE a.processor_id = ? AND a.outcome = 'crashed' AND q.processor_id <> ?",
        name,
        name,
    )
    return int(others) > 0


def _ticks_to_relaunch(ticks: list[dict[str, Any]], name: str) -> int:
    """The number of ticks up to the one that launched a task after the rescue of the entries; 0 if none did.

    The ticks during that task's start are not counted. Their number depends on the machine, because the drill shortens
    the tick but not the start.
    """
    rescued = False
    for number, tick in enumerate(ticks, start=1):
        rescued = rescued or name in tick["deaths"]
        if rescued and tick["TasksLaunched"]:
            return number
    return 0


DRILL = Drill(
    name="kill",
    promise="Entries of a killed processor are claimed again at once; "
    "without the stop event, the schedule launches another within two ticks.",
    play=_play,
)
