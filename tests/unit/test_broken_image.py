"""What an image costs that dies at boot, or a fleet that is interrupted, over an hour of ticks and pushes."""

from __future__ import annotations

from datetime import timedelta

import pytest
from poller_played import ECS, NAIVE, NOW, S3, PlayedWarehouse, pulse, tick

from rowqueue import observability

CAP, HOUR_S, PUSH_EVERY_S = 25, 3600, 10
START_S, END_S, GONE_S = 20, 40, 60
"""Ages at which a task starts, ends and has stopped."""


@pytest.fixture(autouse=True)
def _structured():
    observability.configure("poller", environment="dev")


class AgingECS(ECS):
    """An ECS with a clock. Each task ends in the same way."""

    def __init__(self, *, ending):
        super().__init__()
        self.now = NOW
        self._ending = ending

    def at(self, now):
        self.now = now
        self.tasks = [self._aged(one, (now - one["createdAt"]).total_seconds()) for one in self.tasks]

    def _aged(self, one, age_s):
        started = one["createdAt"] + timedelta(seconds=START_S)
        aged = one | ({"startedAt": started} if age_s >= START_S else {"lastStatus": "PROVISIONING", "startedAt": None})
        if age_s >= END_S:
            aged |= {"desiredStatus": "STOPPED", "lastStatus": "STOPPING"} | self._ending
        return aged | ({"lastStatus": "STOPPED"} if age_s >= GONE_S else {})


def crowded(ready, *, seen=()):
    """Always as many ready entries."""
    return PlayedWarehouse(
        pulse=pulse(pending=ready, available=NAIVE),
        count_ready=[(ready, 0)],
        processors_seen=[(name,) for name in seen],
    )


def hour(ecs, ready):
    """Ticks each minute and pushes in between; returns how often the entries were counted."""
    s3, counts = S3(now=lambda: ecs.now), 0
    for passed_s in range(0, HOUR_S, PUSH_EVERY_S):
        ecs.at(NOW + timedelta(seconds=passed_s))
        warehouse = crowded(ready)
        tick(warehouse, ecs, s3=s3, now=ecs.now, MAX_CONTAINERS=str(CAP))
        counts += warehouse.sent.count("count_ready")
    return counts


@pytest.mark.parametrize(
    "ending",
    [
        {"stopCode": "EssentialContainerExited", "containers": [{"name": "processor", "exitCode": 1}]},
        {"stopCode": "TaskFailedToStart", "stoppedReason": "CannotPullContainerError: not found", "startedAt": None},
    ],
    ids=["exit code 1", "pull"],
)
def test_in_an_hour_a_broken_image_costs_the_first_launch_and_one_task_per_wait(ending):
    ecs = AgingECS(ending=ending)
    counts = hour(ecs, 800)
    # Waits of 2, 4, 8, 15, 15 ... minutes after the first launch.
    assert CAP < len(ecs.tasks) <= CAP + 7
    assert counts <= len(ecs.tasks), "a tick that launches nothing does not count"


def test_after_one_of_nine_is_interrupted_the_others_needed_are_launched_at_once():
    ecs = ECS()
    s3 = S3()
    tick(crowded(72), ecs, s3=s3, MAX_CONTAINERS="100")
    assert len(ecs.tasks) == 9
    interrupted = {"desiredStatus": "STOPPED", "lastStatus": "STOPPING", "stopCode": "SpotInterruption"}
    ecs.tasks[0] |= interrupted | {"containers": [{"name": "processor", "exitCode": 143}]}
    report = tick(crowded(800), ecs, s3=s3, now=NOW + timedelta(seconds=30), MAX_CONTAINERS="100")
    assert len(report.launched.started) == 91, "a hundred are needed, and one of the cap is still stopping"


def test_one_of_nine_that_died_while_the_others_start_is_not_replaced_before_they_are_judged():
    ecs = ECS()
    s3 = S3()
    tick(crowded(72), ecs, s3=s3, MAX_CONTAINERS="100")
    ended = {"desiredStatus": "STOPPED", "lastStatus": "STOPPED", "stopCode": "EssentialContainerExited"}
    ecs.tasks[0] |= ended | {"containers": [{"name": "processor", "exitCode": 1}]}
    report = tick(crowded(800), ecs, s3=s3, now=NOW + timedelta(seconds=20), MAX_CONTAINERS="100")
    assert len(report.launched.started) == 91
