"""Time in unit tests is virtual: a sleep of an hour takes no time, and no busy machine fails a test."""

from __future__ import annotations

import looptime


def pytest_asyncio_loop_factories(config, item):
    return {"virtual time": looptime.new_event_loop}
