"""Tasks freeze before or after their first claim: they are stopped, and every entry is still delivered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rowqueue.poller.fleet import HUNG, OVERDUE
from rowqueue_local.drills import Drill, Verdict
from rowqueue_local.drills.stage import Stage, staged, wait_until
from rowqueue_local.stack import StackError

if TYPE_CHECKING:
    from pathlib import Path

    from rowqueue_local.drills import Tell

ENTRIES = 100
PER_CONTAINER = 10
ONE_IN = 10
TICK_S = 2
BOOT_DEADLINE_S = 15
TASK_DEADLINE_S = 25
STOP_TIMEOUT_S = 2
_POLLER = {
    "ENTRIES_PER_CONTAINER": str(PER_CONTAINER),
    "BOOT_DEADLINE_SECONDS": str(BOOT_DEADLINE_S),
    "TASK_DEADLINE_SECONDS": str(TASK_DEADLINE_S),
}
_PROCESSOR = {"CONTAINER_TIMEOUT_SECONDS": "10", "STOP_GRACE_SECONDS": "1"}


def _play(state: Path, tell: Tell) -> Verdict:
    with staged(state, tick_s=TICK_S, stop_timeout_s=STOP_TIMEOUT_S, poller=_POLLER, processor=_PROCESSOR) as stage:
        stage.stack.inject(hang_every=ONE_IN)
        stage.insert([{"delay_ms": 1500}] * ENTRIES)
        tell(f"{ENTRIES} entries for {ENTRIES // PER_CONTAINER} tasks; one in {ONE_IN} freezes at its start")
        frozen = _freeze_a_worker(stage)
        tell(f"{frozen} has claimed, and freezes too")
        if not wait_until(lambda: stage.counts() == {"completed": ENTRIES}, seconds=100):
            raise StackError(f"the queue did not drain: {stage.counts()}")
        tell("the queue has drained")
        if not wait_until(lambda: not stage.live(), seconds=TASK_DEADLINE_S + 20):
            raise StackError(f"tasks are left on an empty queue: {stage.live()}")
        tasks = stage.stack.launches()["tasks"]
        stopped = [task for task in tasks if task.get("stopped_reason") in {HUNG, OVERDUE}]
        figures = {
            "launched": len(tasks),
            "hung": sum(bool(task["frozen"]) for task in tasks) + 1,
            "stopped": len(stopped),
            "stopped_before_a_claim": sum(task["stopped_reason"] == HUNG for task in stopped),
            "stopped_after_a_claim": sum(task["stopped_reason"] == OVERDUE for task in stopped),
            "completed": stage.counts().get("completed", 0),
            "left_running": len(stage.live()),
        }
    kept = figures["stopped"] == figures["hung"] > 0 and figures["stopped_after_a_claim"] > 0
    compressed = {
        "TICK_SECONDS": f"{TICK_S} instead of 60",
        "BOOT_DEADLINE_SECONDS": f"{BOOT_DEADLINE_S} instead of 180",
        "TASK_DEADLINE_SECONDS": f"{TASK_DEADLINE_S} instead of 540",
        "stopTimeout": f"{STOP_TIMEOUT_S} instead of 120",
    }
    return Verdict(kept=kept, figures=figures, compressed=compressed)


def _freeze_a_worker(stage: Stage) -> str:
    """Freeze the first task that has claimed entries; returns its processor id."""
    if not wait_until(lambda: "processing" in stage.counts(), seconds=60):
        raise StackError(f"no task has claimed: {stage.counts()}")
    ((name,), *_) = stage.sql("SELECT DISTINCT processor_id FROM PROCESSING_QUEUE WHERE status = 'processing'")
    stage.stack.signal(name.removeprefix("dev-"), "SIGSTOP")
    return str(name)


DRILL = Drill(
    name="hung",
    promise="A task that freezes before or after its first claim is stopped, and its entries are delivered.",
    play=_play,
)
