"""The task operations of ECS with tasks that run: RunTask, StopTask, ListTasks, DescribeTasks."""

from __future__ import annotations

import contextlib
import json
import threading
import time
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rowqueue_local.aws.errors import ApiError, invalid_parameter
from rowqueue_local.aws.events import task_event
from rowqueue_local.aws.fargate_book import PAGE, TaskBook, is_listed
from rowqueue_local.aws.fargate_launch import count_of, launch_of, providers_of
from rowqueue_local.aws.fargate_processes import TaskProcess
from rowqueue_local.aws.fargate_tasks import FargateTask, arn, describe, metadata
from rowqueue_local.aws.timeline import RunTaskCall, Timeline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from rowqueue_local.aws.events import Event
    from rowqueue_local.aws.fargate_processes import Platform


class TaskOperations:
    """The tasks of ECS in every region.

    Args:
        platform: what tasks run on.
        emit: sends the event of each state change of a task, and returns at once.

    Attributes:
        operations: functions from (region, request) to the answer, by the name of the ECS operation.
    """

    def __init__(self, platform: Platform, emit: Callable[[Event], None]) -> None:
        self.operations: Mapping[str, Callable[[str, Mapping[str, Any]], dict[str, Any]]] = {
            "RunTask": self._run_task,
            "StopTask": self._stop_task,
            "ListTasks": self._list_tasks,
            "DescribeTasks": self._describe_tasks,
        }
        self._platform = platform
        self._emit = emit
        self._book = TaskBook()
        self._timeline = Timeline()
        self._processes: dict[str, TaskProcess] = {}  # of tasks that are not STOPPED
        self._launching = threading.Lock()  # of two requests with the same clientToken, the second waits for the first

    def launches(self) -> dict[str, Any]:
        """Every RunTask since the start, and the state changes of each task."""
        return self._timeline.as_json(self._book.all())

    def signal(self, task_id: str, number: int) -> None:
        """Send a signal to the program of a task, without ECS knowing.

        Raises:
            ApiError: there is no such task, or its program is not running.
        """
        self._task(task_id)
        process = self._processes.get(task_id)
        if process is None or not process.signal(number):
            raise ApiError("TaskNotRunning", f"no program of task {task_id} runs now", status=409)

    def interrupt(self, task_id: str) -> None:
        """Stop a task as a Spot interruption does: SIGTERM, and SIGKILL after its ``stopTimeout``.

        Raises:
            ApiError: there is no such task, or it is stopping already.
        """
        task = self._task(task_id)
        if task.desired_status == "STOPPED":
            raise ApiError("TaskNotRunning", f"task {task_id} is stopping already", status=409)
        # The reason comes from ECS's developer guide (fargate-capacity-providers), the code from its TaskStopCode.
        # Older pages have TerminationNotice. Not verified: only a real interruption shows which one ECS sends.
        self._stop(task, code="SpotInterruption", reason="Your Spot Task was interrupted.")

    def _task(self, task_id: str) -> FargateTask:
        task = self._book.get(task_id)
        if task is None:
            raise ApiError("TaskNotFound", f"no task {task_id} is known here", status=404)
        return task

    def metadata(self, task_id: str) -> dict[str, Any] | None:
        """The metadata of a task; None for an unknown one."""
        task = self._book.get(task_id)
        return metadata(task) if task else None

    def close(self, grace_seconds: float) -> None:
        """Stop all tasks, and kill those that take longer than the grace period."""
        running = list(self._processes.values())
        for process in running:
            process.stop(kill_after=grace_seconds)
        deadline = time.monotonic() + grace_seconds + 1
        for process in running:
            process.join(max(0.0, deadline - time.monotonic()))

    def _run_task(self, region: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """RunTask, recorded in the timeline."""
        call = RunTaskCall(at=time.time(), count=request.get("count", 1), client_token=request.get("clientToken"))
        try:
            with self._refused("RunTask"):
                tasks, failures = self._launch_once(region, request)
        except ApiError as error:
            self._timeline.add(replace(call, error=error.code))
            raise
        self._timeline.add(replace(call, tasks=[task.task_id for task in tasks], failures=failures))
        return {"tasks": [describe(task, with_tags=True) for task in tasks], "failures": failures}

    def _launch_once(self, region: str, request: Mapping[str, Any]) -> tuple[list[FargateTask], list[dict[str, str]]]:
        """Launch tasks, or find those that were launched with the same clientToken before."""
        cluster = self._cluster(region, request)
        token = (cluster["clusterArn"], request.get("clientToken") or str(uuid.uuid4()))
        parameters = json.dumps({**request, "clientToken": None}, sort_keys=True)
        with self._launching:
            launched = self._book.launched_with(token)
            if launched is None:
                tasks, failures = self._launch(region, cluster, request)
                if tasks:  # not documented: whether ECS remembers a token that placed nothing; here it does not
                    self._book.remember(token, parameters, tasks)
                return tasks, failures
        tasks = self._book.get_all(launched.task_ids)
        if launched.parameters != parameters:
            raise ApiError(
                "ConflictException",
                "The clientToken was used before, with other parameters.",
                resourceIds=[task.arn for task in tasks],
            )
        return tasks, []

    def _launch(
        self, region: str, cluster: Mapping[str, Any], request: Mapping[str, Any]
    ) -> tuple[list[FargateTask], list[dict[str, str]]]:
        count = count_of(request)
        launch = launch_of(
            request,
            region=region,
            cluster=cluster["clusterName"],
            described=self._described_definition(region, request["taskDefinition"]),
        )
        providers = providers_of(request, cluster, count)
        unplaced = self._platform.injected.unplaced()
        concerned = [number for number, one in enumerate(providers) if unplaced and unplaced.concerns(one)]
        failures = unplaced.failures(len(concerned)) if unplaced else []
        missing = set(concerned[len(concerned) - len(failures) :])
        tasks = [
            FargateTask(task_id=uuid.uuid4().hex, launch=launch, created_at=time.time(), capacity_provider=provider)
            for number, provider in enumerate(providers)
            if number not in missing
        ]
        for task in tasks:
            self._start(task)
        return tasks, failures

    def _start(self, task: FargateTask) -> None:
        def change(transition: Callable[[FargateTask], FargateTask]) -> None:
            self._change(task, transition)

        self._book.add(task)
        self._tell(task)
        self._processes[task.task_id] = process = TaskProcess(task, self._platform, change)
        process.start()

    def _change(
        self, task: FargateTask, transition: Callable[[FargateTask], FargateTask]
    ) -> tuple[FargateTask, FargateTask]:
        """Change a task and emit the event; returns the task before and after."""
        before, after = self._book.change(task.task_id, transition)
        if after is not before:
            self._tell(after)
        if after.is_stopped and not before.is_stopped:
            del self._processes[task.task_id]
        return before, after

    def _tell(self, task: FargateTask) -> None:
        described = describe(task, with_tags=False)
        self._emit(task_event(described, region=task.launch.region, now=time.time(), event_id=str(uuid.uuid4())))

    def _stop_task(self, region: str, request: Mapping[str, Any]) -> dict[str, Any]:
        with self._refused("StopTask"):
            return self._stop_once(region, request)

    def _stop_once(self, region: str, request: Mapping[str, Any]) -> dict[str, Any]:
        cluster = self._cluster(region, request)
        task = self._book.find(cluster["clusterArn"], request["task"])
        if task is None:
            raise invalid_parameter("The referenced task was not found.")
        reason = request.get("reason") or "Task stopped by user"
        return {"task": describe(self._stop(task, code="UserInitiated", reason=reason), with_tags=True)}

    def _stop(self, task: FargateTask, *, code: str, reason: str) -> FargateTask:
        before, after = self._change(task, lambda known: known.asked_to_stop(time.time(), code=code, reason=reason))
        if after is not before and (process := self._processes.get(task.task_id)):
            process.stop(kill_after=task.launch.stop_timeout)
        return after

    def _list_tasks(self, region: str, request: Mapping[str, Any]) -> dict[str, Any]:
        with self._refused("ListTasks"):
            cluster = self._cluster(region, request)
        now = time.time()
        if request.get("startedBy") and any(request.get(name) for name in ("family", "launchType", "serviceName")):
            raise invalid_parameter("cannot specify startedBy with other arguments")
        return self._book.page(
            cluster["clusterArn"],
            wanted=lambda task: (
                is_listed(task, request) and not self._platform.injected.is_hidden(now - task.created_at)
            ),
            size=int(request.get("maxResults", PAGE)),
            after=request.get("nextToken"),
        )

    def _describe_tasks(self, region: str, request: Mapping[str, Any]) -> dict[str, Any]:
        with self._refused("DescribeTasks"):
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

    @contextlib.contextmanager
    def _refused(self, operation: str) -> Iterator[None]:
        """Raise the injected error of an operation, if there is one: before it is done, or after it."""
        refusal = self._platform.injected.refusal(operation)
        if refusal is None or refusal.done:
            yield
        if refusal is not None:
            raise ApiError(refusal.code, refusal.message, status=refusal.status)

    def _cluster(self, region: str, request: Mapping[str, Any]) -> dict[str, Any]:
        name = request.get("cluster") or "default"
        found = self._platform.host.client("ecs", region).describe_clusters(clusters=[name])["clusters"]
        if not found:
            raise ApiError("ClusterNotFoundException", "Cluster not found.")
        cluster: dict[str, Any] = found[0]
        return cluster

    def _described_definition(self, region: str, name: str) -> dict[str, Any]:
        """Describe a task definition by its ARN, by family:revision, or by its family (the newest ACTIVE one)."""
        ecs = self._platform.host.client("ecs", region)
        if ":" not in name:
            arns = ecs.list_task_definitions(familyPrefix=name, status="ACTIVE")["taskDefinitionArns"]
            name = max(arns, key=lambda known: int(known.rpartition(":")[2]), default=f"{name}:0")
        try:
            described: dict[str, Any] = ecs.describe_task_definition(taskDefinition=name, include=["TAGS"])
        except ecs.exceptions.ClientException:
            raise ApiError("ClientException", "TaskDefinition not found.") from None
        return described
