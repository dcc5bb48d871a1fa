"""How large the next block is, and how early it is claimed: arithmetic on what was seen.

Behind Snowflake's table lock all processors together take at most B / (2t) entries a second, with blocks of B entries
and statements of t seconds, however many processors there are. So a large block is what gives throughput. Its price is
that its entries wait in this task, where no other can take them. So a block grows only while claiming takes much of the
time, and never beyond what this task soon delivers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

_GROWTH = 4
"""Largest factor from one block to the next, beyond what can start at once."""
_CLAIM_SHARE = 0.05
"""Target share of a block's duration that its claim takes. The claims of twenty processors then fit behind one lock."""
_BUDGET_SHARE = 0.25
"""Largest share of the remaining time that one block may take. The rest is a reserve if the service slows down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockLimits:
    """Limits from the settings.

    Attributes:
        entries_per_container: size of the first block, and the smallest size unless little time is left.
        largest: size of the largest block.
        stale_s: seconds after which a claim is reset.
    """

    entries_per_container: int
    largest: int
    stale_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LastBlock:
    """The last claim, and the pace since.

    Attributes:
        asked: how many entries it asked for.
        came: how many it got.
        full: whether more may be ready.
        claim_s: seconds that a claim takes.
        per_second: entries that can be delivered; ``None`` before the first was answered.
        concurrency: deliveries that may be in flight.
        left_s: seconds until no more is claimed.
        settleable: entries beside those in hand whose outcomes a stop could still settle.
    """

    asked: int
    came: int
    full: bool
    claim_s: float
    per_second: float | None
    concurrency: int
    left_s: float
    settleable: float = math.inf


def next_block(last: LastBlock, limits: BlockLimits) -> int:
    """How many entries the next claim asks for, at least one."""
    soon = math.inf
    if last.per_second is not None:
        soon = last.per_second * _BUDGET_SHARE * min(last.left_s, limits.stale_s)
    wanted = max(limits.entries_per_container, _wanted(last))
    return max(1, math.floor(min(wanted, limits.largest, soon, last.settleable)))


def _wanted(last: LastBlock) -> float:
    if not last.came:
        return last.asked  # another worker was quicker; smaller blocks would only mean more statements
    if not last.full:
        return last.came  # the queue is nearly empty; the rest is left to other workers
    enough: float = last.concurrency
    if last.per_second is not None:
        enough = last.per_second * last.claim_s / _CLAIM_SHARE
    return min(max(_GROWTH * last.asked, last.concurrency), enough)


def unstarted_at_claim(*, room: int, per_second: float | None, claim_s: float) -> int:
    """How many entries may still be unstarted when the next block is claimed.

    These are the entries that can start at once, and those that are delivered during two claims: a settle may run
    before the claim, and takes as long.

    Args:
        room: deliveries that could start now.
        per_second: entries that can be delivered; ``None`` before the first was answered.
        claim_s: seconds that a claim takes.
    """
    return math.ceil(room + (per_second or 0.0) * 2 * claim_s)
