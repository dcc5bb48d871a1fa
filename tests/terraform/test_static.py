"""Static checks of the configuration with Terraform, checkov and parliament. test_apply_and_run.py applies it."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
from collections import defaultdict
from pathlib import Path

from terraform import workbench

pytestmark = workbench.PATIENT

POLICY_LINT = Path(__file__).with_name("policy_lint.py")

# The only resource of ListTasks is a container instance, and Fargate has none.
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


def test_every_variable_has_a_type_and_a_description():
    assert len(variables()) > 40
    for name, block in variables().items():
        assert re.search(r"^  type +=", block, re.MULTILINE), name
        assert re.search(r'^  description += ".*[.)]"$', block, re.MULTILINE), name


def test_the_example_has_only_existing_variables_and_all_required_ones():
    example = (workbench.CONFIGURATION / "terraform.tfvars.example").read_text(encoding="utf-8")
    named = set(re.findall(r"^(?:# )?(\w+) +=", example, re.MULTILINE))
    needed = {name for name, block in variables().items() if "\n  default " not in block}
    assert named <= variables().keys()
    assert needed - named == {"environment", "aws_region", "image_uri", "lambda_zip"}  # scripts/deploy.sh passes these


def variables():
    text = (workbench.CONFIGURATION / "variables.tf").read_text(encoding="utf-8")
    return dict(re.findall(r'^variable "(\w+)" \{\n(.*?)^\}', text, re.MULTILINE | re.DOTALL))


def test_the_configuration_is_valid(bench):
    done = bench.run("validate")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_schedule_is_created_after_everything_that_the_first_tick_needs(bench):
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
    assert "aws_ecr_lifecycle_policy.processor" not in before_the_schedule  # no tick needs it


def reached(needs, start):
    found, ahead = set(), [start]
    while ahead:
        new = needs[ahead.pop()] - found
        found |= new
        ahead += new
    return found


def test_every_run_of_terraform_test_passes(tested):
    assert tested.faults == []
    assert len(tested.statuses) >= 15
    assert {run: status for run, status in tested.statuses.items() if status != "pass"} == {}


def test_every_policy_has_only_actions_conditions_and_resources_that_aws_knows(tested):
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
    text = json.dumps(policies)
    done = subprocess.run(program, input=text, capture_output=True, text=True, timeout=workbench.COMMAND_S, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_checkov_finds_nothing_except_the_skipped_checks(tmp_path):
    """terraform/.checkov.yaml lists the skipped checks. A skipped check that finds nothing fails the test."""
    program = workbench.checker("checkov")
    folder = workbench.copied(tmp_path)
    variables = tmp_path / "everything.tfvars"
    variables.write_text(EVERYTHING, encoding="utf-8")
    command = [program, "--directory", folder, "--framework", "terraform", "--var-file", variables, "--skip-download"]
    done = subprocess.run(
        [*command, "--quiet", "--compact", "--output", "json"],
        cwd=tmp_path,  # a folder without a configuration file of checkov
        capture_output=True,
        text=True,
        timeout=workbench.COMMAND_S,
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
    """The names after ``skip-check:``. Each follows a reason, or another name with the same reason."""
    lines = (workbench.CONFIGURATION / ".checkov.yaml").read_text(encoding="utf-8").splitlines()
    entries = lines[lines.index("skip-check:") + 1 :]
    for above, line in itertools.pairwise(entries):
        if line.startswith("  - "):
            assert above.startswith(("  # ", "  - ")), f"{line}: no reason"
            yield line.removeprefix("  - ")
