"""The plans, checked with our settings classes, with ECS's API model and with the list of metrics."""

from __future__ import annotations

import dataclasses
import json
import re

import botocore.session
import pytest
from botocore.validate import ParamValidator
from terraform.known_metrics import AWS
from terraform.workbench import CONFIGURATION, PATIENT

from rowqueue.environment import secret
from rowqueue.observability import NAMESPACE, Metric
from rowqueue.settings import PollerSettings, ProcessorSettings, longest_life_s

pytestmark = PATIENT

FUNCTION = "aws_lambda_function.poller"
TASK = "aws_ecs_task_definition.processor"
LOGINS = ("key_pair", "a_key_with_a_passphrase", "password", "workload_identity")
CLIENT_KEYS = ("a_client_key_with_a_passphrase", "a_client_key_with_a_passphrase_and_a_key_pair")
RUNS = LOGINS + CLIENT_KEYS


@pytest.fixture
def plan(tested):
    return tested.plans["defaults"]


def of_the_function(plan):
    return plan.resources[FUNCTION]["environment"][0]["variables"]


def of_the_task(plan):
    """The container's environment: its variables, and a placeholder for each secret."""
    container = container_of(plan)
    plain = {pair["name"]: pair["value"] for pair in container["environment"]}
    secrets = {pair["name"]: "a secret" for pair in container["secrets"]}
    assert not plain.keys() & secrets.keys()
    return plain | secrets


def container_of(plan):
    return json.loads(plan.resources[TASK]["container_definitions"])[0]


def read_by(settings):
    """The names of the variables that a settings class reads."""
    for item in dataclasses.fields(settings):
        if nested := item.metadata.get("nested"):
            yield from read_by(nested)
        else:
            yield item.metadata["name"]


def without_login(settings):
    login = dict.fromkeys(("authentication", "user", "password", "private_key", "private_key_passphrase", "role"))
    return dataclasses.replace(settings, snowflake=dataclasses.replace(settings.snowflake, **login))


# The environments


@pytest.mark.parametrize("login", RUNS)
def test_the_poller_accepts_its_environment(tested, login):
    settings = PollerSettings.from_env(of_the_function(tested.plans[login]))
    assert settings.cluster == "dev-snowflake-processor"
    assert settings.task_definition.endswith(":7")  # a revision, so that function and task change together


@pytest.mark.parametrize("login", RUNS)
def test_the_processor_accepts_its_environment(tested, login):
    settings = ProcessorSettings.from_env(of_the_task(tested.plans[login]))
    assert (settings.cert_bucket, settings.service_url) == ("mock-certs", "https://partner.example.com/process")


@pytest.mark.parametrize("login", RUNS)
def test_every_variable_that_is_passed_is_read(tested, login):
    plan = tested.plans[login]
    assert of_the_function(plan).keys() - set(read_by(PollerSettings)) == set()
    assert of_the_task(plan).keys() - set(read_by(ProcessorSettings)) == {"AWS_DEFAULT_REGION"}


def test_the_defaults_are_those_of_the_settings_classes(plan):
    for settings, passed in ((PollerSettings, of_the_function(plan)), (ProcessorSettings, of_the_task(plan))):
        needed = {name: value for name, value in passed.items() if name in required_by(settings)}
        assert without_login(settings.from_env(passed)) == without_login(settings.from_env(needed))


def required_by(settings):
    for item in dataclasses.fields(settings):
        if nested := item.metadata.get("nested"):
            yield from required_by(nested)
        elif item.default is dataclasses.MISSING:
            yield item.metadata["name"]


def test_every_variable_reaches_the_programs_that_read_it(tested):
    """The run other_values sets each variable to a value that is not its default."""
    poller = PollerSettings.from_env(of_the_function(tested.plans["other_values"]))
    processor = ProcessorSettings.from_env(of_the_task(tested.plans["other_values"]))
    for settings, role in ((poller, "OTHER_POLLER"), (processor, "OTHER_PROCESSOR")):
        place = settings.snowflake
        assert [place.warehouse, place.database, place.schema] == ["OTHER_WH", "OTHER_DB", "OTHER"]
        assert [place.table, place.role] == ["OTHER_QUEUE", role]
        assert [settings.budget_s, settings.service_timeout_s, settings.max_retries] == [61, 31, 4]
        assert settings.stale_threshold_minutes == 31
    assert [poller.entries_per_container, poller.max_containers, poller.max_crashes] == [9, 26, 3]
    assert [poller.boot_deadline_s, poller.spot_percent, poller.tick_s, poller.adaptive] == [181, 50, 120, True]
    assert processor.concurrency == 33


def test_one_user_for_both_programs_gets_the_name_of_its_role(tested):
    for login in ("key_pair", "password"):
        roles = [passed["SNOWFLAKE_ROLE"] for passed in environments(tested.plans[login])]
        assert roles == ["QUEUE_DB_POLLER", "QUEUE_DB_PROCESSOR"]  # as snowflake/00_roles.sql names them
    assert [passed.get("SNOWFLAKE_ROLE") for passed in environments(tested.plans["workload_identity"])] == [None, None]


def environments(plan):
    return of_the_function(plan), of_the_task(plan)


def test_the_poller_and_the_processor_get_the_same_values(tested):
    for plan in tested.plans.values():
        if FUNCTION in plan.resources:
            poller, processor = of_the_function(plan), of_the_task(plan)
            shared = (poller.keys() & processor.keys()) - {"SNOWFLAKE_ROLE"}
            assert len(shared) >= 11
            assert {name: poller[name] for name in shared} == {name: processor[name] for name in shared}


def test_terraform_and_the_settings_agree_on_the_longest_life_of_a_task():
    variables = (CONFIGURATION / "variables.tf").read_text(encoding="utf-8")
    terms = re.search(r"\* 60 > var\.container_timeout_seconds \+ var\.service_timeout_seconds \+ (\d+)", variables)
    assert float(terms[1]) == longest_life_s(budget_s=0, service_timeout_s=0)


# The credentials


def test_the_secret_is_written_again_when_the_login_changes(tested):
    at = "aws_secretsmanager_secret_version.snowflake[0]"
    editions = {login: tested.plans[login].resources[at]["secret_string_wo_version"] for login in LOGINS[:3]}
    assert len(set(editions.values())) == 3
    assert tested.plans["defaults"].resources[at]["secret_string_wo_version"] == editions["key_pair"]


@pytest.mark.parametrize("login", RUNS)
def test_no_plan_contains_a_secret(tested, login):
    planned = json.dumps(tested.plans[login].resources)
    assert "dev-snowflake" in planned
    assert not re.search("not a (key|passphrase|password)", planned)


# The task


def test_ecs_knows_every_key_of_the_container_definition(plan):
    model = botocore.session.get_session().get_service_model("ecs").operation_model("RegisterTaskDefinition")
    shape = model.input_shape.members["containerDefinitions"]
    definitions = [container_of(plan)]
    assert not ParamValidator().validate(definitions, shape).has_errors()
    assert list(unknown_keys(shape, definitions)) == []
    assert list(unknown_keys(shape, [{"enviroment": []}])) == ["enviroment"]


def unknown_keys(shape, value):
    if shape.type_name == "list":
        for item in value:
            yield from unknown_keys(shape.member, item)
    elif shape.type_name == "structure":
        for key, inner in value.items():
            if key in shape.members:
                yield from unknown_keys(shape.members[key], inner)
            else:
                yield key


def test_every_setting_that_is_a_secret_is_refused_as_a_plain_setting():
    text = (CONFIGURATION / "secrets.tf").read_text(encoding="utf-8")
    (table,) = re.findall(r"variables_of_secrets = \{\n(.*?)\n  \}", text, re.DOTALL)
    refused = dict(re.findall(r'(\w+) += "(\w+)"', table))
    assert refused.keys() == set(secrets_of(PollerSettings)) | set(secrets_of(ProcessorSettings))
    assert refused == {name: name.lower() for name in refused}


def secrets_of(settings):
    for item in dataclasses.fields(settings):
        if nested := item.metadata.get("nested"):
            yield from secrets_of(nested)
        elif item.metadata["parse"] is secret:
            yield item.metadata["name"]


def test_nothing_secret_is_a_plain_variable(tested):
    for login in RUNS:
        names = [pair["name"] for pair in container_of(tested.plans[login])["environment"]]
        assert [name for name in names if "PASS" in name or "KEY" in name] == []
        assert [name for name in of_the_function(tested.plans[login]) if "PASS" in name or "KEY" in name] == []


# Monitoring


def alarms_of(plan):
    return plan.of("aws_cloudwatch_metric_alarm").values()


def metrics_of(alarm):
    """(namespace, metric, dimensions) of all metrics of an alarm."""
    if alarm["metric_name"]:
        yield alarm["namespace"], alarm["metric_name"], alarm["dimensions"]
    for query in alarm["metric_query"]:
        for metric in query["metric"]:
            yield metric["namespace"], metric["metric_name"], metric["dimensions"]


def charted(plan):
    body = json.loads(plan.resources["module.monitoring.aws_cloudwatch_dashboard.main"]["dashboard_body"])
    for widget in body["widgets"]:
        for namespace, name, *rest in (line for line in widget["properties"].get("metrics", []) if len(line) > 1):
            words = [word for word in rest if isinstance(word, str)]
            yield namespace, name, dict(zip(words[::2], words[1::2], strict=True))


def test_every_metric_exists_with_these_dimensions(plan):
    named = [*charted(plan), *(metric for alarm in alarms_of(plan) for metric in metrics_of(alarm))]
    assert len(named) > 40
    for namespace, name, dimensions in named:
        if namespace == NAMESPACE:
            assert name in set(Metric)
            assert dimensions == {"Environment": "dev"}
        else:
            assert dimensions.keys() == AWS[namespace][name]


def test_the_dimensions_name_what_is_deployed(plan):
    deployed = {
        "FunctionName": plan.resources[FUNCTION]["function_name"],
        "QueueName": plan.resources["aws_sqs_queue.dead_letters"]["name"],
        "ClusterName": plan.resources["aws_ecs_cluster.main"]["name"],
        "TaskDefinitionFamily": plan.resources[TASK]["family"],
        "ScheduleGroup": plan.resources["aws_scheduler_schedule_group.poller"]["name"],
        "Environment": of_the_function(plan)["ENVIRONMENT"],
    }
    named = [*charted(plan), *(metric for alarm in alarms_of(plan) for metric in metrics_of(alarm))]
    for _, _, dimensions in named:
        assert dimensions == {name: deployed[name] for name in dimensions}


def test_each_alarm_is_published_and_has_a_description(plan):
    names = [alarm["alarm_name"] for alarm in alarms_of(plan)]
    assert len(set(names)) == len(names) >= 18
    for alarm in alarms_of(plan):
        assert alarm["alarm_name"].startswith("dev-snowflake-")
        assert alarm["alarm_actions"] == alarm["ok_actions"] == ["arn:aws:sns:us-east-1:111122223333:mock"]
        assert alarm["alarm_description"].endswith(".")
        assert alarm["datapoints_to_alarm"] <= alarm["evaluation_periods"]


def test_the_dashboard_shows_the_alarms_that_are_deployed(plan):
    body = json.loads(plan.resources["module.monitoring.aws_cloudwatch_dashboard.main"]["dashboard_body"])
    (shown,) = (widget["properties"]["alarms"] for widget in body["widgets"] if widget["type"] == "alarm")
    always = plan.of("aws_cloudwatch_metric_alarm.simple") | plan.of("aws_cloudwatch_metric_alarm.failure_ratio")
    of_our_account = "arn:aws:cloudwatch:us-east-1:111122223333:alarm:"
    assert sorted(shown) == sorted(of_our_account + alarm["alarm_name"] for alarm in always.values())
