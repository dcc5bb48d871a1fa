"""ECS as the poller needs it: which tasks are alive, and start some."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rowqueue import aws
from rowqueue.errors import LaunchError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from mypy_boto3_ecs import ECSClient
    from mypy_boto3_ecs.type_defs import RunTaskResponseTypeDef, TaskTypeDef

    from rowqueue.settings import PollerSettings

CONTAINER = "processor"
"""The container's name in the task definition, which overrides refer to."""
_DESCRIBED_AT_ONCE = 100  # AWS, DescribeTasks.tasks


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A task that ECS wants running.

    Attributes:
        arn: its ARN.
        begun_at: when it was started, or requested while it has not been; UTC, aware; ``None`` if ECS says neither.
    """

    arn: str
    begun_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What RunTask answered.

    Attributes:
        task_arns: tasks that were started.
        failures: reasons why others were not, with how often.
    """

    task_arns: tuple[str, ...] = ()
    failures: Mapping[str, int] = field(default_factory=dict)


def processor_id(environment: str, task_arn: str) -> str:
    """The name under which the task with this ARN claims, which leads from a row to a log and back."""
    return f"{environment}-{task_arn.rsplit('/', 1)[-1]}"


def client_token(*, period: int, task_definition: str, first_slot: int, count: int, probe: bool = False) -> str:
    """The idempotency token of a launch: two ticks that see the same numbers in the same period launch once.

    Args:
        period: the number of the schedule's period that now falls into.
        task_definition: what is started.
        first_slot: tasks alive or requested before this launch.
        count: tasks in this launch. It belongs into the token, since a token with other parameters is a conflict.
        probe: whether the launch is a probe; for the same reason.
    """
    return hashlib.sha256(f"{period}|{task_definition}|{first_slot}|{count}|{int(probe)}".encode()).hexdigest()


class Fargate:
    """The tasks of one family on one cluster.

    Args:
        client: boto3's ECS client.
        settings: the poller's.
    """

    def __init__(self, client: ECSClient, settings: PollerSettings) -> None:
        self._client = client
        self._settings = settings
        self._family = settings.task_definition.rsplit("/", 1)[-1].split(":")[0]

    def live_tasks(self) -> list[Task]:
        """All tasks of the family that ECS wants running, those that are still being provisioned included.

        Raises:
            LaunchError: ECS can not be asked.
        """
        try:
            pages = self._client.get_paginator("list_tasks").paginate(
                cluster=self._settings.cluster, family=self._family, desiredStatus="RUNNING"
            )
            arns = [arn for page in pages for arn in page["taskArns"]]
            return [
                task
                for first in range(0, len(arns), _DESCRIBED_AT_ONCE)
                for task in self._described(arns[first:][:_DESCRIBED_AT_ONCE])
            ]
        except aws.ERRORS as error:
            raise LaunchError(f"the live tasks can not be counted: {error}") from error

    def _described(self, arns: list[str]) -> list[Task]:
        answer = self._client.describe_tasks(cluster=self._settings.cluster, tasks=arns)
        described = {task["taskArn"]: task for task in answer["tasks"]}
        # A task that was listed and can not be described yet (ECS is eventually consistent) counts: better one too few.
        return [
            _task(arn, described.get(arn))
            for arn in arns
            if arn not in described or described[arn]["desiredStatus"] == "RUNNING"
        ]

    def launch(self, *, count: int, token: str, probe: bool = False) -> Launch:
        """Start up to ten tasks. A partial success is a success: what failed is told, not raised.

        Args:
            count: how many.
            token: see :func:`client_token`.
            probe: whether the task is to try a single entry after a hold.

        Raises:
            LaunchError: the request was refused as a whole.
        """
        try:
            answer = self._run_task(count=count, token=token, environment=self._environment(probe=probe))
        except self._client.exceptions.ConflictException:
            return Launch(failures={"another tick has launched these already": count})
        except aws.ERRORS as error:
            raise LaunchError(f"tasks can not be started: {error}") from error
        # A token used before in this period gives its tasks again, also those that ended since: they are no launch.
        started = tuple(task["taskArn"] for task in answer["tasks"] if task["desiredStatus"] == "RUNNING")
        return Launch(task_arns=started, failures=Counter(failure["reason"] for failure in answer["failures"]))

    def _environment(self, *, probe: bool) -> dict[str, str]:
        return {"MAX_ENTRIES": str(self._settings.entries_per_container)} | ({"PROBE": "1"} if probe else {})

    def _run_task(self, *, count: int, token: str, environment: Mapping[str, str]) -> RunTaskResponseTypeDef:
        return self._client.run_task(
            cluster=self._settings.cluster,
            taskDefinition=self._settings.task_definition,
            count=count,
            clientToken=token,
            launchType="FARGATE",
            startedBy=f"{self._settings.environment}-snowflake-poller",
            propagateTags="TASK_DEFINITION",
            networkConfiguration={
                "awsvpcConfiguration": {
                    "subnets": list(self._settings.subnets),
                    "securityGroups": [self._settings.security_group],
                    "assignPublicIp": "DISABLED",
                }
            },
            overrides={
                "containerOverrides": [
                    {
                        "name": CONTAINER,
                        "environment": [{"name": name, "value": value} for name, value in environment.items()],
                    }
                ]
            },
        )


def connect(settings: PollerSettings) -> Fargate:
    """The tasks that these settings name."""
    return Fargate(aws.client("ecs"), settings)


def _task(arn: str, described: TaskTypeDef | None) -> Task:
    if described is None:
        return Task(arn=arn, begun_at=None)
    return Task(arn=arn, begun_at=described.get("startedAt") or described.get("createdAt"))
