"""An execution environment: a process in which a function runs, one event at a time."""

from __future__ import annotations

import contextlib
import json
import math
import os
import selectors
import signal
import sys
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from rowqueue_local.aws.lambda_model import InvocationResult

if TYPE_CHECKING:
    from io import FileIO

    from rowqueue_local.aws.host import Host
    from rowqueue_local.aws.lambda_model import Function
    from rowqueue_local.aws.logs import LogShipper

_BOOTSTRAP = Path(__file__).with_name("lambda_bootstrap.py")
_TIMED_OUT = "timed_out"  # a key of an answer that the process has not given
_INIT_SECONDS = 10  # Lambda's limit for loading a function, before the time of its first invocation starts
_TAIL = 4096  # bytes of log in the answer of an Invoke
_PIPE = 2**20  # bytes; the default of a pipe is 64 KiB


class ExecutionEnvironment:
    """Starts the process. Only one thread at a time may call ``invoke``.

    Args:
        function: what it runs.
        code: where the function's zip is unpacked.
        host: starts the process.
        logs: takes its output.
    """

    def __init__(self, function: Function, code: Path, host: Host, logs: LogShipper) -> None:
        self.function = function
        self.alive = True
        self._loaded: dict[str, Any] | None = None  # the report of the process after loading the function
        self._answer_bytes, self._line_bytes, self._tail = bytearray(), bytearray(), bytearray()
        name = uuid.uuid4().hex
        group, stream = f"/aws/lambda/{function.name}", f"{datetime.now(UTC):%Y/%m/%d}/[{function.version}]{name}"
        with contextlib.ExitStack() as resources:
            self._log = logs.open(function.region, group, stream, create_group=True)
            resources.callback(logs.close_stream, self._log)
            scratch = resources.enter_context(host.scratch(name))
            events, self._events = _pipe(resources)
            self._answers, answers = _pipe(resources)
            self._output, output = _pipe(resources)
            self._process = host.spawn(
                # -P keeps the bootstrap's folder out of sys.path, where it would hide modules with the same names.
                [sys.executable, "-u", "-P", str(_BOOTSTRAP), str(events.fileno()), str(answers.fileno())],
                env={
                    **host.environment(scratch),
                    **dict(function.variables),
                    **_reserved_variables(function, code, group, stream),
                },
                cwd=code,
                output=output.fileno(),
                pass_fds=(events.fileno(), answers.fileno()),
            )
            self._selector = resources.enter_context(selectors.DefaultSelector())
            self._resources = resources.pop_all()
        answers.close()  # only the process has the other end, so the pipe ends with the process
        os.set_blocking(self._output.fileno(), False)
        self._selector.register(self._answers, selectors.EVENT_READ)
        self._selector.register(self._output, selectors.EVENT_READ)

    def invoke(self, payload: bytes, *, request_id: str, invoked_arn: str, timeout: float) -> InvocationResult:
        """Run the handler on one event. If ``alive`` is false afterwards, the process has ended.

        Args:
            payload: the event.
            request_id: the invocation's.
            invoked_arn: the function's ARN as it was invoked.
            timeout: the handler's time limit, seconds.
        """
        self._tail.clear()
        begun = time.monotonic()
        cold = self._loaded is None
        if self._loaded is None:
            self._loaded = self._next_answer(_INIT_SECONDS + self.function.timeout_seconds, request_id)
            self.alive = self.alive and "ready" in self._loaded
        loaded = time.monotonic()
        self._note(f"START RequestId: {request_id} Version: {self.function.version}")
        answer = self._ask(payload, request_id, invoked_arn, timeout) if "ready" in self._loaded else self._loaded
        self._note_end(request_id, time.monotonic() - loaded, loaded - begun if cold else None)
        failed = "error" in answer
        return InvocationResult(
            payload=json.dumps(answer["error"]).encode() if failed else answer["result"].encode(),
            failed=failed,
            log_tail=bytes(self._tail[-_TAIL:]),
            version=self.function.version,
            timed_out="ready" in self._loaded and _TIMED_OUT in answer,
        )

    def kill(self) -> None:
        """Kill the process and its children at once, as Lambda does. Any thread may call this."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Kill the process and release its resources. Do not call this during an invocation."""
        self.kill()
        self._process.wait()
        self._resources.close()

    def _ask(self, payload: bytes, request_id: str, invoked_arn: str, timeout: float) -> dict[str, Any]:
        event = {
            "event": json.loads(payload or b"{}"),
            "request_id": request_id,
            "function_arn": invoked_arn,
            "deadline": time.time() + timeout,
        }
        rest = memoryview(json.dumps(event).encode() + b"\n")
        with contextlib.suppress(BrokenPipeError):  # it has ended; reading the answer reports that
            while rest:
                rest = rest[self._events.write(rest) :]
        return self._next_answer(timeout, request_id)

    def _next_answer(self, timeout: float, request_id: str) -> dict[str, Any]:
        """The next line from the process, or Lambda's error if there is none; then the process has ended."""
        deadline = time.monotonic() + timeout
        while b"\n" not in self._answer_bytes:
            remaining = deadline - time.monotonic()
            ready = [key.fileobj for key, _ in self._selector.select(remaining)] if remaining > 0 else []
            if not ready:
                return self._out_of_time(request_id, timeout)
            self._read_output()
            if self._answers in ready:
                chunk = self._answers.read(_PIPE)
                if not chunk:
                    return self._exited(request_id)
                self._answer_bytes += chunk
        self._read_output()  # it was written before the answer, so it is complete
        line, _, self._answer_bytes = self._answer_bytes.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _out_of_time(self, request_id: str, timeout: float) -> dict[str, Any]:
        self.alive = False
        self.kill()
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        message = f"{now} {request_id} Task timed out after {timeout:.2f} seconds"
        self._read_output()
        self._note(message)
        return {"error": {"errorMessage": message}, _TIMED_OUT: True}

    def _exited(self, request_id: str) -> dict[str, Any]:
        self.alive = False
        status = self._process.wait()
        self._read_output()
        how = f"exit status {status}" if status >= 0 else f"signal: {signal.Signals(-status).name}"
        message = f"RequestId: {request_id} Error: Runtime exited with error: {how}"
        self._note(message)
        return {"error": {"errorMessage": message, "errorType": "Runtime.ExitError"}}

    def _read_output(self) -> None:
        """Read the pipe once. That takes all of its content, and a function that prints without end cannot block it."""
        *lines, self._line_bytes = (self._line_bytes + (self._output.read(_PIPE) or b"")).split(b"\n")
        for line in lines:
            self._note(line.decode(errors="replace"))

    def _note(self, line: str) -> None:
        self._tail += line.encode() + b"\n"
        self._log.write(line)

    def _note_end(self, request_id: str, seconds: float, init_seconds: float | None) -> None:
        if self._line_bytes:
            self._note(self._line_bytes.decode(errors="replace"))
            self._line_bytes.clear()
        report = {
            "Duration": f"{seconds * 1000:.2f} ms",
            "Billed Duration": f"{math.ceil(seconds * 1000)} ms",
            "Memory Size": f"{self.function.memory_mb} MB",
            "Max Memory Used": f"{self._memory_mb()} MB",  # the present memory; the peak is not available
        }
        if init_seconds is not None:
            report["Init Duration"] = f"{init_seconds * 1000:.2f} ms"
        self._note(f"END RequestId: {request_id}")
        self._note(
            "\t".join([f"REPORT RequestId: {request_id}", *(f"{name}: {value}" for name, value in report.items())])
        )

    def _memory_mb(self) -> int:
        try:
            return int(psutil.Process(self._process.pid).memory_info().rss) // 2**20
        except psutil.NoSuchProcess:
            return 0


def _reserved_variables(function: Function, code: Path, log_group: str, log_stream: str) -> dict[str, str]:
    """The variables that Lambda reserves for itself."""
    return {
        "_HANDLER": function.handler,
        "AWS_DEFAULT_REGION": function.region,
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{function.runtime}",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory_mb),
        "AWS_LAMBDA_FUNCTION_NAME": function.name,
        "AWS_LAMBDA_FUNCTION_VERSION": function.version,
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": log_group,
        "AWS_LAMBDA_LOG_STREAM_NAME": log_stream,
        "AWS_REGION": function.region,
        "LAMBDA_TASK_ROOT": str(code),
        "PYTHONPATH": str(code),
        "TZ": ":UTC",
    }


def _pipe(resources: contextlib.ExitStack) -> tuple[FileIO, FileIO]:
    """The reading and the writing end of a new pipe."""
    reading, writing = os.pipe()
    return resources.enter_context(os.fdopen(reading, "rb", 0)), resources.enter_context(os.fdopen(writing, "wb", 0))
