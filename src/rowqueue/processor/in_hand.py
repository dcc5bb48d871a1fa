"""The entries that this worker has in hand: claimed, and not settled yet."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from rowqueue.processor import memory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rowqueue.lifecycle import Entry


class InHand:
    """Counts the entries in hand, and keeps those that no delivery has taken up in the order of their claims.

    Attributes:
        entries: how many are in hand.
        nothing: set while there are none.
        data_bytes: memory of long ``data``, until their deliveries have ended.
        answer_bytes: memory of long answers, until they are settled.
    """

    def __init__(self) -> None:
        self.entries = 0
        self.nothing = asyncio.Event()
        self.nothing.set()
        self.data_bytes = 0
        self.answer_bytes = 0
        self._unstarted: asyncio.Queue[Entry] = asyncio.Queue()

    @property
    def unstarted(self) -> int:
        """How many no delivery has taken up."""
        return self._unstarted.qsize()

    @property
    def bytes(self) -> int:
        """How much memory they take."""
        return self.entries * memory.ENTRY_BYTES + self.data_bytes + self.answer_bytes

    def take(self, claimed: Sequence[Entry]) -> None:
        """Add what was claimed."""
        self.entries += len(claimed)
        if claimed:
            self.nothing.clear()
        for entry in claimed:
            self.data_bytes += memory.of_data(entry.data)
            self._unstarted.put_nowait(entry)

    async def start(self) -> Entry:
        """Wait for the next entry that a delivery can take up. Call :meth:`finish` when the delivery has ended."""
        return await self._unstarted.get()

    def finish(self) -> None:
        """Record that a delivery has ended."""
        self._unstarted.task_done()

    def withdraw(self) -> list[Entry]:
        """Take back what no delivery has taken up. It stays in hand until it is settled."""
        withdrawn = []
        while not self._unstarted.empty():
            withdrawn.append(self._unstarted.get_nowait())
            self._unstarted.task_done()
        return withdrawn

    async def all_finished(self) -> None:
        """Wait until every delivery has ended and none is left to start."""
        await self._unstarted.join()

    def drop(self, entries: int) -> None:
        """Remove entries that were settled, or whose claim is lost."""
        self.entries -= entries
        if not self.entries:
            self.nothing.set()
