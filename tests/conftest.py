"""What every test gets."""

from __future__ import annotations

import distribution
import hypothesis
import pytest
from blockbuster import BlockBuster, blockbuster_ctx

pytest.register_assert_rewrite("queue_contract", "queue_histories")


def pytest_collection_modifyitems(items):
    """The longest tests first."""
    items.sort(key=lambda item: distribution.place(item.nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """How the workers share the tests of ``make test``."""
    return distribution.SharedSetUps(config, log) if config.getvalue("dist") == "loadfile" else None


CREDENTIALS = ("AWS_", "SNOWFLAKE_", "ECS_")


@pytest.fixture(autouse=True)
def a_clean_environment(monkeypatch, tmp_path_factory):
    """Removes the caller's credentials, so that no test reaches a real account. Temporary files go below tmp_path."""
    import os

    for name in list(os.environ):
        if name.startswith(CREDENTIALS):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(autouse=True)
def no_blocking_call_on_the_event_loop():
    """A blocking call in a coroutine of ours fails the test that made it."""
    with blockbuster_ctx("rowqueue") as blockbuster:
        assert isinstance(blockbuster, BlockBuster)
        yield


# Hypothesis fails an example that takes longer than 0.2 s, and data that is slow to generate. Both measure how busy the
# machine is.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")
