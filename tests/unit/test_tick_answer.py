"""What the function answers after a tick: how many entries wait, and why."""

from __future__ import annotations

import json
from datetime import timedelta
from types import SimpleNamespace

import pytest
from poller_played import ECS, NAIVE, S3, PlayedWarehouse, dead, pulse, ready, task, tick

from rowqueue.poller.report import answer_of

LATER = NAIVE + timedelta(days=2)
FOREVER = NAIVE.replace(year=9999)


def answered(warehouse, ecs=None, **given):
    answer = answer_of(tick(warehouse, ecs or ECS(), **given), environment="dev")
    return json.loads(json.dumps(answer))


def with_pending(**changes):
    """Nine entries, the first of which has been ready for a moment."""
    seen = pulse(pending=9, **({"available": NAIVE} | changes))
    return PlayedWarehouse(pulse=seen, count_ready=[(9, 0)], processors_seen=[])


def test_entries_behind_a_hold_are_pending_and_the_hold_is_named_with_its_end():
    answer = answered(with_pending(holds=1, held_until=NAIVE + timedelta(minutes=4)))
    assert (answer["pendingEntries"], answer["readyEntries"], answer["containersLaunched"]) == (9, None, 0)
    assert answer["reason"] == "a hold stands"
    assert answer["hold"] == {"reason": "why", "until": "2026-11-20T12:04:30Z"}


def test_a_hold_that_a_person_has_to_end_has_no_end():
    assert answered(with_pending(holds=1, held_until=FOREVER))["hold"] == {"reason": "why", "until": None}


def test_a_hold_that_has_ended_is_named_until_its_probe_was_answered():
    answer = answered(with_pending(holds=1, held_until=NAIVE - timedelta(seconds=1)), ECS([task("old")]))
    assert answer["hold"] == {"reason": "why", "until": "2026-11-20T12:00:29Z"}
    assert answer["reason"] == "a hold has ended, its probe waits until no task is left"
    assert (answer["pendingEntries"], answer["readyEntries"]) == (9, 9)


@pytest.mark.parametrize("hold", [{}, {"holds": 1, "held_until": NAIVE}], ids=["no hold", "after a hold"])
def test_entries_that_wait_while_launches_are_paused_are_pending_and_the_setting_is_named(hold):
    answer = answered(with_pending(**hold), MAX_CONTAINERS="0")
    assert (answer["pendingEntries"], answer["readyEntries"]) == (9, None)
    assert answer["reason"] == "MAX_CONTAINERS is 0"


def test_entries_that_wait_for_the_back_off_are_pending_and_its_end_is_named():
    answer = answered(with_pending(), ECS([dead(f"{n}", age_s=70, exit_code=1) for n in range(10)]))
    assert (answer["pendingEntries"], answer["readyEntries"], answer["hold"]) == (9, None, None)
    assert answer["reason"].startswith("the last 10 launches failed (EssentialContainerExited, exit code 1")
    assert "; the next try is at 12:0" in answer["reason"]


@pytest.mark.parametrize(
    ("hold", "what"),
    [
        ({}, "nothing is ready"),
        ({"holds": 1, "held_until": NAIVE}, "a hold has ended, nothing is ready to probe with"),
    ],
    ids=["no hold", "after a hold"],
)
def test_entries_that_are_scheduled_for_later_are_pending_and_the_next_time_is_named(hold, what):
    answer = answered(with_pending(available=LATER, **hold))
    assert (answer["pendingEntries"], answer["readyEntries"]) == (9, None)
    assert answer["reason"] == f"{what}; the next entry is due at 2026-11-22 12:00:30 UTC"
    assert answer["nextDueAt"] == "2026-11-22T12:00:30Z"


def test_tasks_that_ecs_did_not_start_are_named_with_the_reason():
    refused = ECS(run=lambda _: {"tasks": [], "failures": [{"reason": "Capacity is unavailable at this time"}] * 2})
    answer = answered(with_pending(), refused, ENTRIES_PER_CONTAINER="5")
    assert answer["containersLaunched"] == 0
    assert answer["reason"].endswith(
        " entries, less those starting; 2 not started: Capacity is unavailable at this time"
    )


def test_tasks_that_the_tick_had_no_time_for_are_named():
    ecs = ECS()
    ecs.run = lambda request: ecs._start(request) if len(ecs.requests) == 1 else pytest.fail("no time was left")
    answer = answered(ready(200), ecs, seconds_left=lambda: 50.0 if not ecs.requests else 0.0)
    assert answer["reason"].endswith("; 15 left to the next tick, for lack of time")


def test_pending_entries_of_a_destination_that_nobody_serves_are_named_in_the_answer_and_in_the_line(capsys):
    answer = answered(PlayedWarehouse(pulse=pulse(unserved=2, unserved_destination="acme")))
    named = "nothing is ready; 2 pending are of destinations that no program serves, such as 'acme'"
    assert (answer["pendingEntries"], answer["reason"]) == (0, named)
    (line,) = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"tick"' in line]
    assert (line["reason"], line["unserved"], line["unserved_destination"]) == (named, 2, "acme")


def test_the_line_of_a_tick_has_the_kind_of_the_hold(capsys):
    warehouse = with_pending(holds=1, held_until=FOREVER, hold_kind="fence", hold_reason="version 2")
    assert answered(warehouse)["hold"] == {"reason": "version 2", "until": None}
    (line,) = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"tick"' in line]
    assert (line["hold"], line["hold_kind"]) == ("version 2", "fence")


def test_an_empty_queue_has_nothing_pending_and_nothing_due():
    assert answered(PlayedWarehouse(pulse=pulse())) == {
        "pendingEntries": 0,
        "readyEntries": None,
        "reason": "nothing is ready",
        "hold": None,
        "nextDueAt": None,
        "staleEntriesReset": 0,
        "entriesRescued": 0,
        "containersLaunched": 0,
        "tasks": [],
    }


def test_what_was_counted_is_ready_and_the_tasks_that_were_started_are_named():
    answer = answered(with_pending())
    assert (answer["pendingEntries"], answer["readyEntries"], answer["containersLaunched"]) == (9, 9, 2)
    assert [one["processorId"] for one in answer["tasks"]] == ["dev-new-0", "dev-new-1"]
    assert answer["nextDueAt"] is None


def test_an_entry_within_the_clock_skew_is_counted_and_still_due():
    warehouse = with_pending(available=NAIVE + timedelta(seconds=3))
    warehouse.answers["count_ready"] = [(0, 0)]
    answer = answered(warehouse)
    assert answer["readyEntries"] == 0
    assert answer["reason"] == "nothing is ready; the next entry is due at 2026-11-20 12:00:33 UTC"


def test_a_tick_does_not_report_what_another_tick_of_the_same_period_started():
    ecs, s3 = ECS(), S3()
    first = answered(ready(20), ecs, s3=s3)
    second = answered(ready(20), ecs, s3=s3)
    assert (first["containersLaunched"], second["containersLaunched"], second["tasks"]) == (3, 0, [])
    ecs.get_paginator = lambda _: SimpleNamespace(paginate=lambda **_: [{"taskArns": []}])  # not listed yet
    third = answered(ready(28), ecs, s3=s3)
    assert third["containersLaunched"] == 1
    assert not {one["taskArn"] for one in first["tasks"]} & {one["taskArn"] for one in third["tasks"]}
