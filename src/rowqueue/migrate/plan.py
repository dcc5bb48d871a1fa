"""Decides what a migration does, from what is there and what the program brings along."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rowqueue.errors import SchemaError
from rowqueue.migrate import adoption, scripts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rowqueue.migrate.adoption import Rebuild
    from rowqueue.migrate.scripts import Migration, Scripts


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundTables:
    """What is there.

    Attributes:
        tables: the columns of each table, with their types.
        version: the largest one of SCHEMA_VERSION; 0 if there is none.
        fences: who placed each fence that stands, and how old it is, seconds.
        oldest_program: the largest one of SCHEMA_VERSION; 0 if there is none.
        queue: the name of the queue on record; ``None`` if there is none.
    """

    tables: Mapping[str, Mapping[str, str]]
    version: int
    fences: Mapping[str, float]
    oldest_program: int = 0
    queue: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationPlan:
    """What to do, in this order.

    Attributes:
        came_from: the version that is there; 0 if there is none.
        goes_to: the version afterwards.
        rebuilds: older tables to adopt.
        migrations: to run.
        left_behind: numbers of the migrations that are on record and whose fence still stands.
        copies: unfinished copies of tables, left behind by adoptions that were broken off.
        foreign_fences: who placed the fences that this program cannot lift.
    """

    came_from: int
    goes_to: int
    rebuilds: tuple[Rebuild, ...]
    migrations: tuple[Migration, ...]
    left_behind: tuple[int, ...]
    copies: tuple[str, ...]
    foreign_fences: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """For people and JSON."""
        return [
            *(f"lift the fence of {placed_by(number)}" for number in self.left_behind),
            *(rebuild.name for rebuild in self.rebuilds),
            *(migration.name for migration in self.migrations),
            *(f"drop {copy}" for copy in self.copies),
        ]

    @property
    def warnings(self) -> list[str]:
        """What this program cannot mend."""
        return [
            f"the fence of {by} stands, and nothing is claimed; this program cannot lift it: "
            "run rowqueue migrate of the release that placed it"
            for by in self.foreign_fences
        ]


def plan_of(found: FoundTables, brought: Scripts, *, queue: str) -> MigrationPlan:
    """The plan.

    Raises:
        SchemaError: the tables have a version that the program does not know, belong to a queue of another name, or
            cannot be adopted.
    """
    if found.queue not in {None, queue.upper()}:
        raise SchemaError(
            f"the queue of this schema is {found.queue}, and SNOWFLAKE_TABLE is {queue.upper()}: "
            "expected the same, because a schema contains one queue"
        )
    if found.version > brought.newest:
        raise SchemaError(
            f"the tables have version {found.version}, and this program knows {brought.newest}: use a newer release"
        )
    # Tables of version 1 too: before the first release was finished, they had fewer columns.
    rebuilds = [
        rebuild
        for table, create in brought.tables.items()
        if found.version <= 1
        and (
            rebuild := adoption.rebuild_of(
                table,
                tables=found.tables,
                wanted=scripts.columns(create),
                is_queue=table == queue.upper(),
                defaults=scripts.defaults(create),
                numbers=scripts.numbers(create),
            )
        )
    ]
    is_early = found.version == 1 and (rebuilds or not set(brought.tables) <= set(found.tables))
    liftable = [n for n in range(1, found.version + 1) if n <= found.oldest_program]
    ours = {placed_by(n) for n in (*liftable, *range(found.version + 1, brought.newest + 1))}
    return MigrationPlan(
        came_from=found.version,
        goes_to=brought.newest,
        rebuilds=tuple(rebuilds),
        migrations=brought.migrations[0 if is_early else found.version :],
        left_behind=tuple(n for n in liftable if placed_by(n) in found.fences),
        copies=tuple(
            copy
            for table, create in brought.tables.items()
            for copy in adoption.copies_of(table, found.tables)
            if scripts.columns(create) <= set(found.tables[copy])
        ),
        foreign_fences=tuple(sorted(set(found.fences) - ours)),
    )


def placed_by(number: int) -> str:
    """What ``PROCESSING_HOLDS.created_by`` has for the fence of a migration."""
    return f"migration {number:04}"
