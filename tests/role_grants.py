"""What the programs send, the privileges that they need for it, and what ``snowflake/04_grants.sql`` gives."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

import sqlglot
from sqlglot import exp

from rowqueue import sql
from rowqueue.migrate import scripts

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "rowqueue"
STATEMENTS = {
    name: sqlglot.parse_one(statement.text, read="snowflake")
    for name, statement in sql.statements(queue="PROCESSING_QUEUE").items()
}
CHANGES = {exp.Update: "UPDATE", exp.Insert: "INSERT", exp.Delete: "DELETE", exp.Merge: "MERGE"}
TABLES = {"PROCESSING_QUEUE", "PROCESSING_ATTEMPTS", "PROCESSORS", "PROCESSING_HOLDS", "SCHEMA_VERSION"}


GRANTS = [
    statement.text
    for statement in scripts.script(
        ROOT / "snowflake" / "04_grants.sql", queue="PROCESSING_QUEUE", database="CONTRACT"
    ).statements
    if statement.text.startswith("GRANT")
]


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
    """The privileges of a role on tables."""
    grants = {}
    for statement in GRANTS:
        found = re.fullmatch(r"GRANT (.+) ON TABLE (\w+) TO ROLE IDENTIFIER\(\$(\w+)\)", statement)
        if found and found[3] == role:
            grants[found[2]] = set(found[1].split(", "))
    return grants


def run_script(session, environ, script, wanted=lambda text: True):
    """Run a script with the names of this database, as setup_database.sh does."""
    named = {name: environ[f"SNOWFLAKE_{name.upper()}"] for name in ("warehouse", "database", "schema")}
    for name, value in named.items():
        session.cursor().execute(f"SET queue_{name} = '{value.upper()}'")
    path = ROOT / "snowflake" / script
    for statement in scripts.script(path, queue="PROCESSING_QUEUE", database=named["database"]).statements:
        if wanted(statement.text):
            session.cursor().execute(statement.text)
