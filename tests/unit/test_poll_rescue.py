"""How a tick, and a stop event, free the entries that dead tasks had in hand."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from types import SimpleNamespace

import pytest
from poller_played import ECS, NAIVE, PlayedWarehouse, dead, error, poller, pulse, task, tick

from rowqueue import observability
from rowqueue.errors import LaunchError, LockContention, TickOverdue, WarehouseUnavailable
from rowqueue.lifecycle import MAX_ERROR_MESSAGE_CHARACTERS
from rowqueue.poller.fleet import HUNG, OVERDUE


@pytest.fixture(autouse=True)
def _structured():
    observability.configure("poller", environment="dev")


ID = "0123456789abcdef" * 2


def with_claims(*, entries=4, age_s=30, name=f"dev-{ID}", **answers):
    claimed = NAIVE - timedelta(seconds=age_s)
    return PlayedWarehouse(
        pulse=pulse(processing=entries, claimed=claimed),
        claimants=[(name, entries, claimed)],
        processors_seen=[(name,)],
        record_deaths=entries,
        release_dead=entries,
        count_ready=[(entries, 0)],
        **answers,
    )


def test_the_entries_of_a_dead_task_are_released_counted_and_launched_for_in_the_same_tick():
    warehouse, ecs = with_claims(), ECS([dead(ID)])
    report = tick(warehouse, ecs)
    assert warehouse.sent == ["pulse", "claimants", "record_deaths", "release_dead", "processors_seen", "count_ready"]
    (death,) = report.freed.deaths
    assert death.crashed
    assert death.reason == (
        "the task has stopped: EssentialContainerExited, exit code 137, Essential container in task exited"
    )
    assert (report.freed.released, len(report.launched.started)) == (4, 1)


def test_a_tick_that_has_no_time_after_the_rescue_says_in_its_line_what_it_released(capsys):
    left = iter([50] + [11] * 5 + [9] * 10)
    with pytest.raises(TickOverdue, match="gave up before the reset"):
        tick(with_claims(), ECS([dead(ID)]), seconds_left=lambda: next(left))
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (lines[-1]["event"], lines[-1]["EntriesRescued"]) == ("tick", 4)


def test_the_entries_of_a_live_task_are_left_alone_and_ecs_is_not_asked():
    warehouse, ecs = with_claims(), ECS([task(ID)])
    tick(warehouse, ecs)
    assert warehouse.sent == ["pulse", "claimants", "processors_seen"]


def test_a_task_that_is_still_stopping_is_not_dead():
    warehouse, ecs = with_claims(), ECS([task(ID, desiredStatus="STOPPED", lastStatus="DEACTIVATING")])
    assert tick(warehouse, ecs).freed.deaths == ()


def test_a_task_that_ecs_does_not_know_is_dead_once_ecs_may_have_forgotten_it():
    assert tick(with_claims(age_s=3500), ECS(), STALE_THRESHOLD_MINUTES="120").freed.deaths == ()
    (death,) = tick(with_claims(age_s=3700), ECS(), STALE_THRESHOLD_MINUTES="120").freed.deaths
    assert (death.crashed, death.reason) == (False, "the task has stopped, and ECS no longer knows it")
    assert death.claimed_since == NAIVE - timedelta(seconds=3700)


@pytest.mark.parametrize("name", ["prod-" + ID, "dev-laptop", "somebody", None])
def test_the_claims_of_other_workers_are_left_to_the_stale_reset(name):
    assert tick(with_claims(name=name, age_s=300), ECS([dead(ID)])).freed.deaths == ()


@pytest.mark.parametrize("one", [task(ID), dead(ID)], ids=["alive", "dead"])
def test_a_task_of_another_family_is_not_declared_dead(one):
    other = one | {"taskDefinitionArn": "arn:aws:ecs:us-east-1:1:task-definition/dev-snowflake-processor-v2:1"}
    ecs = ECS([other])
    ecs.get_paginator = lambda _: SimpleNamespace(paginate=lambda **_: [{"taskArns": []}])
    assert tick(with_claims(age_s=1500), ecs).freed.deaths == ()


@pytest.mark.parametrize(
    ("ended", "crashed", "counted"),
    [
        ({"exit_code": 137}, True, False),
        ({"exit_code": 139}, True, False),
        ({"exit_code": 1}, True, False),
        ({"exit_code": None, "reason": "OutOfMemoryError: Container killed due to memory usage"}, True, False),
        ({"code": "UserInitiated", "reason": HUNG}, True, False),
        ({"code": "UserInitiated", "reason": OVERDUE}, True, False),
        ({"exit_code": 6}, False, True),
        ({"exit_code": 0}, False, False),
        ({"exit_code": 2}, False, False),
        ({"exit_code": 3}, False, False),
        ({"exit_code": 4}, False, False),
        ({"exit_code": 5}, False, False),
        ({"exit_code": None}, False, False),
        ({"code": "UserInitiated", "reason": "a deployment"}, False, False),
        ({"code": "SpotInterruption"}, False, False),
        ({"code": "TerminationNotice"}, False, False),
        ({"code": "InfrastructureHealth", "exit_code": None}, False, False),
        ({"code": "ServiceSchedulerInitiated"}, False, False),
        ({"code": None}, False, False),
    ],
)
def test_how_a_task_ended_decides_whether_its_entries_are_suspects_or_counted(ended, crashed, counted):
    (death,) = tick(with_claims(entries=1, fail_poison=0), ECS([dead(ID, **ended)])).freed.deaths
    assert (death.crashed, death.counted, death.alone) == (crashed, counted, crashed)


def test_the_only_entry_of_a_task_that_crashed_may_be_poison():
    warehouse = with_claims(entries=1, fail_poison=1)
    warehouse.answers["release_dead"] = 0
    report = tick(warehouse, ECS([dead(ID)]))
    assert (report.freed.poisoned, report.freed.released) == (1, 0)


OTHER = "fedcba9876543210" * 2


@pytest.mark.parametrize(
    ("ages_s", "since"),
    [
        ([30], NAIVE - timedelta(seconds=30 + 60)),
        ([30, 300], NAIVE - timedelta(seconds=300 + 60)),
        ([300, 30], NAIVE - timedelta(seconds=300 + 60)),
        ([None], datetime(1970, 1, 1)),  # noqa: DTZ001 -- as Snowflake's timestamps
        ([30, None], datetime(1970, 1, 1)),  # noqa: DTZ001
        ([None, 30], datetime(1970, 1, 1)),  # noqa: DTZ001
    ],
    ids=str,
)
def test_what_the_dead_recorded_is_searched_from_a_minute_before_their_first_claim_or_all_of_it(ages_s, since):
    claimed = [None if age is None else NAIVE - timedelta(seconds=age) for age in ages_s]
    named = zip((ID, OTHER), claimed, strict=False)
    warehouse = with_claims(fail_poison=0)
    warehouse.answers["claimants"] = [(f"dev-{name}", 1, at) for name, at in named]
    assert len(tick(warehouse, ECS([dead(ID), dead(OTHER)])).freed.deaths) == len(ages_s)
    for statement in ("record_deaths", "fail_poison", "release_dead"):
        assert warehouse.values[statement]["since"] == since.isoformat(sep=" ")


def test_if_ecs_does_not_answer_about_a_worker_nothing_is_released():
    warehouse, ecs = with_claims(), ECS()
    ecs.describe_tasks = lambda **_: (_ for _ in ()).throw(error("ThrottlingException", "DescribeTasks"))
    with pytest.raises(LaunchError, match="tasks cannot be described"):
        tick(warehouse, ecs)
    assert warehouse.sent == ["pulse", "claimants"]


def test_stale_claims_are_reset_and_the_entries_are_counted():
    warehouse = PlayedWarehouse(
        pulse=pulse(processing=4, claimed=NAIVE - timedelta(minutes=31)),
        claimants=[("dev-laptop", 4, NAIVE - timedelta(minutes=31))],
        record_resets=4,
        reset_stale=4,
        count_ready=[(4, 0)],
    )
    report = tick(warehouse, ECS())
    assert warehouse.sent == ["pulse", "claimants", "record_resets", "reset_stale", "count_ready"]
    assert (report.freed.stale_reset, len(report.launched.started)) == (4, 1)


def test_what_the_workers_of_stale_claims_recorded_is_searched_from_a_minute_before_the_first_claim():
    claimed = NAIVE - timedelta(minutes=45)
    warehouse = PlayedWarehouse(
        pulse=pulse(processing=4, claimed=claimed),
        claimants=[("dev-laptop", 4, claimed + timedelta(minutes=5))],
        record_resets=4,
        reset_stale=4,
        count_ready=[(4, 0)],
    )
    tick(warehouse, ECS())
    for statement in ("record_resets", "reset_stale"):
        assert warehouse.values[statement]["since"] == "2026-11-20 11:14:30"


def test_claims_that_may_be_stale_within_the_clock_skew_are_reset():
    claimed = NAIVE - timedelta(minutes=30) + timedelta(seconds=4)
    claimants = [("dev-laptop", 4, claimed)]
    warehouse = PlayedWarehouse(
        pulse=pulse(processing=4, claimed=claimed), claimants=claimants, record_resets=0, reset_stale=0
    )
    tick(warehouse, ECS())
    assert "reset_stale" in warehouse.sent


def test_if_the_release_fails_the_tick_goes_on_and_raises_at_its_end(capsys):
    warehouse = with_claims()
    warehouse.answers["release_dead"] = WarehouseUnavailable("cancelled by the driver", errno=604)
    warehouse.answers["pulse"] = pulse(pending=8, available=NAIVE, processing=4, claimed=NAIVE)
    warehouse.answers["count_ready"] = [(8, 0)]
    ecs = ECS([dead(ID)])
    with pytest.raises(WarehouseUnavailable, match="cancelled"):
        tick(warehouse, ecs)
    assert len(ecs.requests) == 1
    assert "TicksCompleted" not in capsys.readouterr().out


def test_young_claims_cost_no_update():
    claimed = NAIVE - timedelta(minutes=29)
    warehouse = PlayedWarehouse(pulse=pulse(processing=4, claimed=claimed), claimants=[("dev-laptop", 4, claimed)])
    assert tick(warehouse, ECS()).freed.stale_reset == 0
    assert warehouse.sent == ["pulse", "claimants"]


# Stop events


def arn(name=ID):
    return f"arn:aws:ecs:us-east-1:1:task/dev-snowflake-processor/{name}"


def test_a_stop_event_frees_the_entries_of_the_task_and_starts_its_successor_at_once():
    ecs = ECS([dead(ID)])
    report = poller(with_claims(), ecs).attend(arn())
    assert (report.freed.released, len(report.launched.started)) == (4, 1)


def test_a_stop_event_for_a_task_without_entries_costs_one_statement(capsys):
    warehouse = PlayedWarehouse(claimants=[])
    assert poller(warehouse, ECS([dead(ID, exit_code=2)])).attend(arn()) is None
    assert warehouse.sent == ["claimants"]
    line = capsys.readouterr().out
    assert '"exit_code": 2' in line
    assert '"TasksDied": 1' in line


def test_a_long_reason_of_ecs_is_cut():
    (death,) = tick(with_claims(), ECS([dead(ID, reason="x" * 9000)])).freed.deaths
    assert len(death.reason) == MAX_ERROR_MESSAGE_CHARACTERS


def test_after_a_stop_event_too_no_statement_is_sent_with_less_than_a_step_left():
    warehouse = with_claims()
    with pytest.raises(TickOverdue, match="gave up before the claimants"):
        poller(warehouse, ECS([dead(ID)]), seconds_left=lambda: 9.9).attend(dead(ID)["taskArn"])
    assert warehouse.sent == []


def test_the_same_stop_event_again_changes_nothing():
    warehouse, ecs = with_claims(), ECS([dead(ID)])
    poller(warehouse, ecs).attend(arn())
    warehouse.answers["claimants"] = []
    assert poller(warehouse, ecs).attend(arn()) is None
    assert len(ecs.requests) == 1


@pytest.mark.parametrize("name", [f"arn:aws:ecs:us-east-1:1:task/somebody-elses/{ID}", "dev-snowflake-processor/x"])
def test_a_stop_event_from_another_cluster_or_without_an_arn_asks_neither_ecs_nor_snowflake(name):
    warehouse, ecs = with_claims(), ECS([dead(ID)])
    ecs.describe_tasks = None
    assert poller(warehouse, ecs).attend(name) is None
    assert warehouse.sent == []


@pytest.mark.parametrize(
    "tasks",
    [[], [task(ID)], [dead(ID) | {"taskDefinitionArn": "arn:aws:ecs:us-east-1:1:task-definition/somebody-else:1"}]],
    ids=["unknown", "alive", "of another family"],
)
def test_a_stop_event_that_ecs_does_not_confirm_asks_nothing_of_snowflake(tasks):
    warehouse = with_claims()
    assert poller(warehouse, ECS(tasks)).attend(arn()) is None
    assert warehouse.sent == []


# Each duty by itself


def with_every_duty(**answers):
    """A dead task with claims, a stale claim, an entry without attempts left, and eight entries that are ready."""
    warehouse = with_claims(record_resets=1, reset_stale=1, fail_exhausted=1, **answers)
    warehouse.answers["pulse"] = pulse(
        pending=8, available=NAIVE, exhausted=1, processing=5, claimed=NAIVE - timedelta(minutes=31)
    )
    warehouse.answers["count_ready"] = [(8, 0)]
    return warehouse


def test_the_rescue_goes_first_then_the_reset_then_the_entries_without_attempts_left():
    warehouse = with_every_duty()
    report = tick(warehouse, ECS([dead(ID)]))
    assert warehouse.sent == [
        "pulse",
        "claimants",
        *("record_deaths", "release_dead"),
        *("record_resets", "reset_stale"),
        "fail_exhausted",
        *("processors_seen", "count_ready"),
    ]
    assert (report.freed.released, report.freed.stale_reset, report.freed.exhausted) == (4, 1, 1)


@pytest.mark.parametrize(
    ("refused", "missing"),
    [
        ("record_deaths", ["release_dead"]),
        ("release_dead", []),
        ("record_resets", ["reset_stale"]),
        ("reset_stale", []),
        ("fail_exhausted", []),
    ],
)
def test_an_error_of_one_duty_skips_no_other_and_is_raised_at_the_end(refused, missing, capsys):
    healthy, warehouse, ecs = with_every_duty(), with_every_duty(), ECS([dead(ID)])
    tick(healthy, ECS([dead(ID)]))
    warehouse.answers[refused] = LockContention(f"no lock for {refused}")
    with pytest.raises(LockContention, match=f"no lock for {refused}"):
        tick(warehouse, ecs)
    assert warehouse.sent == [name for name in healthy.sent if name not in missing]
    assert len(ecs.requests) == 1, "and the launch goes on"
    assert f"no lock for {refused}" in capsys.readouterr().out


def test_of_several_errors_the_one_of_the_most_urgent_duty_is_raised_and_each_is_logged(capsys):
    warehouse = with_every_duty()
    for refused in ("release_dead", "reset_stale", "fail_exhausted"):
        warehouse.answers[refused] = LockContention(f"no lock for {refused}")
    with pytest.raises(LockContention, match="release_dead"):
        tick(warehouse, ECS([dead(ID)]))
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    failed = [(line["duty"], line["error"]) for line in lines if line["event"] == "cleaning_failed"]
    assert failed == [
        ("the rescue", "no lock for release_dead"),
        ("the reset", "no lock for reset_stale"),
        ("the failing of exhausted entries", "no lock for fail_exhausted"),
    ]


def test_if_ecs_does_not_answer_about_a_worker_stale_claims_are_reset_all_the_same():
    warehouse, ecs = with_every_duty(), ECS()
    ecs.describe_tasks = lambda **_: (_ for _ in ()).throw(error("ThrottlingException", "DescribeTasks"))
    with pytest.raises(LaunchError, match="tasks cannot be described"):
        tick(warehouse, ecs)
    assert "release_dead" not in warehouse.sent
    assert "reset_stale" in warehouse.sent


@pytest.mark.parametrize(("left", "sent"), [(29.9, False), (30, True)])
def test_entries_without_attempts_left_are_failed_only_if_the_count_and_the_launch_have_time_after_it(left, sent):
    warehouse = with_every_duty()
    tick(warehouse, ECS([dead(ID)]), seconds_left=lambda: left)
    assert ("fail_exhausted" in warehouse.sent) == sent
