"""A copy of the scripts, and fake programs that record how they were called."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

READS = re.compile(
    r"^aws (\S+ )?(sts get|\S+ (get|list|describe|head)-)|^terraform (version|output|console|show|TF)|^docker info"
)

# Records its name and arguments as a JSON line. Answers by the first rule that matches: pattern, output, exit code, and
# optionally a pattern of an earlier call. Terraform's console is asked for variables on standard input. It answers by
# the rule of each.
PROGRAM = f"""#!{sys.executable}
import json, os, re, sys
call = [os.path.basename(sys.argv[0]), *sys.argv[1:]]
asked = sys.stdin.read().strip() if {{"console", "--password-stdin"}} & set(call) else ""
secrets = sorted(name for name in os.environ if name.startswith(("TF_VAR_snowflake_p", "TF_VAR_client_key_p")))
with open(os.environ["CALLS"], "a+") as calls:
    calls.seek(0)
    before = calls.read()
    calls.write(json.dumps({{"call": call, "secrets": secrets}}) + "\\n")
def answer(shown):
    for pattern, output, code, *after in json.load(open(os.environ["ANSWERS"])):
        if re.search(pattern, shown) and all(re.search(earlier, before) for earlier in after):
            return output, code
    return "", 0
if "console" not in call:
    output, code = answer(" ".join(call))
    print(output)
    sys.exit(code)
values = []
for name in re.findall(r"var\\.(\\w+)", asked):
    output, code = answer(" ".join(call) + " var." + name)
    *warnings, value = (output or "null").splitlines()
    if code:
        print(output)
        sys.exit(code)
    for line in warnings:
        print(line)
    values.append(name + "=" + re.sub(r'"|^(to\\w+\\()?null\\)?$', "", value))
print('"' + " ".join(values) + '"')
"""

ANSWERS = [
    ("^terraform version", "Terraform v1.11.4\non linux_amd64", 0),
    ("^terraform .*output -raw dashboard_url", "https://console.example.com/dev", 0),
    ("^terraform .*output -raw", "dev-snowflake-processor-certs", 0),
    ("^terraform .*show -json", "{}", 0),
    ("^aws .*sts get-caller-identity", "123456789012", 0),
    ("^aws .*describe-task-definition", "registry.example.com/dev@sha256:1", 0),
    ("^aws .*describe-repositories", "", 254),
    ("^aws .*get-login-password", "canary-registry-password", 0),
    ("^aws .*ecs list-tasks", "", 0),
    ("^aws .*describe-alarms", "dev-snowflake-poller-silent\tdev-snowflake-poller-errors", 0),
    ("^aws .*scheduler list-schedules", "None", 0),
    ("^aws .*list-object-versions", "{}", 0),
    ("^terraform .*console .*var.architecture", '"ARM64"', 0),
    ("^terraform .*console .*var.snowflake_authentication", '"workload_identity"', 0),
    ("^terraform .*console .*var.task_cpu", "256", 0),
    ("^terraform .*console .*var.max_containers", "25", 0),
    ("^terraform .*console .*var.spot_share", "0", 0),
    ("^terraform .*console .*var.reserved_concurrent_executions", "tonumber(null)", 0),
]


@dataclass(frozen=True, kw_only=True)
class Sandbox:
    """A folder with the scripts, in which every other program is a fake."""

    folder: Path
    environ: dict

    def run(self, script, *arguments, answers=(), stdin="", **environ):
        Path(self.environ["ANSWERS"]).write_text(json.dumps([*answers, *ANSWERS]))
        return subprocess.run(
            [str(self.folder / "scripts" / script), *arguments],
            env=self.environ | environ,
            **({"input": stdin} if isinstance(stdin, str) else {"stdin": stdin}),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def typed(self, text, script, *arguments, answers=()):
        """Run a script at a terminal, where a person types ``text``."""
        person, terminal = os.openpty()
        os.write(person, text.encode())
        try:
            return self.run(script, *arguments, answers=answers, stdin=terminal)
        finally:
            os.close(person)
            os.close(terminal)

    @property
    def calls(self):
        """The calls so far: program and arguments, without the arguments that every call has."""
        lines = Path(self.environ["CALLS"]).read_text().splitlines()
        return [re.sub(r" (-chdir=\S+|-input=false)", "", " ".join(json.loads(line)["call"])) for line in lines]

    @property
    def changes(self):
        """The calls that change something."""
        return [call for call in self.calls if not READS.search(call)]

    def secrets_of(self, call):
        """The secrets that the environment of a call carried."""
        for line in Path(self.environ["CALLS"]).read_text().splitlines():
            if re.search(call, " ".join(json.loads(line)["call"])):
                return json.loads(line)["secrets"]
        raise AssertionError(call)


@pytest.fixture
def sandbox(tmp_path):
    folder, programs = tmp_path / "repository", tmp_path / "programs"
    for part in ("scripts", "container", "src/rowqueue/processor", "snowflake"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / ".dockerignore", folder)
    builder = folder / "scripts" / "build_lambda.sh"
    builder.write_text(
        '#!/usr/bin/env bash\necho "[\\"build_lambda.sh\\"]" | sed "s/.*/{\\"call\\": &}/" >> "$CALLS"\n'
    )
    (folder / ".venv").symlink_to(sys.prefix)
    (folder / "terraform" / ".terraform").mkdir(parents=True)
    (folder / "terraform" / "dev.tfvars").write_text('snowflake_account = "myorg-account"\n')
    programs.mkdir()
    for name in ("aws", "terraform", "docker"):
        (programs / name).write_text(PROGRAM)
        (programs / name).chmod(0o755)
    (tmp_path / "calls").touch()
    environ = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("TF_", "SNOWFLAKE_", "SERVICE_", "AWS_"))
    }
    return Sandbox(
        folder=folder,
        environ=environ
        | {
            "PATH": f"{programs}:{environ['PATH']}",
            "CALLS": str(tmp_path / "calls"),
            "ANSWERS": str(tmp_path / "answers.json"),
        },
    )
