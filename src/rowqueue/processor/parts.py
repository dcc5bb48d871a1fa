"""Rows cut into parts, each of which fits into one statement as a JSON array."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

T = TypeVar("T")

MAX_STATEMENT_BYTES = 900_000
"""Largest JSON text in one statement. Snowflake advises 1 MB at most, bound values included ("Limits on Query Text
Size")."""


@dataclass(frozen=True, slots=True)
class Part(Generic[T]):
    """What one statement sends.

    Attributes:
        items: what is sent, in order.
        rows: each of them as JSON.
    """

    items: tuple[T, ...]
    rows: tuple[bytes, ...]

    @property
    def text(self) -> str:
        """The value to bind: a JSON array of the rows."""
        return f"[{b','.join(self.rows).decode()}]"

    def halves(self) -> tuple[Part[T], Part[T]]:
        """Two smaller parts, to find what Snowflake refuses."""
        half = len(self.items) // 2
        return Part(self.items[:half], self.rows[:half]), Part(self.items[half:], self.rows[half:])


def parts_of(items: Iterable[T], row: Callable[[T], object]) -> Iterator[Part[T]]:
    """Cut items into parts. A single one that is too large for a statement is a part of its own.

    Args:
        items: what is sent.
        row: the row that the statement reads for one of them.
    """
    part: list[T] = []
    rows: list[bytes] = []
    left = MAX_STATEMENT_BYTES
    for item in items:
        encoded = msgspec.json.encode(row(item))
        size = len(encoded) + 1
        if rows and size > left:
            yield Part(tuple(part), tuple(rows))
            part, rows, left = [], [], MAX_STATEMENT_BYTES
        part.append(item)
        rows.append(encoded)
        left -= size
    if rows:
        yield Part(tuple(part), tuple(rows))
