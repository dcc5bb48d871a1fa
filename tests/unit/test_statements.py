"""The statements: what they are called, what they bind, and that Snowflake's grammar and our tables know them."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
import sqlglot
from sqlglot import exp
from sqlglot.errors import ErrorLevel
from sqlglot.optimizer.qualify import qualify

from rowqueue import sql
from rowqueue.poller.records import Pulse

ROOT = Path(__file__).parents[2]
STATEMENTS = sql.statements(queue="PROCESSING_QUEUE")


def test_a_statement_file_is_cut_at_its_names_and_comments_are_left_out():
    loaded = sql.load(
        "-- preface\n-- name: one\n-- about it\nSELECT %(b)s,\n       %(a)s, %(b)s FROM {queue}\n"
        "\n-- name: two\nSELECT 1\n",
        queue="Q",
    )
    assert loaded["one"].text == "SELECT ?,\n       ?, ? FROM Q"
    assert loaded["one"].parameters == ("b", "a", "b")
    assert loaded["two"].text == "SELECT 1"


def tables():
    """The columns that 01_create_table.sql makes, by table."""
    script = (ROOT / "snowflake" / "01_create_table.sql").read_text()
    return {
        created.this.this.name.upper(): {column.name.upper(): "VARCHAR" for column in created.this.expressions}
        for created in sqlglot.parse(script, read="snowflake")
        if isinstance(created, exp.Create)
    }


@pytest.mark.parametrize("name", STATEMENTS)
def test_every_statement_parses_as_snowflake_sql(name):
    sqlglot.parse_one(STATEMENTS[name].text, read="snowflake", error_level=ErrorLevel.RAISE)


@pytest.mark.parametrize("name", STATEMENTS)
def test_every_table_of_a_statement_exists(name):
    known = tables()
    parsed = sqlglot.parse_one(STATEMENTS[name].text, read="snowflake")
    assert {table.name.upper() for table in parsed.find_all(exp.Table) if table.name} <= set(known)


@pytest.mark.parametrize("name", STATEMENTS)
def test_every_column_of_a_statement_exists_somewhere(name):
    parsed = sqlglot.parse_one(STATEMENTS[name].text, read="snowflake")
    known = {column for columns in tables().values() for column in columns}
    made_here = {alias.alias.upper() for alias in parsed.find_all(exp.Alias)}
    used = {column.name.upper() for column in parsed.find_all(exp.Column)}
    assert used - known - made_here <= {"VALUE"}  # FLATTEN's


@pytest.mark.parametrize("name", ["pulse", "count_ready", "claimed"])
def test_the_columns_of_a_plain_query_are_those_of_its_table(name):
    qualify(sqlglot.parse_one(STATEMENTS[name].text, read="snowflake"), schema=tables(), dialect="snowflake")


def test_the_pulse_has_neither_a_bind_nor_a_clock_so_that_the_result_cache_can_answer_it():
    text = STATEMENTS["pulse"].text.upper()
    assert not STATEMENTS["pulse"].parameters
    assert "SYSDATE" not in text
    assert "CURRENT_" not in text


@pytest.mark.parametrize("name", [name for name, s in STATEMENTS.items() if s.text.startswith("UPDATE")])
def test_every_update_is_guarded_by_the_status_it_expects(name):
    where = sqlglot.parse_one(STATEMENTS[name].text, read="snowflake").args["where"].sql().lower()
    assert "status = 'pending'" in where or "status = 'processing'" in where


@pytest.mark.parametrize("name", [name for name, s in STATEMENTS.items() if s.text.startswith("UPDATE")])
def test_every_update_says_when_the_row_was_changed(name):
    changed = sqlglot.parse_one(STATEMENTS[name].text, read="snowflake").expressions
    assert "updated_at = SYSDATE()" in [one.sql(dialect="snowflake") for one in changed]


def test_a_claim_finds_the_best_entries_without_their_data():
    parsed = sqlglot.parse_one(STATEMENTS["claim"].text, read="snowflake")
    (best,) = [query for query in parsed.find_all(exp.Select) if query.args.get("limit")]
    assert "data" not in {column.name.lower() for column in best.find_all(exp.Column)}


def test_a_claim_asks_for_the_same_conditions_wherever_it_reads_the_queue_and_where_it_writes():
    update = sqlglot.parse_one(STATEMENTS["claim"].text, read="snowflake")
    scans = [scan.find_ancestor(exp.Select) for scan in update.find_all(exp.Table) if scan.name == "PROCESSING_QUEUE"]
    best, candidates, ready = (
        {condition.sql(dialect="snowflake") for condition in query.args["where"].this.flatten()}
        for query in sorted((scan or update for scan in scans), key=lambda query: -query.depth)
    )
    assert len(candidates) == 6
    assert {text for text in best if "EXISTS" not in text} == candidates
    assert {text for text in ready if "ready." not in text.lower()} == candidates


def test_each_part_of_the_pulse_has_a_condition_that_skips_most_of_the_table():
    parsed = sqlglot.parse_one(STATEMENTS["pulse"].text, read="snowflake")
    scans = [scan for scan in parsed.find_all(exp.Table) if scan.name == "PROCESSING_QUEUE"]
    conditions = [scan.find_ancestor(exp.Select).args["where"].sql() for scan in scans]
    assert len(conditions) == 5
    assert all(text.startswith(("WHERE status = ", "WHERE NOT status IN")) for text in conditions), conditions


def test_the_columns_of_the_pulse_are_those_that_the_poller_names():
    parsed = sqlglot.parse_one(STATEMENTS["pulse"].text, read="snowflake")
    named = [{"reason": "hold_reason", "kind": "hold_kind"}.get(name, name) for name in parsed.named_selects]
    assert named == [field.name for field in fields(Pulse)]


@pytest.mark.parametrize("destination", ["", "*", "Acme", "a'b", "-a", "a" * 64, "a\n"])
def test_a_name_that_could_not_be_put_into_a_statement_is_refused(destination):
    with pytest.raises(ValueError, match="expected the name of a destination"):
        sql.statements(queue="Q", destination=destination)


@pytest.mark.parametrize("name", STATEMENTS)
def test_every_reading_of_the_attempts_begins_at_a_time_so_that_a_long_audit_trail_costs_nothing(name):
    parsed = sqlglot.parse_one(STATEMENTS[name].text, read="snowflake")
    for query in parsed.find_all(exp.Select):
        source = query.args.get("from_")
        if source and source.this.name.upper() == "PROCESSING_ATTEMPTS":
            earliest = [bound.this.name for bound in query.args["where"].find_all(exp.GTE)]
            assert earliest == ["recorded_at"]
    joined = {join.this.name.upper() for join in parsed.find_all(exp.Join)}
    assert "PROCESSING_ATTEMPTS" not in joined, "not joined as a whole"
