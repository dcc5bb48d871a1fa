"""The demo and the drills fail if there were more tasks than MAX_CONTAINERS at any time."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from rowqueue_local.demo import MAX_CONTAINERS, Result
from rowqueue_local.drills.stage import check_cap
from rowqueue_local.stack import StackError, most_at_once

RESULT = Result(
    entries=1,
    completed=1,
    failed=0,
    pending=0,
    processing=0,
    attempts=1,
    tasks_launched=1,
    statements={},
    duplicate_deliveries=0,
    seconds=1.0,
)


@pytest.mark.parametrize(
    ("spans", "most"),
    [
        ([], 0),
        ([(1, None)], 1),
        ([(1, 2), (2, 3)], 1),
        ([(1, 3), (2, None), (2.5, 4), (5, 6)], 3),
    ],
)
def test_tasks_at_one_time_are_counted_until_they_have_stopped(spans, most):
    assert most_at_once(spans) == most


@pytest.mark.parametrize(("most", "kept"), [(MAX_CONTAINERS, True), (MAX_CONTAINERS + 1, False)])
def test_a_demo_with_too_many_tasks_does_not_keep_its_promise(most, kept):
    assert replace(RESULT, most_tasks=most).kept is kept


def stack(*, cap, most):
    return SimpleNamespace(options=SimpleNamespace(poller={"MAX_CONTAINERS": str(cap)}), most_tasks=lambda: most)


def test_a_drill_with_too_many_tasks_fails_and_says_so():
    check_cap(stack(cap=4, most=4))
    with pytest.raises(StackError, match="5 tasks at one time, and MAX_CONTAINERS is 4"):
        check_cap(stack(cap=4, most=5))
