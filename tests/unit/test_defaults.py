"""A setting has one default, whether Terraform passes it or the program falls back to its own."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from rowqueue import credentials
from rowqueue.settings import PollerSettings, ProcessorSettings

ROOT = Path(__file__).parents[2]
TERRAFORM = ROOT / "terraform"


def variables():
    """The defaults in variables.tf, by name; a variable that has to be given has none."""
    text = (TERRAFORM / "variables.tf").read_text(encoding="utf-8")
    blocks = re.findall(r'^variable "(\w+)" \{\n(.*?)^\}', text, re.MULTILINE | re.DOTALL)
    defaults = {name: re.search(r"^  default += (.+)$", block, re.MULTILINE) for name, block in blocks}
    return {name: json.loads(found[1]) for name, found in defaults.items() if found}


def passed():
    """Terraform's variable for each setting that it passes to the function, the task or both."""
    texts = [(TERRAFORM / file).read_text(encoding="utf-8") for file in ("main.tf", "lambda.tf", "ecs.tf")]
    line = r"^ +([A-Z][A-Z0-9_]+) += (?:tostring\(var\.(\w+)\)|var\.(\w+))$"
    return {name: wrapped or bare for name, wrapped, bare in re.findall(line, "\n".join(texts), re.MULTILINE)}


def defaults_of(settings):
    """The defaults of a settings class, by the setting's name; a required setting has none."""
    found = {}
    for item in dataclasses.fields(settings):
        if nested := item.metadata.get("nested"):
            found |= defaults_of(nested)
        elif item.default is not dataclasses.MISSING:
            found[item.metadata["name"]] = item.default
    return found


@pytest.mark.parametrize("settings", [PollerSettings, ProcessorSettings])
def test_terraform_and_the_program_have_the_same_defaults(settings):
    of_terraform = {name: variables()[variable] for name, variable in passed().items() if variable in variables()}
    of_the_program = defaults_of(settings)
    both = of_terraform.keys() & of_the_program.keys()
    assert len(both) >= 5, "the files are read"
    assert {name: of_terraform[name] for name in both} == {name: of_the_program[name] for name in both}


def test_the_settings_that_terraform_passes_are_found():
    assert passed().keys() >= {
        "BOOT_DEADLINE_SECONDS",
        "CONTAINER_TIMEOUT_SECONDS",
        "ENTRIES_PER_CONTAINER",
        "MAX_CONTAINERS",
        "MAX_CRASHES",
        "MAX_RETRIES",
        "SERVICE_TIMEOUT_SECONDS",
        "SNOWFLAKE_AUTHENTICATION",
        "SNOWFLAKE_TABLE",
        "SPOT_PERCENT",
        "STALE_THRESHOLD_MINUTES",
    }


def test_the_default_schedule_has_the_default_period():
    minutes = re.fullmatch(r"rate\((\d+) minutes?\)", variables()["schedule_expression"])
    assert defaults_of(PollerSettings)["TICK_SECONDS"] == 60 * int(minutes[1])


def test_the_poller_and_the_processor_have_the_same_defaults():
    poller, processor = defaults_of(PollerSettings), defaults_of(ProcessorSettings)
    both = poller.keys() & processor.keys()
    assert {name: poller[name] for name in both} == {name: processor[name] for name in both}
    assert poller["ENTRIES_PER_CONTAINER"] == processor["MAX_ENTRIES"], "the poller passes the one as the other"


def test_the_scripts_set_up_the_database_that_terraform_uses_by_default():
    default = credentials.PLACE_OF_A_PERSON
    assert {name: variables()[name.lower()] for name in default} == default
