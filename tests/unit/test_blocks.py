"""How large the next block is, and how early it is claimed."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rowqueue.errors import SettingsError
from rowqueue.processor.blocks import BlockLimits, LastBlock, next_block, unstarted_at_claim
from rowqueue.settings import ProcessorSettings

LIMITS = BlockLimits(entries_per_container=8, largest=10_000, stale_s=1800)
FULL = LastBlock(asked=8, came=8, full=True, claim_s=0.5, per_second=2000.0, concurrency=8, left_s=600)


@pytest.mark.parametrize(
    ("why", "last", "limits", "expected"),
    [
        ("after a full claim a block quadruples", {}, {}, 32),
        ("after the next full claim it quadruples again", {"asked": 32, "came": 32}, {}, 128),
        ("it grows up to the largest claim", {"asked": 4096, "came": 4096}, {}, 10_000),
        ("it grows up to the setting", {"asked": 128, "came": 128}, {"largest": 200}, 200),
        ("it does not grow if the setting is the first block's size", {}, {"largest": 8}, 8),
        ("a claim that was limited by characters counts as full", {"asked": 32, "came": 3}, {}, 128),
        ("with a slow service it grows no more than the claim's share needs", {"per_second": 3.2}, {}, 32),
        (
            "with a quick Snowflake it grows no more than the claim's share needs",
            {"asked": 512, "came": 512, "claim_s": 0.02, "per_second": 640.0},
            {},
            256,
        ),
        ("it shrinks when claims become quicker", {"asked": 4096, "came": 4096, "claim_s": 0.01}, {}, 400),
        ("it does not shrink below the first block", {"per_second": 0.5}, {}, 8),
        ("a short block is followed by one as short", {"asked": 2048, "came": 100, "full": False}, {}, 100),
        ("after a short block it is not smaller than the first", {"asked": 2048, "came": 1, "full": False}, {}, 8),
        (
            "an empty claim although entries are ready changes nothing",
            {"asked": 2048, "came": 0, "full": False},
            {},
            2048,
        ),
        ("before the first answer it is what can start at once", {"per_second": None, "concurrency": 25}, {}, 25),
        (
            "what can start at once may be more than four times as much",
            {"per_second": None, "concurrency": 100},
            {},
            100,
        ),
        ("this is so after the first answer too", {"asked": 10, "came": 10, "concurrency": 100}, {}, 100),
        (
            "the first block may be larger than what can start at once",
            {"per_second": None, "concurrency": 4},
            {},
            8,
        ),
        ("it is no larger than a stop could settle", {"settleable": 21.9}, {}, 21),
        ("it has one entry also while nothing could be settled", {"settleable": -300.0}, {}, 1),
        ("a block is delivered in a quarter of the budget", {"asked": 4096, "came": 4096, "left_s": 10}, {}, 5000),
        ("at the end of the budget it is smaller than the first", {"left_s": 0.01}, {}, 5),
        ("it is never 0", {"left_s": -3}, {}, 1),
        (
            "a block is delivered in a quarter of the stale threshold",
            {"asked": 4096, "came": 4096},
            {"stale_s": 8},
            4000,
        ),
    ],
)
def test_the_next_block(why, last, limits, expected):
    assert next_block(replace(FULL, **last), replace(LIMITS, **limits)) == expected, why


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
def test_a_block_stays_within_its_limits_and_within_what_the_budget_can_deliver(
    asked, came, full, claim_s, per_second, left_s, first, more
):
    last = LastBlock(
        asked=asked,
        came=min(came, asked),
        full=full,
        claim_s=claim_s,
        per_second=per_second,
        concurrency=32,
        left_s=left_s,
    )
    block = next_block(last, BlockLimits(entries_per_container=first, largest=first + more, stale_s=1800))
    assert 1 <= block <= first + more
    assert block <= max(first, 4 * asked, 32)
    if per_second is not None:
        assert block <= max(1, per_second * max(0, left_s))


def test_blocks_grow_until_claiming_takes_its_share_and_stay_there():
    block, sizes = 8, []
    for _ in range(8):
        block = next_block(replace(FULL, asked=block, came=block, per_second=640.0), LIMITS)
        sizes.append(block)
    assert sizes == [32, 128, 512, 2048, 6400, 6400, 6400, 6400]
    assert math.isclose(0.5 / (6400 / 640), 0.05), "the claims of twenty processors fit behind one lock"


def test_a_cap_below_the_first_block_is_refused():
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


@pytest.mark.parametrize("room", [0, 8, 100])
def test_before_the_first_answer_only_what_can_start_at_once_is_claimed_ahead(room):
    assert unstarted_at_claim(room=room, per_second=None, claim_s=0.5) == room


def test_what_can_start_at_once_is_claimed_ahead_too():
    busy = unstarted_at_claim(room=0, per_second=100.0, claim_s=0.5)
    assert unstarted_at_claim(room=30, per_second=100.0, claim_s=0.5) == busy + 30


@pytest.mark.parametrize(
    ("per_second", "claim_s", "expected"), [(100, 0.5, 100), (100, 0.1, 20), (2, 0.5, 2), (3, 0.1, 1)]
)
def test_a_block_is_claimed_ahead_by_what_is_delivered_during_two_claims(per_second, claim_s, expected):
    assert unstarted_at_claim(room=0, per_second=per_second, claim_s=claim_s) == expected
