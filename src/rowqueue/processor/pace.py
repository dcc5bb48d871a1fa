"""How fast entries can be delivered and claimed, and so how early the next block is claimed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rowqueue.processor.gate import Gate

_SHORTEST_LEAD_S = 0.1
_SHORTEST_DELIVERY_S = 1e-4
_REMEMBERED = 32


@dataclass(slots=True, kw_only=True)
class Pace:
    """Learns as it goes: of the last hundred deliveries, and of the last claims.

    What *can* be delivered is what may be in flight over what a delivery takes (Little's law). Unlike what has been
    delivered lately it does not sink while nothing is there to deliver.

    Attributes:
        gate: knows how many may be in flight.
        claim_s: seconds that a claim takes, its read and what it waits for included.
    """

    gate: Gate
    claim_s: float = _SHORTEST_LEAD_S
    _deliveries: int = 0
    _delivery_s: float = 0.0

    def delivered(self, seconds: float) -> None:
        """One delivery has ended, however, after so long."""
        self._deliveries = min(self._deliveries + 1, _REMEMBERED)
        self._delivery_s += (seconds - self._delivery_s) / self._deliveries

    def claimed(self, seconds: float) -> None:
        """A claim took so long."""
        self.claim_s = max(_SHORTEST_LEAD_S, (self.claim_s + seconds) / 2)

    def per_second(self) -> float | None:
        """Entries that can be delivered; ``None`` before the first one has been."""
        if not self._deliveries:
            return None
        return self.gate.allowed / max(self._delivery_s, _SHORTEST_DELIVERY_S)

    def ahead(self) -> int:
        """How many entries may still wait when the next block is claimed.

        So many as can start at once, for they do not wait for long, and what is delivered while two claims are made.
        The second one is for a flush that comes first: both use the one session.
        """
        return math.ceil(self.gate.room + (self.per_second() or 0.0) * 2 * self.claim_s)
