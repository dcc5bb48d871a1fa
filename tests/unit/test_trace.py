"""Which trace a delivery belongs to: the producer's, if it named one that the standard knows."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rowqueue.lifecycle import Entry
from rowqueue.processor.exchange import headers
from rowqueue.processor.trace import trace_of

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"


def entry(traceparent, **columns):
    values = {"id": 1, "data": "{}", "idempotency_key": "key", "claim_token": "token"}
    return Entry(**values | columns, traceparent=traceparent)


def sent(traceparent):
    return headers(entry(traceparent), span=5)["traceparent"]


@pytest.mark.parametrize(
    ("traceparent", "flags"),
    [
        (PARENT, "01"),
        (f"00-{TRACE}-{SPAN}-00", "00"),
        (f"00-{TRACE}-{SPAN}-03", "01"),
        (f"cc-{TRACE}-{SPAN}-01", "01"),
        (f"cc-{TRACE}-{SPAN}-01-what a later version adds", "01"),
    ],
)
def test_the_producers_trace_is_continued_with_a_span_of_the_delivery(traceparent, flags):
    assert sent(traceparent) == f"00-{TRACE}-0000000000000005-{flags}"
    assert trace_of(entry(traceparent)).trace_id == TRACE


@pytest.mark.parametrize(
    "traceparent",
    [
        "",
        "nonsense",
        PARENT.upper(),
        f" {PARENT}",
        f"{PARENT}\n",
        f"{PARENT}-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-1",
        f"{PARENT}\r\nX-Evil: 1",
        "中😀" * 1000,
    ],
)
def test_what_is_no_traceparent_is_ignored(traceparent):
    assert sent(traceparent) == sent(None)
    assert trace_of(entry(traceparent)) == trace_of(entry(None))


@given(st.text())
def test_whatever_a_producer_writes_the_header_is_valid(traceparent):
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]", sent(traceparent))


def test_without_a_producers_trace_every_delivery_of_an_entry_has_the_same_and_every_entry_its_own():
    again = entry(None, retry_count=1, claim_token="other")
    assert trace_of(entry(None)) == trace_of(again)
    assert trace_of(entry(None)) != trace_of(entry(None, idempotency_key="another"))
