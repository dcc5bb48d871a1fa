"""Looks, plans and runs a migration, statement by statement.

Each statement may run again, so a run that was broken off is repeated as a whole: it plans with what is there.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from importlib import resources
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from rowqueue import sql
from rowqueue.contract import HoldKind
from rowqueue.errors import SchemaError, StatementRefused, ValueRefused, WarehouseError
from rowqueue.migrate import adoption
from rowqueue.migrate.plan import FoundTables, MigrationPlan, placed_by, plan_of
from rowqueue.settings import STATEMENT_TIMEOUT_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from rowqueue.migrate.adoption import Rebuild
    from rowqueue.migrate.scripts import Migration, Scripts

FENCE_S = STATEMENT_TIMEOUT_S + 5.0
"""From the fence to the first statement behind it. No statement of a program runs for longer than its time limit, so
every claim that was begun before the fence has ended."""
_ADDED = re.compile(r"ALTER\s+TABLE\s+(\w+)\s+ADD\s+COLUMN\s+(?!IF\b)(\w+)")
_FENCE = HoldKind.FENCE.value
_PAUSE = (
    "Pause the producers and the programs of the old table first: what they change meanwhile is lost. "
    "The copy is one statement: the warehouse must permit it long enough (docs/upgrade.md). "
    "Privileges and streams stay with the old table: run snowflake/04_grants.sql after it, as setup_database.sh does, "
    "and grant the producers theirs again."
)
_NO_PARTS: Mapping[str, str] = MappingProxyType({})
IDS_LEFT_FREE = 1_000_000
"""Between the largest id of an adopted table and the first new one: the old sequence may have given out some more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationReport:
    """What a migration did, or would do.

    Attributes:
        came_from: the version before; 0 if there was none.
        goes_to: the version that the program knows.
        applied: what was done.
        pending: what was not.
        warnings: what this program cannot mend.
        dry_run: whether nothing was changed.
    """

    came_from: int
    goes_to: int
    applied: list[str]
    pending: list[str]
    warnings: list[str]
    dry_run: bool = False

    def in_one_line(self) -> str:
        """For people."""
        if self.pending:
            said = f"the tables have version {self.came_from}; to do: {', '.join(self.pending)}"
        elif self.applied:
            said = f"the tables have version {self.goes_to}; done: {', '.join(self.applied)}"
        else:
            said = f"the tables have version {self.goes_to}" + ("" if self.warnings else ": nothing to do")
        return f"{said}; views and procedures would be replaced" if self.dry_run else said

    def as_json(self) -> dict[str, object]:
        """For ``--json``."""
        return {"from": self.came_from, "to": self.goes_to, "applied": self.applied, "pending": self.pending}


def migrate(
    warehouse: sql.Warehouse,
    brought: Scripts,
    *,
    queue: str,
    tell: Callable[[str], None],
    sleep: Callable[[float], None],
    agree: Callable[[list[str]], bool] = lambda _: True,
    fence_s: float = FENCE_S,
    dry_run: bool = False,
) -> MigrationReport:
    """Bring the tables to the version that the program knows, and replace views and procedures.

    Args:
        warehouse: a session of the tables' owner, with the database and the schema in use.
        brought: the scripts.
        queue: the name of the queue table, validated.
        tell: receives one line for each thing that is done.
        sleep: waits for the given seconds.
        agree: is asked before a table is rebuilt, with lines that say what that means.
        fence_s: seconds from the fence to the first statement behind it.
        dry_run: only look and plan.

    Raises:
        SchemaError: the tables have a version or a shape that the program does not know, or nobody agreed.
        WarehouseError: Snowflake refused a statement or failed. What was done stays; run it again.
    """
    runner = _Runner(warehouse, tell=tell, sleep=sleep, fence_s=fence_s)
    found = runner.look()
    plan = plan_of(found, brought, queue=queue)
    to_say = [line for rebuild in plan.rebuilds for line in runner.announced(rebuild)]

    def report(*, applied: list[str], pending: list[str]) -> MigrationReport:
        return MigrationReport(
            came_from=plan.came_from,
            goes_to=plan.goes_to,
            applied=applied,
            pending=pending,
            warnings=plan.warnings,
            dry_run=dry_run,
        )

    if dry_run:
        return report(applied=[], pending=plan.names)
    if to_say:
        if not agree(to_say):
            raise SchemaError("nothing was changed")
        # The answer may have taken long, and another run may have migrated meanwhile.
        found = runner.look()
        if plan_of(found, brought, queue=queue) != plan:
            raise SchemaError("the tables have changed since they were looked at, and nothing was done: run it again")
    runner.run(plan, brought, found)
    return report(applied=plan.names, pending=[])


def run(warehouse: sql.Warehouse, statements: Iterable[sql.Statement]) -> None:
    """Run the statements of a script.

    Raises:
        WarehouseError: with the name of the script and the number of the statement; the statements before it have run.
    """
    for statement in statements:
        try:
            warehouse.change(statement, {})
        except WarehouseError as error:
            raise type(error)(f"{statement.name}: {error}", errno=error.errno) from error


def _is_done(statement: sql.Statement, found: FoundTables) -> bool:
    """Whether the column that a statement adds is there: Snowflake has no ADD COLUMN IF NOT EXISTS with a default."""
    added = _ADDED.match(statement.text)
    return added is not None and added[2].upper() in found.tables.get(added[1].upper(), {})


class _Runner:
    """Runs statements in one session."""

    def __init__(
        self, warehouse: sql.Warehouse, *, tell: Callable[[str], None], sleep: Callable[[float], None], fence_s: float
    ) -> None:
        self._warehouse = warehouse
        self._tell = tell
        self._sleep = sleep
        self._fence_s = fence_s
        self._source = resources.files(sql).joinpath("migrate.sql").read_text(encoding="utf-8")

    def look(self) -> FoundTables:
        """What is there."""
        ((database, schema),) = self._rows("place")
        if database is None or schema is None:
            raise SchemaError(
                "the database or the schema does not exist, or this role may not use it: run scripts/setup_database.sh"
            )
        tables: defaultdict[str, dict[str, str]] = defaultdict(dict)
        for table, column, kind in self._rows("columns"):
            tables[table][column] = kind
        versions = tables.get("SCHEMA_VERSION", {})
        version, oldest_program = self._rows("version")[0] if versions else (0, 0)
        queue = self._rows("queue_on_record")[0][0] if "QUEUE_TABLE" in versions else None
        fences = self._rows("fences", kind=_FENCE) if "KIND" in tables.get("PROCESSING_HOLDS", {}) else []
        return FoundTables(
            tables=dict(tables),
            version=int(version),
            fences={by: float(age_s) for by, age_s in fences},
            oldest_program=int(oldest_program),
            queue=queue,
        )

    def announced(self, rebuild: Rebuild) -> list[str]:
        """What a person has to know before a table is rebuilt.

        Raises:
            SchemaError: it has rows that cannot be copied.
        """
        for requirement in rebuild.requirements:
            parts = {"column": requirement.column, "broken": requirement.broken}
            ((rows, example),) = self._rows("broken_rows", rebuild, parts)
            if rows:
                got = "NULL" if example is None else repr(example)
                raise SchemaError(
                    f"{rebuild.source} cannot be adopted: {requirement.column}: expected {requirement.expected}, got "
                    f"{got} ({rows} rows); correct them and run it again"
                )
        if rebuild.is_moved:
            return [f"{rebuild.table}: an adoption was broken off; its rows are copied again from {rebuild.kept}."]
        lines = [
            f"{rebuild.table} has an older shape: it is built again with its rows; the old one stays as {rebuild.kept}."
        ]
        if rebuild.left_behind:
            lines.append(f"These columns stay in {rebuild.kept} only: {', '.join(rebuild.left_behind)}.")
        if rebuild.is_queue:
            if unknown := adoption.unknown_statuses(dict(self._rows("statuses", rebuild))):
                named = ", ".join(f"{status} ({rows} rows)" for status, rows in unknown.items())
                lines.append(f"These statuses are kept, and no program touches such rows: {named}.")
            lines.append(_PAUSE)
        return lines

    def run(self, plan: MigrationPlan, brought: Scripts, found: FoundTables) -> None:
        """Do what is planned."""
        for number in plan.left_behind:
            self._lift(number)
        for rebuild in plan.rebuilds:
            self._rebuild(rebuild, brought.tables[rebuild.table])
        for migration in plan.migrations:
            self._apply(migration, found)
        for script in brought.repeated:
            run(self._warehouse, script.statements)
            self._tell(script.name)
        for copy in plan.copies:
            self._change("drop", parts={"filling": copy})
            self._tell(f"drop {copy}: an adoption that was broken off had left it")

    def _apply(self, migration: Migration, found: FoundTables) -> None:
        if migration.fence is not None:
            by = placed_by(migration.number)
            self._change("place_fence", kind=_FENCE, reason=migration.fence, created_by=by)
            left_s = max(0.0, self._fence_s - found.fences.get(by, 0.0))
            self._tell(f"{migration.name}: nothing is claimed now; the last claims end within {left_s:.0f} s")
            self._sleep(left_s)
        found = self.look()  # another run may have applied it meanwhile
        if found.version < migration.number or migration.number == 1:
            self._run(migration, found)
        if migration.fence is not None:
            self._lift(migration.number)
        self._tell(migration.name)

    def _run(self, migration: Migration, found: FoundTables) -> None:
        run(self._warehouse, (statement for statement in migration.statements if not _is_done(statement, found)))

    def _lift(self, number: int) -> None:
        self._change("lift_fence", kind=_FENCE, created_by=placed_by(number), version=number)

    def _rebuild(self, rebuild: Rebuild, create: sql.Statement) -> None:
        """Copy and rename. What this run does to a table that has rows is refused if another run did it first."""
        self._tell(f"{rebuild.name}: create, copy, rename")
        before = None if rebuild.is_moved else dict(rebuild.found)
        self._require(rebuild, before, created=False)
        created = False
        try:
            self._warehouse.change(self._created(rebuild, create), {})
            created = True
            self._tell(f"{rebuild.name}: {self._change('fill', rebuild)} rows")
            if not rebuild.is_moved:
                self._require(rebuild, before, created=True)
                self._change("keep", rebuild)
                before = None
                if rebuild.is_queue and (late := self._change("fill_late", rebuild)):
                    self._tell(f"{rebuild.name}: {late} rows that were inserted meanwhile")
            self._change("take_place", rebuild)
        except (StatementRefused, ValueRefused):
            self._require(rebuild, before, created=created)
            raise
        self._tell(f"{rebuild.name}: the old table is {rebuild.kept}")

    def _require(self, rebuild: Rebuild, before: dict[str, str] | None, *, created: bool) -> None:
        """Require that no other run has changed the table or has taken the name of the new one.

        Args:
            rebuild: what is done.
            before: the columns that the table has; ``None`` if it is missing.
            created: whether this run has created the new one.
        """
        tables = self.look().tables
        if tables.get(rebuild.table) != before or (not created and rebuild.filling in tables):
            raise SchemaError(
                f"{rebuild.name}: another run works on it, and this one stops; when that has ended, run it again"
            )

    def _created(self, rebuild: Rebuild, create: sql.Statement) -> sql.Statement:
        # Without OR REPLACE: the table of another run is never replaced.
        text = create.text.replace(f"IF NOT EXISTS {rebuild.table} (", f"{rebuild.filling} (", 1)
        if rebuild.is_queue:
            ((largest,),) = self._rows("largest_id", rebuild)
            text = text.replace("AUTOINCREMENT START 1 ", f"AUTOINCREMENT START {int(largest) + IDS_LEFT_FREE} ")
        return sql.Statement(name=rebuild.name, text=text, parameters=())

    def _rows(
        self, name: str, rebuild: Rebuild | None = None, parts: Mapping[str, str] = _NO_PARTS, **values: object
    ) -> list[tuple[Any, ...]]:
        return self._warehouse.rows(self._statement(name, rebuild, parts), values)

    def _change(
        self, name: str, rebuild: Rebuild | None = None, parts: Mapping[str, str] = _NO_PARTS, **values: object
    ) -> int:
        return self._warehouse.change(self._statement(name, rebuild, parts), values)

    def _statement(self, name: str, rebuild: Rebuild | None, parts: Mapping[str, str]) -> sql.Statement:
        text = self._source
        for placeholder in ("table", "source", "filling", "kept", "columns", "values", "column", "broken"):
            part = parts.get(placeholder, getattr(rebuild, placeholder, ""))
            text = text.replace(f"{{{placeholder}}}", part if isinstance(part, str) else ", ".join(part))
        return sql.load(text, queue="")[name]
