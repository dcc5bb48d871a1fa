"""Functions of Snowflake that the engine lacks or computes otherwise, as expressions that it has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlglot import exp

from rowqueue_local.snowflake import lengths

if TYPE_CHECKING:
    from collections.abc import Callable

# Snowflake's words for the types of JSON values, where the engine has others.
_TYPES: Final = {"UBIGINT": "INTEGER", "BIGINT": "INTEGER", "NULL": "NULL_VALUE"}
_CLOCKS: Final = (" %H:%M:%S.%f", " %H:%M:%S", " %H:%M", "T%H:%M:%S.%f", "T%H:%M:%S", "T%H:%M", "")
_TIMES: Final = tuple(f"%Y-%m-%d{clock}" for clock in _CLOCKS)


def replacing(rewrite: Callable[..., exp.Expr]) -> Callable[..., exp.Expr]:
    """Rewrite a statement as we need it, and then as fakesnow does."""

    def transform(cursor: Any, tree: exp.Expr, parameters: Any) -> exp.Expr:
        return rewrite(cursor, tree.transform(_replaced, copy=False), parameters)

    return transform


def _replaced(node: exp.Expr) -> exp.Expr:
    match node:
        case exp.Typeof(this=value):
            kind = exp.Anonymous(this="json_type", expressions=[value])
            ifs = [
                exp.If(this=exp.Literal.string(name), true=exp.Literal.string(ours)) for name, ours in _TYPES.items()
            ]
            return exp.Case(this=kind, ifs=ifs, default=kind.copy())
        case exp.TryCast(this=value, to=to) if to.this in exp.DataType.TEMPORAL_TYPES:
            # fakesnow would call a function that fails.
            formats = exp.Array(expressions=[exp.Literal.string(text) for text in _TIMES])
            return exp.Anonymous(this="try_strptime", expressions=[value, formats])
        case exp.ObjectInsert(this=value, args={"key": key, "value": inserted}):
            pair = exp.Anonymous(this="json_object", expressions=[key, inserted])
            return exp.Anonymous(this="json_merge_patch", expressions=[value, pair])
        case exp.Cast(this=value, to=to) if type(node) is exp.Cast and (length := lengths.length_of(to)) is not None:
            # The engine would keep the whole text.
            node.set("this", value.transform(_replaced, copy=False))
            return exp.Left(this=node, expression=exp.Literal.number(length))
        case exp.ArrayContains(this=array, expression=value):
            # fakesnow's arrays are JSON.
            return exp.Anonymous(this="json_contains", expressions=[array, value])
        case _:
            return node
