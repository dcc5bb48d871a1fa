"""A time-out for each of many waits, with one timer for all of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType


class SharedTimeout:
    """As ``asyncio.timeout``, for waits that may all take equally long: whoever began first ends first.

    ``asyncio.timeout`` makes a timer for each and takes it away again: 4 % of the CPU of a processor at full speed
    (``docs/performance.md``). Here one timer wakes when the oldest wait would end, and is set again for the one that
    is then the oldest.

    Use it with ``with``, in one task at a time for each wait::

        with timeout:
            await something

    Args:
        seconds: a wait takes no longer; then it ends with :class:`TimeoutError`. A task that is cancelled for another
            reason meanwhile stays cancelled.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ends: dict[asyncio.Task[object], float | None] = {}  # the oldest first; without a time once it is over
        self._is_set = False

    def __enter__(self) -> None:
        """Begin a wait of the current task."""
        task = asyncio.current_task()
        assert task is not None
        assert task not in self._ends
        loop = task.get_loop()
        self._ends[task] = ends = loop.time() + self._seconds
        if not self._is_set:
            self._is_set = True
            loop.call_at(ends, self._look)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End it.

        Raises:
            TimeoutError: it took too long.
        """
        task = asyncio.current_task()
        assert task is not None
        if self._ends.pop(task) is not None:
            return
        # We have cancelled it. If somebody else has too, it stays cancelled.
        if task.uncancel() == 0 and isinstance(error, asyncio.CancelledError):
            raise TimeoutError from error

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for task, ends in self._ends.items():
            if ends is None:
                continue
            if ends > now:
                loop.call_at(ends, self._look)
                return
            self._ends[task] = None
            task.cancel()
        self._is_set = False
