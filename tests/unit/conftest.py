"""Time in unit tests is virtual: a sleep of an hour takes no time, and no busy machine fails a test."""

from __future__ import annotations

import asyncio

import looptime

ON_REAL_TIME = {"test_run.py", "test_run_storms.py", "test_shared_timeout.py"}
"""They measure the real time, or wait for a thread."""


def pytest_asyncio_loop_factories(config, item):
    real = item.path.name in ON_REAL_TIME
    return {"real time": asyncio.new_event_loop} if real else {"virtual time": looptime.new_event_loop}
