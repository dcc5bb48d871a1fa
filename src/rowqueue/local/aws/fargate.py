"""The task operations of ECS, with tasks that really run: RunTask, StopTask, ListTasks, DescribeTasks."""

from __future__ import annotations

import json
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

from rowqueue.local.aws.errors import ApiError, invalid_parameter
from rowqueue.local.aws.fargate_book import PAGE, TaskBook
from rowqueue.local.aws.fargate_launch import count_of, launch_of, providers_of
from rowqueue.local.aws.fargate_processes import Platform, TaskProcess
from rowqueue.local.aws.fargate_tasks import Task, arn, describe, metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


class Fargate:
    """Everything ECS knows about tasks, in every region.

    Args:
        platform: what tasks run on.

    Attributes:
        operations: the names of the operations of ECS that are answered here -> (region, request) -> answer.
        on_stopped: called with each task that has stopped, as DescribeTasks shows it.
        refuse: called before a launch with its number of tasks; answers an item of ``failures[]`` for each task that
            finds no room, or raises an ApiError such as ThrottlingException. Finds room for all unless replaced.
    """

    def __init__(self, platform: Platform) -> None:
        self.operations: Mapping[str, Callable[[str, Mapping[str, Any]], dict[str, Any]]] = {
            "RunTask": self._run_task,
            "StopTask": self._stop_task,
            "ListTasks": self._list_tasks,
            "DescribeTasks": self._describe_tasks,
        }
        self.on_stopped: list[Callable[[dict[str, Any]], None]] = []
        self.refuse: Callable[[int], Sequence[Mapping[str, str]]] = lambda _count: ()
        self._platform = platform
        self._book = TaskBook()
        self._processes: dict[str, TaskProcess] = {}  # those of tasks that are not STOPPED
        self._launching = threading.Lock()  # of two requests with one clientToken, the second waits for the first

    def metadata(self, task_id: str) -> dict[str, Any] | None:
        """What a task may ask about itself; None for an unknown one."""
        task = self._book.get(task_id)
        return metadata(task) if task else None

    def close(self, grace_seconds: float) -> None:
        """Stop all tasks, and kill those that take longer than the grace."""
        running = list(self._processes.values())
        for process in running:
            process.stop(kill_after=grace_seconds)
        deadline = time.monotonic() + grace_seconds + 1
        for process in running:
            process.join(max(0.0, deadline - time.monotonic()))

    def _run_task(self, region: str, request: Mapping[str, Any]) -> dict[str, Any]:
        cluster = self._cluster(region, request)
        token = (cluster["clusterArn"], request.get("clientToken") or str(uuid.uuid4()))
        parameters = json.dumps({**request, "clientToken": None}, sort_keys=True)
        with self._launching:
            launched = self._book.launched_with(token)
            if launched is None:
                tasks, failures = self._launch(region, cluster, request)
                self._book.remember(token, parameters, tasks)
                return {"tasks": [describe(task, with_tags=True) for task in tasks], "failures": failures}
        tasks = self._book.get_all(launched.task_ids)
        if launched.parameters != parameters:
            raise ApiError(
                "ConflictException",
                "The clientToken was used before, with other parameters.",
                resourceIds=[task.arn for task in tasks],
            )
        return {"tasks": [describe(task, with_tags=True) for task in tasks], "failures": []}

    def _launch(
        self, region: str, cluster: Mapping[str, Any], request: Mapping[str, Any]
    ) -> tuple[list[Task], list[Mapping[str, str]]]:
        count = count_of(request)
        launch = launch_of(
            request,
            region=region,
            cluster=cluster["clusterName"],
            described=self._described_definition(region, request["taskDefinition"]),
        )
        providers = providers_of(request, cluster, count)
        failures = list(self.refuse(count))
        tasks = [
            Task(task_id=uuid.uuid4().hex, launch=launch, created_at=time.time(), capacity_provider=provider)
            for provider in providers[: count - len(failures)]
        ]
        for task in tasks:
            self._book.add(task)
            self._start(task)
        return tasks, failures

    def _start(self, task: Task) -> None:
        def change(transition: Callable[[Task], Task]) -> None:
            before, after = self._book.change(task.task_id, transition)
            if after.is_stopped and not before.is_stopped:
                del self._processes[task.task_id]
                for hook in self.on_stopped:
                    hook(describe(after, with_tags=False))

        self._processes[task.task_id] = process = TaskProcess(task, self._platform, change)
        process.start()

    def _stop_task(self, region: str, request: Mapping[str, Any]) -> dict[str, Any]:
        cluster = self._cluster(region, request)
        task = self._book.find(cluster["clusterArn"], request["task"])
        if task is None:
            raise invalid_parameter("The referenced task was not found.")
        reason = request.get("reason") or "Task stopped by user"
        before, after = self._book.change(
            task.task_id, lambda known: known.told_to_stop(time.time(), code="UserInitiated", reason=reason)
        )
        if after is not before and (process := self._processes.get(task.task_id)):
            process.stop(kill_after=task.launch.stop_timeout)
        return {"task": describe(after, with_tags=True)}

    def _list_tasks(self, region: str, request: Mapping[str, Any]) -> dict[str, Any]:
        cluster = self._cluster(region, request)
        if request.get("startedBy") and any(request.get(name) for name in ("family", "launchType", "serviceName")):
            raise invalid_parameter("cannot specify startedBy with other arguments")
        return self._book.page(
            cluster["clusterArn"],
            wanted=lambda task: _matches(task, request),
            size=int(request.get("maxResults", PAGE)),
            after=request.get("nextToken"),
        )

    def _describe_tasks(self, region: str, request: Mapping[str, Any]) -> dict[str, Any]:
        cluster = self._cluster(region, request)
        wanted = request.get("tasks", [])
        if not wanted:
            raise invalid_parameter("Tasks cannot be empty.")
        if len(wanted) > PAGE:
            raise invalid_parameter(f"taskIds can have at most {PAGE} items.")
        found = {name: self._book.find(cluster["clusterArn"], name) for name in wanted}
        with_tags = "TAGS" in request.get("include", ())
        return {
            "tasks": [describe(task, with_tags=with_tags) for task in found.values() if task],
            "failures": [
                {"arn": arn(region, f"task/{cluster['clusterName']}/{name.rpartition('/')[2]}"), "reason": "MISSING"}
                for name, task in found.items()
                if task is None
            ],
        }

    def _cluster(self, region: str, request: Mapping[str, Any]) -> dict[str, Any]:
        name = request.get("cluster") or "default"
        found = self._platform.host.client("ecs", region).describe_clusters(clusters=[name])["clusters"]
        if not found:
            raise ApiError("ClusterNotFoundException", "Cluster not found.")
        cluster: dict[str, Any] = found[0]
        return cluster

    def _described_definition(self, region: str, name: str) -> dict[str, Any]:
        """Describe a task definition named by ARN, by family:revision, or by its family: then the newest ACTIVE one."""
        ecs = self._platform.host.client("ecs", region)
        if ":" not in name:
            arns = ecs.list_task_definitions(familyPrefix=name, status="ACTIVE")["taskDefinitionArns"]
            name = max(arns, key=lambda known: int(known.rpartition(":")[2]), default=f"{name}:0")
        try:
            described: dict[str, Any] = ecs.describe_task_definition(taskDefinition=name, include=["TAGS"])
        except ecs.exceptions.ClientException:
            raise ApiError("ClientException", "TaskDefinition not found.") from None
        return described


def _matches(task: Task, request: Mapping[str, Any]) -> bool:
    return (
        task.desired_status == request.get("desiredStatus", "RUNNING")  # nothing is ever desired to be PENDING
        and request.get("family") in {None, task.launch.definition["family"]}
        and request.get("startedBy") in {None, task.launch.started_by}
        and request.get("launchType") in {None, task.launch.launch_type}
        and not request.get("serviceName")  # a task of RunTask belongs to no service and to no instance
        and not request.get("containerInstance")
    )
