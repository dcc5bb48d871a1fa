"""The events of tasks and topics: their form, their rules, and their delivery by the bus."""

from __future__ import annotations

import copy
import json
import queue
from contextlib import contextmanager

import pytest
from moto.events.models import EventPattern

from rowqueue_local import deployment
from rowqueue_local.aws.event_bus import EventBus
from rowqueue_local.aws.events import Rule, Target, columns, deliveries, payload_of, task_event
from rowqueue_local.aws.fargate_tasks import FargateTask, TaskLaunch, describe
from rowqueue_local.aws.notifications import Notification, sns_event

FUNCTION = "arn:aws:lambda:eu-west-1:123456789012:function:watcher"
DEFINITION = {
    "taskDefinitionArn": f"arn:aws:ecs:eu-west-1:123456789012:task-definition/{deployment.PROCESSOR}:1",
    "family": deployment.PROCESSOR,
    "revision": 1,
    "cpu": "256",
    "memory": "512",
    "containerDefinitions": [{"name": "processor", "image": "processor"}],
}
LAUNCH = TaskLaunch(
    region="eu-west-1",
    cluster=deployment.PROCESSOR,
    definition=DEFINITION,
    overrides={},
    group=f"family:{deployment.PROCESSOR}",
    subnet="subnet-1",
    tags=({"key": "team", "value": "data"},),
)
RUNNING = FargateTask(task_id="0" * 32, launch=LAUNCH, created_at=1_000.25).pulling(1_010.0).running(1_020.5)


def event_of(task, now=1_200.75):
    return task_event(describe(task, with_tags=False), region="eu-west-1", now=now, event_id="id-1")


def ended(exit_code, code=None):
    task = RUNNING.asked_to_stop(1_030.0, code=code, reason="because") if code else RUNNING
    return task.exited(1_040.0, exit_code).stopped(1_050.0)


# The event of a task.


def test_a_task_state_change_has_the_envelope_of_eventbridge_and_the_task_as_its_detail():
    event = event_of(ended(137))
    arn = f"arn:aws:ecs:eu-west-1:123456789012:task/{deployment.PROCESSOR}/{'0' * 32}"
    detail = event.pop("detail")
    assert event == {
        "version": "0",
        "id": "id-1",
        "detail-type": "ECS Task State Change",
        "source": "aws.ecs",
        "account": "123456789012",
        "time": "1970-01-01T00:20:00Z",
        "region": "eu-west-1",
        "resources": [arn],
    }
    assert (detail["taskArn"], detail["group"]) == (arn, f"family:{deployment.PROCESSOR}")
    assert detail["clusterArn"] == f"arn:aws:ecs:eu-west-1:123456789012:cluster/{deployment.PROCESSOR}"
    assert (detail["lastStatus"], detail["desiredStatus"]) == ("STOPPED", "STOPPED")
    assert detail["stopCode"] == "EssentialContainerExited"
    assert [container["exitCode"] for container in detail["containers"]] == [137]
    assert detail["version"] == ended(137).version
    assert "tags" not in detail


def test_its_times_are_texts_where_describe_tasks_has_numbers():
    detail = event_of(ended(0))["detail"]
    assert detail["createdAt"] == "1970-01-01T00:16:40.250Z"
    assert detail["startedAt"] == "1970-01-01T00:17:00.500Z"
    assert detail["stoppedAt"] == "1970-01-01T00:17:30.000Z"
    assert detail["updatedAt"] == "1970-01-01T00:20:00.750Z"
    assert all(isinstance(value, str) for name, value in detail.items() if name.endswith("At"))
    assert detail["attachments"][0]["type"] == "eni"


def test_describing_a_task_is_not_changed_by_its_event():
    described = describe(RUNNING, with_tags=False)
    before = copy.deepcopy(described)
    task_event(described, region="eu-west-1", now=1.0, event_id="id-1")
    assert described == before


# The rule that wakes the poller.


@pytest.mark.parametrize(
    ("task", "wakes"),
    [
        (ended(0), False),
        (ended(1), True),
        (ended(137), True),
        (ended(0, code="UserInitiated"), False),
        (ended(137, code="UserInitiated"), True),
        (ended(0, code="SpotInterruption"), True),
        (RUNNING.asked_to_stop(1.0, code="SpotInterruption", reason="r"), False),
        (RUNNING, False),
        (RUNNING.exited(1.0, 137), False),
        (
            FargateTask(task_id="1", launch=LAUNCH, created_at=1.0).asked_to_stop(
                1.0, code="UserInitiated", reason="r"
            ),
            False,
        ),
        (
            FargateTask(task_id="1", launch=LAUNCH, created_at=1.0)
            .asked_to_stop(1.0, code="TaskFailedToStart", reason="r")
            .stopped(2.0),
            True,
        ),
    ],
)
def test_the_poller_is_woken_by_a_task_that_may_have_left_claims_and_by_no_other(task, wakes):
    pattern = EventPattern.load(json.dumps(deployment.stop_pattern(LAUNCH.cluster_arn)))
    assert pattern.matches_event(columns(event_of(task))) is wakes


@pytest.mark.parametrize(("name", "value"), [("group", "family:other"), ("clusterArn", "arn:aws:ecs:r:1:cluster/c")])
def test_the_poller_is_not_woken_by_the_tasks_of_others(name, value):
    event = event_of(ended(137))
    event["detail"][name] = value
    pattern = EventPattern.load(json.dumps(deployment.stop_pattern(LAUNCH.cluster_arn)))
    assert pattern.matches_event(columns(event)) is False


def test_moto_by_itself_does_not_look_into_the_objects_of_a_list():
    """When it does, ``columns`` can go."""
    pattern = EventPattern.load('{"detail": {"containers": {"exitCode": [{"anything-but": 0}]}}}')
    event = event_of(ended(137))
    assert pattern.matches_event(event) is False
    assert pattern.matches_event(columns(event)) is True


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ({"a": [1, 2], "b": "c"}, {"a": [1, 2], "b": "c"}),
        ({"a": [{"x": 1}, {"x": 2, "y": 3}]}, {"a": {"x": [1, 2], "y": [3]}}),
        ({"a": [{"x": [{"y": 1}]}, {"x": [{"y": 2}]}]}, {"a": {"x": {"y": [1, 2]}}}),
        ({"a": [{"x": {"y": 1}}]}, {"a": {"x": {"y": [1]}}}),
        ({"a": [], "b": {}}, {"a": [], "b": {}}),
        ({"a": [{"x": 1}, 2]}, {"a": {"x": [1]}}),
    ],
)
def test_a_list_of_objects_becomes_an_object_of_lists(event, expected):
    assert columns(event) == expected


# Where events go.


def rule(*targets, enabled=True, matches=True, arn="arn:rule"):
    return Rule(arn=arn, enabled=enabled, matches=lambda _event: matches, targets=targets)


def test_an_event_goes_to_every_target_of_every_enabled_rule_that_it_fits():
    one, two, three = (Target(arn=f"{FUNCTION}-{number}") for number in (1, 2, 3))
    both, single = rule(one, two), rule(three)
    others = [rule(one, enabled=False), rule(one, matches=False), rule()]
    assert deliveries({}, [both, *others, single]) == [(both, one), (both, two), (single, three)]


def test_a_disabled_rule_does_not_match_events():
    def look(_event):
        raise AssertionError

    assert deliveries({}, [Rule(arn="r", enabled=False, matches=look, targets=(Target(arn=FUNCTION),))]) == []


def test_a_target_gets_the_event_or_its_constant_input():
    assert json.loads(payload_of({"a": 1}, Target(arn=FUNCTION))) == {"a": 1}
    assert payload_of({"a": 1}, Target(arn=FUNCTION, input='{"b": 2}')) == '{"b": 2}'


@pytest.mark.parametrize(
    ("target", "is_run"),
    [
        (Target(arn=FUNCTION), True),
        (Target(arn=f"{FUNCTION}:live", input="{}"), True),
        (Target(arn=FUNCTION, reshaped=True), False),
        (Target(arn="arn:aws:sqs:eu-west-1:123456789012:lambda"), False),
    ],
)
def test_only_functions_with_the_whole_event_or_a_constant_are_run(target, is_run):
    assert target.is_run_here is is_run


# The bus.


@contextmanager
def bus(*rules, waits=lambda: [0.0], clock=lambda: 0.0):
    invoked = queue.Queue()
    running = EventBus(
        rules=lambda region: rules if region == "eu-west-1" else (),
        invoke=lambda *call: invoked.put(call),
        waits=waits,
        clock=clock,
    )
    running.start()
    try:
        yield running, lambda: invoked.get(timeout=60)
    finally:
        running.close()
    assert invoked.empty(), "nothing more than was looked for"


def event(name, region="eu-west-1"):
    return {"id": name, "region": region}


def id_of(call):
    return json.loads(call[2])["id"]


def test_the_bus_uses_the_rules_of_the_event_s_region():
    with bus(rule(Target(arn=FUNCTION))) as (running, next_call):
        running.put(event("elsewhere", region="us-east-1"))
        running.put(event("here"))
        assert next_call() == ("arn:rule", FUNCTION, json.dumps(event("here")))


def test_a_rule_that_is_named_is_the_only_one_asked():
    with bus(rule(Target(arn=FUNCTION))) as (running, next_call):
        running.put(event("1"), rule(Target(arn=f"{FUNCTION}-2"), arn="arn:rule-2"))
        assert next_call()[:2] == ("arn:rule-2", f"{FUNCTION}-2")


def test_copies_arrive_with_the_id_of_the_one_event():
    with bus(rule(Target(arn=FUNCTION)), waits=lambda: [0.0, 0.0, 0.0]) as (running, next_call):
        running.put(event("1"))
        assert [id_of(next_call()) for _ in range(3)] == ["1", "1", "1"]


def test_an_event_that_waits_is_overtaken_by_one_that_does_not():
    now = [0.0]
    plan = iter([[300.0], [0.0], [0.0]])
    with bus(rule(Target(arn=FUNCTION)), waits=lambda: next(plan), clock=lambda: now[0]) as (running, next_call):
        running.put(event("first"))
        running.put(event("second"))
        assert id_of(next_call()) == "second"
        now[0] = 300.0
        running.put(event("third"))
        assert [id_of(next_call()) for _ in range(2)] == ["first", "third"]


def test_a_suppressed_event_never_arrives():
    plan = iter([[], [0.0]])
    with bus(rule(Target(arn=FUNCTION)), waits=lambda: next(plan)) as (running, next_call):
        running.put(event("suppressed"))
        running.put(event("named"))
        assert id_of(next_call()) == "named"


def test_pending_events_are_dropped_at_the_end():
    with bus(rule(Target(arn=FUNCTION)), waits=lambda: [60.0]) as (running, _):
        running.put(event("too late"))


def test_an_unsupported_target_is_logged_once(caplog):
    queue_of_sqs = Target(arn="arn:aws:sqs:eu-west-1:123456789012:queue")
    with bus(rule(queue_of_sqs, Target(arn=FUNCTION))) as (running, next_call):
        for name in ("1", "2"):
            running.put(event(name))
            assert id_of(next_call()) == name
    [record] = caplog.records
    assert "arn:aws:sqs:eu-west-1:123456789012:queue is not run here" in record.getMessage()


# What SNS sends.


def test_a_notification_is_the_record_that_the_lambda_guide_documents():
    code = sns_event(
        Notification(
            subscription_arn="arn:aws:sns:eu-west-1:123456789012:push:1",
            topic_arn="arn:aws:sns:eu-west-1:123456789012:push",
            message_id="id-1",
            message="go",
            subject=None,
            attributes={"rows": {"Type": "Number", "Value": "7"}},
        ),
        now=1_000.25,
    )
    [record] = json.loads(json.dumps(code))["Records"]
    sns = record.pop("Sns")
    assert record == {
        "EventSource": "aws:sns",
        "EventVersion": "1.0",
        "EventSubscriptionArn": "arn:aws:sns:eu-west-1:123456789012:push:1",
    }
    assert (sns["Type"], sns["MessageId"], sns["Message"], sns["Subject"]) == ("Notification", "id-1", "go", None)
    assert (sns["TopicArn"], sns["Timestamp"]) == (
        "arn:aws:sns:eu-west-1:123456789012:push",
        "1970-01-01T00:16:40.250Z",
    )
    assert sns["MessageAttributes"] == {"rows": {"Type": "Number", "Value": "7"}}
    assert {"SignatureVersion", "Signature", "SigningCertUrl", "UnsubscribeUrl"} <= sns.keys()
