"""Figures of the runs: medians, ratios within a repetition, and whether the promises are kept."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from rowqueue_local.bench.cases import Case, System


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One run of one case.

    Attributes:
        repetition: runs of one repetition follow each other closely and are compared with each other.
        seconds: from the first claim to the last settle; for the limit, from the first request to the last answer.
        cpu_seconds: CPU time of the system's processes between the same moments.
        peak_bytes: largest memory of one process.
        statements: number of statements sent to Snowflake, by kind.
    """

    case: Case
    repetition: int
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    statements: dict[str, int]

    def __str__(self) -> str:
        return f"{self.case}: {self.entries_per_second:.5g} entries/s"

    @property
    def entries_per_second(self) -> float:
        """The throughput."""
        return self.case.entries / self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """All runs of one case. Figures are medians; a ratio is the median of the ratios of the repetitions.

    Attributes:
        slowest: the smallest throughput of a run.
        fastest: the largest throughput of a run.
        ratio_to_limit: throughput compared with the limit in one process.
        ratio_to_sketch: throughput compared with the sketch in one process.
        ratio_to_one: throughput of several processors compared with one.
        statements_per_100: statements of all kinds for each 100 entries.
        cpu_seconds_per_1000: CPU time of the system's processes for each 1,000 entries.
        peak_mb: megabytes of one process.
    """

    case: Case
    entries_per_second: float
    slowest: float
    fastest: float
    ratio_to_limit: float | None
    ratio_to_sketch: float | None
    ratio_to_one: float | None
    statements_per_100: float
    cpu_seconds_per_1000: float
    peak_mb: float
    repetitions: int

    def as_json(self) -> dict[str, Any]:
        """The row in the command's JSON."""
        case = self.case
        return {
            "system": case.system,
            "weather": case.weather,
            "processes": case.processes,
            "service_ms": case.service_ms,
            "entries": case.entries,
            "entries_per_second": round(self.entries_per_second, 2),
            "slowest": round(self.slowest, 2),
            "fastest": round(self.fastest, 2),
            "ratio_to_limit": _rounded(self.ratio_to_limit),
            "ratio_to_sketch": _rounded(self.ratio_to_sketch),
            "ratio_to_one": _rounded(self.ratio_to_one),
            "statements_per_100": round(self.statements_per_100, 3),
            "cpu_seconds_per_1000": round(self.cpu_seconds_per_1000, 4),
            "peak_mb": round(self.peak_mb, 1),
            "repetitions": self.repetitions,
        }


def rows_of(runs: Sequence[Measured]) -> list[Row]:
    """One row for each case, in the order of their first runs."""
    return [_row(case, runs) for case in dict.fromkeys(run.case for run in runs)]


def _row(case: Case, runs: Sequence[Measured]) -> Row:
    ours = [run for run in runs if run.case == case]
    rates = [run.entries_per_second for run in ours]
    return Row(
        case=case,
        entries_per_second=median(rates),
        slowest=min(rates),
        fastest=max(rates),
        ratio_to_limit=_ratio(ours, runs, "limit"),
        ratio_to_sketch=_ratio(ours, runs, "sketch"),
        ratio_to_one=_ratio(ours, runs, "ours") if case.processes > 1 else None,
        statements_per_100=median(100 * sum(run.statements.values()) / case.entries for run in ours),
        cpu_seconds_per_1000=median(1000 * run.cpu_seconds / case.entries for run in ours),
        peak_mb=median(run.peak_bytes / 1e6 for run in ours),
        repetitions=len(ours),
    )


def _ratio(ours: Iterable[Measured], runs: Iterable[Measured], system: System) -> float | None:
    """Median over the repetitions of the ratio to one process of ``system`` under the same conditions."""
    others = {
        (run.repetition, run.case.weather, run.case.service_ms): run.entries_per_second
        for run in runs
        if run.case.system == system and run.case.processes == 1
    }
    ratios = [
        run.entries_per_second / other
        for run in ours
        if (other := others.get((run.repetition, run.case.weather, run.case.service_ms)))
    ]
    return median(ratios) if ratios else None


def _rounded(ratio: float | None) -> float | None:
    return None if ratio is None else round(ratio, 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """A promise that was checked.

    Attributes:
        text: what was promised.
        got: what was measured.
        kept: whether this keeps the promise.
    """

    text: str
    got: float
    kept: bool


_Which = tuple[str, int, int]
_PROMISES: tuple[tuple[_Which, Callable[[Row], float | None], str, float], ...] = (
    (("none", 1, 50), lambda row: row.ratio_to_limit, "of the limit", 0.85),
    (("none", 1, 50), lambda row: row.statements_per_100, "statements for 100 entries", -4),
    (("none", 1, 50), lambda row: row.cpu_seconds_per_1000, "CPU seconds for 1,000 entries", -0.25),
    (("none", 1, 0), lambda row: row.ratio_to_limit, "of the limit", 0.6),
    (("real", 1, 50), lambda row: row.ratio_to_limit, "of the limit", 0.4),
    (("real", 1, 50), lambda row: row.ratio_to_sketch, "times the sketch", 300),
    (("real", 10, 50), lambda row: row.ratio_to_one, "of one processor", 0.8),
)
"""Which row of ours, which figure, its unit, and its bound: a minimum, or a maximum if it is negative."""


def promises(rows: Iterable[Row]) -> list[Promise]:
    """The promises that these rows can check."""
    ours = {
        (row.case.weather, row.case.processes, row.case.service_ms): row for row in rows if row.case.system == "ours"
    }
    judged = []
    for which, figure, unit, bound in _PROMISES:
        if which in ours and (got := figure(ours[which])) is not None:
            at_least = bound >= 0
            text = f"{ours[which].case}: at {'least' if at_least else 'most'} {abs(bound):g} {unit}"
            judged.append(Promise(text=text, got=got, kept=got >= bound if at_least else got <= -bound))
    return judged
