"""Checks the request of a RunTask as ECS does."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from rowqueue_local.aws.errors import ApiError, invalid_parameter
from rowqueue_local.aws.fargate_tasks import PLATFORM_VERSION, TaskLaunch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Limits of the ECS API reference, RunTask.
_MAX_COUNT = 10
_MAX_STARTED_BY = 128  # characters
_MAX_OVERRIDES = 8192  # characters of the JSON

# Keys of a container definition that this stand-in does not support; it refuses them instead of ignoring them.
_NOT_RUN_HERE = ("entryPoint", "environmentFiles")


def count_of(request: Mapping[str, Any]) -> int:
    """The number of requested tasks."""
    count = int(request.get("count", 1))
    if not 1 <= count <= _MAX_COUNT:
        raise invalid_parameter(f"Count must be between 1 and {_MAX_COUNT}.")
    return count


def launch_of(request: Mapping[str, Any], *, region: str, cluster: str, described: Mapping[str, Any]) -> TaskLaunch:
    """Check a RunTask request.

    Args:
        request: its parameters.
        region: the region it was sent to.
        cluster: the name of an existing cluster.
        described: the answer of DescribeTaskDefinition with tags.

    Raises:
        ApiError: ECS would refuse the request, or this stand-in cannot run such a task.
    """
    definition = described["taskDefinition"]
    _check_definition(definition)
    _check_texts(request, definition["containerDefinitions"][0]["name"])
    own_tags = described.get("tags", ()) if request.get("propagateTags") == "TASK_DEFINITION" else ()
    tags = {tag["key"]: tag for tag in (*own_tags, *request.get("tags", ()))}
    version = request.get("platformVersion", "LATEST")
    return TaskLaunch(
        region=region,
        cluster=cluster,
        definition=definition,
        overrides=request.get("overrides", {}),
        group=request.get("group") or f"family:{definition['family']}",
        platform_version=PLATFORM_VERSION if version == "LATEST" else version,
        started_by=request.get("startedBy"),
        subnet=_subnet(request),
        tags=tuple(tags.values()),
    )


def _check_definition(definition: Mapping[str, Any]) -> None:
    if definition.get("status") != "ACTIVE":
        raise invalid_parameter("TaskDefinition is inactive")
    if "FARGATE" not in definition.get("compatibilities", ()):
        raise invalid_parameter("Task definition does not support launch_type FARGATE.")
    containers = definition["containerDefinitions"]
    if len(containers) > 1:
        raise ApiError("UnsupportedFeatureException", "the stand-in runs tasks of one container only")
    for name in _NOT_RUN_HERE:
        if containers[0].get(name):
            raise ApiError("UnsupportedFeatureException", f"the stand-in does not know a container's {name}")


def _check_texts(request: Mapping[str, Any], container: str) -> None:
    overrides = request.get("overrides", {})
    for override in overrides.get("containerOverrides", ()):
        if override.get("name") != container:
            raise invalid_parameter(
                f"Override for container named {override.get('name')} is not a container in the TaskDefinition."
            )
    if len(json.dumps(overrides, separators=(",", ":"))) > _MAX_OVERRIDES:
        raise invalid_parameter(f"Container Overrides length must be at most {_MAX_OVERRIDES}")
    if len(request.get("startedBy") or "") > _MAX_STARTED_BY:
        raise invalid_parameter(f"startedBy must be at most {_MAX_STARTED_BY} characters long.")


def _subnet(request: Mapping[str, Any]) -> str:
    network = request.get("networkConfiguration", {}).get("awsvpcConfiguration")
    if network is None:
        raise invalid_parameter("Network Configuration must be provided when networkMode 'awsvpc' is specified.")
    if not network.get("subnets"):
        raise invalid_parameter("subnets cannot be empty.")
    return str(network["subnets"][0])


def providers_of(request: Mapping[str, Any], cluster: Mapping[str, Any], count: int) -> list[str | None]:
    """The capacity provider of each task; None for a plain launch type.

    Args:
        request: the parameters of the RunTask.
        cluster: the answer of DescribeClusters; it has the default strategy.
        count: number of tasks.
    """
    strategy = request.get("capacityProviderStrategy")
    launch_type = request.get("launchType")
    if strategy and launch_type:
        raise invalid_parameter(
            "Specifying both a launch type and capacity provider strategy is not supported. Remove one and try again."
        )
    if launch_type == "FARGATE":
        return [None] * count
    strategy = strategy or (cluster.get("defaultCapacityProviderStrategy") if launch_type is None else None)
    if not strategy:  # then the launch type is EC2, and there are no instances here
        raise invalid_parameter("No Container Instances were found in your cluster.")
    for item in strategy:
        if item["capacityProvider"] not in cluster.get("capacityProviders", ()):
            raise invalid_parameter(
                f"The specified capacity provider '{item['capacityProvider']}' was not found. "
                "Specify a valid name or ARN and try again."
            )
    return [*_spread(strategy, count)]


def _spread(strategy: Sequence[Mapping[str, Any]], count: int) -> list[str]:
    """First the bases, then each time the provider that is furthest behind its weight; counted for each RunTask."""
    chosen = [item["capacityProvider"] for item in strategy for _ in range(item.get("base", 0))][:count]
    weighted = {item["capacityProvider"]: item.get("weight", 0) for item in strategy if item.get("weight", 0) > 0}
    shares = dict.fromkeys(weighted, 0)
    if len(chosen) < count and not weighted:
        raise invalid_parameter("The weights of a capacity provider strategy cannot all be 0.")
    while len(chosen) < count:
        behind = min(weighted, key=lambda name: (shares[name] + 1) / weighted[name])
        shares[behind] += 1
        chosen.append(behind)
    return chosen
