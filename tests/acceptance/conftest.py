"""A deployed stack, and fixtures that run the real processes on it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from rowqueue_local import deployment, stack

ROOT = Path(__file__).parents[2]
ROWQUEUE = [sys.executable, "-m", "rowqueue.cli"]


@pytest.fixture(scope="session")
def deployed(tmp_path_factory):
    """A stack whose schedule does not fire, so that each test decides what runs. All tests of a worker share it."""
    options = stack.Options(
        state=tmp_path_factory.mktemp("stack"),
        tick_s=3600,
        poller={"STALE_THRESHOLD_MINUTES": "0.02", "TICK_SECONDS": "0.1"},
    )
    with stack.running(options) as running:
        deployment.deploy(running)
        yield running


@pytest.fixture
def sql(deployed):
    """Runs one statement and returns its rows. The queue is empty at the start."""
    with deployment.session(deployed) as session:

        def run(text, *values):
            with session.cursor() as cursor:
                cursor.execute(text, values)
                return [tuple(row) for row in cursor.fetchall()]

        for table in ("PROCESSING_QUEUE", "PROCESSING_ATTEMPTS", "PROCESSORS", "PROCESSING_HOLDS"):
            run(f"DELETE FROM {table}")
        yield run


@pytest.fixture
def insert(sql):
    """Inserts entries that ask for a behaviour of the partner."""

    def run(count, **behaviour):
        data = [json.dumps({"number": number, "partner": behaviour}) for number in range(count)]
        sql(
            "INSERT INTO PROCESSING_QUEUE (data) SELECT e.value::VARCHAR FROM TABLE(FLATTEN(PARSE_JSON(?))) AS e",
            json.dumps(data),
        )

    return run


@pytest.fixture
def processor(deployed, tmp_path):
    """Starts container/processor.py as its own process, as Fargate does."""

    @contextmanager
    def run(program=(str(ROOT / "container" / "processor.py"),), **environ):
        log = tmp_path / "processor.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, *program],
                cwd=ROOT,
                env={
                    "PATH": os.environ["PATH"],
                    "TMPDIR": str(tmp_path),
                    "ENVIRONMENT": "dev",
                    "CERT_BUCKET": deployment.BUCKET,
                    "PROCESSOR_ID": "dev-test",
                    **deployed.environ_of("processor"),
                    **environ,
                },
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            process.log = log.read_text
            try:
                yield process
            finally:
                process.kill()
                process.wait()

    return run


@pytest.fixture(scope="session")
def wait_until():
    """Waits until a condition on other processes is true."""

    def run(condition, *, seconds=20.0):
        deadline = time.monotonic() + seconds
        while not (result := condition()):
            assert time.monotonic() < deadline, "the condition did not become true in time"
            time.sleep(0.05)
        return result

    return run


@pytest.fixture
def tick(deployed):
    """Invokes the function and returns its answer."""
    functions = deployment.client(deployed, "lambda")

    def run():
        answer = json.loads(functions.invoke(FunctionName=deployment.POLLER, Payload=b"{}")["Payload"].read())
        assert answer.get("statusCode") == 200, answer
        return json.loads(answer["body"])

    return run
