"""The status that an entry gets after each outcome."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rowqueue.lifecycle import (
    CredentialsFault,
    Doubted,
    Entry,
    Interrupted,
    Permanent,
    RetryPolicy,
    Settlement,
    Status,
    Succeeded,
    Transient,
    outcome_of,
    settlement_for,
    storable,
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
def test_an_entrys_own_limit_overrides_the_setting(retry_count, expected):
    assert settled(Transient(reason="x"), retry_count=retry_count, max_retries=6).status is expected


def test_a_message_longer_than_its_column_is_cut():
    assert len(settled(Permanent(reason="x" * 5000)).error_message) == 1000


def test_a_retry_waits_as_long_as_the_service_asks_but_not_longer_than_the_cap():
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


# Each field of a settlement


def test_a_settlement_has_the_entrys_id_and_token_and_the_fields_of_its_outcome():
    outcomes = {
        Succeeded(response_status=200, result="made"): {
            "status": Status.COMPLETED,
            "response_status": 200,
            "result": "made",
        },
        Interrupted(reason="stop"): {"status": Status.PENDING, "released": True},
        Permanent(reason="422", response_status=422, result="amount"): {
            "status": Status.FAILED,
            "counted": True,
            "response_status": 422,
            "result": "amount",
            "error_message": "422",
        },
        Transient(reason="503", response_status=503, result="later"): {
            "status": Status.PENDING,
            "counted": True,
            "delay_s": 5,
            "response_status": 503,
            "result": "later",
            "error_message": "503",
        },
    }
    for outcome, expected in outcomes.items():
        assert settled(outcome) == Settlement(entry_id=7, claim_token="token", idempotency_key="key", **expected)


def test_by_default_a_settlement_is_not_counted_not_released_and_has_no_delay():
    settlement = Settlement(entry_id=1, claim_token="t", idempotency_key="key", status=Status.PENDING)
    assert (settlement.counted, settlement.released, settlement.delay_s) == (False, False, 0)


def test_a_new_entry_makes_its_first_attempt_and_is_no_suspect():
    new = entry()
    assert (new.retry_count, new.attempt, new.crash_count, new.age_s, new.is_suspect) == (0, 1, 0, 0, False)
    assert entry(crash_count=1).is_suspect
    assert entry(retry_count=1).attempt == 2


# The boundaries of the retry policy


def test_the_default_policy_has_three_attempts_and_waits_from_ten_seconds_to_fifteen_minutes():
    policy = RetryPolicy()
    assert (policy.max_retries, policy.backoff_s, policy.backoff_cap_s, policy.deadline_s) == (3, 10, 900, None)


@pytest.mark.parametrize(
    ("failures", "expected"), [(1, 10), (2, 20), (3, 40), (32, 10 * 2**31), (33, 10 * 2**32), (34, 10 * 2**32)]
)
def test_the_bound_of_the_wait_doubles_with_each_failure_32_times(failures, expected):
    policy = RetryPolicy(backoff_s=10, backoff_cap_s=1e30)
    assert policy.delay_s(failures=failures, retry_after_s=None, random=lambda: 1.0) == expected


@pytest.mark.parametrize(("draw", "expected"), [(0.0, 0), (0.25, 5), (1.0, 20)])
def test_the_wait_is_drawn_from_nothing_up_to_its_bound(draw, expected):
    assert POLICY.delay_s(failures=2, retry_after_s=None, random=lambda: draw) == expected


@pytest.mark.parametrize(
    ("age_s", "status"), [(0, Status.PENDING), (55, Status.PENDING), (55.1, Status.FAILED), (61, Status.FAILED)]
)
def test_a_retry_may_be_due_at_the_deadline_and_not_after_it(age_s, status):
    policy = RetryPolicy(max_retries=3, backoff_s=10, deadline_s=60)
    settlement = settled(Transient(reason="503"), policy=policy, age_s=age_s)  # the wait is 5 s
    assert settlement.status is status
    assert settlement.counted
    if status is Status.FAILED:
        assert settlement.error_message == "gave up at its deadline, 60 s: 503"


def test_the_last_attempt_fails_as_such_also_after_the_deadline():
    policy = RetryPolicy(max_retries=1, deadline_s=60)
    settlement = settled(Transient(reason="503"), policy=policy, age_s=1000)
    assert settlement.error_message == "gave up after 1 of 1 attempts: 503"


# What a fault of credentials means for its entry


@pytest.mark.parametrize(
    ("certain", "status", "trusted", "doubts", "expected"),
    [
        (True, None, True, 20, Interrupted(reason="refused")),
        (True, None, False, 20, Interrupted(reason="refused")),
        (False, 403, False, 0, Doubted(reason="refused", response_status=403, result="page")),
        (False, 403, False, 19, Doubted(reason="refused", response_status=403, result="page")),
        (False, 403, False, 20, Transient(reason="refused", response_status=403, result="page")),
        (False, 403, True, 0, Permanent(reason="refused", response_status=403, result="page")),
        (False, 403, True, 20, Permanent(reason="refused", response_status=403, result="page")),
        (False, None, True, 0, Transient(reason="refused")),
        (False, None, False, 0, Doubted(reason="refused")),
        (False, None, False, 20, Transient(reason="refused")),
    ],
)
def test_a_fault_of_credentials_costs_an_attempt_after_a_2xx_or_after_twenty_doubts(
    certain, status, trusted, doubts, expected
):
    result = None if status is None else "page"
    fault = CredentialsFault(reason="refused", certain=certain, response_status=status, result=result)
    assert outcome_of(fault, trusted=trusted, doubts=doubts) == expected


def test_a_doubted_entry_is_released_and_its_doubt_is_counted():
    settlement = settled(Doubted(reason="refused", response_status=403))
    assert (settlement.status, settlement.released, settlement.doubted) == (Status.PENDING, True, True)
    assert not settlement.counted
    assert not settled(Interrupted(reason="a stop")).doubted


# What a text column takes


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("", ""),
        ("plain", "plain"),
        ("ü😀", "ü😀"),
        ("a\0b", "a\ufffdb"),
        ("\ud800 ü \udc00", "\ufffd ü \ufffd"),
        ("\ud83d\ude00", "😀"),
    ],
)
def test_a_text_becomes_storable_and_otherwise_stays_as_it_is(value, expected):
    assert storable(value) == expected
