"""How quickly outcomes are settled, and what may be in hand because of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rowqueue.processor.pace import SettlePace, learned

PACE = SettlePace(statement_s=2.0, statement_bytes=1000, outcome_bytes=50.0)


def test_the_pace_of_settling_follows_from_the_seconds_of_a_statement_and_what_fits_into_it():
    assert PACE.per_statement == 20
    assert PACE.per_second == 10


@pytest.mark.parametrize(
    ("within_s", "in_hand", "more"),
    [(12.0, 0, 100), (12.0, 8, 92), (12.0, 100, 0), (12.0, 130, -30), (2.0, 8, -8), (0.8, 8, -20)],
)
def test_what_can_be_settled_in_time_counts_what_is_in_hand_already(within_s, in_hand, more):
    assert PACE.settleable(within_s=within_s, in_hand=in_hand, first_block=5) == pytest.approx(more)


@pytest.mark.parametrize(("first_block", "more"), [(5, 5), (20, 20), (200, 20)])
def test_with_nothing_in_hand_a_first_block_may_be_claimed_as_far_as_one_statement_settles_it(first_block, more):
    slow = replace(PACE, statement_s=60.0)
    assert slow.settleable(within_s=15.0, in_hand=0, first_block=first_block) == more
    assert slow.settleable(within_s=15.0, in_hand=1, first_block=first_block) < 0


@pytest.mark.parametrize(
    ("statement_s", "unsettled"), [(0.5, 10_000), (1.25, 4000), (2.0, 4000), (10.0, 3000), (60.0, 500)]
)
def test_deliveries_may_be_ahead_by_five_seconds_or_four_statements_but_not_by_more_than_a_stop_settles(
    statement_s, unsettled
):
    assert replace(PACE, statement_s=statement_s).most_unsettled_bytes(stop_s=30.0) == unsettled


@pytest.mark.parametrize(
    ("seconds", "size", "statement_s"),
    [(4.0, 1000, 2.0), (8.0, 1000, 3.0), (8.0, 1001, 2.0 / 2 + 8 / 3 / 2), (0.0, 1, 1.0), (100.0, 1, 26.0)],
)
def test_a_settle_counts_half_with_one_update_and_its_inserts(seconds, size, statement_s):
    assert learned(PACE, seconds=seconds, size=size) == pytest.approx(statement_s)


def test_a_statement_is_never_thought_to_take_less_than_a_twentieth_of_a_second():
    assert learned(replace(PACE, statement_s=0.05), seconds=0.0, size=1) == 0.05


@given(
    seconds=st.lists(st.floats(0, 3600), max_size=20),
    outcome_bytes=st.floats(150, 100_000),
    within_s=st.floats(0.1, 60),
    first_block=st.integers(1, 10_000),
)
def test_whatever_was_measured_a_worker_with_nothing_in_hand_may_claim_and_deliver(
    seconds, outcome_bytes, within_s, first_block
):
    pace = SettlePace(statement_s=2.5, statement_bytes=900_000, outcome_bytes=outcome_bytes)
    for measured in seconds:
        pace = replace(pace, statement_s=learned(pace, seconds=measured, size=1000))
    assert pace.settleable(within_s=within_s, in_hand=0, first_block=first_block) >= 1
    assert pace.most_unsettled_bytes(stop_s=within_s) > 0
