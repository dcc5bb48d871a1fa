"""Several children are stopped together, not one after the other."""

from __future__ import annotations

import signal
import subprocess
from dataclasses import dataclass, field

import pytest

from rowqueue_local import processes


@dataclass
class ManualClock:
    seconds: float = 0.0

    def now(self):
        return self.seconds


@dataclass
class FakeChild:
    """Ends ``takes`` seconds after SIGTERM, on a clock that moves only while it is awaited."""

    clock: ManualClock
    takes: float
    ends_at: float = float("inf")
    signals: list[int] = field(default_factory=list)

    def send_signal(self, number):
        self.signals.append(number)
        self.ends_at = self.clock.seconds + self.takes

    def kill(self):
        self.signals.append(signal.SIGKILL)
        self.ends_at = self.clock.seconds

    def wait(self, timeout=float("inf")):
        waited_until = min(self.ends_at, self.clock.seconds + timeout)
        self.clock.seconds = max(self.clock.seconds, waited_until)
        if self.ends_at > self.clock.seconds:
            raise subprocess.TimeoutExpired("child", timeout)
        return 0


@pytest.fixture
def clock():
    return ManualClock()


def test_children_that_take_a_second_each_are_stopped_in_one_second(clock):
    children = [FakeChild(clock, takes=1.0) for _ in range(5)]
    processes.stop_together(children, grace_seconds=10, now=clock.now)
    assert clock.seconds == 1.0
    assert all(child.signals == [signal.SIGTERM] for child in children)


def test_children_that_ignore_sigterm_share_one_grace_period_and_are_killed(clock):
    children = [FakeChild(clock, takes=100.0) for _ in range(5)]
    processes.stop_together([*children, FakeChild(clock, takes=0.5)], grace_seconds=2, now=clock.now)
    assert clock.seconds == 2.0
    assert all(child.signals == [signal.SIGTERM, signal.SIGKILL] for child in children)
