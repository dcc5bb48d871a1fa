"""How a tick handles the answers of RunTask."""

from __future__ import annotations

import contextlib
import json
from datetime import timedelta

import pytest
from botocore.exceptions import EndpointConnectionError
from poller_played import CAPACITY, ECS, NOW, S3, dead, error, ready, task, tick

from rowqueue import observability
from rowqueue.errors import LaunchError

VCPUS = "You've reached the limit on the number of vCPUs you can run concurrently"


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


def test_a_task_that_was_killed_in_this_period_is_replaced():
    ecs = ECS()
    tick(ready(8), ecs)
    ecs.tasks = [one | {"lastStatus": "STOPPED", "desiredStatus": "STOPPED"} for one in ecs.tasks]
    assert len(tick(ready(8, seen=["dev-new-0"]), ecs).launched.started) == 1


def test_tasks_that_ecs_does_not_list_yet_are_found_in_the_lease():
    for hidden in range(11):
        ecs, s3 = ECS(), S3()
        tick(ready(80), ecs, s3=s3)
        whole, ecs.tasks = ecs.tasks, ecs.tasks[hidden:]
        later = tick(ready(80), ecs, s3=s3, now=NOW + timedelta(seconds=5))
        started = {one["taskArn"] for one in whole} | {one["taskArn"] for one in ecs.tasks}
        assert len(started) == 10, f"{hidden} of 10 were not listed, and {len(later.launched.started)} launched"


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


class SpotIsFull(ECS):
    """Fargate Spot has room for a number of tasks in all; the others of a request are failures."""

    def __init__(self, room, *, reason=CAPACITY, on_demand=None):
        super().__init__()
        self.room, self.reason, self.on_demand = room, reason, on_demand
        self.run = self._place

    def _place(self, request):
        if "launchType" in request:
            if self.on_demand:
                return {"tasks": [], "failures": [{"reason": self.on_demand}] * request["count"]}
            return self._start(request)
        placed = min(self.room, request["count"])
        self.room -= placed
        failures = [{"reason": self.reason}] * (request["count"] - placed)
        return {"tasks": self._start(request | {"count": placed})["tasks"], "failures": failures}


def test_tasks_that_spot_has_no_capacity_for_run_on_demand_in_the_same_tick():
    ecs = SpotIsFull(12)
    report = tick(ready(200), ecs, SPOT_PERCENT="80")
    assert [(r["count"], r.get("launchType")) for r in ecs.requests] == [
        (10, None),
        (10, None),
        (10, "FARGATE"),
        (3, "FARGATE"),
    ]
    assert len({r["clientToken"] for r in ecs.requests}) == 4, "a token with other parameters would be a conflict"
    assert len(report.launched.started) == len(ecs.tasks) == 25
    assert (report.launched.failures, report.launched.replaced) == ({}, 13)


@pytest.mark.parametrize(("other", "raised"), [("RESOURCE:ENI", False), ("MISSING: no such group", True)])
def test_of_mixed_failures_those_for_capacity_run_on_demand(other, raised, capsys):
    ecs = ECS()

    def run(request):
        if "launchType" in request:
            return ecs._start(request)
        return {"tasks": [], "failures": [{"reason": CAPACITY}] * 7 + [{"reason": other}] * 3}

    ecs.run = run
    with pytest.raises(LaunchError, match=other) if raised else contextlib.nullcontext():
        tick(ready(80), ecs, SPOT_PERCENT="50")
    assert len(ecs.tasks) == 7
    line = json.loads(capsys.readouterr().out)
    assert (line["launch_failures"], line["on_demand_for_spot"]) == ({other: 3}, 7)


@pytest.mark.parametrize("refused", [True, False])
def test_after_mixed_failures_those_on_demand_are_counted_too_and_the_first_problem_is_raised(refused, capsys):
    def run(request):
        if "launchType" not in request:
            return {"tasks": [], "failures": [{"reason": CAPACITY}] * 7 + [{"reason": "MISSING: a group"}] * 3}
        if refused:
            raise error("AccessDeniedException", "RunTask")
        return {"tasks": [], "failures": [{"reason": "MISSING: a role"}] * 7}

    with pytest.raises(LaunchError, match="a group"):
        tick(ready(80), ECS(run=run), SPOT_PERCENT="50")
    line = json.loads(capsys.readouterr().out)
    assert line["launch_failures"] == {"MISSING: a group": 3, "refused" if refused else "MISSING: a role": 7}


def test_a_request_for_spot_that_is_not_answered_is_not_replaced_because_it_may_have_started_tasks():
    s3, ecs = S3(), ECS()

    def run(request):
        ecs._start(request)
        raise error("ServerException", "RunTask", CAPACITY, status=500)

    ecs.run = run
    report = tick(ready(80), ecs, s3=s3, SPOT_PERCENT="70")
    assert (len(ecs.requests), report.launched.unanswered.count) == (1, 10)
    assert s3.written[-1]["unanswered"]["token"] == ecs.requests[0]["clientToken"]


@pytest.mark.parametrize(
    ("changes", "percent", "on_demand"),
    [
        ({}, "50", True),
        ({}, "100", False),
        ({"capacityProviderName": "FARGATE"}, "50", False),
        ({"stoppedReason": "Timeout waiting for network interface provisioning to complete."}, "50", False),
        ({"stopCode": "SpotInterruption"}, "50", False),
        ({"createdAt": NOW - timedelta(minutes=5)}, "50", False),
    ],
    ids=["no capacity", "Spot only", "on demand", "another reason", "it ran", "long ago"],
)
def test_after_spot_tasks_that_ended_for_lack_of_capacity_tasks_run_on_demand(changes, percent, on_demand):
    ended = dead("a", age_s=299, code="TaskFailedToStart", reason=CAPACITY, exit_code=None)
    ecs = ECS([ended | {"capacityProviderName": "FARGATE_SPOT", "startedAt": None} | changes])
    report = tick(ready(200), ecs, SPOT_PERCENT=percent)
    assert ["launchType" in request for request in ecs.requests] == [on_demand] * 3
    assert report.launched.replaced == (25 if on_demand else 0)


@pytest.mark.parametrize(("percent", "reason"), [("100", CAPACITY), ("80", VCPUS), ("0", CAPACITY)])
def test_nothing_else_replaces_a_spot_task(percent, reason):
    ecs = SpotIsFull(3, reason=reason, on_demand=reason)
    report = tick(ready(80), ecs, SPOT_PERCENT=percent)
    assert len(ecs.requests) == 1
    assert sum(report.launched.failures.values()) == (10 if percent == "0" else 7)


def test_if_there_is_no_capacity_on_demand_either_the_rest_is_left_to_the_next_tick():
    ecs = SpotIsFull(4, on_demand=CAPACITY)
    report = tick(ready(200), ecs, SPOT_PERCENT="50")
    assert [request["count"] for request in ecs.requests] == [10, 10]
    assert len(report.launched.started) == 4
    assert report.launched.failures == {CAPACITY: 10}


def test_a_request_that_is_refused_for_lack_of_spot_capacity_is_repeated_on_demand():
    ecs = ECS()

    def run(request):
        if "launchType" in request:
            return ecs._start(request)
        raise error("ClientException", "RunTask", CAPACITY)

    ecs.run = run
    assert len(tick(ready(80), ecs, SPOT_PERCENT="50").launched.started) == 10


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
