"""Runs the cases, each in its own processes and on its own queue. A run counts only if every entry arrived once."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import IO, TYPE_CHECKING, Any

from rowqueue_local import processes
from rowqueue_local.bench.cases import CONCURRENCY, WEATHERS, Case
from rowqueue_local.bench.figures import Measured
from rowqueue_local.bench.ground import BenchError, Ground
from rowqueue_local.bench.work import Job, payload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from rowqueue_local.bench.cases import Form

_READY_WITHIN_S = 120.0
_DONE_WITHIN_S = 900.0
_WARM_UP = Case(system="ours", entries=20)
"""Not counted: the stand-in takes some 30 ms to translate a statement that it has not seen before."""
_SETTINGS = {
    "ENVIRONMENT": "bench",
    "CERT_BUCKET": "not-asked",
    "CONTAINER_TIMEOUT_SECONDS": "600",
    "MAX_CONCURRENT_DELIVERIES": str(CONCURRENCY),
}


@dataclass(slots=True)
class _Worker:
    """A measured process, and the pipe for its reports."""

    process: subprocess.Popen[bytes]
    reports: IO[str]
    log: Path
    stdin: IO[bytes] = field(init=False)

    def __post_init__(self) -> None:
        assert self.process.stdin is not None
        self.stdin = self.process.stdin

    def say(self, line: str) -> None:
        self.stdin.write(f"{line}\n".encode())
        self.stdin.flush()

    def report(self, within_s: float) -> dict[str, Any]:
        """Wait for its next report.

        Raises:
            BenchError: it ended, or took too long.
        """
        with selectors.DefaultSelector() as selector:
            selector.register(self.reports, selectors.EVENT_READ)
            line = self.reports.readline() if selector.select(within_s) else ""
        if not line:
            last = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
            raise BenchError(f"a measured process ended, or took more than {within_s:g} s; its last lines:\n{last}")
        return dict(json.loads(line))


def play(ground: Ground, form: Form, *, watch: Callable[[Measured], None]) -> list[Measured]:
    """Run every case of the form as often as it asks for.

    Raises:
        BenchError: a run failed, or did not deliver every entry exactly once.
    """
    runs = []
    _play(ground, _WARM_UP, repetition=0)
    for repetition, case in form.plays():
        runs.append(_play(ground, case, repetition))
        watch(runs[-1])
    return runs


def _play(ground: Ground, case: Case, repetition: int) -> Measured:
    data = payload(case.service_ms)
    ready = 0 if case.system == "limit" else case.entries
    with ground.queue(entries=ready, data=data) as queue, contextlib.ExitStack() as cleanup:
        environ = queue | _SETTINGS | _blocks(case)
        workers = [cleanup.enter_context(_started(ground, case, environ, data)) for _ in range(case.processes)]
        for worker in workers:
            worker.report(_READY_WITHIN_S)
        before = ground.stack.partner_stats()
        ground.forget_statements()
        with ground.weather(WEATHERS[case.weather]):
            for worker in workers:
                worker.say("go")
            reports = [worker.report(_DONE_WITHIN_S) for worker in workers]
        statements = ground.statements()
        check(case, sum(one["entries"] for one in reports), ground.counts(), before, ground.stack.partner_stats())
    return Measured(
        case=case,
        repetition=repetition,
        seconds=max(one["ended"] for one in reports) - min(one["began"] for one in reports),
        cpu_seconds=sum(one["cpu_seconds"] for one in reports),
        peak_bytes=max(one["peak_bytes"] for one in reports),
        statements=statements,
    )


def alone(ground: Ground, case: Case, environ: dict[str, str]) -> dict[str, Any]:
    """Run one process of a case on the queue that ``environ`` names; returns its report.

    Raises:
        BenchError: the process ended, or took too long.
    """
    with _started(ground, case, environ, payload(case.service_ms)) as worker:
        worker.report(_READY_WITHIN_S)
        worker.say("go")
        return worker.report(_DONE_WITHIN_S)


def _blocks(case: Case) -> dict[str, str]:
    return {"MAX_ENTRIES": str(case.block), "MAX_BLOCK_ENTRIES": str(case.largest_block)}


@contextlib.contextmanager
def _started(ground: Ground, case: Case, environ: dict[str, str], data: str) -> Iterator[_Worker]:
    state = ground.stack.options.state
    name = f"bench-{time.monotonic_ns()}"
    job = Job(environ=environ, name=name, entries=case.entries, concurrency=CONCURRENCY, data=data)
    readable, writable = os.pipe()
    log = state / "logs" / f"{name}.log"
    with log.open("wb") as output, os.fdopen(readable) as report:
        process = processes.spawn(
            [sys.executable, "-m", "rowqueue_local.bench.worker", case.system, "--report-to", str(writable)],
            registry=state / "pids",
            env={**os.environ, "TMPDIR": str(state / "tmp")},
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            pass_fds=[writable],
        )
        os.close(writable)
        worker = _Worker(process=process, reports=report, log=log)
        try:
            worker.say(json.dumps(asdict(job)))
            yield worker
        finally:
            processes.stop(process, grace_seconds=2)
            worker.stdin.close()
    log.unlink()


def check(case: Case, delivered: int, counts: dict[str, int], before: dict[str, Any], after: dict[str, Any]) -> None:
    """Check that a run delivered every entry exactly once.

    Args:
        case: what was run.
        delivered: number of entries that the system reports as delivered.
        counts: entries by status.
        before: the partner's counts before the run.
        after: the partner's counts after the run.

    Raises:
        BenchError: the counts do not agree; it names them.
    """
    requests = after["requests"] - before["requests"]
    again = after["duplicates"] - before["duplicates"]
    recorded = case.entries if case.system == "limit" else counts.get("completed", 0)
    if not delivered == requests == recorded == case.entries or again or counts.keys() - {"completed"}:
        raise BenchError(
            f"{case}: delivered {delivered} as reported by the system, {requests} as counted by the partner, "
            f"{again} of them again; in the queue: {counts}"
        )
