"""Ten ticks on an empty queue send one statement each, always the same text, and do nothing else."""

from __future__ import annotations

import json
import urllib.request
from typing import TYPE_CHECKING

from rowqueue_local.drills import Drill, Verdict
from rowqueue_local.drills.stage import Stage, staged, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from rowqueue_local.drills import Tell

TICKS = 10
_CHANGES = ("insert", "update", "delete", "merge", "truncate")


def _play(state: Path, tell: Tell) -> Verdict:
    with staged(state) as stage:
        _forget(stage)
        for _ in range(TICKS):
            answer = stage.invoke()
            tell(f"tick: {answer['pendingEntries']} pending, {answer['containersLaunched']} launched")
        wait_until(lambda: len(stage.ticks()) == TICKS, seconds=10)  # the log arrives later
        sent = stage.stack.snowflake_stats()["by_kind"]
        texts = {statement["text"] for statement in _statements(stage)}
        figures = {
            "ticks": len(stage.ticks()),
            "statements": sum(sent.values()),
            "dml": sum(sent.get(kind, 0) for kind in _CHANGES),
            "distinct_texts": len(texts),
            "tasks": len(stage.stack.launches()["tasks"]),
        }
    kept = figures == {"ticks": TICKS, "statements": TICKS, "dml": 0, "distinct_texts": 1, "tasks": 0}
    return Verdict(kept=kept, figures=figures)


def _forget(stage: Stage) -> None:
    """Reset the statistics, so that the deployment's statements are not counted."""
    urllib.request.urlopen(f"{stage.stack.snowflake}/_local/reset-stats", data=b"", timeout=10).close()  # noqa: S310


def _statements(stage: Stage) -> list[dict[str, str]]:
    with urllib.request.urlopen(f"{stage.stack.snowflake}/_local/statements", timeout=10) as answer:  # noqa: S310
        return list(json.load(answer))


DRILL = Drill(
    name="idle",
    promise="A tick on an empty queue sends Snowflake one statement with a constant text, and starts nothing.",
    play=_play,
)
