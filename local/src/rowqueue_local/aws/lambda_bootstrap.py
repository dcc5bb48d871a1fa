"""The program of a function's process: it loads the handler once, then answers one event after the other.

It is started as a file, never imported: ``python -u -P lambda_bootstrap.py EVENTS_FD ANSWERS_FD``. It imports nothing
of rowqueue, so that the function loads ``rowqueue`` from its own zip. Both pipes carry one JSON text in each line.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    Handler = Callable[[Any, "Context"], Any]


class Context:
    """The second argument of a handler.

    Args:
        event: the line from the pipe, with the facts about the invocation.
    """

    def __init__(self, event: dict[str, Any]) -> None:
        self.aws_request_id: str = event["request_id"]
        self.invoked_function_arn: str = event["function_arn"]
        self.function_name = os.environ["AWS_LAMBDA_FUNCTION_NAME"]
        self.function_version = os.environ["AWS_LAMBDA_FUNCTION_VERSION"]
        self.memory_limit_in_mb = os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]  # a string, as on Lambda
        self.log_group_name = os.environ["AWS_LAMBDA_LOG_GROUP_NAME"]
        self.log_stream_name = os.environ["AWS_LAMBDA_LOG_STREAM_NAME"]
        self.identity = None
        self.client_context = None
        self._deadline: float = event["deadline"]

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the time-out."""
        return max(0, int((self._deadline - time.time()) * 1000))


class RuntimeFault(Exception):  # noqa: N818  # the name comes from its errorType
    """The handler cannot be loaded, or its result cannot be sent.

    Args:
        error_type: Lambda's name of the error.
        message: the errorMessage.
    """

    def __init__(self, error_type: str, message: str) -> None:
        super().__init__(message)
        self.error_type = error_type


def load(handler: str) -> Handler:
    """Import the module of a handler and find the function in it.

    Args:
        handler: from the function's configuration: ``module.function``, with slashes for packages.
    """
    module_name, dot, name = handler.rpartition(".")
    if not dot:
        raise RuntimeFault("Runtime.MalformedHandlerName", f"Bad handler '{handler}': not enough values to unpack")
    try:
        module = importlib.import_module(module_name.replace("/", "."))
    except ImportError as error:
        raise RuntimeFault("Runtime.ImportModuleError", f"Unable to import module '{module_name}': {error}") from error
    except SyntaxError as error:
        raise RuntimeFault("Runtime.UserCodeSyntaxError", f"Syntax error in module '{module_name}': {error}") from error
    try:
        function: Handler = getattr(module, name)
    except AttributeError:
        raise RuntimeFault("Runtime.HandlerNotFound", f"Handler '{name}' missing on module '{module_name}'") from None
    return function


def describe(error: BaseException) -> dict[str, Any]:
    """An exception in the form of Lambda's answer."""
    if isinstance(error, RuntimeFault):
        return {"errorMessage": str(error), "errorType": error.error_type, "stackTrace": []}
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
    trace = traceback.format_list(frames)
    return {"errorMessage": str(error), "errorType": type(error).__name__, "stackTrace": trace}


def answer_to(handler: Handler, event: dict[str, Any]) -> dict[str, Any]:
    """Run the handler. The answer is ``{"result": TEXT}`` with JSON as the text, or ``{"error": …}``."""
    try:
        result = handler(event["event"], Context(event))
    except Exception as error:  # noqa: BLE001  # any exception of the function is its answer
        return failure(error)
    try:
        return {"result": json.dumps(result)}
    except (TypeError, ValueError) as error:
        return failure(RuntimeFault("Runtime.MarshalError", f"Unable to marshal response: {error}"))


def failure(error: BaseException) -> dict[str, Any]:
    """Log an error as Lambda's runtime does, and return the answer for it."""
    described = describe(error)
    sys.stdout.write(f"[ERROR] {described['errorType']}: {described['errorMessage']}\n")
    if described["stackTrace"]:
        sys.stdout.writelines(["Traceback (most recent call last):\n", *described["stackTrace"]])
    return {"error": described}


def log_like_lambda() -> None:
    """Give the root logger a handler, as on Lambda, so that ``logging.basicConfig`` does nothing."""
    formatter = logging.Formatter("[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(formatter)
    logging.getLogger().addHandler(handler)


def main() -> None:
    """Load the handler, then serve until the pipe closes."""
    for descriptor in (int(sys.argv[1]), int(sys.argv[2])):
        os.set_inheritable(descriptor, False)
    with os.fdopen(int(sys.argv[1])) as events, os.fdopen(int(sys.argv[2]), "w") as answers:
        log_like_lambda()
        try:
            handler = load(os.environ["_HANDLER"])
            loaded: dict[str, Any] = {"ready": True}
        except Exception as error:  # noqa: BLE001  # any exception of the module is the answer to the first event
            loaded = failure(error)
        _send(answers, loaded)
        if "ready" in loaded:
            for line in events:
                _send(answers, answer_to(handler, json.loads(line)))


def _send(answers: Any, answer: dict[str, Any]) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
