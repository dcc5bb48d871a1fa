"""Repairs of faults in fakesnow 0.12.1 that a queue would notice. Each was measured with the real connector."""

from __future__ import annotations

import threading
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import fakesnow.arrow
import fakesnow.copy_into
import fakesnow.cursor
import fakesnow.info_schema
import fakesnow.server
import fakesnow.transforms
import pyarrow as pa
import pyarrow.compute as pc
from fakesnow.converter import from_binding
from sqlglot import exp

from rowqueue_local.snowflake import functions, lengths
from rowqueue_local.snowflake.alterations import renames_of, require_possible
from rowqueue_local.snowflake.ambiguity import AmbiguousUpdate, check_of
from rowqueue_local.snowflake.shown import WITH_FACTS, Creations

if TYPE_CHECKING:
    from collections.abc import Callable

_SHOWS: Final = "rowqueue_shows"
_SIGNED_HEADERS: Final = ("host", "x-goog-if-generation-match", "x-goog-meta-sfc-digest")
"""The headers that a client may send with an upload. The stand-in checks no signature."""


SESSION: Final = "rowqueue_session_"
"""The beginning of the names of the engine's variables that say who uses a session."""

_SESSION_FUNCTIONS: Final[dict[type[exp.Expr], str]] = {
    exp.CurrentAccount: "account",
    exp.CurrentAccountName: "account_name",
    exp.CurrentOrganizationName: "organization_name",
    exp.CurrentRole: "role",
    exp.CurrentSession: "session",
    exp.CurrentTransaction: "transaction",
    exp.CurrentUser: "user",
    exp.CurrentWarehouse: "warehouse",
}


def apply() -> None:
    """Replace functions of fakesnow by ours, once for the process."""
    fakesnow.arrow.timestamp_to_sf_struct = _timestamps
    fakesnow.server.from_binding = _bound_value
    for name in ("insert_table_comment_sql", "insert_text_lengths_sql"):
        setattr(fakesnow.info_schema, name, _but_not_for_merge(getattr(fakesnow.info_schema, name)))
    fakesnow.transforms.current_version = _naming_the_session(fakesnow.transforms.current_version)
    fakesnow.transforms.identifier = _naming_schemas_too(fakesnow.transforms.identifier)
    fakesnow.transforms.extract_text_length = _checking_lengths(fakesnow.transforms.extract_text_length)
    fakesnow.copy_into._from_source = _naming_stages_in_quotes(fakesnow.copy_into._from_source)  # noqa: SLF001
    fakesnow.transforms.show_tables_etc = _marking_shows(fakesnow.transforms.show_tables_etc)
    fakesnow.transforms.put_stage = _heeding_overwrite(fakesnow.transforms.put_stage)
    fakesnow.server.gcs_stage_info = _complete(fakesnow.server.gcs_stage_info)
    cursor = fakesnow.cursor.FakeSnowflakeCursor
    cursor._execute = _altering(_refusing_ambiguity(cursor._execute))  # noqa: SLF001 - there is no other way in
    cursor._execute = _showing_facts(cursor._execute, Creations())  # noqa: SLF001
    cursor._transform = functions.replacing(cursor._transform)  # noqa: SLF001


def refuse_ambiguous_updates(connection: Any) -> None:
    """From now on, treat the statements of a connection as with ERROR_ON_NONDETERMINISTIC_UPDATE = TRUE."""
    connection.refuses_ambiguity = True


def _altering(execute: Callable[..., None]) -> Callable[..., None]:
    """Refuse what Snowflake refuses in ALTER TABLE, and swap two tables in one transaction."""

    def altering(cursor: Any, tree: exp.Expr, parameters: Any = None) -> None:
        require_possible(tree)
        renames = renames_of(tree)
        if not renames:
            execute(cursor, tree, parameters)
            return
        connection = cursor._duck_conn  # noqa: SLF001
        connection.begin()
        try:
            for rename in renames:
                execute(cursor, rename)
            connection.commit()
        except BaseException:
            connection.rollback()
            raise

    return altering


def _refusing_ambiguity(execute: Callable[..., None]) -> Callable[..., None]:
    def refusing(cursor: Any, tree: exp.Expr, parameters: Any = None) -> None:
        strict = getattr(cursor._conn, "refuses_ambiguity", False)  # noqa: SLF001
        check = check_of(tree) if strict else None
        if check is None:
            execute(cursor, tree, parameters)
            return
        values = list(parameters or [])[check.skipped :]
        try:
            ambiguous = cursor._duck_conn.execute(check.text, values).fetchone()  # noqa: SLF001
        except Exception:
            # A table or a column is missing. The statement says so, with Snowflake's number.
            execute(cursor, tree, parameters)
            raise
        if ambiguous:
            raise AmbiguousUpdate("Duplicate row detected during DML action")
        execute(cursor, tree, parameters)

    return refusing


def _timestamps(column: pa.ChunkedArray) -> pa.StructArray:
    """Snowflake's form of a timestamp column. fakesnow's drops the nulls, so that the client reads 1970-01-01."""
    values = column.combine_chunks()
    zone = values.type.tz
    micros = pc.fill_null(values.cast(pa.timestamp("us", zone), safe=False).cast(pa.int64()), 0)
    seconds = pc.floor_temporal(micros.cast(pa.timestamp("us")), unit="second").cast(pa.timestamp("s")).cast(pa.int64())
    fraction = pc.multiply(pc.subtract(micros, pc.multiply(seconds, 1_000_000)), 1_000).cast(pa.int32())
    parts = {"epoch": seconds, "fraction": fraction}
    if zone:
        # Snowflake's encoding: minutes east of UTC plus 1440. The engine's sessions are all in UTC.
        parts["timezone"] = pa.array([1440] * len(values), pa.int32())
    fields = [pa.field(name, part.type, nullable=False) for name, part in parts.items()]
    return pa.StructArray.from_arrays(list(parts.values()), fields=fields, mask=values.is_null())


def _bound_value(binding: dict[str, Any]) -> Any:
    """Read a bound value. fakesnow fails on a Decimal and on a NULL in an array, and turns a float into a string."""
    match binding:
        case {"value": None}:
            return None
        case {"type": "FIXED", "value": value} if not value.lstrip("+-").isdigit():
            return Decimal(value)
        case {"type": "REAL", "value": value}:
            return float(value)
        case _:
            return from_binding(binding)


def _but_not_for_merge(write_about_table: Callable[..., str]) -> Callable[..., str]:
    """Do not record the temporary table of a MERGE.

    fakesnow records it in another database, and a transaction of the engine can write to one database only. So no MERGE
    would work in a transaction.
    """

    def sql(catalog: str, schema: str, table: str, *details: Any) -> str:
        return "SELECT NULL" if table == "MERGE_CANDIDATES" else write_about_table(catalog, schema, table, *details)

    return sql


def _naming_schemas_too(named: Callable[..., exp.Expr]) -> Callable[..., exp.Expr]:
    """Resolve CREATE SCHEMA IDENTIFIER(...), which fakesnow executes but answers with an error."""

    def identifier(expression: exp.Expr, *rest: Any) -> exp.Expr:
        schema = expression.args.get("db") if isinstance(expression, exp.Table) else None
        if isinstance(schema, exp.DynamicIdentifier):
            expression.set("db", exp.to_identifier(schema.this.name.upper()))
        return named(expression, *rest)

    return identifier


def _naming_the_session(rewrite: Callable[..., exp.Expr]) -> Callable[..., exp.Expr]:
    """Answer who uses the session and with which roles. The engine's own user and role are always duckdb."""

    def named(expression: exp.Expr) -> exp.Expr:
        match expression:
            case exp.Anonymous(this=str(name)) if name.upper() == "IS_ROLE_IN_SESSION":
                return exp.func("list_contains", _session_variable("roles"), *expression.expressions)
        known = _SESSION_FUNCTIONS.get(type(expression))
        if known is None:
            return rewrite(expression)
        variable = _session_variable(known)
        if isinstance(expression.parent, exp.Select):  # a column without a name has its text as its name
            return exp.alias_(variable, f"CURRENT_{known.upper()}()", quoted=True)
        return variable

    return named


def _session_variable(name: str) -> exp.Expr:
    """The engine reads it when it plans a statement, so a view answers for the session that reads it."""
    return exp.func("getvariable", exp.Literal.string(f"{SESSION}{name}"))


def _checking_lengths(note_lengths: Callable[[exp.Expr], exp.Expr]) -> Callable[[exp.Expr], exp.Expr]:
    return lambda tree: lengths.checked(note_lengths(tree))


def _marking_shows(replaced: Callable[..., exp.Expr]) -> Callable[..., exp.Expr]:
    def show(expression: exp.Expr, *about: Any) -> exp.Expr:
        query = replaced(expression, *about)
        if isinstance(expression, exp.Show) and expression.name.upper() in WITH_FACTS:
            query.args[_SHOWS] = True
        return query

    return show


def _showing_facts(execute: Callable[..., None], creations: Creations) -> Callable[..., None]:
    def showing(cursor: Any, tree: exp.Expr, parameters: Any = None) -> None:
        if tree.args.get(_SHOWS):
            tree = creations.shown(tree, cursor._duck_conn)  # noqa: SLF001
        execute(cursor, tree, parameters)
        creations.note(tree, cursor._conn.database, cursor._conn.schema)  # noqa: SLF001

    return showing


def _naming_stages_in_quotes(source_of: Callable[[exp.Copy], str]) -> Callable[[exp.Copy], str]:
    """Resolve FROM (SELECT ... FROM '@stage'), which is how the connector's write_pandas names its stage."""

    def source(copy: exp.Copy) -> str:
        query = copy.args["files"][0].this
        table = query.args["from_"].this if isinstance(query, exp.Select) else None
        if isinstance(table, exp.Table) and isinstance(table.this, exp.Literal) and table.this.name.startswith("@"):
            return str(table.this.name)
        return source_of(copy)

    return source


def _heeding_overwrite(located: Callable[..., exp.Expr]) -> Callable[..., exp.Expr]:
    """Pass OVERWRITE of a PUT to the client, which does the upload. fakesnow's answer always says FALSE."""

    def put(expression: exp.Expr, *about: Any) -> exp.Expr:
        found = located(expression, *about)
        if isinstance(expression, exp.Put):
            options = {option.name.upper(): option.args["value"] for option in expression.args["properties"] or []}
            found.args["put_stage_data"]["overwrite"] = options.get("OVERWRITE") == exp.true()
        return found

    return put


def _complete(stage_info: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Where to upload a file, with what the connector from version 5 on asks for."""

    def complete(*about: Any) -> dict[str, Any]:
        info = stage_info(*about)
        url = f"{info['presignedUrl']}?X-Goog-SignedHeaders={quote(';'.join(_SIGNED_HEADERS))}"
        return {**info, "presignedUrl": url, "region": "local", "isClientSideEncrypted": False}

    return complete


class RecentResults(dict[Any, Any]):
    """Keeps only the newest results. fakesnow keeps all, and even the smallest takes 19 KB."""

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._lock = threading.Lock()

    def __setitem__(self, key: Any, value: Any) -> None:
        with self._lock:
            super().__setitem__(key, value)
            while len(self) > self._keep:
                del self[next(iter(self))]
