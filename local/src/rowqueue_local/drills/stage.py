"""What the drills share: a deployed stack, ways to act on it, and a look at the tables, the tasks and the ticks."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rowqueue_local import deployment, processes, stack

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    import snowflake.connector

    from rowqueue_local.stack import Stack

_INSERT = "INSERT INTO PROCESSING_QUEUE (data) SELECT e.value::VARCHAR FROM TABLE(FLATTEN(INPUT => PARSE_JSON(?))) AS e"
_TABLES = ("PROCESSING_QUEUE", "PROCESSING_ATTEMPTS", "PROCESSORS", "PROCESSING_HOLDS")


@dataclass(slots=True)
class Run:
    """A processor's process.

    Attributes:
        process: ended or not.
        log: the file it writes to.
    """

    process: subprocess.Popen[bytes]
    log: Path

    def lines(self) -> list[dict[str, Any]]:
        """What it has logged."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def error(self) -> str:
        """Why it failed, if it said so."""
        return next((line["error"] for line in self.lines() if line["event"] == "processor_failed"), "")


@dataclass(slots=True)
class Stage:
    """A deployed stack and how a drill acts on it."""

    stack: Stack
    session: snowflake.connector.SnowflakeConnection
    _runs: int = field(default=0)

    def sql(self, text: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run one statement."""
        with self.session.cursor() as cursor:
            cursor.execute(text, values)
            return [tuple(row) for row in cursor.fetchall()]

    def empty(self) -> None:
        """Begin anew."""
        for table in _TABLES:
            self.sql(f"DELETE FROM {table}")  # noqa: S608 -- constants

    def insert(self, told: list[dict[str, Any]]) -> None:
        """One entry for each thing that the partner is told."""
        self.sql(_INSERT, json.dumps([json.dumps({"number": n, "partner": what}) for n, what in enumerate(told)]))

    def counts(self) -> dict[str, int]:
        """Entries by status."""
        return {
            str(status): int(count)
            for status, count in self.sql("SELECT status, COUNT(*) FROM PROCESSING_QUEUE GROUP BY status")
        }

    @contextlib.contextmanager
    def processor(self, environ: Mapping[str, str]) -> Iterator[Run]:
        """container/processor.py as a process of its own, with the deployment's environment and ``environ`` over it."""
        self._runs += 1
        state = self.stack.options.state
        log = state / "logs" / f"processor-{self._runs}.log"
        deployed = {
            "ENVIRONMENT": stack.ENVIRONMENT,
            "CERT_BUCKET": deployment.BUCKET,
            "PROCESSOR_ID": f"drill-{self._runs}",
        }
        with log.open("wb") as output:
            process = processes.spawn(
                [sys.executable, str(stack.REPOSITORY / "container" / "processor.py")],
                registry=state / "pids",
                env={"TMPDIR": str(state / "tmp"), **self.stack.environ, **deployed, **environ},
                stdout=output,
                stderr=output,
            )
        try:
            yield Run(process=process, log=log)
        finally:
            process.kill()
            process.wait()

    def run(self, environ: Mapping[str, str], *, seconds: float = 60.0) -> tuple[Run, int]:
        """Run a processor to its end; returns it and its exit code."""
        with self.processor(environ) as run:
            return run, run.process.wait(seconds)

    def invoke(self, event: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Invoke the poller and wait for it; returns the body of its answer.

        Raises:
            StackError: it raised.
        """
        answer = deployment.client(self.stack, "lambda").invoke(
            FunctionName=deployment.POLLER, Payload=json.dumps(event or {}).encode()
        )
        told = json.loads(answer["Payload"].read())
        if "FunctionError" in answer:
            raise stack.StackError(f"the poller raised {told.get('errorType')}: {told.get('errorMessage')}")
        return dict(json.loads(told["body"]))

    def ticks(self) -> list[dict[str, Any]]:
        """The lines in which the poller has explained its ticks, oldest first."""
        pages = (
            deployment.client(self.stack, "logs")
            .get_paginator("filter_log_events")
            .paginate(logGroupName=f"/aws/lambda/{deployment.POLLER}")
        )
        lines = (event["message"] for page in pages for event in page["events"])
        logged = [json.loads(line) for line in lines if line.startswith("{")]
        return sorted((line for line in logged if line.get("event") == "tick"), key=lambda line: line["timestamp"])

    def live(self) -> list[str]:
        """ARNs of the tasks that ECS wants running."""
        pages = (
            deployment.client(self.stack, "ecs")
            .get_paginator("list_tasks")
            .paginate(cluster=deployment.PROCESSOR, family=deployment.PROCESSOR)
        )
        return [arn for page in pages for arn in page["taskArns"]]


@contextlib.contextmanager
def staged(
    state: Path,
    *,
    tick_s: float = 86_400,
    task_start_s: float = 0.3,
    stop_timeout_s: int = 120,
    poller: Mapping[str, str] | None = None,
    processor: Mapping[str, str] | None = None,
) -> Iterator[Stage]:
    """A fresh stack, deployed; unless told otherwise nothing in it runs by itself.

    Args:
        state: everything is written below it.
        tick_s: the schedule's period, seconds.
        task_start_s: from RunTask to the start of the process, seconds.
        stop_timeout_s: from SIGTERM to SIGKILL, seconds.
        poller: environment of the function, over the deployment's.
        processor: environment of the tasks, over the deployment's.
    """
    options = stack.Options(
        state=state,
        tick_s=tick_s,
        task_start_s=task_start_s,
        stop_timeout_s=stop_timeout_s,
        poller={"TICK_SECONDS": str(tick_s), **(poller or {})},
        processor=processor or {},
    )
    with stack.running(options) as running:
        deployment.deploy(running)
        with deployment.session(running) as session:
            yield Stage(stack=running, session=session)


def wait_until(condition: Callable[[], bool], *, seconds: float) -> bool:
    """Look again and again; returns whether it came true in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False
