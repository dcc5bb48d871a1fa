"""Looks, plans and runs a migration, statement by statement.

Each statement may run again, so a run that was broken off is repeated as a whole: it plans with what is there.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

from rowqueue import sql
from rowqueue.contract import HoldKind
from rowqueue.errors import SchemaError, WarehouseError
from rowqueue.migrate.plan import FoundTables, MigrationPlan, placed_by, plan_of
from rowqueue.settings import STATEMENT_TIMEOUT_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rowqueue.migrate.adoption import Rebuild
    from rowqueue.migrate.scripts import Migration, Scripts

FENCE_S = STATEMENT_TIMEOUT_S + 5.0
"""From the fence to the first statement behind it. No statement of a program runs for longer than its time limit, so
every claim that was begun before the fence has ended."""
_ADDED = re.compile(r"ALTER\s+TABLE\s+(\w+)\s+ADD\s+COLUMN\s+(?!IF\b)(\w+)")
_FENCE = HoldKind.FENCE.value
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
        dry_run: whether nothing was changed.
    """

    came_from: int
    goes_to: int
    applied: list[str]
    pending: list[str]
    dry_run: bool = False

    def in_one_line(self) -> str:
        """For people."""
        if self.pending:
            said = f"the tables have version {self.came_from}; to do: {', '.join(self.pending)}"
        elif self.applied:
            said = f"the tables have version {self.goes_to}; done: {', '.join(self.applied)}"
        else:
            said = f"the tables have version {self.goes_to}: nothing to do"
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
    if dry_run:
        return MigrationReport(
            came_from=plan.came_from, goes_to=plan.goes_to, applied=[], pending=plan.names, dry_run=True
        )
    to_say = [line for rebuild in plan.rebuilds for line in _announced(rebuild)]
    if to_say and not agree(to_say):
        raise SchemaError("nothing was changed")
    runner.run(plan, brought, found)
    return MigrationReport(came_from=plan.came_from, goes_to=plan.goes_to, applied=plan.names, pending=[])


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


def _announced(rebuild: Rebuild) -> list[str]:
    if rebuild.is_swapped:
        return [f"{rebuild.table}: an adoption was broken off; its old rows will be in {rebuild.kept}"]
    lines = [
        f"{rebuild.table} has an older shape: it is built again with its rows; the old one stays as {rebuild.kept}.",
    ]
    if rebuild.left_behind:
        lines.append(f"These columns stay in {rebuild.kept} only: {', '.join(rebuild.left_behind)}.")
    if rebuild.is_queue:
        lines.append(
            "Pause the producers and the programs of the old table first: what they change meanwhile is lost. "
            "Privileges stay with the old table: run snowflake/04_grants.sql after it, as setup_database.sh does, and "
            "grant the producers theirs again."
        )
    return lines


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
        ((version,),) = self._rows("version") if "SCHEMA_VERSION" in tables else ((0,),)
        fences = self._rows("fences", kind=_FENCE) if "KIND" in tables.get("PROCESSING_HOLDS", {}) else []
        return FoundTables(tables=tables, version=int(version), fences={by: float(age_s) for by, age_s in fences})

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

    def _apply(self, migration: Migration, found: FoundTables) -> None:
        if migration.fence is not None:
            by = placed_by(migration.number)
            self._change("place_fence", kind=_FENCE, reason=migration.fence, created_by=by)
            left_s = max(0.0, self._fence_s - found.fences.get(by, 0.0))
            self._tell(f"{migration.name}: nothing is claimed now; the last claims end within {left_s:.0f} s")
            self._sleep(left_s)
        run(self._warehouse, (statement for statement in migration.statements if not _is_done(statement, found)))
        if migration.fence is not None:
            self._lift(migration.number)
        self._tell(migration.name)

    def _lift(self, number: int) -> None:
        self._change("lift_fence", kind=_FENCE, created_by=placed_by(number), version=number)

    def _rebuild(self, rebuild: Rebuild, create: sql.Statement) -> None:
        if not rebuild.is_swapped:
            self._tell(f"{rebuild.name}: create, copy, swap")
            self._warehouse.change(self._created(rebuild, create), {})
            copied = self._change("fill", rebuild)
            self._change("swap", rebuild)
            self._tell(f"{rebuild.name}: {copied} rows")
        if rebuild.is_queue and (late := self._change("fill_late", rebuild)):
            self._tell(f"{rebuild.name}: {late} rows that were inserted meanwhile")
        self._change("keep", rebuild)
        self._tell(f"{rebuild.name}: the old table is {rebuild.kept}")

    def _created(self, rebuild: Rebuild, create: sql.Statement) -> sql.Statement:
        text = create.text.replace("CREATE ", "CREATE OR REPLACE ", 1)
        text = text.replace(f"IF NOT EXISTS {rebuild.table} (", f"{rebuild.filling} (", 1)
        if rebuild.is_queue:
            ((largest,),) = self._rows("largest_id", rebuild)
            text = text.replace("AUTOINCREMENT START 1 ", f"AUTOINCREMENT START {int(largest) + IDS_LEFT_FREE} ")
        return sql.Statement(name=rebuild.name, text=text, parameters=())

    def _rows(self, name: str, rebuild: Rebuild | None = None, **values: object) -> list[tuple[Any, ...]]:
        return self._warehouse.rows(self._statement(name, rebuild), values)

    def _change(self, name: str, rebuild: Rebuild | None = None, **values: object) -> int:
        return self._warehouse.change(self._statement(name, rebuild), values)

    def _statement(self, name: str, rebuild: Rebuild | None) -> sql.Statement:
        text = self._source
        for placeholder in ("table", "filling", "kept", "columns", "values"):
            part = getattr(rebuild, placeholder, "")
            text = text.replace(f"{{{placeholder}}}", part if isinstance(part, str) else ", ".join(part))
        return sql.load(text, queue="")[name]
