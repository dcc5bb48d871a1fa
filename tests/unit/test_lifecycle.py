"""What becomes of an entry."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rowqueue.lifecycle import (
    Entry,
    Interrupted,
    Permanent,
    RetryPolicy,
    Status,
    Succeeded,
    Transient,
    settlement_for,
)

POLICY = RetryPolicy(max_retries=3, backoff_s=10, backoff_cap_s=100)


def entry(**changes):
    return Entry(**({"id": 7, "data": "{}", "idempotency_key": "key", "claim_token": "token"} | changes))


def settled(outcome, *, random=lambda: 0.5, policy=POLICY, **changes):
    return settlement_for(entry(**changes), outcome, policy, random=random)


def test_a_2xx_completes_the_entry_and_keeps_what_was_answered():
    settlement = settled(Succeeded(response_status=201, result="made"))
    assert settlement.status is Status.COMPLETED
    assert (settlement.response_status, settlement.result, settlement.error_message) == (201, "made", None)
    assert not settlement.counted


def test_an_interrupted_entry_is_released_and_no_attempt_is_counted():
    settlement = settled(Interrupted(reason="stop"), retry_count=2)
    assert settlement.status is Status.PENDING
    assert settlement.released
    assert not settlement.counted
    assert settlement.delay_s == 0


def test_a_transient_failure_backs_off_and_counts():
    settlement = settled(Transient(reason="503", response_status=503))
    assert settlement.status is Status.PENDING
    assert settlement.counted
    assert settlement.delay_s == 5
    assert settlement.error_message == "503"


def test_a_permanent_failure_fails_at_once():
    settlement = settled(Permanent(reason="400", response_status=400))
    assert (settlement.status, settlement.counted) == (Status.FAILED, True)


def test_the_third_of_three_deliveries_fails_the_entry_and_says_why():
    settlement = settled(Transient(reason="no answer"), retry_count=2)
    assert settlement.status is Status.FAILED
    assert settlement.error_message == "gave up after 3 of 3 attempts: no answer"


@pytest.mark.parametrize(("retry_count", "expected"), [(0, Status.PENDING), (4, Status.PENDING), (5, Status.FAILED)])
def test_an_entrys_own_limit_goes_before_the_settings(retry_count, expected):
    assert settled(Transient(reason="x"), retry_count=retry_count, max_retries=6).status is expected


def test_a_message_longer_than_its_column_is_cut():
    assert len(settled(Permanent(reason="x" * 5000)).error_message) == 1000


def test_the_service_is_given_the_time_it_asks_for_but_not_more_than_the_cap():
    assert settled(Transient(reason="429", retry_after_s=42)).delay_s == 42
    assert settled(Transient(reason="429", retry_after_s=1e9)).delay_s == 100
    assert settled(Transient(reason="429", retry_after_s=-5), random=lambda: 0).delay_s == 0


@given(failures=st.integers(1, 2000), draw=st.floats(0, 1, exclude_max=True), asked=st.none() | st.floats(0, 1e12))
def test_no_wait_is_negative_or_longer_than_the_cap(failures, draw, asked):
    assert 0 <= POLICY.delay_s(failures=failures, retry_after_s=asked, random=lambda: draw) <= POLICY.backoff_cap_s


@given(failures=st.integers(1, 50))
def test_the_bound_of_the_wait_never_shrinks_with_further_failures(failures):
    def bound(count):
        return POLICY.delay_s(failures=count, retry_after_s=None, random=lambda: 1.0)

    assert bound(failures) <= bound(failures + 1)


OUTCOMES = st.one_of(
    st.builds(Succeeded, response_status=st.integers(200, 299), result=st.none() | st.text()),
    st.builds(Transient, reason=st.text(), retry_after_s=st.none() | st.floats(0, 1e6)),
    st.builds(Permanent, reason=st.text()),
    st.builds(Interrupted, reason=st.text()),
)


@given(outcomes=st.lists(OUTCOMES, min_size=1, max_size=30), limit=st.integers(1, 8))
def test_an_entry_is_never_delivered_more_often_than_its_limit_allows(outcomes, limit):
    policy = RetryPolicy(max_retries=limit)
    retry_count = counted = 0
    for outcome in outcomes:
        assert retry_count < limit, "it was pending with no attempts left"
        settlement = settled(outcome, policy=policy, retry_count=retry_count)
        retry_count += settlement.counted
        counted += settlement.counted
        if settlement.status is not Status.PENDING:
            break
    assert counted <= limit
