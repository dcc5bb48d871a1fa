"""The product's wheel: what is in it, and that its command line runs without the lab and the lab's libraries."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from rowqueue import __version__
from rowqueue.contract import SCHEMA_VERSION

ROOT = Path(__file__).parents[2]
OF_THE_LAB = ("rowqueue_local", "moto", "duckdb", "fakesnow", "sqlglot", "trustme", "psutil")


def built(target, folder):
    """Builds with the pinned hatchling, so without the package index."""
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", target, "-d", folder], cwd=ROOT, check=True)
    (path,) = folder.iterdir()
    return path


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return zipfile.ZipFile(built("wheel", tmp_path_factory.mktemp("wheel")))


def ddl():
    scripts = ROOT / "snowflake"
    return {str(path.relative_to(scripts)): path.read_bytes() for path in scripts.rglob("*.sql")}


def test_the_wheel_contains_the_product_and_its_ddl_and_nothing_of_the_lab(wheel):
    names = wheel.namelist()
    assert {name.split("/")[0] for name in names} == {"rowqueue", f"rowqueue-{__version__}.dist-info"}
    assert {"rowqueue/cli.py", "rowqueue/sql/queries.sql", "rowqueue/py.typed"} <= set(names)
    assert not [name for name in names if name.endswith(".pyc")]
    in_wheel = {name: wheel.read(f"rowqueue/sql/ddl/{name}") for name in ddl()}
    assert in_wheel == ddl()
    assert "01_create_table.sql" in in_wheel


def test_the_source_distribution_contains_the_ddl_and_nothing_of_the_lab(tmp_path):
    with tarfile.open(built("sdist", tmp_path)) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {f"snowflake/{name}" for name in ddl()} <= names
    assert not [name for name in names if name.startswith(("local/", "tests/"))]


@pytest.mark.parametrize("project", [ROOT / "pyproject.toml", ROOT / "local" / "pyproject.toml"])
def test_no_index_accepts_an_upload(project):
    assert '"Private :: Do Not Upload"' in project.read_text()


@pytest.fixture
def rowqueue(wheel, tmp_path):
    """Runs the installed wheel with click and no other package: neither the lab nor its libraries are there."""
    wheel.extractall(tmp_path)
    (tmp_path / "click").symlink_to(Path(find_spec("click").origin).parent)
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import importlib.util\n"
        f"assert not [name for name in {OF_THE_LAB} if importlib.util.find_spec(name)]\n"
        "from rowqueue.cli import main; main()"
    )

    def run(*arguments):
        command = [sys.executable, "-I", "-S", "-c", program, *arguments]
        environ = {"PATH": os.environ["PATH"], "COLUMNS": "200"}
        return subprocess.run(command, env=environ, cwd=tmp_path, capture_output=True, text=True, check=False)

    return run


def test_a_migration_finds_the_scripts_in_the_wheel(wheel, tmp_path):
    wheel.extractall(tmp_path)
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from rowqueue.migrate import scripts; print(scripts.folder(), scripts.read().newest)"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == f"{tmp_path}/rowqueue/sql/ddl {SCHEMA_VERSION}\n"


def test_the_command_line_helps_without_the_lab(rowqueue):
    done = rowqueue("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Is not installed; in a checkout of the repository, run: make setup" in done.stdout


@pytest.mark.parametrize("arguments", [["demo", "--entries", "3"], ["drill", "kill"], ["bench"], ["local", "up"]])
def test_a_command_of_the_lab_says_in_one_line_how_to_install_it(rowqueue, arguments):
    done = rowqueue(*arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"Error: {arguments[0]} is not installed; in a checkout of the repository, run: make setup\n"
    )


def test_a_command_that_does_not_exist_is_refused(rowqueue):
    assert "No such command 'nonsense'" in rowqueue("nonsense").stderr


def test_a_library_of_the_lab_that_is_missing_is_named(rowqueue, tmp_path):
    (tmp_path / "lab-1.dist-info").mkdir()
    (tmp_path / "lab-1.dist-info" / "METADATA").write_text("Name: lab\nVersion: 1\n")
    (tmp_path / "lab-1.dist-info" / "entry_points.txt").write_text("[rowqueue.commands]\ndemo = lab:demo\n")
    (tmp_path / "lab.py").write_text("import moto\n")
    assert rowqueue("demo").stderr.endswith("run: make setup (moto is missing)\n")
    assert rowqueue("--help").returncode == 0
