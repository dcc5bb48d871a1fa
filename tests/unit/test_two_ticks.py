"""Ticks at once, interleaved at every call. Ticks by schedule, push, event and hand overlap in production.

Each tick runs in a thread of its own, and makes its next call only when it gets its turn. The turns come from a seed.
"""

from __future__ import annotations

import itertools
import random
import threading
from datetime import timedelta
from types import SimpleNamespace

import pytest
from poller_played import ECS, NAIVE, NOW, S3, PlayedWarehouse, error, poller, pulse

PER, CAP = 8, 25
SWITCHES = 2
"""How often the ticks take turns at most. All points of switching are tried, for each of the switches."""
NEARLY = NOW.replace(second=59, microsecond=900_000)
"""The end of a period: a push is here, and the schedule's tick follows in the next period."""


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

    def __init__(self, warehouse, ecs, s3, *, now, **environ):
        self.go, self.stopped = threading.Semaphore(0), threading.Semaphore(0)
        self.failure = None
        self.finished = False
        poller_ = poller(
            Stepped(warehouse, self, "rows", "change"),
            SteppedECS(ecs, self),
            s3=Stepped(s3, self, "get_object", "put_object"),
            now=now,
            **environ,
        )
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

    def finish(self):
        while not self.finished:
            self.step()
        self.thread.join()


class Stepped:
    """Waits for its turn before each call of the named methods."""

    def __init__(self, inner, tick, *names):
        for name in names:
            setattr(self, name, self._in_turn(getattr(inner, name), tick))

    @staticmethod
    def _in_turn(call, tick):
        def called(*args, **kwargs):
            tick.wait_for_turn()
            return call(*args, **kwargs)

        return called


class SteppedECS(Stepped):
    def __init__(self, inner, tick):
        super().__init__(inner, tick, "describe_tasks", "run_task", "stop_task")
        self._inner = inner
        self._tick = tick

    def get_paginator(self, name):
        paginator = self._inner.get_paginator(name)
        return SimpleNamespace(paginate=self._in_turn(paginator.paginate, self._tick))


class LaggingECS(ECS):
    """Tasks stop at some time, answers are lost, and a listing shows a new task only after some further calls."""

    def __init__(self, random_):
        super().__init__()
        self._random = random_
        self._calls = 0
        self._shown_at = {}
        self.most = 0

    def get_paginator(self, name):
        self._pass()
        everything = self.tasks
        self.tasks = [one for one in everything if self._calls >= self._shown_at[one["taskArn"]]]
        paginator = super().get_paginator(name)

        def paginate(**asked):
            pages = paginator.paginate(**asked)
            self.tasks = everything
            return pages

        return SimpleNamespace(paginate=paginate)

    def describe_tasks(self, *, cluster, tasks):
        self._pass()
        answer = super().describe_tasks(cluster=cluster, tasks=tasks)
        shown = [one for one in answer["tasks"] if self._calls >= self._shown_at[one["taskArn"]]]
        return {"tasks": shown, "failures": []}

    def _start(self, request):
        self._pass()
        before = len(self.tasks)
        answer = super()._start(request)
        for one in self.tasks[before:]:
            self._shown_at[one["taskArn"]] = self._calls + self._random.choice([0, 0, 3, 30, 300])
        self.most = max(self.most, sum(one["lastStatus"] != "STOPPED" for one in self.tasks))
        if self._random.random() < 0.1:  # the answer is lost
            raise error("ServerException", "RunTask", status=500)
        return answer

    def _pass(self):
        """Time passes: a task may go a step towards its end."""
        self._calls += 1
        if self.tasks and self._random.random() < 0.1:
            number = self._random.randrange(len(self.tasks))
            one = self.tasks[number]
            stopping = {"desiredStatus": "STOPPED", "lastStatus": "STOPPING", "stopCode": "UserInitiated"}
            ended = one["desiredStatus"] == "STOPPED"
            self.tasks[number] = one | ({"lastStatus": "STOPPED"} if ended else stopping)


def play(runs, *, before, inserted):
    """Run two ticks in turns. ``runs`` has the number of calls per turn; at the end both run to completion."""
    warehouse, ecs, s3 = FillingWarehouse(before=before, inserted=inserted), ECS(), S3()
    ticks = [SteppedTick(warehouse, ecs, s3, now=NOW), SteppedTick(warehouse, ecs, s3, now=NOW + timedelta(seconds=3))]
    for turn, effects in enumerate(runs):
        for _ in range(effects):
            if not ticks[turn % 2].finished:
                ticks[turn % 2].step()
    for tick in ticks:
        tick.finish()
        assert tick.failure is None, (runs, tick.failure)
    return ecs


def effects_of_one(before):
    warehouse, ecs, s3 = FillingWarehouse(before=before, inserted=0), ECS(), S3()
    tick = SteppedTick(warehouse, ecs, s3, now=NOW)
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
    assert effects >= 9
    for runs in itertools.product(range(effects + 1), repeat=SWITCHES):
        ecs = play(runs, before=before, inserted=inserted)
        assert at_least <= len(ecs.tasks) <= at_most, f"{len(ecs.tasks)} tasks after the turns {runs}"


def most_at_once(seed, *, cap, period_s, ticks):
    """The largest number of tasks that had not stopped, while ticks of several periods overlap."""
    random_ = random.Random(seed)
    ecs, s3 = LaggingECS(random_), S3()
    warehouse = FillingWarehouse(before=random_.choice([8, 40, 400]), inserted=random_.choice([0, 400]))
    environ = {"MAX_CONTAINERS": str(cap), "TICK_SECONDS": str(period_s)}
    due = [NEARLY + timedelta(seconds=period_s * number / 2) for number in range(ticks)]
    running, ended = [], []
    while due or running:
        if due and (not running or (len(running) < 3 and random_.random() < 0.2)):
            running.append(SteppedTick(warehouse, ecs, s3, now=due.pop(0), **environ))
        tick = random_.choice(running)
        for _ in range(random_.choice([1, 1, 5, 20])):
            if not tick.finished:
                tick.step()
        if tick.finished:
            running.remove(tick)
            ended.append(tick)
    for tick in ended:
        tick.finish()
        assert tick.failure is None, tick.failure
    return ecs.most


@pytest.mark.parametrize(("cap", "period_s"), [(25, 60), (4, 1)])
def test_the_cap_holds_across_the_end_of_a_period_whatever_ecs_lists(cap, period_s):
    most = {seed: most_at_once(seed, cap=cap, period_s=period_s, ticks=6) for seed in range(60)}
    over = {seed: number for seed, number in most.items() if number > cap}
    assert over == {}
    assert max(most.values()) == cap, "the seeds reach the cap"
