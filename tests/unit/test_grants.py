"""``snowflake/04_grants.sql`` gives each role what the statements of its program need, and nothing more."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest
import sqlglot
from snowflake_rules import split
from sqlglot import exp

from rowqueue import sql

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "rowqueue"
STATEMENTS = {
    name: sqlglot.parse_one(statement.text, read="snowflake")
    for name, statement in sql.statements(queue="PROCESSING_QUEUE").items()
}
CHANGES = {exp.Update: "UPDATE", exp.Insert: "INSERT", exp.Delete: "DELETE", exp.Merge: "MERGE"}
TABLES = {"PROCESSING_QUEUE", "PROCESSING_ATTEMPTS", "PROCESSORS", "PROCESSING_HOLDS", "SCHEMA_VERSION"}


def constants(tree):
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def sent_by(module):
    """The statements that a program sends: those that its queue names."""
    return constants(ast.parse(module.read_text(encoding="utf-8"))) & STATEMENTS.keys()


OF_BOTH = sent_by(PACKAGE / "sql" / "__init__.py")
SENT = {
    "poller": sent_by(PACKAGE / "poller" / "queue.py") | OF_BOTH,
    "processor": sent_by(PACKAGE / "processor" / "store.py") | OF_BOTH,
}


def needed(names):
    needs = defaultdict(set)
    for tree in (STATEMENTS[name] for name in names):
        target = tree.find(exp.Table) if type(tree) in CHANGES else None
        if target is not None:
            # Any condition and any right-hand side reads the table that is changed, too.
            needs[target.name.upper()] |= {CHANGES[type(tree)]} | (
                {"SELECT"} if not isinstance(tree, exp.Insert) else set()
            )
        for table in tree.find_all(exp.Table):
            if table is not target and table.name.upper() in TABLES:
                needs[table.name.upper()].add("SELECT")
    return dict(needs)


def granted(role):
    grants = {}
    for statement in split((ROOT / "snowflake" / "04_grants.sql").read_text(encoding="utf-8")):
        found = re.fullmatch(r"GRANT (.+) ON TABLE (\w+) TO ROLE IDENTIFIER\(\$(\w+)\)", statement.strip())
        if found and found[3] == role:
            grants[found[2]] = set(found[1].split(", "))
    return grants


def test_every_statement_is_sent_by_one_of_the_two():
    assert set().union(*SENT.values()) == set(STATEMENTS)


@pytest.mark.parametrize("program", SENT)
def test_a_role_has_what_its_program_needs_and_no_more(program):
    assert granted(program) == needed(SENT[program])


@pytest.mark.parametrize("program", SENT)
def test_no_program_may_make_or_delete_an_entry(program):
    assert not granted(program)["PROCESSING_QUEUE"] & {"INSERT", "DELETE", "TRUNCATE"}


def test_what_is_used_of_warehouse_database_and_schema_is_granted_to_both():
    text = (ROOT / "snowflake" / "04_grants.sql").read_text(encoding="utf-8")
    for kind in ("warehouse", "database", "schema"):
        for program in SENT:
            assert f"GRANT USAGE ON {kind.upper()} IDENTIFIER($queue_{kind}) TO ROLE IDENTIFIER(${program});" in text
