"""A program and tables of different releases: who says so, with both versions, and what is not done."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from poller_played import ENVIRON, NAIVE, NOW, PlayedWarehouse, pulse

from rowqueue.contract import SCHEMA_VERSION
from rowqueue.errors import ObjectMissing, SchemaError, StatementRefused
from rowqueue.poller.decide import Decision, Observation, decide
from rowqueue.poller.queue import PollerQueue
from rowqueue.poller.records import Pulse
from rowqueue.processor.store import ProcessorStore
from rowqueue.settings import PollerSettings

SETTINGS = PollerSettings.from_env(ENVIRON)
NEXT = SCHEMA_VERSION + 1
MISSING = ObjectMissing("Snowflake: invalid identifier 'COLOUR'; run: rowqueue migrate", errno=904)


def store(**answers):
    warehouse = PlayedWarehouse(**answers)
    return ProcessorStore(warehouse, queue="Q", processor_id="p", max_retries=3, sleep=lambda _: None)


def poller(**answers):
    return PollerQueue(PlayedWarehouse(**answers), queue="Q", max_retries=3)


def test_a_processor_accepts_tables_of_its_version_and_newer_ones_that_permit_it():
    store(schema_version=[(SCHEMA_VERSION, SCHEMA_VERSION)]).require_schema()
    store(schema_version=[(NEXT, SCHEMA_VERSION)]).require_schema()


@pytest.mark.parametrize(
    ("versions", "says"),
    [
        ((None, None), f"this program needs version {SCHEMA_VERSION} of the tables, and they have none"),
        ((NEXT, NEXT), f"the tables permit programs from version {NEXT} on, and this one is {SCHEMA_VERSION}"),
    ],
)
def test_a_processor_that_does_not_fit_the_tables_says_both_versions(versions, says):
    with pytest.raises(SchemaError, match=says):
        store(schema_version=[versions]).require_schema()


def test_tables_without_a_version_are_named_with_what_to_run():
    with pytest.raises(
        SchemaError, match=r"needs version \d of the tables, and they have none: .*run: rowqueue migrate"
    ):
        store(schema_version=MISSING).require_schema()


def test_the_poller_reads_the_version_from_its_pulse():
    with pytest.raises(SchemaError, match=r"needs version .*: run: rowqueue migrate"):
        poller(pulse=pulse(version=SCHEMA_VERSION - 1)).pulse()
    assert poller(pulse=pulse(version=NEXT)).pulse().version == NEXT


def test_the_poller_asks_for_the_version_if_its_pulse_names_something_that_is_missing():
    with pytest.raises(SchemaError, match="they have none"):
        poller(pulse=MISSING, schema_version=[(None, None)]).pulse()
    with pytest.raises(ObjectMissing, match="COLOUR"):  # the version is right, and a grant may be missing
        poller(pulse=MISSING, schema_version=[(SCHEMA_VERSION, 1)]).pulse()
    with pytest.raises(StatementRefused, match="syntax"):
        poller(pulse=StatementRefused("syntax", errno=1003)).pulse()


def observed(**columns):
    counts = {"exhausted": 0, "processing": 0, "earliest_claimed_at": None, "unknown": 0}
    return Observation(now=NOW, pulse=Pulse(pending=5, earliest_available_at=NAIVE, **counts, **columns))


def test_a_poller_that_is_too_old_launches_nothing_asks_nothing_and_says_so():
    decision = decide(observed(oldest_program=NEXT), SETTINGS)
    assert isinstance(decision, Decision)
    assert (decision.launch, decision.ready) == (0, None)
    assert decision.reason == f"the tables permit programs from version {NEXT} on, and this one is {SCHEMA_VERSION}"
    assert not isinstance(decide(observed(oldest_program=SCHEMA_VERSION), SETTINGS), Decision)


def test_how_long_a_fence_stands_is_measured():
    assert observed().fenced_s == 0
    since = observed(holds=1, held_until=NAIVE, fenced_since=NAIVE - timedelta(minutes=16))
    assert since.fenced_s == 960
    assert replace(since, now=NOW - timedelta(hours=1)).fenced_s == 0  # clocks differ
