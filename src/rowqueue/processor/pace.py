"""How quickly outcomes are settled, and what may be in hand because of it: arithmetic on what was measured."""

from __future__ import annotations

import math
from dataclasses import dataclass

UNMEASURED_STATEMENT_S = 2.5
"""Seconds that a statement of a settle may take before the first was measured. An UPDATE may wait for the lock."""
_SHORTEST_STATEMENT_S = 0.05
_AHEAD_S = 5.0
"""How far deliveries may be ahead of their settles, seconds. More would gain nothing, and a stop has to settle it."""
_AHEAD_STATEMENTS = 4
"""They may be ahead by this many statements, also if these are slow: one is sent while the next one fills."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettlePace:
    """How quickly outcomes are settled.

    Only another settle can show that settles are quick again, so no figure may keep a worker idle: with nothing in hand
    it may always claim, and a delivery may always start while no outcome waits.

    Attributes:
        statement_s: seconds that a statement takes. A settle has one INSERT for each part, and one UPDATE.
        statement_bytes: the size of a part.
        outcome_bytes: mean size of an outcome.
    """

    statement_s: float
    statement_bytes: int
    outcome_bytes: float

    @property
    def per_statement(self) -> float:
        """How many outcomes one INSERT carries."""
        return self.statement_bytes / self.outcome_bytes

    @property
    def per_second(self) -> float:
        """How many outcomes can be settled in a second."""
        return self.per_statement / self.statement_s

    def settleable(self, *, within_s: float, in_hand: int, first_block: int) -> float:
        """How many entries beside those in hand can be settled in time. A negative number: too many are in hand.

        With nothing in hand, one INSERT can always be filled, up to the size of a first block: it takes as long as the
        INSERT of a single outcome.
        """
        in_time = (within_s - self.statement_s) * self.per_second - in_hand
        return in_time if in_hand else max(in_time, min(first_block, self.per_statement))

    def most_unsettled_bytes(self, *, stop_s: float) -> float:
        """The size that the outcomes not settled may have. While it is exceeded, no delivery starts.

        Args:
            stop_s: how long outcomes can be settled after a stop, seconds.
        """
        ahead_s = min(stop_s, max(_AHEAD_S, _AHEAD_STATEMENTS * self.statement_s))
        return ahead_s / self.statement_s * self.statement_bytes


def learned(pace: SettlePace, *, seconds: float, size: int) -> float:
    """Seconds of a statement after another settle: the mean of what was known and of what was measured.

    So a single slow settle is soon forgotten.

    Args:
        pace: what was known.
        seconds: how long the settle took, with its INSERTs and its UPDATE.
        size: of its outcomes, bytes.
    """
    each = seconds / (math.ceil(size / pace.statement_bytes) + 1)
    return max(_SHORTEST_STATEMENT_S, (pace.statement_s + each) / 2)
