"""Read ``terraform show -json`` from standard input for the scripts.

``outside MODULE`` prints the addresses that a plan would change outside a module. ``places`` prints the accounts and
regions of the resources in a state.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


def outside(plan: dict[str, Any], module: str) -> list[str]:
    """The addresses outside ``module`` that the plan changes."""
    return [
        change["address"]
        for change in plan.get("resource_changes", [])
        if not change["address"].startswith(f"{module}.") and change["change"]["actions"] not in (["no-op"], ["read"])
    ]


def places(state: dict[str, Any]) -> list[str]:
    """The accounts and regions in the ARNs of a state's resources. ARNs of global services have no region."""
    found = set()
    for resource in _resources(state.get("values", {}).get("root_module", {})):
        _, _, _, region, account, *_ = f"{resource['values'].get('arn') or ''}:::::".split(":")
        if resource["mode"] == "managed" and region and account:
            found.add(f"account {account}, region {region}")
    return sorted(found)


def _resources(module: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from module.get("resources", [])
    for child in module.get("child_modules", []):
        yield from _resources(child)


if __name__ == "__main__":
    shown = json.load(sys.stdin)
    print("; ".join(outside(shown, sys.argv[2]) if sys.argv[1] == "outside" else places(shown)))
