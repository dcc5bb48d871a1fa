"""Whose the results of earlier queries are: on Snowflake only the user who ran a query gets its result later."""

from __future__ import annotations

from typing import Final

from rowqueue_local.snowflake.failures import Failure

_KEPT: Final = 10_000  # more than the results that are kept; what is not known is nobody's


class ResultOwners:
    """The users who ran the latest queries."""

    def __init__(self) -> None:
        self._users: dict[str, str] = {}

    def note(self, query_id: str, user: str) -> None:
        """Record who runs a query."""
        self._users[query_id] = user
        if len(self._users) > _KEPT:
            del self._users[next(iter(self._users))]

    def has(self, user: str, query_id: str) -> bool:
        """Whether the user ran the query."""
        return self._users.get(query_id) == user

    def require(self, user: str, query_id: str) -> None:
        """Raise ``Failure`` if the user did not run the query."""
        if not self.has(user, query_id):
            raise not_found(query_id)


def not_found(query_id: str) -> Failure:
    """Snowflake's error for a query that there is not, or whose result is another user's."""
    return Failure(709, "02000", f"Statement {query_id} not found")
