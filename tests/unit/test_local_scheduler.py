"""Times and events of schedules."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from rowqueue_local.aws.scheduler import Due, Schedule, agenda_after, event_of, moved_on, period_of

MINUTELY = Schedule(
    arn="arn:aws:scheduler:eu-west-1:123456789012:schedule/default/minutely",
    region="eu-west-1",
    expression="rate(1 minute)",
    target="arn:aws:lambda:eu-west-1:123456789012:function:poller",
    input="{}",
)


@pytest.mark.parametrize(
    ("expression", "seconds"),
    [
        ("rate(1 minute)", 60),
        ("rate(5 minutes)", 300),
        ("rate(1 hour)", 3_600),
        ("rate(2 days)", 172_800),
        ("rate(0 minutes)", None),
        ("rate(1 second)", None),
        ("every minute please", None),
        ("cron(0 9 * * ? *)", None),
        ("at(2026-11-20T17:00:00)", None),
    ],
)
def test_a_rate_is_a_period_and_anything_else_is_not_run(expression, seconds):
    assert period_of(replace(MINUTELY, expression=expression)) == seconds


def test_only_functions_are_invoked_and_only_schedules_without_bounds_are_run():
    assert period_of(replace(MINUTELY, target="arn:aws:sqs:eu-west-1:123456789012:queue")) is None
    assert period_of(replace(MINUTELY, bounded=True)) is None


def test_a_new_schedule_is_due_a_period_after_it_was_seen():
    assert agenda_after({}, [MINUTELY], 1_000.0, None) == {MINUTELY.arn: Due(1_060.0, 60.0)}


def test_a_tick_replaces_every_period():
    assert agenda_after({}, [MINUTELY], 1_000.0, 2.5) == {MINUTELY.arn: Due(1_002.5, 2.5)}


def test_a_known_schedule_keeps_its_time_and_a_deleted_one_is_forgotten():
    agenda = {MINUTELY.arn: Due(1_060.0, 60.0), "deleted": Due(1_001.0, 60.0)}
    another_input = replace(MINUTELY, input='{"since": 1}')
    assert agenda_after(agenda, [another_input], 1_030.0, None) == {MINUTELY.arn: Due(1_060.0, 60.0)}


def test_a_schedule_with_another_rate_begins_a_new_period():
    agenda = {MINUTELY.arn: Due(1_060.0, 60.0)}
    slower = replace(MINUTELY, expression="rate(2 minutes)")
    assert agenda_after(agenda, [slower], 1_030.0, None) == {MINUTELY.arn: Due(1_150.0, 120.0)}


def test_the_next_time_is_a_period_later_however_late_this_one_was_noticed():
    assert moved_on(Due(1_060.0, 60.0), 1_060.4).at == 1_120.0


def test_missed_times_are_skipped():
    assert moved_on(Due(1_060.0, 60.0), 5_000.0).at == 5_060.0


def test_the_placeholders_of_an_input_are_replaced():
    names = ("scheduled-time", "schedule-arn", "execution-id", "attempt-number", "unknown")
    schedule = replace(MINUTELY, input=" ".join(f"<aws.scheduler.{name}>" for name in names))
    event = event_of(schedule, datetime(2026, 11, 20, 17, 0, 5, 999_999, tzinfo=UTC), "id-1")
    assert event == f"2026-11-20T17:00:05Z {MINUTELY.arn} id-1 1 <aws.scheduler.unknown>"
