"""Which privileges a statement needs on Snowflake, from its syntax tree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlglot import exp

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHANGES: Final[dict[type[exp.Expr], tuple[str, ...]]] = {
    exp.Insert: ("INSERT",),
    exp.Update: ("UPDATE",),
    exp.Delete: ("DELETE",),
    exp.TruncateTable: ("TRUNCATE",),
    exp.Copy: ("INSERT",),
}
_SEES: Final = "any"
_FREE: Final = frozenset({"set", "unset", "show", "begin", "commit", "rollback"})
_TEMPORARY: Final = exp.TemporaryProperty


@dataclass(frozen=True, slots=True, kw_only=True)
class NeededPrivilege:
    """A privilege on an object.

    Attributes:
        privilege: its name; ``any`` if each one suffices.
        kind: of the object, as in :class:`~rowqueue_local.snowflake.roles.Securable`.
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
    if kind in _FREE:
        return []
    return list(_needs(tree))


def _needs(tree: exp.Expr) -> Iterator[NeededPrivilege]:
    match tree:
        case exp.Query():
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
    if target is None or not _name(target):
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
    """SELECT on each table, without those that the statement names itself and those that are functions or stages."""
    own = {cte.alias_or_name.upper() for cte in tree.find_all(exp.CTE)}
    for table in tree.find_all(exp.Table):
        name = _name(table)
        if table is changed or not name or (len(name) == 1 and name[0] in own) or "INFORMATION_SCHEMA" in name[:-1]:
            continue
        yield NeededPrivilege(privilege="SELECT", kind="TABLE", name=name)


def _creates(tree: exp.Create) -> Iterator[NeededPrivilege]:
    kind = str(tree.kind).upper()
    table = tree.this if isinstance(tree.this, exp.Table) else tree.this.find(exp.Table)
    name = _name(table) if table is not None else ()
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
    if target is None:
        raise Unknown
    if kind == "SCHEMA":
        yield NeededPrivilege(privilege="OWNERSHIP", kind="SCHEMA", name=_name(target), computes=False)
    elif kind in {"TABLE", "VIEW", "COLUMN", ""}:
        name = _name(target)[:-1] if kind == "COLUMN" else _name(target)
        yield NeededPrivilege(privilege="OWNERSHIP", kind="TABLE", name=name, computes=False)
    else:
        raise Unknown


def _name(table: exp.Expr) -> tuple[str, ...]:
    """The name in parts; empty if it is a function, a stage or only known when the statement runs."""
    if not isinstance(table, exp.Table) or not isinstance(table.this, exp.Identifier):
        return ()
    parts = [part for part in (table.args.get("catalog"), table.args.get("db"), table.this) if part]
    return tuple(part.this if part.args.get("quoted") else part.this.upper() for part in parts)


def _upper(parts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(part.upper() for part in parts)
