"""The parts of ECS without processes: task states, the task book, capacity providers, image names."""

from __future__ import annotations

import pytest

from rowqueue_local.aws.errors import ApiError
from rowqueue_local.aws.fargate_book import REMEMBERED, TaskBook
from rowqueue_local.aws.fargate_launch import providers_of
from rowqueue_local.aws.fargate_processes import repository_of
from rowqueue_local.aws.fargate_tasks import FargateTask, TaskLaunch, describe

DEFINITION = {
    "taskDefinitionArn": "arn:aws:ecs:eu-west-1:123456789012:task-definition/worker:1",
    "family": "worker",
    "revision": 1,
    "cpu": "256",
    "memory": "512",
    "containerDefinitions": [{"name": "worker", "image": "worker"}],
}
LAUNCH = TaskLaunch(region="eu-west-1", cluster="main", definition=DEFINITION, overrides={}, group="family:worker")


def task(number=0):
    return FargateTask(task_id=f"{number:032x}", launch=LAUNCH, created_at=1_000.0)


def test_every_change_of_a_task_has_a_new_version():
    life = [task()]
    for change in (
        lambda t: t.pulling(1.0),
        lambda t: t.running(2.0),
        lambda t: t.exited(3.0, 0),
        lambda t: t.stopped(4.0),
    ):
        life.append(change(life[-1]))
    assert [moment.last_status for moment in life] == [
        "PROVISIONING",
        "PENDING",
        "RUNNING",
        "DEPROVISIONING",
        "STOPPED",
    ]
    versions = [moment.version for moment in life]
    assert versions == sorted(set(versions))


def test_the_first_reason_to_stop_is_kept():
    asked = task().running(1.0).asked_to_stop(2.0, code="UserInitiated", reason="hung")
    ended = asked.exited(3.0, 143).stopped(4.0)
    assert (ended.stop_code, ended.stopped_reason, ended.stopping_at) == ("UserInitiated", "hung", 2.0)


def test_overrides_of_the_size_are_what_a_task_is_described_with():
    launch = TaskLaunch(region="r", cluster="c", definition=DEFINITION, overrides={"cpu": "1024"}, group="g")
    described = describe(FargateTask(task_id="1", launch=launch, created_at=1.0), with_tags=True)
    assert (described["cpu"], described["memory"]) == ("1024", "512")


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/worker:v1@sha256:0123", "team/worker"),
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com/worker@sha256:0123", "worker"),
        ("localhost:5000/worker:v1", "worker"),
        ("localhost/worker", "worker"),
        ("team/worker:v1", "team/worker"),
        ("worker", "worker"),
    ],
)
def test_an_image_is_known_by_its_name_without_registry_tag_and_digest(image, name):
    assert repository_of(image) == name


@pytest.mark.parametrize(
    ("strategy", "count", "on_demand", "spot"),
    [
        ([{"capacityProvider": "FARGATE_SPOT", "weight": 1}], 5, 0, 5),
        ([{"capacityProvider": "FARGATE", "base": 10}], 3, 3, 0),
        ([{"capacityProvider": "FARGATE", "base": 2}, {"capacityProvider": "FARGATE_SPOT", "weight": 1}], 5, 2, 3),
        ([{"capacityProvider": "FARGATE", "weight": 1}, {"capacityProvider": "FARGATE_SPOT", "weight": 4}], 10, 2, 8),
    ],
)
def test_tasks_are_spread_by_base_and_then_by_weight(strategy, count, on_demand, spot):
    cluster = {"capacityProviders": ["FARGATE", "FARGATE_SPOT"]}
    chosen = providers_of({"capacityProviderStrategy": strategy}, cluster, count)
    assert (chosen.count("FARGATE"), chosen.count("FARGATE_SPOT")) == (on_demand, spot)


def test_the_cluster_s_default_strategy_is_used_if_the_request_has_none():
    spot = [{"capacityProvider": "FARGATE_SPOT", "weight": 1}]
    cluster = {"capacityProviders": ["FARGATE_SPOT"], "defaultCapacityProviderStrategy": spot}
    assert providers_of({}, cluster, 2) == ["FARGATE_SPOT", "FARGATE_SPOT"]
    assert providers_of({"launchType": "FARGATE"}, cluster, 2) == [None, None]


def test_weights_that_are_all_zero_place_nothing():
    cluster = {"capacityProviders": ["FARGATE"]}
    with pytest.raises(ApiError, match="weights"):
        providers_of({"capacityProviderStrategy": [{"capacityProvider": "FARGATE"}]}, cluster, 1)


def test_pages_miss_no_task_and_repeat_none_while_others_come_and_change():
    book, listed, token = TaskBook(), [], None
    for number in range(250):
        book.add(task(number))
    while True:
        page = book.page(LAUNCH.cluster_arn, wanted=lambda known: not known.is_stopped, size=100, after=token)
        listed += page["taskArns"]
        token = page.get("nextToken")
        if token is None:
            break
        book.change(token, lambda known: known.stopped(1.0))
        book.add(task(1_000 + len(listed)))
    assert listed[:250] == [task(number).arn for number in range(250)]
    assert len(listed) == len(set(listed))


def test_a_page_has_no_token_when_there_is_nothing_after_it():
    book = TaskBook()
    for number in range(2):
        book.add(task(number))
    assert "nextToken" not in book.page(LAUNCH.cluster_arn, wanted=lambda _: True, size=2, after=None)


def test_the_oldest_stopped_task_and_its_launch_are_forgotten():
    book = TaskBook()
    for number in range(REMEMBERED):
        book.add(task(number))
    book.remember(("cluster", "kept"), "{}", [task(0)])
    book.remember(("cluster", "forgotten"), "{}", [task(1)])
    book.change(task(1).task_id, lambda known: known.stopped(1.0))
    book.add(task(REMEMBERED))
    assert book.get(task(0).task_id)
    assert book.get(task(1).task_id) is None
    assert book.launched_with(("cluster", "kept"))
    assert book.launched_with(("cluster", "forgotten")) is None
