"""What people do to entries and holds: each action is one statement of ``operator.sql``, and is on record."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rowqueue import sql

if TYPE_CHECKING:
    from datetime import datetime

    from rowqueue.sql import Warehouse


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """Which entries are meant: those that all given values fit.

    Attributes:
        ids: their ids.
        reference: a pattern for LIKE.
        status: one that the action reaches.
        error: a pattern for LIKE, for the message of the failure.
        destination: the name of a destination.
        since: UTC, naive. For requeue and discard this is when the entry failed or was cancelled; for cancel and
            reprioritise, when it was inserted.
        until: as ``since``; not included.
    """

    ids: tuple[int, ...] | None = None
    reference: str | None = None
    status: str | None = None
    error: str | None = None
    destination: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def as_json(self) -> str:
        """The selector as the procedures read it. Without any value they refuse it."""
        given = {
            "ids": None if self.ids is None else list(self.ids),
            "reference": self.reference,
            "status": self.status,
            "error": self.error,
            "destination": self.destination,
            "since": self.since and self.since.isoformat(sep=" ", timespec="microseconds"),
            "until": self.until and self.until.isoformat(sep=" ", timespec="microseconds"),
        }
        return json.dumps({key: value for key, value in given.items() if value is not None})


class Operator(sql.Sender):
    """The actions of a person.

    Each returns how many rows it changed. A refusal by the procedure is a :class:`~rowqueue.errors.WarehouseError`
    whose message says what is wrong; then nothing was changed.

    Args:
        warehouse: runs the statements, with the login of the person.
    """

    def __init__(self, warehouse: Warehouse) -> None:
        # The procedures have the name of the queue table in their text, and need no limit of attempts.
        super().__init__(warehouse, queue="", max_retries=0, file="operator.sql")

    def requeue(self, selector: Selector, *, reason: str) -> int:
        """Make failed and cancelled entries pending again."""
        return self._done("requeue", selector=selector.as_json(), reason=reason)

    def cancel(self, selector: Selector, *, reason: str) -> int:
        """Cancel pending entries, and those in hand unless their delivery has begun."""
        return self._done("cancel", selector=selector.as_json(), reason=reason)

    def discard(self, selector: Selector, *, reason: str) -> int:
        """Cancel failed entries."""
        return self._done("discard", selector=selector.as_json(), reason=reason)

    def reprioritise(self, selector: Selector, *, priority: int, reason: str) -> int:
        """Give pending entries another priority."""
        return self._done("reprioritise", selector=selector.as_json(), priority=priority, reason=reason)

    def hold(self, scope: str, *, seconds: int | None, reason: str) -> int:
        """Have nothing claimed of a destination, or nothing at all with ``*``.

        Args:
            scope: a destination, or ``*``.
            seconds: how long; ``None``: until somebody lifts it.
            reason: why.
        """
        return self._done("hold", scope=scope, seconds=seconds, reason=reason)

    def lift(self, scope: str, *, reason: str) -> int:
        """End the holds of a scope, except a fence."""
        return self._done("lift", scope=scope, reason=reason)

    def _done(self, name: str, **values: object) -> int:
        return int(self._row(name, columns=1, **values)[0])
