"""A person cancels entries while a processor has half of them in hand: nothing of them begins more than 5 s later."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rowqueue import credentials
from rowqueue.contract import DEFAULT_DESTINATION
from rowqueue.operator import Operator, Selector
from rowqueue.settings import SnowflakeSettings
from rowqueue.warehouse import SnowflakeWarehouse
from rowqueue_local.drills import Drill, Verdict
from rowqueue_local.drills.stage import Stage, staged, wait_until
from rowqueue_local.stack import StackError

if TYPE_CHECKING:
    from pathlib import Path

    from rowqueue_local.drills import Tell

ENTRIES = 5000
"""In hand, and as many pending."""
PROMISE_S = 5.0
IN_FLIGHT = 50
_SHORTEST_MS, _LONGEST_MS = 3000, 6000
"""How long the partner takes for an entry: some deliveries end, and others could begin, at every moment."""
_FLUSH_S = 9
"""Rare, so that a look that follows a flush comes too late: the drill is about the longest time between looks."""
_ENDED_WITHIN_S = 60.0
_REASON = "the producer has sent a wrong batch"
_CANCELLED_NOW = "status = 'cancelled' AND NOT cancel_requested"
_IN_HAND = "cancel_requested OR status = 'completed'"
_EXPLAINED = "cancelled_at IS NOT NULL AND cancelled_by = CURRENT_USER() AND cancel_reason = ?"


def drill(*, entries: int = ENTRIES) -> Drill:
    """The drill with this number of entries in hand."""
    return replace(DRILL, play=lambda state, tell: _play(state, tell, entries=entries))


def _play(state: Path, tell: Tell, *, entries: int = ENTRIES) -> Verdict:
    settings = {
        "MAX_ENTRIES": str(entries),
        "MAX_BLOCK_ENTRIES": str(entries),
        "MAX_CONCURRENT_DELIVERIES": str(IN_FLIGHT),
        "FLUSH_SECONDS": str(_FLUSH_S),
    }
    with staged(state) as stage:
        span = _LONGEST_MS - _SHORTEST_MS
        stage.insert([{"delay_ms": _SHORTEST_MS + 37 * number % span} for number in range(2 * entries)])
        tell(f"{2 * entries} entries; one processor claims {entries} and delivers {IN_FLIGHT} at once")
        with stage.processor(settings) as run:
            if not wait_until(lambda: stage.stack.partner_stats()["in_flight"] == IN_FLIGHT, seconds=60):
                raise StackError(f"the processor did not reach {IN_FLIGHT} deliveries in flight: {run.error()}")
            cancelled, cancelled_at = _cancel(stage)
            tell(f"an operator has cancelled {cancelled} entries")
            ended = wait_until(lambda: not _unfinished(stage), seconds=_ENDED_WITHIN_S, every_s=0.5)
        later = [delivery["began_at"] - cancelled_at for delivery in stage.stack.deliveries()]
        in_hand, pending = _count(stage, _IN_HAND), _count(stage, _CANCELLED_NOW)
        delivered, explained = _count(stage, "status = 'completed'"), _count(stage, _EXPLAINED, _REASON)
        figures: dict[str, Any] = {
            "in_hand": in_hand,
            "pending": pending,
            "begun_after_cancel": sum(seconds > PROMISE_S for seconds in later),
            "seconds": _seconds(stage),
        }
    tell(
        f"{delivered} had begun and are completed; {explained} rows say that they are cancelled, when, by whom and why"
    )
    kept = (
        ended
        and in_hand == pending == entries
        and not figures["begun_after_cancel"]
        and delivered == len(later)
        and delivered + explained == 2 * entries
    )
    return Verdict(kept=kept, figures=figures, compressed={})


def _cancel(stage: Stage) -> tuple[int, float]:
    """Cancel all entries as a person with the role OPERATOR; returns how many, and when the answer came."""
    settings = SnowflakeSettings.from_env(stage.stack.environ | {"SNOWFLAKE_ROLE": "QUEUE_DB_OPERATOR"})
    login = credentials.login(settings, environment="drill")
    with closing(SnowflakeWarehouse(settings, login, query_tag="drill")) as warehouse:
        return Operator(warehouse).cancel(Selector(destination=DEFAULT_DESTINATION), reason=_REASON), time.time()


def _count(stage: Stage, condition: str, *values: str) -> int:
    ((count,),) = stage.sql(f"SELECT COUNT(*) FROM PROCESSING_QUEUE WHERE {condition}", *values)  # noqa: S608 -- constants
    return int(count)


def _seconds(stage: Stage) -> float:
    """From the cancel until the last entry in hand was cancelled too, by Snowflake's clock."""
    ((milliseconds,),) = stage.sql(
        f"SELECT DATEDIFF('millisecond', MIN(IFF({_CANCELLED_NOW}, cancelled_at, NULL)), MAX(cancelled_at)) "  # noqa: S608
        "FROM PROCESSING_QUEUE"
    )
    return round(float(milliseconds) / 1000, 2)


def _unfinished(stage: Stage) -> int:
    return _count(stage, "status IN ('pending', 'processing')")


DRILL = Drill(
    name="cancel",
    promise="A cancel reaches what a worker has in hand: 5 s later none of it begins, and each row says who and why.",
    play=_play,
)
