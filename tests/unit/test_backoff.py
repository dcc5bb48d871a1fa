"""How launches that died at boot delay the next ones."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from poller_played import CAPACITY

from rowqueue.poller.backoff import LONGEST_WAIT_S, backoff
from rowqueue.poller.fleet import HUNG, Task

START = datetime(2026, 11, 20, 12, 0, 5, tzinfo=UTC)
DEFINITION = "arn:aws:ecs:eu-west-1:1:task-definition/dev-snowflake-processor:7"
TICK_S = 60


def task(minute, *, number=0, definition=DEFINITION, **ended):
    created = START + timedelta(minutes=minute)
    return Task(
        arn=f"arn:aws:ecs:eu-west-1:1:task/c/{minute}-{number}",
        definition=definition,
        created_at=created,
        started_at=created + timedelta(seconds=20),
        **{"last_status": "RUNNING", "desired_status": ended.get("last_status", "RUNNING")} | ended,
    )


def died(minute, exit_code=1, **more):
    return task(minute, last_status="STOPPED", stop_code="EssentialContainerExited", exit_code=exit_code, **more)


def recent(*tasks, claimed=(), definition=DEFINITION):
    return backoff(tasks, claimed={t.arn for t in claimed}, definition=definition, tick_s=TICK_S)


def wait_after(minute, found):
    return (found.until - (START + timedelta(minutes=minute))).total_seconds()


def test_nothing_known_means_no_wait():
    assert recent().failures == 0


def test_the_wait_doubles_with_each_round_that_failed_up_to_a_cap():
    waits = []
    tasks = []
    for minute in (0, 2, 6, 14, 29, 44):
        tasks.append(died(minute))
        waits.append(wait_after(minute, recent(*tasks)))
    assert waits == [120, 240, 480, 900, 900, 900]


def test_the_wait_before_the_cap_is_not_cut():
    tasks = [died(minute) for minute in (0, 2, 6)]
    at_the_cap = backoff(tasks, claimed=set(), definition=DEFINITION, tick_s=LONGEST_WAIT_S / 8)
    assert at_the_cap.until - tasks[-1].created_at == timedelta(seconds=LONGEST_WAIT_S)


def test_a_hundred_failed_rounds_wait_no_longer_than_the_cap():
    found = recent(*(died(minute) for minute in range(1100)))
    assert (found.failures, wait_after(1099, found)) == (1100, LONGEST_WAIT_S)


@pytest.mark.parametrize(("seconds", "wait_s"), [(54, 120), (55, 240)])
def test_a_round_ends_with_the_period_of_the_schedule(seconds, wait_s):
    first = died(0)  # requested 5 s after the period began
    second = replace(died(0, number=1), created_at=START + timedelta(seconds=seconds))
    found = recent(first, second)
    assert (found.failures, found.until - second.created_at) == (2, timedelta(seconds=wait_s))


def test_the_reason_is_that_of_the_task_that_was_requested_last():
    found = recent(died(2, exit_code=1), died(0, exit_code=137))
    assert (found.failures, found.reason) == (2, "EssentialContainerExited, exit code 1")


def test_tasks_of_unknown_age_do_not_count():
    assert recent(replace(died(0), created_at=None)).failures == 0


def test_tasks_that_were_requested_together_count_as_one_round():
    found = recent(*(died(0, number=n) for n in range(25)))
    assert (found.failures, wait_after(0, found)) == (25, 120)


def test_a_later_launch_that_went_well_ends_the_wait():
    assert recent(died(0), died(5, exit_code=0)).failures == 0


@pytest.mark.parametrize("code", ["SpotInterruption", "UserInitiated", "ServiceSchedulerInitiated"])
def test_a_task_that_was_interrupted_ends_the_wait_only_if_it_had_claimed(code):
    interrupted = task(5, last_status="STOPPED", exit_code=0, stop_code=code)
    assert recent(died(0), interrupted).failures == 1
    assert recent(died(0), interrupted, claimed=[interrupted]).failures == 0


def test_a_task_that_has_claimed_went_well_even_if_it_crashed_later():
    crashed = died(5, exit_code=137)
    assert recent(died(0), crashed, claimed=[crashed]).failures == 0
    alive = task(5)
    assert recent(died(0), alive, claimed=[alive]).failures == 0


@pytest.mark.parametrize("exit_code", [3, 4, 6])
def test_a_task_that_ended_over_credentials_or_snowflake_has_failed_even_if_it_had_claimed(exit_code):
    ended = died(0, exit_code=exit_code)
    assert recent(ended, claimed=[ended]).failures == 1


def test_one_task_of_a_round_that_went_well_clears_the_round():
    working = task(0, number=1)
    assert recent(died(0), working, claimed=[working]).failures == 0


def test_a_task_of_another_round_that_is_still_starting_does_not_count():
    found = recent(died(0), task(1))
    assert (found.failures, wait_after(0, found)) == (1, 120)


def test_a_round_is_judged_when_none_of_its_tasks_is_still_starting():
    found = recent(died(0), died(0, number=1), task(0, number=2))
    assert (found.failures, found.unjudged) == (0, 2)
    found = recent(died(0), died(0, number=1), died(0, number=2))
    assert (found.failures, found.unjudged, wait_after(0, found)) == (3, 0, 120)


def test_a_round_that_is_not_judged_yet_does_not_change_the_wait_after_those_before():
    found = recent(died(0), died(2), died(6), task(6, number=1))
    assert (found.failures, found.unjudged, wait_after(2, found)) == (2, 1, 240)


INTERRUPTED = {
    "Spot": {"stop_code": "SpotInterruption", "stopped_reason": "Your Spot Task was interrupted.", "exit_code": 143},
    "Spot, an older name": {"stop_code": "TerminationNotice", "exit_code": 137},
    "Spot, and it ended by itself": {"stop_code": "SpotInterruption", "exit_code": 0},
    "a person": {"stop_code": "UserInitiated", "stopped_reason": "Task stopped by user", "exit_code": 143},
    "a person, before it ran": {"stop_code": "UserInitiated", "started_at": None},
    "a deployment": {"stop_code": "ServiceSchedulerInitiated", "exit_code": 137},
    "a failing host": {"stop_code": "InfrastructureHealth"},
    "no network interface": {
        "stop_code": "TaskFailedToStart",
        "stopped_reason": "Timeout waiting for network interface provisioning to complete.",
        "started_at": None,
    },
    "no disk": {
        "stop_code": "TaskFailedToStart",
        "stopped_reason": "Timeout waiting for EphemeralStorage provisioning to complete.",
        "started_at": None,
    },
    "no capacity": {
        "stop_code": "TaskFailedToStart",
        "stopped_reason": CAPACITY,
        "started_at": None,
    },
}


@pytest.mark.parametrize("how", INTERRUPTED.values(), ids=INTERRUPTED)
@pytest.mark.parametrize("last_status", ["STOPPED", "STOPPING"])
def test_an_interruption_while_booting_is_neither_a_failed_launch_nor_a_good_one(how, last_status):
    interrupted = replace(task(6, desired_status="STOPPED"), last_status=last_status, **how)
    assert recent(interrupted).failures == 0
    found = recent(died(0), died(2), interrupted)
    assert (found.failures, wait_after(2, found)) == (2, 240)


@pytest.mark.parametrize(
    "how",
    [
        {
            "stop_code": "TaskFailedToStart",
            "stopped_reason": "CannotPullContainerError: i/o timeout",
            "started_at": None,
        },
        {
            "stop_code": "TaskFailedToStart",
            "stopped_reason": "ResourceInitializationError: unable to pull secrets or registry auth: request timed out",
            "started_at": None,
        },
        {"stop_code": "TaskFailedToStart", "started_at": None},
        {"stop_code": "UserInitiated", "stopped_reason": HUNG, "exit_code": 137},
        {"stop_code": "SpotInterruption", "exit_code": 6},  # its own decision, whatever came then
        {"stop_code": "EssentialContainerExited", "exit_code": 143},
    ],
    ids=["pull", "secrets", "no reason", "hung", "no Snowflake", "a signal without a stop"],
)
def test_an_end_that_the_next_launch_would_meet_too_is_a_failed_launch(how):
    ended = replace(task(0, last_status="STOPPED", desired_status="STOPPED"), **how)
    assert recent(ended).failures == 1


def test_a_task_that_never_started_failed_and_says_why():
    reason = "CannotPullContainerError: pull image manifest has been retried 5 time(s)"
    never = Task(
        arn="arn:aws:ecs:eu-west-1:1:task/c/x",
        definition=DEFINITION,
        last_status="STOPPED",
        desired_status="STOPPED",
        created_at=START,
        stop_code="TaskFailedToStart",
        stopped_reason=reason,
    )
    assert recent(never).reason == f"TaskFailedToStart, {reason}"


@pytest.mark.parametrize(
    ("dying", "failures"),
    [
        ({"exit_code": 1}, 1),
        ({"started_at": None, "stop_code": "TaskFailedToStart"}, 1),
        ({"stop_code": "UserInitiated", "stopped_reason": HUNG}, 1),
        ({"stop_code": "UserInitiated", "stopped_reason": "a deployment"}, 0),
    ],
)
def test_a_task_that_is_stopping_counts_as_it_will_when_it_has_stopped(dying, failures):
    task_ = replace(task(0, last_status="DEPROVISIONING", desired_status="STOPPED"), **dying)
    assert recent(task_).failures == failures


@pytest.mark.parametrize(
    ("definition", "counts"),
    [
        (DEFINITION, True),
        (DEFINITION.replace(":7", ":8"), False),  # a deployment: the back-off starts at zero
        ("dev-snowflake-processor:7", True),
        ("dev-snowflake-processor:8", False),
        ("dev-snowflake-processor", True),
        ("prod-snowflake-processor", False),
        (DEFINITION.rsplit(":", 1)[0], True),  # an ARN without a revision
    ],
)
def test_only_launches_of_the_current_task_definition_count(definition, counts):
    assert bool(recent(died(0), definition=definition).failures) == counts
