"""What SHOW TABLES, SHOW VIEWS and SHOW OBJECTS say of a table: how many rows it has, and since when it exists."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import sqlglot
from sqlglot import exp

if TYPE_CHECKING:
    from collections.abc import Callable

WITH_FACTS: Final = frozenset({"OBJECTS", "TABLES", "VIEWS"})
_TABLES: Final = """
SELECT database_name, schema_name, table_name FROM duckdb_tables()
 WHERE NOT internal AND NOT temporary AND schema_name <> '_fs_information_schema'
"""

Relation = tuple[str, str, str]
"""A table or a view by its full name: database, schema, name."""


class Creations:
    """When tables and views were created. The engine does not know it.

    What was there before the process began counts as created at its begin.
    """

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now
        self._began = now()
        self._times: dict[Relation, datetime] = {}

    def note(self, tree: exp.Expr, database: str, schema: str) -> None:
        """Note the time of a statement that created a table or a view."""
        if not isinstance(tree, exp.Create) or tree.args.get("kind") not in {"TABLE", "VIEW"}:
            return
        table = tree.find(exp.Table)
        if table is None:
            return
        relation = (table.catalog or database, table.db or schema, table.name)
        if not tree.args.get("exists") or relation not in self._times:
            self._times[relation] = self._now()

    def query(self, connection: Any, *, counts_rows: bool) -> str:
        """A query with the facts: database_name, schema_name, name, created_on, rows."""
        facts: dict[Relation, tuple[datetime, int]] = {relation: (time, 0) for relation, time in self._times.items()}
        if counts_rows:
            for relation in connection.execute(_TABLES).fetchall():
                (rows,) = connection.execute(f"SELECT COUNT(*) FROM {_quoted(relation)}").fetchone()  # noqa: S608
                facts[relation] = (self._times.get(relation, self._began), rows)
        facts[("", "", "")] = (self._began, 0)  # so that there is a row
        rows_of = [(*relation, time.isoformat(), rows) for relation, (time, rows) in facts.items()]
        columns = ["database_name", "schema_name", "name", "created_on", "rows"]
        return exp.select("*").from_(exp.values(rows_of, alias="facts", columns=columns)).sql(dialect="duckdb")

    def shown(self, tree: exp.Expr, connection: Any) -> exp.Expr:
        """The query of a SHOW, with true values where the engine's view has constants."""
        view = tree.args["from_"].this
        counts_rows = not view.name.endswith("_views")
        rows = ", COALESCE(facts.rows, shown.rows) AS rows" if counts_rows else ""
        true = sqlglot.parse_one(
            f"""
            SELECT shown.* REPLACE (COALESCE(facts.created_on, '{self._began}')::TIMESTAMPTZ AS created_on{rows})
              FROM {view.sql(dialect="duckdb")} AS shown
              LEFT JOIN ({self.query(connection, counts_rows=counts_rows)}) AS facts
                USING (database_name, schema_name, name)
            """,  # noqa: S608 - the names are the engine's own
            read="duckdb",
        )
        tree.args["from_"].set("this", exp.Subquery(this=true))
        return tree


def _quoted(relation: Relation) -> str:
    return ".".join(exp.to_identifier(part, quoted=True).sql(dialect="duckdb") for part in relation)
