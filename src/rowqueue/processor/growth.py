"""How many entries the next claim asks for.

Behind Snowflake's table lock all processors together take at most B / (2t) entries a second, with blocks of B and
statements of t seconds, however many they are: the block is the lever. Its price is that what it holds waits in this
task, out of reach of others, so it grows only while claiming takes much of the time, and never beyond what is
delivered soon.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

_GROWTH = 4
"""Times as many as last time, at most, beyond what can start at once: with 100, from 8 to 1,600 in three claims."""
SHARE = 0.05
"""Of the time that a block lasts, for claiming it: then the claims of twenty processors still fit behind one lock."""
_PART = 0.25
"""Of the time that is left for delivering, for a single block: one that is slower than it looked is still done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What the settings say.

    Attributes:
        first: the first block, and the smallest unless the budget ends.
        most: the largest.
        stale_s: seconds after which a claim is taken away.
    """

    first: int
    most: int
    stale_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The last claim, and the pace since.

    Attributes:
        asked: for so many entries.
        came: so many.
        full: whether there may be more where they came from.
        claim_s: seconds that a claim takes, with what it waits for.
        per_second: entries that can be delivered; ``None`` before the first one has been.
        at_once: deliveries that may be in flight.
        left_s: seconds of the budget.
    """

    asked: int
    came: int
    full: bool
    claim_s: float
    per_second: float | None
    at_once: int
    left_s: float


def next_block(seen: Seen, bounds: Bounds) -> int:
    """How many to ask for, at least one."""
    soon = math.inf if seen.per_second is None else seen.per_second * _PART * min(seen.left_s, bounds.stale_s)
    return max(1, math.floor(min(max(bounds.first, _wanted(seen)), bounds.most, soon)))


def _wanted(seen: Seen) -> float:
    if not seen.came:
        return seen.asked  # another was quicker: smaller blocks would only mean more statements
    if not seen.full:
        return seen.came  # the queue is nearly empty: leave something to others
    enough = seen.at_once if seen.per_second is None else seen.per_second * seen.claim_s / SHARE
    # What starts at once waits nowhere.
    return min(max(_GROWTH * seen.asked, seen.at_once), enough)
