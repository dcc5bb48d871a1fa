"""Statements translated once. Fakesnow parses and rewrites a text anew each time, in 20 to 40 ms for those of a queue.

A queue sends the same few texts with other values, and its processors share the stand-in's machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import fakesnow.cursor
from sqlglot import exp

from rowqueue.local.snowflake.repairs import RecentResults

if TYPE_CHECKING:
    from collections.abc import Callable

_KEPT: Final = 300
_SENT_AS: Final = "sent_as"


def remember() -> None:
    """Put our functions before fakesnow's, once for the process."""
    fakesnow.cursor.parse_one = _parsing_once(fakesnow.cursor.parse_one)
    cursor = fakesnow.cursor.FakeSnowflakeCursor
    cursor._transform = _rewriting_once(cursor._transform)  # noqa: SLF001 - there is no other way in


def _parsing_once(parse: Callable[[str], exp.Expr]) -> Callable[[str], exp.Expr]:
    trees = RecentResults(_KEPT)

    def parse_one(text: str) -> exp.Expr:
        tree: exp.Expr | None = trees.get(text)
        if tree is not None:
            return tree
        tree = parse(text)
        if _depends_on_its_text_only(tree):
            tree.meta[_SENT_AS] = text
            trees[text] = tree
        return tree

    return parse_one


def _rewriting_once(rewrite: Callable[..., exp.Expr]) -> Callable[..., exp.Expr]:
    """What is kept is never handed out itself: fakesnow rewrites trees in place."""
    rewritten = RecentResults(_KEPT)

    def transform(cursor: Any, tree: exp.Expr, parameters: Any) -> exp.Expr:
        text = tree.meta.get(_SENT_AS)
        if text is None:
            return rewrite(cursor, tree, parameters)
        key = (text, cursor._conn.database, cursor._conn.schema)  # noqa: SLF001 - unqualified names mean these
        kept: exp.Expr | None = rewritten.get(key)
        if kept is None:
            rewritten[key] = kept = rewrite(cursor, tree.copy(), parameters)
        return kept.copy()

    return transform


def _depends_on_its_text_only(tree: exp.Expr) -> bool:
    """Not on a bound name, nor on a random seed; and it is not cut into several statements."""
    if not isinstance(tree, exp.Select | exp.Insert | exp.Update | exp.Delete) or tree.args.get("overwrite"):
        return False
    return tree.find(exp.DynamicIdentifier, exp.Rand) is None
