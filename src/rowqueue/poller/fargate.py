"""ECS, as far as the poller uses it: list the tasks, start some, stop one."""

from __future__ import annotations

import itertools
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rowqueue import aws
from rowqueue.contract import CONTAINER, MAX_ENTRIES, PROBE
from rowqueue.errors import LaunchError
from rowqueue.poller.fleet import Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from mypy_boto3_ecs import ECSClient
    from mypy_boto3_ecs.literals import DesiredStatusType
    from mypy_boto3_ecs.type_defs import (
        CapacityProviderStrategyItemTypeDef,
        RunTaskRequestTypeDef,
        TaskOverrideTypeDef,
        TaskTypeDef,
    )

    from rowqueue.poller.fleet import TaskRequest
    from rowqueue.settings import PollerSettings

SPOT = "FARGATE_SPOT"
"""The capacity provider of the tasks on Spot."""
_DESCRIBED_AT_ONCE = 100  # AWS, DescribeTasks.tasks
_AT_THE_SAME_TIME = 4
"""DescribeTasks requests under way. ECS takes 100 reads at once and then 20 per second (AWS, "Request throttling for
the Amazon ECS API", cluster resource read actions)."""
_MOST_STOPPED = 1000
"""Stopped tasks that are listed at most. ECS keeps them for an hour or more, and a large fleet leaves thousands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTaskAnswer:
    """What one RunTask request answered.

    Attributes:
        started: ARNs of the tasks that run or will.
        failures: the reason for each task that was not started.
        passing: whether the whole request was refused, with a reason that will pass.
        unanswered: whether ECS may have started tasks nevertheless: it failed, or no answer arrived.
    """

    started: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
    passing: bool = False
    unanswered: bool = False


class Fargate:
    """The tasks of one family on one cluster.

    Args:
        client: boto3's.
        settings: the poller's.
    """

    def __init__(self, client: ECSClient, settings: PollerSettings) -> None:
        self._client = client
        self._settings = settings
        self._family = settings.task_definition.rsplit("/", 1)[-1].split(":")[0]

    def live_tasks(self) -> list[Task]:
        """All tasks of the family that ECS wants running, including those that are still being provisioned.

        A task that is listed but cannot be described yet (ECS is eventually consistent) counts as live: it is better
        to launch one task too few.

        Raises:
            LaunchError: ECS refuses or does not answer.
        """
        try:
            arns = self._listed("RUNNING")
            described = self._described(arns)
        except aws.ERRORS as error:
            raise LaunchError(f"the live tasks cannot be counted: {error}") from error
        tasks = [described.get(arn, Task(arn=arn)) for arn in arns]
        return [task for task in tasks if task.is_wanted]

    def stopped_tasks(self) -> list[Task]:
        """The tasks of the family that have stopped or are stopping and that ECS still knows, at most 1000.

        Raises:
            LaunchError: ECS refuses or does not answer.
        """
        try:
            return list(self._described(self._listed("STOPPED", most=_MOST_STOPPED)).values())
        except aws.ERRORS as error:
            raise LaunchError(f"the stopped tasks cannot be listed: {error}") from error

    def find(self, names: Sequence[str]) -> dict[str, Task]:
        """Look tasks up on the cluster, whatever their family.

        Args:
            names: ids or ARNs.

        Returns:
            Those that ECS knows, by id.

        Raises:
            LaunchError: ECS refuses or does not answer.
        """
        try:
            return {task.id: task for task in self._described(names).values()}
        except aws.ERRORS as error:
            raise LaunchError(f"tasks cannot be described: {error}") from error

    def is_ours(self, task: Task) -> bool:
        """Whether a task is of the family that this poller launches."""
        return task.definition is not None and f"/{self._family}:" in task.definition

    def may_be_on_our_cluster(self, task_arn: str) -> bool:
        """Whether it is the ARN of a task, and names our cluster. ECS refuses a request with any other name."""
        cluster = re.escape(self._settings.cluster.rsplit("/", 1)[-1])
        return re.fullmatch(rf"arn:[^:/]+:ecs:[^:/]+:[^:/]+:task/{cluster}/[\w-]+", task_arn, re.ASCII) is not None

    def stop(self, task: Task, *, reason: str) -> str | None:
        """Ask a task to end: SIGTERM now, SIGKILL after its ``stopTimeout``.

        Returns:
            Why the request failed, if the reason will pass; ``None`` if it succeeded.

        Raises:
            LaunchError: the request was refused for good.
        """
        try:
            self._client.stop_task(cluster=self._settings.cluster, task=task.arn, reason=reason)
        except aws.ERRORS as error:
            if aws.is_passing(error):
                return f"{task.id} cannot be stopped: {error}"
            raise LaunchError(f"{task.id} cannot be stopped: {error}") from error
        return None

    def launch(self, request: TaskRequest) -> RunTaskAnswer:
        """Start up to ten tasks. A partial success is a success: its failures are returned, not raised.

        Raises:
            LaunchError: the whole request was refused, with a reason that will not pass by itself.
        """
        try:
            answer = self._client.run_task(**self._request(request))
        except aws.ERRORS as error:
            if aws.code_of(error) == "ConflictException":  # a repetition, after a setting was changed
                return RunTaskAnswer(started=aws.resources_of(error))
            if aws.is_passing(error):
                failures = (str(error),) * request.count
                return RunTaskAnswer(failures=failures, passing=True, unanswered=not aws.has_refused(error))
            raise LaunchError(f"tasks cannot be started: {error}") from error
        return RunTaskAnswer(
            started=tuple(task["taskArn"] for task in answer["tasks"]),
            failures=tuple(failure["reason"] for failure in answer["failures"]),
        )

    def _listed(self, desired: DesiredStatusType, *, most: int | None = None) -> list[str]:
        pages = self._client.get_paginator("list_tasks").paginate(
            cluster=self._settings.cluster, family=self._family, desiredStatus=desired
        )
        arns: list[str] = []
        for page in pages:
            arns += page["taskArns"]
            if most is not None and len(arns) >= most:
                return arns[:most]
        return arns

    def _described(self, names: Sequence[str]) -> dict[str, Task]:
        """By ARN. Thousands are asked about in several requests at the same time."""
        groups = [list(names[first:][:_DESCRIBED_AT_ONCE]) for first in range(0, len(names), _DESCRIBED_AT_ONCE)]
        if len(groups) < 2:  # noqa: PLR2004 -- no thread for the usual fleet
            return {arn: task for group in groups for arn, task in self._described_at_once(group)}
        with ThreadPoolExecutor(_AT_THE_SAME_TIME) as threads:
            return dict(itertools.chain.from_iterable(threads.map(self._described_at_once, groups)))

    def _described_at_once(self, names: list[str]) -> list[tuple[str, Task]]:
        answer = self._client.describe_tasks(cluster=self._settings.cluster, tasks=names)
        return [(described["taskArn"], _task(described)) for described in answer["tasks"]]

    def _request(self, asked: TaskRequest) -> RunTaskRequestTypeDef:
        environment = {MAX_ENTRIES: str(self._settings.entries_per_container)}
        environment |= {PROBE: "1"} if asked.probe else {}
        overrides: TaskOverrideTypeDef = {
            "containerOverrides": [
                {"name": CONTAINER, "environment": [{"name": n, "value": v} for n, v in environment.items()]}
            ]
        }
        request: RunTaskRequestTypeDef = {
            "cluster": self._settings.cluster,
            "taskDefinition": self._settings.task_definition,
            "count": asked.count,
            "clientToken": asked.token,
            "startedBy": f"{self._settings.environment}-snowflake-poller",
            "propagateTags": "TASK_DEFINITION",
            "networkConfiguration": {
                "awsvpcConfiguration": {
                    "subnets": list(self._settings.subnets),
                    "securityGroups": [self._settings.security_group],
                    "assignPublicIp": "DISABLED",
                }
            },
            "overrides": overrides,
        }
        if self._settings.spot_percent and not asked.on_demand:
            request["capacityProviderStrategy"] = spot_strategy(self._settings.spot_percent)
        else:
            request["launchType"] = "FARGATE"
        return request


def spot_strategy(percent: int) -> list[CapacityProviderStrategyItemTypeDef]:
    """The share of Spot tasks, as a strategy. A request has this or a launch type, not both (AWS, RunTask)."""
    shares = {SPOT: percent, "FARGATE": 100 - percent}
    return [{"capacityProvider": name, "weight": weight} for name, weight in shares.items() if weight]


def connect(settings: PollerSettings, *, seconds_left: Callable[[], float]) -> Fargate:
    """Connect to the cluster that the settings name.

    Args:
        settings: the poller's.
        seconds_left: until the tick has to give up.
    """
    return Fargate(aws.client("ecs", seconds_left=seconds_left), settings)


def _task(described: TaskTypeDef) -> Task:
    return Task(
        arn=described["taskArn"],
        definition=described.get("taskDefinitionArn"),
        last_status=described.get("lastStatus", "PROVISIONING"),
        desired_status=described.get("desiredStatus", "RUNNING"),
        created_at=described.get("createdAt"),
        started_at=described.get("startedAt"),
        stop_code=described.get("stopCode"),
        stopped_reason=_reason(described),
        exit_code=_exit_code(described.get("containers", ())),
        provider=described.get("capacityProviderName"),
    )


def _reason(described: TaskTypeDef) -> str | None:
    """The task's reason and the container's. Only the container's says that it ran out of memory."""
    reasons = [described.get("stoppedReason"), *(c.get("reason") for c in described.get("containers", ()))]
    return "; ".join(reason for reason in reasons if reason) or None


def _exit_code(containers: Iterable[Mapping[str, object]]) -> int | None:
    codes = [container.get("exitCode") for container in containers if container.get("name", CONTAINER) == CONTAINER]
    return next((code for code in codes if isinstance(code, int)), None)
