"""Tasks as ECS describes them: frozen values, and a function for every change of state."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ACCOUNT = "123456789012"  # moto's only account
DEFAULT_STOP_TIMEOUT = 30.0  # seconds between SIGTERM and SIGKILL, if the container definition has none
PLATFORM_VERSION = "1.4.0"  # what LATEST means on Fargate for Linux


def arn(region: str, resource: str) -> str:
    """The ARN of an ECS resource."""
    return f"arn:aws:ecs:{region}:{ACCOUNT}:{resource}"


@dataclass(frozen=True, kw_only=True)
class TaskLaunch:
    """The common properties of all tasks of one RunTask.

    Attributes:
        cluster: the cluster's name.
        definition: the answer of DescribeTaskDefinition.
        overrides: as requested.
        group: the task group.
        launch_type: always FARGATE here, also with a capacity provider strategy.
        platform_version: the version that LATEST means.
        started_by: as requested.
        subnet: the first requested one.
        tags: the requested ones, and those of the task definition if the request propagates them.
    """

    region: str
    cluster: str
    definition: Mapping[str, Any]
    overrides: Mapping[str, Any]
    group: str
    launch_type: str = "FARGATE"
    platform_version: str = PLATFORM_VERSION
    started_by: str | None = None
    subnet: str | None = None
    tags: Sequence[Mapping[str, str]] = ()

    @property
    def cluster_arn(self) -> str:
        """The cluster's ARN."""
        return arn(self.region, f"cluster/{self.cluster}")

    @property
    def container(self) -> Mapping[str, Any]:
        """The definition of the only container."""
        container: Mapping[str, Any] = self.definition["containerDefinitions"][0]
        return container

    @property
    def container_override(self) -> Mapping[str, Any]:
        """The overrides of that container; usually empty."""
        overrides: Sequence[Mapping[str, Any]] = self.overrides.get("containerOverrides", ())
        return next((override for override in overrides if override.get("name") == self.container["name"]), {})

    @property
    def stop_timeout(self) -> float:
        """Seconds between SIGTERM and SIGKILL."""
        return float(self.container.get("stopTimeout", DEFAULT_STOP_TIMEOUT))


@dataclass(frozen=True, kw_only=True)
class FargateTask:
    """The state of a task. Times are seconds since the epoch, None before they are reached."""

    task_id: str
    launch: TaskLaunch
    created_at: float
    capacity_provider: str | None = None
    last_status: str = "PROVISIONING"
    desired_status: str = "RUNNING"
    version: int = 1
    pull_started_at: float | None = None
    started_at: float | None = None
    stopping_at: float | None = None
    execution_stopped_at: float | None = None
    stopped_at: float | None = None
    stop_code: str | None = None
    stopped_reason: str | None = None
    exit_code: int | None = None
    frozen: bool = False  # by an injected fault; ECS does not show it

    @property
    def arn(self) -> str:
        """The task's ARN."""
        return arn(self.launch.region, f"task/{self.launch.cluster}/{self.task_id}")

    @property
    def cluster_arn(self) -> str:
        """The ARN of its cluster."""
        return self.launch.cluster_arn

    @property
    def is_stopped(self) -> bool:
        """Whether it is STOPPED."""
        return self.last_status == "STOPPED"

    def _changed(self, **changes: Any) -> FargateTask:
        return replace(self, version=self.version + 1, **changes)

    def pulling(self, now: float) -> FargateTask:
        """The network is ready; the image is being pulled."""
        return self._changed(last_status="PENDING", pull_started_at=now)

    def running(self, now: float, *, frozen: bool = False) -> FargateTask:
        """The process has started; a frozen one does nothing."""
        return self._changed(last_status="RUNNING", started_at=now, frozen=frozen)

    def asked_to_stop(self, now: float, *, code: str, reason: str) -> FargateTask:
        """A stop was requested. The first request determines the reason."""
        if self.desired_status == "STOPPED":
            return self
        return self._changed(desired_status="STOPPED", stopping_at=now, stop_code=code, stopped_reason=reason)

    def passing(self, status: str) -> FargateTask:
        """It has one of the intermediate statuses before STOPPED."""
        return self._changed(last_status=status)

    def exited(self, now: float, exit_code: int) -> FargateTask:
        """The process has ended."""
        exited = self._changed(last_status="DEPROVISIONING", execution_stopped_at=now, exit_code=exit_code)
        return exited.asked_to_stop(now, code="EssentialContainerExited", reason="Essential container in task exited")

    def stopped(self, now: float) -> FargateTask:
        """It is STOPPED."""
        return self._changed(last_status="STOPPED", stopped_at=now)


def describe(task: FargateTask, *, with_tags: bool) -> dict[str, Any]:
    """A task in the answer of DescribeTasks."""
    launch, definition = task.launch, task.launch.definition
    described = {
        "taskArn": task.arn,
        "clusterArn": task.cluster_arn,
        "taskDefinitionArn": definition["taskDefinitionArn"],
        "overrides": {"containerOverrides": [], "inferenceAcceleratorOverrides": [], **launch.overrides},
        "lastStatus": task.last_status,
        "desiredStatus": task.desired_status,
        "cpu": launch.overrides.get("cpu", definition.get("cpu")),
        "memory": launch.overrides.get("memory", definition.get("memory")),
        "containers": [_describe_container(task)],
        "createdAt": task.created_at,
        "pullStartedAt": task.pull_started_at,
        "pullStoppedAt": task.started_at,
        "startedAt": task.started_at,
        "stoppingAt": task.stopping_at,
        "executionStoppedAt": task.execution_stopped_at,
        "stoppedAt": task.stopped_at,
        "stopCode": task.stop_code,
        "stoppedReason": task.stopped_reason,
        "connectivity": "CONNECTED" if task.started_at else None,
        "connectivityAt": task.started_at,
        "startedBy": launch.started_by,
        "group": launch.group,
        "launchType": launch.launch_type,
        "capacityProviderName": task.capacity_provider,
        "platformVersion": launch.platform_version,
        "platformFamily": "Linux",
        "availabilityZone": f"{launch.region}a",
        "attachments": [_describe_interface(task)],
        "enableExecuteCommand": False,
        "version": task.version,
        "tags": list(launch.tags) if with_tags else [],
    }
    return {name: value for name, value in described.items() if value is not None}


def _describe_container(task: FargateTask) -> dict[str, Any]:
    container = task.launch.container
    described = {
        "containerArn": arn(task.launch.region, f"container/{task.launch.cluster}/{task.task_id}/{container['name']}"),
        "taskArn": task.arn,
        "name": container["name"],
        "image": container["image"],
        "runtimeId": task.task_id if task.started_at else None,
        "lastStatus": _container_status(task),
        "exitCode": task.exit_code,  # absent while it runs, and if it never ran
        "networkInterfaces": [],
        "healthStatus": "UNKNOWN",
        "cpu": str(container.get("cpu", 0)),
    }
    return {name: value for name, value in described.items() if value is not None}


def _container_status(task: FargateTask) -> str:
    if task.exit_code is not None or task.is_stopped:
        return "STOPPED"
    return "RUNNING" if task.started_at else "PENDING"


def _describe_interface(task: FargateTask) -> dict[str, Any]:
    return {
        "id": task.task_id,
        "type": "ElasticNetworkInterface",
        "status": "DELETED" if task.is_stopped else "ATTACHED" if task.pull_started_at else "PRECREATED",
        "details": [{"name": "subnetId", "value": task.launch.subnet}] if task.launch.subnet else [],
    }


def metadata(task: FargateTask) -> dict[str, Any]:
    """The answer of the task metadata endpoint (version 4)."""
    definition, container = task.launch.definition, task.launch.container
    return {
        "Cluster": task.cluster_arn,
        "TaskARN": task.arn,
        "Family": definition["family"],
        "Revision": str(definition["revision"]),
        "DesiredStatus": task.desired_status,
        "KnownStatus": task.last_status,
        "LaunchType": task.launch.launch_type,
        "AvailabilityZone": f"{task.launch.region}a",
        "PullStartedAt": _rfc3339(task.pull_started_at),
        "PullStoppedAt": _rfc3339(task.started_at),
        "Containers": [
            {
                "DockerId": task.task_id,
                "Name": container["name"],
                "DockerName": container["name"],
                "Image": container["image"],
                "Labels": {
                    "com.amazonaws.ecs.cluster": task.cluster_arn,
                    "com.amazonaws.ecs.container-name": container["name"],
                    "com.amazonaws.ecs.task-arn": task.arn,
                    "com.amazonaws.ecs.task-definition-family": definition["family"],
                    "com.amazonaws.ecs.task-definition-version": str(definition["revision"]),
                },
                "DesiredStatus": task.desired_status,
                "KnownStatus": _container_status(task),
                "StartedAt": _rfc3339(task.started_at),
                "Type": "NORMAL",
            }
        ],
    }


def _rfc3339(moment: float | None) -> str | None:
    return None if moment is None else datetime.fromtimestamp(moment, UTC).isoformat().replace("+00:00", "Z")
