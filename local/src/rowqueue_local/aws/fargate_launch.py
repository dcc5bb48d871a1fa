"""What RunTask accepts: a request, judged as ECS judges it, becomes a launch."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from rowqueue_local.aws.errors import ApiError, invalid_parameter
from rowqueue_local.aws.fargate_tasks import PLATFORM_VERSION, Launch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Limits of the ECS API reference, RunTask.
_MAX_COUNT = 10
_MAX_STARTED_BY = 128  # characters
_MAX_OVERRIDES = 8192  # characters, those of the JSON itself included

# What a container definition may say and this stand-in can not do; better refused than silently left out.
_NOT_RUN_HERE = ("entryPoint", "environmentFiles")


def count_of(request: Mapping[str, Any]) -> int:
    """How many tasks are asked for."""
    count = int(request.get("count", 1))
    if not 1 <= count <= _MAX_COUNT:
        raise invalid_parameter(f"Count must be between 1 and {_MAX_COUNT}.")
    return count


def launch_of(request: Mapping[str, Any], *, region: str, cluster: str, described: Mapping[str, Any]) -> Launch:
    """Judge a RunTask request.

    Args:
        request: its parameters.
        region: the region it was sent to.
        cluster: the name of the cluster, which exists.
        described: what DescribeTaskDefinition answers for the task definition it names, tags included.

    Raises:
        ApiError: ECS would refuse the request, or this stand-in can not run such a task.
    """
    definition = described["taskDefinition"]
    _check_definition(definition)
    _check_texts(request, definition["containerDefinitions"][0]["name"])
    own_tags = described.get("tags", ()) if request.get("propagateTags") == "TASK_DEFINITION" else ()
    tags = {tag["key"]: tag for tag in (*own_tags, *request.get("tags", ()))}
    version = request.get("platformVersion", "LATEST")
    return Launch(
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
        raise invalid_parameter("subnets can not be empty.")
    return str(network["subnets"][0])


def providers_of(request: Mapping[str, Any], cluster: Mapping[str, Any], count: int) -> list[str | None]:
    """The capacity provider of each task; None under a plain launch type.

    Args:
        request: the parameters of the RunTask.
        cluster: as DescribeClusters answers it; its default strategy serves where the request says nothing.
        count: how many tasks.
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
    if not strategy:  # the launch type is then EC2, and nobody has instances here
        raise invalid_parameter("No Container Instances were found in your cluster.")
    for item in strategy:
        if item["capacityProvider"] not in cluster.get("capacityProviders", ()):
            raise invalid_parameter(
                f"The specified capacity provider '{item['capacityProvider']}' was not found. "
                "Specify a valid name or ARN and try again."
            )
    return [*_spread(strategy, count)]


def _spread(strategy: Sequence[Mapping[str, Any]], count: int) -> list[str]:
    """The bases first, then always the provider that is furthest behind its weight. All of it per RunTask call."""
    chosen = [item["capacityProvider"] for item in strategy for _ in range(item.get("base", 0))][:count]
    weighted = {item["capacityProvider"]: item.get("weight", 0) for item in strategy if item.get("weight", 0) > 0}
    shares = dict.fromkeys(weighted, 0)
    if len(chosen) < count and not weighted:
        raise invalid_parameter("The weights of a capacity provider strategy can not all be 0.")
    while len(chosen) < count:
        behind = min(weighted, key=lambda name: (shares[name] + 1) / weighted[name])
        shares[behind] += 1
        chosen.append(behind)
    return chosen
