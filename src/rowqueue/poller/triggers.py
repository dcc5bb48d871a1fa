"""Why the function was invoked. Only the envelope that AWS builds decides; the sender's content is ignored."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from rowqueue.errors import EventError

_TASK_ARN = re.compile(r"arn:[\w-]+:ecs:[\w-]+:\d+:task/[\w./-]{1,500}")
_SNS = "aws:sns"
_PATH = "/trigger"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """Run a tick now.

    Attributes:
        by: ``schedule`` (or a person's empty event), ``push`` (SNS) or ``url``.
    """

    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskStopped:
    """An event says that a task has stopped. ECS is asked whether that is true.

    Attributes:
        task_arn: the task.
    """

    task_arn: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A request to the function's URL that it does not serve.

    Attributes:
        status: the HTTP status of the answer.
        message: what was expected.
    """

    status: int
    message: str


Trigger = Tick | TaskStopped | Refusal

_FORBIDDEN, _NOT_FOUND, _WRONG_METHOD = 403, 404, 405


def trigger_of(event: Any) -> Trigger:
    """What an event asks for.

    Args:
        event: as Lambda hands it in.

    Raises:
        EventError: the event is unknown, so a trigger that is configured wrongly becomes visible. The message has the
            outline of the event but none of its values: they may be secret.
    """
    if event in ({}, None) and not isinstance(event, bool):
        return Tick(by="schedule")
    if isinstance(event, dict):
        if event.get("source") == "aws.ecs" and event.get("detail-type") == "ECS Task State Change":
            return _task_stopped(event)
        if _is_push(event.get("Records")):
            return Tick(by="push")
        if "requestContext" in event and "rawPath" in event:
            return _request(event)
    raise EventError(
        "expected an empty event {}, an ECS task state change, an SNS notification or a request to the function's URL, "
        f"got {_outline(event)}"
    )


def _task_stopped(event: dict[str, Any]) -> TaskStopped:
    detail = event.get("detail")
    arn = detail.get("taskArn") if isinstance(detail, dict) else None
    if not isinstance(arn, str) or not _TASK_ARN.fullmatch(arn):
        raise EventError("ECS task state change: expected the ARN of a task in detail.taskArn")
    return TaskStopped(task_arn=arn)


def _is_push(records: Any) -> bool:
    return (
        isinstance(records, list)
        and bool(records)
        and all(isinstance(record, dict) and record.get("EventSource") == _SNS for record in records)
    )


def _request(event: dict[str, Any]) -> Tick | Refusal:
    """A function URL's payload, format 2.0. Lambda has checked the signature where it names an IAM identity."""
    context = event["requestContext"] if isinstance(event["requestContext"], dict) else {}
    http = context.get("http")
    authorizer = context.get("authorizer")
    if not isinstance(authorizer, dict) or not authorizer.get("iam"):
        return Refusal(status=_FORBIDDEN, message="expected a request signed with IAM credentials")
    if event["rawPath"] != _PATH:
        return Refusal(status=_NOT_FOUND, message=f"expected POST {_PATH}")
    if not isinstance(http, dict) or http.get("method") != "POST":
        return Refusal(status=_WRONG_METHOD, message=f"expected POST {_PATH}")
    return Tick(by="url")


def _outline(event: Any) -> str:
    if isinstance(event, dict):
        return f"an object with {', '.join(sorted(map(str, event))[:5])}"
    return f"a {type(event).__name__}"
