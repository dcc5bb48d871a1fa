"""The contract of a processor's queue, on Snowflake."""

from __future__ import annotations

import pytest
from queue_contract import *  # noqa: F403 -- its tests and fixtures
from queue_tables import InSnowflake

from rowqueue.settings import SnowflakeSettings


@pytest.fixture
def tables(environ, sql, warehouses):
    in_snowflake = InSnowflake(sql, warehouses, SnowflakeSettings.from_env(environ).table)
    yield in_snowflake
    in_snowflake.close()
