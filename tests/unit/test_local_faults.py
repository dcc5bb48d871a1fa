"""Injected faults of the AWS stand-in: how they are requested, and when they end."""

from __future__ import annotations

import json
import signal
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rowqueue_local.aws.controls import signal_of
from rowqueue_local.aws.errors import ApiError
from rowqueue_local.aws.fargate_tasks import FargateTask, TaskLaunch
from rowqueue_local.aws.faults import EventFaults, Faults, InjectedRefusal, Unplaced, changed, once_less, waits
from rowqueue_local.aws.injected import Injected
from rowqueue_local.aws.timeline import RunTaskCall, Timeline

INITIAL = Faults(task_start_seconds=(0.3, 0.3))


def after(change, *, faults=INITIAL):
    return changed(faults, json.dumps(change).encode(), initial=INITIAL)


def middle(low, high):
    return (low + high) / 2


# Requests for faults.


def test_a_given_key_is_replaced_and_the_rest_stays():
    first = after({"hang_every": 4, "events": {"copies": 3, "delay_seconds": [1, 2]}})
    second = after({"events": {"suppressed": True}}, faults=first)
    assert first.events == EventFaults(copies=3, delay_seconds=(1.0, 2.0))
    assert second.events == EventFaults(suppressed=True), "replaced as a whole"
    assert second.hang_every == 4


def test_null_resets_a_key_to_its_value_at_the_start():
    changed_once = after({"task_start_seconds": 30, "hang_every": 2, "unplaced": {"reason": "x"}})
    assert changed_once != INITIAL
    assert after({"task_start_seconds": None, "hang_every": None, "unplaced": None}, faults=changed_once) == INITIAL


def test_seconds_are_one_number_or_a_minimum_and_a_maximum():
    assert after({"task_start_seconds": 30}).task_start_seconds == (30.0, 30.0)
    assert after({"task_start_seconds": [30, 60.5]}).task_start_seconds == (30.0, 60.5)


def test_an_error_has_the_status_of_ecs_by_default():
    refuse = after(
        {
            "refuse": {
                "RunTask": {"code": "ThrottlingException", "message": "Rate exceeded", "times": 3},
                "ListTasks": {"code": "ServerException"},
                "StopTask": {"code": "ServerException", "status": 503},
            }
        }
    ).refuse
    assert refuse["RunTask"] == InjectedRefusal(
        code="ThrottlingException", message="Rate exceeded", status=400, times=3
    )
    assert (refuse["ListTasks"].status, refuse["StopTask"].status) == (500, 503)
    assert "ServerException" in refuse["ListTasks"].message


def test_the_faults_in_force_are_json():
    faults = after({"refuse": {"RunTask": {"code": "C"}}, "unplaced": {"reason": "r"}})
    assert json.loads(json.dumps(asdict(faults)))["refuse"]["RunTask"]["code"] == "C"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ([], "the request: expected an object, got []"),
        ({"hang": 1}, "a key of the request: expected one of task_start_seconds, events"),
        ({"hang_every": 0}, "hang_every: expected a whole number from 1 to 100000, got 0"),
        ({"hang_every": True}, "hang_every: expected a whole number from 1 to 100000, got true"),
        ({"task_start_seconds": -1}, "task_start_seconds: expected seconds from 0 to 3600"),
        ({"task_start_seconds": [2, 1]}, "task_start_seconds: expected [least, most], got [2, 1]"),
        ({"task_start_seconds": [1, 2, 3]}, "task_start_seconds: expected seconds from 0 to 3600"),
        ({"task_start_seconds": float("nan")}, "task_start_seconds: expected seconds from 0 to 3600"),
        ({"events": {"copies": 0}}, "events.copies: expected a whole number from 1"),
        ({"events": {"suppressed": "yes"}}, 'events.suppressed: expected true or false, got "yes"'),
        ({"events": {"lost": True}}, 'a key of events: expected one of suppressed, copies, delay_seconds, got "lost"'),
        ({"refuse": {"CreateCluster": {"code": "X"}}}, "a key of refuse: expected one of RunTask, StopTask, ListTasks"),
        ({"refuse": {"RunTask": {"times": 1}}}, 'refuse.RunTask: expected an object with code, got {"times": 1}'),
        ({"refuse": {"RunTask": {"code": ""}}}, 'refuse.RunTask.code: expected a text, got ""'),
        ({"unplaced": {"tasks": 1}}, "unplaced: expected an object with reason"),
        ({"away": "s3"}, 'away: expected a list of s3, secretsmanager, got "s3"'),
        ({"away": ["ecs"]}, "away: expected a list of s3, secretsmanager"),
        ({"throttled": 1}, "throttled: expected true or false, got 1"),
        ({"list_lag_seconds": -1}, "list_lag_seconds: expected seconds from 0 to 3600"),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_key(change, message):
    with pytest.raises(ApiError) as caught:
        after(change)
    assert message in str(caught.value)
    assert caught.value.status == 400


def test_a_body_that_is_no_json_is_refused():
    with pytest.raises(ApiError, match="the request: expected JSON, got"):
        changed(INITIAL, b"\xff{", initial=INITIAL)


NAMES = st.sampled_from(
    ["task_start_seconds", "events", "refuse", "unplaced", "hang_every", "RunTask", "code", "reason", "times", "copies"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_every_request_is_either_accepted_or_refused(change):
    try:
        answer = repr(after(change))
    except ApiError as error:
        answer = str(error)
    assert answer.startswith("Faults(") or ": expected " in answer


# Signals.


def test_a_signal_is_asked_for_by_its_name():
    assert signal_of(b'{"signal": "SIGSTOP"}') == signal.SIGSTOP


@pytest.mark.parametrize("body", [b"", b"SIGKILL", b'"SIGKILL"', b'{"signal": 9}', b'{"signal": "SIGHUP"}', b"{}"])
def test_any_other_signal_is_refused_with_those_there_are(body):
    with pytest.raises(ApiError, match="SIGKILL, SIGSTOP, SIGCONT, SIGTERM"):
        signal_of(body)


# When faults end.


def test_a_fault_with_a_number_ends_after_it_and_one_without_stays():
    twice = InjectedRefusal(code="C", message="m", times=2)
    assert once_less(twice) == InjectedRefusal(code="C", message="m", times=1)
    assert once_less(once_less(twice)) is None
    always = Unplaced(reason="r")
    assert once_less(always) is always


def test_refusals_are_counted_for_each_operation_separately():
    injected = Injected(INITIAL, middle)
    injected.change(b'{"refuse": {"RunTask": {"code": "A", "times": 1}, "ListTasks": {"code": "B"}}}')
    assert injected.refusal("RunTask").code == "A"
    assert injected.refusal("RunTask") is None
    assert [injected.refusal("ListTasks").code for _ in range(3)] == ["B", "B", "B"]
    assert injected.refusal("StopTask") is None


def test_a_launch_that_is_not_placed_is_used_up_too():
    injected = Injected(INITIAL, middle)
    injected.change(b'{"unplaced": {"reason": "r", "times": 1}}')
    assert injected.unplaced().reason == "r"
    assert injected.unplaced() is None
    assert injected.faults == INITIAL


def test_a_change_that_is_refused_changes_nothing():
    injected = Injected(INITIAL, middle)
    with pytest.raises(ApiError):
        injected.change(b'{"hang_every": 2, "events": 7}')
    assert injected.faults == INITIAL


def test_every_nth_task_hangs_counted_from_the_request():
    injected = Injected(INITIAL, middle)
    assert not any(injected.hangs() for _ in range(4))
    injected.change(b'{"hang_every": 3}')
    assert [injected.hangs() for _ in range(7)] == [False, False, True, False, False, True, False]
    injected.change(b'{"events": {"copies": 2}}')
    assert [injected.hangs() for _ in range(2)] == [False, True], "another change counts on"


def test_a_value_is_drawn_from_a_range():
    injected = Injected(INITIAL, middle)
    injected.change(b'{"task_start_seconds": [30, 60]}')
    assert injected.start_seconds() == 45.0


def test_a_task_is_listed_when_the_lag_is_over():
    injected = Injected(INITIAL, middle)
    assert not injected.is_hidden(0.0)
    injected.change(b'{"list_lag_seconds": 6}')
    assert [injected.is_hidden(age) for age in (0.0, 5.9, 6.0)] == [True, True, False]


def test_a_shorter_time_limit_of_an_invocation_replaces_the_functions_own():
    injected = Injected(INITIAL, middle)
    assert injected.invocation_seconds(55) == 55
    injected.change(b'{"invocation_seconds": 0.2}')
    assert injected.invocation_seconds(55) == 0.2


def test_each_fault_is_counted_when_it_has_an_effect():
    injected = Injected(INITIAL, middle)
    injected.start_seconds(), injected.event_waits(), injected.hangs(), injected.is_hidden(0.0), injected.throttles()
    injected.refusal("RunTask"), injected.unplaced(), injected.is_away("s3"), injected.invocation_seconds(55)
    assert not any(injected.met.values()), "there is none"
    faults = {
        "task_start_seconds": 9,
        "events": {"copies": 2},
        "refuse": {"RunTask": {"code": "A"}},
        "unplaced": {"reason": "r"},
        "hang_every": 1,
        "list_lag_seconds": 1,
        "throttled": True,
        "invocation_seconds": 1,
        "away": ["s3"],
    }
    injected.change(json.dumps(faults).encode())
    injected.start_seconds(), injected.event_waits(), injected.hangs(), injected.is_hidden(0.0), injected.throttles()
    injected.refusal("RunTask"), injected.unplaced(), injected.is_away("s3"), injected.invocation_seconds(55)
    injected.refusal("StopTask"), injected.is_away("secretsmanager")
    assert "invocation_seconds" not in injected.met, "no invocation has reached the limit yet"
    injected.cut_short()
    counted = {
        "events.copies" if name == "events" else "refuse.RunTask" if name == "refuse" else name for name in faults
    }
    assert injected.met == dict.fromkeys(counted, 1)


@pytest.mark.parametrize(
    ("faults", "copies"),
    [
        (EventFaults(), [0.0]),
        (EventFaults(copies=3, delay_seconds=(1.0, 2.0)), [1.5, 1.5, 1.5]),
        (EventFaults(suppressed=True, copies=3), []),
    ],
)
def test_each_copy_of_an_event_has_its_own_delay_and_a_suppressed_one_has_none(faults, copies):
    assert waits(faults, middle) == copies


@pytest.mark.parametrize(
    ("unplaced", "failures"),
    [
        (Unplaced(reason="r"), [{"reason": "r"}] * 3),
        (Unplaced(reason="r", detail="d", tasks=2), [{"reason": "r", "detail": "d"}] * 2),
        (Unplaced(reason="r", tasks=10), [{"reason": "r"}] * 3),
    ],
)
def test_no_more_tasks_fail_than_were_asked_for(unplaced, failures):
    assert unplaced.failures(3) == failures


# The timeline.


def test_the_timeline_is_json_and_has_the_state_changes_of_each_task():
    definition = {"containerDefinitions": [{"name": "w"}], "taskDefinitionArn": "a:1"}
    launch = TaskLaunch(region="r", cluster="c", definition=definition, overrides={}, group="g")
    task = (
        FargateTask(task_id="1", launch=launch, created_at=1.0).running(2.0, frozen=True).exited(3.0, 137).stopped(4.0)
    )
    timeline = Timeline()
    timeline.add(RunTaskCall(at=1.0, count=2, client_token="t", tasks=["1"], failures=[{"reason": "r"}]))
    timeline.add(RunTaskCall(at=5.0, count=1, client_token=None, error="ThrottlingException"))
    answer = json.loads(json.dumps(timeline.as_json([task])))
    first, second = answer["launches"]
    assert (first["client_token"], first["tasks"], first["failures"]) == ("t", ["1"], [{"reason": "r"}])
    assert (second["tasks"], second["error"]) == ([], "ThrottlingException")
    [known] = answer["tasks"]
    assert (known["created_at"], known["started_at"], known["stopped_at"]) == (1.0, 2.0, 4.0)
    assert (known["exit_code"], known["stop_code"], known["frozen"]) == (137, "EssentialContainerExited", True)
    assert known["task_definition"] == "a:1"
