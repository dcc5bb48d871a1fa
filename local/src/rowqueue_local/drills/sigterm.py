"""A processor gets SIGTERM while it delivers: nothing is lost, and entries that were not sent lose no attempt."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING, Any

from rowqueue_local.drills import Drill, Verdict
from rowqueue_local.drills.stage import staged, wait_until
from rowqueue_local.stack import StackError

if TYPE_CHECKING:
    from pathlib import Path

    from rowqueue_local.drills import Tell

ENTRIES = 200
IN_FLIGHT = 50
GRACE_S = 10
_SETTINGS = {
    "MAX_ENTRIES": str(ENTRIES),
    "MAX_CONCURRENT_DELIVERIES": str(IN_FLIGHT),
    "STOP_GRACE_SECONDS": str(GRACE_S),
}


def _play(state: Path, tell: Tell) -> Verdict:
    with staged(state) as stage:
        stage.insert([{"delay_ms": 2000}] * ENTRIES)
        tell(f"{ENTRIES} entries; the partner takes 2 s for each; one processor delivers {IN_FLIGHT} at once")
        with stage.processor(_SETTINGS) as run:
            if not wait_until(lambda: stage.stack.partner_stats()["in_flight"] == IN_FLIGHT, seconds=30):
                raise StackError(f"the processor did not reach {IN_FLIGHT} deliveries in flight: {run.error()}")
            tell(f"{IN_FLIGHT} deliveries are in flight: SIGTERM")
            run.process.send_signal(signal.SIGTERM)
            asked = time.monotonic()
            code = run.process.wait(GRACE_S + 30)
            seconds = time.monotonic() - asked
        tell(f"it has ended with {code} after {seconds:.1f} s")
        counts = stage.counts()
        ((unstarted_spent,),) = stage.sql(
            "SELECT COUNT(*) FROM PROCESSING_QUEUE AS q JOIN PROCESSING_ATTEMPTS AS a ON a.entry_id = q.id "
            "WHERE q.status = 'pending' OR q.retry_count > 0"
        )
        delivered = stage.stack.partner_stats()
        figures: dict[str, Any] = {
            "in_flight": IN_FLIGHT,
            "completed": counts.get("completed", 0),
            "released": counts.get("pending", 0),
            "lost": ENTRIES - counts.get("completed", 0) - counts.get("pending", 0),
            "attempts_spent_on_unstarted": unstarted_spent,
            "delivered_but_not_recorded": delivered["done"] - counts.get("completed", 0),
            "seconds_to_exit": round(seconds, 2),
            "grace_seconds": GRACE_S,
            "exit_code": code,
        }
    kept = (
        code == 0
        and seconds <= GRACE_S
        and not (figures["lost"] or unstarted_spent or figures["delivered_but_not_recorded"])
    )
    return Verdict(kept=kept, figures=figures, compressed={"STOP_GRACE_SECONDS": f"{GRACE_S} instead of 60"})


DRILL = Drill(
    name="sigterm",
    promise="A stop loses no entry and no attempt: deliveries in flight finish and are recorded, the rest is released.",
    play=_play,
)
