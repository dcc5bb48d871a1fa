"""Settings are read together, checked together, and explained together."""

from __future__ import annotations

import pytest

from rowqueue.environment import Secret
from rowqueue.errors import SettingsError
from rowqueue.settings import PollerSettings, ProcessorSettings

SNOWFLAKE = {
    "SNOWFLAKE_ACCOUNT": "myorg-account",
    "SNOWFLAKE_WAREHOUSE": "WH",
    "SNOWFLAKE_DATABASE": "DB",
    "SNOWFLAKE_SCHEMA": "PUBLIC",
    "SNOWFLAKE_TABLE": "PROCESSING_QUEUE",
}
POLLER = SNOWFLAKE | {
    "ENVIRONMENT": "dev",
    "ECS_CLUSTER": "dev-snowflake-processor",
    "ECS_TASK_DEFINITION": "dev-snowflake-processor",
    "ECS_SUBNETS": '["subnet-1"]',
    "ECS_SECURITY_GROUP": "sg-1",
    "LEASE_BUCKET": "lease",
}
PROCESSOR = SNOWFLAKE | {
    "ENVIRONMENT": "dev",
    "CERT_BUCKET": "dev-snowflake-processor-certs",
    "EXTERNAL_SERVICE_URL": "https://api.example.com/process",
    "SNOWFLAKE_USER": "processor",
    "SNOWFLAKE_PASSWORD": "canary-5f1c",
}


def problems(settings, environ):
    with pytest.raises(SettingsError) as caught:
        settings.from_env(environ)
    return caught.value.problems


def test_the_defaults_apply_when_only_what_is_required_is_given():
    poller, processor = PollerSettings.from_env(POLLER), ProcessorSettings.from_env(PROCESSOR)
    assert (poller.entries_per_container, poller.max_containers, poller.stale_threshold_s) == (8, 25, 1800)
    assert (processor.entries_per_container, processor.budget_s, processor.service_timeout_s) == (8, 60, 30)
    assert poller.max_retries == processor.max_retries == 3


def test_every_missing_setting_is_named_in_one_message():
    named = [problem.split(":")[0] for problem in problems(ProcessorSettings, {})]
    assert named == [
        "ENVIRONMENT",
        "CERT_BUCKET",
        "EXTERNAL_SERVICE_URL",
        "SNOWFLAKE_ACCOUNT",
        "SNOWFLAKE_WAREHOUSE",
        "SNOWFLAKE_DATABASE",
        "SNOWFLAKE_SCHEMA",
    ]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("MAX_CONTAINERS", "many", "MAX_CONTAINERS: expected a whole number from 0 to 5000, got 'many'"),
        ("MAX_CONTAINERS", "-1", "MAX_CONTAINERS: expected a whole number from 0 to 5000, got '-1'"),
        ("ENTRIES_PER_CONTAINER", "0", "ENTRIES_PER_CONTAINER: expected a whole number from 1 to 10000, got '0'"),
        ("STALE_THRESHOLD_MINUTES", "nan", "STALE_THRESHOLD_MINUTES: expected a number from 0.01 to 1440, got 'nan'"),
        (
            "ECS_SUBNETS",
            "subnet-1",
            'ECS_SUBNETS: expected a JSON array of strings like ["subnet-1", "subnet-2"], got \'subnet-1\'',
        ),
        (
            "SNOWFLAKE_TABLE",
            "Q; DROP TABLE Q",
            (
                "SNOWFLAKE_TABLE: expected a Snowflake identifier: letters, digits, _ and $, not a digit first, "
                "got 'Q; DROP TABLE Q'"
            ),
        ),
        (
            "SNOWFLAKE_TABLE",
            "processing_holds",
            (
                "SNOWFLAKE_TABLE: expected a name for the queue, because PROCESSING_HOLDS is another table or view of "
                "this program, got 'processing_holds'"
            ),
        ),
        ("ENVIRONMENT", "Dev Box", "ENVIRONMENT: expected a short name like dev, staging or prod, got 'Dev Box'"),
    ],
)
def test_a_malformed_setting_is_reported_with_what_was_expected_and_what_was_given(name, value, expected):
    assert problems(PollerSettings, POLLER | {name: value}) == [expected]


@pytest.mark.parametrize(
    "url", ["http://api.example.com/", "https://", "api.example.com", "https://me:pw@host/", "https://host:99999/"]
)
def test_a_service_url_without_tls_or_with_a_password_in_it_is_refused(url):
    assert problems(ProcessorSettings, PROCESSOR | {"EXTERNAL_SERVICE_URL": url})[0].startswith("EXTERNAL_SERVICE_URL")


def test_a_password_in_a_url_is_not_shown_where_it_is_refused():
    for url in ("https://bob:canary@partner/", "https://:canary@partner/", "http://bob:canary@partner/"):
        (problem,) = problems(ProcessorSettings, PROCESSOR | {"EXTERNAL_SERVICE_URL": url})
        assert problem.startswith("EXTERNAL_SERVICE_URL: expected a URL like https://")
        assert "canary" not in problem


def test_a_stale_threshold_shorter_than_a_tasks_life_is_refused():
    (problem,) = problems(ProcessorSettings, PROCESSOR | {"STALE_THRESHOLD_MINUTES": "2"})
    assert problem.startswith("STALE_THRESHOLD_MINUTES: expected more than the 360 s that a task may live")
    assert "got 120 s" in problem


def test_a_grace_that_leaves_no_time_for_the_last_flush_is_refused():
    (problem,) = problems(ProcessorSettings, PROCESSOR | {"STOP_GRACE_SECONDS": "110"})
    assert problem.startswith("STOP_GRACE_SECONDS: expected at most 70")


def test_no_formatting_shows_a_secret():
    settings = ProcessorSettings.from_env(PROCESSOR)
    shown = f"{settings} {settings!r} {settings.snowflake.password} %s" % settings.snowflake.password
    assert "canary-5f1c" not in shown
    assert Secret("canary").reveal() == "canary"
