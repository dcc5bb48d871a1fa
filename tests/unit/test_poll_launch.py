"""How a tick handles the answers of RunTask."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace

import pytest
from botocore.exceptions import EndpointConnectionError
from poller_played import CAPACITY, ECS, NOW, error, ready, task, tick

from rowqueue import observability
from rowqueue.errors import LaunchError


@pytest.fixture(autouse=True)
def _structured():
    observability.configure("poller", environment="dev")


def test_after_a_partial_success_started_and_failed_tasks_are_counted_and_the_rest_is_left_to_the_next_tick():
    def run(request):
        return {"tasks": [task("a")], "failures": [{"reason": CAPACITY}] * (request["count"] - 1)}

    ecs = ECS(run=run)
    report = tick(ready(200), ecs)
    assert len(report.launched.started) == 1
    assert report.launched.failures == {CAPACITY: 9}
    assert len(ecs.requests) == 1, "another request would fail for the same reason"


def test_a_failure_that_will_not_pass_is_raised_after_the_line_that_says_what_was_started(capsys):
    above = "The requested CPU configuration is above your limit"

    def run(request):
        return {"tasks": [task("a")], "failures": [{"reason": above}]}

    with pytest.raises(LaunchError, match="tasks cannot be started: The requested CPU configuration is above"):
        tick(ready(16), ECS(run=run))
    line = capsys.readouterr().out
    assert "TasksLaunched" in line
    assert above in line


@pytest.mark.parametrize(
    "refusal",
    [
        error("ThrottlingException", "RunTask", "Rate exceeded"),
        error(
            "InvalidParameterException",
            "RunTask",
            "Error retrieving security group information: Request limit exceeded.",
        ),
        error("ServerException", "RunTask", "Service Unavailable", status=500),
        EndpointConnectionError(endpoint_url="https://ecs"),
    ],
    ids=["throttled", "throttled by another service", "server fault", "no connection"],
)
def test_a_request_that_is_throttled_or_lost_is_counted_and_left_to_the_next_tick(refusal):
    def run(request):
        raise refusal

    ecs = ECS(run=run)
    report = tick(ready(200), ecs)
    assert report.launched.started == ()
    assert sum(report.launched.failures.values()) == 10
    assert len(ecs.requests) == 1


def test_a_refusal_after_the_first_group_is_raised_and_the_first_group_is_reported(capsys):
    ecs = ECS()
    start = ecs._start
    refused = error("AccessDeniedException", "RunTask")

    def run(request):
        if len(ecs.requests) > 1:
            raise refused
        return start(request)

    ecs.run = run
    with pytest.raises(LaunchError, match="AccessDenied"):
        tick(ready(200), ecs)
    assert '"TasksLaunched": 10' in capsys.readouterr().out


def test_a_conflict_names_the_slots_that_are_taken_and_the_launch_goes_on_behind_them():
    ecs, late = ECS(), ECS()
    tick(ready(30), ecs)  # four tasks
    late._tokens = ecs._tokens  # this one has listed before, and counts more
    report = tick(ready(50), late)
    assert len(report.launched.started) == 3
    assert report.launched.failures == {}


def test_a_conflict_over_more_than_is_wanted_launches_nothing():
    ecs, late = ECS(), ECS()
    tick(ready(50), ecs)
    late._tokens = ecs._tokens
    report = tick(ready(30), late)
    assert report.launched.started == ()
    assert report.launched.failures == {}


def test_a_task_that_was_killed_in_this_period_does_not_use_up_the_token_of_its_successor():
    ecs = ECS()
    tick(ready(8), ecs)
    ecs.tasks = [one | {"lastStatus": "STOPPED", "desiredStatus": "STOPPED"} for one in ecs.tasks]
    assert len(tick(ready(8, seen=["dev-new-0"]), ecs).launched.started) == 1


def test_tasks_of_this_period_that_ecs_does_not_list_yet_are_found_by_their_tokens():
    for hidden in range(11):
        ecs = ECS()
        tick(ready(80), ecs)
        whole, ecs.tasks = ecs.tasks, ecs.tasks[hidden:]
        later = tick(ready(80), ecs, now=NOW + timedelta(seconds=5))
        started = {one["taskArn"] for one in whole} | {one["taskArn"] for one in ecs.tasks}
        assert len(started) == 10, f"{hidden} of 10 were not listed, and {len(later.launched.started)} launched"


def test_a_task_that_stops_between_two_listings_takes_one_slot():
    ecs = ECS()
    tick(ready(8), ecs)
    listed = ecs.get_paginator

    def get_paginator(name):
        def paginate(**asked):
            pages = listed(name).paginate(**asked)
            ecs.tasks[0] |= {"lastStatus": "STOPPED", "desiredStatus": "STOPPED"}
            return pages

        return SimpleNamespace(paginate=paginate)

    ecs.get_paginator = get_paginator
    report = tick(ready(16, seen=["dev-new-0"]), ecs)
    assert len(report.launched.started) == 2
    assert len(ecs.tasks) == 3, "one slot was taken, and two are wanted"


def test_stopped_tasks_that_a_token_returns_are_no_launch():
    stopped = [task("old", desiredStatus="STOPPED")]
    assert tick(ready(8), ECS(run=lambda request: {"tasks": stopped, "failures": []})).launched.started == ()


def test_after_the_burst_launches_are_paced_at_fargates_rate():
    waits = []
    ecs = ECS()
    tick(ready(1200), ecs, sleep=waits.append, MAX_CONTAINERS="1000")
    assert len(ecs.requests) == 15
    assert waits == [0.5] * 5


def test_a_share_of_spot_replaces_the_launch_type():
    ecs = ECS()
    tick(ready(8), ecs, SPOT_PERCENT="80")
    (request,) = ecs.requests
    assert "launchType" not in request
    assert request["capacityProviderStrategy"] == [
        {"capacityProvider": "FARGATE_SPOT", "weight": 80},
        {"capacityProvider": "FARGATE", "weight": 20},
    ]


def test_by_default_tasks_are_launched_on_demand():
    ecs = ECS()
    tick(ready(8), ecs)
    assert ecs.requests[0]["launchType"] == "FARGATE"
    assert "capacityProviderStrategy" not in ecs.requests[0]


def test_tasks_launched_by_another_tick_since_this_one_listed_count_as_starting():
    ecs = ECS()
    warehouse = ready(80)
    count = warehouse.rows

    def rows(statement, values):
        if statement.name == "count_ready":  # meanwhile, and in the period before
            ecs.tasks = [task(f"other-{n}", age_s=61) for n in range(10)]
        return count(statement, values)

    warehouse.rows = rows
    report = tick(warehouse, ecs)
    assert report.launched.started == ()
    assert report.decision.reason == "the tasks that are starting are enough"


def test_a_new_revision_in_the_same_period_does_not_launch_again_what_the_old_one_has():
    ecs = ECS()
    tick(ready(24), ecs)
    new = "arn:aws:ecs:us-east-1:1:task-definition/dev-snowflake-processor:4"
    for n in range(3):
        tick(ready(32), ecs, now=NOW + timedelta(seconds=n + 1), ECS_TASK_DEFINITION=new)
    assert len(ecs.tasks) == 4
