"""How many tasks are started."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rowqueue.poller.plan import Demand, Holding, plan


def demand(ready, live, starting, *, per=8, cap=25, holding=Holding.NONE):
    return Demand(
        ready=ready, live=live, starting=starting, entries_per_container=per, max_containers=cap, holding=holding
    )


def launched(*counts, **limits):
    return plan(demand(*counts, **limits)).launch


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


def test_the_reason_tells_why_nothing_was_launched():
    def reason(*counts, **limits):
        return plan(demand(*counts, **limits)).reason

    assert reason(0, 0, 0) == "nothing is ready"
    assert reason(8, 1, 1) == "the tasks that are starting are enough"
    assert reason(1000, 25, 0) == "bounded by MAX_CONTAINERS"
    assert reason(8, 0, 0, holding=Holding.STANDING) == "a hold stands"


@pytest.mark.parametrize(
    ("ready", "live", "cap", "expected"), [(500, 0, 25, 1), (1, 0, 25, 1), (0, 0, 25, 0), (500, 1, 25, 0), (5, 0, 0, 0)]
)
def test_after_a_hold_one_task_probes_once_all_others_are_gone(ready, live, cap, expected):
    decided = plan(demand(ready, live, 0, cap=cap, holding=Holding.ENDED))
    assert decided.launch == expected
    assert decided.probe or not decided.launch
