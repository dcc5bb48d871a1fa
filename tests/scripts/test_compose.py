"""docker-compose.yml is well-formed; ``tests/acceptance/test_compose.py`` runs its commands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.yml"
SERVICES = yaml.safe_load(FILE.read_text())["services"]


def checked(path):
    command = [Path(sys.executable).parent / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", path]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_file_follows_the_compose_specification(tmp_path):
    assert checked(FILE).returncode == 0
    (tmp_path / "docker-compose.yml").write_text(FILE.read_text().replace("healthcheck:", "healthchek:"))
    assert checked(tmp_path / "docker-compose.yml").returncode == 1


def test_a_dependency_names_a_service_that_exists_and_can_be_waited_for():
    for name, service in SERVICES.items():
        for other, how in service.get("depends_on", {}).items():
            awaited = SERVICES[other]
            assert ("healthcheck" in awaited) == (how["condition"] == "service_healthy"), (name, other)


def test_every_service_that_stays_has_a_health_check_and_none_is_open_to_the_network():
    for service in SERVICES.values():
        assert ("healthcheck" in service) != (service.get("restart") == "no")
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_there_is_no_secret_in_the_file():
    assert not re.search(r"password\s*[:=]|secret\s*[:=]|environment:|env_file", FILE.read_text(), re.IGNORECASE)
