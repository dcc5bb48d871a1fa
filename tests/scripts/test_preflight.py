"""What deploy.sh checks before it changes anything: secrets, passphrases, the architecture and quotas."""

from __future__ import annotations

import re

import pytest

IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/dev-snowflake-processor@sha256:abc"


@pytest.mark.parametrize("script", ["deploy.sh", "setup_monitoring.sh"])
def test_a_dry_run_before_terraform_is_initialised_does_not_ask_it(sandbox, script):
    (sandbox.folder / "terraform" / ".terraform").rmdir()
    answers = [("terraform .*console", "Error: Inconsistent dependency lock file", 1)]
    done = sandbox.run(script, "dev", "us-east-1", "--dry-run", answers=answers)
    assert done.returncode == 0, done.stderr
    assert ("not checked: architecture, secrets and quotas" in done.stderr) == (script == "deploy.sh")
    assert sandbox.changes == []


DEPLOY = ("deploy.sh", "dev", "us-east-1", "--auto-approve", "--image-uri", IMAGE)
ENCRYPTED = ("console .*var.client_key_encrypted", "true", 0)
NO_SECRET = ("describe-secret", "", 254)


@pytest.mark.parametrize(
    ("name", "variable"),
    [
        ("SERVICE_PRIVATE_KEY", "TF_VAR_snowflake_private_key"),
        ("SERVICE_PRIVATE_KEY_PASSPHRASE", "TF_VAR_snowflake_private_key_passphrase"),
        ("SERVICE_PASSWORD", "TF_VAR_snowflake_password"),
        ("CLIENT_KEY_PASSPHRASE", "TF_VAR_client_key_passphrase"),
    ],
)
def test_a_secret_reaches_terraform_by_the_environment_and_appears_nowhere(sandbox, name, variable):
    done = sandbox.run(*DEPLOY, answers=[ENCRYPTED], **{name: "canary-secret"})
    assert done.returncode == 0, done.stderr
    assert "canary" not in done.stdout + done.stderr + "".join(sandbox.calls)
    assert sandbox.secrets_of("terraform .*apply") == [variable]


@pytest.mark.parametrize("name", ["PRIVATE_KEY", "PRIVATE_KEY_PASSPHRASE", "PASSWORD"])
def test_the_login_of_the_administrator_does_not_become_that_of_the_service(sandbox, name):
    done = sandbox.run(*DEPLOY, **{f"SNOWFLAKE_{name}": "canary-secret"})
    assert done.returncode == 0, done.stderr
    assert sandbox.secrets_of("terraform .*apply") == []


@pytest.mark.parametrize(
    ("setting", "name", "secret"),
    [
        (("console .*var.snowflake_authentication", '"key_pair"', 0), "SERVICE_PRIVATE_KEY", "credentials"),
        (("console .*var.snowflake_authentication", '"password"', 0), "SERVICE_PASSWORD", "credentials"),
        (ENCRYPTED, "CLIENT_KEY_PASSPHRASE", "client-key-passphrase"),
    ],
)
def test_a_first_deployment_without_the_content_of_a_secret_is_stopped(sandbox, setting, name, secret):
    done = sandbox.run(*DEPLOY, answers=[setting, NO_SECRET])
    assert done.returncode == 1
    assert f"{name}: expected the content of the secret dev-snowflake-{secret}, which does not exist yet" in done.stderr
    assert not [call for call in sandbox.calls if call.startswith("terraform apply")]
    assert sandbox.run(*DEPLOY, answers=[setting, NO_SECRET], **{name: "canary"}).returncode == 0
    assert sandbox.run(*DEPLOY, answers=[setting]).returncode == 0, "the secret exists"


@pytest.mark.parametrize(
    ("name", "variable"),
    [
        ("SERVICE_PRIVATE_KEY_PASSPHRASE", "snowflake_private_key_encrypted"),
        ("CLIENT_KEY_PASSPHRASE", "client_key_encrypted"),
    ],
)
@pytest.mark.parametrize(("encrypted", "code"), [("false", 1), ("true", 0)])
def test_a_passphrase_that_the_tasks_would_not_get_stops_the_deployment(sandbox, name, variable, encrypted, code):
    answers = [
        ("console .*var.snowflake_authentication", '"key_pair"', 0),
        (f"console .*var.{variable}", encrypted, 0),
    ]
    done = sandbox.run(*DEPLOY, answers=answers, **{name: "canary"})
    assert done.returncode == code, done.stderr
    assert (f"{name} is set: set {variable} = true, so that the tasks get it" in done.stderr) == bool(code)


@pytest.mark.parametrize(
    "variable",
    [
        "architecture",
        "snowflake_authentication",
        "snowflake_private_key_encrypted",
        "client_key_encrypted",
        "max_containers",
        "task_cpu",
        "spot_share",
        "reserved_concurrent_executions",
    ],
)
def test_a_variable_that_terraform_cannot_read_stops_the_deployment_with_the_reason(sandbox, variable):
    answers = [(f"console .*var.{variable}$", "Error: Backend initialization required", 1)]
    done = sandbox.run(*DEPLOY, answers=answers)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith(
        "the Terraform variables cannot be read: Error: Backend initialization required"
    )
    assert not [call for call in sandbox.calls if call.startswith(("terraform apply", "build_lambda"))]


def test_an_unknown_architecture_is_named(sandbox):
    done = sandbox.run(*DEPLOY, answers=[("console .*var.architecture", '"SPARC"', 0)])
    assert done.returncode == 1
    assert "architecture: expected ARM64 or X86_64, got 'SPARC'" in done.stderr


def deployed_with_quotas(sandbox, *, vcpus, concurrency="1000", reserved="tonumber(null)", spot="0", spot_vcpus="0"):
    answers = [
        ("service-quotas get-service-quota .*L-3032A538", vcpus, 0),
        ("service-quotas get-service-quota .*L-36FBB829", spot_vcpus, 0),
        ("console .*var.spot_share", spot, 0),
        ("get-account-settings", concurrency, 0),
        ("console .*var.reserved_concurrent_executions", reserved, 0),
    ]
    return sandbox.run("deploy.sh", "dev", "us-east-1", "--dry-run", "--image-uri", IMAGE, answers=answers)


def test_a_fargate_quota_below_the_fleet_is_reported_with_the_command_that_raises_it(sandbox):
    done = deployed_with_quotas(sandbox, vcpus="6.0")
    assert done.returncode == 0, done.stderr
    assert "Fargate On-Demand allows 6.0 vCPUs here" in done.stderr
    assert "--quota-code L-3032A538 --desired-value 7" in done.stderr


def test_a_sufficient_quota_is_not_mentioned(sandbox):
    done = deployed_with_quotas(sandbox, vcpus="6.25")
    assert done.returncode == 0, done.stderr
    assert "vCPU" not in done.stderr
    assert "not checked" not in done.stderr


@pytest.mark.parametrize(("concurrency", "code"), [("10", 1), ("100", 1), ("101", 0)])
def test_reserved_concurrency_that_aws_would_refuse_stops_the_deployment(sandbox, concurrency, code):
    done = deployed_with_quotas(sandbox, vcpus="100", concurrency=concurrency, reserved="1")
    assert done.returncode == code
    assert ("reserved_concurrent_executions = 1 needs a Lambda quota of 101" in done.stderr) == bool(code)


def test_each_kind_of_fargate_is_compared_with_its_share_of_the_fleet(sandbox):
    done = deployed_with_quotas(sandbox, vcpus="2.0", spot="70", spot_vcpus="4.0")
    assert done.returncode == 0, done.stderr
    assert "Fargate Spot allows 4.0 vCPUs here, and 18 tasks of 256 CPU units" in done.stderr
    assert "--quota-code L-36FBB829 --desired-value 5" in done.stderr
    assert "Fargate On-Demand" not in done.stderr


def test_a_fleet_of_spot_only_needs_no_other_quota(sandbox):
    done = deployed_with_quotas(sandbox, vcpus="0.0", spot="100", spot_vcpus="6.25")
    assert done.returncode == 0, done.stderr
    assert "vCPU" not in done.stderr


@pytest.mark.parametrize(("spot", "quotas"), [("0", {"L-3032A538"}), ("50", {"L-3032A538", "L-36FBB829"})])
def test_a_fargate_quota_that_cannot_be_read_is_reported(sandbox, spot, quotas):
    done = deployed_with_quotas(sandbox, vcpus="", spot=spot, spot_vcpus="")
    assert done.returncode == 0, done.stderr
    assert set(re.findall(r"^not checked: .*quota (\S+) cannot be read", done.stderr, re.MULTILINE)) == quotas


def test_a_reservation_of_zero_is_possible_in_a_new_account(sandbox):
    done = deployed_with_quotas(sandbox, vcpus="100", concurrency="10", reserved="0")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("reserved", "reported"), [("1", True), ("tonumber(null)", False)])
def test_a_lambda_quota_that_cannot_be_read_is_reported_if_it_matters(sandbox, reserved, reported):
    done = deployed_with_quotas(sandbox, vcpus="100", concurrency="", reserved=reserved)
    assert done.returncode == 0, done.stderr
    assert ("quota L-B99A9384 cannot be read" in done.stderr) == reported
