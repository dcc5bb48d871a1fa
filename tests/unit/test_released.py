"""The statements and the DDL of each release, kept as they were, fit the tables of today."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlglot
from snowflake_rules import findings, split
from sqlglot import exp

import freeze
from rowqueue import __version__, sql
from rowqueue.migrate import scripts

RELEASES = sorted(path.name for path in freeze.RELEASED.iterdir())


def statements_of(release):
    return sql.load((freeze.RELEASED / release / "queries.sql").read_text(encoding="utf-8"), queue="")


def kept(release):
    folder = freeze.RELEASED / release
    return {str(path.relative_to(folder)): path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*.sql"))}


def test_the_release_that_is_being_made_is_kept_as_it_is_now():
    if freeze.is_released(__version__):
        pytest.skip(f"{__version__} is released")
    now = freeze.frozen()
    differing = [name for name in kept(__version__) | now if kept(__version__).get(name) != now.get(name)]
    assert differing == [], f"tests/released/{__version__} is not current; run: make freeze"


def test_what_is_kept_is_what_the_programs_send():
    assert sql.load(freeze.frozen()["queries.sql"], queue="") == sql.statements(queue="PROCESSING_QUEUE")


def columns_today():
    """The columns of each table, after all migrations."""
    tables = {table: set(scripts.columns(create)) for table, create in scripts.read().tables.items()}
    for migration in scripts.read().migrations[1:]:
        for tree in (sqlglot.parse_one(statement.text, read="snowflake") for statement in migration.statements):
            if isinstance(tree, exp.Alter):
                tables[tree.this.name.upper()] |= {
                    action.name.upper() for action in tree.args["actions"] if isinstance(action, exp.ColumnDef)
                }
    return tables


@pytest.mark.parametrize("release", RELEASES)
def test_the_statements_of_a_release_find_their_tables_and_columns_in_those_of_today(release):
    today = columns_today()
    every = {column for columns in today.values() for column in columns}
    for name, statement in statements_of(release).items():
        tree = sqlglot.parse_one(statement.text, read="snowflake")
        assert {table.name.upper() for table in tree.find_all(exp.Table) if table.name} <= set(today), name
        made_here = {alias.alias.upper() for alias in tree.find_all(exp.Alias)}
        used = {column.name.upper() for column in tree.find_all(exp.Column)}
        assert used - every - made_here <= {"VALUE"}, name  # FLATTEN's


def test_snowflake_accepts_each_migration_and_each_records_its_version_last():
    for migration in scripts.read().migrations:
        for statement in migration.statements:
            assert findings(statement.text) == [], statement.name
        last = migration.statements[-1].text
        assert last.startswith("INSERT INTO SCHEMA_VERSION"), migration.name
        assert f"SELECT {migration.number}, " in last, migration.name


def test_a_script_is_cut_into_the_same_statements_by_the_program_and_by_a_parser():
    for path in sorted(Path(scripts.folder()).rglob("0*.sql")):
        text = path.read_text(encoding="utf-8")
        assert list(scripts.split(text)) == [statement.rstrip() for statement in split(text)], path.name
