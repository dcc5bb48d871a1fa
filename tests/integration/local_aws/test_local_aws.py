"""The AWS stand-in as a process: start, end, schedules, and repairs of moto."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest


def lines_of(file):
    return file.read_text().splitlines() if file.exists() else []


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory, started):
    """One whose schedules are due every 0.3 seconds, started in an environment with other AWS settings."""
    own = {"AWS_PROFILE": "not-there", "AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_REGION": "mars-1"}
    with started(tmp_path_factory.mktemp("aws"), "--tick", "0.3", environ=own) as running:
        yield running


@pytest.fixture
def recording(stand_in, tmp_path):
    """The ARN of a function that writes events to a file, and the file."""
    file = tmp_path / "events"
    return stand_in.create_recorder(file), file


def schedule(stand_in, target, *, expression="rate(1 minute)", name=None, **more):
    name = name or stand_in.name("schedule")
    stand_in.client("scheduler").create_schedule(
        Name=name,
        ScheduleExpression=expression,
        FlexibleTimeWindow={"Mode": "OFF"},
        Target={"Arn": target, "RoleArn": "arn:aws:iam::123456789012:role/scheduler", **more},
    )
    return name


# Start and end.


def test_one_line_on_stdout_says_where_it_listens_and_an_idle_one_ends_at_once(start):
    stand_in = start()
    assert stand_in.client("sts").get_caller_identity()["Account"] == "123456789012"
    begun = time.monotonic()
    stand_in.process.terminate()
    assert stand_in.process.stdout.read() == b"", "nothing but the line with the address, which is read already"
    assert stand_in.process.wait() == 0
    assert time.monotonic() - begun < 4


def test_it_ignores_the_aws_settings_of_the_caller(stand_in):
    family = stand_in.register("exit", "0")
    assert stand_in.run_to_the_end(family)["containers"][0]["exitCode"] == 0


def test_sigterm_ends_it_with_its_tasks_and_functions_soon(start):
    stand_in = start()
    for task in [stand_in.run(stand_in.register("wait", how))[0] for how in ("politely", "deaf")]:
        stand_in.at_work(task)
    stand_in.invoke(stand_in.create_function("def handler(event, context):\n    pass"))
    children = stand_in.children
    assert len(children) == 3
    code, seconds = stand_in.end()
    assert code == 0
    assert seconds < 8, "two of them for the deaf task"
    assert stand_in.have_ended(children)
    assert "Traceback" not in stand_in.errors.read_text()


def test_its_processes_do_not_outlive_it_when_it_is_killed(start):
    stand_in = start()
    for task in [stand_in.run(stand_in.register("wait", how))[0] for how in ("politely", "deaf")]:
        stand_in.at_work(task)
    stand_in.invoke(stand_in.create_function("def handler(event, context):\n    pass"))
    children = stand_in.children
    assert len(children) == 3
    stand_in.process.send_signal(signal.SIGKILL)
    stand_in.eventually(lambda: stand_in.have_ended(children), within=2)


def test_an_unusable_image_is_reported_at_the_start(tmp_path):
    for argv, complaint in ((["/no/such/program"], "is no program on this machine"), ("python", "as a JSON list")):
        ended = subprocess.run(
            [sys.executable, "-m", "rowqueue_local.aws", "--state-dir", tmp_path, "--image", f"i={json.dumps(argv)}"],
            capture_output=True,
            check=False,
            text=True,
        )
        assert ended.returncode == 2
        assert complaint in ended.stderr


# Schedules.


def test_a_schedule_invokes_its_function_with_its_input_again_and_again(stand_in, recording):
    target, file = recording
    begun = time.monotonic()
    tell = '{"at": "<aws.scheduler.scheduled-time>", "by": "<aws.scheduler.schedule-arn>"}'
    name = schedule(stand_in, target, Input=tell)
    stand_in.eventually(lambda: len(lines_of(file)) >= 3)
    assert time.monotonic() - begun > 0.85, "a period passes before each, the first included"
    first = json.loads(lines_of(file)[0])
    assert first["by"].endswith(f":schedule/default/{name}")
    assert time.strptime(first["at"], "%Y-%m-%dT%H:%M:%SZ")


def test_a_schedule_without_an_input_sends_an_empty_event(stand_in, recording):
    target, file = recording
    schedule(stand_in, target)
    assert stand_in.eventually(lambda: lines_of(file))[0] == "{}"


def test_a_change_of_a_schedule_is_seen_while_it_runs(stand_in, recording):
    scheduler = stand_in.client("scheduler")
    target, file = recording
    name = schedule(stand_in, target, Input='"before"')

    def update(state, event):
        scheduler.update_schedule(
            Name=name,
            ScheduleExpression="rate(1 minute)",
            FlexibleTimeWindow={"Mode": "OFF"},
            State=state,
            Target={"Arn": target, "RoleArn": "arn:aws:iam::123456789012:role/scheduler", "Input": event},
        )

    stand_in.eventually(lambda: '"before"' in lines_of(file))
    update("ENABLED", '"after"')
    stand_in.eventually(lambda: '"after"' in lines_of(file), within=3)
    update("DISABLED", '"never"')
    with pytest.raises(AssertionError):
        stand_in.eventually(lambda: '"never"' in lines_of(file), within=1)


def test_an_unsupported_schedule_is_logged_once(stand_in):
    schedule(stand_in, "arn:aws:lambda:eu-west-1:123456789012:function:f", expression="cron(0 9 * * ? *)", name="daily")
    schedule(stand_in, "arn:aws:sqs:eu-west-1:123456789012:q", name="to-a-queue")
    stand_in.eventually(lambda: "to-a-queue" in stand_in.errors.read_text())
    with pytest.raises(AssertionError):
        stand_in.eventually(lambda: stand_in.errors.read_text().count("schedule/default/daily") > 1, within=1)
    assert "cron(0 9 * * ? *) is not run here" in stand_in.errors.read_text()


# Faults of moto, and the AWS CLI.


def test_a_bucket_that_refuses_plain_http_can_be_used(stand_in):
    s3 = stand_in.client("s3")
    s3.create_bucket(Bucket="certificates", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    every = {
        "Principal": "*",
        "Action": "s3:*",
        "Resource": ["arn:aws:s3:::certificates", "arn:aws:s3:::certificates/*"],
    }
    tls_only = {"Effect": "Deny", "Condition": {"Bool": {"aws:SecureTransport": "false"}}, **every}
    s3.put_bucket_policy(Bucket="certificates", Policy=json.dumps({"Version": "2012-10-17", "Statement": [tls_only]}))
    s3.put_object(Bucket="certificates", Key="dev/client.pem", Body=b"pem")
    assert s3.get_object(Bucket="certificates", Key="dev/client.pem")["Body"].read() == b"pem"
    s3.put_bucket_policy(
        Bucket="certificates",
        Policy=json.dumps({"Version": "2012-10-17", "Statement": [tls_only, {"Effect": "Deny", **every}]}),
    )
    with pytest.raises(s3.exceptions.ClientError, match="403"):
        s3.head_object(Bucket="certificates", Key="dev/client.pem")


def test_the_policies_that_aws_manages_are_there(stand_in):
    arn = "arn:aws:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy"
    assert stand_in.client("iam").get_policy(PolicyArn=arn)["Policy"]["Arn"] == arn


@pytest.mark.skipif(shutil.which("aws") is None, reason="the AWS CLI is not on this machine")
def test_the_aws_cli_runs_a_task_and_invokes_a_function(stand_in, tmp_path):
    def aws(*arguments):
        command = ["aws", "--output", "json", *arguments]
        ended = subprocess.run(command, capture_output=True, text=True, env=stand_in.environ, check=True)
        return json.loads(ended.stdout) if ended.stdout else None

    family = stand_in.register("exit", "3")
    network = json.dumps(stand_in.network)
    launch = ("--launch-type", "FARGATE", "--network-configuration", network)
    [task] = aws("ecs", "run-task", "--cluster", "main", "--task-definition", family, *launch)["tasks"]
    stand_in.stopped(task)  # "aws ecs wait" would look every six seconds only
    [ended] = aws("ecs", "describe-tasks", "--cluster", "main", "--tasks", task["taskArn"])["tasks"]
    assert ended["containers"][0]["exitCode"] == 3
    name = stand_in.create_function("def handler(event, context):\n    return event['n'] + 1")
    (tmp_path / "event.json").write_text('{"n": 41}')
    payload, answer = f"fileb://{tmp_path / 'event.json'}", tmp_path / "answer.json"
    assert aws("lambda", "invoke", "--function-name", name, "--payload", payload, str(answer))["StatusCode"] == 200
    assert answer.read_text() == "42"


# Logs.


def test_the_events_of_a_log_group_are_in_the_order_of_time_whatever_their_streams_and_pages(stand_in):
    logs, group = stand_in.client("logs"), stand_in.name("group")
    logs.create_log_group(logGroupName=group)
    begun = int(time.time() * 1000)
    for stream in ("a", "b"):
        logs.create_log_stream(logGroupName=group, logStreamName=stream)
        events = [{"timestamp": begun + n, "message": f"{n}"} for n in range(10) if n % 2 == (stream == "b")]
        logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)
    for size in (100, 3):
        pages = logs.get_paginator("filter_log_events").paginate(
            logGroupName=group, PaginationConfig={"PageSize": size}
        )
        assert [event["message"] for page in pages for event in page["events"]] == [f"{n}" for n in range(10)]


# S3's conditional writes.


def test_of_many_conditional_writes_at_once_one_succeeds(stand_in):
    s3 = stand_in.client("s3")
    s3.create_bucket(Bucket="lease", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})

    def write(body, start, **condition):
        start.wait()
        with contextlib.suppress(s3.exceptions.ClientError):
            return s3.put_object(Bucket="lease", Key="lease", Body=body, **condition)["ETag"]

    condition, etags = {"IfNoneMatch": "*"}, set()
    for round_ in range(10):
        start = threading.Barrier(8)
        with ThreadPoolExecutor(8) as pool:
            writes = [pool.submit(write, f"{round_}-{n}".encode(), start, **condition) for n in range(8)]
            (etag,) = [done.result() for done in writes if done.result()]
        found = s3.get_object(Bucket="lease", Key="lease")
        assert found["ETag"] == etag
        assert "date" in found["ResponseMetadata"]["HTTPHeaders"]
        etags.add(etag)
        condition = {"IfMatch": etag}
    assert len(etags) == 10
