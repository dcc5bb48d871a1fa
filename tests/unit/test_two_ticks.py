"""Two ticks at once, interleaved at every call. Ticks by schedule, push, event and hand overlap in production."""

from __future__ import annotations

import itertools
import threading
from datetime import timedelta

import pytest
from poller_played import ECS, NAIVE, NOW, PlayedWarehouse, poller, pulse

PER, CAP = 8, 25
SWITCHES = 3
"""How often the ticks take turns at most. All points of switching are tried, for each of the switches."""


class FillingWarehouse(PlayedWarehouse):
    """Entries are inserted between the first count and the second."""

    def __init__(self, *, before, inserted):
        super().__init__(pulse=pulse(pending=before, available=NAIVE), processors_seen=[])
        self.left = [before, before + inserted]

    def rows(self, statement, values):
        if statement.name == "count_ready":
            return [(self.left.pop(0) if len(self.left) > 1 else self.left[0], 0)]
        return super().rows(statement, values)

    change = rows


class SteppedTick:
    """A tick that makes its next call only when :meth:`step` is called."""

    def __init__(self, warehouse, ecs, *, now):
        self.go, self.stopped = threading.Semaphore(0), threading.Semaphore(0)
        self.failure = None
        self.finished = False
        poller_ = poller(_Stepped(warehouse, self, "rows", "change"), _ECSStepped(ecs, self), now=now)
        self.thread = threading.Thread(target=self._run, args=(poller_,))
        self.thread.start()
        self.stopped.acquire()

    def _run(self, poller_):
        try:
            poller_.tick()
        except Exception as failure:  # noqa: BLE001 -- the test's thread asserts on it
            self.failure = failure
        finally:
            self.finished = True
            self.stopped.release()

    def wait_for_turn(self):
        self.stopped.release()
        self.go.acquire()

    def step(self):
        self.go.release()
        self.stopped.acquire()


class _Stepped:
    """Waits for its turn before each call of the named methods."""

    def __init__(self, inner, tick, *names):
        self._inner = inner
        for name in names:
            setattr(self, name, self._in_turn(getattr(inner, name), tick))

    @staticmethod
    def _in_turn(call, tick):
        def called(*args, **kwargs):
            tick.wait_for_turn()
            return call(*args, **kwargs)

        return called


class _ECSStepped(_Stepped):
    def __init__(self, inner, tick):
        super().__init__(inner, tick, "describe_tasks", "run_task", "stop_task")
        self.exceptions = inner.exceptions
        self._tick = tick

    def get_paginator(self, name):
        paginator = self._inner.get_paginator(name)
        paginator.paginate = self._in_turn(paginator.paginate, self._tick)
        return paginator


def play(runs, *, before, inserted):
    """Run two ticks in turns. ``runs`` has the number of calls per turn; at the end both run to completion."""
    warehouse, ecs = FillingWarehouse(before=before, inserted=inserted), ECS()
    ticks = [SteppedTick(warehouse, ecs, now=NOW), SteppedTick(warehouse, ecs, now=NOW + timedelta(seconds=3))]
    for turn, effects in enumerate(runs):
        for _ in range(effects):
            if not ticks[turn % 2].finished:
                ticks[turn % 2].step()
    for tick in ticks:
        while not tick.finished:
            tick.step()
        tick.thread.join()
        assert tick.failure is None, (runs, tick.failure)
    return ecs


def effects_of_one(before):
    warehouse, ecs = FillingWarehouse(before=before, inserted=0), ECS()
    tick = SteppedTick(warehouse, ecs, now=NOW)
    count = 0
    while not tick.finished:
        tick.step()
        count += 1
    tick.thread.join()
    return count, len(ecs.tasks)


@pytest.mark.parametrize(("before", "inserted"), [(30, 10), (8, 100), (100, 1), (80, 0), (190, 50)])
def test_two_ticks_at_once_launch_no_more_than_one_would_and_no_less(before, inserted):
    effects, at_least = effects_of_one(before)
    at_most = min(CAP, -(-(before + inserted) // PER))
    assert effects >= 6
    for runs in itertools.product(range(effects + 1), repeat=SWITCHES):
        ecs = play(runs, before=before, inserted=inserted)
        assert at_least <= len(ecs.tasks) <= at_most, f"{len(ecs.tasks)} tasks after the turns {runs}"
