"""The smallest form of the benchmark works as a command. Its figures are not checked here."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

KEYS = {
    *("system", "weather", "processes", "service_ms", "entries", "entries_per_second", "ratio_to_limit"),
    *("statements_per_100", "cpu_seconds_per_1000"),
}


def bench(tmp_path, *options):
    done = subprocess.run(
        [sys.executable, "-m", "rowqueue.cli", "bench", "--state-dir", str(tmp_path / "state"), *options],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    done = bench(tmp_path_factory.mktemp("smoke"), "--smoke", "--json")
    rows = json.loads(done.stdout.splitlines()[-1])["runs"]
    return {(row["system"], row["weather"], row["processes"]): row for row in rows}, done


def test_the_last_line_has_every_run_with_its_figures(smoke):
    rows, _ = smoke
    assert set(rows) == {("limit", "none", 1), ("sketch", "none", 1), ("ours", "none", 1), ("ours", "real", 2)}
    assert all(row.keys() >= KEYS and row["entries_per_second"] > 0 for row in rows.values())
    assert all(row["cpu_seconds_per_1000"] > 0 and row["peak_mb"] > 10 for row in rows.values())


def test_people_get_the_same_as_a_table(smoke):
    _, done = smoke
    assert len(done.stdout.splitlines()) == 1
    assert "| ours   | none    | 1" in done.stderr


def test_figures_that_do_not_depend_on_the_machine_keep_their_promises(smoke):
    rows, _ = smoke
    ours, sketch = rows["ours", "none", 1], rows["sketch", "none", 1]
    assert rows["limit", "none", 1]["statements_per_100"] == 0
    assert sketch["statements_per_100"] > 200, "an UPDATE and a COMMIT for each entry"
    assert 1 < ours["statements_per_100"] < 15, "for so few entries the first and the last claim weigh much"
    assert ours["ratio_to_sketch"] > 2
    assert ours["ratio_to_limit"] == pytest.approx(
        ours["entries_per_second"] / rows["limit", "none", 1]["entries_per_second"], rel=0.01
    )


def test_statements_can_be_measured_beside_many_and_large_entries(tmp_path):
    options = ("--table-rows", "2000", "--pending-rows", "500", "--characters", "3000", "--smoke", "--json")
    rows = json.loads(bench(tmp_path, *options).stdout.splitlines()[-1])["table"]
    assert [row["duty"] for row in rows] == ["pulse", "count_ready", "rescue", "claim", "settle"]
    assert {(row["table_rows"], row["characters"]) for row in rows} == {(2500, 3000)}
    for row in rows:
        assert row["ratio"] == pytest.approx(row["full_ms"] / row["empty_ms"], rel=0.01)
        assert row["raw_ratio"] == pytest.approx(row["raw_full_ms"] / row["raw_empty_ms"], rel=0.01)
        assert row["empty_ms"] > 100, "the time that the weather adds"
