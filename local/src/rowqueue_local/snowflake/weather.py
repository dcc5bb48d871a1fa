"""The artificial latency of the Snowflake stand-in: a model, not a measurement of Snowflake."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from rowqueue_local.snowflake.statements import StatementFacts

LONGEST_MS = 60_000
_CHANGES = frozenset({"insert", "update", "delete", "merge"})


class UnknownWeather(Exception):  # noqa: N818 - reads as what happened
    """The request is not valid; the message says what is expected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """Milliseconds added to the engine's own time.

    Attributes:
        dml_ms: to an INSERT, UPDATE, DELETE or MERGE. All but INSERT keep their table locked meanwhile, so that the
            latencies of all sessions add up.
        select_ms: to a SELECT.
        login_ms: to a login.
    """

    dml_ms: float = 0
    select_ms: float = 0
    login_ms: float = 0

    @classmethod
    def requested(cls, wishes: dict[str, Any]) -> Self:
        """The weather that a request asks for; values that it does not name are 0.

        Raises:
            UnknownWeather: a name or a value is not valid.
        """
        names = {field.name for field in fields(cls)}
        fits = all(name in names and _is_time(value) for name, value in wishes.items())
        if not fits:
            expected = f"some of {', '.join(sorted(names))}, each a number from 0 to {LONGEST_MS}"
            raise UnknownWeather(f"weather: expected {expected}, got {wishes}")
        return cls(**wishes)

    def as_json(self) -> dict[str, float]:
        """The values by name."""
        return asdict(self)

    def milliseconds(self, statement: StatementFacts, *, describe_only: bool) -> float:
        """The latency of a statement; none if the client asks only for its columns."""
        if describe_only:
            return 0
        if statement.kind in _CHANGES:
            return self.dml_ms
        return self.select_ms if statement.kind == "select" else 0


async def pass_by(milliseconds: float) -> None:
    """Wait. Without latency, do not even yield to the event loop."""
    if milliseconds:
        await asyncio.sleep(milliseconds / 1000)


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= LONGEST_MS
