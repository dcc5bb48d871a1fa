"""Many entries arrive, and tasks take long to start while ticks go on: no more tasks are launched than needed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rowqueue_local.drills import Drill, Verdict
from rowqueue_local.drills.stage import staged, wait_until
from rowqueue_local.stack import StackError

if TYPE_CHECKING:
    from pathlib import Path

    from rowqueue_local.drills import Tell

ENTRIES = 80
PER_CONTAINER = 8
MAX_CONTAINERS = 25
TICK_S = 2
START_S = 10


def naive(pending: int) -> int:
    """What a poller launches each tick if it ignores the tasks that are starting, a common fault."""
    return min(math.ceil(pending / PER_CONTAINER), MAX_CONTAINERS)


def _play(state: Path, tell: Tell) -> Verdict:
    poller = {"ENTRIES_PER_CONTAINER": str(PER_CONTAINER), "MAX_CONTAINERS": str(MAX_CONTAINERS)}
    with staged(state, tick_s=TICK_S, task_start_s=START_S, poller=poller) as stage:
        needed = math.ceil(ENTRIES / PER_CONTAINER)
        stage.insert([{}] * ENTRIES)
        tell(f"{ENTRIES} entries for {needed} tasks, which take {START_S} s to start; a tick every {TICK_S} s")
        if not wait_until(lambda: stage.counts() == {"completed": ENTRIES}, seconds=START_S + 60):
            raise StackError(f"the queue did not drain: {stage.counts()}")
        ticks = stage.ticks()
        figures = {
            "needed": needed,
            "launched": len(stage.stack.launches()["tasks"]),
            "launched_by_naive_rule": sum(naive(tick["EntriesPending"]) for tick in ticks),
            "ticks_while_entries_waited": sum(tick["EntriesPending"] > 0 for tick in ticks),
            "completed": stage.counts()["completed"],
        }
    table = [("tick", "ready", "live", "starting", "launched", "the naive rule", "why")]
    table += [
        (
            tick["timestamp"][11:19],
            str(tick["EntriesReady"]),
            str(tick["TasksLive"]),
            str(tick["TasksStarting"]),
            str(tick["TasksLaunched"]),
            str(naive(tick["EntriesPending"])),
            tick["reason"],
        )
        for tick in ticks
    ]
    kept = figures["launched"] == needed < figures["launched_by_naive_rule"]
    compressed = {"TICK_SECONDS": f"{TICK_S} instead of 60"}
    return Verdict(kept=kept, figures=figures, compressed=compressed, table=table)


DRILL = Drill(
    name="burst",
    promise="However long tasks take to start, a burst launches exactly the tasks that it needs.",
    play=_play,
)
