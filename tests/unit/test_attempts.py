"""What is sent of finished deliveries, and in how many statements."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rowqueue.lifecycle import Entry, Interrupted, RetryPolicy, Succeeded, Transient, settlement_for
from rowqueue.processor.attempts import Delivery, attempts_of
from rowqueue.processor.parts import MAX_STATEMENT_BYTES, parts_of
from rowqueue.processor.store import ProcessorStore
from rowqueue.sql import Attempt

ENTRY_ID = Attempt._fields.index("entry_id")


class MeasuredWarehouse:
    """Keeps the texts that are bound.

    Attributes:
        sent: what the INSERTs bound.
        statements: the names of all statements.
    """

    def __init__(self):
        self.sent = []
        self.statements = []

    def change(self, statement, values):
        self.statements.append(statement.name)
        if statement.name == "insert_attempts":
            self.sent.append(values["attempts"])
        return sum(len(json.loads(text)) for text in self.sent)


def delivery(number, characters=0, *, began=1.0):
    entry = Entry(id=number, data="{}", idempotency_key="key", claim_token="token")
    outcome = Succeeded(response_status=200, result="x" * characters)
    return Delivery(entry=entry, outcome=outcome, began=began, ended=2.0)


def settled(ended):
    return settlement_for(ended.entry, ended.outcome, RetryPolicy(), random=lambda: 0.5)


@given(st.lists(st.text(alphabet='aé😀"\\\n\x01', max_size=40), min_size=1, max_size=60), st.integers(1, 4000))
def test_each_statement_stays_under_a_megabyte_whatever_the_answers_contain(texts, times):
    items = []
    for number, text in enumerate(texts):
        entry = Entry(id=number, data="{}", idempotency_key="key", claim_token="0" * 32)
        outcome = Transient(reason=text * times, result=text * times, response_status=503)
        items.append(Delivery(entry=entry, outcome=outcome, began=1.0, ended=2.0))
    warehouse = sent_for(items)
    assert max(len(text.encode()) for text in warehouse.sent) < 1_000_000 or len(items) == 1
    assert [row[ENTRY_ID] for text in warehouse.sent for row in json.loads(text)] == list(range(len(items)))


def sent_for(items):
    warehouse = MeasuredWarehouse()
    settlements = [settled(ended) for ended in items]
    store = ProcessorStore(warehouse, queue="Q", processor_id="dev-1", max_retries=3)
    assert store.settle(settlements, attempts_of(items, settlements, now=3.0)) == frozenset()
    return warehouse


def test_large_answers_are_sent_in_several_inserts_and_settled_by_one_update():
    warehouse = sent_for([delivery(number, 16_000) for number in range(120)])
    assert warehouse.statements == ["insert_attempts"] * 3 + ["settle"]


def test_an_answer_too_long_for_any_statement_still_goes_alone():
    sizes = [0, MAX_STATEMENT_BYTES, 0]
    warehouse = sent_for([delivery(number, size) for number, size in enumerate(sizes)])
    assert [len(json.loads(text)) for text in warehouse.sent] == [1, 1, 1]


@given(st.lists(st.integers(0, 400_000), max_size=12))
def test_each_part_fits_into_a_statement_and_nothing_is_left_out(sizes):
    parts = list(parts_of(sizes, lambda size: ["x" * size]))
    assert [size for part in parts for size in part.items] == sizes
    assert all(0 < len(part.text) <= MAX_STATEMENT_BYTES + 1 for part in parts)
    assert [json.loads(part.text) for part in parts] == [[["x" * size] for size in part.items] for part in parts]


@pytest.mark.parametrize(
    ("sizes", "parts"),
    [([450_000, 450_000], [2]), ([450_000, 450_001], [1, 1]), ([300_000, 300_000, 300_001, 300_000], [2, 2])],
)
def test_a_part_has_up_to_900_000_bytes_with_the_comma_after_each_row(sizes, parts):
    assert [
        len(part.items) for part in parts_of(sizes, lambda size: "é" * ((size - 3) // 2) + "x" * (1 - size % 2))
    ] == parts


def test_what_never_started_has_no_attempt():
    entry = Entry(id=1, data="{}", idempotency_key="key", claim_token="token")
    never = Delivery(entry=entry, outcome=Interrupted(reason="never started"), began=None, ended=2.0)
    assert attempts_of([never], [settled(never)], now=3.0) == []


def test_times_are_sent_as_how_long_ago_they_were():
    ended = delivery(1, began=1.25)
    (attempt,) = attempts_of([ended], [settled(ended)], now=3.0)
    assert (attempt.started_ms_ago, attempt.finished_ms_ago) == (1750, 1000)
