"""How fast entries are delivered and claimed, and so how early the next block is claimed."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_SHORTEST_LEAD_S = 0.1
_REMEMBERED = 200


@dataclass(slots=True)
class Pace:
    """Measures as it goes.

    Attributes:
        clock: seconds, monotonic.
    """

    clock: Callable[[], float]
    _began_at: float | None = None
    _delivered_at: deque[float] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    _claim_s: float = _SHORTEST_LEAD_S

    def began(self) -> None:
        """A delivery is started."""
        if self._began_at is None:
            self._began_at = self.clock()

    def delivered(self) -> None:
        """One delivery has ended, however."""
        self._delivered_at.append(self.clock())

    def claimed(self, seconds: float) -> None:
        """A claim took so long, its read included."""
        self._claim_s = max(_SHORTEST_LEAD_S, (self._claim_s + seconds) / 2)

    def ahead(self) -> int:
        """How many entries may still wait when the next block is claimed: what is delivered while two claims are made.

        The second one is for a flush that comes first: both use the one session.
        """
        if self._began_at is None or not self._delivered_at:
            return 0
        since = self._began_at if len(self._delivered_at) < _REMEMBERED else self._delivered_at[0]
        seconds = max(self.clock() - since, _SHORTEST_LEAD_S)
        return math.ceil(len(self._delivered_at) / seconds * 2 * self._claim_s)
