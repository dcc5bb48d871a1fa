"""One tick, with a Snowflake and an ECS that answer what the test says and record what they are asked."""

from __future__ import annotations

import json
import threading
from datetime import timedelta
from types import SimpleNamespace

import pytest
from poller_played import CAPACITY, ECS, NAIVE, NOW, S3, PlayedWarehouse, dead, error, pulse, ready, task, tick

from rowqueue import observability
from rowqueue.errors import LaunchError, TickOverdue, WarehouseUnavailable
from rowqueue.settings import STEP_S


@pytest.fixture(autouse=True)
def _structured():
    observability.configure("poller", environment="dev")


def test_an_idle_tick_sends_one_statement_and_starts_nothing():
    warehouse, ecs = PlayedWarehouse(pulse=pulse()), ECS()
    report = tick(warehouse, ecs)
    assert warehouse.sent == ["pulse"]
    assert ecs.requests == []
    assert report.decision.reason == "nothing is ready"


def test_entries_that_are_all_scheduled_for_later_are_not_counted():
    warehouse = PlayedWarehouse(pulse=pulse(pending=5, available=NAIVE + timedelta(minutes=5)))
    assert tick(warehouse, ECS()).launched.started == ()
    assert warehouse.sent == ["pulse"]


def test_ready_entries_start_the_tasks_they_need():
    ecs = ECS()
    report = tick(ready(20), ecs)
    assert len(report.launched.started) == 3
    (request,) = ecs.requests
    assert request["count"] == 3
    assert request["overrides"]["containerOverrides"][0]["environment"] == [
        {"name": "MAX_ENTRIES", "value": "8"},
    ]


def test_the_next_tick_counts_the_tasks_that_are_still_starting():
    ecs = ECS()
    tick(ready(20), ecs)
    report = tick(ready(20), ecs, now=NOW + timedelta(seconds=60))
    assert (report.seen.fleet.live, report.seen.fleet.starting, report.launched.started) == (3, 3, ())


def test_a_task_that_has_claimed_is_not_starting_any_more():
    ecs = ECS([task("a"), task("b")])
    report = tick(ready(20, seen=["dev-a"]), ecs)
    assert (report.seen.fleet.live, report.seen.fleet.starting, len(report.launched.started)) == (2, 1, 2)


def test_launches_go_out_in_groups_of_ten_with_a_token_each():
    ecs = ECS()
    report = tick(ready(200), ecs)
    assert [request["count"] for request in ecs.requests] == [10, 10, 5]
    assert len({request["clientToken"] for request in ecs.requests}) == 3
    assert len(report.launched.started) == 25


def test_an_answer_without_tasks_is_counted_as_failures():
    report = tick(ready(8), ECS(run=lambda request: {"tasks": [], "failures": [{"reason": CAPACITY}]}))
    assert report.launched.started == ()
    assert report.launched.failures == {CAPACITY: 1}


def test_if_the_tasks_cannot_be_counted_no_statement_is_sent_and_nothing_is_launched():
    warehouse, ecs = ready(80), ECS(listing=error("ThrottlingException", "ListTasks"))
    with pytest.raises(LaunchError, match="the live tasks cannot be counted"):
        tick(warehouse, ecs)
    assert ecs.requests == []


def test_if_snowflake_fails_nothing_is_launched():
    ecs = ECS()
    with pytest.raises(WarehouseUnavailable):
        tick(PlayedWarehouse(pulse=WarehouseUnavailable("gone")), ecs)
    assert ecs.requests == []


def test_a_refused_launch_is_raised_so_that_the_alarm_sees_it():
    def run(request):
        raise error("AccessDeniedException", "RunTask")

    with pytest.raises(LaunchError, match="AccessDenied"):
        tick(ready(8), ECS(run=run))


def test_while_a_hold_stands_nothing_is_counted_and_nothing_launched():
    until = NAIVE + timedelta(minutes=4)
    warehouse, ecs = PlayedWarehouse(pulse=pulse(pending=9, available=NAIVE, holds=1, held_until=until)), ECS()
    report = tick(warehouse, ecs)
    assert warehouse.sent == ["pulse"]
    assert ecs.requests == []
    assert report.decision.reason == "a hold stands"


def after_a_hold(ready):
    return PlayedWarehouse(
        pulse=pulse(pending=ready, available=NAIVE, holds=1, held_until=NAIVE - timedelta(seconds=1)),
        count_ready=[(ready, 0)],
        processors_seen=[],
    )


def test_after_a_hold_one_task_probes_with_one_entry_whatever_is_ready():
    ecs = ECS()
    report = tick(after_a_hold(500), ecs)
    assert len(report.launched.started) == 1
    environment = ecs.requests[0]["overrides"]["containerOverrides"][0]["environment"]
    assert {"name": "PROBE", "value": "1"} in environment


@pytest.mark.parametrize(("ended_s_ago", "probe"), [(1, 1), (None, 0)], ids=["after a hold", "without a hold"])
def test_entries_are_counted_for_a_probe_only_after_a_hold(ended_s_ago, probe):
    hold = {} if ended_s_ago is None else {"holds": 1, "held_until": NAIVE - timedelta(seconds=ended_s_ago)}
    warehouse = PlayedWarehouse(pulse=pulse(pending=5, available=NAIVE, **hold), count_ready=[(5, 0)])
    tick(warehouse, ECS())
    assert warehouse.values["count_ready"]["probe"] == probe


def test_a_probe_waits_until_no_other_task_is_left():
    ecs = ECS([task("old")])
    assert tick(after_a_hold(500), ecs).launched.started == ()


def test_entries_without_attempts_left_are_failed_and_do_not_keep_the_warehouse_awake():
    warehouse = PlayedWarehouse(pulse=pulse(exhausted=2), fail_exhausted=2)
    tick(warehouse, ECS())
    assert warehouse.sent == ["pulse", "fail_exhausted"]


@pytest.mark.parametrize(
    ("steps", "next_step"),
    [
        (0, "the pulse"),
        (1, "the claimants"),
        (2, "the rescue"),
        (3, "the reset"),
        (4, "the back-off"),
        (5, "the count"),
        (6, "launching 25"),
        (7, "the list under the lease"),
    ],
)
def test_a_tick_whose_time_is_up_gives_up_before_the_next_step(steps, next_step):
    left = iter([50] + [11] * steps + [9] * 10)  # the first is read when the tick begins
    ecs = ECS()
    with pytest.raises(TickOverdue, match=f"gave up before {next_step}"):
        tick(ready(500), ecs, seconds_left=lambda: next(left))
    assert ecs.requests == []


class SlowECS(ECS):
    """One kind of its requests takes the tick's time until three seconds are left."""

    def __init__(self, *given, slow):
        super().__init__(*given)
        self.left, self.slow = 50.0, slow

    def get_paginator(self, name):
        paginate = super().get_paginator(name).paginate

        def slow_paginate(**asked):
            self._spend(asked["desiredStatus"])
            return paginate(**asked)

        return SimpleNamespace(paginate=slow_paginate)

    def stop_task(self, **request):
        super().stop_task(**request)
        self._spend("StopTask")

    def _spend(self, request):
        if request == self.slow:
            self.left = 3.0


@pytest.mark.parametrize("live", [0, 1], ids=["before the lease", "under the lease"])
def test_no_statement_is_sent_with_less_than_a_step_left(live):
    # With a live task that has claimed, the back-off is looked up only under the lease.
    ecs, s3 = SlowECS([dead("d", exit_code=1, age_s=3000), *(task("live") for _ in range(live))], slow="STOPPED"), S3()
    sent = []

    class Timed(PlayedWarehouse):
        def rows(self, statement, values):
            sent.append((statement.name, ecs.left))
            return super().rows(statement, values)

        change = rows

    warehouse = Timed(**ready(80, seen=["dev-live"][:live]).answers)
    with pytest.raises(TickOverdue, match="gave up before the processors"):
        tick(warehouse, ecs, s3=s3, seconds_left=lambda: ecs.left)
    assert [name for name, left in sent if left < STEP_S] == []
    assert [body["owner"] is None for body in s3.written] == [False, True] * live


def test_the_recent_take_is_asked_only_in_time():
    left = iter([50] + [11] * 6 + [9] * 10)
    warehouse = PlayedWarehouse(**ready(500).answers, recent_take=[(100,)])
    with pytest.raises(TickOverdue, match="gave up before the recent take"):
        tick(warehouse, ECS(), seconds_left=lambda: next(left), ENTRIES_PER_CONTAINER_ADAPTIVE="1")


def test_a_tick_that_gives_up_says_in_its_line_what_it_did(capsys):
    ecs = SlowECS([task("hung", age_s=4000)], slow="StopTask")
    with pytest.raises(TickOverdue):
        tick(ready(80), ecs, seconds_left=lambda: ecs.left)
    line = json.loads(capsys.readouterr().out)
    assert (line["event"], line["TasksStopped"], line["planned"]) == ("tick", 1, 0)
    assert line["reason"] == line["problem"] == "the tick gave up before the back-off: its 50 s are nearly over"
    assert "TicksCompleted" not in line


def test_a_tick_that_gives_up_before_it_sorted_the_tasks_does_not_say_how_many_are_live(capsys):
    left = iter([50, 11, 11, 11, 11, 9, 9, 9])
    with pytest.raises(TickOverdue, match="before the processors"):
        tick(ready(80), ECS([task("a")]), seconds_left=lambda: next(left))
    line = json.loads(capsys.readouterr().out)
    assert "TasksLive" not in line
    assert line["EntriesPending"] == 80


def test_a_task_that_cannot_be_described_yet_counts_as_starting():
    ecs = ECS([task("a")])
    ecs.describe_tasks = lambda **_: {"tasks": [], "failures": [{"arn": "a", "reason": "MISSING"}]}
    report = tick(ready(8), ecs)
    assert (report.seen.fleet.live, report.seen.fleet.starting, report.launched.started) == (1, 1, ())


def test_a_launch_that_runs_out_of_time_reports_what_it_started():
    left = iter([50, *[11] * 8] + [0] * 10)
    ecs = ECS()
    report = tick(ready(200), ecs, seconds_left=lambda: next(left))
    assert len(report.launched.started) == 10 * len(ecs.requests) < 25
    assert report.launched.left == 25 - len(report.launched.started)


def test_a_fleet_of_thousands_is_described_in_groups_and_none_is_missed():
    ecs = ECS([task(f"{n:04}") for n in range(1250)])
    report = tick(ready(8, seen=[f"dev-{n:04}" for n in range(1240)]), ecs, MAX_CONTAINERS="5000")
    assert [one.id for one in report.seen.live] == [f"{n:04}" for n in range(1250)]
    assert (report.seen.fleet.live, report.seen.fleet.starting) == (1250, 10)


# How many


def test_an_adaptive_target_follows_what_recent_tasks_took():
    warehouse, ecs = ready(100), ECS()
    warehouse.answers["recent_take"] = [(50.0,)]
    report = tick(warehouse, ecs, ENTRIES_PER_CONTAINER_ADAPTIVE="1")
    assert (report.decision.entries_per_container, len(report.launched.started)) == (50, 2)


@pytest.mark.parametrize("taken", [None, 3.0])
def test_an_adaptive_target_never_falls_below_the_setting(taken):
    warehouse = ready(100)
    warehouse.answers["recent_take"] = [(taken,)]
    assert tick(warehouse, ECS(), ENTRIES_PER_CONTAINER_ADAPTIVE="1").decision.entries_per_container == 8


# Hung tasks


def test_a_task_that_has_not_claimed_by_the_boot_deadline_is_stopped_and_replaced():
    ecs = ECS([task("young", age_s=60), task("hung", age_s=200)])
    report = tick(ready(16), ecs)
    assert ecs.stops == [("hung", "hung: no claim within BOOT_DEADLINE_SECONDS")]
    assert (len(report.seen.fleet.hung), report.seen.fleet.starting, report.stopped.count) == (1, 1, 1)
    assert len(report.launched.started) == 1


def test_hung_and_overdue_tasks_are_stopped_also_when_the_queue_is_empty():
    ecs = ECS([task("hung", age_s=200), task("overdue", age_s=3600), task("working", age_s=100)])
    warehouse = PlayedWarehouse(pulse=pulse(), processors_seen=[("dev-overdue",), ("dev-working",)])
    report = tick(warehouse, ecs)
    assert [name for name, _ in ecs.stops] == ["hung", "overdue"]
    assert report.stopped.count == 2


def test_a_task_with_entries_in_hand_is_not_hung_even_if_its_first_claim_was_not_recorded():
    ecs = ECS([task("a" * 32, age_s=200)])
    warehouse = PlayedWarehouse(
        pulse=pulse(processing=3, claimed=NAIVE), processors_seen=[], claimants=[(f"dev-{'a' * 32}", 3, NAIVE)]
    )
    assert tick(warehouse, ecs).seen.fleet.hung == ()
    assert ecs.stops == []


def test_a_stop_that_is_throttled_is_left_to_the_next_tick():
    ecs = ECS([task("hung", age_s=200)], stopping=error("ThrottlingException", "StopTask"))
    report = tick(PlayedWarehouse(pulse=pulse(), processors_seen=[]), ecs)
    assert (len(report.seen.fleet.hung), report.stopped.count) == (1, 0)


def test_a_stop_that_is_refused_is_raised_after_the_tick_has_done_its_work():
    ecs = ECS([task("hung", age_s=200)], stopping=error("AccessDeniedException", "StopTask"))
    with pytest.raises(LaunchError, match="hung cannot be stopped"):
        tick(ready(8), ecs)
    assert len(ecs.requests) == 1


class SlowStops(ECS):
    """Each StopTask takes a while on a clock of its own. The first ten are answered when all ten are under way."""

    def __init__(self, tasks, *, each_s):
        super().__init__(tasks)
        self.each_s, self.left = each_s, 50.0
        self.lock, self.first = threading.Lock(), threading.Barrier(10)
        self.asked = 0

    def stop_task(self, **asked):
        with self.lock:
            self.asked += 1
            number = self.asked
        if number <= 10:
            self.first.wait(10)
        with self.lock:
            super().stop_task(**asked)
            self.left -= self.each_s / 10


def hung(count):
    """The oldest is the first by name, and the last that ECS lists."""
    return [task(f"hung-{n:03}", age_s=1000 - n) for n in reversed(range(count))]


def test_hundreds_of_hung_tasks_are_stopped_ten_at_a_time_the_oldest_first_and_sixty_in_one_tick():
    ecs = SlowStops(hung(300), each_s=0.2)
    report = tick(ready(3000), ecs, MAX_CONTAINERS="1000", seconds_left=lambda: ecs.left)
    assert sorted(name for name, _ in ecs.stops) == [f"hung-{n:03}" for n in range(60)]
    assert report.stopped.count == 60
    assert len(report.seen.fleet.hung) == 300
    assert len(report.launched.started) > 0


def test_stops_that_are_slow_leave_the_time_of_the_launch():
    ecs = SlowStops(hung(100), each_s=7)
    report = tick(ready(3000), ecs, MAX_CONTAINERS="1000", seconds_left=lambda: ecs.left)
    assert 10 < report.stopped.count < 40
    assert ecs.left > 30
    assert len(report.launched.started) > 0


def test_a_stop_that_is_not_answered_is_left_behind_when_the_stops_have_had_their_time(capsys):
    ecs, never, left = ECS([task("answered", age_s=4001), task("silent", age_s=4000)]), threading.Event(), [50.0]

    def stop_task(*, task, **_):
        left[0] = 40.01
        if task.endswith("silent"):
            never.wait()

    ecs.stop_task = stop_task
    report = tick(ready(80), ecs, seconds_left=lambda: left[0])
    never.set()
    assert (report.stopped.count, len(report.launched.started)) == (1, 10)
    assert '"error": "silent may not have been stopped: no answer within' in capsys.readouterr().out


# Launches that die at boot


def test_after_launches_that_died_at_boot_the_poller_waits_and_then_tries_one_task():
    ecs = ECS([dead(f"{n}", age_s=70, exit_code=1) for n in range(10)])
    report = tick(ready(80), ecs)
    assert report.launched.started == ()
    assert report.backoff.failures == 10
    assert report.decision.reason.startswith("the last 10 launches failed (EssentialContainerExited, exit code 1")
    report = tick(ready(80), ecs, now=NOW + timedelta(seconds=60))
    assert len(report.launched.started) == 1


@pytest.mark.parametrize(("claimed", "launch"), [([], 0), (["dev-trial"], 10)])
def test_a_trial_that_was_interrupted_ends_the_back_off_only_if_it_had_claimed(claimed, launch):
    died = [dead(f"{n}", age_s=60 * n, exit_code=1) for n in (2, 4)]
    trial = dead("trial", age_s=30, code="SpotInterruption", exit_code=0)
    assert len(tick(ready(80, seen=claimed), ECS([*died, trial])).launched.started) == launch


def test_if_the_recent_launches_cannot_be_listed_nothing_is_launched():
    ecs = ECS()
    original = ecs.get_paginator

    def get_paginator(name):
        def paginate(**asked):
            if asked["desiredStatus"] == "STOPPED":
                raise error("ThrottlingException", "ListTasks")
            return original(name).paginate(**asked)

        return SimpleNamespace(paginate=paginate)

    ecs.get_paginator = get_paginator
    with pytest.raises(LaunchError, match="the stopped tasks cannot be listed"):
        tick(ready(80), ecs)
    assert ecs.requests == []


# The line


def test_one_line_has_every_number_the_terms_of_the_formula_the_result_and_the_reason(capsys):
    tick(ready(20, seen=["dev-a"]), ECS([task("a"), task("b")]))
    (line,) = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    terms = {name: line[name] for name in ("event", "by", "need", "planned", "reason", "entries_per_container")}
    assert terms == {
        "event": "tick",
        "by": "schedule",
        "need": 2,
        "planned": 2,
        "reason": "one task for each ENTRIES_PER_CONTAINER ready entries, less those starting",
        "entries_per_container": 8,
    }
    declared = {metric["Name"] for metric in line["_aws"]["CloudWatchMetrics"][0]["Metrics"]}
    assert declared >= {"TicksCompleted", "EntriesReady", "TasksLive", "TasksStarting", "TasksLaunched", "TasksHung"}
    assert (line["EntriesReady"], line["TasksLive"], line["TasksStarting"], line["TasksLaunched"]) == (20, 2, 1, 2)


def test_a_tick_that_ends_in_a_problem_is_no_heartbeat(capsys):
    def run(request):
        raise error("AccessDeniedException", "RunTask")

    with pytest.raises(LaunchError):
        tick(ready(8), ECS(run=run))
    line = json.loads(capsys.readouterr().out)
    assert "TicksCompleted" not in line
    assert "AccessDenied" in line["problem"]


# If nothing could be launched, nothing is counted, because a count wakes the warehouse


def test_while_the_cap_is_0_a_tick_sends_the_pulse_alone():
    warehouse = ready(80)
    report = tick(warehouse, ECS(), MAX_CONTAINERS="0")
    assert warehouse.sent == ["pulse"]
    assert report.decision.ready is None


def test_while_launches_back_off_nothing_is_counted():
    warehouse = ready(80)
    tick(warehouse, ECS([dead(f"{n}", age_s=70, exit_code=1) for n in range(10)]))
    assert warehouse.sent == ["pulse", "processors_seen"]


def test_an_entry_that_is_ready_within_the_clock_skew_is_counted():
    warehouse = ready(1)
    warehouse.answers["pulse"] = pulse(pending=1, available=NAIVE + timedelta(seconds=4))
    tick(warehouse, ECS())
    assert "count_ready" in warehouse.sent


@pytest.mark.parametrize(("until_s", "holds"), [(60, 1), (-60, 0)])
def test_only_a_standing_hold_is_counted_as_a_hold(until_s, holds, capsys):
    until = NAIVE + timedelta(seconds=until_s)
    tick(PlayedWarehouse(pulse=pulse(holds=1, held_until=until)), ECS())
    assert json.loads(capsys.readouterr().out)["Holds"] == holds


def test_pending_entries_whose_cancel_was_requested_are_ended_when_the_pulse_counts_any(capsys):
    warehouse = PlayedWarehouse(pulse=pulse(cancels=2), end_cancelled=2)
    tick(warehouse, ECS())
    assert warehouse.sent == ["pulse", "end_cancelled"]
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["cancelled"] == 2
    late = PlayedWarehouse(pulse=pulse(cancels=2))
    tick(late, ECS(), seconds_left=lambda: 29)
    assert late.sent == ["pulse"], "the count and the launch go first"


def test_exhausted_entries_are_in_the_metric_of_failed_entries(capsys):
    tick(PlayedWarehouse(pulse=pulse(exhausted=2), fail_exhausted=2), ECS())
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["EntriesFailed"] for line in lines if line["event"] == "tick"] == [2]
