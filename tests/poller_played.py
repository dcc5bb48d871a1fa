"""A Snowflake and an ECS for the tests of the poller. They answer what a test says, and record what they are asked."""

from __future__ import annotations

import hashlib
import json
import uuid
from dataclasses import astuple
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from io import BytesIO
from types import SimpleNamespace

from botocore.exceptions import ClientError

from rowqueue.poller.fargate import Fargate
from rowqueue.poller.lease import Lease
from rowqueue.poller.queue import PollerQueue
from rowqueue.poller.records import Pulse
from rowqueue.poller.tick import Poller
from rowqueue.settings import PollerSettings

NOW = datetime(2026, 11, 20, 12, 0, 30, tzinfo=UTC)
NAIVE = NOW.replace(tzinfo=None)
CAPACITY = "Capacity is unavailable at this time. Please try again later or in a different availability zone"
ENVIRON = {
    "ENVIRONMENT": "dev",
    "ECS_CLUSTER": "dev-snowflake-processor",
    "ECS_TASK_DEFINITION": "arn:aws:ecs:us-east-1:1:task-definition/dev-snowflake-processor:3",
    "ECS_SUBNETS": '["subnet-1"]',
    "ECS_SECURITY_GROUP": "sg-1",
    "LEASE_BUCKET": "dev-lease",
    "SNOWFLAKE_ACCOUNT": "local",
    "SNOWFLAKE_WAREHOUSE": "WH",
    "SNOWFLAKE_DATABASE": "DB",
    "SNOWFLAKE_SCHEMA": "PUBLIC",
}


class PlayedWarehouse:
    """Answers each named statement; an exception is raised instead."""

    def __init__(self, **answers):
        self.answers = answers
        self.sent = []
        self.values = {}

    def rows(self, statement, values):
        self.sent.append(statement.name)
        self.values[statement.name] = values
        assert set(values) == set(statement.parameters)
        answer = self.answers[statement.name]
        if isinstance(answer, Exception):
            raise answer
        return answer

    change = rows


def error(code, operation, message="no", status=400, **members):
    answer = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}, **members}
    return ClientError(answer, operation)


class ECS:
    """boto3's client, as far as the poller uses it. A token never starts anything twice."""

    def __init__(self, tasks=(), *, run=None, listing=None, stopping=None, now=None):
        self.tasks = list(tasks)
        self.run = run or self._start
        self.listing = listing
        self.stopping = stopping
        self.now = now or NOW
        self.requests = []
        self.stops = []
        self._tokens = {}

    def get_paginator(self, name):
        assert name == "list_tasks"

        def paginate(*, cluster, family, desiredStatus):  # noqa: N803 -- ECS's name
            assert family == "dev-snowflake-processor"
            if self.listing:
                raise self.listing
            arns = [task["taskArn"] for task in self.tasks if task["desiredStatus"] == desiredStatus]
            return [{"taskArns": arns[first:][:100]} for first in range(0, len(arns), 100)] or [{"taskArns": []}]

        return SimpleNamespace(paginate=paginate)

    def describe_tasks(self, *, cluster, tasks):
        assert 0 < len(tasks) <= 100
        wanted = {name.rsplit("/", 1)[-1] for name in tasks}
        return {"tasks": [t for t in self.tasks if t["taskArn"].rsplit("/", 1)[-1] in wanted], "failures": []}

    def run_task(self, **request):
        self.requests.append(request)
        return self.run(request)

    def stop_task(self, *, cluster, task, reason):
        if self.stopping:
            raise self.stopping
        self.stops.append((task.rsplit("/", 1)[-1], reason))

    def _start(self, request):
        token, count = request["clientToken"], request["count"]
        if token not in self._tokens:
            given = {"overrides": request["overrides"], "taskDefinitionArn": request["taskDefinition"]}
            first = sum(len(known) for known in self._tokens.values())
            made = [task(f"new-{first + n}", created=self.now, **given) for n in range(count)]
            self._tokens[token] = made
            self.tasks += made
        return {"tasks": self._tokens[token], "failures": []}


class S3:
    """boto3's client, as far as the lease uses it."""

    def __init__(self, *, now=None, refusals=None):
        self.now = now or (lambda: NOW)
        self.refusals = refusals or {}
        self.written = []
        self.object = None

    def get_object(self, *, Bucket, Key):  # noqa: N803 -- S3's names
        assert (Bucket, Key) == ("dev-lease", "dev/launch-lease.json")
        self._refuse("GetObject")
        if self.object is None:
            raise error("NoSuchKey", "GetObject", status=404)
        headers = {"HTTPHeaders": {"date": format_datetime(self.now(), usegmt=True)}}
        return self.object | {"Body": BytesIO(self.object["Body"]), "ResponseMetadata": headers}

    def put_object(self, *, Bucket, Key, Body, ContentType, IfMatch=None, IfNoneMatch=None):  # noqa: N803
        assert ContentType == "application/json"
        assert (IfMatch is None) == (IfNoneMatch == "*")
        self._refuse("PutObject")
        if IfMatch and self.object is None:
            raise error("NoSuchKey", "PutObject", status=404)
        if IfMatch != (self.object and self.object["ETag"]):
            raise error("PreconditionFailed", "PutObject", status=412)
        etag = f'"{hashlib.md5(Body, usedforsecurity=False).hexdigest()}"'
        # S3 has whole seconds.
        self.object = {"Body": Body, "ETag": etag, "LastModified": self.now().replace(microsecond=0)}
        self.written.append(json.loads(Body))
        return {"ETag": etag}

    def _refuse(self, operation):
        if refusal := self.refusals.get(operation):
            raise refusal


def task(name, *, age_s=5.0, created=None, **changes):
    return {
        "taskArn": f"arn:aws:ecs:us-east-1:1:task/dev-snowflake-processor/{name}",
        "taskDefinitionArn": ENVIRON["ECS_TASK_DEFINITION"],
        "lastStatus": "RUNNING",
        "desiredStatus": "RUNNING",
        "createdAt": created or NOW - timedelta(seconds=age_s),
        "startedAt": created or NOW - timedelta(seconds=age_s),
    } | changes


def dead(
    name, *, age_s=5.0, code="EssentialContainerExited", reason="Essential container in task exited", exit_code=137
):
    containers = [{"name": "processor"} | ({} if exit_code is None else {"exitCode": exit_code})]
    return task(
        name,
        age_s=age_s,
        lastStatus="STOPPED",
        desiredStatus="STOPPED",
        stopCode=code,
        stoppedReason=reason,
        containers=containers,
    )


def pulse(*, available=None, claimed=None, **columns):
    """The row of the pulse; columns that are not given are those of an empty queue."""
    if columns.get("holds"):
        columns = {"hold_reason": "why", "hold_kind": "person"} | columns
    counts = {"pending": 0, "exhausted": 0, "processing": 0, "unknown": 0, "version": 1, "oldest_program": 1}
    return [astuple(Pulse(**counts | columns, earliest_available_at=available, earliest_claimed_at=claimed))]


def poller(warehouse, ecs, *, s3=None, now=NOW, seconds_left=lambda: 50, sleep=lambda _: None, **environ):
    settings = PollerSettings.from_env(ENVIRON | environ)
    return Poller(
        queue=PollerQueue(warehouse, queue=settings.snowflake.table, max_retries=3),
        tasks=Fargate(ecs, settings),
        lease=lease(s3 or S3()),
        settings=settings,
        now=now,
        seconds_left=seconds_left,
        sleep=sleep,
    )


def lease(s3, *, tick=None, seconds_left=lambda: 50):
    return Lease(
        client=lambda: s3,
        bucket="dev-lease",
        key="dev/launch-lease.json",
        tick=tick or uuid.uuid4().hex,
        seconds_left=seconds_left,
    )


def tick(warehouse, ecs, **given):
    return poller(warehouse, ecs, **given).tick()


def ready(count, *, seen=()):
    return PlayedWarehouse(
        pulse=pulse(pending=count, available=NAIVE - timedelta(seconds=9)),
        count_ready=[(count, 0)],
        processors_seen=[(name,) for name in seen],
    )
