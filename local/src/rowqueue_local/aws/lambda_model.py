"""Lambda functions, invocations and results: plain values."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Function:
    """A version of a function. Two are equal if they can share an execution environment.

    Attributes:
        arn: without a qualifier.
        version: ``$LATEST`` or a number.
        handler: ``module.function``.
        runtime: such as ``python3.13``; for information only, because functions run in the stand-in's interpreter.
        memory_mb: for information only.
        timeout_seconds: for one invocation.
        variables: its environment variables.
        code_sha256: the code's hash in base64, as on Lambda.
        code: the zip.
        reserved_concurrency: number of invocations that may run at once; None for no limit.
        maximum_retry_attempts: of a failed asynchronous invocation.
        maximum_event_age_seconds: of an asynchronous invocation that has not started.
    """

    arn: str
    name: str
    version: str
    region: str
    handler: str
    runtime: str
    memory_mb: int
    timeout_seconds: int
    variables: tuple[tuple[str, str], ...]
    code_sha256: str
    code: bytes = field(repr=False, compare=False)
    reserved_concurrency: int | None = field(default=None, compare=False)
    maximum_retry_attempts: int = field(default=2, compare=False)  # the two defaults of Lambda's EventInvokeConfig
    maximum_event_age_seconds: int = field(default=21_600, compare=False)


@dataclass(frozen=True, kw_only=True)
class Invocation:
    """A request to invoke a function.

    Attributes:
        region: the region it was sent to.
        function: the function's name, or its complete or partial ARN, with or without a qualifier.
        qualifier: a version or an alias, if the request has one.
        payload: the event as JSON; empty for ``{}``.
        request_id: the id for the function; the same at a retry.
    """

    region: str
    function: str
    qualifier: str | None = None
    payload: bytes
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))


@dataclass(frozen=True, kw_only=True)
class InvocationResult:
    """The result of an invocation.

    Attributes:
        payload: JSON: the handler's result, or a description of the error.
        failed: whether it is an error.
        log_tail: the last 4 KB of the log.
        version: the version that ran.
        timed_out: whether the handler reached its time limit.
    """

    payload: bytes
    failed: bool
    log_tail: bytes
    version: str
    timed_out: bool = False
