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
from pathlib import Path

from rowqueue_local.bench.work import Job

_SYSTEMS = ("ours", "limit", "sketch", "watched")
_STATUS = Path("/proc/self/status")


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
    """The largest memory of this process.

    Linux's getrusage(2) is no use here: a new process has at least the figure of the one that started it. Elsewhere its
    unit is bytes, on macOS.
    """
    if _STATUS.exists():
        return int(_STATUS.read_text(encoding="ascii").split("VmHWM:")[1].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
