"""What the drills share: a deployed stack, actions on it, and views of the tables, the tasks and the ticks."""

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
    from contextlib import AbstractContextManager
    from pathlib import Path

    import snowflake.connector

    from rowqueue_local.stack import Stack

_INSERT = "INSERT INTO PROCESSING_QUEUE (data) SELECT e.value::VARCHAR FROM TABLE(FLATTEN(INPUT => PARSE_JSON(?))) AS e"
_CAP = "25"
"""Of the tasks, if a drill sets no other."""
_TABLES = ("PROCESSING_QUEUE", "PROCESSING_ATTEMPTS", "PROCESSORS", "PROCESSING_HOLDS")


@dataclass(slots=True)
class Run:
    """A process of a processor.

    Attributes:
        log: the file it writes to.
    """

    process: subprocess.Popen[bytes]
    log: Path

    def lines(self) -> list[dict[str, Any]]:
        """The lines of its log."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def error(self) -> str:
        """The error that it logged, or nothing."""
        return next((line["error"] for line in self.lines() if line["event"] == "processor_failed"), "")


@dataclass(slots=True)
class Stage:
    """A deployed stack and a drill's actions on it."""

    stack: Stack
    session: snowflake.connector.SnowflakeConnection
    _runs: int = field(default=0)

    def sql(self, text: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run one statement."""
        with self.session.cursor() as cursor:
            cursor.execute(text, values)
            return [tuple(row) for row in cursor.fetchall()]

    def empty(self) -> None:
        """Delete all rows."""
        for table in _TABLES:
            self.sql(f"DELETE FROM {table}")  # noqa: S608 -- constants

    def insert(self, behaviours: list[dict[str, Any]]) -> None:
        """Insert one entry for each behaviour, which the partner then shows."""
        self.sql(_INSERT, json.dumps([json.dumps({"number": n, "partner": what}) for n, what in enumerate(behaviours)]))

    def counts(self) -> dict[str, int]:
        """Entries by status."""
        return {
            str(status): int(count)
            for status, count in self.sql("SELECT status, COUNT(*) FROM PROCESSING_QUEUE GROUP BY status")
        }

    @contextlib.contextmanager
    def processor(self, environ: Mapping[str, str]) -> Iterator[Run]:
        """container/processor.py as its own process, with the deployment's environment and ``environ`` in addition."""
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
                env={"TMPDIR": str(state / "tmp"), **self.stack.environ_of("processor"), **deployed, **environ},
                stdout=output,
                stderr=output,
            )
        try:
            yield Run(process=process, log=log)
        finally:
            process.kill()
            process.wait()

    def run(self, environ: Mapping[str, str], *, seconds: float = 60.0) -> tuple[Run, int]:
        """Run a processor until it ends; returns it and its exit code."""
        with self.processor(environ) as run:
            return run, run.process.wait(seconds)

    def invoke(self, event: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Invoke the poller and wait; returns the body of its answer.

        Raises:
            StackError: the poller raised an error.
        """
        answer = deployment.client(self.stack, "lambda").invoke(
            FunctionName=deployment.POLLER, Payload=json.dumps(event or {}).encode()
        )
        reply = json.loads(answer["Payload"].read())
        if "FunctionError" in answer:
            raise stack.StackError(f"the poller raised {reply.get('errorType')}: {reply.get('errorMessage')}")
        return dict(json.loads(reply["body"]))

    def logged(self, event: str | None = None) -> list[dict[str, Any]]:
        """The lines of the poller's log, or those with an event, oldest first."""
        pages = (
            deployment.client(self.stack, "logs")
            .get_paginator("filter_log_events")
            .paginate(logGroupName=f"/aws/lambda/{deployment.POLLER}")
        )
        messages = (entry["message"] for page in pages for entry in page["events"])
        lines = [json.loads(message) for message in messages if message.startswith("{")]
        return sorted(
            (line for line in lines if event in {None, line.get("event")}), key=lambda line: str(line.get("timestamp"))
        )

    def ticks(self) -> list[dict[str, Any]]:
        """The ``tick`` lines of the poller's log, oldest first."""
        return self.logged("tick")

    def live(self) -> list[str]:
        """ARNs of the tasks with the desired status RUNNING."""
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
    snowflake_proxy: Callable[[str], AbstractContextManager[str]] = contextlib.nullcontext,
    counts_tasks: bool = False,
) -> Iterator[Stage]:
    """A fresh, deployed stack. By default nothing in it runs by itself. No drill may exceed ``MAX_CONTAINERS``.

    Args:
        state: the folder for everything that is written.
        tick_s: the schedule's period, seconds.
        task_start_s: from RunTask to the start of the process, seconds.
        stop_timeout_s: from SIGTERM to SIGKILL, seconds.
        poller: environment variables of the function, in addition to the deployed ones.
        processor: environment variables of the tasks, in addition to the deployed ones.
        snowflake_proxy: see :class:`rowqueue_local.stack.Options`.
        counts_tasks: whether the drill itself says in its verdict that there were too many tasks.

    Raises:
        StackError: a service does not start, or there were too many tasks at one time.
    """
    options = stack.Options(
        state=state,
        tick_s=tick_s,
        task_start_s=task_start_s,
        stop_timeout_s=stop_timeout_s,
        poller={"TICK_SECONDS": str(tick_s), "MAX_CONTAINERS": _CAP, **(poller or {})},
        processor=processor or {},
        snowflake_proxy=snowflake_proxy,
    )
    with stack.running(options) as running:
        deployment.deploy(running)
        with deployment.session(running) as session:
            yield Stage(stack=running, session=session)
        if not counts_tasks:
            check_cap(running)


def check_cap(running: Stack) -> None:
    """Check that there were never more tasks than ``MAX_CONTAINERS``.

    Raises:
        StackError: there were.
    """
    cap = running.options.poller["MAX_CONTAINERS"]
    if (most := running.most_tasks()) > int(cap):
        raise stack.StackError(f"{most} tasks at one time, and MAX_CONTAINERS is {cap}")


def wait_until(condition: Callable[[], bool], *, seconds: float, every_s: float = 0.05) -> bool:
    """Poll a condition; returns whether it became true in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(every_s)
    return False
