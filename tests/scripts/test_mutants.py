"""The mutation tests' own tool: what it changes, what it counts, and that it leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import mutants

SCRIPT = Path(mutants.__file__)
CODE = '''\
"""Limits."""

CODES = {401, 403}


def bigger(one: int | None, *, other: int) -> bool:
    """Whether it is."""
    return one > other


class Door:
    def open(self) -> None:
        self.leave()
        log("opened", count=1)
'''


def diffs(code, operator):
    found = [mutants.mutant_at(place, code) for place in mutants.places("limits.py", code)]
    return [
        (m.place.line, m.function, m.diff.splitlines()[-1][1:].strip()) for m in found if operator in m.place.operator
    ]


@pytest.mark.parametrize(
    ("operator", "expected"),
    [
        ("ReturnNone", [(8, "bigger", "return None")]),
        ("DropStatement", [(13, "Door.open", "pass")]),
        ("DropElement", [(3, "<module>", "CODES = { 403,}"), (3, "<module>", "CODES = {401,}")]),
        ("Gt_GtE", [(8, "bigger", "return one >= other")]),
        ("BitOr", []),
        ("Mul_Div", []),
    ],
)
def test_a_mutation_names_its_line_its_function_and_the_change(operator, expected):
    assert diffs(CODE, operator) == expected


def test_the_same_seed_draws_the_same_sample_and_another_seed_another():
    def drawn(seed):
        return [(m.place, m.diff) for m in mutants.sample({"limits.py": CODE}, 5, seed)]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_a_sample_larger_than_all_there_are_tries_each_once():
    drawn = [(m.place, m.diff) for m in mutants.sample({"limits.py": CODE}, 1000, 1)]
    assert 5 < len(drawn) == len(set(drawn)) < 100


@pytest.fixture
def project(tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src/limits.py").write_text("def bigger(one, other):\n    return one > other\n")
    (tmp_path / "test_limits.py").write_text(
        "from limits import bigger\n\ndef test_it():\n    assert bigger(2, 1) is True and bigger(1, 2) is False\n"
    )
    return tmp_path


def test_what_no_test_notices_survives_and_the_tree_stays_as_it_is(project):
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    tried = list(mutants.survivors(project, {"src/limits.py": ["test_limits.py"]}, size=10, seed=1))
    assert {m.place.operator.split("_", 1)[-1]: survived for m, survived in tried} == {
        "Gt_GtE": True,
        "Gt_LtE": False,
        "ReturnNone": False,
    }
    assert {path: path.read_bytes() for path in project.rglob("*") if path.is_file()} == before


def test_tests_that_hang_have_noticed_the_mutant(project):
    (project / "test_limits.py").write_text("import time\n\ndef test_it():\n    time.sleep(600)\n")
    assert not mutants._passes(project, ["test_limits.py"], within_s=1)


def test_tests_that_fill_the_memory_have_noticed_the_mutant(project):
    (project / "test_limits.py").write_text("def test_it():\n    assert len(bytearray(3 * 2**30))\n")
    assert not mutants._passes(project, ["test_limits.py"], within_s=60)


def test_a_listed_file_that_is_missing_and_tests_that_fail_anyway_are_named(project):
    with pytest.raises(mutants.InputError, match=r"^src/gone\.py is not there; change TESTS_OF"):
        list(mutants.survivors(project, {"src/gone.py": ["test_limits.py"]}, size=1, seed=1))
    (project / "test_limits.py").write_text("def test_it():\n    assert False\n")
    with pytest.raises(mutants.InputError, match=r"^the tests of src/limits\.py fail without a mutation"):
        list(mutants.survivors(project, {"src/limits.py": ["test_limits.py"]}, size=1, seed=1))


def test_each_file_in_the_table_is_there():
    for module, tests in mutants.TESTS_OF.items():
        assert (mutants.ROOT / mutants.SOURCE / module).is_file()
        assert all((mutants.ROOT / "tests" / test).is_file() for test in tests)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--sample", "none"], "mutants: argument --sample: expected a whole number from 1, got 'none'\n"),
        (["--seed", "x"], "mutants: argument --seed: invalid int value: 'x'\n"),
        (["--bogus"], "mutants: unrecognized arguments: --bogus\n"),
    ],
)
def test_bad_input_gets_one_line(capsys, arguments, expected):
    assert mutants.main(arguments) == 2
    assert capsys.readouterr() == ("", expected)


def test_the_json_has_what_survived_with_its_place():
    (mutant,) = [m for m in mutants.sample({"limits.py": CODE}, 1000, 1) if m.place.operator == "ReturnNone"]
    assert json.loads(mutants._as_json(3, [mutant])) == {
        "tried": 3,
        "killed": 2,
        "survivors": [
            {
                "file": "limits.py",
                "line": 8,
                "function": "bigger",
                "operator": "ReturnNone",
                "diff": "-    return one > other\n+    return None",
            }
        ],
    }


def test_when_it_is_terminated_its_copy_of_the_tree_is_gone(tmp_path):
    with subprocess.Popen(
        [sys.executable, SCRIPT, "--sample", "1", "--module", "processor/gate.py"],
        env=os.environ | {"TMPDIR": str(tmp_path)},
    ) as process:
        while not list(tmp_path.glob("mutants-*/tree/src")):
            assert process.poll() is None, "it ended before it was terminated"
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 128 + signal.SIGTERM
    assert not list(tmp_path.iterdir())
