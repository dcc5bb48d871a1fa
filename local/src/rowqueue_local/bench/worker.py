"""One measured process: it prepares, reports ready, waits for a line, runs, and reports its figures.

``runs`` starts ``python -m rowqueue_local.bench.worker SYSTEM --report-to FD``. The first line of stdin is a
:class:`Job` as JSON; the second line starts the run.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
from dataclasses import asdict
from importlib import import_module

from rowqueue_local.bench.work import Job

_SYSTEMS = ("ours", "limit", "sketch")


def main() -> None:
    """Run one job."""
    parser = argparse.ArgumentParser(description="One measured process of the benchmark.")
    parser.add_argument("system", choices=_SYSTEMS)
    parser.add_argument("--report-to", type=int, required=True, help="file descriptor")
    arguments = parser.parse_args()
    # Import only the measured system, because the others would count in its memory.
    system = import_module(f"rowqueue_local.bench.{arguments.system}")
    job = Job(**json.loads(sys.stdin.readline()))
    with os.fdopen(arguments.report_to, "w", buffering=1) as report:
        run = system.prepare(job)
        print(json.dumps({"ready": True}), file=report)
        if not sys.stdin.readline():
            return  # the parent has ended
        before = _cpu_seconds()
        stretch = run()
        spent = _cpu_seconds() - before
        print(json.dumps({**asdict(stretch), "cpu_seconds": spent, "peak_bytes": _peak_bytes()}), file=report)


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _peak_bytes() -> int:
    """The unit of ru_maxrss differs: kilobytes on Linux, bytes on macOS (getrusage(2))."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()
