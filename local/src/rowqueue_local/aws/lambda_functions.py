"""Lambda's Invoke with functions that run: concurrency, asynchronous invocations and their retries."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
import zipfile
from collections import Counter
from typing import TYPE_CHECKING

from rowqueue_local.aws.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rowqueue_local.aws.injected import Injected
    from rowqueue_local.aws.lambda_model import Function, Invocation, InvocationResult
    from rowqueue_local.aws.lambda_pool import EnvironmentPool

RETRY_SECONDS = 1.0  # between attempts of an asynchronous invocation; on Lambda it is one minute, then two
_NAME = re.compile(
    r"(?:arn:aws[\w-]*:lambda:[\w-]+:)?(?:\d{12}:)?(?:function:)?(?P<name>[\w-]+)(?::(?P<qualifier>[\w$-]+))?"
)


class Functions:
    """Invokes functions.

    Args:
        find: returns a function by region, name and qualifier; None if there is none.
        pool: the execution environments.
        injected: the faults.
    """

    def __init__(
        self, find: Callable[[str, str, str | None], Function | None], pool: EnvironmentPool, injected: Injected
    ) -> None:
        self._find = find
        self._pool = pool
        self._injected = injected
        self._running: Counter[str] = Counter()  # by ARN, because concurrency is reserved for all versions together
        self._running_lock = threading.Lock()
        self._closing = threading.Event()

    def check(self, call: Invocation) -> Function:
        """The function of an invocation.

        Raises:
            ApiError: there is none, or the payload is not JSON.
        """
        function = self._function(call)
        try:
            json.loads(call.payload or b"{}")
        except ValueError as error:
            message = f"Could not parse request body into json: {error}"
            raise ApiError("InvalidRequestContentException", message) from None
        return function

    def invoke(self, call: Invocation) -> InvocationResult:
        """Invoke a function and wait for the result.

        Raises:
            ApiError: it could not be invoked. An error inside the function is a result.
        """
        function = self.check(call)
        with self._slot(function) as free:
            if not free:
                raise ApiError(
                    "TooManyRequestsException",
                    "Rate Exceeded.",
                    status=429,
                    Reason="ReservedFunctionConcurrentInvocationLimitExceeded",
                )
            return self._run(function, call)

    def invoke_later(self, call: Invocation) -> None:
        """Invoke a function in the background, and repeat the invocation if it fails."""
        self.check(call)
        threading.Thread(target=self._deliver, args=(call,), name=f"event-{call.request_id}", daemon=True).start()

    def close(self) -> None:
        """Drop the invocations that have not started, and end the running ones."""
        self._closing.set()
        self._pool.close()

    def _deliver(self, call: Invocation) -> None:
        """Try an event until it succeeds, has no attempts left, or is too old. Throttling is not an attempt."""
        begun, failures = time.monotonic(), 0
        with contextlib.suppress(ApiError):  # the function does not exist any more, or cannot run
            while not self._closing.is_set():
                function = self._function(call)
                with self._slot(function) as free:
                    if free:
                        if not self._run(function, call).failed:
                            return
                        failures += 1
                used_up = failures > function.maximum_retry_attempts
                too_old = time.monotonic() - begun > function.maximum_event_age_seconds
                switched_off = function.reserved_concurrency == 0  # on Lambda it waits for hours to be switched on
                if used_up or too_old or switched_off:
                    return
                self._closing.wait(RETRY_SECONDS)

    def _function(self, call: Invocation) -> Function:
        name, qualifier = _name_and_qualifier(call)
        function = self._find(call.region, name, qualifier)
        if function is None:
            raise ApiError("ResourceNotFoundException", f"Function not found: {call.function}", status=404)
        return function

    @contextlib.contextmanager
    def _slot(self, function: Function) -> Iterator[bool]:
        """Take one of the function's concurrent invocations; False if none is free."""
        with self._running_lock:
            limit = function.reserved_concurrency
            free = (limit is None or self._running[function.arn] < limit) and not self._injected.throttles()
            self._running[function.arn] += free
        try:
            yield free
        finally:
            with self._running_lock:
                self._running[function.arn] -= free

    def _run(self, function: Function, call: Invocation) -> InvocationResult:
        _, qualifier = _name_and_qualifier(call)
        invoked_arn = f"{function.arn}:{qualifier}" if qualifier else function.arn
        timeout = self._injected.invocation_seconds(function.timeout_seconds)
        try:
            with self._pool.environment(function) as environment:
                result = environment.invoke(
                    call.payload, request_id=call.request_id, invoked_arn=invoked_arn, timeout=timeout
                )
        except zipfile.BadZipFile as error:
            message = f"Lambda was not able to unzip the file: {error}"
            raise ApiError("InvalidZipFileException", message, status=502) from None
        if result.timed_out and timeout < function.timeout_seconds:
            self._injected.cut_short()
        return result


def _name_and_qualifier(call: Invocation) -> tuple[str, str | None]:
    match = _NAME.fullmatch(call.function)
    if match is None:
        raise ApiError("ValidationException", f"{call.function} is not the name of a function")
    return match["name"], match["qualifier"] or call.qualifier
