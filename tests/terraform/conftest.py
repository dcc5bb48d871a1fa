"""One workbench and one run of ``terraform test`` for all tests that read its plans."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import pytest
from terraform import workbench


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    """The results of ``terraform test``.

    Attributes:
        statuses: the status of each run, by file and name.
        faults: the diagnostics.
        plans: the plan of each run, by name.
    """

    statuses: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    plans: dict[str, Plan] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The plan of one run.

    Attributes:
        resources: the planned values of each resource, by address.
    """

    resources: dict[str, dict]

    def of(self, kind):
        """The resources of one type, or of one type and name, by address."""
        return {at: values for at, values in self.resources.items() if re.search(rf"(^|\.){kind}[.\[]", f"{at}.")}


@pytest.fixture(scope="session")
def bench(tmp_path_factory):
    """Terraform and an initialised copy of the configuration."""
    return workbench.prepare(tmp_path_factory.mktemp("terraform"))


@pytest.fixture(scope="session")
def tested(bench):
    """The results of all runs in terraform/tests."""
    found = Tested()
    for message in bench.tests():
        if plan := message.get("test_plan"):
            changes = plan.get("resource_changes", [])  # missing if a value was refused
            found.plans[message["@testrun"]] = Plan(
                resources={change["address"]: change["change"]["after"] for change in changes}
            )
        elif "status" in (run := message.get("test_run", {})):
            found.statuses[f"{run['path']}: {run['run']}"] = run["status"]
        elif message["type"] == "diagnostic":
            about = message["diagnostic"]
            found.faults.append(f"{message.get('@testrun', '')}: {about['summary']}: {about['detail']}")
    return found
