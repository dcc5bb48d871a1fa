"""Child processes that end when the process that started them ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from typing import IO, TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

# Runs in the child before it becomes the real program. On Linux, prctl(2) with PR_SET_PDEATHSIG makes the kernel kill
# the child when the *thread* that started it ends, also after a SIGKILL of its process. The parent may die before the
# call of prctl, so getppid is checked after it. preexec_fn is not used: it is unsafe with threads. macOS has no such
# call: children of a killed parent run until ``sweep`` kills them at the next start.
_LAUNCHER = """
import ctypes, os, signal, sys
parent, argv = int(sys.argv[1]), sys.argv[2:]
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
os.execvpe(argv[0], argv, os.environ)
"""

_Stream = int | IO[bytes] | None


def spawn(
    argv: Sequence[str],
    *,
    registry: Path,
    env: Mapping[str, str],
    cwd: Path | None = None,
    stdin: _Stream = subprocess.DEVNULL,
    stdout: _Stream = None,
    stderr: _Stream = None,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start ``argv`` in its own session, so that Ctrl-C reaches only the stack, which then stops the child.

    Call it from a thread that lives as long as the child: on Linux the child is killed when that thread ends.

    Args:
        argv: the program and its arguments.
        registry: a file that lists what was started, for ``sweep`` at the next start.
        env: the complete environment of the child.
        cwd: as for ``subprocess.Popen``.
        stdin: the same.
        stdout: the same.
        stderr: the same.
        pass_fds: the same.
    """
    child = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), *argv],
        env=dict(env),
        cwd=cwd,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        pass_fds=pass_fds,
        start_new_session=True,
    )
    register(registry, child.pid)
    return child


def is_launching(child: subprocess.Popen[bytes]) -> bool:
    """Whether a child of ``spawn`` still runs the launcher instead of its program."""
    with contextlib.suppress(psutil.Error):  # it has ended
        return _LAUNCHER in psutil.Process(child.pid).cmdline()
    return False


def register(registry: Path, pid: int) -> None:
    """Add ``pid`` to the registry with its start time, so that a reused pid is recognised as another process."""
    with contextlib.suppress(psutil.NoSuchProcess), registry.open("a") as lines:
        lines.write(json.dumps({"pid": pid, "started": psutil.Process(pid).create_time()}) + "\n")


def registered(registry: Path) -> list[psutil.Process]:
    """The processes of the registry that are still alive."""
    alive = []
    if registry.exists():
        for line in registry.read_text().splitlines():
            noted = json.loads(line)
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(noted["pid"])
                if process.create_time() == noted["started"] and process.status() != psutil.STATUS_ZOMBIE:
                    alive.append(process)
    return alive


def sweep(registry: Path) -> int:
    """Kill the processes that an earlier run left behind, delete the registry, and return how many were killed."""
    leftovers = registered(registry)
    for process in leftovers:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(leftovers, timeout=5)
    registry.unlink(missing_ok=True)
    return len(leftovers)


def stop(child: subprocess.Popen[bytes], *, grace_seconds: float) -> int:
    """Stop one child as ``stop_together`` does; returns its exit code as ``Popen`` has it."""
    stop_together([child], grace_seconds=grace_seconds)
    return child.wait()


def stop_together(
    children: Sequence[subprocess.Popen[bytes]], *, grace_seconds: float, now: Callable[[], float] = time.monotonic
) -> None:
    """Send SIGTERM to all children, then SIGKILL to those that still run when the grace period is over.

    The children share one grace period, so the slowest one determines how long this takes.
    """
    for child in children:
        child.send_signal(signal.SIGTERM)
    deadline = now() + grace_seconds
    for child in children:
        try:
            child.wait(max(0.0, deadline - now()))
        except subprocess.TimeoutExpired:
            child.kill()
    for child in children:
        child.wait()
