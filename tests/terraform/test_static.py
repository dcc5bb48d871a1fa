"""The configuration by Terraform's own checks, checkov and parliament. What it does when applied is another test's."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest
from terraform import workbench

POLICY_LINT = Path(__file__).with_name("policy_lint.py")

# ListTasks' only resource is a container instance, of which Fargate has none.
KNOWN_FINDINGS = {"aws_iam_role_policy.poller": ["RESOURCE_STAR: ['ecs:ListTasks']"]}

EVERYTHING = """
environment = "dev"
aws_region = "us-east-1"
push_topic = true
snowflake_push_user_arn = "arn:aws:iam::444455556666:user/snowflake"
snowflake_push_external_id = "SFC_1"
function_url = true
alert_email = "oncall@example.com"
client_key_encrypted = true
"""


def test_the_files_are_formatted(tmp_path):
    program = workbench.terraform()
    folder = workbench.copied(tmp_path)
    done = subprocess.run(
        [program, "fmt", "-check", "-diff", "-recursive", str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_variable_has_a_type_and_says_what_it_is():
    assert len(variables()) > 40
    for name, block in variables().items():
        assert re.search(r"^  type +=", block, re.MULTILINE), name
        assert re.search(r'^  description += ".*[.)]"$', block, re.MULTILINE), name


def test_the_example_names_variables_that_there_are_and_all_that_have_to_be_given():
    example = (workbench.CONFIGURATION / "terraform.tfvars.example").read_text(encoding="utf-8")
    named = set(re.findall(r"^(?:# )?(\w+) +=", example, re.MULTILINE))
    needed = {name for name, block in variables().items() if "\n  default " not in block}
    assert named <= variables().keys()
    assert needed - named == {"environment", "aws_region", "image_uri", "lambda_zip"}  # scripts/deploy.sh passes these


def variables():
    text = (workbench.CONFIGURATION / "variables.tf").read_text(encoding="utf-8")
    return dict(re.findall(r'^variable "(\w+)" \{\n(.*?)^\}', text, re.MULTILINE | re.DOTALL))


@pytest.mark.timeout(300)
def test_the_configuration_is_valid(bench):
    done = bench.run("validate")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(300)
def test_the_first_tick_finds_all_that_it_and_its_tasks_need(bench):
    done = bench.run("graph")
    assert done.returncode == 0, done.stderr
    needs = defaultdict(set)
    for resource, needed in re.findall(r'^ +"([^"]+)" -> "([^"]+)"', done.stdout, re.MULTILINE):
        needs[resource].add(needed)
    before_the_schedule = reached(needs, "aws_scheduler_schedule.poller")
    assert before_the_schedule > {
        "aws_ecs_cluster_capacity_providers.main",
        "aws_iam_role_policy.execution",
        "aws_iam_role_policy.poller",
        "aws_iam_role_policy.processor",
        "aws_iam_role_policy.scheduler",
        "aws_iam_role_policy_attachment.poller_in_vpc",
        "aws_lambda_function_event_invoke_config.poller",
        "aws_nat_gateway.main",
        "aws_route.internet",
        "aws_route.nat",
        "aws_route_table_association.private",
        "aws_route_table_association.public",
        "aws_secretsmanager_secret_version.client_key",
        "aws_secretsmanager_secret_version.snowflake",
        "aws_vpc_security_group_egress_rule.https",
    }
    assert "aws_ecr_lifecycle_policy.processor" not in before_the_schedule  # nobody waits for that


def reached(needs, start):
    found, ahead = set(), [start]
    while ahead:
        new = needs[ahead.pop()] - found
        found |= new
        ahead += new
    return found


@pytest.mark.timeout(300)
def test_every_run_of_terraform_test_passes(tested):
    assert tested.faults == []
    assert len(tested.statuses) >= 15
    assert {run: status for run, status in tested.statuses.items() if status != "pass"} == {}


@pytest.mark.timeout(300)
def test_no_policy_has_an_action_a_condition_or_a_resource_that_aws_does_not_know(tested):
    planned = tested.plans["roles"].of("aws_iam_role_policy")
    assert len(planned) == 5
    found = linted({address: values["policy"] for address, values in planned.items()})
    assert {at: [finding.split(" {")[0] for finding in findings] for at, findings in found.items() if findings} == (
        KNOWN_FINDINGS
    )


def test_the_policy_lint_finds_a_misspelled_action():
    statement = {"Effect": "Allow", "Action": "s3:GetObjct", "Resource": "arn:aws:s3:::bucket/*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    assert "UNKNOWN_ACTION" in linted({"misspelled": policy})["misspelled"][0]


def linted(policies):
    program = [workbench.checker("python"), POLICY_LINT]
    done = subprocess.run(program, input=json.dumps(policies), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.timeout(300)
def test_checkov_finds_nothing_but_what_we_decided_otherwise(tmp_path):
    """The list of skipped checks, with a reason each, is terraform/.checkov.yaml; one that finds nothing has to go."""
    program = workbench.checker("checkov")
    folder = workbench.copied(tmp_path)
    variables = tmp_path / "everything.tfvars"
    variables.write_text(EVERYTHING, encoding="utf-8")
    command = [program, "--directory", folder, "--framework", "terraform", "--var-file", variables, "--skip-download"]
    done = subprocess.run(
        [*command, "--quiet", "--compact", "--output", "json"],
        cwd=tmp_path,  # where no configuration file of checkov's lies
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    report = json.loads(done.stdout)
    failed = {check["check_id"]: check["resource"] for check in report["results"]["failed_checks"]}
    skipped = set(skipped_checks())
    assert report["summary"]["passed"] > 100
    assert report["summary"]["parsing_errors"] == 0
    assert {check: resource for check, resource in failed.items() if check not in skipped} == {}
    assert skipped - failed.keys() == set()


def skipped_checks():
    """The names after ``skip-check:``, each below a reason, or below another of the same reason."""
    lines = (workbench.CONFIGURATION / ".checkov.yaml").read_text(encoding="utf-8").splitlines()
    entries = lines[lines.index("skip-check:") + 1 :]
    for above, line in itertools.pairwise(entries):
        if line.startswith("  - "):
            assert above.startswith(("  # ", "  - ")), f"{line}: no reason"
            yield line.removeprefix("  - ")
