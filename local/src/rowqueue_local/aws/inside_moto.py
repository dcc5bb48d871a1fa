"""The only importer of moto: it reads moto's memory, repairs moto, and replaces parts of it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from moto.awslambda.exceptions import UnknownFunctionException
from moto.awslambda_simple.models import lambda_simple_backends
from moto.core.config import default_user_config
from moto.events.models import Rule as MotoRule
from moto.events.models import events_backends
from moto.iam.access_control import IAMPolicyStatement, PermissionResult
from moto.logs.models import LogGroup
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from moto.scheduler.models import scheduler_backends
from moto.sns.models import Subscription
from werkzeug.serving import make_server

from rowqueue_local.aws.errors import ApiError
from rowqueue_local.aws.events import Rule, Target, columns, event_time
from rowqueue_local.aws.fargate_tasks import ACCOUNT
from rowqueue_local.aws.lambda_model import Function
from rowqueue_local.aws.notifications import Notification
from rowqueue_local.aws.scheduler import Schedule

if TYPE_CHECKING:
    from collections.abc import Callable

    from werkzeug.serving import BaseWSGIServer

    from rowqueue_local.aws.events import Event

_log = logging.getLogger(__name__)


def new_server(host: str, port: int) -> BaseWSGIServer:
    """A server for all of moto; it accepts connections from now on."""
    moto = DomainDispatcherApplication(create_backend_app)
    return make_server(host, port, moto, threaded=True, request_handler=MotoRequestHandler)


def configure() -> None:
    """Configure moto, and repair two faults of it: a 403 for the product's requests, and the order of log events."""
    default_user_config["lambda"] = {"use_docker": False}  # otherwise CreateFunction looks for a Docker daemon
    default_user_config["iam"] = {"load_aws_managed_policies": True}
    is_action_permitted = IAMPolicyStatement.is_action_permitted

    def judged_by_condition(statement: Any, *args: Any, **kwargs: Any) -> Any:
        # moto 5.2.5 denies when the Condition of a Deny is *not* met, so the usual TLS-only bucket policy locks
        # everybody out. All traffic counts as TLS here, as on AWS, so such a Deny never applies.
        if _denies_plain_http(statement._statement):  # noqa: SLF001
            return PermissionResult.NEUTRAL
        return is_action_permitted(statement, *args, **kwargs)

    IAMPolicyStatement.is_action_permitted = judged_by_condition
    filter_log_events = LogGroup.filter_log_events

    def in_the_order_of_time(group: Any, *asked: Any) -> Any:
        # moto 5.2.5 lists one stream after the other unless the last parameter, "interleaved", is set. CloudWatch Logs
        # ignores it and always merges the streams (AWS, FilterLogEvents).
        return filter_log_events(group, *asked[:-1], True)

    LogGroup.filter_log_events = in_the_order_of_time


def _denies_plain_http(statement: dict[str, Any]) -> bool:
    conditions = statement.get("Condition", {})
    return statement["Effect"] == "Deny" and any("aws:SecureTransport" in tested for tested in conditions.values())


def hand_over(*, put: Callable[[Event, Rule], None], notify: Callable[[str, Notification], None]) -> None:
    """Replace two deliveries of moto: one ends in HTTP 500, the other looks for a Docker daemon.

    Args:
        put: called with an event of PutEvents for each rule of its bus.
        notify: called with the ARN of a subscribed function and the message.
    """
    publish = Subscription.publish

    def to_targets(rule: Any, event: Event, transform_input: bool = True) -> None:  # noqa: ARG001
        sent = {name: value for name, value in event.items() if name != "ingestion-time"}
        put(sent | {"time": event_time(event["time"])}, _rule(rule))

    def to_subscriber(subscription: Any, message: str, message_id: str, **published: Any) -> None:
        if subscription.protocol != "lambda":
            publish(subscription, message, message_id, **published)
        elif notification := _notification(subscription, message, message_id, published):
            notify(subscription.endpoint, notification)

    MotoRule.send_to_targets = to_targets
    Subscription.publish = to_subscriber


def _notification(subscription: Any, message: str, message_id: str, published: dict[str, Any]) -> Notification | None:
    """The message for a subscription; None if its filter policy rejects it."""
    attributes, matcher = published.get("message_attributes") or {}, subscription._filter_policy_matcher  # noqa: SLF001
    if matcher is not None and not matcher.matches(attributes, message):
        return None
    if published.get("message_structure") == "json":
        message = subscription._parse_message_structure(message, "lambda")  # noqa: SLF001
    return Notification(
        subscription_arn=subscription.arn,
        topic_arn=subscription.topic_arn,
        message_id=message_id,
        message=message,
        subject=published.get("subject"),
        attributes=attributes,
    )


def rules_of(region: str) -> list[Rule]:
    """The rules with a pattern of a region's default event bus."""
    backend = events_backends[ACCOUNT].get(region)
    return [_rule(rule) for rule in list(backend.event_buses["default"].rules.values())] if backend else []


def _rule(rule: Any) -> Rule:
    pattern = rule.event_pattern

    def matches(event: Event) -> bool:
        try:
            return bool(pattern.get_pattern()) and pattern.matches_event(columns(event))
        except (LookupError, TypeError, ValueError, AttributeError) as error:  # moto's PutRule checks hardly anything
            _log.warning("%s: its pattern cannot be read here, %s: %s", rule.arn, type(error).__name__, error)
            return False

    return Rule(
        arn=rule.arn,
        enabled=rule.state != "DISABLED",
        matches=matches,
        targets=tuple(
            Target(
                arn=target["Arn"],
                input=target.get("Input"),
                reshaped="InputPath" in target or "InputTransformer" in target,
            )
            for target in list(rule.targets)
        ),
    )


def find_function(region: str, name: str, qualifier: str | None) -> Function | None:
    """Read a function from moto's memory, because no API answers the bytes of its code."""
    try:
        found = lambda_simple_backends[ACCOUNT][region].get_function(name, qualifier)
    except UnknownFunctionException:
        return None
    if found.package_type != "Zip":
        raise ApiError("InvalidRuntimeException", "the stand-in runs functions of zip files only", status=502)
    event_config = found.event_invoke_config[-1].config if found.event_invoke_config else {}
    return Function(
        arn=f"arn:aws:lambda:{region}:{ACCOUNT}:function:{found.function_name}",
        name=found.function_name,
        version=str(found.version),
        region=region,
        handler=found.handler,
        runtime=found.run_time,
        memory_mb=int(found.memory_size),
        timeout_seconds=int(found.timeout),
        variables=tuple(sorted(found.environment_vars.items())),
        code_sha256=found.code_sha_256,
        code=found.code_bytes,
        reserved_concurrency=None if found.reserved_concurrency is None else int(found.reserved_concurrency),
        maximum_retry_attempts=event_config.get("MaximumRetryAttempts", 2),
        maximum_event_age_seconds=event_config.get("MaximumEventAgeInSeconds", 21_600),
    )


def enabled_schedules() -> list[Schedule]:
    """Read the schedules of all regions from moto's memory; API calls twice a second would be too slow."""
    return [
        Schedule(
            arn=schedule.arn,
            region=region,
            expression=schedule.schedule_expression,
            target=schedule.target["Arn"],
            input=schedule.target.get("Input") or "{}",
            bounded=bool(schedule.start_date or schedule.end_date),
        )
        for region, backend in list(scheduler_backends[ACCOUNT].items())
        for group in list(backend.schedule_groups.values())
        for schedule in list(group.schedules.values())
        if schedule.state == "ENABLED"
    ]
