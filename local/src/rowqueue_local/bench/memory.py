"""How much memory a processor takes for large entries, and for how long they block its event loop.

A processor with one small entry is the baseline: what is above it is for the entries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rowqueue_local.bench import runs
from rowqueue_local.bench.cases import Case
from rowqueue_local.bench.figures import Promise
from rowqueue_local.bench.ground import BenchError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rowqueue_local.bench.ground import Ground

TASK_MIB = 512
"""Memory of the smallest task on Fargate, and the default of Terraform's ``task_memory``."""
_SHARE = 0.8
_LONGEST_BLOCK_S = 0.5
_ITEM = '{"a":1},'
_INSERT = """
INSERT INTO PROCESSING_QUEUE (data)
SELECT '{{"partner":{{"delay_ms":500}},"items":[' || REPEAT('{{"a":1}},', ?) || '0]}}'
  FROM TABLE(GENERATOR(ROWCOUNT => {entries}))
"""
_SETTINGS = {
    "ENVIRONMENT": "bench",
    "CERT_BUCKET": "not-asked",
    "CONTAINER_TIMEOUT_SECONDS": "600",
    "MAX_ENTRIES": "100",
    "SERVICE_TIMEOUT_SECONDS": "120",
    "TASK_MEMORY_MIB": str(TASK_MIB),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Heavy:
    """Entries to deliver.

    Attributes:
        entries: how many.
        characters: of the ``data`` of each, about. It is a list of small objects, the costliest to build.
    """

    entries: int
    characters: int

    def __str__(self) -> str:
        return f"{self.entries} x {self.characters:,} characters"


HEAVY = (
    Heavy(entries=1, characters=200),
    Heavy(entries=1, characters=9_900_000),
    Heavy(entries=60, characters=5_000_000),
)
SMALL = (Heavy(entries=1, characters=200), Heavy(entries=2, characters=500_000))


def measure(ground: Ground, loads: tuple[Heavy, ...], *, watch: Callable[[str], None]) -> list[dict[str, Any]]:
    """Deliver each load with a process of its own. The first is the baseline.

    Args:
        ground: the stand-ins.
        loads: what to deliver.
        watch: called with a line about each run.

    Raises:
        BenchError: a load was not delivered.
    """
    rows: list[dict[str, Any]] = []
    for load in loads:
        report = _delivered(ground, load)
        peak_mb = report["peak_bytes"] / 1e6
        rows.append(
            {
                "entries": load.entries,
                "characters": load.characters,
                "peak_mb": round(peak_mb, 1),
                "above_baseline_mb": round(peak_mb - (rows[0]["peak_mb"] if rows else peak_mb), 1),
                "longest_block_s": round(report["longest_block_s"], 3),
                "seconds": round(report["ended"] - report["began"], 2),
            }
        )
        watch(f"{load}: {peak_mb:.4g} MB")
    return rows


def promises(rows: list[dict[str, Any]]) -> list[Promise]:
    """The promises about these figures."""
    most_mb = TASK_MIB * 2**20 * _SHARE / 1e6
    judged = []
    for row in rows:
        load = Heavy(entries=row["entries"], characters=row["characters"])
        judged += [
            Promise(
                text=f"{load}: at most {_SHARE:.0%} of a task of {TASK_MIB} MiB, MB",
                got=row["peak_mb"],
                kept=row["peak_mb"] <= most_mb,
            ),
            Promise(
                text=f"{load}: the event loop is blocked for at most {_LONGEST_BLOCK_S} s",
                got=row["longest_block_s"],
                kept=row["longest_block_s"] <= _LONGEST_BLOCK_S,
            ),
        ]
    return judged


def _delivered(ground: Ground, load: Heavy) -> dict[str, Any]:
    with ground.queue(entries=0, data="") as environ:
        ground.sql(_INSERT.format(entries=load.entries), load.characters // len(_ITEM))
        case = Case(system="watched", entries=load.entries)
        report = runs.alone(ground, case, environ | _SETTINGS)
        counts = ground.counts()
        if counts != {"completed": load.entries}:
            raise BenchError(f"{load}: expected {load.entries} completed, got {counts}")
        return report
