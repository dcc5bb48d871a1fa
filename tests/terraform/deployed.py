"""An environment that scripts/deploy.sh has deployed to the embedded stack, and access to it.

The stand-in's Scheduler, Lambda and Fargate run what Terraform deployed, and the tests read the definitions back from
the stand-in. Two things come from elsewhere: Snowflake's address, and the local program that runs in place of an image.
"""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import shutil
import subprocess
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psutil
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from terraform import inventory, workbench

from rowqueue_local import deployment, stack

if TYPE_CHECKING:
    from pathlib import Path

ENVIRONMENT, REGION = stack.ENVIRONMENT, stack.REGION
POLLER, PROCESSOR = deployment.POLLER, deployment.PROCESSOR
IMAGE = f"123456789012.dkr.ecr.{REGION}.amazonaws.com/{PROCESSOR}@sha256:{'5' * 64}"
TICK_S = 2.0
PATIENCE_S = 180.0
"""How long a test waits for other processes. It takes seconds on an idle machine, and a busy one is not a failure."""
_NO_INDEX = re.compile("failed to fetch|error sending request|dns error|timed out", re.IGNORECASE)
_SOURCES = ("container", "lambda_poller", "local", "scripts", "snowflake", "src")

# No value is the default of Terraform or of the program, so a value that is not passed on is noticed. The one exception
# is snowflake_authentication: the other values need no key, and the tests follow the key.
SETTINGS = {
    "snowflake_account": "acme-orders",
    "snowflake_warehouse": "ORDERS_WH",
    "snowflake_database": "ORDERS_DB",
    "snowflake_schema": "OUTBOX",
    "snowflake_table": "ORDERS_QUEUE",
    "snowflake_role_poller": "ORDERS_LAUNCHER",
    "snowflake_role_processor": "ORDERS_SENDER",
    "snowflake_authentication": "key_pair",
    "snowflake_user": "ORDERS_DB_SERVICE",
    "snowflake_private_key_encrypted": True,
    "client_key_encrypted": True,
    "secret_recovery_days": 0,
    "certificate_bucket": "acme-orders-certificates",
    "lease_bucket": "acme-orders-lease",
    "task_memory": 1024,
    "entries_per_container": 3,
    "max_containers": 2,
    "stale_threshold_minutes": 11,
    "container_timeout_seconds": 40,
    "service_timeout_seconds": 12,
    "max_retries": 4,
    "boot_deadline_seconds": 90,
    "max_crashes": 5,
    "spot_share": 50,
    "poller_environment": {"TASK_DEADLINE_SECONDS": "900"},
    "processor_environment": {"MAX_CONCURRENT_DELIVERIES": "6", "RETRY_BACKOFF_SECONDS": "0.2"},
    "schedule_expression": "rate(2 minutes)",
    "push_topic": True,
    "vpc_cidr": "10.99.0.0/20",
    "alert_email": "oncall@example.com",
    "log_retention_days": 14,
    # The stand-in cannot create these: moto 5.2.5 has neither composite alarms nor saved queries.
    "enable_composite_alarms": False,
    "enable_saved_queries": False,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """The deployed environment.

    Attributes:
        running: the embedded stack.
        folder: the copy of the repository that it was deployed from.
        environ: the variables that a person who deploys exports.
        zip: the deployed zip of the function.
        before: the content of the AWS stand-in before the deployment; see inventory.py.
        outputs: Terraform's outputs.
    """

    running: stack.Stack
    folder: Path
    environ: dict[str, str] = field(repr=False)
    zip: Path
    before: dict
    outputs: dict

    def client(self, service):
        """A boto3 client of the AWS stand-in."""
        return deployment.client(self.running, service)

    def script(self, name, *arguments):
        """Run one of the scripts, as a person would."""
        return _run([self.folder / "scripts" / name, *arguments], self.folder, self.environ)

    def terraform(self, *arguments):
        """Run a command of Terraform's in the workspace of the environment."""
        environ = self.environ | {"TF_WORKSPACE": ENVIRONMENT}
        return _run(["terraform", "-chdir=terraform", *arguments], self.folder, environ)

    def session(self):
        """A connection to the Snowflake stand-in, as a producer would open it."""
        return deployment.session(self.running, **_place())

    def function(self):
        """The function's configuration."""
        return self.client("lambda").get_function_configuration(FunctionName=POLLER)

    def task_definition(self):
        """The task definition that the function launches."""
        name = self.function()["Environment"]["Variables"]["ECS_TASK_DEFINITION"]
        return self.client("ecs").describe_task_definition(taskDefinition=name)["taskDefinition"]

    def logged(self, group):
        """The JSON lines of a log group, oldest first."""
        pages = self.client("logs").get_paginator("filter_log_events").paginate(logGroupName=group)
        events = [event for page in pages for event in page["events"]]
        return [
            json.loads(event["message"])
            for event in sorted(events, key=lambda event: event["timestamp"])
            if event["message"].startswith("{")
        ]

    def complaints(self):
        """The last warnings of poller and processors, for the message of a test that fails."""
        groups = (self.outputs["poller_log_group"], self.outputs["processor_log_group"])
        lines = [line for group in groups for line in self.logged(group) if line["level"] != "info"]
        return "\n".join(json.dumps(line) for line in sorted(lines, key=lambda line: line["timestamp"])[-10:])


@contextmanager
def deployed(folder):
    """Start the stack, create the queue, build the zip, deploy. Everything is in ``folder`` and ends with the block."""
    workbench.terraform()
    plugins = workbench.provider()
    if shutil.which("aws") is None:
        workbench.unavailable("the AWS CLI is not on this machine")
    copy = _copied(folder / "repository")
    with stack.running(stack.Options(state=folder / "stack", tick_s=TICK_S, task_start_s=0.1)) as running:
        environ = _environ(folder, running, plugins)
        _settle(copy, SETTINGS | {"external_service_url": running.partner})
        zip_file = folder / "snowflake-poller-host.zip"
        _build(copy, environ, zip_file)
        _must(copy, environ, "setup_database.sh")
        _admit_the_programs(running, environ)
        before = inventory.taken(running)
        arguments = ("--auto-approve", "--image-uri", IMAGE, "--lambda-zip", str(zip_file))
        _must(copy, environ, "deploy.sh", ENVIRONMENT, REGION, *arguments)
        found = Deployed(running=running, folder=copy, environ=environ, zip=zip_file, before=before, outputs={})
        outputs = json.loads(found.terraform("output", "-json").stdout)
        found.outputs.update({name: output["value"] for name, output in outputs.items()})
        _upload_certificates(found)
        yield found


def _copied(folder):
    folder.mkdir()
    workbench.copied(folder)
    for name in _SOURCES:
        shutil.copytree(workbench.ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(workbench.ROOT / ".dockerignore", folder)
    (folder / ".venv").symlink_to(workbench.ROOT / ".venv")
    return folder


def _settle(copy, settings):
    # deploy.sh looks for ENV.tfvars, which Terraform reads as HCL. JSON values are valid HCL.
    lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
    (copy / "terraform" / f"{ENVIRONMENT}.tfvars").write_text("\n".join(lines) + "\n", encoding="utf-8")
    # By default the provider repeats a call that the stand-in does not know 25 times, for minutes.
    override = 'provider "aws" {\n  max_retries = 2\n}\n'
    (copy / "terraform" / "local_override.tf").write_text(override, encoding="utf-8")


def _environ(folder, running, plugins):
    (folder / "terraform.rc").touch()
    passphrase = secrets.token_urlsafe(12)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SNOWFLAKE_", "TF_"))}
    names = ("account", "warehouse", "database", "schema", "table")
    place = {f"SNOWFLAKE_{name.upper()}": SETTINGS[f"snowflake_{name}"] for name in names}
    return (
        kept
        | running.environ
        | place
        | {
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_MAX_ATTEMPTS": "2",
            "CHECKPOINT_DISABLE": "1",
            "TF_CLI_ARGS_init": f"-plugin-dir={plugins} -lockfile=readonly",
            "TF_CLI_CONFIG_FILE": str(folder / "terraform.rc"),
            "SERVICE_PRIVATE_KEY": _private_key(passphrase),
            "SERVICE_PRIVATE_KEY_PASSPHRASE": passphrase,
            "CLIENT_KEY_PASSPHRASE": secrets.token_urlsafe(12),
        }
    )


def _private_key(passphrase):
    """A new key as ``openssl genrsa`` creates it. The driver signs a real token with it."""
    return _encrypted(rsa.generate_private_key(public_exponent=65537, key_size=2048), passphrase).decode()


def _encrypted(key, passphrase):
    with_passphrase = serialization.BestAvailableEncryption(passphrase.encode())
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, with_passphrase)


def _place():
    return {name: SETTINGS[f"snowflake_{name}"] for name in ("warehouse", "database", "schema")}


def _admit_the_programs(running, environ):
    """Create the roles of the settings over those of setup_database.sh, and give the programs' user its public key.

    Without the variables of roles and table, the programs use the user's default role and PROCESSING_QUEUE.
    """
    passphrase = environ["SERVICE_PRIVATE_KEY_PASSPHRASE"].encode()
    key = serialization.load_pem_private_key(environ["SERVICE_PRIVATE_KEY"].encode(), passphrase)
    public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    user = SETTINGS["snowflake_user"]
    with deployment.session(running, **_place()) as session, session.cursor() as cursor:
        cursor.execute(f"ALTER USER {user} SET RSA_PUBLIC_KEY = '{base64.b64encode(public).decode()}'")
        for program in ("poller", "processor"):
            role = SETTINGS[f"snowflake_role_{program}"]
            cursor.execute(f"CREATE ROLE {role}")
            cursor.execute(f"GRANT ROLE {SETTINGS['snowflake_database']}_{program.upper()} TO ROLE {role}")
            cursor.execute(f"GRANT ROLE {role} TO USER {user}")
        script = (workbench.ROOT / "snowflake" / "01_create_table.sql").read_text(encoding="utf-8")
        session.execute_string(script)
        cursor.execute("CREATE ROLE ORDERS_BOTH")
        cursor.execute("GRANT SELECT, UPDATE ON TABLE PROCESSING_QUEUE TO ROLE ORDERS_BOTH")
        for program in ("poller", "processor"):
            cursor.execute(f"GRANT ROLE {SETTINGS[f'snowflake_role_{program}']} TO ROLE ORDERS_BOTH")
        cursor.execute(f"GRANT ROLE ORDERS_BOTH TO USER {user}")
        cursor.execute(f"ALTER USER {user} SET DEFAULT_ROLE = 'ORDERS_BOTH'")


def _upload_certificates(found):
    certificates = found.running.certificates
    key = serialization.load_pem_private_key(certificates.client_key.read_bytes(), password=None)
    contents = {path.name: path.read_bytes() for path in (certificates.client, certificates.ca)}
    contents[certificates.client_key.name] = _encrypted(key, found.environ["CLIENT_KEY_PASSPHRASE"])
    for name, content in contents.items():
        bucket = found.outputs["certificate_bucket"]
        found.client("s3").put_object(Bucket=bucket, Key=f"{ENVIRONMENT}/{name}", Body=content)


def processes(running, program):
    """The environments of the stand-in's processes that run a program, by process."""
    found = {}
    for child in psutil.Process(running.services["aws"].pid).children(recursive=True):
        with suppress(psutil.Error):  # the process has ended
            if any(word.endswith(program) for word in child.cmdline()):
                found[child.pid] = child.environ()
    return found


def wait_until(condition, *, instead=lambda: ""):
    """Wait until ``condition`` returns something and return that; ``instead`` describes what happened otherwise."""
    deadline = time.monotonic() + PATIENCE_S
    while not (result := condition()):
        assert time.monotonic() < deadline, f"it did not happen within {PATIENCE_S:g} s\n{instead()}"
        time.sleep(0.05)
    return result


def _build(copy, environ, zip_file):
    done = _run([copy / "scripts" / "build_lambda.sh", "--host", "--output", zip_file], copy, environ)
    if done.returncode and _NO_INDEX.search(done.stderr):
        workbench.unavailable("the package index cannot be reached, so the function's zip cannot be built")
    assert done.returncode == 0, done.stderr


def _must(copy, environ, name, *arguments):
    done = _run([copy / "scripts" / name, *arguments], copy, environ)
    assert done.returncode == 0, f"{name} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"


def _run(command, folder, environ):
    return subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=workbench.COMMAND_S,
        check=False,
    )
