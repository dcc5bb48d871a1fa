"""How much memory entries take, and how many characters the next claim asks for: arithmetic on what was measured.

The figures are from the real driver and aiohttp with the embedded stack (docs/performance.md). Fargate ends a task that
uses more memory than it has, and everything in hand would be suspect.
"""

from __future__ import annotations

import sys

ENTRY_BYTES = 2_000
"""Memory of an entry with short texts, from its claim to its settle."""
_SHORT = 500
"""Characters up to which a text is part of that figure."""
_COPIES_OF_DATA = 3
"""``data`` is in memory as text and as UTF-8. The second takes up to twice the bytes of the first."""
_BYTES_PER_CLAIMED_CHARACTER = 20
"""While a claim is read, a character is in the driver's answer, in its table and in a text. That was 6 bytes for ASCII
and 13 for Chinese."""
_PROGRAM_BYTES = 192 * 2**20
"""Memory of the program with its libraries, connections and one statement: 162 MB at most were measured."""
_LEAST_BYTES = 32 * 2**20
_SHARE_AT_CLAIM = 4
"""A block is claimed while at most a fourth of the memory for entries is taken, so that no claim is a small one."""


def for_entries(task_memory_mib: int) -> int:
    """Bytes for the entries in hand, with their data and answers."""
    return max(_LEAST_BYTES, task_memory_mib * 2**20 - _PROGRAM_BYTES)


def of_data(data: str) -> int:
    """Bytes of an entry's ``data`` from its claim to the end of its delivery, above :data:`ENTRY_BYTES`."""
    return _COPIES_OF_DATA * sys.getsizeof(data) if len(data) > _SHORT else 0


def of_answer(answer: str | None) -> int:
    """Bytes of an answer from the end of the delivery to its settle, above :data:`ENTRY_BYTES`."""
    return sys.getsizeof(answer) if answer and len(answer) > _SHORT else 0


def allows_claim(*, most: int, taken: int) -> bool:
    """Whether there is memory for another block."""
    return taken <= most // _SHARE_AT_CLAIM


def characters_to_claim(*, most: int, taken: int, longest: int) -> int:
    """How many characters a claim may ask for. What comes may have one entry more.

    Args:
        most: bytes for entries.
        taken: bytes of the entries in hand.
        longest: characters of the longest ``data`` that is read. Room is left for it, but no more than half of the
            memory: otherwise a high limit would leave no room for usual entries.
    """
    beyond = min(longest, most // _BYTES_PER_CLAIMED_CHARACTER // 2)
    return max(1, (most - taken) // _BYTES_PER_CLAIMED_CHARACTER - beyond)
