"""Which tests xdist's workers run together, and in which order, so that both workers end at about the same time."""

from __future__ import annotations

from xdist.scheduler import LoadFileScheduling

# The longest first: what is started last decides how long one worker runs alone.
LONGEST_FIRST = (
    "tests/terraform/test_apply_and_run.py",
    "tests/acceptance/test_drills.py",
    "tests/terraform/test_planned.py",
    "tests/terraform/test_static.py",
    "tests/terraform/test_alarms.py",
    "tests/contract/test_queue.py",
    "tests/contract/test_tables.py",
    "tests/contract/test_taken_away.py",
    "tests/contract/test_migrate.py",
    "tests/contract/",
    "tests/integration/",
    "tests/acceptance/",
    "tests/benchmarks/",
    "tests/scripts/",
)
# They read the same plans, which each worker would make for itself.
_OF_THE_PLANS = frozenset(f"tests/terraform/test_{name}.py" for name in ("planned", "static", "alarms"))
# Each of its tests takes long, and they share nothing.
_ALONE = frozenset({"tests/acceptance/test_drills.py"})


def place(nodeid):
    """Where a test belongs in the order."""
    for number, start in enumerate(LONGEST_FIRST):
        if nodeid.startswith(start):
            return number
    return len(LONGEST_FIRST)


class SharedSetUps(LoadFileScheduling):
    """Tests that share a set-up run on one worker: those of a file, with a few exceptions."""

    def _split_scope(self, nodeid):
        file = super()._split_scope(nodeid)
        if file in _OF_THE_PLANS:
            return "the plans"
        return nodeid if file in _ALONE else file
