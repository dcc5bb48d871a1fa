"""Rules of the repository that no linter checks: what is loaded, which folder has what, what is generated.

import-linter checks the directions of imports (``make fences``), ruff's banned-api the libraries of each module. The
message of each assertion says what to do.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "rowqueue"
LAB = ROOT / "local" / "src" / "rowqueue_local"
SOURCES = sorted([*PACKAGE.rglob("*.py"), ROOT / "lambda_poller" / "index.py", ROOT / "container" / "processor.py"])
LAB_SOURCES = sorted(LAB.rglob("*.py"))


def name_of(path):
    return str(path.relative_to(ROOT))


@cache
def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def in_python(code, *, folder="", options=()):
    """The JSON that ``code`` prints in a new interpreter with ``folder`` in its path, as on Lambda or Fargate."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [sys.executable, *options, "-c", code],
        env=environ | {"PYTHONPATH": str(ROOT / folder) if folder else ""},
        cwd=ROOT / "docs",
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


# What is loaded


@cache
def loaded_by(folder, module):
    return set(in_python(f"import {module}, sys, json; print(json.dumps(sorted(sys.modules)))", folder=folder))


def under(prefixes, modules):
    return sorted(m for m in modules if any(m == prefix or m.startswith(f"{prefix}.") for prefix in prefixes))


# Not rich: structlog imports it where it is installed.
NOT_DEPLOYED = ("rowqueue_local", "rowqueue.cli", "moto", "fakesnow", "duckdb", "sqlglot", "click", "psutil", "trustme")


def test_the_lambda_loads_neither_the_processor_nor_the_command_line_nor_the_lab_nor_their_libraries():
    foreign = (*NOT_DEPLOYED, "rowqueue.processor", "aiohttp")
    assert under(foreign, loaded_by("lambda_poller", "index")) == []


def test_the_container_loads_neither_the_poller_nor_the_command_line_nor_the_lab_nor_their_libraries():
    foreign = (*NOT_DEPLOYED, "rowqueue.poller")
    assert under(foreign, loaded_by("container", "processor")) == []


def imports_of(path):
    """The top-level packages that a file imports at run time, anywhere in it."""
    skipped = {
        inner
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree_of(path)):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


def pinned_in(requirements):
    names = re.findall(r"^([a-z0-9._-]+)==", (ROOT / requirements).read_text(), re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", name) for name in names}


@cache
def distributions():
    """The names of the installed distributions with a package, by the package's name."""
    return {
        package: {re.sub(r"[-_.]+", "-", name.lower()) for name in names}
        for package, names in packages_distributions().items()
    }


OURS = {"rowqueue", "rowqueue_local"}


def room_of(path):
    inside = path.relative_to(PACKAGE).parts if path.is_relative_to(PACKAGE) else path.parts[-2:]
    return inside[0]


@pytest.mark.parametrize(
    ("requirements", "sources", "left_out"),
    [
        ("lambda_poller/requirements.txt", SOURCES, {"processor", "container", "cli.py"}),
        ("container/requirements.txt", SOURCES, {"poller", "lambda_poller", "cli.py"}),
        ("requirements-dev.txt", SOURCES + LAB_SOURCES, set()),
    ],
)
def test_every_imported_library_is_pinned_where_it_runs(requirements, sources, left_out):
    pinned = pinned_in(requirements)
    missing = {
        f"{name_of(path)}: {package}"
        for path in sources
        if room_of(path) not in left_out
        for package in imports_of(path)
        if package not in sys.stdlib_module_names | OURS and not distributions().get(package, set()) & pinned
    }
    assert missing == set(), "add it to pyproject.toml and to the requirements.in of what ships it, then: make lock"


@pytest.mark.parametrize("folder", ["lambda_poller", "container"])
def test_deployed_requirements_are_libraries_of_the_product_without_the_command_line(folder):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    ours = project["dependencies"] + project["optional-dependencies"]["processor"]
    asked_for = {line for line in (ROOT / folder / "requirements.in").read_text().splitlines() if line[:1].isalpha()}
    assert asked_for <= {re.match(r"[A-Za-z0-9._-]+", dependency)[0] for dependency in ours}
    assert not {"click", "rich"} & pinned_in(f"{folder}/requirements.txt")


@pytest.mark.parametrize("requirements", ["lambda_poller/requirements.txt", "container/requirements.txt"])
def test_the_deployed_pins_are_the_versions_that_the_tests_run_with(requirements):
    def pins(file):
        return set(re.findall(r"^([a-z0-9._-]+==\S+)", (ROOT / file).read_text(), re.MULTILINE))

    assert pins(requirements) <= pins("requirements-dev.txt")


@pytest.mark.parametrize(
    "requirements", ["lambda_poller/requirements.txt", "container/requirements.txt", "requirements-dev.txt"]
)
def test_every_pin_has_a_hash_and_no_index_address(requirements):
    text = (ROOT / requirements).read_text()
    for pin in re.split(r"\n(?=[a-z0-9])", text):
        if "==" in pin:
            assert "--hash=sha256:" in pin
    assert "://" not in text
    assert "index-url" not in text


SECONDS_OF = """
import json, sys, time
began = time.process_time()
import {baseline}
known = time.process_time()
import {module}
print(json.dumps([known - began, time.process_time() - known]))
"""


@pytest.mark.parametrize(
    ("folder", "module", "baseline", "most"),
    [
        # The time that our own modules add to the driver and boto3.
        ("lambda_poller", "index", "boto3, snowflake.connector", 1.0),
        ("container", "processor", "boto3, snowflake.connector", 2.0),
        ("", "rowqueue.lifecycle", "asyncio", 1.0),
        ("", "rowqueue.settings", "asyncio", 1.5),
    ],
)
def test_an_import_takes_at_most_its_share_of_the_time_of_its_libraries(folder, module, baseline, most):
    code = SECONDS_OF.format(module=module, baseline=baseline)
    ratios = []
    for _ in range(5):
        known, added = in_python(code, folder=folder)
        ratios.append(added / known)
        if ratios[-1] <= most:
            return
    pytest.fail(
        f"import {module} takes {min(ratios):.2f} times what import {baseline} takes, at most {most} is allowed"
    )


IMPORT_EACH_ALONE = """
import importlib, json, sys, traceback
failed = {{}}
for name in {modules}:
    for loaded in [loaded for loaded in sys.modules if loaded.split(".")[0] in ("rowqueue", "rowqueue_local")]:
        del sys.modules[loaded]
    try:
        importlib.import_module(name)
    except BaseException:
        failed[name] = traceback.format_exc(limit=-3)
print(json.dumps(failed))
"""


def modules_of(package):
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("package", [PACKAGE, LAB], ids=["product", "lab"])
def test_every_module_can_be_imported_alone_and_without_a_warning(package):
    code = IMPORT_EACH_ALONE.format(modules=list(modules_of(package)))
    assert in_python(code, options=["-W", "error"]) == {}


# Which folder has what


def test_the_folder_of_the_sql_scripts_contains_sql_only():
    others = [
        name_of(path)
        for path in (ROOT / "snowflake").rglob("*")
        if path.is_file() and path.suffix not in {".sql", ".md"}
    ]
    assert others == [], "Python in snowflake/ hides the driver's package of that name: put it elsewhere"


SQL = re.compile(
    r"\b(select\b.+\bfrom\b|select\s+[\d?*]|update\s+\S+\s+set\b|insert\s+(into|overwrite)\b|delete\s+from\b|merge\s+into\b"
    r"|truncate\s+table\b|(create|alter|drop)\s+(or\s+replace\s+)?(transient\s+|temporary\s+)?(table|view|session|schema)\b)",
    re.IGNORECASE | re.DOTALL,
)


def texts_in(tree):
    """The strings of a module without docstrings; an f-string is one text with ? for its values."""
    docstrings = {
        node.value for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    parts = {
        part
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for part in ast.walk(node)
        if part is not node
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield (
                node.lineno,
                "".join(str(part.value) if isinstance(part, ast.Constant) else "?" for part in node.values),
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in docstrings | parts:
            yield node.lineno, node.value


def test_sql_is_only_in_queries_sql():
    found = [
        f"{name_of(path)}:{line}: {text.strip()[:60]}"
        for path in SOURCES
        for line, text in texts_in(tree_of(path))
        if SQL.search(text)
    ]
    assert found == [], (
        "give it a name in src/rowqueue/sql/queries.sql and a method in poller/queue.py or processor/store.py"
    )


@pytest.mark.parametrize(
    "code",
    [
        "run('SELECT id FROM q')",
        "run('select 1')",
        "run(f'UPDATE {table} SET a = 1')",
        "TEXT = '''\n  INSERT INTO q (a)\n  SELECT 1'''",
        "run('delete ' 'from q')",
        "run('ALTER SESSION SET a = 1')",
        "run('create or replace view v as')",
    ],
)
def test_a_statement_in_a_string_is_recognised(code):
    assert any(SQL.search(text) for _, text in texts_in(ast.parse(code)))


@pytest.mark.parametrize(
    "code", ["'''Select what is from here.'''", "x = 'update it, then set it'", "x = 'from the selected'"]
)
def test_prose_is_not_taken_for_a_statement(code):
    assert not any(SQL.search(text) for _, text in texts_in(ast.parse(code)))


def environment_reads(tree):
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Attribute)
            and getattr(node.value, "id", "") == "os"
            and node.attr in {"environ", "getenv"}
        ):
            yield node.lineno
        if isinstance(node, ast.ImportFrom) and node.module == "os":
            yield from (node.lineno for alias in node.names if alias.name in {"environ", "getenv"})


def test_only_the_entry_points_read_the_environment():
    found = [
        f"{name_of(path)}:{line}"
        for path in SOURCES
        if path.is_relative_to(PACKAGE) and room_of(path) != "cli.py"
        for line in environment_reads(tree_of(path))
    ]
    assert found == [], "make it a field of a settings class, or take it as an argument"


@pytest.mark.parametrize("code", ["import os\nos.environ['A']", "import os\nos.getenv('A')", "from os import environ"])
def test_a_read_of_the_environment_is_recognised(code):
    assert list(environment_reads(ast.parse(code)))


def test_no_module_has_a_vague_name():
    vague = {"common", "core", "helper", "helpers", "misc", "models", "shared", "types", "util", "utils"}
    found = [
        name_of(path) for path in SOURCES for part in path.relative_to(ROOT).with_suffix("").parts if part in vague
    ]
    assert found == [], "name a module for its duty"


def class_names(path):
    return [node.name for node in ast.walk(tree_of(path)) if isinstance(node, ast.ClassDef)]


def test_no_two_classes_have_the_same_name():
    folders = ("src", "local", "scripts", "container", "lambda_poller", "tests")
    places = defaultdict(list)
    for path in sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        for name in class_names(path):
            places[name].append(name_of(path))
    doubled = {name: paths for name, paths in places.items() if len(paths) > 1}
    assert doubled == {}, "give one of them a name that says what it is there"
