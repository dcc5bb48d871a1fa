"""The check behind ERROR_ON_NONDETERMINISTIC_UPDATE: does an UPDATE find more than one source row for a target?

Snowflake then refuses the UPDATE. The engine would write one of the source rows, without a word.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlglot import exp

_CHECK: Final = "ambiguity_check"


class AmbiguousUpdate(Exception):  # noqa: N818 - the client's mistake, not a fault of ours
    """An UPDATE found more than one source row for a target."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AmbiguityCheck:
    """A query that has a row if an UPDATE is ambiguous.

    Attributes:
        text: for the engine.
        skipped: number of the UPDATE's first bound values that it does not use: those of SET.
    """

    text: str
    skipped: int


def check_of(tree: exp.Expr) -> AmbiguityCheck | None:
    """The check of a statement; ``None`` if it is no UPDATE with FROM. It is made once for each tree."""
    if not isinstance(tree, exp.Update) or not tree.args.get("from_"):
        return None
    if _CHECK not in tree.meta:
        tree.meta[_CHECK] = _made(tree)
    check: AmbiguityCheck = tree.meta[_CHECK]
    return check


def _made(update: exp.Update) -> AmbiguityCheck:
    table = update.this.copy()
    sources = update.args["from_"].this.copy()
    number = exp.column("rowid", table=table.alias_or_name)
    query = exp.select("1").from_(table).join(sources, join_type="cross").group_by(number)
    if where := update.args.get("where"):
        query = query.where(where.this.copy())
    query = query.having("COUNT(*) > 1").limit(1)
    bound = [found for assignment in update.expressions for found in assignment.find_all(exp.Placeholder)]
    return AmbiguityCheck(text=query.sql(dialect="duckdb"), skipped=len(bound))
