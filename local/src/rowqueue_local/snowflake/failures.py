"""The errors that the clients of the Snowflake stand-in get."""

from __future__ import annotations

from typing import Final

UNSUPPORTED: Final = 390999
"""The errno of what only the stand-in refuses. Snowflake has no such code, so it cannot be mistaken for a real one."""


class Failure(Exception):  # noqa: N818 - an answer to the client, not a fault of ours
    """The error that the client gets for a statement."""

    def __init__(self, errno: int, sqlstate: str, message: str) -> None:
        super().__init__(errno, sqlstate, message)
        self.errno = errno
        self.sqlstate = sqlstate
        self.message = message


def not_there(kind: str, name: str) -> Failure:
    """Snowflake's error for what does not exist, and for what the role may not even know of."""
    sqlstate = "42S02" if kind in {"Object", "Table", "View"} else "02000"
    return Failure(2003, sqlstate, f"SQL compilation error:\n{kind} '{name}' does not exist or not authorized.")


def nothing_in_use(verb: str, kind: str) -> Failure:
    """Snowflake's error for a name without a database or a schema, if the session has none either."""
    advice = f"This session does not have a current {kind}. Call 'USE {kind.upper()}', or use a qualified name."
    return Failure(90105 if kind == "database" else 90106, "22000", f"Cannot perform {verb}. {advice}")


def impossible() -> Failure:
    """Snowflake's error for USE of what does not exist or is not granted."""
    return Failure(2043, "02000", "SQL compilation error:\nObject does not exist, or operation cannot be performed.")


def insufficient(kind: str, name: str) -> Failure:
    """Snowflake's error for what the role knows of, and may not do."""
    what = f"{kind} '{name}'" if name else kind
    return Failure(3001, "42501", f"SQL access control error:\nInsufficient privileges to operate on {what}.")
