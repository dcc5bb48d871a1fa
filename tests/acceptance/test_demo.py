"""``rowqueue demo`` and ``rowqueue local up``, as a person runs them."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import boto3
import psutil
import pytest
import snowflake.connector

from rowqueue_local import processes

ROOT = Path(__file__).parents[2]
ROWQUEUE = [sys.executable, "-m", "rowqueue.cli"]


def started_by(state):
    """Every process of a stack that is still alive."""
    return [process for registry in state.rglob("pids") for process in processes.registered(registry)]


def run(*arguments, cwd, timeout=100):
    return subprocess.run(
        [*ROWQUEUE, *arguments], cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False
    )


def test_the_demo_takes_every_entry_from_insert_to_its_end(tmp_path):
    done = run("demo", "--entries", "60", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert set(figures) == {
        "entries",
        "completed",
        "failed",
        "pending",
        "processing",
        "attempts",
        "tasks_launched",
        "statements",
        "duplicate_deliveries",
        "seconds",
    }
    assert (figures["entries"], figures["completed"], figures["failed"]) == (60, 53, 7)
    assert (figures["pending"], figures["processing"], figures["duplicate_deliveries"]) == (0, 0, 0)
    assert figures["attempts"] == 60 + 9 + 2 * 3, "nine are delivered twice, three are delivered three times"
    assert figures["tasks_launched"] >= 2
    assert "completed" in done.stderr, "and a person gets a summary"
    assert started_by(tmp_path) == []
    assert [path.name for path in tmp_path.iterdir()] == [".local"]


def test_the_processes_of_a_demo_that_is_killed_end(tmp_path, wait_until):
    demo = subprocess.Popen(
        [*ROWQUEUE, "demo", "--entries", "2000"], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: len(started_by(tmp_path)) >= 5, seconds=60)  # three services, the function, a task
    finally:
        demo.kill()
        demo.wait()
    wait_until(lambda: not started_by(tmp_path), seconds=5)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["demo", "--entries", "0"], "0 is not in the range"),
        (["demo", "--entries", "many"], "'many' is not a valid integer"),
        (["fly"], "No such command 'fly'"),
    ],
)
def test_a_wrong_command_line_gets_a_sentence_and_no_stack_trace(tmp_path, arguments, expected):
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_that_cannot_be_written_gets_a_sentence_and_no_stack_trace(tmp_path):
    (tmp_path / "file").write_text("in the way")
    done = run("local", "up", "--state-dir", "file/state", cwd=tmp_path)
    assert done.returncode == 1
    assert "file/state" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_with_something_else_in_it_is_refused_and_not_cleared(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    done = run("local", "up", "--state-dir", ".", cwd=tmp_path)
    assert done.returncode == 1
    assert "was not made by a stack" in done.stderr
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


@pytest.fixture(scope="module")
def up(tmp_path_factory):
    """``rowqueue local up`` in its own folder, with a tick each second; yields the folder and the exports."""
    folder = tmp_path_factory.mktemp("up")
    with subprocess.Popen(
        [*ROWQUEUE, "local", "up", "--tick", "1"], cwd=folder, stdout=subprocess.PIPE, text=True
    ) as process:
        ready = json.loads(process.stdout.readline())
        exports = [shlex.split(line)[1] for line in Path(ready["env"]).read_text().splitlines()]
        yield folder, dict(export.split("=", 1) for export in exports)
        process.terminate()
        assert process.wait(20) == 0
    assert started_by(folder) == []
    assert not Path(ready["env"]).exists()


def connect(environ):
    return snowflake.connector.connect(
        account=environ["SNOWFLAKE_ACCOUNT"],
        user=environ["SNOWFLAKE_USER"],
        password=environ["SNOWFLAKE_PASSWORD"],
        host=environ["SNOWFLAKE_HOST"],
        port=int(environ["SNOWFLAKE_PORT"]),
        protocol=environ["SNOWFLAKE_PROTOCOL"],
        database=environ["SNOWFLAKE_DATABASE"],
        schema=environ["SNOWFLAKE_SCHEMA"],
        platform_detection_timeout_seconds=0.0,
    )


def aws(environ, *arguments):
    if not shutil.which("aws"):
        pytest.skip("the AWS CLI is not installed")
    done = subprocess.run(
        ["aws", *arguments], env=os.environ | environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_row_inserted_by_a_connector_is_completed(up, wait_until):
    _, environ = up
    with connect(environ) as session, session.cursor() as cursor:
        cursor.execute(
            """INSERT INTO PROCESSING_QUEUE (data, reference) VALUES ('{"type": "new_type", "payload": {}}', 'mine')"""
        )

        def status():
            cursor.execute("SELECT status FROM PROCESSING_QUEUE WHERE reference = 'mine'")
            return cursor.fetchone()[0]

        wait_until(lambda: status() == "completed", seconds=30)


def test_the_commands_of_the_readme_work(up, tmp_path):
    folder, environ = up
    result = tmp_path / "result.json"
    aws(environ, "lambda", "invoke", "--function-name", "dev-snowflake-poller", "--payload", "{}", str(result))
    answer = json.loads(result.read_text())
    assert answer["statusCode"] == 200
    assert set(json.loads(answer["body"])) == {
        "pendingEntries",
        "readyEntries",
        "reason",
        "hold",
        "nextDueAt",
        "staleEntriesReset",
        "entriesRescued",
        "containersLaunched",
        "tasks",
    }
    assert "taskArns" in json.loads(aws(environ, "ecs", "list-tasks", "--cluster", "dev-snowflake-processor"))
    for name in ("PARTNER_CLIENT_CERTIFICATE", "PARTNER_CLIENT_KEY", "PARTNER_CA"):
        aws(environ, "s3", "cp", environ[name], "s3://dev-snowflake-processor-certs/dev/")


def test_an_unknown_event_for_the_function_is_answered_with_an_error(up):
    _, environ = up
    client = boto3.client(
        "lambda",
        endpoint_url=environ["AWS_ENDPOINT_URL"],
        region_name=environ["AWS_REGION"],
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )
    answer = client.invoke(FunctionName="dev-snowflake-poller", Payload=b'{"entries": 3}')
    assert answer["FunctionError"] == "Unhandled"
    figures = json.loads(answer["Payload"].read())
    assert figures["errorType"] == "EventError"
    assert "expected an empty event" in figures["errorMessage"]


def test_a_second_stack_in_the_same_folder_is_refused_with_a_sentence(up):
    folder, _ = up
    done = run("local", "up", cwd=folder)
    assert done.returncode == 1
    assert "is already running: stop it, or use another folder" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_services_listen_on_loopback_only(up):
    folder, _ = up
    services = [process for process in started_by(folder) if process.is_running()]
    addresses = {
        connection.laddr.ip
        for process in services
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert addresses == {"127.0.0.1"}
