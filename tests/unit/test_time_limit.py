"""A call that is waited for only for some time."""

from __future__ import annotations

import threading

import pytest

from rowqueue.time_limit import within


def test_a_call_that_ends_in_time_returns_its_result():
    assert within(60, lambda: 7) == 7


@pytest.mark.parametrize("error", [ValueError("bad"), TimeoutError("its own"), SystemExit(3)])
def test_what_the_call_raises_is_raised(error):
    def run():
        raise error

    with pytest.raises(type(error)) as caught:
        within(60, run)
    assert caught.value is error


@pytest.mark.parametrize("seconds", [0.01, 0.0, -5.0])
def test_a_call_that_does_not_end_is_left_behind(seconds):
    never = threading.Event()
    with pytest.raises(TimeoutError, match="no answer within 0 s"):
        within(seconds, never.wait)
    never.set()
