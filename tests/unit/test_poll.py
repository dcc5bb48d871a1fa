"""One tick, with a Snowflake and an ECS that answer what the test says and keep what they were asked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from botocore.exceptions import ClientError

from rowqueue.errors import LaunchError, TickOverdue, WarehouseUnavailable
from rowqueue.poller.fargate import Fargate, client_token
from rowqueue.poller.poll import poll
from rowqueue.settings import PollerSettings
from rowqueue.store import QueueStore

NOW = datetime(2026, 11, 20, 12, 0, 30, tzinfo=UTC)
NAIVE = NOW.replace(tzinfo=None)
ENVIRON = {
    "ENVIRONMENT": "dev",
    "ECS_CLUSTER": "dev-snowflake-processor",
    "ECS_TASK_DEFINITION": "arn:aws:ecs:us-east-1:1:task-definition/dev-snowflake-processor:3",
    "ECS_SUBNETS": '["subnet-1"]',
    "ECS_SECURITY_GROUP": "sg-1",
    "SNOWFLAKE_ACCOUNT": "local",
    "SNOWFLAKE_WAREHOUSE": "WH",
    "SNOWFLAKE_DATABASE": "DB",
    "SNOWFLAKE_SCHEMA": "PUBLIC",
}


class Warehouse:
    """Answers each named statement; an exception is raised instead."""

    def __init__(self, **answers):
        self.answers = answers
        self.sent = []

    def rows(self, statement, values):
        self.sent.append(statement.name)
        statement.bind(values)
        answer = self.answers[statement.name]
        if isinstance(answer, Exception):
            raise answer
        return answer

    change = rows


class ECS:
    """boto3's client, as far as the poller uses it."""

    class exceptions:  # noqa: N801
        class ConflictException(ClientError):  # noqa: N818 -- ECS's name
            pass

    def __init__(self, tasks=(), *, run=None, listing=None):
        self.tasks = list(tasks)
        self.run = run or self._start
        self.listing = listing
        self.requests = []
        self._tokens = {}

    def get_paginator(self, name):
        assert name == "list_tasks"

        def paginate(*, cluster, family, desiredStatus):  # noqa: N803 -- ECS's name
            assert (family, desiredStatus) == ("dev-snowflake-processor", "RUNNING")
            if self.listing:
                raise self.listing
            arns = [task["taskArn"] for task in self.tasks]
            return [{"taskArns": arns[first:][:100]} for first in range(0, len(arns), 100)] or [{"taskArns": []}]

        return SimpleNamespace(paginate=paginate)

    def describe_tasks(self, *, cluster, tasks):
        assert len(tasks) <= 100
        return {"tasks": [task for task in self.tasks if task["taskArn"] in tasks], "failures": []}

    def run_task(self, **request):
        self.requests.append(request)
        return self.run(request)

    def _start(self, request):
        token = request["clientToken"]
        if token not in self._tokens:
            made = [task(f"new-{len(self.tasks) + n}") for n in range(request["count"])]
            self._tokens[token] = made
            self.tasks += made
        return {"tasks": self._tokens[token], "failures": []}


def task(name, *, age_s=5.0):
    arn = f"arn:aws:ecs:us-east-1:1:task/dev-snowflake-processor/{name}"
    return {"taskArn": arn, "desiredStatus": "RUNNING", "createdAt": NOW - timedelta(seconds=age_s)}


def pulse(*, pending=0, exhausted=0, available=None, processing=0, claimed=None, unknown=0, holds=0, held_until=None):
    return [(pending, exhausted, available, processing, claimed, unknown, holds, held_until, "why" if holds else None)]


def tick(warehouse, ecs, *, now=NOW, seconds_left=lambda: 50, **environ):
    settings = PollerSettings.from_env(ENVIRON | environ)
    store = QueueStore(warehouse, queue=settings.snowflake.table, max_retries=3, sleep=lambda _: None)
    return poll(store, Fargate(ecs, settings), settings, now=now, seconds_left=seconds_left)


def ready(count, *, seen=()):
    return Warehouse(
        pulse=pulse(pending=count, available=NAIVE - timedelta(seconds=9)),
        count_ready=[(count,)],
        processors_seen=[(name,) for name in seen],
    )


def test_an_idle_tick_sends_one_statement_and_starts_nothing():
    warehouse, ecs = Warehouse(pulse=pulse()), ECS()
    report = tick(warehouse, ecs)
    assert warehouse.sent == ["pulse"]
    assert ecs.requests == []
    assert report.plan.reason == "nothing is ready"


def test_entries_that_are_all_scheduled_for_later_are_not_counted():
    warehouse = Warehouse(pulse=pulse(pending=5, available=NAIVE + timedelta(minutes=5)))
    assert tick(warehouse, ECS()).launched == ()
    assert warehouse.sent == ["pulse"]


def test_ready_entries_start_the_tasks_they_need():
    ecs = ECS()
    report = tick(ready(20), ecs)
    assert len(report.launched) == 3
    (request,) = ecs.requests
    assert request["count"] == 3
    assert request["overrides"]["containerOverrides"][0]["environment"] == [{"name": "MAX_ENTRIES", "value": "8"}]


def test_the_next_tick_counts_the_tasks_that_are_still_starting():
    ecs = ECS()
    tick(ready(20), ecs)
    report = tick(ready(20), ecs, now=NOW + timedelta(seconds=60))
    assert (report.live, report.starting, report.launched) == (3, 3, ())


def test_a_task_that_has_claimed_is_not_starting_any_more():
    ecs = ECS([task("a"), task("b")])
    report = tick(ready(20, seen=["dev-a"]), ecs)
    assert (report.live, report.starting, len(report.launched)) == (2, 1, 2)


def test_a_task_older_than_the_boot_deadline_no_longer_counts_as_starting():
    ecs = ECS([task("a", age_s=600)])
    assert tick(ready(8), ecs).starting == 0


def test_launches_go_out_in_groups_of_ten_with_a_token_each():
    ecs = ECS()
    report = tick(ready(200), ecs)
    assert [request["count"] for request in ecs.requests] == [10, 10, 5]
    assert len({request["clientToken"] for request in ecs.requests}) == 3
    assert len(report.launched) == 25


def test_the_same_tick_twice_launches_once():
    ecs, frozen = ECS(), ECS()
    first = tick(ready(20), ecs)
    frozen._tokens = ecs._tokens  # the second tick has listed before the first one launched
    second = tick(ready(20), frozen, now=NOW + timedelta(seconds=5))
    assert second.launched == first.launched
    assert len(frozen.tasks) == 0, "nothing new was started"


def test_a_token_depends_on_all_that_may_differ():
    base = {"period": 1, "task_definition": "t:1", "first_slot": 0, "count": 3}
    others = [{"period": 2}, {"task_definition": "t:2"}, {"first_slot": 3}, {"count": 4}, {"probe": True}]
    tokens = {client_token(**base | other) for other in [{}, *others]}
    assert len(tokens) == 6
    assert all(len(token) <= 64 for token in tokens)


def test_tasks_that_a_token_gives_back_already_stopped_are_no_launch():
    stopped = [task("old") | {"desiredStatus": "STOPPED"}]
    assert tick(ready(8), ECS(run=lambda request: {"tasks": stopped, "failures": []})).launched == ()


def test_a_partial_failure_is_counted_and_told():
    def run(request):
        return {"tasks": [task("a")], "failures": [{"reason": "RESOURCE:CPU"}, {"reason": "RESOURCE:CPU"}]}

    report = tick(ready(24), ECS(run=run))
    assert len(report.launched) == 1
    assert report.failures == {"RESOURCE:CPU": 2}


def test_an_answer_without_any_task_is_no_crash():
    report = tick(ready(8), ECS(run=lambda request: {"tasks": [], "failures": [{"reason": "Capacity is unavailable"}]}))
    assert report.launched == ()
    assert report.failures == {"Capacity is unavailable": 1}


def error(name, operation):
    return ClientError({"Error": {"Code": name, "Message": "no"}}, operation)


def test_when_the_tasks_can_not_be_counted_nothing_is_asked_of_snowflake_and_nothing_launched():
    warehouse, ecs = ready(80), ECS(listing=error("ThrottlingException", "ListTasks"))
    with pytest.raises(LaunchError, match="the live tasks can not be counted"):
        tick(warehouse, ecs)
    assert ecs.requests == []


def test_when_snowflake_fails_nothing_is_launched():
    ecs = ECS()
    with pytest.raises(WarehouseUnavailable):
        tick(Warehouse(pulse=WarehouseUnavailable("gone")), ecs)
    assert ecs.requests == []


def test_a_refused_launch_is_raised_so_that_the_alarm_sees_it():
    def run(request):
        raise error("AccessDeniedException", "RunTask")

    with pytest.raises(LaunchError, match="AccessDenied"):
        tick(ready(8), ECS(run=run))


def test_a_conflict_means_that_another_tick_has_launched():
    def run(request):
        raise ECS.exceptions.ConflictException({"Error": {"Code": "ConflictException", "Message": "x"}}, "RunTask")

    report = tick(ready(8), ECS(run=run))
    assert report.launched == ()
    assert report.failures == {"another tick has launched these already": 1}


def test_stale_claims_are_reset_and_what_they_free_is_counted():
    warehouse = Warehouse(
        pulse=pulse(processing=4, claimed=NAIVE - timedelta(minutes=31)),
        reset_stale=4,
        count_ready=[(4,)],
        processors_seen=[],
    )
    report = tick(warehouse, ECS())
    assert warehouse.sent == ["pulse", "reset_stale", "count_ready", "processors_seen"][: len(warehouse.sent)]
    assert (report.stale_reset, len(report.launched)) == (4, 1)


def test_while_a_hold_stands_nothing_is_counted_and_nothing_launched():
    until = NAIVE + timedelta(minutes=4)
    warehouse, ecs = Warehouse(pulse=pulse(pending=9, available=NAIVE, holds=1, held_until=until)), ECS()
    report = tick(warehouse, ecs)
    assert warehouse.sent == ["pulse"]
    assert ecs.requests == []
    assert report.plan.reason == "a hold stands"


def after_a_hold(ready):
    return Warehouse(
        pulse=pulse(pending=ready, available=NAIVE, holds=1, held_until=NAIVE - timedelta(seconds=1)),
        count_ready=[(ready,)],
        processors_seen=[],
    )


def test_after_a_hold_one_task_probes_with_one_entry_whatever_is_ready():
    ecs = ECS()
    report = tick(after_a_hold(500), ecs)
    assert len(report.launched) == 1
    environment = ecs.requests[0]["overrides"]["containerOverrides"][0]["environment"]
    assert {"name": "PROBE", "value": "1"} in environment


def test_a_probe_waits_until_no_other_task_is_left():
    ecs = ECS([task("old")])
    assert tick(after_a_hold(500), ecs).launched == ()


def test_entries_out_of_attempts_are_failed_and_do_not_keep_the_warehouse_awake():
    warehouse = Warehouse(pulse=pulse(exhausted=2), fail_exhausted=2)
    tick(warehouse, ECS())
    assert warehouse.sent == ["pulse", "fail_exhausted"]


@pytest.mark.parametrize(("steps", "told"), [(0, "the pulse"), (1, "the reset"), (2, "the count"), (3, "launching 25")])
def test_a_tick_whose_time_is_up_gives_up_before_the_next_step(steps, told):
    left = iter([1] * steps + [0] * 10)
    ecs = ECS()
    with pytest.raises(TickOverdue, match=f"gave up before {told}"):
        tick(ready(500), ecs, seconds_left=lambda: next(left))
    assert ecs.requests == []


def test_a_task_that_can_not_be_described_yet_counts_as_starting():
    ecs = ECS([task("a")])
    ecs.describe_tasks = lambda **_: {"tasks": [], "failures": [{"arn": "a", "reason": "MISSING"}]}
    report = tick(ready(8), ecs)
    assert (report.live, report.starting, report.launched) == (1, 1, ())


def test_young_claims_cost_no_update():
    warehouse = Warehouse(pulse=pulse(processing=4, claimed=NAIVE - timedelta(minutes=29)))
    assert tick(warehouse, ECS()).stale_reset == 0
    assert warehouse.sent == ["pulse"]
