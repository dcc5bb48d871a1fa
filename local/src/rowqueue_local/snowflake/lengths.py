"""VARCHAR(n) means something on Snowflake: a longer text is refused. The engine ignores n, so the table gets checks.

Columns that ALTER TABLE adds, and tables made from others (CLONE, AS SELECT), are not checked: the engine cannot. A
cast cuts the text; see ``functions``.
"""

from __future__ import annotations

import re
from typing import Final

from sqlglot import exp

_TEXTS: Final = frozenset(
    {exp.DataType.Type.VARCHAR, exp.DataType.Type.TEXT, exp.DataType.Type.CHAR, exp.DataType.Type.NVARCHAR}
)
_END: Final = " is too long and would be truncated"
_TOO_LONG: Final = re.compile(rf"\(Error: (?P<message>String '.*'{_END})\)", re.DOTALL)


def checked(tree: exp.Expr) -> exp.Expr:
    """The same statement; a CREATE TABLE with columns checks the lengths of its texts."""
    if isinstance(tree, exp.Create) and tree.args.get("kind") == "TABLE" and isinstance(tree.this, exp.Schema):
        for column in tree.this.expressions:
            if isinstance(column, exp.ColumnDef) and (length := length_of(column.args.get("kind"))):
                column.append("constraints", _check(column.this, length))
    return tree


def length_of(kind: exp.Expr | None) -> int | None:
    """The n of VARCHAR(n); None if it is another type, or has no length."""
    if not isinstance(kind, exp.DataType) or kind.this not in _TEXTS or len(kind.expressions) != 1:
        return None
    return int(kind.expressions[0].name)


def complaint(error: str) -> str | None:
    """Snowflake's sentence about a text that is too long, if this is the engine's error about it."""
    found = _TOO_LONG.search(error)
    return found["message"] if found else None


def _check(column: exp.Identifier, length: int) -> exp.ColumnConstraint:
    value = exp.column(column.copy())
    too_long = exp.GT(this=exp.Length(this=value), expression=exp.Literal.number(length))
    text = exp.Concat(
        expressions=[exp.Literal.string("String '"), value.copy(), exp.Literal.string(f"'{_END}")], safe=True
    )
    refusal = exp.Case().when(too_long, exp.Anonymous(this="error", expressions=[text])).else_(exp.true())
    return exp.ColumnConstraint(kind=exp.CheckColumnConstraint(this=refusal))
