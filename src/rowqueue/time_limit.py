"""A call that is waited for only for some time."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def within(seconds: float, run: Callable[[], T]) -> T:
    """Call a function on a thread of its own, and wait for its result only for some time.

    A library's own limits often count for each address of a host and for each piece of an answer, not for the whole.

    Args:
        seconds: how long to wait at most. After that the call goes on, and its result is dropped.
        run: the function.

    Raises:
        TimeoutError: the function has not ended in time. What it raises itself is raised too.
    """
    result: Future[T] = Future()

    def call() -> None:
        try:
            result.set_result(run())
        except BaseException as error:  # noqa: BLE001 -- it is raised where the result is awaited
            result.set_exception(error)

    threading.Thread(target=call, daemon=True).start()
    try:
        return result.result(timeout=max(0.0, seconds))
    except TimeoutError:
        if result.done():
            raise
        raise TimeoutError(f"no answer within {max(0.0, seconds):.0f} s") from None
