"""A task as a process of this machine."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from rowqueue_local import processes
from rowqueue_local.aws.fargate_environment import StartError, deployed_environment, in_words

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from rowqueue_local.aws.fargate_tasks import FargateTask
    from rowqueue_local.aws.host import Host
    from rowqueue_local.aws.injected import Injected
    from rowqueue_local.aws.logs import LogShipper, LogStream

_EXEC_SECONDS = 2.0  # more than a child needs to become its program
_LONGEST_LINE = 256 * 1024  # bytes: the size of one event in CloudWatch Logs; longer lines are split


@dataclass(frozen=True, kw_only=True)
class Platform:
    """What every task runs on.

    Attributes:
        host: starts processes.
        logs: takes their output.
        images: the argv that replaces the entry point of an image, by the image's repository.
        injected: the time from RunTask to RUNNING, and injected faults.
    """

    host: Host
    logs: LogShipper
    images: Mapping[str, Sequence[str]]
    injected: Injected


class TaskProcess:
    """Runs one task from PROVISIONING to STOPPED, in its own thread.

    Args:
        task: the task as it was launched.
        platform: what it runs on.
        change: replaces the task by the result of a function.
    """

    def __init__(
        self, task: FargateTask, platform: Platform, change: Callable[[Callable[[FargateTask], FargateTask]], None]
    ) -> None:
        self._task = task
        self._platform = platform
        self._change = change
        self._stopping = threading.Event()
        self._lock = threading.Lock()  # prevents that a process is started and stopped at the same time
        self._process: subprocess.Popen[bytes] | None = None
        self._kill_timer: threading.Timer | None = None
        self._thread = threading.Thread(target=self._live, name=f"task-{task.task_id}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, *, kill_after: float) -> None:
        """Send SIGTERM, and SIGKILL after ``kill_after`` seconds. A task that has not started yet will not start."""
        with self._lock:
            again = self._stopping.is_set()
            self._stopping.set()
            if self._process is None or self._process.poll() is not None:
                return
            if not again:
                self._change(lambda task: task.passing("STOPPING"))
                self._process.terminate()
            self._cancel_kill()
            self._kill_timer = threading.Timer(kill_after, _kill_group, [self._process])
            self._kill_timer.daemon = True
            self._kill_timer.start()

    def signal(self, number: int) -> bool:
        """Send the program a signal; returns whether it runs."""
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                return False
            self._process.send_signal(number)
            return True

    def join(self, timeout: float) -> None:
        """Wait until it is STOPPED."""
        self._thread.join(timeout)

    def _live(self) -> None:
        try:
            with self._platform.host.scratch(self._task.task_id) as scratch:
                self._run(scratch)
        except StartError as error:
            self._fail(str(error))
        except (OSError, ValueError) as error:  # full disk, no process possible, or a NUL in a variable
            self._fail(f"CannotStartContainerError: {error}")
        finally:
            self._change(lambda task: task.stopped(time.time()))

    def _fail(self, reason: str) -> None:
        self._change(lambda task: task.asked_to_stop(time.time(), code="TaskFailedToStart", reason=reason))

    def _run(self, scratch: Path) -> None:
        half = self._platform.injected.start_seconds() / 2
        if self._stopping.wait(half):
            return
        self._change(lambda task: task.pulling(time.time()))
        argv, env = self._argv(), self._environment(scratch)
        log = self._open_log()
        try:
            if not self._stopping.wait(half):
                self._execute(argv, env, scratch, log)
        finally:
            if log:
                self._platform.logs.close_stream(log)

    def _argv(self) -> list[str]:
        launch = self._task.launch
        image = launch.container["image"]
        entry_point = self._platform.images.get(repository_of(image))
        if entry_point is None:
            raise StartError(
                "CannotPullContainerError: pull image manifest has been retried 1 time(s): "
                f"failed to resolve ref {image}: not found"
            )
        command = launch.container_override.get("command") or launch.container.get("command") or []
        return [*entry_point, *command]

    def _environment(self, scratch: Path) -> dict[str, str]:
        """Deployed variables replace those of the stand-in, so that a mistake in the deployment stays visible."""
        host = self._platform.host
        return {
            **host.environment(scratch),
            "AWS_EXECUTION_ENV": "AWS_ECS_FARGATE",
            "ECS_CONTAINER_METADATA_URI_V4": f"{host.endpoint_url}/v4/{self._task.task_id}",
            **deployed_environment(self._task.launch, host.client),
        }

    def _open_log(self) -> LogStream | None:
        launch = self._task.launch
        configuration = launch.container.get("logConfiguration", {})
        if configuration.get("logDriver") != "awslogs":
            return None
        options = configuration["options"]
        try:
            return self._platform.logs.open(
                options.get("awslogs-region", launch.region),
                options["awslogs-group"],
                f"{options['awslogs-stream-prefix']}/{launch.container['name']}/{self._task.task_id}",
                create_group=options.get("awslogs-create-group") == "true",
            )
        except (BotoCoreError, ClientError, KeyError) as error:
            raise StartError(
                "ResourceInitializationError: failed to validate logger args: create stream has been retried 1 times: "
                f"failed to create Cloudwatch log stream: {in_words(error)} : exit status 1"
            ) from None

    def _execute(self, argv: Sequence[str], env: Mapping[str, str], scratch: Path, log: LogStream | None) -> None:
        with self._lock:
            if self._stopping.is_set():
                return
            output = subprocess.PIPE if log else subprocess.DEVNULL
            process = self._process = self._platform.host.spawn(argv, env=env, cwd=scratch, output=output)
            frozen = self._platform.injected.hangs() and _freeze(process)
            self._change(lambda task: task.running(time.time(), frozen=frozen))
        reader = threading.Thread(target=_copy_lines, args=(process.stdout, log), daemon=True)
        reader.start()
        status = process.wait()
        with self._lock:
            self._cancel_kill()
        _kill_group(process)  # a container ends with its first process, so kill that one's children
        reader.join()
        exit_code = status if status >= 0 else 128 - status  # like a shell and Docker: 137 is SIGKILL
        self._change(lambda task: task.exited(time.time(), exit_code))

    def _cancel_kill(self) -> None:
        if self._kill_timer:
            self._kill_timer.cancel()


def repository_of(image: str) -> str:
    """The repository of an image: ``a/b`` of ``123456789012.dkr.ecr.eu-west-1.amazonaws.com/a/b:v1@sha256:…``."""
    name = image.partition("@")[0]
    registry, slash, rest = name.partition("/")
    if slash and ("." in registry or ":" in registry or registry == "localhost"):
        name = rest
    return name.partition(":")[0]


def _copy_lines(output: IO[bytes] | None, log: LogStream | None) -> None:
    if output is None or log is None:
        return
    with output:
        while line := output.readline(_LONGEST_LINE):
            log.write(line.decode(errors="replace").rstrip("\r\n"))


def _freeze(process: subprocess.Popen[bytes]) -> bool:
    """Send SIGSTOP to a child as soon as it has become its program; returns whether it still runs.

    Not earlier: the launcher first arranges that the child ends with the stand-in, which a frozen child could not do.
    """
    deadline = time.monotonic() + _EXEC_SECONDS
    while processes.is_launching(process) and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGSTOP)
    return process.poll() is None


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """Send SIGKILL to a child and to its own children, which share its session."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS raises the latter for a group of zombies
        os.killpg(process.pid, signal.SIGKILL)
