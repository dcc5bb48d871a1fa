"""The stand-in's ALTER TABLE: what it refuses as Snowflake does, and how it swaps two tables."""

from __future__ import annotations

import pytest
import sqlglot

from rowqueue_local.snowflake.alterations import RefusedAlteration, renames_of, require_possible


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("ALTER TABLE q ADD COLUMN a TIMESTAMP_NTZ DEFAULT SYSDATE()", "a DEFAULT SYSDATE()"),
        ("ALTER TABLE q ADD COLUMN IF NOT EXISTS a VARCHAR DEFAULT 'x'", "IF NOT EXISTS a"),
        ("ALTER TABLE q ALTER COLUMN a SET DEFAULT 'x'", "a SET DEFAULT 'x'"),
    ],
)
def test_what_snowflake_refuses_is_refused_by_name(text, named):
    with pytest.raises(RefusedAlteration, match=r"Snowflake refuses this in ALTER TABLE: ") as refused:
        require_possible(sqlglot.parse_one(text, read="snowflake"))
    assert named in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        "ALTER TABLE q ADD COLUMN a VARCHAR NOT NULL DEFAULT 'x'",
        "ALTER TABLE q ADD COLUMN IF NOT EXISTS a VARCHAR",
        "ALTER TABLE q ALTER COLUMN a SET DEFAULT s.NEXTVAL",
        "CREATE TABLE q (a TIMESTAMP_NTZ DEFAULT SYSDATE())",
        "SELECT 1",
    ],
)
def test_what_snowflake_accepts_is_possible(text):
    require_possible(sqlglot.parse_one(text, read="snowflake"))


def test_a_swap_is_three_renames():
    renames = renames_of(sqlglot.parse_one("ALTER TABLE s.a SWAP WITH s.b", read="snowflake"))
    assert [rename.sql(dialect="duckdb") for rename in renames] == [
        "ALTER TABLE s.a RENAME TO SWAPPING_a",
        "ALTER TABLE s.b RENAME TO a",
        "ALTER TABLE s.SWAPPING_a RENAME TO b",
    ]
    assert renames_of(sqlglot.parse_one("ALTER TABLE a RENAME TO b", read="snowflake")) == []
