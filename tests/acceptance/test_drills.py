"""The drills, run as commands: each keeps its promise, and no process is left running."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from rowqueue_local import processes
from rowqueue_local.drills.all import ALL
from rowqueue_local.drills.upgrade import Rehearsal, rehearse

DRILL = [sys.executable, "-m", "rowqueue.cli", "drill"]

EXPECTED = {
    "cancel": {"in_hand": 500, "pending": 500, "begun_after_cancel": 0},
    "sigterm": {"lost": 0, "attempts_spent_on_unstarted": 0, "in_flight": 50, "exit_code": 0},
    "certificate": {
        "claimed": 0,
        "exit_codes": [3],
        "messages_that_name_object_and_reason": 3,
        "holds_with_that_reason": 3,
    },
    "partner": {"unexpected": [], "faults": 36, "as_promised": 36},
    "burst": {"needed": 10, "launched": 10, "completed": 80},
    "kill": {
        "triggers_without_the_event": ["schedule"],
        "stop_events_without_the_event": 0,
        "lost": 0,
        "recorded_twice": 0,
        "retries_spent": 0,
    },
    "hung": {"completed": 100, "left_running": 0},
    "idle": {"statements": 10, "dml": 0, "tasks": 0, "distinct_texts": 1},
    "upgrade": {"entries": 1000, "lost": 0, "recorded_twice": 0, "claimed_by_old_after_fence": 0},
    "storm": {
        "lost": 0,
        "recorded_twice": 0,
        "succeeded_then_failed": 0,
        "redelivered_after_recorded_success": 0,
        "retries_wrongly_spent": 0,
        "cap_exceeded": 0,
    },
}
OPTIONS = {"cancel": ["--entries", "500"], "storm": ["--seed", "50", "--minutes", "0.15"]}
# Figures that may vary, and their upper bounds.
LESS = {
    "sigterm": [("seconds_to_exit", "grace_seconds")],
    "burst": [("launched", "launched_by_naive_rule")],
    "kill": [("ticks_to_relaunch_without_the_event", 2), ("seconds_to_reclaim", 20)],
    "hung": [("hung", "stopped"), ("stopped", "hung")],
}


def test_every_drill_is_tested_here():
    assert set(EXPECTED) == set(ALL)


@pytest.mark.parametrize("name", EXPECTED)
def test_the_promise_is_kept(name, tmp_path):
    done = subprocess.run(
        [*DRILL, name, "--json", *OPTIONS.get(name, ())],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["held"] is True
    assert EXPECTED[name].items() <= figures.items()
    for smaller, larger in LESS.get(name, ()):
        assert figures[smaller] <= (figures[larger] if isinstance(larger, str) else larger), (smaller, larger)
    assert not [p for registry in tmp_path.rglob("pids") for p in processes.registered(registry)]


def test_the_list_names_each_drill_with_its_promise(tmp_path):
    done = subprocess.run([*DRILL, "--list"], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=True)
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(ALL)


def test_only_the_storm_has_a_seed(tmp_path):
    done = subprocess.run(
        [*DRILL, "idle", "--seed", "1"], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 2
    assert "options of the drill storm" in done.stderr


def test_an_unknown_drill_is_refused_with_the_names_of_all_drills(tmp_path):
    done = subprocess.run([*DRILL, "flood"], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert "certificate" in done.stderr


@pytest.mark.parametrize("fault", [Rehearsal(fenced=False), Rehearsal(guarded=False)], ids=["no fence", "no guard"])
def test_the_drill_of_an_upgrade_notices_a_migration_without_fence_and_a_claim_that_asks_for_no_version(
    fault, tmp_path
):
    verdict = rehearse(tmp_path, lambda _: None, fault)
    assert not verdict.kept
    assert verdict.figures["claimed_by_old_after_fence"] > 0
