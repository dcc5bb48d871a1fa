"""Which live tasks are starting, working, hung or overdue."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rowqueue.poller.fleet import Task, survey

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
BOOT, OLDEST = 180, 580


def task(name="a", *, created=None, started=None):
    ago = lambda seconds: None if seconds is None else NOW - timedelta(seconds=seconds)  # noqa: E731
    return Task(arn=f"arn:aws:ecs:eu-west-1:1:task/c/{name}", created_at=ago(created), started_at=ago(started))


def kind(one, *, claimed):
    fleet = survey([one], claimed={one.arn} if claimed else set(), now=NOW, boot_deadline_s=BOOT, oldest_task_s=OLDEST)
    if fleet.starting:
        return "starting"
    return "hung" if fleet.hung else "overdue" if fleet.overdue else "working"


@pytest.mark.parametrize(
    ("created", "started", "claimed", "expected"),
    [
        (5, None, False, "starting"),
        (179, None, False, "starting"),
        (180, None, False, "hung"),  # never started: the request is what counts
        (400, 100, False, "starting"),  # a slow pull: its start is what counts
        (400, 180, False, "hung"),
        (None, None, False, "starting"),  # listed, and not described yet
        (300, 290, True, "working"),
        (600, 579, True, "working"),
        (600, 580, True, "overdue"),
    ],
)
def test_a_task_is_judged_by_its_age_and_by_whether_it_has_claimed(created, started, claimed, expected):
    assert kind(task(created=created, started=started), claimed=claimed) == expected


@given(ages=st.lists(st.tuples(st.integers(0, 2000), st.booleans()), max_size=30))
def test_every_live_task_is_of_at_most_one_kind(ages):
    tasks = [task(f"{n}", created=age) for n, (age, _) in enumerate(ages)]
    claimed = {t.arn for t, (_, has) in zip(tasks, ages, strict=True) if has}
    fleet = survey(tasks, claimed=claimed, now=NOW, boot_deadline_s=BOOT, oldest_task_s=OLDEST)
    assert fleet.live == len(tasks)
    assert fleet.starting + len(fleet.hung) + len(fleet.overdue) <= fleet.live
    assert fleet.starting + len(fleet.hung) == len(tasks) - len(claimed)
    assert not {t.arn for t in fleet.hung} & {t.arn for t in fleet.overdue}
