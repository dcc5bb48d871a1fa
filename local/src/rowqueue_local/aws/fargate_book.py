"""ECS's memory of tasks and of the requests that launched them."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rowqueue_local.aws.errors import invalid_parameter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from rowqueue_local.aws.fargate_tasks import FargateTask

PAGE = 100  # ListTasks answers at most 100 ARNs, and DescribeTasks takes at most 100
REMEMBERED = 5_000  # tasks. ECS shows a stopped one for "at least one hour"; here the oldest stopped ones are removed

Token = tuple[str, str]  # the cluster's ARN and the clientToken, which is unique within a cluster


@dataclass(frozen=True)
class RememberedLaunch:
    """The parameters and the tasks of a clientToken."""

    parameters: str
    task_ids: Sequence[str]


class TaskBook:
    """Every task by its id, oldest first; safe to use from several threads."""

    def __init__(self) -> None:
        self._tasks: dict[str, FargateTask] = {}
        self._launched: dict[Token, RememberedLaunch] = {}
        self._lock = threading.Lock()

    def add(self, task: FargateTask) -> None:
        """Add a new task."""
        with self._lock:
            self._tasks[task.task_id] = task
            if len(self._tasks) > REMEMBERED:
                self._forget_oldest_stopped()

    def change(self, task_id: str, transition: Callable[[FargateTask], FargateTask]) -> tuple[FargateTask, FargateTask]:
        """Replace a task by the result of the function; returns the task before and after."""
        with self._lock:
            before = self._tasks[task_id]
            after = self._tasks[task_id] = transition(before)
            return before, after

    def get(self, task_id: str) -> FargateTask | None:
        """The task with this id."""
        return self._tasks.get(task_id)

    def all(self) -> list[FargateTask]:
        """All remembered tasks, oldest first."""
        with self._lock:
            return list(self._tasks.values())

    def get_all(self, task_ids: Iterable[str]) -> list[FargateTask]:
        """The remembered tasks with these ids."""
        return [task for task_id in task_ids if (task := self._tasks.get(task_id))]

    def find(self, cluster_arn: str, id_or_arn: str) -> FargateTask | None:
        """The task of a cluster with this id or ARN."""
        task = self._tasks.get(id_or_arn.rpartition("/")[2])
        return task if task and task.cluster_arn == cluster_arn and id_or_arn in {task.task_id, task.arn} else None

    def page(
        self, cluster_arn: str, *, wanted: Callable[[FargateTask], bool], size: int, after: str | None
    ) -> dict[str, Any]:
        """One page of the ARNs of a cluster's tasks, as the answer of ListTasks.

        Args:
            cluster_arn: the cluster.
            wanted: selects tasks.
            size: number of ARNs on a page.
            after: the ``nextToken`` of the previous page: here, the id of its last task.
        """
        if not 1 <= size <= PAGE:
            raise invalid_parameter(f"maxResults must be between 1 and {PAGE}.")
        with self._lock:
            ids = list(self._tasks)
            if after and after not in self._tasks:
                raise invalid_parameter("Invalid token")
            rest = ids[ids.index(after) + 1 :] if after else ids
            tasks = [self._tasks[task_id] for task_id in rest]
        found = [task for task in tasks if task.cluster_arn == cluster_arn and wanted(task)]
        answer: dict[str, Any] = {"taskArns": [task.arn for task in found[:size]]}
        if len(found) > size:
            answer["nextToken"] = found[size - 1].task_id
        return answer

    def launched_with(self, token: Token) -> RememberedLaunch | None:
        """What was launched with a clientToken; None for a new one. ECS forgets after 24 hours, this book does not."""
        return self._launched.get(token)

    def remember(self, token: Token, parameters: str, tasks: Iterable[FargateTask]) -> None:
        """Remember what was launched with a clientToken."""
        self._launched[token] = RememberedLaunch(parameters, [task.task_id for task in tasks])

    def _forget_oldest_stopped(self) -> None:
        oldest = next((task for task in self._tasks.values() if task.is_stopped), None)
        if oldest:
            del self._tasks[oldest.task_id]
        self._launched = {
            token: launched
            for token, launched in self._launched.items()
            if any(task_id in self._tasks for task_id in launched.task_ids)
        }


def is_listed(task: FargateTask, request: Mapping[str, Any]) -> bool:
    """Whether ListTasks lists a task of the right cluster."""
    return (
        task.desired_status == request.get("desiredStatus", "RUNNING")  # no task has the desired status PENDING
        and request.get("family") in {None, task.launch.definition["family"]}
        and request.get("startedBy") in {None, task.launch.started_by}
        and request.get("launchType") in {None, task.launch.launch_type}
        and not request.get("serviceName")  # a task of RunTask belongs to no service and to no instance
        and not request.get("containerInstance")
    )
