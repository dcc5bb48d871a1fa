"""The contract of a processor's queue, in memory."""

from __future__ import annotations

import pytest
from queue_contract import *  # noqa: F403 -- its tests and fixtures
from queue_tables import InMemory


@pytest.fixture
def tables():
    return InMemory()
