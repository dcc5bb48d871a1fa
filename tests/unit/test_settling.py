"""How finished deliveries are cut into statements."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from processor_played import flushes

from rowqueue.lifecycle import Entry, Interrupted, RetryPolicy, Succeeded, Transient, settlement_for
from rowqueue.processor.queue import ProcessorStore
from rowqueue.processor.settling import MAX_FLUSH_BYTES, Delivery, attempts_of


class MeasuredWarehouse:
    """Keeps the texts that are bound."""

    def __init__(self):
        self.sent = []

    def change(self, statement, values):
        if statement.name == "insert_attempts":
            self.sent.append(values["attempts"])
        return len(json.loads(self.sent[-1]))


def delivery(number, characters=0, *, began=1.0):
    entry = Entry(id=number, data="{}", idempotency_key="key", claim_token="token")
    outcome = Succeeded(response_status=200, result="x" * characters)
    return Delivery(entry=entry, outcome=outcome, began=began, ended=2.0)


def settled(ended):
    return settlement_for(ended.entry, ended.outcome, RetryPolicy(), random=lambda: 0.5)


@given(st.lists(st.integers(0, 400_000), max_size=12))
def test_each_flush_fits_into_a_statement_and_nothing_is_left_out(sizes):
    items = [delivery(number, size) for number, size in enumerate(sizes)]
    cut = list(flushes(items))
    assert [item for flush in cut for item in flush] == items
    assert all(flush for flush in cut)
    for flush in cut:
        assert sum(len(item.outcome.result) for item in flush) <= MAX_FLUSH_BYTES


@given(st.lists(st.text(alphabet='aé😀"\\\n\x01', max_size=40), min_size=1, max_size=60), st.integers(1, 4000))
def test_each_statement_stays_under_a_megabyte_whatever_the_answers_contain(texts, times):
    items = []
    for number, text in enumerate(texts):
        entry = Entry(id=number, data="{}", idempotency_key="key", claim_token="0" * 32)
        outcome = Transient(reason=text * times, result=text * times, response_status=503)
        items.append(Delivery(entry=entry, outcome=outcome, began=1.0, ended=2.0))
    for flush in flushes(items):
        settlements = [settled(ended) for ended in flush]
        warehouse = MeasuredWarehouse()
        store = ProcessorStore(warehouse, queue="Q", processor_id="dev-1", max_retries=3)
        store.settle(settlements, attempts_of(flush, settlements, now=3.0))
        assert len(flush) == 1 or max(len(text.encode()) for text in warehouse.sent) < 1_000_000


def test_an_answer_too_long_for_any_statement_still_goes_alone():
    assert [len(flush) for flush in flushes([delivery(1), delivery(2, MAX_FLUSH_BYTES), delivery(3)])] == [1, 1, 1]


def test_what_never_started_has_no_attempt():
    entry = Entry(id=1, data="{}", idempotency_key="key", claim_token="token")
    never = Delivery(entry=entry, outcome=Interrupted(reason="never started"), began=None, ended=2.0)
    assert attempts_of([never], [settled(never)], now=3.0) == []


def test_times_are_sent_as_how_long_ago_they_were():
    ended = delivery(1, began=1.25)
    (attempt,) = attempts_of([ended], [settled(ended)], now=3.0)
    assert (attempt.started_ms_ago, attempt.finished_ms_ago) == (1750, 1000)
