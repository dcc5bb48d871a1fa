"""The entries that this worker has in hand: claimed, and not settled yet."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

from rowqueue.processor import memory
from rowqueue.processor.queue import key_of

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from rowqueue.lifecycle import Entry
    from rowqueue.sql import ClaimedKey


class InHand:
    """Counts the entries in hand, and keeps those that no delivery has taken up in the order of their claims.

    Attributes:
        entries: how many are in hand.
        nothing: set while there are none.
        not_begun: set while the delivery of any has not begun.
        data_bytes: memory of long ``data``, until their deliveries have ended.
        answer_bytes: memory of long answers, until they are settled.
    """

    def __init__(self) -> None:
        self.entries = 0
        self.nothing = asyncio.Event()
        self.nothing.set()
        self.not_begun = asyncio.Event()
        self.data_bytes = 0
        self.answer_bytes = 0
        self._unstarted: asyncio.Queue[Entry] = asyncio.Queue()
        self._of_claims: dict[str, set[ClaimedKey]] = {}
        self._looked_at: dict[str, float] = {}

    @property
    def unstarted(self) -> int:
        """How many no delivery has taken up."""
        return self._unstarted.qsize()

    @property
    def bytes(self) -> int:
        """How much memory they take."""
        return self.entries * memory.ENTRY_BYTES + self.data_bytes + self.answer_bytes

    @property
    def tokens(self) -> list[str]:
        """The claims of which an entry has not begun."""
        return list(self._of_claims)

    @property
    def looked_at(self) -> float:
        """When somebody last looked whether the entries that have not begun may begin: the earliest of their claims."""
        return min(self._looked_at.values(), default=math.inf)

    def take(self, claimed: Sequence[Entry], *, at: float = 0.0) -> None:
        """Add what was claimed.

        Args:
            claimed: the entries of a claim.
            at: when the claim began. It took no entry that might not begin.
        """
        self.entries += len(claimed)
        if claimed:
            self.nothing.clear()
        for entry in claimed:
            self.data_bytes += memory.of_data(entry.data)
            self._unstarted.put_nowait(entry)
            self._of_claims.setdefault(entry.claim_token, set()).add(key_of(entry))
            self._looked_at[entry.claim_token] = at
            self.not_begun.set()

    def looked(self, tokens: Collection[str], *, at: float) -> None:
        """Record that somebody has looked whether the entries of these claims may still begin."""
        self._looked_at |= {token: at for token in tokens if token in self._of_claims}

    async def start(self) -> Entry:
        """Wait for the next entry that a delivery can take up. Call :meth:`finish` when the delivery has ended."""
        return await self._unstarted.get()

    def begin(self, entry: Entry) -> None:
        """Record that the delivery of an entry begins, or that it will not begin."""
        of_claim = self._of_claims.get(entry.claim_token, set())
        of_claim.discard(key_of(entry))
        if not of_claim:
            self._of_claims.pop(entry.claim_token, None)
            self._looked_at.pop(entry.claim_token, None)
        if not self._of_claims:
            self.not_begun.clear()

    def finish(self) -> None:
        """Record that a delivery has ended."""
        self._unstarted.task_done()

    def withdraw(self, only: Collection[ClaimedKey] | None = None) -> list[Entry]:
        """Take back what no delivery has taken up. It stays in hand until it is settled.

        Args:
            only: the others keep their order and their place.
        """
        withdrawn = []
        for _ in range(self.unstarted):
            entry = self._unstarted.get_nowait()
            if only is None or key_of(entry) in only:
                withdrawn.append(entry)
                self.begin(entry)
            else:
                self._unstarted.put_nowait(entry)
            self._unstarted.task_done()  # after the put: without an unfinished entry all would count as finished
        return withdrawn

    async def all_finished(self) -> None:
        """Wait until every delivery has ended and none is left to start."""
        await self._unstarted.join()

    def drop(self, entries: int) -> None:
        """Remove entries that were settled, or whose claim is lost."""
        self.entries -= entries
        if not self.entries:
            self.nothing.set()
