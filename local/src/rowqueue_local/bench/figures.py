"""What the runs say: medians, ratios within a repetition, and whether the promises hold."""

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
        case: what was run.
        repetition: the runs of one repetition were made within a minute or two, and are compared with each other.
        seconds: from the first claim to the last settle; for the limit, from the first request to the last answer.
        cpu_seconds: of the processes of the system, between the same moments, to the millisecond.
        peak_bytes: the most memory that one of them has had.
        statements: what Snowflake was sent meanwhile, by kind.
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
        """Throughput."""
        return self.case.entries / self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """All runs of one case. The figures are medians; a ratio is the median of those of the repetitions.

    Attributes:
        case: what was run.
        entries_per_second: throughput.
        slowest: the smallest of them.
        fastest: the largest.
        ratio_to_limit: to a raw loop in one process.
        ratio_to_sketch: to the sketch in one process.
        ratio_to_one: of several processors to one.
        statements_per_100: SELECT, INSERT, UPDATE and what else was sent, for each 100 entries.
        cpu_seconds_per_1000: of the system's processes, for each 1,000 entries.
        peak_mb: megabytes of one process.
        repetitions: how many runs.
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
        """As the command's last line has it."""
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
    """One for each case, in the order of their first runs."""
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
    """To one process of another system under the same conditions, within each repetition; the median of that."""
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
    """One that was put to the test.

    Attributes:
        text: what was promised.
        got: what was measured.
        held: whether that is it.
    """

    text: str
    got: float
    held: bool


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
"""Of which of our rows, which figure, and how much: at least, or at most if it is negative."""


def promises(rows: Iterable[Row]) -> list[Promise]:
    """Those that the rows can answer."""
    ours = {
        (row.case.weather, row.case.processes, row.case.service_ms): row for row in rows if row.case.system == "ours"
    }
    told = []
    for which, figure, unit, bound in _PROMISES:
        if which in ours and (got := figure(ours[which])) is not None:
            at_least = bound >= 0
            text = f"{ours[which].case}: at {'least' if at_least else 'most'} {abs(bound):g} {unit}"
            told.append(Promise(text=text, got=got, held=got >= bound if at_least else got <= -bound))
    return told
