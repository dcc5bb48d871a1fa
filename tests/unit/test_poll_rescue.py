"""How a tick, and a stop event, free what dead tasks hold."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace

import pytest
from poller_played import ECS, NAIVE, Warehouse, dead, error, poller, pulse, task, tick

from rowqueue import observability
from rowqueue.errors import LaunchError, WarehouseUnavailable
from rowqueue.poller.fleet import HUNG, OVERDUE


@pytest.fixture(autouse=True)
def _structured():
    observability.configure("poller", environment="dev")


ID = "0123456789abcdef" * 2


def holding(*, entries=4, age_s=30, name=f"dev-{ID}", **answers):
    claimed = NAIVE - timedelta(seconds=age_s)
    return Warehouse(
        pulse=pulse(processing=entries, claimed=claimed),
        holders=[(name, entries, claimed)],
        processors_seen=[(name,)],
        record_deaths=entries,
        release_dead=entries,
        count_ready=[(entries, 0)],
        **answers,
    )


def test_what_a_dead_task_held_is_released_counted_and_launched_for_in_the_same_tick():
    warehouse, ecs = holding(), ECS([dead(ID)])
    report = tick(warehouse, ecs)
    assert warehouse.sent == ["pulse", "holders", "record_deaths", "release_dead", "processors_seen", "count_ready"]
    (death,) = report.freed.deaths
    assert death.crashed
    assert death.reason == (
        "the task has stopped: EssentialContainerExited, exit code 137, Essential container in task exited"
    )
    assert (report.freed.released, len(report.launched.started)) == (4, 1)


def test_what_a_live_task_holds_is_left_alone_and_ecs_not_even_asked():
    warehouse, ecs = holding(), ECS([task(ID)])
    tick(warehouse, ecs)
    assert warehouse.sent == ["pulse", "holders", "processors_seen"]


def test_a_task_that_is_still_stopping_releases_by_itself():
    warehouse, ecs = holding(), ECS([task(ID, desiredStatus="STOPPED", lastStatus="DEACTIVATING")])
    assert tick(warehouse, ecs).freed.deaths == ()


def test_a_task_that_ecs_does_not_know_is_dead_once_ecs_may_have_forgotten_it():
    assert tick(holding(age_s=3500), ECS(), STALE_THRESHOLD_MINUTES="120").freed.deaths == ()
    (death,) = tick(holding(age_s=3700), ECS(), STALE_THRESHOLD_MINUTES="120").freed.deaths
    assert (death.crashed, death.reason) == (False, "the task has stopped, and ECS knows it no longer")


@pytest.mark.parametrize("name", ["prod-" + ID, "dev-laptop", "somebody", None])
def test_what_others_hold_is_left_to_the_stale_reset(name):
    assert tick(holding(name=name, age_s=300), ECS([dead(ID)])).freed.deaths == ()


@pytest.mark.parametrize("one", [task(ID), dead(ID)], ids=["alive", "dead"])
def test_a_task_of_another_family_is_not_ours_to_declare_dead(one):
    other = one | {"taskDefinitionArn": "arn:aws:ecs:us-east-1:1:task-definition/dev-snowflake-processor-v2:1"}
    ecs = ECS([other])
    ecs.get_paginator = lambda _: SimpleNamespace(paginate=lambda **_: [{"taskArns": []}])
    assert tick(holding(age_s=1500), ecs).freed.deaths == ()


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
def test_how_a_task_ended_tells_whether_what_it_held_is_suspect_or_counted(ended, crashed, counted):
    (death,) = tick(holding(entries=1, fail_poison=0), ECS([dead(ID, **ended)])).freed.deaths
    assert (death.crashed, death.counted, death.alone) == (crashed, counted, crashed)


def test_an_entry_that_a_task_died_on_alone_may_be_poison():
    warehouse = holding(entries=1, fail_poison=1)
    warehouse.answers["release_dead"] = 0
    report = tick(warehouse, ECS([dead(ID)]))
    assert (report.freed.poisoned, report.freed.released) == (1, 0)


def test_when_ecs_can_not_be_asked_about_a_holder_nothing_is_released():
    warehouse, ecs = holding(), ECS()
    ecs.describe_tasks = lambda **_: (_ for _ in ()).throw(error("ThrottlingException", "DescribeTasks"))
    with pytest.raises(LaunchError, match="tasks cannot be described"):
        tick(warehouse, ecs)
    assert warehouse.sent == ["pulse", "holders"]


def test_stale_claims_are_reset_and_what_they_free_is_counted():
    warehouse = Warehouse(
        pulse=pulse(processing=4, claimed=NAIVE - timedelta(minutes=31)),
        holders=[("dev-laptop", 4, NAIVE - timedelta(minutes=31))],
        record_resets=4,
        reset_stale=4,
        count_ready=[(4, 0)],
    )
    report = tick(warehouse, ECS())
    assert warehouse.sent == ["pulse", "holders", "record_resets", "reset_stale", "count_ready"]
    assert (report.freed.stale_reset, len(report.launched.started)) == (4, 1)


def test_what_may_be_stale_by_a_clock_that_is_off_is_looked_at():
    claimed = NAIVE - timedelta(minutes=30) + timedelta(seconds=4)
    holders = [("dev-laptop", 4, claimed)]
    warehouse = Warehouse(pulse=pulse(processing=4, claimed=claimed), holders=holders, record_resets=0, reset_stale=0)
    tick(warehouse, ECS())
    assert "reset_stale" in warehouse.sent


def test_when_the_lock_is_not_to_be_had_the_tick_goes_on_and_raises_at_its_end(capsys):
    warehouse = holding()
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
    warehouse = Warehouse(pulse=pulse(processing=4, claimed=claimed), holders=[("dev-laptop", 4, claimed)])
    assert tick(warehouse, ECS()).freed.stale_reset == 0
    assert warehouse.sent == ["pulse", "holders"]


# Stop events


def arn(name=ID):
    return f"arn:aws:ecs:us-east-1:1:task/dev-snowflake-processor/{name}"


def test_a_stop_event_frees_what_the_task_held_and_starts_its_successor_at_once():
    ecs = ECS([dead(ID)])
    report = poller(holding(), ecs).attend(arn())
    assert (report.freed.released, len(report.launched.started)) == (4, 1)


def test_a_stop_event_for_a_task_that_held_nothing_costs_one_statement(capsys):
    warehouse = Warehouse(holders=[])
    assert poller(warehouse, ECS([dead(ID, exit_code=2)])).attend(arn()) is None
    assert warehouse.sent == ["holders"]
    line = capsys.readouterr().out
    assert '"exit_code": 2' in line
    assert '"TasksDied": 1' in line


def test_the_same_stop_event_again_changes_nothing():
    warehouse, ecs = holding(), ECS([dead(ID)])
    poller(warehouse, ecs).attend(arn())
    warehouse.answers["holders"] = []
    assert poller(warehouse, ecs).attend(arn()) is None
    assert len(ecs.requests) == 1


def test_a_stop_event_from_another_cluster_asks_nothing_of_anybody():
    warehouse, ecs = holding(), ECS([dead(ID)])
    ecs.describe_tasks = None
    assert poller(warehouse, ecs).attend(f"arn:aws:ecs:us-east-1:1:task/somebody-elses/{ID}") is None
    assert warehouse.sent == []


@pytest.mark.parametrize(
    "tasks",
    [[], [task(ID)], [dead(ID) | {"taskDefinitionArn": "arn:aws:ecs:us-east-1:1:task-definition/somebody-else:1"}]],
    ids=["unknown", "alive", "of another family"],
)
def test_a_stop_event_that_ecs_does_not_confirm_asks_nothing_of_snowflake(tasks):
    warehouse = holding()
    assert poller(warehouse, ECS(tasks)).attend(arn()) is None
    assert warehouse.sent == []
