"""How slow the Snowflake stand-in pretends to be: a model, measured on no Snowflake."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from rowqueue_local.snowflake.statements import Statement

LONGEST_MS = 60_000
_CHANGES = frozenset({"insert", "update", "delete", "merge"})


class UnknownWeather(Exception):  # noqa: N818 - reads as what happened
    """What was asked for is no weather; the message says what is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """Milliseconds added to what the engine takes.

    Attributes:
        dml_ms: to an INSERT, UPDATE, DELETE or MERGE. Those that lock their table hold the lock meanwhile, so that
            they add up over all sessions; an INSERT locks nothing, and does not.
        select_ms: to a SELECT.
        login_ms: to a login.
    """

    dml_ms: float = 0
    select_ms: float = 0
    login_ms: float = 0

    @classmethod
    def told(cls, wishes: dict[str, Any]) -> Self:
        """The weather that a request asks for; what it does not name is 0.

        Raises:
            UnknownWeather: a name or a value is not one.
        """
        names = {field.name for field in fields(cls)}
        fits = all(name in names and _is_time(value) for name, value in wishes.items())
        if not fits:
            expected = f"some of {', '.join(sorted(names))}, each a number from 0 to {LONGEST_MS}"
            raise UnknownWeather(f"weather: expected {expected}, got {wishes}")
        return cls(**wishes)

    def as_json(self) -> dict[str, float]:
        """By name."""
        return asdict(self)

    def milliseconds(self, statement: Statement, *, describe_only: bool) -> float:
        """What a statement costs more; nothing when the client only asks for its columns."""
        if describe_only:
            return 0
        if statement.kind in _CHANGES:
            return self.dml_ms
        return self.select_ms if statement.kind == "select" else 0


async def pass_by(milliseconds: float) -> None:
    """Wait; not even a turn of the event loop in fair weather."""
    if milliseconds:
        await asyncio.sleep(milliseconds / 1000)


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= LONGEST_MS
