"""Reads the words of one SQL statement from left to right, for statements that the engine does not know."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rowqueue_local.snowflake import statements
from rowqueue_local.snowflake.failures import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Words:
    """The words of one statement that are not read yet.

    Args:
        tokens: as :func:`rowqueue_local.snowflake.statements.words_of` gives them.
        variable: the value of a session variable, by its name.
    """

    def __init__(self, tokens: Sequence[str], variable: Callable[[str], str]) -> None:
        self._left = [word for word in tokens if word != ";"]
        self._variable = variable

    @property
    def next(self) -> str:
        """The next word; empty at the end."""
        return self._left[0] if self._left else ""

    def take(self, *words: str) -> bool:
        """Read these words, if they come next."""
        if self._left[: len(words)] != list(words):
            return False
        del self._left[: len(words)]
        return True

    def take_any(self, words: frozenset[str]) -> list[str]:
        """Read words as long as they are among these."""
        taken = []
        while self.next in words:
            taken.append(self._left.pop(0))
        return taken

    def expect(self, *words: str) -> None:
        """Read these words.

        Raises:
            Failure: others come next.
        """
        if not self.take(*words):
            raise self.unexpected()

    def until(self, *ends: str) -> list[str]:
        """Read up to one of these words."""
        taken = []
        while self._left and self.next not in ends:
            taken.append(self._left.pop(0))
        return taken

    def name(self) -> tuple[str, ...]:
        """Read the name of an object: its parts, in upper case, as the engine compares them."""
        if self.take("IDENTIFIER", "("):
            written = self.value()
            self.expect(")")
            return tuple(part.strip('"').upper() for part in str(written).split("."))
        parts = [self._part()]
        while self.take("."):
            parts.append(self._part())
        return tuple(parts)

    def only_name(self) -> str:
        """Read a name of one part."""
        return self.name()[-1]

    def value(self) -> str | tuple[str, ...]:
        """Read a text, a session variable, a word, or a list of these in brackets."""
        if self.take("("):
            values = []
            while not self.take(")"):
                if not self._left:
                    raise self.unexpected()
                values.append(str(self.value()))
                self.take(",")
            return tuple(values)
        if self.take("$"):
            return self._variable(self._part())
        token = self._part()
        return statements.text_of(token) if token[:1] in {"'", "$"} else token

    def unexpected(self) -> Failure:
        """Snowflake's error about the next word."""
        return Failure(1003, "42000", f"SQL compilation error:\nsyntax error: unexpected '{self.next or '<EOF>'}'.")

    def _part(self) -> str:
        if not self._left:
            raise self.unexpected()
        token = self._left.pop(0)
        return statements.unquoted(token) if token.startswith('"') else token
