"""Why the function was invoked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rowqueue.errors import EventError
from rowqueue.poller.triggers import Refusal, TaskStopped, Tick, trigger_of

ARN = "arn:aws:ecs:eu-west-1:123456789012:task/dev-snowflake-processor/0123456789abcdef0123456789abcdef"


def stopped(**detail):
    return {"source": "aws.ecs", "detail-type": "ECS Task State Change", "detail": {"taskArn": ARN} | detail}


def request(*, method="POST", path="/trigger", authorizer=None):
    signed = {"iam": {"userArn": "arn:aws:iam::1:user/me"}}
    context = {"http": {"method": method, "path": path}, "authorizer": signed if authorizer is None else authorizer}
    return {"version": "2.0", "rawPath": path, "requestContext": context, "body": '{"source": "aws.ecs"}'}


def push(source="aws:sns"):
    return {"Records": [{"EventSource": source, "Sns": {"Message": '{"source": "aws.ecs"}'}}]}


@pytest.mark.parametrize("event", [{}, None])
def test_an_empty_event_is_a_tick(event):
    assert trigger_of(event) == Tick(by="schedule")


def test_a_stopped_task_is_named_by_the_envelope():
    assert trigger_of(stopped()) == TaskStopped(task_arn=ARN)


def test_a_notification_is_a_push_whatever_its_content():
    assert trigger_of(push()) == Tick(by="push")


def test_a_signed_post_to_the_url_is_a_tick_whatever_its_content():
    assert trigger_of(request()) == Tick(by="url")


@pytest.mark.parametrize(
    ("event", "status"),
    [
        (request(method="GET"), 405),
        (request(path="/"), 404),
        (request(authorizer={}), 403),  # a URL without AWS_IAM
        (request(authorizer={"iam": None}), 403),
        (request(authorizer="me"), 403),
        ({"rawPath": "/trigger", "requestContext": None}, 403),
    ],
)
def test_another_request_to_the_url_is_answered_with_what_was_expected(event, status):
    refusal = trigger_of(event)
    assert isinstance(refusal, Refusal)
    assert refusal.status == status
    assert "expected" in refusal.message


@pytest.mark.parametrize(
    "event",
    [
        stopped(taskArn="canary; DROP TABLE"),
        stopped(taskArn=None),
        stopped() | {"detail": "canary"},
        stopped() | {"detail-type": "ECS Service Action"},
        push(source="aws:sqs"),
        {"Records": []},
        {"Records": ["canary"]},
        {"canary": 1},
        [],
        "{}",
        0,
        False,
    ],
)
def test_anything_else_is_refused_by_its_outline(event):
    with pytest.raises(EventError, match=r"expected"):
        trigger_of(event)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)
KEYS = st.sampled_from(["source", "detail-type", "detail", "Records", "requestContext", "rawPath", "x"])
VALUES = JSON | st.sampled_from(["aws.ecs", "ECS Task State Change", "/trigger", [{"EventSource": "aws:sns"}]])


@given(event=JSON | st.dictionaries(KEYS, VALUES))
def test_any_event_is_a_trigger_or_is_refused_and_never_crashes(event):
    try:
        trigger_of(event)
    except EventError as refused:
        message = str(refused)
    else:
        return
    assert len(message) < 1000
