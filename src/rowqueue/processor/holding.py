"""How many entries this processor holds: claimed, and not settled yet."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field


def _set() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


@dataclass(slots=True)
class Held:
    """Counts what is held, and lets one wait until it is nothing.

    Attributes:
        entries: claimed and not settled.
        nothing: set while there are none.
    """

    entries: int = 0
    nothing: asyncio.Event = field(default_factory=_set)

    def take(self, entries: int) -> None:
        """So many were claimed."""
        self.entries += entries
        if self.entries:
            self.nothing.clear()

    def drop(self, entries: int) -> None:
        """So many were settled, or are lost."""
        self.entries -= entries
        if not self.entries:
            self.nothing.set()
