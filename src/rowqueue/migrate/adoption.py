"""How the rows of an older table are read: the sketch's, or one of ours from before the first release."""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from rowqueue.errors import SchemaError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_NEEDED = ("ID", "DATA", "STATUS")
_RENAMED = {"DOUBTS": "DOUBT_COUNT"}
"""Columns that had another name before the first release."""
# What a NULL becomes where a NULL is refused. The sketch sent `null` for data that is NULL. A status that is NULL was
# never claimed there; `unknown` keeps it so, and the poller counts such rows.
_IN_PLACE_OF_NULL = {"DATA": "'null'", "STATUS": "'unknown'", "RETRY_COUNT": "0", "CREATED_AT": "SYSDATE()"}
_STATUSES = ("pending", "processing", "completed", "failed", "cancelled")
_LONGEST_STATUS = 20
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
class Requirement:
    """What each row of an older table has to fulfil.

    Attributes:
        column: the column.
        expected: for people.
        broken: the condition that finds rows that do not.
    """

    column: str
    expected: str
    broken: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuild:
    """A table that is copied into a new one, which then takes its name.

    First the old table is renamed to ``kept``, then the new one to ``table``. Snowflake refuses a rename to a name that
    is taken, so of several runs only one does each of the two.

    Attributes:
        table: its name.
        filling: the name of the new table until then. No other run fills a table of this name.
        kept: the name under which the old table stays.
        found: the columns of the old table, with their types.
        columns: the columns of the new table that get a value; the others get their default.
        values: what each of them is read as.
        requirements: what each row has to fulfil.
        left_behind: columns of the old table that the new one does not have.
        is_queue: whether it is the queue, whose rows have an id.
        is_moved: whether an earlier run has renamed the old table already.
    """

    table: str
    filling: str
    kept: str
    found: tuple[tuple[str, str], ...]
    columns: tuple[str, ...]
    values: tuple[str, ...]
    requirements: tuple[Requirement, ...]
    left_behind: tuple[str, ...]
    is_queue: bool
    is_moved: bool

    @property
    def name(self) -> str:
        """For people: what is done."""
        return f"adopt {self.table}"

    @property
    def source(self) -> str:
        """Where the old rows are when the rebuild begins."""
        return self.kept if self.is_moved else self.table


def rebuild_of(
    table: str,
    *,
    tables: Mapping[str, Mapping[str, str]],
    wanted: frozenset[str],
    is_queue: bool,
    defaults: Mapping[str, str] = MappingProxyType({}),
    numbers: frozenset[str] = frozenset(),
) -> Rebuild | None:
    """What to do with a table of version 1; ``None`` if it is missing or has its columns.

    Args:
        table: its name.
        tables: the columns that each table of the schema has, with their types.
        wanted: the columns that it should have.
        is_queue: whether it is the queue.
        defaults: what a NULL becomes in columns that refuse it.
        numbers: the columns that are numbers.

    Raises:
        SchemaError: it is no queue.
    """
    kept = _numbered(f"{table}_BEFORE_1", tables)
    is_moved = table not in tables and bool(kept) and bool(copies_of(table, tables))
    if not is_moved and (table not in tables or wanted <= set(tables[table])):
        return None
    old = tables[kept[-1] if is_moved else table]
    if is_queue:
        _require_a_queue(table, old)
    as_text = frozenset(column for column in numbers if old.get(column) == "TEXT")
    in_place_of_null = {**defaults, **_IN_PLACE_OF_NULL}
    values = {
        column: value
        for column in sorted(wanted)
        if (value := _value(column, old, is_queue=is_queue, in_place_of_null=in_place_of_null, as_text=as_text))
    }
    return Rebuild(
        table=table,
        filling=_free_name(f"{table}_ADOPTING", tables),
        kept=kept[-1] if is_moved else _free_name(f"{table}_BEFORE_1", tables),
        found=tuple(sorted(old.items())),
        columns=tuple(values),
        values=tuple(values.values()),
        requirements=tuple(_requirements(as_text, is_queue=is_queue)),
        left_behind=tuple(sorted(set(old) - wanted - {_RENAMED[new] for new in _RENAMED if new in wanted})),
        is_queue=is_queue,
        is_moved=is_moved,
    )


def copies_of(table: str, tables: Mapping[str, object]) -> list[str]:
    """The tables that adoptions of this one created and did not finish, in the order of their numbers."""
    return _numbered(f"{table}_ADOPTING", tables)


def unknown_statuses(found: Mapping[str | None, int]) -> dict[str, int]:
    """Those that no program knows, as they will be, with the number of their rows.

    Args:
        found: the number of rows by status.
    """
    unknown: dict[str, int] = {}
    for status, rows in found.items():
        if status is None or status.lower() not in _STATUSES:
            unknown[status or "unknown"] = unknown.get(status or "unknown", 0) + rows
    return unknown


def _require_a_queue(table: str, old: Mapping[str, str]) -> None:
    if missing := [column for column in _NEEDED if column not in old]:
        raise SchemaError(f"{table} cannot be adopted: expected the columns {', '.join(_NEEDED)}, {missing} missing")
    if old["ID"] != "NUMBER":
        raise SchemaError(f"{table} cannot be adopted: expected an ID of the type NUMBER, got {old['ID']}")


def _requirements(as_text: frozenset[str], *, is_queue: bool) -> Iterator[Requirement]:
    for column in sorted(as_text):
        broken = f"{column} IS NOT NULL AND TRY_TO_NUMBER({column}) IS NULL"
        yield Requirement(column=column, expected="a number", broken=broken)
    if is_queue:
        yield Requirement(column="ID", expected="an id in each row", broken="ID IS NULL")
        broken = f"LENGTH(STATUS) > {_LONGEST_STATUS}"
        yield Requirement(column="STATUS", expected=f"at most {_LONGEST_STATUS} characters", broken=broken)


def _value(
    column: str,
    old: Mapping[str, str],
    *,
    is_queue: bool,
    in_place_of_null: Mapping[str, str],
    as_text: frozenset[str],
) -> str | None:
    source = column if column in old else _RENAMED.get(column, "")
    if source in old:
        value = _READ_AS.get(old[source], "{}").format(source)
        if column in as_text:
            value = f"TO_NUMBER({value})"
        if is_queue and column == "STATUS":
            known = ", ".join(f"'{status}'" for status in _STATUSES)
            value = f"IFF(LOWER({value}) IN ({known}), LOWER({value}), {value})"
        if column in _SHORTENED:
            value = f"LEFT({value}, {_SHORTENED[column]})"
        return f"COALESCE({value}, {in_place_of_null[column]})" if column in in_place_of_null else value
    if is_queue and column == "AVAILABLE_AT" and "CREATED_AT" in old:  # so that the oldest entries stay the first ones
        return _value("CREATED_AT", old, is_queue=is_queue, in_place_of_null=in_place_of_null, as_text=as_text)
    return None


def _numbered(name: str, tables: Mapping[str, object]) -> list[str]:
    """The names that :func:`_free_name` gave, in their order."""
    found = {
        int(match[1] or 1): table
        for table in tables
        if (match := re.fullmatch(rf"{re.escape(name)}(?:_(\d+))?", table))
    }
    return [found[number] for number in sorted(found)]


def _free_name(name: str, taken: Mapping[str, object]) -> str:
    last = max(
        (int(match[1] or 1) for table in taken if (match := re.fullmatch(rf"{re.escape(name)}(?:_(\d+))?", table))),
        default=0,
    )
    return f"{name}_{last + 1}" if last else name
