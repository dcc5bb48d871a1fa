"""setup_monitoring.sh changes only the monitoring; what the scripts read from a plan and a state."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import terraform_shown

PROGRAM = ("setup_monitoring.sh", "dev", "us-east-1")


def test_monitoring_is_applied_alone_with_the_image_that_runs(sandbox):
    done = sandbox.run(*PROGRAM, "--auto-approve", ALERT_EMAIL="ops@example.com")
    assert done.returncode == 0, done.stderr
    *_, planned, applied = sandbox.changes
    assert planned.startswith("terraform plan")
    assert "-target=module.monitoring" in planned
    assert "-var image_uri=registry.example.com/dev@sha256:1" in planned
    assert "-var alert_email=ops@example.com" in planned
    plan = Path(planned.partition("-out=")[2])
    assert applied == f"terraform apply {plan}"
    assert not plan.parent.exists()
    assert "dev-snowflake-poller-silent" in done.stderr
    assert done.stdout == "dashboard: https://console.example.com/dev\n"


def test_an_environment_that_is_not_deployed_is_an_error(sandbox):
    answers = [("describe-task-definition", "", 254)]
    done = sandbox.run("setup_monitoring.sh", "dev", "us-east-1", "--auto-approve", answers=answers)
    assert done.returncode == 1
    assert "dev is not deployed in us-east-1: run scripts/deploy.sh dev us-east-1 first" in done.stderr


def test_missing_alarms_are_an_error(sandbox):
    answers = [("describe-alarms", "", 0)]
    done = sandbox.run("setup_monitoring.sh", "dev", "us-east-1", "--auto-approve", answers=answers)
    assert done.returncode == 1
    assert "there are no alarms" in done.stderr


def planned(*changes):
    """Changes to addresses, as `terraform show -json` has them of a plan."""
    return {"resource_changes": [{"address": at, "change": {"actions": actions}} for at, *actions in changes]}


PENDING = planned(
    ("aws_lambda_function.poller", "update"),
    ("aws_ecs_task_definition.processor", "create", "delete"),
    ("aws_sqs_queue.dead_letters", "delete"),
    ("module.monitoring_of_others.aws_sns_topic.alerts", "create"),
    ("module.monitoring.aws_sns_topic.alerts", "create"),
    ("aws_ecs_cluster.main", "no-op"),
    ("data.aws_partition.current", "read"),
)
NOT_MONITORING = [
    "aws_lambda_function.poller",
    "aws_ecs_task_definition.processor",
    "aws_sqs_queue.dead_letters",
    "module.monitoring_of_others.aws_sns_topic.alerts",
]


def test_a_change_outside_a_module_is_a_create_update_or_delete_there():
    assert terraform_shown.outside(PENDING, "module.monitoring") == NOT_MONITORING
    assert terraform_shown.outside({}, "module.monitoring") == []


def test_a_plan_that_changes_more_than_the_monitoring_is_refused_by_its_addresses(sandbox):
    answers = [("^terraform .*show -json .*/plan", json.dumps(PENDING), 0)]
    done = sandbox.run(*PROGRAM, "--auto-approve", answers=answers)
    assert done.returncode == 1
    assert f"more than the monitoring ({'; '.join(NOT_MONITORING)}): deploy first:" in done.stderr
    assert "scripts/deploy.sh dev us-east-1" in done.stderr
    assert not [call for call in sandbox.calls if call.startswith("terraform apply")]
    (plan,) = [call.partition("-out=")[2] for call in sandbox.calls if call.startswith("terraform plan")]
    assert not Path(plan).parent.exists()


def test_a_plan_that_changes_the_monitoring_alone_is_applied(sandbox):
    alone = planned(("module.monitoring.aws_sns_topic.alerts", "create"), ("aws_ecs_cluster.main", "no-op"))
    done = sandbox.run(*PROGRAM, "--auto-approve", answers=[("^terraform .*show -json", json.dumps(alone), 0)])
    assert done.returncode == 0, done.stderr


def test_a_plan_that_cannot_be_read_is_not_applied(sandbox):
    done = sandbox.run(*PROGRAM, "--auto-approve", answers=[("^terraform .*show", "", 1)])
    assert done.returncode == 1
    assert "the changes of the plan cannot be read; nothing was changed" in done.stderr
    assert not [call for call in sandbox.calls if call.startswith("terraform apply")]


@pytest.mark.parametrize(("answer", "code"), [("yes\n", 0), ("no\n", 1), ("\n", 1), ("\x04", 1)])
def test_a_person_is_asked_before_the_plan_is_applied(sandbox, answer, code):
    done = sandbox.typed(answer, *PROGRAM)
    assert done.returncode == code, done.stderr
    assert ("not confirmed; nothing was changed" in done.stderr) == bool(code)
    assert bool([call for call in sandbox.calls if call.startswith("terraform apply")]) == (not code)


def resource(arn, mode="managed"):
    return {"mode": mode, "values": {"arn": arn} if arn else {}}


def test_the_places_of_a_state_are_those_of_its_resources_in_all_modules():
    root = {
        "resources": [
            resource("arn:aws:iam::111111111111:role/dev"),
            resource("arn:aws:s3:::dev-certs"),
            resource(None),
            resource("arn:aws:ec2:eu-west-1:999999999999:vpc/vpc-1", mode="data"),
            resource("arn:aws:lambda:us-east-1:111111111111:function:dev"),
        ],
        "child_modules": [{"resources": [resource("arn:aws:sns:us-west-2:111111111111:alerts")]}],
    }
    assert terraform_shown.places({"values": {"root_module": root}}) == [
        "account 111111111111, region us-east-1",
        "account 111111111111, region us-west-2",
    ]
    assert terraform_shown.places({"format_version": "1.0"}) == []
