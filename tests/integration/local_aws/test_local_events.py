"""Events for functions, and faults injected while the stand-in runs, seen through boto3."""

from __future__ import annotations

import json
import time
from datetime import datetime

import psutil
import pytest
from botocore.exceptions import ClientError


@pytest.fixture(scope="module")
def ecs(stand_in):
    return stand_in.client("ecs")


@pytest.fixture(scope="module")
def events(stand_in):
    return stand_in.client("events")


class Recorder:
    """A function that records its events."""

    def __init__(self, arn, file):
        self.arn = arn
        self._file = file

    @property
    def events(self):
        return [json.loads(line) for line in self._file.read_text().splitlines()] if self._file.exists() else []


@pytest.fixture
def recorder(stand_in, tmp_path):
    return Recorder(stand_in.create_recorder(tmp_path / "events"), tmp_path / "events")


@pytest.fixture
def inject(stand_in):
    """Injects faults and removes them after the test."""

    def ask(**faults):
        status, answer = stand_in.local("faults", faults)
        assert status == 200, answer
        return answer

    yield ask
    ask(**dict.fromkeys(ask()))


@pytest.fixture
def watch(stand_in, events):
    """Makes a rule on the default bus that sends matching events to a function; returns its name."""

    def make(pattern, arn, *, state="ENABLED", **target):
        name = stand_in.name("rule")
        events.put_rule(Name=name, EventPattern=json.dumps(pattern), State=state)
        events.put_targets(Rule=name, Targets=[{"Id": "1", "Arn": arn, **target}])
        return name

    return make


def of_family(family, *statuses):
    return {
        "source": ["aws.ecs"],
        "detail-type": ["ECS Task State Change"],
        "detail": {"group": [f"family:{family}"], "lastStatus": list(statuses)},
    }


def put(events, source, detail):
    answer = events.put_events(Entries=[{"Source": source, "DetailType": "t", "Detail": json.dumps(detail)}])
    assert answer["FailedEntryCount"] == 0
    return answer["Entries"][0]["EventId"]


def id_of(task):
    return task["taskArn"].rpartition("/")[2]


# Events of tasks.


def test_a_task_that_stops_reaches_a_function_through_a_rule(stand_in, recorder, watch):
    family = stand_in.register("exit", "3")
    pattern = of_family(family, "STOPPED")
    pattern["detail"]["$or"] = [{"stopCode": ["none"]}, {"containers": {"exitCode": [{"anything-but": 0}]}}]
    watch(pattern, recorder.arn)
    task = stand_in.run_to_the_end(family)
    [event] = stand_in.eventually(lambda: recorder.events)
    assert (event["version"], event["source"], event["detail-type"]) == ("0", "aws.ecs", "ECS Task State Change")
    assert (event["account"], event["region"]) == ("123456789012", "eu-west-1")
    assert event["resources"] == [task["taskArn"]]
    assert event["detail"]["containers"][0]["exitCode"] == 3
    assert event["detail"]["version"] == task["version"], "what DescribeTasks shows now"
    in_event, described = datetime.fromisoformat(event["detail"]["stoppedAt"]), task["stoppedAt"]
    assert abs((in_event - described).total_seconds()) < 0.01, "the same moment, as a text"


def test_a_task_emits_events_with_growing_versions(stand_in, recorder, watch):
    family = stand_in.register("exit", "0")
    watch(of_family(family, "RUNNING", "STOPPED"), recorder.arn)
    stand_in.run(family)
    stand_in.eventually(lambda: len(recorder.events) == 2)
    first, second = sorted((event["detail"] for event in recorder.events), key=lambda detail: detail["version"])
    assert (first["lastStatus"], second["lastStatus"]) == ("RUNNING", "STOPPED")


def test_neither_a_disabled_rule_nor_one_that_does_not_fit_sends_anything(stand_in, events, recorder, watch):
    fits = {"source": ["person"], "detail": {"n": [1]}}
    watch({"source": ["person"], "detail": {"n": [2]}}, recorder.arn, Input='"does not fit"')
    disabled = watch(fits, recorder.arn, state="DISABLED", Input='"disabled"')
    watch(fits, recorder.arn, Input='"fits"')
    put(events, "person", {"n": 1})
    stand_in.eventually(lambda: recorder.events)
    events.enable_rule(Name=disabled)
    put(events, "person", {"n": 1})
    stand_in.eventually(lambda: len(recorder.events) == 3)
    assert sorted(recorder.events) == ["disabled", "fits", "fits"]


def test_an_event_that_a_person_puts_reaches_the_function_whole(stand_in, events, recorder, watch):
    watch({"source": ["whole"]}, recorder.arn)
    event_id = put(events, "whole", {"list": [{"a": 1}]})
    [event] = stand_in.eventually(lambda: recorder.events)
    assert time.strptime(event.pop("time"), "%Y-%m-%dT%H:%M:%SZ")
    assert event == {
        "version": "0",
        "id": event_id,
        "detail-type": "t",
        "source": "whole",
        "account": "123456789012",
        "region": "eu-west-1",
        "resources": [],
        "detail": {"list": [{"a": 1}]},
    }


def test_an_unsupported_target_is_named_and_other_targets_run(stand_in, events, recorder, watch):
    watch({"source": ["both"]}, "arn:aws:sqs:eu-west-1:123456789012:queue")
    watch({"source": ["both"]}, "arn:aws:lambda:eu-west-1:123456789012:function:nowhere")
    watch({"source": ["both"]}, recorder.arn)
    put(events, "both", {"n": 1})
    stand_in.eventually(lambda: recorder.events)
    said = stand_in.errors.read_text()
    assert said.count("the target arn:aws:sqs:eu-west-1:123456789012:queue is not run here") == 1
    assert "Function not found: arn:aws:lambda:eu-west-1:123456789012:function:nowhere" in said


def test_events_are_duplicated_delayed_and_suppressed(stand_in, events, recorder, watch, inject):
    watch({"source": ["faulty"]}, recorder.arn)
    inject(events={"suppressed": True})
    put(events, "faulty", {"n": "suppressed"})
    inject(events={"copies": 2, "delay_seconds": 0.6})
    begun = time.monotonic()
    event_id = put(events, "faulty", {"n": "twice"})
    stand_in.eventually(lambda: len(recorder.events) == 2)
    assert time.monotonic() - begun >= 0.6
    assert [event["id"] for event in recorder.events] == [event_id, event_id]


# Notifications.


def test_what_is_published_to_a_topic_reaches_its_functions(stand_in, recorder):
    sns = stand_in.client("sns")
    topic = sns.create_topic(Name=stand_in.name("topic"))["TopicArn"]
    subscription = sns.subscribe(TopicArn=topic, Protocol="lambda", Endpoint=recorder.arn)["SubscriptionArn"]
    sns.set_subscription_attributes(
        SubscriptionArn=subscription, AttributeName="FilterPolicy", AttributeValue='{"kind": ["insert"]}'
    )
    sns.publish(TopicArn=topic, Message="rejected")
    kind = {"kind": {"DataType": "String", "StringValue": "insert"}}
    message_id = sns.publish(TopicArn=topic, Message="rows", Subject="push", MessageAttributes=kind)["MessageId"]
    [event] = stand_in.eventually(lambda: recorder.events)
    [record] = event["Records"]
    assert (record["EventSource"], record["EventSubscriptionArn"]) == ("aws:sns", subscription)
    sns_part = record["Sns"]
    assert (sns_part["MessageId"], sns_part["TopicArn"]) == (message_id, topic)
    assert (sns_part["Message"], sns_part["Subject"]) == ("rows", "push")
    assert sns_part["MessageAttributes"] == {"kind": {"Type": "String", "Value": "insert"}}


# What ECS refuses.


def test_unplaced_tasks_are_in_failures_and_the_others_run(stand_in, ecs, inject):
    family = stand_in.register("exit", "0")
    inject(unplaced={"reason": "Capacity is unavailable at this time", "detail": "d", "tasks": 2, "times": 2})
    request = {"cluster": "main", "launchType": "FARGATE", "networkConfiguration": stand_in.network}
    part = ecs.run_task(taskDefinition=family, count=3, clientToken="part", **request)
    assert len(part["tasks"]) == 1
    assert part["failures"] == [{"reason": "Capacity is unavailable at this time", "detail": "d"}] * 2
    none = ecs.run_task(taskDefinition=family, count=2, clientToken="none", **request)
    assert (none["tasks"], len(none["failures"])) == ([], 2)
    again = ecs.run_task(taskDefinition=family, count=2, clientToken="none", **request)
    assert (len(again["tasks"]), again["failures"]) == (2, [])
    launches = stand_in.local("launches")[1]["launches"][-3:]
    assert [(launch["count"], len(launch["tasks"]), len(launch["failures"])) for launch in launches] == [
        (3, 1, 2),
        (2, 0, 2),
        (2, 2, 0),
    ]
    assert [launch["client_token"] for launch in launches] == ["part", "none", "none"]


def test_only_the_tasks_of_the_named_capacity_provider_are_not_placed(stand_in, ecs, inject):
    family = stand_in.register("exit", "0")
    ecs.put_cluster_capacity_providers(
        cluster="main", capacityProviders=["FARGATE", "FARGATE_SPOT"], defaultCapacityProviderStrategy=[]
    )
    inject(unplaced={"reason": "Capacity is unavailable at this time", "provider": "FARGATE_SPOT"})
    request = {"cluster": "main", "networkConfiguration": stand_in.network, "taskDefinition": family, "count": 10}
    shares = [{"capacityProvider": "FARGATE_SPOT", "weight": 8}, {"capacityProvider": "FARGATE", "weight": 2}]
    mixed = ecs.run_task(capacityProviderStrategy=shares, **request)
    assert [task["capacityProviderName"] for task in mixed["tasks"]] == ["FARGATE"] * 2
    assert len(mixed["failures"]) == 8
    on_demand = ecs.run_task(launchType="FARGATE", **request)
    assert (len(on_demand["tasks"]), on_demand["failures"]) == (10, [])


def test_every_operation_can_be_refused_for_a_while(stand_in, ecs, inject):
    family = stand_in.register("exit", "0")
    task = stand_in.run_to_the_end(family)
    inject(
        refuse={
            "RunTask": {"code": "ThrottlingException", "message": "Rate exceeded", "times": 1},
            "ListTasks": {"code": "AccessDeniedException", "message": "not you", "times": 1},
            "DescribeTasks": {"code": "ServerException", "message": "ours", "times": 1},
            "StopTask": {"code": "InvalidParameterException", "message": "Request limit exceeded.", "times": 1},
        }
    )
    calls = {
        "ThrottlingException": (400, lambda: stand_in.run(family)),
        "AccessDeniedException": (400, lambda: ecs.list_tasks(cluster="main")),
        "ServerException": (500, lambda: stand_in.described(task)),
        "InvalidParameterException": (400, lambda: ecs.stop_task(cluster="main", task=task["taskArn"])),
    }
    for code, (status, call) in calls.items():
        with pytest.raises(ClientError) as caught:
            call()
        assert caught.value.response["Error"]["Code"] == code
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
        call()
    assert stand_in.local("launches")[1]["launches"][-2]["error"] == "ThrottlingException"
    assert stand_in.local("faults")[1]["refuse"] == {}


# What tasks do.


def test_an_operation_can_be_done_although_its_answer_is_an_error(stand_in, ecs, inject):
    family = stand_in.register("print")
    inject(refuse={"RunTask": {"code": "ServerException", "times": 1, "done": True}})
    with pytest.raises(ecs.exceptions.ServerException):
        stand_in.run(family, clientToken=family)
    assert stand_in.local("launches")[1]["launches"][-1]["error"] == "ServerException"
    listed = ecs.list_tasks(cluster="main", family=family)["taskArns"]
    assert [task["taskArn"] for task in stand_in.run(family, clientToken=family)] == listed
    assert len(listed) == 1


def test_a_task_may_be_listed_late(stand_in, ecs, inject):
    family = stand_in.register("sleep")
    inject(list_lag_seconds=3600)
    [task] = stand_in.run(family)
    assert ecs.list_tasks(cluster="main", family=family)["taskArns"] == []
    assert stand_in.described(task)["taskArn"] == task["taskArn"]
    inject(list_lag_seconds=None)
    assert ecs.list_tasks(cluster="main", family=family)["taskArns"] == [task["taskArn"]]
    ecs.stop_task(cluster="main", task=task["taskArn"])


def test_a_service_can_be_away(stand_in, ecs, inject):
    s3 = stand_in.client("s3")
    inject(away=["s3"])
    with pytest.raises(ClientError, match="503"):
        s3.list_buckets()
    ecs.list_clusters()
    inject(away=None)
    s3.list_buckets()
    assert stand_in.local("met")[1]["away"] == 1


def test_invocations_are_throttled_or_cut_short_for_a_while(stand_in, inject):
    name = stand_in.create_function("import time\ndef handler(event, context):\n    time.sleep(event['s'])")
    inject(throttled=True)
    with pytest.raises(stand_in.client("lambda").exceptions.TooManyRequestsException):
        stand_in.invoke(name, {"s": 0})
    inject(throttled=None, invocation_seconds=0.2)
    assert "Task timed out after 0.20 seconds" in stand_in.invoke(name, {"s": 30})["Payload"]["errorMessage"]
    inject(invocation_seconds=None)
    assert stand_in.invoke(name, {"s": 0})["Payload"] is None


def test_a_shorter_time_limit_counts_only_if_an_invocation_reached_it(stand_in, inject):
    name = stand_in.create_function("import time\ndef handler(event, context):\n    time.sleep(event['s'])")

    def cut():
        return stand_in.local("met")[1].get("invocation_seconds", 0)

    before = cut()
    inject(invocation_seconds=2)
    stand_in.invoke(name, {"s": 0})
    assert cut() == before
    inject(invocation_seconds=0.2)
    stand_in.invoke(name, {"s": 30})
    assert cut() == before + 1
    inject(invocation_seconds=None)


def test_an_object_that_was_read_in_vain_is_counted_and_a_task_names_its_revision(stand_in):
    s3 = stand_in.client("s3")
    s3.create_bucket(Bucket="vain", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    s3.put_object(Bucket="vain", Key="there", Body=b"1")
    s3.get_object(Bucket="vain", Key="there")
    with pytest.raises(ClientError):
        s3.get_object(Bucket="vain", Key="a/gone")
    met = stand_in.local("met")[1]
    assert met["not_found:/vain/a/gone"] == 1
    assert "not_found:/vain/there" not in met
    family = stand_in.register("exit", "0")
    task = stand_in.run_to_the_end(family)
    known = {task["id"]: task["task_definition"] for task in stand_in.local("launches")[1]["tasks"]}
    assert known[id_of(task)] == task["taskDefinitionArn"]


def test_the_time_that_a_task_takes_to_start_can_be_changed(stand_in, inject):
    inject(task_start_seconds=[0.7, 0.8])
    task = stand_in.run_to_the_end(stand_in.register("exit", "0"))
    assert 0.7 <= (task["startedAt"] - task["createdAt"]).total_seconds() < 3


def test_a_task_that_hangs_is_running_does_nothing_and_has_to_be_killed(stand_in, ecs, inject):
    inject(hang_every=2)
    family = stand_in.register("wait", "politely", stopTimeout=1)
    tasks = [stand_in.running(stand_in.run(family)[0]) for _ in range(2)]
    known = {task["id"]: task for task in stand_in.local("launches")[1]["tasks"]}
    assert [known[id_of(task)]["frozen"] for task in tasks] == [False, True]
    works, hangs = tasks
    stand_in.at_work(works)
    for task in tasks:
        ecs.stop_task(cluster="main", task=task["taskArn"], reason="hung")
    assert stand_in.stopped(works)["containers"][0]["exitCode"] == 0
    ended = stand_in.stopped(hangs)
    assert ended["containers"][0]["exitCode"] == 137
    assert (ended["stopCode"], ended["stoppedReason"]) == ("UserInitiated", "hung")
    assert (ended["stoppedAt"] - ended["stoppingAt"]).total_seconds() >= 1, "its stopTimeout"
    assert not (stand_in.scratch(hangs) / "at-work").exists()


def test_a_task_that_hangs_does_not_outlive_a_stand_in_that_is_killed(start):
    stand_in = start()
    stand_in.local("faults", {"hang_every": 1})
    stand_in.running(stand_in.run(stand_in.register("wait", "politely"))[0])
    children = stand_in.children
    assert [child.status() for child in children] == [psutil.STATUS_STOPPED]
    stand_in.process.kill()
    stand_in.process.wait()
    stand_in.eventually(lambda: stand_in.have_ended(children))


def test_a_killed_task_looks_like_one_that_ran_out_of_memory(stand_in):
    [task] = stand_in.run(stand_in.register("wait", "deaf"))
    stand_in.at_work(task)
    assert stand_in.local(f"tasks/{id_of(task)}/signal", {"signal": "SIGKILL"})[0] == 200
    ended = stand_in.stopped(task)
    assert ended["containers"][0]["exitCode"] == 137
    assert ended["stopCode"] == "EssentialContainerExited"
    assert ended["stoppedReason"] == "Essential container in task exited"


def test_a_task_can_be_frozen_in_mid_work_and_thawed(stand_in, ecs):
    before = stand_in.children
    [task] = stand_in.run(stand_in.register("wait", "politely"))
    stand_in.at_work(task)
    [program] = [child for child in stand_in.children if child not in before]
    for name, status in (("SIGSTOP", True), ("SIGCONT", False)):
        stand_in.local(f"tasks/{id_of(task)}/signal", {"signal": name})
        stand_in.eventually(lambda status=status: (program.status() == psutil.STATUS_STOPPED) is status)
    ecs.stop_task(cluster="main", task=task["taskArn"])
    assert stand_in.stopped(task)["containers"][0]["exitCode"] == 0


def test_a_spot_interruption_sends_sigterm_and_later_sigkill(stand_in, recorder, watch):
    family = stand_in.register("wait", "deaf", stopTimeout=1)
    pattern = of_family(family, "RUNNING")
    pattern["detail"]["stopCode"] = ["SpotInterruption"]
    watch(pattern, recorder.arn)
    [task] = stand_in.run(family)
    stand_in.at_work(task)
    assert stand_in.local(f"tasks/{id_of(task)}/interrupt", {})[0] == 200
    status, answer = stand_in.local(f"tasks/{id_of(task)}/interrupt", {})
    assert (status, answer["message"]) == (409, f"task {id_of(task)} is stopping already")
    [warning] = stand_in.eventually(lambda: recorder.events)
    assert warning["detail"]["stoppedReason"] == "Your Spot Task was interrupted."
    ended = stand_in.stopped(task)
    assert (ended["stopCode"], ended["stoppedReason"]) == ("SpotInterruption", "Your Spot Task was interrupted.")
    assert ended["containers"][0]["exitCode"] == 137


# Wrong requests.


def test_a_wrong_request_gets_an_error_in_a_sentence(stand_in):
    ended = id_of(stand_in.run_to_the_end(stand_in.register("exit", "0")))
    kill = {"signal": "SIGKILL"}
    asked = [
        (("faults", {"hang_every": 0}), 400, "hang_every: expected a whole number from 1"),
        (("tasks/0123/signal", kill), 404, "no task 0123 is known here"),
        ((f"tasks/{ended}/signal", kill), 409, f"no program of task {ended} runs now"),
        ((f"tasks/{ended}/signal", {"signal": 9}), 400, 'expected {"signal": one of SIGKILL, SIGSTOP'),
        ((f"tasks/{ended}/interrupt", {}), 409, f"task {ended} is stopping already"),
        (("nowhere",), 404, "nothing answers GET /_local/nowhere here"),
    ]
    for arguments, status, message in asked:
        got, answer = stand_in.local(*arguments)
        assert (got, message in answer["message"]) == (status, True), answer
