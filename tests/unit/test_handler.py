"""The Lambda's entry point, as far as it works without Snowflake and AWS."""

from __future__ import annotations

import json

import pytest

import index
from rowqueue.errors import EventError, SettingsError


@pytest.mark.parametrize(
    ("event", "outline"),
    [
        ({"source": "aws.s3", "detail": {"secret": "canary"}}, "an object with detail, source"),
        ({"Records": [1]}, "an object with Records"),
        ([], "a list"),
        (["x"], "a list"),
        ("{}", "a str"),
        (7, "a int"),
        (0, "a int"),
        (False, "a bool"),
    ],
)
def test_an_unknown_event_is_refused_with_its_outline(event, outline, capsys):
    with pytest.raises(EventError) as caught:
        index.handler(event, None)
    assert str(caught.value).endswith(f"got {outline}")
    line = json.loads(capsys.readouterr().out)
    assert (line["event"], line["level"], line["TicksFailed"]) == ("tick_failed", "warning", 1)
    assert "canary" not in json.dumps(line)


@pytest.mark.parametrize("event", [{}, None])
def test_an_empty_event_is_a_tick_and_all_missing_settings_are_named(event, capsys):
    with pytest.raises(SettingsError) as caught:
        index.handler(event, None)
    named = [problem.split(":")[0] for problem in caught.value.problems]
    assert named[:5] == ["ENVIRONMENT", "ECS_CLUSTER", "ECS_TASK_DEFINITION", "ECS_SUBNETS", "ECS_SECURITY_GROUP"]
    assert json.loads(capsys.readouterr().out)["kind"] == "SettingsError"


def test_a_request_to_the_url_that_is_refused_needs_neither_settings_nor_snowflake():
    event = {"rawPath": "/trigger", "requestContext": {"http": {"method": "POST"}}}
    answer = index.handler(event, None)
    assert answer["statusCode"] == 403
    assert json.loads(answer["body"]) == {"message": "expected a request signed with IAM credentials"}
