"""Which privileges a statement needs on Snowflake, from its syntax tree."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlglot import exp

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_CHANGES: Final[dict[type[exp.Expr], tuple[str, ...]]] = {
    exp.Insert: ("INSERT",),
    exp.Update: ("UPDATE",),
    exp.Delete: ("DELETE",),
    exp.TruncateTable: ("TRUNCATE",),
    exp.Copy: ("INSERT",),
}
_SEES: Final = "any"
_TEMPORARY: Final = exp.TemporaryProperty
RESULT: Final = "RESULT"
"""The kind of the result of an earlier query."""
_SCAN: Final = "RESULT_SCAN"
# Functions that return rows and read nothing but their arguments.
_ROWS_OF_ARGUMENTS: Final = (exp.Explode, exp.Generator, exp.SplitToTable)
# The engine runs these as they are written. In a SHOW of another form there could be a second statement.
_PLAIN_SHOW: Final = re.compile(r"[\w\s.]+(\bLIKE\s+'[\w\s%.]*')?[\w\s.]*", re.IGNORECASE)
_PLAIN_NAME: Final = re.compile(r"[A-Za-z_][\w$]*(\.[A-Za-z_][\w$]*){0,2}")


@dataclass(frozen=True, slots=True, kw_only=True)
class NeededPrivilege:
    """A privilege on an object.

    Attributes:
        privilege: its name; ``any`` if each one suffices.
        kind: of the object, as in :class:`~rowqueue_local.snowflake.roles.Securable`, or ``RESULT``.
        name: as the statement has it, one to three parts.
        computes: whether a warehouse has to run the statement.
    """

    privilege: str
    kind: str
    name: tuple[str, ...]
    computes: bool = True


class Unknown(Exception):  # noqa: N818 - reads as what happened
    """It is not known which privileges the statement needs."""


def needs_of(kind: str, tree: exp.Expr) -> list[NeededPrivilege]:
    """The privileges that a statement needs.

    Args:
        kind: see :class:`~rowqueue_local.snowflake.statements.StatementFacts`.
        tree: the statement.

    Raises:
        Unknown: see there.
    """
    match kind, tree:
        case ("show", exp.Show()) | ("unset", exp.Alias()):
            return []
        case "show", exp.Command() if _PLAIN_SHOW.fullmatch(str(tree.expression)):
            return []
        case _:
            return list(_needs(tree))


def results_of(tree: exp.Expr) -> list[str]:
    """The ids of the queries whose results a statement reads."""
    return [result for node in tree.find_all(exp.TableFromRows) if (result := _result(node))]


def _result(node: exp.Expr) -> str | None:
    match node.this:
        case exp.Anonymous(this=str(function), expressions=[exp.Literal() as query]) if function.upper() == _SCAN:
            return query.name
        case _:
            return None


def _needs(tree: exp.Expr) -> Iterator[NeededPrivilege]:
    match tree:
        case exp.Query() | exp.Set():
            yield from _reads(tree, changed=None)
        case exp.Describe(this=exp.Query()):
            yield from _reads(tree, changed=None)
        case exp.Describe():
            for table in tree.find_all(exp.Table):
                yield NeededPrivilege(privilege=_SEES, kind="TABLE", name=_name(table), computes=False)
        case exp.Use():
            name = _name(tree.this)
            kind = str(tree.args.get("kind") or ("DATABASE" if len(name) == 1 else "SCHEMA")).upper()
            yield NeededPrivilege(privilege="USAGE", kind=kind, name=name, computes=False)
        case exp.Create():
            yield from _creates(tree)
        case exp.Alter() | exp.Drop() | exp.Comment():
            yield from _alters(tree)
        case exp.Merge():
            yield from _merges(tree)
        case exp.Insert() | exp.Update() | exp.Delete() | exp.TruncateTable() | exp.Copy():
            yield from _changes(tree, _CHANGES[type(tree)])
        case _:
            raise Unknown


def _changes(tree: exp.Expr, privileges: tuple[str, ...]) -> Iterator[NeededPrivilege]:
    """The target needs the privilege, and also SELECT if a condition or a new value reads a column of it."""
    target = tree.this.find(exp.Table) if isinstance(tree.this, exp.Expr) else tree.find(exp.Table)
    if target is None or (isinstance(tree, exp.TruncateTable) and len(tree.expressions) > 1):
        raise Unknown
    if isinstance(tree, exp.Insert) and tree.args.get("overwrite"):
        privileges = ("INSERT", "DELETE")
    for privilege in privileges:
        yield NeededPrivilege(privilege=privilege, kind="TABLE", name=_name(target))
    assigned = {id(assignment.this) for assignment in tree.expressions} if isinstance(tree, exp.Update) else set()
    reads = any(id(column) not in assigned for column in tree.find_all(exp.Column))
    if reads and isinstance(tree, exp.Update | exp.Delete):
        yield NeededPrivilege(privilege="SELECT", kind="TABLE", name=_name(target))
    yield from _reads(tree, changed=target)


def _merges(tree: exp.Merge) -> Iterator[NeededPrivilege]:
    target = tree.this
    for when in tree.find_all(exp.When):
        then = when.args["then"]
        for change, (privilege, *_) in _CHANGES.items():
            if isinstance(then, change):
                yield NeededPrivilege(privilege=privilege, kind="TABLE", name=_name(target))
        if str(then).upper() == "DELETE":
            yield NeededPrivilege(privilege="DELETE", kind="TABLE", name=_name(target))
    yield NeededPrivilege(privilege="SELECT", kind="TABLE", name=_name(target))
    yield from _reads(tree, changed=target)


def _reads(tree: exp.Expr, *, changed: exp.Expr | None) -> Iterator[NeededPrivilege]:
    """SELECT on each table, without those that the statement names itself; and results of earlier queries.

    Raises:
        Unknown: it reads something else.
    """
    for node in tree.walk():
        match node:
            case exp.Table() if node is not changed:
                name = _name(node)
                if not _is_own(node, name) and name[-2:-1] != ("INFORMATION_SCHEMA",):
                    yield NeededPrivilege(privilege="SELECT", kind="TABLE", name=name)
            case exp.TableFromRows() if result := _result(node):
                yield NeededPrivilege(privilege="SELECT", kind=RESULT, name=(result,), computes=False)
            case exp.TableFromRows() if not isinstance(node.this, _ROWS_OF_ARGUMENTS):
                raise Unknown
            case exp.Lateral() if not isinstance(node.this, (exp.Subquery, *_ROWS_OF_ARGUMENTS)):
                raise Unknown
            case exp.Command() | exp.Returning():
                raise Unknown
            case exp.In() if isinstance(node.args.get("field"), exp.Column):  # to the engine it may be a table
                raise Unknown
            case _:
                pass


def _is_own(table: exp.Expr, name: tuple[str, ...]) -> bool:
    """Whether a name means a WITH of the statement where it stands: one before it, or one of a query around it."""
    node, parent = table, table.parent
    while len(name) == 1 and parent is not None:
        if isinstance(parent, exp.With):
            number = next(n for n, cte in enumerate(parent.expressions) if cte is node)
            if _has(parent.expressions[:number], name[0]) or (
                parent.args.get("recursive") and _has([node], name[0]) and _repeats(node.this, table)
            ):
                return True
        else:
            named = parent.args.get("with_")
            if named is not None and named is not node and _has(named.expressions, name[0]):
                return True
        node, parent = parent, parent.parent
    return False


def _has(ctes: Sequence[exp.Expr], name: str) -> bool:
    """Whether one of them has that name; the engine compares names without regard to case."""
    return any(cte.alias_or_name.upper() == name for cte in ctes)


def _repeats(query: exp.Expr, table: exp.Expr) -> bool:
    """Whether a table is in the part of a recursive query that is repeated. The first part reads a real table."""
    if not isinstance(query, exp.Union):
        return False
    repeated = query.expression
    return any(node is table for node in repeated.walk())


def _creates(tree: exp.Create) -> Iterator[NeededPrivilege]:
    kind = str(tree.kind).upper()
    table = tree.this if isinstance(tree.this, exp.Table) else tree.this.find(exp.Table)
    name = _name(table) if table is not None and kind not in {"SCHEMA", "DATABASE"} else ()
    properties = tree.args.get("properties")
    temporary = properties is not None and properties.find(_TEMPORARY) is not None
    if kind == "SCHEMA":
        parts = tuple(part for part in (table.catalog, table.db) if part) if table is not None else ()
        yield NeededPrivilege(privilege="CREATE SCHEMA", kind="DATABASE", name=_upper(parts[:-1]), computes=False)
    elif kind == "DATABASE":
        yield NeededPrivilege(privilege="CREATE DATABASE", kind="ACCOUNT", name=(), computes=False)
    elif not (temporary and kind == "TABLE"):
        yield NeededPrivilege(privilege=f"CREATE {kind}", kind="SCHEMA", name=name[:-1], computes=False)
    if tree.args.get("replace") and kind in {"TABLE", "VIEW"}:
        yield NeededPrivilege(privilege="OWNERSHIP of what is replaced", kind="TABLE", name=name, computes=False)
    yield from _reads(tree, changed=table)


def _alters(tree: exp.Expr) -> Iterator[NeededPrivilege]:
    kind = str(tree.args.get("kind") or "").upper()
    target = tree.this if isinstance(tree.this, exp.Table) else tree.find(exp.Table)
    if target is None or tree.find(exp.Query) or len(tree.args.get("tables") or ()) > 1:
        raise Unknown
    for swap in tree.find_all(exp.SwapTable):
        yield NeededPrivilege(privilege="OWNERSHIP", kind="TABLE", name=_name(swap.this), computes=False)
    if kind == "SCHEMA":
        parts = tuple(part for part in (target.catalog, target.db) if part)
        yield NeededPrivilege(privilege="OWNERSHIP", kind="SCHEMA", name=_upper(parts), computes=False)
    elif kind in {"TABLE", "VIEW", "COLUMN", ""}:
        name = _name(target)[:-1] if kind == "COLUMN" else _name(target)
        yield NeededPrivilege(privilege="OWNERSHIP", kind="TABLE", name=name, computes=False)
    else:
        raise Unknown


def _name(table: exp.Expr) -> tuple[str, ...]:
    """The name in parts.

    Raises:
        Unknown: it is no name, but a function, a stage, a file, or what is only known when the statement runs.
    """
    match table:
        case exp.Table(this=exp.Identifier()):
            parts = [part for part in (table.args.get("catalog"), table.args.get("db"), table.this) if part]
            if all(isinstance(part, exp.Identifier) for part in parts):
                return tuple(part.this if part.args.get("quoted") else part.this.upper() for part in parts)
        case exp.Table(this=exp.DynamicIdentifier(this=exp.Literal() as given)) if (
            not table.db and _PLAIN_NAME.fullmatch(given.name)
        ):
            return _upper(tuple(given.name.split(".")))
        case _:
            pass
    raise Unknown


def _upper(parts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(part.upper() for part in parts)
