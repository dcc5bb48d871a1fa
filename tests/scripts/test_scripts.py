"""The scripts explain themselves, refuse unknown arguments, and change nothing in a dry run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(path for path in (ROOT / "scripts").glob("*.sh") if path.name != "lib.sh")
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/dev-snowflake-processor@sha256:abc"


def tool(name, *arguments):
    done = subprocess.run([Path(sys.executable).parent / name, *arguments], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


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
    manual = (
        done.stdout if done else subprocess.run([script, "--help"], capture_output=True, text=True, check=True).stdout
    )
    assert f"Usage: scripts/{script.name}" in manual
    assert "#" not in manual.split("Usage")[0]
    assert sandbox.calls == []
    for option in re.findall(r"^ +(--[a-z-]+)\)", script.read_text(), re.MULTILINE):
        assert option in manual


@pytest.mark.parametrize("script", [*SCRIPTS, ROOT / "scripts" / "lib.sh"], ids=lambda path: path.name)
def test_scripts_are_executable_and_the_sourced_file_is_not(script):
    assert os.access(script, os.X_OK) == (script.name != "lib.sh")


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("deploy.sh", [], "expected ENV and REGION"),
        ("deploy.sh", ["dev"], "expected ENV and REGION"),
        ("deploy.sh", ["Dev Box", "us-east-1"], "ENV: expected a short name like dev, staging or prod, got 'Dev Box'"),
        ("deploy.sh", ["dev", "mars"], "REGION: expected a region like us-east-1, got 'mars'"),
        ("deploy.sh", ["dev", "us-east-1", "--image-uri"], "--image-uri needs a value"),
        ("deploy.sh", ["dev", "us-east-1", "--image-uri", "x:latest"], "expected a digest or a tag that never moves"),
        ("deploy.sh", ["dev", "us-east-1", "--image-uri", IMAGE, "--base", "x"], "--base: expected no --image-uri"),
        (
            "deploy.sh",
            ["dev", "us-east-1", "--lambda-zip", "none.zip"],
            "expected a zip that build_lambda.sh made, got 'none",
        ),
        ("deploy.sh", ["dev", "us-east-1", "--force"], "unknown argument '--force'"),
        ("deploy.sh", ["dev", "us-east-1"], "nobody can confirm: pass --auto-approve"),
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
def test_a_wrong_argument_is_named_and_nothing_is_changed(sandbox, script, arguments, message):
    done = sandbox.run(script, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert sandbox.changes == []


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([("^terraform version", "Terraform v1.9.8", 0)], "Terraform 1.11 or newer is needed"),
        ([("sts get-caller-identity", "", 255)], "AWS does not know who you are"),
    ],
)
def test_a_missing_prerequisite_is_named_before_anything_is_changed(sandbox, answers, message):
    done = sandbox.run("deploy.sh", "dev", "us-east-1", "--auto-approve", answers=answers)
    assert done.returncode == 1
    assert message in done.stderr
    assert sandbox.changes == []


def test_a_program_that_is_missing_is_named_with_where_it_comes_from(sandbox):
    bare = sandbox.folder / "bare"
    bare.mkdir()
    for name in ("bash", "dirname", "sed", "env"):
        (bare / name).symlink_to(Path("/usr/bin") / name)
    done = sandbox.run("deploy.sh", "dev", "us-east-1", "--auto-approve", PATH=str(bare))
    assert done.returncode == 1
    assert "terraform is needed: install Terraform 1.11 or newer, https://" in done.stderr


def test_a_missing_file_of_variables_is_named(sandbox):
    (sandbox.folder / "terraform" / "dev.tfvars").unlink()
    done = sandbox.run("deploy.sh", "dev", "us-east-1", "--auto-approve")
    assert done.returncode == 1
    assert "terraform/terraform.tfvars is missing: copy terraform/terraform.tfvars.example" in done.stderr
    assert sandbox.changes == []


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
def test_a_dry_run_prints_the_commands_and_changes_nothing(sandbox, script, arguments):
    busy = [
        ("ecs list-tasks", "arn:aws:ecs:us-east-1:123456789012:task/dev/1", 0),
        ("list-object-versions", '{"Objects": [{"Key": "k", "VersionId": "v"}]}', 0),
        ("scheduler list-schedules .*GroupName", "dev-group", 0),
        ("scheduler list-schedules", "dev-snowflake-poller-schedule", 0),
    ]
    done = sandbox.run(script, *arguments, answers=busy)
    assert done.returncode == 0, done.stderr
    assert sandbox.changes == []
    assert "would run: " in done.stderr or "CREATE TRANSIENT TABLE" in done.stdout
    assert not (sandbox.folder / "build").exists()


def test_a_custom_endpoint_is_used_for_every_call_to_aws(sandbox):
    sandbox.run("cleanup.sh", "dev", "us-east-1", "--dry-run", AWS_ENDPOINT_URL="http://127.0.0.1:9")
    called = [call for call in sandbox.calls if call.startswith("aws")]
    assert called
    assert all("--endpoint-url http://127.0.0.1:9" in call for call in called)


def test_the_tag_of_the_image_follows_from_its_sources(sandbox):
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
