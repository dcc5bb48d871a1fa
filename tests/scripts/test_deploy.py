"""What deploy.sh creates, in which order, and which results it takes instead."""

from __future__ import annotations

import re

import pytest

IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/dev-snowflake-processor@sha256:abc"


def test_a_first_deployment_creates_the_repository_then_the_image_then_the_rest_by_digest(sandbox):
    shows_what_was_pushed = ("describe-images", "sha256:abc", 0, '"docker", "push"')
    done = sandbox.run(
        "deploy.sh",
        "dev",
        "us-east-1",
        "--auto-approve",
        answers=[shows_what_was_pushed],
        SERVICE_PRIVATE_KEY="canary-key",
    )
    assert done.returncode == 0, done.stderr
    outline = [re.sub(r" -var.*?(?= -(auto|target)|$)", " ...", call) for call in sandbox.changes]
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
    assert "aws s3 cp client.pem s3://dev-snowflake-processor-certs/dev/" not in done.stderr, "the file exists"


def test_a_second_deployment_does_not_build_an_image_that_exists(sandbox):
    there = [("describe-repositories", "{}", 0), ("describe-images", "sha256:abc", 0)]
    done = sandbox.run("deploy.sh", "dev", "us-east-1", "--auto-approve", answers=there)
    assert done.returncode == 0, done.stderr
    assert not [call for call in sandbox.calls if re.match("docker (login|build|push)", call) or "-target" in call]
    assert any(f"-var image_uri={IMAGE}" in call for call in sandbox.calls if call.startswith("terraform apply"))


def test_a_given_image_is_used_unchanged(sandbox):
    done = sandbox.run("deploy.sh", "dev", "us-east-1", "--auto-approve", "--image-uri", IMAGE)
    assert done.returncode == 0, done.stderr
    assert not [call for call in sandbox.calls if call.startswith("docker") or " ecr " in call]
    assert [call for call in sandbox.calls if call.startswith("terraform apply") and f"image_uri={IMAGE}" in call]


def test_every_script_deploys_a_given_zip(sandbox, tmp_path):
    (tmp_path / "given.zip").write_bytes(b"given")
    given = ("--image-uri", IMAGE, "--lambda-zip", str(tmp_path / "given.zip"))
    done = sandbox.run("deploy.sh", "dev", "us-east-1", "--auto-approve", *given)
    assert done.returncode == 0, done.stderr
    assert (sandbox.folder / "build" / "snowflake-poller-arm64.zip").read_bytes() == b"given"
    assert not [call for call in sandbox.calls if "build_lambda" in call]
    assert [
        call for call in sandbox.calls if call.startswith("terraform apply") and "snowflake-poller-arm64.zip" in call
    ]


def test_the_password_of_the_registry_appears_nowhere(sandbox):
    answers = [("describe-repositories", "{}", 0)]
    done = sandbox.run("deploy.sh", "dev", "us-east-1", "--auto-approve", answers=answers)
    assert "was pushed, but ECR does not list it" in done.stderr
    assert any(call.startswith("docker login") for call in sandbox.calls)
    assert "canary" not in done.stdout + done.stderr + "".join(sandbox.calls)


def test_the_image_is_built_over_another_base_which_is_part_of_its_tag(sandbox):
    base = ("--base", "registry.example.com/python@sha256:2")
    answers = [("describe-images", "sha256:abc", 0, '"docker", "push"')]
    done = sandbox.run("deploy.sh", "dev", "us-east-1", "--auto-approve", *base, answers=answers)
    assert done.returncode == 0, done.stderr
    tag = sandbox.run("build_image.sh", "--print-tag", *base).stdout.strip()
    (built,) = [call for call in sandbox.calls if call.startswith("docker build")]
    assert f"--build-arg PYTHON_IMAGE={base[1]} " in built
    assert f"/dev-snowflake-processor:{tag} " in built


@pytest.mark.parametrize("with_zip", [False, True])
def test_zip_and_image_have_the_configured_architecture_even_if_terraform_prints_a_warning(sandbox, tmp_path, with_zip):
    (tmp_path / "given.zip").write_bytes(b"given")
    answers = [
        ("console .*var.architecture", 'Warning: Value for undeclared variable\n\n"X86_64"', 0),
        ("describe-images", "sha256:abc", 0, '"docker", "push"'),
    ]
    zip_option = ("--lambda-zip", str(tmp_path / "given.zip")) if with_zip else ()
    done = sandbox.run("deploy.sh", "dev", "us-east-1", "--auto-approve", *zip_option, answers=answers)
    assert done.returncode == 0, done.stderr
    tag = sandbox.run("build_image.sh", "--print-tag", "--arch", "x86_64").stdout.strip()
    (built,) = [call for call in sandbox.calls if call.startswith("docker build")]
    assert "--platform linux/amd64 " in built
    assert f"/dev-snowflake-processor:{tag} " in built
    applied = [call for call in sandbox.calls if call.startswith("terraform apply")]
    assert all("snowflake-poller-x86_64.zip" in call for call in applied)
