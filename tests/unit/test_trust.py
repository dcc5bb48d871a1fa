"""Whether the service accepts our credentials, case by case."""

from __future__ import annotations

import pytest

from rowqueue.lifecycle import CredentialsFault, Doubted, Entry, Interrupted, Permanent, Succeeded, Transient
from rowqueue.processor.trust import Trust

REFUSED = CredentialsFault(reason="401", certain=False, response_status=401)
CUT = CredentialsFault(reason="closed", certain=False)
PAGE = CredentialsFault(reason="a page", certain=False, response_status=400, result="<html>")
CERTAIN = CredentialsFault(reason="unknown CA", certain=True)
ACCEPTED = Succeeded(response_status=200)


def trust_after(*verdicts, doubts=0):
    trust = Trust()
    for number, verdict in enumerate(verdicts):
        entry = Entry(id=number, data="{}", idempotency_key="k", claim_token="t", doubts=doubts)
        trust.weigh(entry, verdict, began=float(number))
    return trust


@pytest.mark.parametrize(
    ("verdicts", "grave"),
    [
        ([], False),
        ([REFUSED] * 2, False),
        ([REFUSED] * 3, True),
        ([PAGE] * 2, False),
        ([REFUSED, CUT, PAGE], True),
        ([CERTAIN], True),
    ],
    ids=["none", "two", "three", "two pages", "three of three kinds", "a certain one"],
)
def test_three_refused_entries_or_one_certain_fault_are_grave(verdicts, grave):
    assert trust_after(*verdicts).grave is grave


def test_a_certain_fault_is_reported_before_others():
    trust = trust_after(REFUSED, CERTAIN, CUT)
    trust.decide()
    assert trust.gravest() is CERTAIN


def test_without_a_certain_fault_the_first_one_is_reported():
    trust = trust_after(CUT, REFUSED)
    trust.decide()
    assert trust.gravest() is CUT
    assert trust_after().gravest() is None


@pytest.mark.parametrize(
    ("verdicts", "cleared"),
    [([REFUSED, ACCEPTED], True), ([REFUSED], False), ([ACCEPTED], False), ([CERTAIN, ACCEPTED], False)],
    ids=["then a 2xx", "no 2xx", "nothing doubtful", "a certain fault"],
)
def test_a_2xx_clears_a_doubt_that_is_not_certain(verdicts, cleared):
    assert trust_after(*verdicts).cleared is cleared


@pytest.mark.parametrize(
    ("verdicts", "doubts", "outcomes"),
    [
        ([REFUSED, CUT, PAGE], 19, [Doubted, Doubted, Doubted]),
        ([REFUSED, CUT, PAGE, ACCEPTED], 0, [Permanent, Transient, Permanent]),
        ([REFUSED, CUT, PAGE], 20, [Transient, Transient, Transient]),
        ([CERTAIN], 20, [Interrupted]),
    ],
    ids=["released", "their own faults", "doubted often enough", "nobody pays for a certificate"],
)
def test_a_decision_gives_each_doubtful_entry_an_outcome_and_leaves_none(verdicts, doubts, outcomes):
    trust = trust_after(*verdicts, doubts=doubts)
    assert [type(outcome) for _, outcome in trust.decide()] == outcomes
    assert trust.doubtful == []


def test_a_fault_after_a_2xx_is_no_doubt():
    assert trust_after(ACCEPTED, REFUSED).doubtful == []
    assert trust_after(ACCEPTED, PAGE).doubtful == []
    assert len(trust_after(ACCEPTED, CERTAIN).doubtful) == 1


@pytest.mark.parametrize(
    ("verdict", "answered", "unanswered"),
    [
        (ACCEPTED, True, None),
        (Permanent(reason="400", response_status=400), True, None),
        (Permanent(reason="data is not JSON"), False, None),
        (Transient(reason="503", response_status=503), True, None),
        (Transient(reason="no connection"), False, "no connection"),
        (REFUSED, False, None),
    ],
)
def test_what_counts_as_an_answer(verdict, answered, unanswered):
    trust = trust_after(verdict)
    assert (trust.answered, trust.unanswered) == (answered, unanswered)
