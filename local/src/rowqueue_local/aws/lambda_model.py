"""Functions of Lambda, calls of them and what comes of a call: plain values."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Function:
    """A version of a function. Two are equal when they can share an execution environment.

    Attributes:
        arn: without a qualifier.
        name: its name.
        version: ``$LATEST`` or a number.
        region: where it is.
        handler: ``module.function``.
        runtime: such as ``python3.13``; only told to the function, which runs in the interpreter of the stand-in.
        memory_mb: only told to the function.
        timeout_seconds: for one invocation.
        variables: its environment variables.
        code_sha256: the code's hash, in base64 as Lambda has it.
        code: the zip.
        reserved_concurrency: how many invocations may run at once; None for no limit.
        maximum_retry_attempts: for an asynchronous invocation that failed.
        maximum_event_age_seconds: for an asynchronous invocation that waits.
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
class Call:
    """A request to invoke a function.

    Attributes:
        region: the region it was sent to.
        function: the function's name, or its ARN in whole or in part, with or without a qualifier.
        qualifier: a version or an alias, where the request names one besides.
        payload: the event as JSON; nothing stands for ``{}``.
        request_id: what the function knows the invocation by; the same when it is tried again.
    """

    region: str
    function: str
    qualifier: str | None = None
    payload: bytes
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of an invocation.

    Attributes:
        payload: JSON: what the handler returned, or a description of the error.
        failed: whether it is an error.
        log_tail: the last 4 KB of what was logged.
        version: the version that ran.
    """

    payload: bytes
    failed: bool
    log_tail: bytes
    version: str
