"""Mutation tests: change one thing in a module, run its tests, and list the changes that no test notices.

    .venv/bin/python scripts/mutants.py --sample 50 --seed 1
    .venv/bin/python scripts/mutants.py --sample 20 --module processor/gate.py --json

Cosmic Ray makes the mutations; three more kinds that it lacks are below. The work is done in a copy of the tree in a
temporary folder, so the work tree stays as it is, also after an interrupt. The same seed on the same tree tries the
same mutants.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

try:
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator
    from parso.python.tree import Keyword
except ModuleNotFoundError as missing:
    sys.exit(f"mutants: {missing}; run make setup, then .venv/bin/python scripts/mutants.py")

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT = Path(__file__).resolve().parent.parent
SOURCE = "src/rowqueue"

TESTS_OF: dict[str, tuple[str, ...]] = {
    "lifecycle.py": ("unit/test_lifecycle.py",),
    "contract.py": ("unit/test_contract.py",),
    "aws.py": ("unit/test_aws.py",),
    "poller/observe.py": (
        "unit/test_poll.py",
        "unit/test_poll_launch.py",
        "unit/test_lease.py",
        "unit/test_two_ticks.py",
    ),
    "poller/lease.py": ("unit/test_lease.py", "unit/test_two_ticks.py"),
    "poller/cleaning.py": ("unit/test_poll_rescue.py", "unit/test_poll.py"),
    "poller/launching.py": ("unit/test_poll_launch.py", "unit/test_refusals.py", "unit/test_lease.py"),
    "processor/store.py": (
        "unit/test_processor_store.py",
        "unit/test_snowflake_queue.py",
        "unit/test_sent_rows.py",
        "contract/test_queue.py",
    ),
    "processor/trust.py": ("unit/test_trust.py", "unit/test_doubts.py", "unit/test_run.py"),
    "processor/run.py": (
        "unit/test_run.py",
        "unit/test_run_storms.py",
        "unit/test_memory.py",
        "unit/test_large_answers.py",
    ),
    "processor/exchange.py": ("unit/test_answers.py",),
    "poller/decide.py": ("unit/test_decide.py", "unit/test_poll.py", "unit/test_poll_launch.py", "unit/test_lease.py"),
    "poller/backoff.py": ("unit/test_backoff.py", "unit/test_poll.py", "unit/test_poll_launch.py"),
    "processor/blocks.py": ("unit/test_blocks.py",),
    "processor/in_hand.py": ("unit/test_settling_loop.py",),
    "processor/claiming.py": ("unit/test_claiming.py", "unit/test_run.py", "unit/test_run_storms.py"),
    "processor/delivering.py": ("unit/test_run.py", "unit/test_run_storms.py"),
    "processor/settling.py": ("unit/test_settling_loop.py", "unit/test_memory.py", "unit/test_run.py"),
    "processor/attempts.py": ("unit/test_attempts.py", "unit/test_run.py"),
    "processor/pace.py": ("unit/test_pace.py", "unit/test_large_answers.py"),
    "processor/gate.py": ("unit/test_gate.py", "unit/test_gate_boundaries.py", "unit/test_looks.py"),
    "processor/looking.py": ("unit/test_looks.py",),
    "processor/connection_faults.py": ("unit/test_answers.py", "integration/test_service.py"),
    "processor/service.py": ("unit/test_service_answers.py", "integration/test_service.py"),
    "processor/status_line.py": ("unit/test_status_line.py", "integration/test_service.py"),
    "processor/certificates.py": ("integration/test_certificate_dates.py", "integration/test_certificates.py"),
    "warehouse.py": ("unit/test_warehouse.py", "integration/test_login.py"),
    "settings.py": ("unit/test_settings.py", "unit/test_settings_bounds.py", "unit/test_settings_page.py"),
    "credentials.py": ("unit/test_credentials.py", "integration/test_login.py"),
}
"""The fastest tests that are enough for each module, the quickest first."""

OPERATORS = tuple(
    f"core/{name}"
    for name in (
        *(f"ReplaceBinaryOperator_{pair}" for pair in ("Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "Pow_Mul")),
        *(f"ReplaceBinaryOperator_{pair}" for pair in ("FloorDiv_Mul", "BitOr_BitAnd", "BitAnd_BitOr")),
        *(f"ReplaceComparisonOperator_{pair}" for pair in ("Eq_NotEq", "NotEq_Eq", "Is_IsNot", "IsNot_Is")),
        *(f"ReplaceComparisonOperator_{pair}" for pair in ("Lt_LtE", "Lt_GtE", "LtE_Lt", "LtE_Gt")),
        *(f"ReplaceComparisonOperator_{pair}" for pair in ("Gt_GtE", "Gt_LtE", "GtE_Gt", "GtE_Lt")),
        "ReplaceUnaryOperator_Delete_Not",
        "ReplaceUnaryOperator_Delete_USub",
        "AddNot",
        "ReplaceTrueWithFalse",
        "ReplaceFalseWithTrue",
        "ReplaceAndWithOr",
        "ReplaceOrWithAnd",
        "ReplaceBreakWithContinue",
        "ReplaceContinueWithBreak",
        "ExceptionReplacer",
        "NumberReplacer",
        "ZeroIterationForLoop",
    )
)
"""Cosmic Ray has eleven replacements for each binary operator. Most of them end in a TypeError, which no test misses.
Only the ones that a person might write are tried."""

_WITHIN_2_GIB = (
    "import resource, sys, pytest\n"
    "resource.setrlimit(resource.RLIMIT_DATA, (2**31, 2**31))\n"
    "sys.exit(pytest.main(sys.argv[1:]))"
)
"""A mutant that never ends may also fill the memory."""

_IGNORED = (".git", ".venv*", ".local", "__pycache__", ".*_cache", ".hypothesis", ".terraform", "build", "dist")


class InputError(Exception):
    """The message says what is wrong, in one line."""


class ReturnNone:
    """``return value`` becomes ``return None``."""

    def mutation_positions(self, node: Any) -> Iterator[tuple[Any, Any]]:
        """Where it applies, as Cosmic Ray asks for it."""
        if node.type == "return_stmt" and node.children[1].get_code(include_prefix=False) != "None":
            yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:  # noqa: ARG002 -- one mutation a node
        """The node with the mutation."""
        node.children[1] = Keyword("None", node.children[1].start_pos, prefix=" ")
        return node


class DropStatement:
    """A call or an assignment to an attribute is left out. Log lines stay: tests need not read all of them."""

    def mutation_positions(self, node: Any) -> Iterator[tuple[Any, Any]]:
        """Where it applies, as Cosmic Ray asks for it."""
        if node.type != "simple_stmt":
            return
        code = node.children[0].get_code(include_prefix=False)
        body: list[ast.stmt] = ast.parse(code).body if node.children[0].type in {"atom_expr", "expr_stmt"} else []
        match body:
            case [ast.Expr(value=ast.Call(func=ast.Name(id="log" | "log_problem")))]:
                return
            case (
                [ast.Expr(value=ast.Call() | ast.Await())]
                | [ast.Assign(targets=[ast.Attribute() | ast.Subscript()])]
                | [ast.AugAssign()]
            ):
                yield node.children[0].start_pos, node.children[0].end_pos
            case _:
                return

    def mutate(self, node: Any, index: int) -> Any:  # noqa: ARG002 -- one mutation a node
        """The node with the mutation."""
        statement = node.children[0]
        node.children[0] = Keyword("pass", statement.start_pos, prefix=statement.get_first_leaf().prefix)
        return node


class DropElement:
    """One element of a set, a list or a tuple in brackets is left out, if all elements are of one kind."""

    def mutation_positions(self, node: Any) -> Iterator[tuple[Any, Any]]:
        """Where it applies, as Cosmic Ray asks for it."""
        if node.type in {"dictorsetmaker", "testlist_comp"}:
            elements, commas = node.children[::2], node.children[1::2]
            kinds = {element.type for element in elements} - {"star_expr"}
            if len(kinds) <= 1 and all(comma.get_code().strip() == "," for comma in commas):
                yield from ((element.start_pos, element.end_pos) for element in elements)

    def mutate(self, node: Any, index: int) -> Any:
        """The node with the mutation."""
        del node.children[2 * index : 2 * index + 2]
        if len(node.children) == 1:  # a tuple of one element needs its comma
            node.children.append(get_ast(",").children[0])
        return node


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a mutation can be made: the operator's ``occurrence``-th in the module."""

    module: str
    operator: str
    occurrence: int
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A mutation, and the module with it."""

    place: Place
    function: str
    diff: str
    code: str


def operators() -> dict[str, Any]:
    """All operators by their names."""
    return {name: get_operator(name)() for name in OPERATORS} | {
        kind.__name__: kind() for kind in (ReturnNone, DropStatement, DropElement)
    }


def places(module: str, code: str) -> list[Place]:
    """Where ``code`` can be mutated: not in annotations and decorators, which the type checker and imports try."""
    tree = get_ast(code)
    skipped = list(_skipped(ast.parse(code)))
    found = []
    for name, operator in operators().items():
        positions = ((node, start) for node in ast_nodes(tree) for start, _ in operator.mutation_positions(node))
        found += [
            Place(module=module, operator=name, occurrence=occurrence, line=start[0])
            for occurrence, (node, start) in enumerate(positions)
            # A bare * among parameters is no multiplication.
            if not (node.type == "operator" and node.parent.type == "parameters")
            and not any(first <= start < last for first, last in skipped)
        ]
    return found


def _skipped(tree: ast.Module) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    for node in ast.walk(tree):
        parts: list[Any] = [*getattr(node, "decorator_list", []), getattr(node, "annotation", None)]
        parts.append(getattr(node, "returns", None))
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            parts.append(node)
        yield from (((part.lineno, part.col_offset), (part.end_lineno, part.end_col_offset)) for part in parts if part)


def mutant_at(place: Place, code: str) -> Mutant | None:
    """The mutant; ``None`` if it is not Python or means the same."""
    mutated = mutate_code(code, operators()[place.operator], place.occurrence)
    try:
        if mutated is None or ast.dump(ast.parse(mutated)) == ast.dump(ast.parse(code)):
            return None
    except SyntaxError:
        return None
    lines = difflib.unified_diff(code.splitlines(), mutated.splitlines(), n=0, lineterm="")
    diff = "\n".join(line for line in lines if not line.startswith(("---", "+++", "@@")))
    return Mutant(place=place, function=_function_at(ast.parse(code), place.line), diff=diff, code=mutated)


def _function_at(tree: ast.AST, line: int) -> str:
    names = []
    node: ast.AST | None = tree
    while node is not None:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.append(node.name)
        inside = (c for c in ast.iter_child_nodes(node) if getattr(c, "lineno", line + 1) <= line <= _last_line(c))
        node = next(inside, None)
    return ".".join(names) or "<module>"


def _last_line(node: ast.AST) -> int:
    return getattr(node, "end_lineno", None) or 0


def sample(codes: Mapping[str, str], size: int, seed: int) -> Iterator[Mutant]:
    """``size`` mutants of the modules, or all there are."""
    candidates = [place for module, code in sorted(codes.items()) for place in places(module, code)]
    random.Random(seed).shuffle(candidates)  # noqa: S311 -- a sample, no secret
    mutants = (mutant_at(place, codes[place.module]) for place in candidates)
    for _, mutant in zip(range(size), filter(None, mutants), strict=False):
        yield mutant


def survivors(
    root: Path, tests_of: Mapping[str, Sequence[str]], *, size: int, seed: int, patience_s: float = 10.0
) -> Iterator[tuple[Mutant, bool]]:
    """Each mutant of the sample, and whether it survived its tests.

    Args:
        root: the project; it stays as it is.
        tests_of: the test files that are run for each module, all relative to ``root``.
        size: how many mutants to try.
        seed: which ones.
        patience_s: tests that take this much longer than four times their usual time have noticed the mutant.

    Raises:
        InputError: a file is missing, or the tests fail without a mutation.
    """
    for name in (*tests_of, *(test for tests in tests_of.values() for test in tests)):
        if not (root / name).is_file():
            raise InputError(f"{name} is not there; change TESTS_OF in scripts/mutants.py")
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(root, tree, symlinks=True, ignore=shutil.ignore_patterns(*_IGNORED))
        usual_s: dict[str, float] = {}
        for mutant in sample({module: (tree / module).read_text() for module in tests_of}, size, seed):
            module = mutant.place.module
            if module not in usual_s:
                began = time.monotonic()
                if not _passes(tree, tests_of[module], within_s=600):
                    raise InputError(f"the tests of {module} fail without a mutation: {' '.join(tests_of[module])}")
                usual_s[module] = time.monotonic() - began
            yield mutant, _survives(tree, mutant, tests_of[module], within_s=patience_s + 4 * usual_s[module])


def _survives(tree: Path, mutant: Mutant, tests: Sequence[str], *, within_s: float) -> bool:
    file = tree / mutant.place.module
    original = file.read_text()
    # Two changes within a second look the same to Python's cache.
    for cached in (file.parent / "__pycache__").glob(f"{file.stem}.*.pyc"):
        cached.unlink()
    file.write_text(mutant.code)
    try:
        return _passes(tree, tests, within_s=within_s, cached=False)
    finally:
        file.write_text(original)


def _passes(tree: Path, tests: Sequence[str], *, within_s: float, cached: bool = True) -> bool:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV"))}
    # Before the installed project.
    environment["PYTHONPATH"] = os.pathsep.join(str(tree / folder) for folder in ("src", "local/src"))
    environment["PYTHONDONTWRITEBYTECODE"] = "" if cached else "1"
    options = ("-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--hypothesis-seed=0")
    with subprocess.Popen(  # noqa: S603 -- this Python, our own tests
        [sys.executable, "-c", _WITHIN_2_GIB, *options, *tests],
        cwd=tree,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            return process.wait(timeout=within_s) == 0
        except subprocess.TimeoutExpired:
            return False
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def _table(modules: Sequence[str]) -> dict[str, list[str]]:
    if unknown := [module for module in modules if module not in TESTS_OF]:
        raise InputError(f"--module {unknown[0]}: expected one of {', '.join(TESTS_OF)}")
    return {
        f"{SOURCE}/{module}": [f"tests/{test}" for test in tests]
        for module, tests in TESTS_OF.items()
        if module in modules or not modules
    }


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(message)


def _whole_number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {text!r}")
    return int(text)


def main(arguments: Sequence[str]) -> int:
    """Try a sample and print what survived; 0 also when some did."""
    parser = _Parser(prog="mutants", description="Change one thing, run its tests, list what no test notices.")
    parser.add_argument("--sample", type=_whole_number, default=20, metavar="N", help="mutants to try (20)")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="which ones (1)")
    parser.add_argument("--module", action="append", default=[], help="only of this module; can be repeated")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    try:
        given = parser.parse_args(arguments)
        tried, survived = 0, []
        for mutant, survives in survivors(ROOT, _table(given.module), size=given.sample, seed=given.seed):
            tried += 1
            survived += [mutant] if survives else []
            if sys.stderr.isatty():
                print(f"\r{tried} of {given.sample} tried, {len(survived)} survived", end="", file=sys.stderr)
    except InputError as error:
        print(f"mutants: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("mutants: interrupted", file=sys.stderr)
        return 130
    if sys.stderr.isatty():
        print(file=sys.stderr)
    survived.sort(key=lambda mutant: (mutant.place.module, mutant.place.line, mutant.diff))
    print(_as_json(tried, survived) if given.json else _as_text(tried, survived))
    return 0


def _as_json(tried: int, survived: Sequence[Mutant]) -> str:
    listed = [
        {"file": m.place.module, "line": m.place.line, "function": m.function, "operator": m.place.operator}
        | {"diff": m.diff}
        for m in survived
    ]
    return json.dumps({"tried": tried, "killed": tried - len(survived), "survivors": listed}, indent=2)


def _as_text(tried: int, survived: Sequence[Mutant]) -> str:
    blocks = [f"{m.place.module}:{m.place.line} in {m.function}, {m.place.operator}\n{m.diff}\n" for m in survived]
    return "\n".join([*blocks, f"{tried} tried, {tried - len(survived)} killed, {len(survived)} survived"])


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the copy is removed
    sys.exit(main(sys.argv[1:]))
