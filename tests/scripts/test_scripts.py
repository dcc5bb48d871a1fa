"""The scripts say what they do, refuse what they do not understand, and change nothing in a dry run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(path for path in (ROOT / "scripts").glob("*.sh") if path.name != "lib.sh")
READS = re.compile(
    r"^aws (\S+ )?(sts get|\S+ (get|list|describe|head)-)|^terraform (version|output|console|TF)|^docker info"
)
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/dev-snowflake-processor@sha256:abc"


def tool(name, *arguments):
    done = subprocess.run([Path(sys.executable).parent / name, *arguments], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def changes(sandbox):
    return [call for call in sandbox.calls if not READS.search(call)]


def test_hadolint_finds_nothing():
    assert tool("hadolint", *map(str, (ROOT / "container").glob("*Dockerfile"))) == (0, "")


def test_shellcheck_finds_nothing():
    assert tool("shellcheck", *map(str, (ROOT / "scripts").glob("*.sh"))) == (0, "")


def test_shellcheck_would_find_something(tmp_path):
    (tmp_path / "faulty.sh").write_text("#!/usr/bin/env bash\nrm -rf $1/*\n")
    assert tool("shellcheck", str(tmp_path / "faulty.sh"))[0] == 1


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_explains_itself_and_calls_nothing(sandbox, script):
    done = sandbox.run(script.name, "--help") if script.name != "build_lambda.sh" else None
    told = (
        done.stdout if done else subprocess.run([script, "--help"], capture_output=True, text=True, check=True).stdout
    )
    assert f"Usage: scripts/{script.name}" in told
    assert "#" not in told.split("Usage")[0]
    assert sandbox.calls == []
    for option in re.findall(r"^ +(--[a-z-]+)\)", script.read_text(), re.MULTILINE):
        assert option in told


@pytest.mark.parametrize("script", [*SCRIPTS, ROOT / "scripts" / "lib.sh"], ids=lambda path: path.name)
def test_what_is_run_can_be_run_and_what_is_sourced_can_not(script):
    assert os.access(script, os.X_OK) == (script.name != "lib.sh")


@pytest.mark.parametrize(
    ("script", "arguments", "told"),
    [
        ("deploy.sh", [], "expected ENV and REGION"),
        ("deploy.sh", ["dev"], "expected ENV and REGION"),
        ("deploy.sh", ["Dev Box", "us-east-1"], "ENV: expected a short name like dev, staging or prod, got 'Dev Box'"),
        ("deploy.sh", ["dev", "mars"], "REGION: expected a region like us-east-1, got 'mars'"),
        ("deploy.sh", ["dev", "us-east-1", "--image-uri"], "--image-uri needs a value"),
        ("deploy.sh", ["dev", "us-east-1", "--image-uri", "x:latest"], "expected a digest or a tag that never moves"),
        (
            "deploy.sh",
            ["dev", "us-east-1", "--lambda-zip", "none.zip"],
            "expected a zip that build_lambda.sh made, got 'none",
        ),
        ("deploy.sh", ["dev", "us-east-1", "--force"], "unknown argument '--force'"),
        ("deploy.sh", ["dev", "us-east-1"], "nobody is there to be asked: give --auto-approve"),
        ("setup_monitoring.sh", ["dev"], "expected ENV and REGION"),
        ("test_system.sh", [], "expected ENV"),
        ("test_system.sh", ["dev", "--within", "soon"], "--within: expected seconds, got 'soon'"),
        ("cleanup.sh", [], "expected ENV"),
        ("cleanup.sh", ["dev", "us-east-1", "prod"], "expected ENV"),
        ("setup_database.sh", ["dev"], "unknown argument 'dev'"),
        ("build_image.sh", [], "--tag is missing"),
        ("build_image.sh", ["--tag", "x:1", "--arch", "sparc"], "--arch: expected arm64 or x86_64, got 'sparc'"),
    ],
)
def test_an_argument_that_is_not_understood_is_named_and_nothing_is_changed(sandbox, script, arguments, told):
    done = sandbox.run(script, *arguments)
    assert done.returncode == 2
    assert told in done.stderr
    assert changes(sandbox) == []


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ([("^terraform version", "Terraform v1.9.8", 0)], "Terraform 1.11 or newer is needed"),
        ([("sts get-caller-identity", "", 255)], "AWS does not know who you are"),
    ],
)
def test_what_is_missing_is_named_before_anything_is_changed(sandbox, answers, told):
    done = sandbox.run("deploy.sh", "dev", "us-east-1", "--auto-approve", answers=answers)
    assert done.returncode == 1
    assert told in done.stderr
    assert changes(sandbox) == []


def test_a_program_that_is_missing_is_named_with_where_it_comes_from(sandbox):
    bare = sandbox.folder / "bare"
    bare.mkdir()
    for name in ("bash", "dirname", "sed", "env"):
        (bare / name).symlink_to(Path("/usr/bin") / name)
    done = sandbox.run("deploy.sh", "dev", "us-east-1", "--auto-approve", PATH=str(bare))
    assert done.returncode == 1
    assert "terraform is needed: install Terraform 1.11 or newer, https://" in done.stderr


def test_variables_that_nobody_wrote_are_asked_for_by_the_name_of_the_file(sandbox):
    (sandbox.folder / "terraform" / "dev.tfvars").unlink()
    done = sandbox.run("deploy.sh", "dev", "us-east-1", "--auto-approve")
    assert done.returncode == 1
    assert "terraform/terraform.tfvars is missing: copy terraform/terraform.tfvars.example" in done.stderr
    assert changes(sandbox) == []


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("deploy.sh", ["dev", "us-east-1", "--dry-run"]),
        ("deploy.sh", ["dev", "us-east-1", "--dry-run", "--image-uri", IMAGE]),
        ("setup_monitoring.sh", ["dev", "us-east-1", "--dry-run"]),
        ("cleanup.sh", ["dev", "us-east-1", "--dry-run"]),
        ("test_system.sh", ["dev", "us-east-1", "--dry-run"]),
        ("build_image.sh", ["--tag", "x:1", "--push", "--dry-run"]),
        ("setup_database.sh", ["--dry-run", "--sample-data"]),
    ],
)
def test_a_dry_run_says_what_would_be_run_and_changes_nothing(sandbox, script, arguments):
    busy = [
        ("ecs list-tasks", "arn:aws:ecs:us-east-1:123456789012:task/dev/1", 0),
        ("list-object-versions", '{"Objects": [{"Key": "k", "VersionId": "v"}]}', 0),
        ("scheduler list-schedules .*GroupName", "dev-group", 0),
        ("scheduler list-schedules", "dev-snowflake-poller-schedule", 0),
    ]
    done = sandbox.run(script, *arguments, answers=busy)
    assert done.returncode == 0, done.stderr
    assert changes(sandbox) == []
    assert "would run: " in done.stderr or "CREATE TRANSIENT TABLE" in done.stdout
    assert not (sandbox.folder / "build").exists()


def test_a_dry_run_before_the_first_deployment_says_what_it_could_not_check(sandbox):
    (sandbox.folder / "terraform" / ".terraform").rmdir()
    done = sandbox.run("deploy.sh", "dev", "us-east-1", "--dry-run", "--image-uri", IMAGE)
    assert done.returncode == 0, done.stderr
    assert "not checked: secret and quotas" in done.stderr
    assert changes(sandbox) == []


def test_a_first_deployment_makes_the_repository_then_the_image_then_everything_by_digest(sandbox):
    shows_what_was_pushed = ("describe-images", "sha256:abc", 0, '"docker", "push"')
    done = sandbox.run(
        "deploy.sh",
        "dev",
        "us-east-1",
        "--auto-approve",
        answers=[shows_what_was_pushed],
        SNOWFLAKE_PRIVATE_KEY="canary-key",
    )
    assert done.returncode == 0, done.stderr
    outline = [re.sub(r" -var.*?(?= -(auto|target)|$)", " ...", call) for call in changes(sandbox)]
    tag = sandbox.run("build_image.sh", "--print-tag").stdout.strip()
    registry = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
    image, folder = f"{registry}/dev-snowflake-processor:{tag}", sandbox.folder
    assert outline == [
        "terraform init",
        "terraform workspace select -or-create dev",
        "build_lambda.sh",
        "terraform apply ... -auto-approve -target=aws_ecr_repository.processor",
        f"docker login --username AWS --password-stdin {registry}",
        f"docker build --platform linux/arm64 --file {folder}/container/Dockerfile --tag {image} {folder}",
        f"docker push {image}",
        f"docker history --format {{{{.Size}}}}  {{{{.CreatedBy}}}} {image}",
        "terraform apply ... -auto-approve",
    ]
    applied = [call for call in sandbox.calls if call.startswith("terraform apply")]
    assert "-var-file=dev.tfvars" in applied[-1]
    assert "-var environment=dev -var aws_region=us-east-1" in applied[-1]
    assert "-var lambda_zip=../build/snowflake-poller-arm64.zip" in applied[-1]
    assert f"-var image_uri={registry}/dev-snowflake-processor@sha256:abc" in applied[-1]
    assert "aws s3 cp client.pem s3://dev-snowflake-processor-certs/dev/" not in done.stderr, "it is there"


def test_a_second_deployment_builds_no_image_that_is_there_already(sandbox):
    there = [("describe-repositories", "{}", 0), ("describe-images", "sha256:abc", 0)]
    done = sandbox.run("deploy.sh", "dev", "us-east-1", "--auto-approve", answers=there)
    assert done.returncode == 0, done.stderr
    assert not [call for call in sandbox.calls if re.match("docker (login|build|push)", call) or "-target" in call]
    assert any(f"-var image_uri={IMAGE}" in call for call in sandbox.calls if call.startswith("terraform apply"))


def test_an_image_that_is_given_is_used_as_it_is(sandbox):
    done = sandbox.run("deploy.sh", "dev", "us-east-1", "--auto-approve", "--image-uri", IMAGE)
    assert done.returncode == 0, done.stderr
    assert not [call for call in sandbox.calls if call.startswith("docker") or " ecr " in call]
    assert [call for call in sandbox.calls if call.startswith("terraform apply") and f"image_uri={IMAGE}" in call]


def test_a_zip_that_is_given_is_what_every_script_deploys(sandbox, tmp_path):
    (tmp_path / "given.zip").write_bytes(b"given")
    given = ("--image-uri", IMAGE, "--lambda-zip", str(tmp_path / "given.zip"))
    done = sandbox.run("deploy.sh", "dev", "us-east-1", "--auto-approve", *given)
    assert done.returncode == 0, done.stderr
    assert (sandbox.folder / "build" / "snowflake-poller-arm64.zip").read_bytes() == b"given"
    assert not [call for call in sandbox.calls if "build_lambda" in call]
    assert [
        call for call in sandbox.calls if call.startswith("terraform apply") and "snowflake-poller-arm64.zip" in call
    ]


@pytest.mark.parametrize("name", ["PRIVATE_KEY", "PRIVATE_KEY_PASSPHRASE", "PASSWORD"])
def test_a_secret_reaches_terraform_by_the_environment_and_appears_nowhere(sandbox, name):
    given = {f"SNOWFLAKE_{name}": "canary-secret"}
    done = sandbox.run("deploy.sh", "dev", "us-east-1", "--auto-approve", "--image-uri", IMAGE, **given)
    assert done.returncode == 0, done.stderr
    assert "canary" not in done.stdout + done.stderr + "".join(sandbox.calls)
    assert sandbox.secrets_of("terraform .*apply") == [f"TF_VAR_snowflake_{name.lower()}"]


@pytest.mark.parametrize(("way", "name"), [("key_pair", "SNOWFLAKE_PRIVATE_KEY"), ("password", "SNOWFLAKE_PASSWORD")])
def test_a_first_deployment_without_what_the_secret_needs_is_stopped(sandbox, way, name):
    arguments = ("deploy.sh", "dev", "us-east-1", "--auto-approve", "--image-uri", IMAGE)
    answers = [("console .*var.snowflake_authentication", f'"{way}"', 0), ("describe-secret", "", 254)]
    done = sandbox.run(*arguments, answers=answers)
    assert done.returncode == 1
    assert f"{name}: expected what goes into the secret dev-snowflake-credentials, which is not there" in done.stderr
    assert not [call for call in sandbox.calls if call.startswith("terraform apply")]
    assert sandbox.run(*arguments, answers=answers, **{name: "canary"}).returncode == 0
    assert sandbox.run(*arguments, answers=answers[:1]).returncode == 0, "it is there already"


@pytest.mark.parametrize(("encrypted", "code"), [("false", 1), ("true", 0)])
def test_a_passphrase_that_the_tasks_would_not_get_stops_the_deployment(sandbox, encrypted, code):
    done = sandbox.run(
        *("deploy.sh", "dev", "us-east-1", "--auto-approve", "--image-uri", IMAGE),
        answers=[
            ("console .*var.snowflake_authentication", '"key_pair"', 0),
            ("console .*var.snowflake_private_key_encrypted", encrypted, 0),
        ],
        SNOWFLAKE_PRIVATE_KEY="canary",
        SNOWFLAKE_PRIVATE_KEY_PASSPHRASE="canary",
    )
    assert done.returncode == code
    assert ("snowflake_private_key_encrypted = true" in done.stderr) == bool(code)


def test_the_password_of_the_registry_appears_nowhere(sandbox):
    answers = [("describe-repositories", "{}", 0)]
    done = sandbox.run("deploy.sh", "dev", "us-east-1", "--auto-approve", answers=answers)
    assert "was pushed, but ECR does not show it" in done.stderr
    assert any(call.startswith("docker login") for call in sandbox.calls)
    assert "canary" not in done.stdout + done.stderr + "".join(sandbox.calls)


def test_an_endpoint_of_ones_own_is_used_for_every_call_of_aws(sandbox):
    sandbox.run("cleanup.sh", "dev", "us-east-1", "--dry-run", AWS_ENDPOINT_URL="http://127.0.0.1:9")
    called = [call for call in sandbox.calls if call.startswith("aws")]
    assert called
    assert all("--endpoint-url http://127.0.0.1:9" in call for call in called)


def deployed_with_quotas(sandbox, *, vcpus, concurrency, reserved="tonumber(null)"):
    answers = [
        ("service-quotas get-service-quota", vcpus, 0),
        ("get-account-settings", concurrency, 0),
        ("console .*var.reserved_concurrent_executions", reserved, 0),
    ]
    return sandbox.run("deploy.sh", "dev", "us-east-1", "--dry-run", "--image-uri", IMAGE, answers=answers)


def test_a_quota_of_fargate_below_the_fleet_is_told_with_the_command_that_raises_it(sandbox):
    done = deployed_with_quotas(sandbox, vcpus="6.0", concurrency="1000")
    assert done.returncode == 0, done.stderr
    assert "Fargate On-Demand allows 6.0 vCPUs here" in done.stderr
    assert "--quota-code L-3032A538 --desired-value 7" in done.stderr


def test_a_quota_that_suffices_is_not_talked_about(sandbox):
    done = deployed_with_quotas(sandbox, vcpus="6.25", concurrency="1000")
    assert done.returncode == 0, done.stderr
    assert "vCPU" not in done.stderr
    assert "not checked" not in done.stderr


@pytest.mark.parametrize(("concurrency", "code"), [("10", 1), ("100", 1), ("101", 0)])
def test_reserved_concurrency_that_aws_would_refuse_stops_the_deployment(sandbox, concurrency, code):
    done = deployed_with_quotas(sandbox, vcpus="100", concurrency=concurrency, reserved="1")
    assert done.returncode == code
    assert ("reserved_concurrent_executions = 1 needs a Lambda quota of 101" in done.stderr) == bool(code)


@pytest.mark.parametrize("answer", ["", "prod\n", "yes\n"])
def test_a_cleanup_that_is_not_confirmed_by_name_changes_nothing(sandbox, answer):
    done = sandbox.run("cleanup.sh", "dev", "us-east-1", stdin=answer)
    assert done.returncode == 1
    assert "not confirmed; nothing was changed" in done.stderr
    assert changes(sandbox) == []


def test_a_cleanup_stops_the_poller_before_the_tasks_and_these_before_the_rest(sandbox):
    one_task = [("ecs list-tasks", "", 0, '"stop-task"'), ("ecs list-tasks", "task/1", 0)]
    done = sandbox.run("cleanup.sh", "dev", "us-east-1", "--confirm", "dev", answers=one_task)
    assert done.returncode == 0, done.stderr
    assert [re.sub(r" (-|dev$).*", "", call) for call in changes(sandbox)] == [
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


def test_monitoring_is_applied_alone_with_the_image_that_runs(sandbox):
    done = sandbox.run("setup_monitoring.sh", "dev", "us-east-1", "--auto-approve", ALERT_EMAIL="ops@example.com")
    assert done.returncode == 0, done.stderr
    (applied,) = [call for call in sandbox.calls if call.startswith("terraform apply")]
    assert "-target=module.monitoring" in applied
    assert "-var image_uri=registry.example.com/dev@sha256:1" in applied
    assert "-var alert_email=ops@example.com" in applied
    assert "dev-snowflake-poller-silent" in done.stderr
    assert done.stdout == "dashboard: https://console.example.com/dev\n"


def test_monitoring_of_what_is_not_deployed_says_so(sandbox):
    answers = [("describe-task-definition", "", 254)]
    done = sandbox.run("setup_monitoring.sh", "dev", "us-east-1", "--auto-approve", answers=answers)
    assert done.returncode == 1
    assert "dev is not deployed in us-east-1: run scripts/deploy.sh dev us-east-1 first" in done.stderr


def test_alarms_that_are_not_there_are_an_error(sandbox):
    answers = [("describe-alarms", "", 0)]
    done = sandbox.run("setup_monitoring.sh", "dev", "us-east-1", "--auto-approve", answers=answers)
    assert done.returncode == 1
    assert "no alarm is there" in done.stderr


def test_snowflakes_own_program_runs_the_scripts_where_it_is_installed(sandbox):
    done = sandbox.run("setup_database.sh", SNOWFLAKE_ACCOUNT="myorg-account")
    assert done.returncode == 0, done.stderr
    assert sandbox.calls == ["snow sql --stdin --temporary-connection"]


def test_the_tag_of_the_image_follows_from_what_the_image_is_made_of(sandbox):
    def tag(*for_what):
        return sandbox.run("build_image.sh", "--print-tag", *for_what).stdout.strip()

    first = tag()
    assert re.fullmatch("sha-[0-9a-f]{16}-arm64", first)
    assert len({first, tag("--arch", "x86_64"), tag("--base", "python:3.13.9-slim")}) == 3
    (sandbox.folder / "src/rowqueue/cli.py").write_text("# not in the image\n")
    assert tag() == first
    with (sandbox.folder / "container/processor.py").open("a") as file:
        file.write("# changed\n")
    assert tag() != first


@pytest.mark.parametrize("looking", ["get-function", "list-schedules", "list-tasks"])
def test_a_cleanup_that_can_not_look_destroys_nothing(sandbox, looking):
    refused = [f"aws .*{looking}", "An error occurred (AccessDenied)", 254]
    done = sandbox.run("cleanup.sh", "dev", "us-east-1", "--confirm", "dev", answers=[refused])
    assert done.returncode != 0
    assert "can not be" in done.stderr
    assert not [call for call in sandbox.calls if "destroy" in call or "delete" in call]
