"""How large the next block is, case by case."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rowqueue.errors import SettingsError
from rowqueue.processor.growth import SHARE, Bounds, Seen, next_block
from rowqueue.settings import ProcessorSettings

BOUNDS = Bounds(first=8, most=10_000, stale_s=1800)
FULL = Seen(asked=8, came=8, full=True, claim_s=0.5, per_second=2000.0, at_once=8, left_s=600)


@pytest.mark.parametrize(
    ("why", "seen", "bounds", "expected"),
    [
        ("it quadruples while claims come back full", {}, {}, 32),
        ("and again", {"asked": 32, "came": 32}, {}, 128),
        ("up to its cap", {"asked": 4096, "came": 4096}, {}, 10_000),
        ("which a setting may lower", {"asked": 128, "came": 128}, {"most": 200}, 200),
        ("a cap as large as the first block keeps it from growing", {}, {"most": 8}, 8),
        ("bounded by characters counts as full", {"asked": 32, "came": 3}, {}, 128),
        ("a slow service needs no more than claims of a small share of the time", {"per_second": 3.2}, {}, 32),
        ("nor does a quick Snowflake", {"asked": 512, "came": 512, "claim_s": 0.02, "per_second": 640.0}, {}, 256),
        ("it shrinks when claiming got quicker", {"asked": 4096, "came": 4096, "claim_s": 0.01}, {}, 400),
        ("but not below the first", {"per_second": 0.5}, {}, 8),
        ("what comes back short is followed by as much", {"asked": 2048, "came": 100, "full": False}, {}, 100),
        ("and not by less than the first", {"asked": 2048, "came": 1, "full": False}, {}, 8),
        ("nothing, though entries are ready, changes nothing", {"asked": 2048, "came": 0, "full": False}, {}, 2048),
        ("before the first answer only what can start at once", {"per_second": None, "at_once": 25}, {}, 25),
        ("all of it, for that waits nowhere", {"per_second": None, "at_once": 100}, {}, 100),
        ("also later", {"asked": 10, "came": 10, "at_once": 100}, {}, 100),
        ("but what can start at once bounds no first block", {"per_second": None, "at_once": 4}, {}, 8),
        ("a block is delivered in a quarter of the budget", {"asked": 4096, "came": 4096, "left_s": 10}, {}, 5000),
        ("towards its end less than the first", {"left_s": 0.01}, {}, 5),
        ("and never nothing", {"left_s": -3}, {}, 1),
        ("and in a quarter of the stale threshold", {"asked": 4096, "came": 4096}, {"stale_s": 8}, 4000),
    ],
)
def test_the_next_block(why, seen, bounds, expected):
    assert next_block(replace(FULL, **seen), replace(BOUNDS, **bounds)) == expected, why


@given(
    asked=st.integers(1, 10_000),
    came=st.integers(0, 10_000),
    full=st.booleans(),
    claim_s=st.floats(0.001, 100),
    per_second=st.none() | st.floats(0.001, 1e5),
    left_s=st.floats(-10, 86_400),
    first=st.integers(1, 10_000),
    more=st.integers(0, 10_000),
)
def test_whatever_is_seen_it_stays_within_the_cap_and_within_what_the_budget_can_deliver(
    asked, came, full, claim_s, per_second, left_s, first, more
):
    seen = Seen(
        asked=asked,
        came=min(came, asked),
        full=full,
        claim_s=claim_s,
        per_second=per_second,
        at_once=32,
        left_s=left_s,
    )
    block = next_block(seen, Bounds(first=first, most=first + more, stale_s=1800))
    assert 1 <= block <= first + more
    assert block <= max(first, 4 * asked, 32)
    if per_second is not None:
        assert block <= max(1, per_second * max(0, left_s))


def test_blocks_grow_until_claiming_takes_its_share_and_stay_there():
    block, sizes = 8, []
    for _ in range(8):
        block = next_block(replace(FULL, asked=block, came=block, per_second=640.0), BOUNDS)
        sizes.append(block)
    assert sizes == [32, 128, 512, 2048, 6400, 6400, 6400, 6400]
    assert math.isclose(0.5 / (6400 / 640), SHARE)


def test_a_cap_below_the_first_block_is_told_before_anything_connects():
    with pytest.raises(SettingsError, match="MAX_BLOCK_ENTRIES: expected at least MAX_ENTRIES = 50, got 20"):
        ProcessorSettings.from_env(
            {
                "ENVIRONMENT": "dev",
                "CERT_BUCKET": "certs",
                "EXTERNAL_SERVICE_URL": "https://127.0.0.1/",
                "SNOWFLAKE_ACCOUNT": "local",
                "SNOWFLAKE_WAREHOUSE": "WH",
                "SNOWFLAKE_DATABASE": "DB",
                "SNOWFLAKE_SCHEMA": "PUBLIC",
                "MAX_ENTRIES": "50",
                "MAX_BLOCK_ENTRIES": "20",
            }
        )
