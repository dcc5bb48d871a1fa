"""EventBridge: the events of tasks, the rules, and the payloads of targets."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rowqueue_local.aws.fargate_tasks import ACCOUNT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

Event = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Target:
    """A target of a rule.

    Attributes:
        arn: of a function, or of a target that is not run here.
        input: the JSON that it gets instead of the event, if any.
        reshaped: whether it asks for a part of the event or a text made from it, which is not supported here.
    """

    arn: str
    input: str | None = None
    reshaped: bool = False

    @property
    def is_run_here(self) -> bool:
        """Whether this stand-in supports the target."""
        return ":lambda:" in self.arn and not self.reshaped


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A rule with a pattern.

    Attributes:
        arn: its ARN.
        enabled: whether it is ENABLED.
        matches: whether an event matches its pattern.
        targets: where it sends matching events.
    """

    arn: str
    enabled: bool
    matches: Callable[[Event], bool]
    targets: Sequence[Target]


def deliveries(event: Event, rules: Iterable[Rule]) -> list[tuple[Rule, Target]]:
    """The targets of an event: all targets of every enabled rule that it matches."""
    return [(rule, target) for rule in rules if rule.enabled and rule.matches(event) for target in rule.targets]


def payload_of(event: Event, target: Target) -> str:
    """The payload of a target, as JSON."""
    return json.dumps(event) if target.input is None else target.input


def task_event(described: Mapping[str, Any], *, region: str, now: float, event_id: str) -> Event:
    """The event "ECS Task State Change" of a task, as in the ECS developer guide (ecs_task_events).

    Args:
        described: the task as DescribeTasks answers it, without tags, its times in seconds since the epoch.
        region: where it is.
        now: when it changed, seconds since the epoch.
        event_id: unique; copies of one event share it.
    """
    detail = {name: iso_time(value) if name.endswith("At") else value for name, value in described.items()}
    del detail["tags"]
    # DescribeTasks and the event use different names for this.
    detail["attachments"] = [{**attachment, "type": "eni"} for attachment in described["attachments"]]
    return {
        "version": "0",
        "id": event_id,
        "detail-type": "ECS Task State Change",
        "source": "aws.ecs",
        "account": ACCOUNT,
        "time": event_time(now),
        "region": region,
        "resources": [described["taskArn"]],
        "detail": {**detail, "updatedAt": iso_time(now)},
    }


def event_time(now: float) -> str:
    """A time in an event: whole seconds."""
    return f"{datetime.fromtimestamp(now, UTC):%Y-%m-%dT%H:%M:%SZ}"


def columns(value: Any) -> Any:
    """The event with each list of objects turned into an object of lists.

    EventBridge matches each object of a list, but moto's matcher does not. This form loses which fields belong to the
    same object, which EventBridge checks. That does not matter here, because a task has one container.
    """
    if isinstance(value, dict):
        return {name: columns(member) for name, member in value.items()}
    if not isinstance(value, list) or not any(isinstance(member, dict) for member in value):
        return value
    gathered: dict[str, list[Any]] = {}
    for member in value:
        for name, inner in member.items() if isinstance(member, dict) else ():
            gathered.setdefault(name, []).extend(inner if isinstance(inner, list) else [inner])
    return columns(gathered)


def iso_time(moment: float) -> str:
    """A time inside an event in AWS's form: milliseconds, UTC."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
