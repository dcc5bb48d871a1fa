"""``snowflake/04_grants.sql`` gives each role what the statements of its program need, and nothing more."""

from __future__ import annotations

import re

import pytest
from role_grants import ROOT, SENT, STATEMENTS, granted, needed


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


def test_each_view_that_hides_a_column_is_secure():
    """Otherwise a condition of the reader's own query could see the column before the view hides it."""
    text = (ROOT / "snowflake" / "03_monitoring_views.sql").read_text(encoding="utf-8")
    views = {
        name: (bool(secure), "IS_ROLE_IN_SESSION" in body)
        for secure, name, body in re.findall(r"(?ms)^CREATE OR REPLACE (SECURE )?VIEW (\w+)(.*?);$", text)
    }
    assert {name for name, (_, hides) in views.items() if hides} >= {
        "DELIVERY_ATTEMPTS",
        "ENTRY_HISTORY",
        "FAILED_ENTRIES_ANALYSIS",
        "QUEUE_ENTRIES",
    }
    assert [name for name, (secure, hides) in views.items() if hides and not secure] == []
