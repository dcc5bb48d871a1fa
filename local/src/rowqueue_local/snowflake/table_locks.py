"""Table locks like Snowflake's: one owner for each table, and a limited line of waiters, served in order."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Owner = TypeVar("Owner")
Table = tuple[str, ...]
"""A table by its full name: database, schema, table."""


class TooManyWaiters(Exception):  # noqa: N818 - reads as what happened
    """Too many others wait for the lock already."""


class LockTimedOut(Exception):  # noqa: N818 - reads as what happened
    """The lock was not free in time."""


@dataclass(eq=False, slots=True)
class _Place(Generic[Owner]):
    """An owner's place in the line of a table."""

    owner: Owner
    granted: asyncio.Event = field(default_factory=asyncio.Event)


class TableLocks(Generic[Owner]):
    """Which owner has locked which table, and who waits for it.

    An owner may lock a table again, and keeps its tables until ``release``. A cancelled waiter leaves the line.

    Args:
        max_waiters: how many may wait for one table, in addition to its owner.

    Attributes:
        waits: number of acquisitions that had to wait so far.
    """

    def __init__(self, *, max_waiters: int) -> None:
        self.waits = 0
        self._max_waiters = max_waiters
        # The first in each line has locked the table. A table without owner has no line.
        self._lines: dict[Table, deque[_Place[Owner]]] = {}

    async def acquire(self, table: Table, owner: Owner, *, timeout_seconds: float) -> None:
        """Lock the table, after all those who asked for it before.

        Raises:
            TooManyWaiters: at once, if ``max_waiters`` others wait already.
            LockTimedOut: after ``timeout_seconds``; with 0 at once, if the table is locked.
        """
        if self.owner_of(table) == owner:
            return
        place = self._line_up(table, owner)
        if not place.granted.is_set():
            self.waits += 1
            await self._wait(table, place, timeout_seconds)

    def release(self, owner: Owner) -> None:
        """Unlock every table of ``owner``. The next in each line becomes the owner."""
        for table, line in list(self._lines.items()):
            if line[0].owner == owner:
                self._leave(table, line[0])

    def owner_of(self, table: Table) -> Owner | None:
        """The owner of the table."""
        line = self._lines.get(table)
        return line[0].owner if line else None

    def is_in_the_way(self, owner: Owner) -> bool:
        """Whether anyone waits for a table of ``owner``."""
        return any(len(line) > 1 and line[0].owner == owner for line in self._lines.values())

    def _line_up(self, table: Table, owner: Owner) -> _Place[Owner]:
        line = self._lines.setdefault(table, deque())
        if len(line) > self._max_waiters:
            raise TooManyWaiters
        place = _Place(owner)
        line.append(place)
        line[0].granted.set()
        return place

    async def _wait(self, table: Table, place: _Place[Owner], timeout_seconds: float) -> None:
        try:
            async with asyncio.timeout(timeout_seconds):
                await place.granted.wait()
        except BaseException as error:
            # The lock may have been granted at the same moment as the time-out. Then leaving the line passes it on.
            self._leave(table, place)
            if isinstance(error, TimeoutError):
                raise LockTimedOut from None
            raise

    def _leave(self, table: Table, place: _Place[Owner]) -> None:
        line = self._lines[table]
        line.remove(place)
        if line:
            line[0].granted.set()
        else:
            del self._lines[table]
