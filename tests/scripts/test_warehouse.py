"""What snowflake/00_roles.sql says about the warehouse, because Snowflake's defaults cost more."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rowqueue.settings import STATEMENT_TIMEOUT_S

SCRIPTS = Path(__file__).parents[2] / "snowflake"
LONGEST_THAT_A_MIGRATION_NEEDS_S = 600


@pytest.fixture(scope="module")
def properties():
    (statement,) = re.findall(r"^CREATE WAREHOUSE [^;]+;", (SCRIPTS / "00_roles.sql").read_text(), re.MULTILINE)
    return dict(re.findall(r"^ +(\w+) = ([^\n;]+)", statement, re.MULTILINE))


def test_the_generation_is_named_in_quotes_and_is_the_one_with_the_lower_price(properties):
    assert properties["GENERATION"] == "'1'"


def test_query_acceleration_is_off_and_has_no_factor_which_the_standard_edition_refuses(properties):
    assert properties["ENABLE_QUERY_ACCELERATION"] == "FALSE"
    assert "QUERY_ACCELERATION_MAX_SCALE_FACTOR" not in properties


def test_no_statement_runs_for_two_days_and_those_of_programs_and_migrations_have_the_time_they_need(properties):
    limit = int(properties["STATEMENT_TIMEOUT_IN_SECONDS"])
    assert max(STATEMENT_TIMEOUT_S, LONGEST_THAT_A_MIGRATION_NEEDS_S) < limit <= 3600


def test_the_optional_monitor_is_assigned_and_suspends():
    script = (SCRIPTS / "optional_resource_monitor.sql").read_text()
    (monitor,) = re.findall(r"^CREATE RESOURCE MONITOR IF NOT EXISTS (\w+) WITH$", script, re.MULTILINE)
    assert re.findall(r"^ALTER WAREHOUSE QUEUE_WH SET RESOURCE_MONITOR = (\w+);$", script, re.MULTILINE) == [monitor]
    (triggers,) = re.findall(r"TRIGGERS([^;]+);", script)
    assert "ON 100 PERCENT DO SUSPEND" in triggers
    assert "SUSPEND_IMMEDIATE" not in triggers, "a settle that runs may end"
