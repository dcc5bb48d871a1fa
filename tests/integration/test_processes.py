"""The registry of started processes: leftovers of an earlier run are killed, other processes are not."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import psutil
import pytest

from rowqueue_local import processes

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.fixture
def left_behind():
    """A process without a parent-death signal, as an earlier run leaves one on macOS."""
    with subprocess.Popen(SLEEP) as process:
        yield process
        process.kill()


def test_the_processes_of_an_earlier_run_are_killed_at_the_next_start(left_behind, tmp_path):
    registry = tmp_path / "pids"
    processes.register(registry, left_behind.pid)
    assert [process.pid for process in processes.registered(registry)] == [left_behind.pid]
    assert processes.sweep(registry) == 1
    assert not psutil.pid_exists(left_behind.pid)
    assert not registry.exists()
    assert processes.sweep(registry) == 0


def test_a_process_with_a_reused_pid_is_not_killed(left_behind, tmp_path):
    registry = tmp_path / "pids"
    started = psutil.Process(left_behind.pid).create_time()
    registry.write_text(json.dumps({"pid": left_behind.pid, "started": started - 100}) + "\n")
    assert processes.sweep(registry) == 0
    assert left_behind.poll() is None


def test_a_child_that_ignores_sigterm_is_killed_after_the_grace_period(tmp_path):
    stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
    child = processes.spawn(
        [sys.executable, "-c", stubborn],
        registry=tmp_path / "pids",
        env=dict(os.environ),
        stdout=subprocess.PIPE,
    )
    assert child.stdout.readline() == b"ready\n"
    assert processes.stop(child, grace_seconds=0.2) == -9
    child.stdout.close()
