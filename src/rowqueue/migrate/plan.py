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
    """

    tables: Mapping[str, Mapping[str, str]]
    version: int
    fences: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationPlan:
    """What to do, in this order.

    Attributes:
        came_from: the version that is there; 0 if there is none.
        goes_to: the version afterwards.
        rebuilds: older tables to adopt.
        migrations: to run.
        left_behind: numbers of the migrations that are on record and whose fence still stands.
    """

    came_from: int
    goes_to: int
    rebuilds: tuple[Rebuild, ...]
    migrations: tuple[Migration, ...]
    left_behind: tuple[int, ...]

    @property
    def names(self) -> list[str]:
        """For people and JSON."""
        return [rebuild.name for rebuild in self.rebuilds] + [migration.name for migration in self.migrations]


def plan_of(found: FoundTables, brought: Scripts, *, queue: str) -> MigrationPlan:
    """The plan.

    Raises:
        SchemaError: the tables have a version that the program does not know, or cannot be adopted.
    """
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
                table, tables=found.tables, wanted=scripts.columns(create), is_queue=table == queue.upper()
            )
        )
    ]
    is_early = found.version == 1 and (rebuilds or not set(brought.tables) <= set(found.tables))
    return MigrationPlan(
        came_from=found.version,
        goes_to=brought.newest,
        rebuilds=tuple(rebuilds),
        migrations=brought.migrations[0 if is_early else found.version :],
        left_behind=tuple(n for n in range(1, found.version + 1) if placed_by(n) in found.fences),
    )


def placed_by(number: int) -> str:
    """What ``PROCESSING_HOLDS.created_by`` has for the fence of a migration."""
    return f"migration {number:04}"
