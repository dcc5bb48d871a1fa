"""What Snowflake refuses in ALTER TABLE and the engine would run, and SWAP WITH, which the engine does not have.

Snowflake's page "ALTER TABLE": a new column's default is a constant; ADD COLUMN IF NOT EXISTS takes no default; SET
DEFAULT is only for a column whose default is a sequence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlglot import exp

from rowqueue_local.snowflake.lengths import length_of

if TYPE_CHECKING:
    from collections.abc import Iterator

_BETWEEN = "SWAPPING_"


class RefusedAlteration(Exception):  # noqa: N818 - the client's mistake, not a fault of ours
    """Snowflake would refuse this ALTER TABLE. Its error number is not known."""


def defaults_that_are_no_constants(tree: exp.Expr) -> Iterator[str]:
    """A new column's default is computed once, for the rows that are there; so it has to be a constant."""
    for column, default in _new_defaults(tree):
        if not _is_constant(default):
            yield f"{column.name} DEFAULT {default.sql(dialect='snowflake')}"


def defaults_with_if_not_exists(tree: exp.Expr) -> Iterator[str]:
    """ADD COLUMN IF NOT EXISTS takes no default."""
    yield from (f"IF NOT EXISTS {column.name}" for column, _ in _new_defaults(tree) if column.args.get("exists"))


def defaults_set_later(tree: exp.Expr) -> Iterator[str]:
    """The default of a column that exists cannot be set, unless it is a sequence."""
    for change in _actions(tree, exp.AlterColumn):
        default = change.args.get("default")
        if default is not None and default.name.upper() != "NEXTVAL":
            yield f"{change.name} SET DEFAULT {default.sql(dialect='snowflake')}"


def defaults_that_are_too_long(tree: exp.Expr) -> Iterator[str]:
    """The default of a new column fits into its VARCHAR(n)."""
    for column, default in _new_defaults(tree):
        length = length_of(column.args.get("kind"))
        if length is not None and isinstance(default, exp.Literal) and len(default.name) > length:
            yield f"{column.name} VARCHAR({length}) DEFAULT {default.sql(dialect='snowflake')}"


def require_possible(tree: exp.Expr) -> None:
    """Raise ``RefusedAlteration`` for what Snowflake refuses."""
    for check in _CHECKS:
        for found in check(tree):
            raise RefusedAlteration(f"Snowflake refuses this in ALTER TABLE: {found}. {check.__doc__}")


_CHECKS: Final = (
    defaults_that_are_no_constants,
    defaults_with_if_not_exists,
    defaults_set_later,
    defaults_that_are_too_long,
)


def renames_of(tree: exp.Expr) -> list[exp.Alter]:
    """The three renames that swap two tables; empty if the statement is no SWAP WITH."""
    for swap in _actions(tree, exp.SwapTable):
        first, second = tree.this, swap.this
        between = first.copy()
        between.set("this", exp.to_identifier(f"{_BETWEEN}{first.name}"))
        return [_rename(first, between), _rename(second, first), _rename(between, second)]
    return []


def _rename(table: exp.Table, to: exp.Table) -> exp.Alter:
    name = exp.Table(this=to.this.copy())
    return exp.Alter(this=table.copy(), kind="TABLE", actions=[exp.AlterRename(this=name)])


def _actions(tree: exp.Expr, kind: type[exp.Expr]) -> list[exp.Expr]:
    actions = tree.args.get("actions") or [] if isinstance(tree, exp.Alter) else []
    return [action for action in actions if isinstance(action, kind)]


def _new_defaults(tree: exp.Expr) -> Iterator[tuple[exp.Expr, exp.Expr]]:
    for column in _actions(tree, exp.ColumnDef):
        for constraint in column.find_all(exp.DefaultColumnConstraint):
            yield column, constraint.this


def _is_constant(value: exp.Expr) -> bool:
    while isinstance(value, exp.Cast | exp.Neg | exp.Paren):
        value = value.this
    return isinstance(value, exp.Literal | exp.Boolean | exp.Null)
