"""What cleanup.sh removes, in which order, and what it does not touch."""

from __future__ import annotations

import json
import re

import pytest


@pytest.mark.parametrize("answer", ["", "prod\n", "yes\n"])
def test_a_cleanup_without_the_name_as_confirmation_changes_nothing(sandbox, answer):
    done = sandbox.run("cleanup.sh", "dev", "us-east-1", stdin=answer)
    assert done.returncode == 1
    assert "not confirmed; nothing was changed" in done.stderr
    assert sandbox.changes == []


def test_a_cleanup_stops_the_poller_then_the_tasks_then_destroys_the_rest(sandbox):
    one_task = [("ecs list-tasks", "", 0, '"stop-task"'), ("ecs list-tasks", "task/1", 0)]
    done = sandbox.run("cleanup.sh", "dev", "us-east-1", "--confirm", "dev", answers=one_task)
    assert done.returncode == 0, done.stderr
    assert [re.sub(r" (-|dev$).*", "", call) for call in sandbox.changes] == [
        "terraform init",
        "terraform workspace select",
        "aws lambda put-function-concurrency",
        "aws ecs stop-task",
        "aws ecs wait tasks-stopped",
        "terraform destroy",
        "terraform workspace select default",
        "terraform workspace delete",
    ]
    assert "Snowflake: tables, roles, users and warehouse" in done.stderr
    assert "/aws/ecs/containerinsights/dev-snowflake-processor/performance" in done.stderr
    for secret in ("credentials", "client-key-passphrase"):
        assert f"--force-delete-without-recovery --secret-id dev-snowflake-{secret}\n" in done.stderr


@pytest.mark.parametrize(
    "looking", ["aws .*get-function", "aws .*list-schedules", "aws .*list-tasks", "terraform .*show"]
)
def test_a_cleanup_that_cannot_list_the_resources_destroys_nothing(sandbox, looking):
    refused = [f"^{looking}", "An error occurred (AccessDenied)", 254]
    done = sandbox.run("cleanup.sh", "dev", "us-east-1", "--confirm", "dev", answers=[refused])
    assert done.returncode != 0
    assert "cannot be" in done.stderr
    assert not [call for call in sandbox.calls if "destroy" in call or "delete" in call]


def state(region, account):
    resources = [
        {"mode": "managed", "values": {"arn": f"arn:aws:iam::{account}:role/dev-snowflake-poller"}},
        {"mode": "managed", "values": {"arn": f"arn:aws:lambda:{region}:{account}:function:dev-snowflake-poller"}},
    ]
    return [("^terraform .*show -json", json.dumps({"values": {"root_module": {"resources": resources}}}), 0)]


@pytest.mark.parametrize(("region", "account"), [("eu-west-1", "123456789012"), ("us-east-1", "210987654321")])
def test_a_cleanup_in_another_account_or_region_changes_nothing(sandbox, region, account):
    done = sandbox.run("cleanup.sh", "dev", "us-east-1", "--confirm", "dev", answers=state(region, account))
    assert done.returncode == 1
    there, here = f"account {account}, region {region}", "account 123456789012, region us-east-1"
    assert f"dev is in {there}, and this is {here}; nothing was changed" in done.stderr
    assert sandbox.changes == ["terraform init", "terraform workspace select -or-create dev"]


def test_a_cleanup_in_the_right_account_and_region_continues(sandbox):
    answers = state("us-east-1", "123456789012")
    done = sandbox.run("cleanup.sh", "dev", "us-east-1", "--confirm", "dev", answers=answers)
    assert done.returncode == 0, done.stderr
    assert [call for call in sandbox.changes if call.startswith("terraform destroy")]
