"""Several statements in one request (MULTI_STATEMENT_COUNT): where each begins, and which bound values it gets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rowqueue_local.snowflake.statements import is_one_block, tokens_of

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class SentPart:
    """One statement of a request.

    Attributes:
        text: without the semicolon.
        bindings: its bound values in the form of the request, numbered from 1.
    """

    text: str
    bindings: Mapping[str, Any]


def parts_of(text: str, bindings: Mapping[str, Any]) -> list[SentPart]:
    """The statements in ``text``. Question marks take the bound values in their order."""
    if ";" not in text or is_one_block(text):
        return [SentPart(text=text, bindings=bindings)]
    parts, taken = [], 0
    for piece, marks in _pieces(text):
        own = {str(n): bindings[str(taken + n)] for n in range(1, marks + 1) if str(taken + n) in bindings}
        parts.append(SentPart(text=piece, bindings=own))
        taken += marks
    if len(parts) <= 1:
        return [SentPart(text=text, bindings=bindings)]
    return parts


def _pieces(text: str) -> list[tuple[str, int]]:
    """Each statement with its number of question marks; what has only blanks and comments is none."""
    pieces, start, marks, is_blank = [], 0, 0, True
    for token in tokens_of(text):
        if token[0] == ";":
            if not is_blank:
                pieces.append((text[start : token.start()].strip(), marks))
            start, marks, is_blank = token.end(), 0, True
        elif token.lastgroup != "blank":
            is_blank = False
            marks += token[0] == "?"
    if not is_blank:
        pieces.append((text[start:].strip(), marks))
    return pieces
