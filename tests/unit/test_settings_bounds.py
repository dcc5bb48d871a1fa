"""The bounds of every setting that is a number, and where contradictions between settings begin."""

from __future__ import annotations

import dataclasses

import pytest

from rowqueue.errors import SettingsError
from rowqueue.settings import PollerSettings, ProcessorSettings, longest_life_s

SNOWFLAKE = {
    "SNOWFLAKE_ACCOUNT": "myorg-account",
    "SNOWFLAKE_WAREHOUSE": "WH",
    "SNOWFLAKE_DATABASE": "DB",
    "SNOWFLAKE_SCHEMA": "PUBLIC",
}
POLLER = SNOWFLAKE | {
    "ENVIRONMENT": "dev",
    "ECS_CLUSTER": "cluster",
    "ECS_TASK_DEFINITION": "family",
    "ECS_SUBNETS": '["subnet-1"]',
    "ECS_SECURITY_GROUP": "sg-1",
    "LEASE_BUCKET": "lease",
}
PROCESSOR = SNOWFLAKE | {
    "ENVIRONMENT": "dev",
    "CERT_BUCKET": "certs",
    "EXTERNAL_SERVICE_URL": "https://api.example.com/process",
}

WHOLE, ANY = "a whole number", "a number"
BOUNDS = [
    (PollerSettings, "SNOWFLAKE_PORT", WHOLE, 1, 65535),
    (PollerSettings, "ENTRIES_PER_CONTAINER", WHOLE, 1, 10_000),
    (PollerSettings, "MAX_CONTAINERS", WHOLE, 0, 5000),
    (PollerSettings, "STALE_THRESHOLD_MINUTES", ANY, 0.01, 1440),
    (PollerSettings, "MAX_RETRIES", WHOLE, 1, 1000),
    (PollerSettings, "BOOT_DEADLINE_SECONDS", ANY, 1, 3600),
    (PollerSettings, "TASK_DEADLINE_SECONDS", ANY, 1, 864_000),
    (PollerSettings, "MAX_CRASHES", WHOLE, 1, 100),
    (PollerSettings, "SPOT_PERCENT", WHOLE, 0, 100),
    (PollerSettings, "CONTAINER_TIMEOUT_SECONDS", ANY, 1, 86_400),
    (PollerSettings, "SERVICE_TIMEOUT_SECONDS", ANY, 0.1, 900),
    (PollerSettings, "TICK_SECONDS", ANY, 0.1, 86_400),
    (ProcessorSettings, "MAX_ENTRIES", WHOLE, 1, 10_000),
    (ProcessorSettings, "MAX_BLOCK_ENTRIES", WHOLE, 1, 10_000),
    (ProcessorSettings, "MAX_BLOCK_CHARACTERS", WHOLE, 1, 2_147_483_648),
    (ProcessorSettings, "TASK_MEMORY_MIB", WHOLE, 256, 122_880),
    (ProcessorSettings, "MAX_CONCURRENT_DELIVERIES", WHOLE, 1, 1000),
    (ProcessorSettings, "CONTAINER_TIMEOUT_SECONDS", ANY, 1, 86_400),
    (ProcessorSettings, "SERVICE_TIMEOUT_SECONDS", ANY, 0.1, 900),
    (ProcessorSettings, "STOP_GRACE_SECONDS", ANY, 0, 120),
    (ProcessorSettings, "FLUSH_ENTRIES", WHOLE, 1, 10_000),
    (ProcessorSettings, "FLUSH_SECONDS", ANY, 0.01, 60),
    (ProcessorSettings, "MAX_RETRIES", WHOLE, 1, 1000),
    (ProcessorSettings, "RETRY_BACKOFF_SECONDS", ANY, 0, 86_400),
    (ProcessorSettings, "RETRY_BACKOFF_CAP_SECONDS", ANY, 0, 86_400),
    (ProcessorSettings, "ENTRY_DEADLINE_MINUTES", ANY, 0.01, 525_600),
    (ProcessorSettings, "HOLD_SECONDS", ANY, 1, 86_400),
    (ProcessorSettings, "MAX_DATA_CHARACTERS", WHOLE, 1, 16_777_216),
    (ProcessorSettings, "MAX_RESULT_CHARACTERS", WHOLE, 0, 100_000),
    (ProcessorSettings, "STALE_THRESHOLD_MINUTES", ANY, 0.01, 1440),
]


def problems(kind, **changes):
    try:
        kind.from_env((POLLER if kind is PollerSettings else PROCESSOR) | changes)
    except SettingsError as error:
        return error.problems
    return []


@pytest.mark.parametrize(
    ("kind", "name", "type_", "lowest", "highest"), BOUNDS, ids=[f"{row[0].__name__[:4]}-{row[1]}" for row in BOUNDS]
)
def test_both_bounds_are_accepted_and_what_is_beyond_them_is_refused(kind, name, type_, lowest, highest):
    def refused(value):
        expected = f"{name}: expected {type_} from {lowest} to {highest}, got '{value}'"
        return expected in problems(kind, **{name: value})

    step = 1 if type_ is WHOLE else 0.001
    assert not any(problem.startswith(f"{name}: expected {type_}") for problem in problems(kind, **{name: str(lowest)}))
    assert not any(
        problem.startswith(f"{name}: expected {type_}") for problem in problems(kind, **{name: str(highest)})
    )
    assert refused(str(lowest - step))
    assert refused(str(highest + step))
    assert refused("many")


def names(kind):
    for item in dataclasses.fields(kind):
        yield from names(item.metadata["nested"]) if "nested" in item.metadata else [item.metadata["name"]]


@pytest.mark.parametrize("kind", [PollerSettings, ProcessorSettings])
def test_every_setting_that_is_a_number_is_in_the_table(kind):
    found = problems(kind, **dict.fromkeys(names(kind), "no number"))
    numbers = {problem.split(":")[0] for problem in found if "number from" in problem}
    assert numbers == {row[1] for row in BOUNDS if row[0] is kind or row[1] == "SNOWFLAKE_PORT"}


def test_a_task_lives_for_its_budget_one_claim_one_delivery_and_one_settle_with_its_patience():
    assert longest_life_s(budget_s=60, service_timeout_s=30) == 60 + (30 + 40) + 30 + 120 + 2 * 40
    poller, processor = PollerSettings.from_env(POLLER), ProcessorSettings.from_env(PROCESSOR)
    assert processor.longest_life_s == 360
    assert poller.oldest_task_s == 180 + 360
    assert PollerSettings.from_env(POLLER | {"TASK_DEADLINE_SECONDS": "7"}).oldest_task_s == 7


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({"STALE_THRESHOLD_MINUTES": "6"}, "STALE_THRESHOLD_MINUTES"),
        ({"STALE_THRESHOLD_MINUTES": "6.01"}, None),
        ({"STOP_GRACE_SECONDS": "70"}, None),
        ({"STOP_GRACE_SECONDS": "70.1"}, "STOP_GRACE_SECONDS"),
        ({"MAX_ENTRIES": "20", "MAX_BLOCK_ENTRIES": "20"}, None),
        ({"MAX_ENTRIES": "20", "MAX_BLOCK_ENTRIES": "19"}, "MAX_BLOCK_ENTRIES"),
        ({"RETRY_BACKOFF_SECONDS": "20", "RETRY_BACKOFF_CAP_SECONDS": "20"}, None),
        ({"RETRY_BACKOFF_SECONDS": "20", "RETRY_BACKOFF_CAP_SECONDS": "19.9"}, "RETRY_BACKOFF_CAP_SECONDS"),
    ],
    ids=lambda value: "-".join(value.values()) if isinstance(value, dict) else str(value),
)
def test_two_settings_contradict_each_other_only_beyond_their_boundary(changes, refused):
    assert [problem.split(":")[0] for problem in problems(ProcessorSettings, **changes)] == [refused] * bool(refused)
