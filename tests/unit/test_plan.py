"""How many tasks are started."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rowqueue.poller.plan import Demand, groups, plan


def launched(ready, live, starting, *, per=8, cap=25):
    return plan(Demand(ready=ready, live=live, starting=starting), entries_per_container=per, max_containers=cap).launch


@pytest.mark.parametrize(
    ("ready", "live", "starting", "expected"),
    [
        (0, 0, 0, 0),
        (1, 0, 0, 1),
        (8, 0, 0, 1),
        (9, 0, 0, 2),
        (80, 0, 0, 10),
        (80, 10, 10, 0),  # the next tick, while the tasks still boot
        (80, 10, 4, 6),  # six have claimed; what they took is no longer ready
        (80, 10, 0, 10),
        (8, 3, 3, 0),  # more are starting than are needed
        (1000, 0, 0, 25),
        (1000, 20, 0, 5),
        (1000, 30, 0, 0),  # the cap was lowered below what is alive
    ],
)
def test_a_launch_is_what_is_ready_less_what_is_starting_within_the_cap(ready, live, starting, expected):
    assert launched(ready, live, starting) == expected


COUNTS = st.integers(0, 10_000)


@given(ready=COUNTS, live=COUNTS, starting=COUNTS, per=st.integers(1, 100), cap=st.integers(0, 500))
def test_a_launch_is_never_negative_and_never_passes_the_cap(ready, live, starting, per, cap):
    launch = launched(ready, live, starting, per=per, cap=cap)
    assert launch >= 0
    assert launch == 0 or live + launch <= cap


@given(ready=COUNTS, live=COUNTS, starting=COUNTS)
def test_more_ready_entries_never_start_fewer_tasks(ready, live, starting):
    assert launched(ready, live, starting) <= launched(ready + 1, live, starting)


@given(ready=COUNTS)
def test_a_second_tick_that_sees_the_first_ones_tasks_starts_none(ready):
    first = launched(ready, 0, 0)
    assert launched(ready, first, first) == 0


@given(launch=st.integers(0, 200))
def test_the_groups_are_at_most_ten_and_add_up(launch):
    parts = groups(launch)
    assert sum(count for _, count in parts) == launch
    assert all(1 <= count <= 10 for _, count in parts)
    assert [first for first, _ in parts] == [sum(count for _, count in parts[:n]) for n in range(len(parts))]


def test_the_reason_tells_why_nothing_was_launched():
    def reason(ready, live, starting):
        return plan(
            Demand(ready=ready, live=live, starting=starting), entries_per_container=8, max_containers=25
        ).reason

    assert reason(0, 0, 0) == "nothing is ready"
    assert reason(8, 1, 1) == "the tasks that are starting are enough"
    assert reason(1000, 25, 0) == "bounded by MAX_CONTAINERS"
