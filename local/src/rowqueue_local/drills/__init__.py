"""Drills: each causes one fault on a fresh embedded stack and checks a promise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

Tell = Callable[[str], None]
"""Takes one line of the story."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The result of a drill.

    Attributes:
        kept: whether the promise was kept.
        figures: by name.
        compressed: settings that are shorter than their defaults, to save time.
        table: rows for people, the first is the heading; may be empty.
    """

    kept: bool
    figures: Mapping[str, Any]
    compressed: Mapping[str, str] = field(default_factory=dict)
    table: Sequence[Sequence[str]] = ()

    def as_json(self, drill: str) -> dict[str, Any]:
        """The verdict as one JSON object."""
        return {"drill": drill, "held": self.kept, **self.figures, "compressed": dict(self.compressed)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Drill:
    """A drill.

    Attributes:
        name: on the command line.
        promise: what it checks.
        play: runs it with its state below a folder.
    """

    name: str
    promise: str
    play: Callable[[Path, Tell], Verdict]
