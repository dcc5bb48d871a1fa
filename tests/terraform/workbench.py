"""A copy of the configuration, in which Terraform runs. It never writes to the sources."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest
from terraform import mirror

ROOT = Path(__file__).parents[2]
CONFIGURATION = ROOT / "terraform"
CHECKERS = ROOT / ".venv-terraform" / "bin"
COMMAND_S = 1200
"""Longest time for one Terraform command or one script. It only ends what hangs: on two idle cores the slowest takes
about 60 s, and several times as long beside other work."""
PATIENT = pytest.mark.timeout(2 * COMMAND_S, func_only=True)
"""Mark of a module whose fixtures run Terraform. The time-out does not cover fixtures, because the first test would pay
for all of them. COMMAND_S ends a fixture that hangs."""
_OF_A_PERSON = ("*.tfvars", "*.tfstate*", "backend.tf", "backend.hcl", "*override.tf", ".terraform")


def unavailable(what):
    """Skip the test with the reason, or fail it if REQUIRE_TERRAFORM=1."""
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
    """Copy the configuration without the files that a person keeps in the same folder."""
    shutil.copytree(CONFIGURATION, folder / "terraform", ignore=shutil.ignore_patterns(*_OF_A_PERSON))
    shutil.copytree(ROOT / "monitoring", folder / "monitoring")
    return folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Workbench:
    """Terraform and an initialised copy of the configuration.

    Attributes:
        folder: the copy, with terraform/ and monitoring/ in it.
        program: the path of Terraform.
        environ: the environment of Terraform, without the caller's variables that Terraform reads.
    """

    folder: Path
    program: str
    environ: dict[str, str]

    def run(self, *arguments):
        """Run a Terraform command; its standard output is text."""
        command = [self.program, "-chdir=terraform", *arguments]
        return subprocess.run(
            command, cwd=self.folder, env=self.environ, capture_output=True, text=True, timeout=COMMAND_S, check=False
        )

    def tests(self):
        """Yield the messages of ``terraform test``, without the provider's schemas, which each plan repeats."""
        command = [self.program, "-chdir=terraform", "test", "-json", "-verbose"]
        with subprocess.Popen(command, cwd=self.folder, env=self.environ, stdout=subprocess.PIPE, text=True) as process:
            limit = threading.Timer(COMMAND_S, process.kill)
            limit.start()
            for line in process.stdout:
                message = json.loads(line)
                message.get("test_plan", {}).pop("provider_schemas", None)
                yield message
            limit.cancel()
        assert process.returncode >= 0, f"terraform test was killed after {COMMAND_S} s"


def prepare(folder):
    """Copy the configuration and initialise it with exactly the provider that the lock file names."""
    program, plugins = terraform(), provider()
    settings = folder / "terraform.rc"
    settings.write_text("", encoding="utf-8")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("TF_", "AWS_"))}
    environ |= {"TF_CLI_CONFIG_FILE": str(settings), "TF_IN_AUTOMATION": "1", "CHECKPOINT_DISABLE": "1"}
    bench = Workbench(folder=copied(folder), program=program, environ=environ)
    done = bench.run("init", "-input=false", "-backend=false", f"-plugin-dir={plugins}", "-lockfile=readonly")
    assert done.returncode == 0, done.stdout + done.stderr
    return bench
