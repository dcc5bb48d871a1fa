"""How the rows of an older table are read: the sketch's, or one of ours from before the first release."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rowqueue.errors import SchemaError

if TYPE_CHECKING:
    from collections.abc import Mapping

_NEEDED = ("ID", "DATA", "STATUS")
_RENAMED = {"DOUBTS": "DOUBT_COUNT"}
"""Columns that had another name before the first release."""
# What a NULL becomes where a NULL is refused. The sketch sent `null` for data that is NULL. A status that is NULL was
# never claimed there; `unknown` keeps it so, and the poller counts such rows.
_IN_PLACE_OF_NULL = {"DATA": "'null'", "STATUS": "'unknown'", "RETRY_COUNT": "0", "CREATED_AT": "SYSDATE()"}
_SHORTENED = {"ERROR_MESSAGE": 1000}
_READ_AS = {
    "VARIANT": "TO_JSON({})",
    "OBJECT": "TO_JSON({})",
    "ARRAY": "TO_JSON({})",
    # CONVERT_TIMEZONE, because a plain cast would keep the local time and drop the offset.
    "TIMESTAMP_TZ": "CONVERT_TIMEZONE('UTC', {})::TIMESTAMP_NTZ",
    "TIMESTAMP_LTZ": "CONVERT_TIMEZONE('UTC', {})::TIMESTAMP_NTZ",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuild:
    """A table that is created, filled from an older one, and swapped with it.

    Attributes:
        table: its name.
        filling: the name of the new table until the swap, and of the old one after it.
        kept: the name under which the old table stays.
        columns: the columns of the new table that get a value; the others get their default.
        values: what each of them is read as.
        left_behind: columns of the old table that the new one does not have.
        is_queue: whether it is the queue, whose rows have an id.
        is_swapped: whether an earlier run has swapped the tables already.
    """

    table: str
    filling: str
    kept: str
    columns: tuple[str, ...]
    values: tuple[str, ...]
    left_behind: tuple[str, ...]
    is_queue: bool
    is_swapped: bool

    @property
    def name(self) -> str:
        """For people: what is done."""
        return f"adopt {self.table}"


def rebuild_of(
    table: str, *, tables: Mapping[str, Mapping[str, str]], wanted: frozenset[str], is_queue: bool
) -> Rebuild | None:
    """What to do with a table of version 1; ``None`` if it is missing or has its columns.

    Args:
        table: its name.
        tables: the columns that each table of the schema has, with their types.
        wanted: the columns that it should have.
        is_queue: whether it is the queue.

    Raises:
        SchemaError: it is no queue.
    """
    if table not in tables:
        return None
    filling = f"{table}_ADOPTING"
    is_swapped = wanted <= set(tables[table])
    if is_swapped and filling not in tables:
        return None
    old = tables[filling if is_swapped else table]
    if is_queue:
        _require_a_queue(table, old)
    values = {column: value for column in sorted(wanted) if (value := _value(column, old, is_queue=is_queue))}
    return Rebuild(
        table=table,
        filling=filling,
        kept=_free_name(f"{table}_BEFORE_1", tables),
        columns=tuple(values),
        values=tuple(values.values()),
        left_behind=tuple(sorted(set(old) - wanted - {_RENAMED[new] for new in _RENAMED if new in wanted})),
        is_queue=is_queue,
        is_swapped=is_swapped,
    )


def _require_a_queue(table: str, old: Mapping[str, str]) -> None:
    if missing := [column for column in _NEEDED if column not in old]:
        raise SchemaError(f"{table} cannot be adopted: expected the columns {', '.join(_NEEDED)}, {missing} missing")
    if old["ID"] != "NUMBER":
        raise SchemaError(f"{table} cannot be adopted: expected an ID of the type NUMBER, got {old['ID']}")


def _value(column: str, old: Mapping[str, str], *, is_queue: bool) -> str | None:
    source = column if column in old else _RENAMED.get(column, "")
    if source in old:
        value = _READ_AS.get(old[source], "{}").format(source)
        if column in _SHORTENED:
            value = f"LEFT({value}, {_SHORTENED[column]})"
        return f"COALESCE({value}, {_IN_PLACE_OF_NULL[column]})" if column in _IN_PLACE_OF_NULL else value
    if is_queue and column == "AVAILABLE_AT" and "CREATED_AT" in old:
        return _value("CREATED_AT", old, is_queue=is_queue)  # so that the oldest entries stay the first ones
    return None


def _free_name(name: str, taken: Mapping[str, object]) -> str:
    number = 1
    while (found := name if number == 1 else f"{name}_{number}") in taken:
        number += 1
    return found
