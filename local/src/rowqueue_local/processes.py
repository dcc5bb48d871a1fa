"""Child processes that never outlive the process that started them."""

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

# Runs in the child before it becomes the real program. Linux then kills the child as soon as the *thread* that
# started it ends (prctl(2), PR_SET_PDEATHSIG), even when that is because its process was SIGKILLed. The parent may
# have died before prctl was called, hence the look at getppid. Not in preexec_fn, which is unsafe with threads.
# Other systems have no such call: after a SIGKILL of the parent, children run until sweep() ends them at the next
# start.
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
    """Start ``argv`` in a session of its own: Ctrl-C at the terminal reaches only the stack, which then stops it.

    Call it from a thread that lives as long as the child should: on Linux the child is killed when that thread ends.

    Args:
        argv: the program and its arguments.
        registry: a file that lists what was started, for ``sweep`` at the next start.
        env: the whole environment of the child.
        cwd: its working directory.
        stdin: as for ``subprocess.Popen``.
        stdout: as for ``subprocess.Popen``.
        stderr: as for ``subprocess.Popen``.
        pass_fds: file descriptors it inherits.
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
    """Whether a child of ``spawn`` has yet to become the program that it was started for."""
    with contextlib.suppress(psutil.Error):  # it has ended
        return _LAUNCHER in psutil.Process(child.pid).cmdline()
    return False


def register(registry: Path, pid: int) -> None:
    """Note ``pid`` in the registry together with its start time, so that a recycled pid is never taken for ours."""
    with contextlib.suppress(psutil.NoSuchProcess), registry.open("a") as lines:
        lines.write(json.dumps({"pid": pid, "started": psutil.Process(pid).create_time()}) + "\n")


def registered(registry: Path) -> list[psutil.Process]:
    """The processes noted in the registry that are still alive."""
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
    """Kill what an earlier run left behind, and forget it; returns how many processes that were."""
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
