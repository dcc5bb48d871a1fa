"""The rows that are sent as JSON: each statement finds under its names what the program put there."""

from __future__ import annotations

import json
import re

import pytest

from rowqueue import sql
from rowqueue.contract import AttemptOutcome
from rowqueue.lifecycle import Settlement, Status
from rowqueue.poller.queue import PollerQueue
from rowqueue.poller.records import Death
from rowqueue.processor.store import ProcessorStore
from rowqueue.sql import Attempt, ClaimedKey, SettlementRow


class RecordingWarehouse:
    """Keeps the text and the values of every statement."""

    def __init__(self, *, changed=1):
        self.sent = {}
        self.changed = changed

    def change(self, statement, values):
        self.sent[statement.name] = (statement.text, values)
        return self.changed

    def rows(self, statement, values):
        self.sent[statement.name] = (statement.text, values)
        return []


def read(text, rows):
    """What a statement reads from the first of these rows, by the names that it gives."""
    (row,) = json.loads(rows)
    if isinstance(row, dict):
        return {name: row[key] for key, name in re.findall(r"\.value:(\w+)::.*? AS (\w+)", text)}
    return {name: row[int(position)] for position, name in re.findall(r"\.value\[(\d+)\]::.*? AS (\w+)", text)}


@pytest.fixture
def settled():
    warehouse = RecordingWarehouse()
    store = ProcessorStore(warehouse, queue="Q", processor_id="dev-1", max_retries=3)
    settlement = Settlement(
        entry_id=11,
        claim_token="token",
        idempotency_key="key",
        status=Status.FAILED,
        counted=True,
        released=False,
        doubted=True,
        delay_s=1.5,
        response_status=503,
        result="the answer",
        error_message="the reason",
    )
    attempt = Attempt(
        claim_token="token",
        attempt=7,
        outcome=AttemptOutcome.TRANSIENT,
        response_status=504,
        status="pending",
        delay_ms=3000,
        error_message="why",
        entry_id=12,
        started_ms_ago=2000,
        finished_ms_ago=1000,
        idempotency_key="another key",
        trace_id="a trace",
        result="an answer",
    )
    store.settle([settlement], [attempt])
    return warehouse.sent


def test_a_settle_reads_each_field_where_it_was_put(settled):
    text, values = settled["settle_bound"]
    assert read(text, values["settlements"]) == {
        "settled_id": 11,
        "settled_token": "token",
        "settled_key": "key",
        "new_status": "failed",
        "counted": 1,
        "released": 0,
        "doubted": 1,
        "delay_ms": 1500,
        "new_response_status": 503,
        "new_result": "the answer",
        "new_error_message": "the reason",
    }


def test_the_audit_trail_reads_each_field_where_it_was_put(settled):
    text, values = settled["insert_attempts"]
    assert read(text, values["attempts"]) == {
        "claim_token": "token",
        "attempt": 7,
        "outcome": "transient",
        "response_status": 504,
        "status": "pending",
        "delay_ms": 3000,
        "error_message": "why",
        "entry_id": 12,
        "started_ms_ago": 2000,
        "finished_ms_ago": 1000,
        "idempotency_key": "another key",
        "trace_id": "a trace",
        "result": "an answer",
    }


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("record_deaths", {"dead_id": "dev-1", "reason": "exit code 137"}),
        ("fail_poison", {"dead_id": "dev-1", "reason": "exit code 137"}),
        ("release_dead", {"dead_id": "dev-1", "crashed": 1, "counted": 0, "reason": "exit code 137"}),
    ],
)
def test_the_statements_about_dead_workers_read_each_field_by_its_key(statement, expected):
    warehouse = RecordingWarehouse()
    poller = PollerQueue(warehouse, queue="Q", max_retries=3)
    deaths = [Death(processor_id="dev-1", reason="exit code 137", crashed=True, counted=False)]
    poller.record_deaths(deaths)
    poller.fail_poison(deaths, max_crashes=2)
    poller.release_dead(deaths)
    text, values = warehouse.sent[statement]
    assert read(text, values["deaths"]).items() >= expected.items()


def test_a_read_back_reads_each_field_where_it_was_put():
    warehouse = RecordingWarehouse(changed=0)
    store = ProcessorStore(warehouse, queue="Q", processor_id="dev-1", max_retries=3)
    store.settle([Settlement(entry_id=11, claim_token="token", idempotency_key="key", status=Status.COMPLETED)], [])
    text, values = warehouse.sent["settled"]
    assert read(text, values["claimed"]) == {"entry_id": 11, "sent_token": "token", "sent_key": "key"}


@pytest.mark.parametrize(
    ("row", "fields"),
    [("settlement", SettlementRow._fields), ("attempt", Attempt._fields), ("claimed", ClaimedKey._fields)],
)
def test_queries_name_every_field_of_a_row_and_never_its_position(row, fields):
    source = (sql.resources.files(sql) / "queries.sql").read_text()
    assert re.findall(rf"\.value\[\{{{row}\.(\w+)\}}\]", source) == list(fields)
    assert re.findall(r"\.value\[\d+\]", source) == []


def test_an_unknown_placeholder_is_refused_by_its_name():
    with pytest.raises(ValueError, match=r"\{settlement\.colour\}: expected one of \{attempt"):
        sql.load("-- name: x\nSELECT {settlement.colour}\n", queue="Q")
