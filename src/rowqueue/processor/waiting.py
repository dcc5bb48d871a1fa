"""How a processor waits: for the first of several things, and for the thread that talks to Snowflake."""

from __future__ import annotations

import asyncio
import contextvars
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from concurrent.futures import Executor

T = TypeVar("T")


async def first_of(*waits: Awaitable[object], within_s: float | None = None) -> None:
    """Return when the first of them is done, or after so many seconds; the others are cancelled."""
    tasks = {asyncio.ensure_future(wait) for wait in waits}
    try:
        await asyncio.wait(tasks, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


async def in_thread(thread: Executor, call: Callable[[], T]) -> T:
    """Run a blocking call there; what it logs carries this task's context."""
    context = contextvars.copy_context()
    return await asyncio.get_running_loop().run_in_executor(thread, context.run, call)
