"""The poller's zip and the processor's image contain what runs, for the right machine, and each build is the same."""

from __future__ import annotations

import io
import re
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import zip_folder

ROOT = Path(__file__).parents[2]

NO_INDEX = re.compile("failed to fetch|error sending request|dns error|timed out", re.IGNORECASE)
AARCH64 = 0xB7  # e_machine, ELF for the Arm 64-bit architecture


def build(*arguments):
    """Build a zip and return the output; the test is skipped by name if the package index cannot be reached."""
    done = subprocess.run(
        [ROOT / "scripts" / "build_lambda.sh", *arguments], capture_output=True, text=True, timeout=300, check=False
    )
    if done.returncode and NO_INDEX.search(done.stderr):
        pytest.skip(f"build_lambda.sh {arguments[0]}: the package index cannot be reached")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def host_zips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("host")
    zips = [folder / "first.zip", folder / "second.zip"]
    return zips, [build("--host", "--output", str(path)) for path in zips]


@pytest.fixture(scope="module")
def arm64_zip(tmp_path_factory):
    path = tmp_path_factory.mktemp("arm64") / "poller.zip"
    build("--arch", "arm64", "--output", str(path))
    return zipfile.ZipFile(path)


def test_two_builds_are_the_same_bytes(host_zips):
    (first, second), outputs = host_zips
    assert first.read_bytes() == second.read_bytes()
    assert re.search(r"^zipped [\d.]+ MiB, unzipped [\d.]+ MiB$", outputs[0], re.MULTILINE)


def test_the_handler_loads_from_the_zip_alone(host_zips, tmp_path):
    with zipfile.ZipFile(host_zips[0][0]) as archive:
        archive.extractall(tmp_path)
    program = (
        "import sys, json; sys.path.insert(0, sys.argv[1]); import index\n"
        "files = [getattr(module, '__file__', None) or '' for module in sys.modules.values()]\n"
        "try: index.handler([], None)\n"
        "except Exception as error:\n"
        "    print(json.dumps([[f for f in files if 'site-packages' in f], type(error).__name__]))\n"
    )
    # Without site-packages: whatever the zip lacks is missing, as it would be on Lambda.
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == '[[], "EventError"]'


def test_the_zip_contains_the_poller_and_neither_the_processor_nor_the_embedded_stack(host_zips):
    names = set(zipfile.ZipFile(host_zips[0][0]).namelist())
    assert {"index.py", "rowqueue/poller/tick.py", "rowqueue/sql/queries.sql"} <= names
    assert not [
        name
        for name in names
        if name.startswith(("rowqueue_local", "rowqueue/processor", "rowqueue/cli", "click/", "rich/"))
    ]
    assert not [name for name in names if name.endswith((".pyc", "RECORD")) or name.startswith(("aiohttp/", "bin/"))]


def test_everybody_may_read_every_file_of_the_zip(host_zips):
    modes = {entry.external_attr >> 16 for entry in zipfile.ZipFile(host_zips[0][0]).infolist()}
    assert modes == {0o644}


def shared_objects(archive):
    return {name: archive.read(name) for name in archive.namelist() if re.search(r"\.so(\.|$)", name)}


def test_every_shared_object_for_lambda_is_of_its_architecture(arm64_zip):
    objects = shared_objects(arm64_zip)
    assert len(objects) > 3
    for name, content in objects.items():
        assert content[:4] == b"\x7fELF", name
        assert struct.unpack_from("<H", content, 18)[0] == AARCH64, name


def test_every_shared_object_for_lambda_is_of_its_python(arm64_zip):
    tags = {
        re.search(r"\.(cpython-\d+|abi3)", name)
        for name in shared_objects(arm64_zip)
        if "cpython" in name or "abi3" in name
    }
    assert {tag[1] for tag in tags} == {"cpython-313", "abi3"}


def test_a_zip_that_lambda_would_refuse_is_refused(tmp_path, capsys):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "zeros").write_bytes(bytes(100_000))
    arguments = str(tmp_path / "folder"), str(tmp_path / "a.zip")
    assert zip_folder.main(*arguments) == 0
    assert zip_folder.main(*arguments, most_unzipped=99_999) == 1
    assert "expected at most 0.0953665 MiB unzipped" in capsys.readouterr().err
    assert zip_folder.main(*arguments, most_zipped=50) == 1
    assert "zipped" in capsys.readouterr().err


def test_the_order_on_disk_and_the_time_of_a_file_change_nothing(tmp_path):
    zips = []
    for number, names in enumerate((["b", "a"], ["a", "b"])):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name in names:
            (folder / name).write_text(name)
            (folder / name).chmod(0o600 + number)
        zip_folder.write(folder, tmp_path / f"{number}.zip")
        zips.append((tmp_path / f"{number}.zip").read_bytes())
    assert zips[0] == zips[1]
    assert zipfile.ZipFile(io.BytesIO(zips[0])).namelist() == ["a", "b"]


# The image


def test_the_image_runs_as_an_unprivileged_user_and_without_a_shell():
    stages = (ROOT / "container" / "Dockerfile").read_text().split("\nFROM ")
    assert re.search(r"^USER \d{4,}:\d{4,}$", stages[-1], re.MULTILINE)
    assert re.search(r"^ENTRYPOINT \[", stages[-1], re.MULTILINE)
    assert "RUN" not in stages[-1], (
        "the last stage is made of copies, so it contains neither pip's cache nor a compiler"
    )


def test_only_the_listed_files_go_to_the_builder():
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    allowed = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    assert allowed == {"container/processor.py", "container/requirements.txt", "src/rowqueue"}
    copied = set(re.findall(r"^COPY (?!--from)(\S+)", (ROOT / "container" / "Dockerfile").read_text(), re.MULTILINE))
    assert copied == allowed
