"""What the drills share: a stack whose schedule never fires, one processor at a time, and a look at the tables."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rowqueue.local import deployment, processes, stack

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    import snowflake.connector

    from rowqueue.local.stack import Stack

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


@contextlib.contextmanager
def staged(state: Path) -> Iterator[Stage]:
    """A fresh stack, deployed, in which nothing runs by itself."""
    with stack.running(stack.Options(state=state, tick_s=86_400)) as running:
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
