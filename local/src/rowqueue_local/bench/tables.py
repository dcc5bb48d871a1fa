"""The figures as Markdown, in the form of ``docs/performance.md``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rowqueue_local.bench.figures import Promise, Row

_HEADING = (
    *("system", "weather", "processes", "service ms", "entries", "entries/s", "slowest to fastest"),
    *("of the limit", "x the sketch", "of one", "statements/100", "CPU s/1000", "peak MB"),
)


def of_rows(rows: Iterable[Row]) -> str:
    """One line for each case."""
    return _markdown(_HEADING, [_cells(row) for row in rows])


def of_times(rows: Iterable[dict[str, Any]]) -> str:
    """One line for each duty: under weather, and the raw time of the stand-in."""
    names = (
        *("duty", "table_rows", "characters", "empty_ms", "full_ms", "ratio"),
        *("raw_empty_ms", "raw_full_ms", "raw_ratio"),
    )
    heading = (
        *("duty", "rows", "characters of each", "few rows, ms", "full table, ms", "ratio"),
        *("raw: few rows, ms", "raw: full table, ms", "raw: ratio"),
    )
    return _markdown(heading, [[f"{row[name]}" for name in names] for row in rows])


def of_settles(rows: Iterable[dict[str, Any]]) -> str:
    """One line for each length of the answers."""
    names = (
        *("answer_characters", "entries", "workers", "bound_per_second", "joined_per_second"),
        *("bound_updates", "joined_updates", "ratio"),
    )
    heading = (
        *("characters of an answer", "entries", "workers", "bound, entries/s", "joined, entries/s"),
        *("bound, UPDATEs", "joined, UPDATEs", "ratio"),
    )
    return _markdown(heading, [[f"{row[name]}" for name in names] for row in rows])


def of_memory(rows: Iterable[dict[str, Any]]) -> str:
    """One line for each load."""
    names = ("entries", "characters", "peak_mb", "above_baseline_mb", "longest_block_s", "seconds")
    heading = ("entries", "characters of each", "peak MB", "above the first, MB", "longest pause of the loop, s", "s")
    return _markdown(heading, [[f"{row[name]}" for name in names] for row in rows])


def of_promises(promises: Iterable[Promise]) -> str:
    """One line for each promise."""
    lines = [[promise.text, f"{promise.got:.3g}", "kept" if promise.kept else "NOT kept"] for promise in promises]
    return _markdown(("promise", "measured", "verdict"), lines)


def _cells(row: Row) -> list[str]:
    case = row.case
    return [
        *(case.system, case.weather, str(case.processes), str(case.service_ms), str(case.entries)),
        f"{row.entries_per_second:.4g}",
        f"{row.slowest:.4g} to {row.fastest:.4g}",
        *(_ratio(ratio) for ratio in (row.ratio_to_limit, row.ratio_to_sketch, row.ratio_to_one)),
        *(f"{row.statements_per_100:.2f}", f"{row.cpu_seconds_per_1000:.3f}", f"{row.peak_mb:.0f}"),
    ]


def _ratio(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.3g}"


def _markdown(heading: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[column]) for line in (heading, *lines)) for column in range(len(heading))]
    rule = ["-" * width for width in widths]
    padded = ([cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in (heading, rule, *lines))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in padded)
