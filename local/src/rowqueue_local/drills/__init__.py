"""Drills: one fault, played on a fresh embedded stack, with the story, the figures and the verdict.

For people who want to see before they trust, and for CI.
"""

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
    """What a drill has shown.

    Attributes:
        held: whether the promise held.
        figures: by name.
        compressed: settings by which time was compressed, against their defaults.
        table: rows for people, the first is the heading; may be empty.
    """

    held: bool
    figures: Mapping[str, Any]
    compressed: Mapping[str, str] = field(default_factory=dict)
    table: Sequence[Sequence[str]] = ()

    def as_json(self, drill: str) -> dict[str, Any]:
        """One object: the drill, the verdict, the figures, the compressed settings."""
        return {"drill": drill, "held": self.held, **self.figures, "compressed": dict(self.compressed)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Drill:
    """One fault that can be played.

    Attributes:
        name: on the command line.
        promise: what is to hold.
        play: plays it with its state below a folder.
    """

    name: str
    promise: str
    play: Callable[[Path, Tell], Verdict]
