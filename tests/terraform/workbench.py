"""A copy of the configuration in which Terraform may run: the sources are never written to."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from terraform import mirror

ROOT = Path(__file__).parents[2]
CONFIGURATION = ROOT / "terraform"
CHECKERS = ROOT / ".venv-terraform" / "bin"
_A_PERSONS = ("*.tfvars", "*.tfstate*", "backend.tf", "backend.hcl", "*override.tf", ".terraform")


def unavailable(what):
    """Skip the test by name, or fail it where REQUIRE_TERRAFORM=1 says that everything should be there."""
    if os.environ.get("REQUIRE_TERRAFORM") == "1":
        pytest.fail(f"REQUIRE_TERRAFORM=1, and {what}")
    pytest.skip(what)


def checker(name):
    """The path of a program of .venv-terraform; the test is skipped without it."""
    path = CHECKERS / name
    if not path.exists():
        unavailable(f"{name} is not installed: make terraform-tools")
    return path


def terraform():
    """The path of Terraform; the test is skipped without it."""
    return shutil.which("terraform") or unavailable("terraform is not on this machine")


def provider():
    """The folder with the provider; the test is skipped without one."""
    version = mirror.locked_version((CONFIGURATION / ".terraform.lock.hcl").read_text(encoding="utf-8"))
    on = mirror.this_platform()
    found = mirror.provider_mirror(os.environ, version=version, on=on, home=Path.home())
    return found or unavailable(f"no mirror has hashicorp/aws {version} for {on}: see tests/terraform/mirror.py")


def copied(folder):
    """Copy what belongs to the configuration, and nothing that a person keeps beside it."""
    shutil.copytree(CONFIGURATION, folder / "terraform", ignore=shutil.ignore_patterns(*_A_PERSONS))
    shutil.copytree(ROOT / "monitoring", folder / "monitoring")
    return folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Workbench:
    """Terraform and a copy that it has been initialised in.

    Attributes:
        folder: the copy, with terraform/ and monitoring/ in it.
        program: Terraform.
        environ: the environment it runs in: nothing of the caller's that it would go by.
    """

    folder: Path
    program: str
    environ: dict[str, str]

    def run(self, *arguments, timeout_s=300):
        """Run a command of Terraform's; its standard output is text."""
        command = [self.program, "-chdir=terraform", *arguments]
        return subprocess.run(
            command, cwd=self.folder, env=self.environ, capture_output=True, text=True, timeout=timeout_s, check=False
        )

    def tests(self):
        """What ``terraform test`` tells, message by message, without the schemas that each plan comes with."""
        command = [self.program, "-chdir=terraform", "test", "-json", "-verbose"]
        with subprocess.Popen(command, cwd=self.folder, env=self.environ, stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout:
                message = json.loads(line)
                message.get("test_plan", {}).pop("provider_schemas", None)
                yield message


def prepare(folder):
    """Copy the configuration and initialise it, with the provider that the lock file names and no other."""
    program, plugins = terraform(), provider()
    settings = folder / "terraform.rc"
    settings.write_text("", encoding="utf-8")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("TF_", "AWS_"))}
    environ |= {"TF_CLI_CONFIG_FILE": str(settings), "TF_IN_AUTOMATION": "1", "CHECKPOINT_DISABLE": "1"}
    bench = Workbench(folder=copied(folder), program=program, environ=environ)
    done = bench.run("init", "-input=false", "-backend=false", f"-plugin-dir={plugins}", "-lockfile=readonly")
    assert done.returncode == 0, done.stdout + done.stderr
    return bench
