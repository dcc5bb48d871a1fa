"""What real Snowflake refuses and the stand-in accepts: each rule catches its fault, and our SQL has none of them.

Beside it, what the statements promise to the tables and to the store.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlglot
from snowflake_rules import FUNCTIONS, MOST_ROWS_IN_VALUES, RULES, SESSION_CLOCKS, body_of, findings, split
from sqlglot import exp
from sqlglot.optimizer.qualify import qualify

from rowqueue import sql
from rowqueue.lifecycle import MAX_ERROR_MESSAGE_CHARACTERS, Status
from rowqueue.poller import queue as poller_queue
from rowqueue.processor import store as processor_store

ROOT = Path(__file__).parents[2]
STATEMENTS = sql.statements(queue="PROCESSING_QUEUE")
SCRIPTS = {
    f"{path.name}:{number}": text
    for path in sorted((ROOT / "snowflake").glob("*.sql"))
    for number, text in enumerate(split(path.read_text()), 1)
}
IN_PROCEDURES = {
    f"{name}/{number}": statement
    for name, text in SCRIPTS.items()
    if "PROCEDURE" in text.split("(", 1)[0]
    for number, statement in enumerate(body_of(text), 1)
}
HEAD = "CREATE OR REPLACE PROCEDURE p(a VARCHAR) RETURNS NUMBER(38, 0) LANGUAGE SQL EXECUTE AS OWNER AS"

FAULTS = [
    ("unknown_to_the_parser", "CREATE TABLE t (a NUMBER) WITH SOMETHING ELSE"),
    ("returning", "UPDATE q SET status = 'x' RETURNING id"),
    ("returning", "INSERT INTO q (a) SELECT 1 RETURNING a"),
    ("returning", "DELETE FROM q WHERE a = 1 RETURNING a"),
    ("row_lock", "SELECT id FROM q FOR UPDATE"),
    ("row_lock", "SELECT id FROM q FOR UPDATE SKIP LOCKED"),
    ("row_lock", "UPDATE q SET a = 1 WHERE id IN (SELECT id FROM q FOR UPDATE)"),
    ("with_before_a_change", "WITH r AS (SELECT id FROM q) UPDATE q SET a = 1 FROM r WHERE q.id = r.id"),
    ("with_before_a_change", "WITH r AS (SELECT id FROM q) DELETE FROM q USING r WHERE q.id = r.id"),
    ("order_or_limit_of_a_change", "UPDATE q SET a = 1 LIMIT 8"),
    ("order_or_limit_of_a_change", "DELETE FROM q ORDER BY id LIMIT 8"),
    ("default_that_is_no_constant", "ALTER TABLE q ADD COLUMN a TIMESTAMP_NTZ NOT NULL DEFAULT SYSDATE()"),
    ("default_that_is_no_constant", "ALTER TABLE q ADD COLUMN a VARCHAR DEFAULT 'x', b VARCHAR DEFAULT UUID_STRING()"),
    ("default_with_if_not_exists", "ALTER TABLE q ADD COLUMN IF NOT EXISTS a VARCHAR NOT NULL DEFAULT 'x'"),
    ("default_set_later", "ALTER TABLE q ALTER COLUMN a SET DEFAULT 'x'"),
    ("default_set_later", "ALTER TABLE q MODIFY a SET DEFAULT 0"),
    ("upsert", "INSERT INTO q (a) VALUES (1) ON CONFLICT DO NOTHING"),
    ("upsert", "INSERT OR REPLACE INTO q (a) VALUES (1)"),
    ("qualified_target", "UPDATE q SET q.a = 1"),
    ("distinct_on", "SELECT DISTINCT ON (a) a, b FROM q"),
    ("set_operation_with_all", "SELECT a FROM q EXCEPT ALL SELECT a FROM r"),
    ("from_first", "FROM q"),
    ("foreign_operator", "SELECT data->>'$.x' FROM q"),
    ("foreign_operator", "SELECT data->'$.x' FROM q"),
    ("expression_in_values", """INSERT INTO q (a) VALUES (PARSE_JSON('{"a": 1}'))"""),
    ("expression_in_values", "INSERT INTO q (a) VALUES (OBJECT_CONSTRUCT('a', 1))"),
    ("expression_in_values", "INSERT INTO q (a) VALUES (UUID_STRING())"),
    ("expression_in_values", "INSERT INTO q (a) VALUES ((SELECT 1))"),
    ("too_many_rows_in_values", f"INSERT INTO q (a) VALUES {', '.join(['(?)'] * (MOST_ROWS_IN_VALUES + 1))}"),
    ("bind_in_limit", "SELECT id FROM q LIMIT ?"),
    ("bind_in_limit", "SELECT id FROM q LIMIT 1 OFFSET ?"),
    ("bind_in_limit", "SELECT id FROM q FETCH FIRST ? ROWS ONLY"),
    ("bind_in_limit", "UPDATE q SET a = 1 WHERE id IN (SELECT id FROM q LIMIT ?)"),
    ("bind_in_a_window_frame", "SELECT SUM(a) OVER (ORDER BY b ROWS BETWEEN ? PRECEDING AND CURRENT ROW) FROM q"),
    ("limit_in_a_scalar_subquery", "SELECT (SELECT a FROM r LIMIT 1) FROM q"),
    ("limit_in_a_scalar_subquery", "UPDATE q SET a = (SELECT a FROM r ORDER BY a LIMIT 1)"),
    ("limit_in_a_scalar_subquery", "SELECT a FROM q WHERE a = (SELECT a FROM r LIMIT 1)"),
    ("unknown_function", "SELECT unnest([1, 2])"),
    ("unknown_function", "SELECT strftime(a, '%Y') FROM q"),
    ("unknown_function", "SELECT epoch_ms(a) FROM q"),
    ("unknown_function", "SELECT json_extract(data, '$.x') FROM q"),
    ("unknown_function", "SELECT * FROM generate_series(1, 3)"),
    ("unknown_function", "SELECT string_agg(a, ',') FROM q"),
    ("unknown_type", "SELECT a::JSON FROM q"),
    ("unknown_type", "SELECT CAST(a AS HUGEINT) FROM q"),
    ("unknown_type", "CREATE TABLE t (a BLOB)"),
    ("unknown_type", "CREATE TABLE t (a UUID)"),
    ("unknown_type", "SELECT a::TEXT[] FROM q"),
    ("quoted_identifier", 'SELECT "id" FROM q'),
    ("quoted_identifier", 'SELECT id FROM "Queue"'),
    ("reserved_word", "SELECT COUNT(*) AS rows FROM q"),
    ("reserved_word", "CREATE TABLE t (sample NUMBER)"),
    ("clock_of_the_session", "UPDATE q SET a = CURRENT_TIMESTAMP"),
    ("clock_of_the_session", "UPDATE q SET a = CURRENT_TIMESTAMP()"),
    ("clock_of_the_session", "CREATE TABLE t (a TIMESTAMP_NTZ DEFAULT CURRENT_TIMESTAMP())"),
    ("clock_of_the_session", "SELECT a FROM q WHERE a < CURRENT_DATE"),
    ("clock_of_the_session", "SELECT now()"),
    ("privilege_that_the_object_lacks", "GRANT USAGE ON TABLE q TO ROLE r"),
    ("privilege_that_the_object_lacks", "GRANT SELECT, INSERT ON VIEW v TO ROLE r"),
    ("privilege_that_the_object_lacks", "GRANT SELECT, UPSERT ON FUTURE TABLES IN SCHEMA s TO ROLE r"),
    ("privilege_that_the_object_lacks", "GRANT USAGE ON QUEUE q TO ROLE IDENTIFIER($r)"),
    ("property_that_the_object_lacks", "CREATE WAREHOUSE IF NOT EXISTS w AUTO_STOP = 60"),
    ("property_that_the_object_lacks", "CREATE OR REPLACE ROLE r DEFAULT_ROLE = s"),
    ("property_that_the_object_lacks", "ALTER USER u SET RSA_PUBLICKEY = 'MIIB'"),
    ("service_with_what_a_person_has", "CREATE USER u TYPE = SERVICE PASSWORD = 'x'"),
    (
        "head_of_a_procedure",
        HEAD.replace("LANGUAGE SQL EXECUTE AS OWNER", "EXECUTE AS OWNER LANGUAGE SQL") + " $$ END $$",
    ),
    ("head_of_a_procedure", HEAD.replace("RETURNS", "COMMENT = 'x' RETURNS") + " $$ BEGIN RETURN 1; END; $$"),
    ("head_of_a_procedure", f"{HEAD} BEGIN RETURN 1; END"),
    ("session_in_a_procedure", f"{HEAD} $$ BEGIN RETURN $queue; END; $$"),
    ("session_in_a_procedure", f"{HEAD} $$ BEGIN USE SCHEMA s; RETURN 1; END; $$"),
    ("begin_that_is_a_block", f"{HEAD} $$ BEGIN BEGIN; UPDATE q SET a = 1; COMMIT; RETURN 1; END; $$"),
    ("unknown_function", f"{HEAD} $$ BEGIN UPDATE q SET a = now_utc(:a); RETURN 1; END; $$"),
    ("bind_in_limit", f"{HEAD} $$ DECLARE n NUMBER; BEGIN SELECT b INTO :n FROM q LIMIT :a; RETURN n; END; $$"),
    ("not_one_statement", "SELECT 1; SELECT 2"),
    ("does_not_parse", "SELECT 1 FROM WHERE"),
]


@pytest.mark.parametrize(("rule", "fault"), FAULTS, ids=lambda text: text[:60])
def test_each_fault_is_named_by_its_rule_and_by_no_other(rule, fault):
    assert {finding.rule for finding in findings(fault)} == {rule}


def test_every_rule_has_a_fault_that_proves_it():
    assert {rule for rule, _ in FAULTS} == set(RULES) | {"not_one_statement", "does_not_parse"}


SOUND = [
    "ALTER TABLE q ADD COLUMN a VARCHAR NOT NULL DEFAULT 'x'",
    "ALTER TABLE q ADD COLUMN a NUMBER(38, 0) NOT NULL DEFAULT -1",
    "ALTER TABLE q ADD COLUMN a TIMESTAMP_NTZ DEFAULT '1970-01-01 00:00:00'::TIMESTAMP_NTZ, b BOOLEAN DEFAULT FALSE",
    "ALTER TABLE q ADD COLUMN IF NOT EXISTS a VARCHAR",
    "ALTER TABLE q ALTER COLUMN a DROP DEFAULT",
    "ALTER TABLE q ALTER COLUMN a DROP NOT NULL",
    "ALTER TABLE q SWAP WITH r",
    "ALTER TABLE q RENAME TO r",
    "INSERT INTO q (a, b, c, d) VALUES (1, ?, -2, '2026-01-01'::TIMESTAMP_NTZ), (NULL, ?, 3, SYSDATE())",
    "INSERT INTO q (a) WITH r AS (SELECT 1 AS a) SELECT a FROM r",
    "INSERT INTO q (a) SELECT PARSE_JSON(column1) FROM VALUES ('1'), ('2')",
    "WITH r AS (SELECT id FROM q) SELECT id FROM r",
    "SELECT DISTINCT a FROM q ORDER BY a LIMIT 10 OFFSET 20",
    "SELECT a FROM (SELECT a FROM q LIMIT 10) AS first WHERE a IN (SELECT a FROM r LIMIT 3)",
    "SELECT (SELECT MAX(a) FROM r) FROM q",
    "SELECT a FROM q EXCEPT SELECT a FROM r",
    "SELECT a FROM q UNION ALL SELECT a FROM r",
    "SELECT a.value:date::DATE AS day FROM TABLE(FLATTEN(INPUT => PARSE_JSON(?))) AS a",
    "SELECT a FROM q QUALIFY ROW_NUMBER() OVER (PARTITION BY b ORDER BY c) <= ?",
    'SELECT "ID", ID FROM "QUEUE"',
    "MERGE INTO q USING r ON q.a = r.a WHEN MATCHED THEN UPDATE SET a = r.a WHEN NOT MATCHED THEN INSERT VALUES (1)",
    "DELETE FROM q USING r WHERE q.id = r.id",
    "SELECT 'RETURNING, FOR UPDATE, CURRENT_TIMESTAMP, now()' AS words -- LIMIT ?",
    "ALTER SESSION SET TIMEZONE = 'UTC'",
    "GRANT SELECT ON TABLE q TO ROLE r",
    "GRANT USAGE ON SCHEMA IDENTIFIER($s) TO ROLE IDENTIFIER($r)",
    "GRANT ROLE IDENTIFIER($r) TO USER IDENTIFIER($u)",
    "CREATE USER IF NOT EXISTS u TYPE = SERVICE WORKLOAD_IDENTITY = (TYPE = AWS ARN = 'arn:aws:iam::1:role/r')",
    "ALTER USER u SET RSA_PUBLIC_KEY = 'MIIB' COMMENT = 'PASSWORD = x'",
    "CREATE WAREHOUSE IF NOT EXISTS IDENTIFIER($w) WAREHOUSE_SIZE = XSMALL AUTO_SUSPEND = 60",
    f"{HEAD} $$ DECLARE n NUMBER(38, 0) DEFAULT 1; BEGIN BEGIN TRANSACTION; COMMIT; n := 2; RETURN n; END; $$",
    "GRANT USAGE ON PROCEDURE p(VARCHAR, NUMBER) TO ROLE r",
    "CALL p('x', ?, NULL)",
    "CREATE SCHEMA IF NOT EXISTS s",
    "DROP SCHEMA s CASCADE",
]


@pytest.mark.parametrize("text", SOUND, ids=lambda text: text[:60])
def test_what_snowflake_accepts_is_no_fault(text):
    assert findings(text) == []


@pytest.mark.parametrize("name", STATEMENTS)
def test_snowflake_would_refuse_nothing_in_a_statement(name):
    assert findings(STATEMENTS[name].text) == []


@pytest.mark.parametrize("name", SCRIPTS)
def test_snowflake_would_refuse_nothing_in_a_script(name):
    assert findings(SCRIPTS[name]) == []


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda page: page.name
)
def test_snowflake_would_refuse_nothing_that_a_page_tells_people_to_run(page):
    blocks = re.findall(r"^```sql\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    assert [str(finding) for block in blocks for text in split(block) for finding in findings(text)] == []


def test_a_script_is_split_where_its_statements_end_and_nowhere_else():
    assert split("-- one; not two\nSELECT ';' AS a;\n\nSELECT 2 -- last\n") == ["SELECT ';' AS a", "SELECT 2 -- last\n"]


def test_the_clocks_of_the_session_are_not_among_the_functions_that_are_allowed():
    assert not FUNCTIONS & SESSION_CLOCKS


# Statements against tables


class Table:
    """A table as a script makes it."""

    def __init__(self, created):
        self.columns = {column.name.upper(): column for column in created.this.expressions}

    def width(self, column):
        return int(self.columns[column].kind.expressions[0].name)

    def demanded(self):
        """The columns that an INSERT has to name."""
        return {name for name, column in self.columns.items() if _has(column, exp.NotNullColumnConstraint)} - {
            name
            for name, column in self.columns.items()
            if _has(column, exp.DefaultColumnConstraint, exp.AutoIncrementColumnConstraint)
            or _has(column, exp.GeneratedAsIdentityColumnConstraint)
        }


def _has(column, *kinds):
    return any(isinstance(constraint.kind, kinds) for constraint in column.args.get("constraints") or [])


TABLES = {
    created.this.this.name.upper(): Table(created)
    for text in SCRIPTS.values()
    for created in [sqlglot.parse_one(text, read="snowflake")]
    if isinstance(created, exp.Create) and created.kind == "TABLE"
}
VIEWS = {
    created.this.name.upper(): created.expression
    for text in SCRIPTS.values()
    for created in [sqlglot.parse_one(text, read="snowflake")]
    if isinstance(created, exp.Create) and created.kind == "VIEW"
}


TREES = {name: sqlglot.parse_one(statement.text, read="snowflake") for name, statement in STATEMENTS.items()}


@pytest.mark.parametrize("name", [name for name, tree in TREES.items() if isinstance(tree, exp.Update)])
def test_an_update_sets_columns_of_the_table_it_updates(name):
    tree = TREES[name]
    set_here = {change.this.name.upper() for change in tree.expressions}
    assert set_here <= set(TABLES[tree.this.name.upper()].columns)


@pytest.mark.parametrize("name", [name for name, tree in TREES.items() if isinstance(tree, exp.Insert)])
def test_an_insert_names_every_column_that_has_to_be_given_and_none_that_is_not_there(name):
    tree = TREES[name]
    table = TABLES[tree.this.this.name.upper()]
    named = {column.name.upper() for column in tree.this.expressions}
    assert table.demanded() <= named <= set(table.columns)
    assert len(tree.this.expressions) == len(tree.expression.expressions)


@pytest.mark.parametrize("name", VIEWS)
def test_every_column_of_a_view_is_one_of_its_tables(name):
    schema = {table: dict.fromkeys(made.columns, "VARCHAR") for table, made in TABLES.items()}
    qualify(VIEWS[name].copy(), schema=schema, dialect="snowflake")


@pytest.mark.parametrize("name", IN_PROCEDURES)
def test_every_column_in_a_procedure_is_one_of_its_tables_so_that_no_variable_lacks_its_colon(name):
    tree = sqlglot.parse_one(IN_PROCEDURES[name], read="snowflake")
    if isinstance(tree, exp.Update):
        # The columns of the table and those of the source, as a query: qualify() does not look into an UPDATE.
        sources = tree.args["from_"].this.copy() if tree.args.get("from_") else None
        values = [change.expression.copy() for change in tree.expressions]
        query = exp.select(*values).from_(tree.this.copy()).where(tree.args["where"].this.copy())
        tree = query.join(sources, join_type="cross") if sources else query
    if isinstance(tree, exp.Insert):
        tree = tree.expression
    if isinstance(tree, exp.Select) and tree.args.get("from_"):
        schema = {table: dict.fromkeys(made.columns, "VARCHAR") for table, made in TABLES.items()}
        qualify(tree.copy(), schema=schema, dialect="snowflake")


@pytest.mark.parametrize("name", [*TREES, *SCRIPTS, *IN_PROCEDURES])
def test_a_status_is_only_compared_with_and_set_to_one_of_the_five(name):
    tree = TREES[name] if name in TREES else sqlglot.parse_one((SCRIPTS | IN_PROCEDURES)[name], read="snowflake")
    compared = [
        literal.name
        for node in tree.find_all(exp.EQ, exp.NEQ, exp.In)
        if isinstance(node.this, exp.Column) and node.this.name.lower() in {"status", "new_status"}
        for literal in [node.args.get("expression"), *node.args.get("expressions", [])]
        if isinstance(literal, exp.Literal)
    ]
    assert set(compared) <= {status.value for status in Status}


def test_what_bounds_an_error_message_is_the_width_of_its_column():
    for table in ("PROCESSING_QUEUE", "PROCESSING_ATTEMPTS"):
        assert TABLES[table].width("ERROR_MESSAGE") == MAX_ERROR_MESSAGE_CHARACTERS
    assert TABLES["PROCESSING_HOLDS"].width("REASON") == MAX_ERROR_MESSAGE_CHARACTERS


# Statements against the store


@dataclass(frozen=True)
class Call:
    """A statement that the store sends: its name, as what, and the names of the values it passes."""

    name: str
    way: str
    values: frozenset[str]
    columns: int | None


def _call(call):
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    columns = given.pop("columns", None)
    return Call(call.args[0].value, call.func.attr, frozenset(given), columns and columns.value)


CALLS = [
    _call(call)
    for module in (sql, processor_store, poller_queue)
    for call in ast.walk(ast.parse(Path(module.__file__).read_text()))
    if isinstance(call, ast.Call)
    and isinstance(call.func, ast.Attribute)
    and call.func.attr in {"_row", "_rows", "_change"}
    and isinstance(call.args[0], ast.Constant)
]


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
def test_the_store_passes_the_values_that_its_statement_binds(call):
    assert call.values == set(STATEMENTS[call.name].parameters)


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
def test_a_query_is_sent_as_a_query_and_a_change_as_a_change(call):
    assert (call.way != "_change") == isinstance(TREES[call.name], exp.Select)


@pytest.mark.parametrize("call", [call for call in CALLS if call.way != "_change"], ids=lambda call: call.name)
def test_the_store_expects_the_columns_of_its_query(call):
    assert call.columns == len(TREES[call.name].selects)


def test_the_store_sends_every_statement_and_no_other():
    assert {call.name for call in CALLS} == set(STATEMENTS)


def test_the_body_of_the_push_task_contains_nothing_that_snowflake_would_refuse():
    (body,) = re.findall(
        r"\$\$\s*BEGIN(.*)END;\s*\$\$", (ROOT / "snowflake" / "optional_push.sql").read_text(), re.DOTALL
    )
    insert, call = split(body)
    assert findings(insert) == []
    assert call.startswith("CALL SYSTEM$SEND_SNOWFLAKE_NOTIFICATION(")


def test_poller_and_processor_send_different_statements_but_for_the_count():
    names = {
        module: set(re.findall(r'self\._(?:rows?|change)\(\s*"(\w+)"', Path(module.__file__).read_text()))
        for module in (sql, processor_store, poller_queue)
    }
    assert names[processor_store] & names[poller_queue] == {"count_ready"}
    assert names[sql] == {"schema_version"}, "what both ask at their start"
    assert set().union(*names.values()) == set(STATEMENTS)
