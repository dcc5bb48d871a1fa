"""Table locks as Snowflake has them: one holder for each table, and a bounded queue that is served in order."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Owner = TypeVar("Owner")
Table = tuple[str, ...]
"""A table by its full name: database, schema, table."""


class TooManyWaiters(Exception):  # noqa: N818 - reads as what happened
    """The queue for the lock is full."""


class LockTimedOut(Exception):  # noqa: N818 - reads as what happened
    """The lock was not had in time."""


@dataclass(eq=False, slots=True)
class _Place(Generic[Owner]):
    """One owner's place in the queue of a table."""

    owner: Owner
    granted: asyncio.Event = field(default_factory=asyncio.Event)


class TableLocks(Generic[Owner]):
    """Who holds which table, and who waits for it.

    An owner that holds a table may take it again; it keeps all its tables until ``release``. A waiter that is cancelled
    leaves the queue.

    Args:
        max_waiters: how many may wait for one table, its holder not counted.

    Attributes:
        waits: how many acquisitions had to wait so far.
    """

    def __init__(self, *, max_waiters: int) -> None:
        self.waits = 0
        self._max_waiters = max_waiters
        # The first in each queue holds the table. A table that nobody wants has no queue.
        self._queues: dict[Table, deque[_Place[Owner]]] = {}

    async def acquire(self, table: Table, owner: Owner, *, timeout_seconds: float) -> None:
        """Take the table, after all those who asked for it before.

        Raises:
            TooManyWaiters: at once, when ``max_waiters`` others wait already.
            LockTimedOut: after ``timeout_seconds``; with 0 as soon as the table turns out to be taken.
        """
        if self.holder(table) == owner:
            return
        place = self._queue_up(table, owner)
        if not place.granted.is_set():
            self.waits += 1
            await self._wait(table, place, timeout_seconds)

    def release(self, owner: Owner) -> None:
        """Give back every table that ``owner`` holds; the next in each queue has it from now on."""
        for table, queue in list(self._queues.items()):
            if queue[0].owner == owner:
                self._leave(table, queue[0])

    def holder(self, table: Table) -> Owner | None:
        """Who holds the table."""
        queue = self._queues.get(table)
        return queue[0].owner if queue else None

    def is_in_the_way(self, owner: Owner) -> bool:
        """Whether anyone waits for a table that ``owner`` holds."""
        return any(len(queue) > 1 and queue[0].owner == owner for queue in self._queues.values())

    def _queue_up(self, table: Table, owner: Owner) -> _Place[Owner]:
        queue = self._queues.setdefault(table, deque())
        if len(queue) > self._max_waiters:
            raise TooManyWaiters
        place = _Place(owner)
        queue.append(place)
        queue[0].granted.set()
        return place

    async def _wait(self, table: Table, place: _Place[Owner], timeout_seconds: float) -> None:
        try:
            async with asyncio.timeout(timeout_seconds):
                await place.granted.wait()
        except BaseException as error:
            # The lock may have been granted in the very moment in which the wait ended: leaving hands it on.
            self._leave(table, place)
            if isinstance(error, TimeoutError):
                raise LockTimedOut from None
            raise

    def _leave(self, table: Table, place: _Place[Owner]) -> None:
        queue = self._queues[table]
        queue.remove(place)
        if queue:
            queue[0].granted.set()
        else:
            del self._queues[table]
