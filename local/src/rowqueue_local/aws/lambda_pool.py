"""The pool of execution environments. As on Lambda, a warm one is reused with its module-level state."""

from __future__ import annotations

import base64
import contextlib
import threading
import uuid
import zipfile
from io import BytesIO
from typing import TYPE_CHECKING

from rowqueue_local.aws.lambda_environment import ExecutionEnvironment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rowqueue_local.aws.host import Host
    from rowqueue_local.aws.lambda_model import Function
    from rowqueue_local.aws.logs import LogShipper


class EnvironmentPool:
    """The warm execution environments.

    Args:
        host: starts processes.
        logs: takes their output.
    """

    def __init__(self, host: Host, logs: LogShipper) -> None:
        self._host = host
        self._logs = logs
        self._newest: dict[tuple[str, str], Function] = {}  # by ARN and version
        self._idle: list[ExecutionEnvironment] = []
        self._busy: set[ExecutionEnvironment] = set()
        self._closing = False
        self._lock = threading.Lock()
        self._unpacking = threading.Lock()

    @contextlib.contextmanager
    def environment(self, function: Function) -> Iterator[ExecutionEnvironment]:
        """Lend an environment: the one that was used last, or a new one."""
        environment = self._warm(function) or self._cold(function)
        try:
            yield environment
        finally:
            self._take_back(environment)

    def close(self) -> None:
        """End all processes. A busy environment is closed by the thread that uses it."""
        with self._lock:
            self._closing = True
            idle, self._idle = self._idle, []
            for environment in self._busy:
                environment.kill()
            for environment in idle:
                environment.kill()
        for environment in idle:
            environment.close()

    def _warm(self, function: Function) -> ExecutionEnvironment | None:
        key = (function.arn, function.version)
        with self._lock:
            self._newest[key] = function
            same = [idle for idle in self._idle if (idle.function.arn, idle.function.version) == key]
            stale = [idle for idle in same if idle.function != function]
            chosen = next((idle for idle in reversed(same) if idle.function == function), None)
            self._idle = [idle for idle in self._idle if idle not in stale and idle is not chosen]
            if chosen:
                self._busy.add(chosen)
        for environment in stale:
            environment.close()
        return chosen

    def _cold(self, function: Function) -> ExecutionEnvironment:
        with self._unpacking:
            code = _unpacked(function, self._host.code_dir)
        environment = ExecutionEnvironment(function, code, self._host, self._logs)
        with self._lock:
            self._busy.add(environment)
            if self._closing:
                environment.kill()
        return environment

    def _take_back(self, environment: ExecutionEnvironment) -> None:
        function = environment.function
        with self._lock:
            self._busy.discard(environment)
            current = self._newest[function.arn, function.version] == function
            keep = environment.alive and current and not self._closing
            if keep:
                self._idle.append(environment)
        if not keep:
            environment.close()


def _unpacked(function: Function, root: Path) -> Path:
    """The folder with the code of a function; each code is unpacked once."""
    folder = root / base64.b64decode(function.code_sha256).hex()
    if not folder.exists():
        unfinished = root / uuid.uuid4().hex
        with zipfile.ZipFile(BytesIO(function.code)) as code:
            code.extractall(unfinished)
        unfinished.rename(folder)
    return folder
