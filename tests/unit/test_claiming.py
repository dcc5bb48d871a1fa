"""When the next block is claimed, how much is asked for, and why claiming ends."""

from __future__ import annotations

import asyncio
import json

import pytest
from processor_played import ENVIRON, PlayedQueue, now

from rowqueue.errors import WarehouseUnavailable
from rowqueue.lifecycle import Entry
from rowqueue.observability import configure
from rowqueue.processor.claiming import Claiming, first_of
from rowqueue.processor.gate import Gate
from rowqueue.processor.in_hand import InHand
from rowqueue.processor.pace import SettlePace
from rowqueue.settings import ProcessorSettings


class PlayedClaiming:
    """Claiming, with everything that it looks at in the test's hands."""

    def __init__(self, queue, *, rng=lambda: 0.5, **environ):
        self.settings = ProcessorSettings.from_env(ENVIRON | {"MAX_ENTRIES": "10"} | environ)
        self.queue = queue
        self.in_hand = InHand()
        self.gate = Gate(most=self.settings.concurrency, clock=now)
        self.lag_s = 0.0
        self.pace = SettlePace(statement_s=0.1, statement_bytes=900_000, outcome_bytes=150)
        self.stop, self.doubted, self.hold_seen = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.claiming = Claiming(
            queue=queue,
            settings=self.settings,
            in_hand=self.in_hand,
            gate=self.gate,
            lag_s=lambda: self.lag_s,
            pace=lambda: self.pace,
            stop=self.stop,
            doubted=self.doubted,
            hold_seen=self.hold_seen,
            clock=now,
            rng=rng,
            new_token=lambda: f"token-{len(queue.requests)}",
        )

    async def until(self, seconds=60.0):
        return await self.claiming.until(now() + seconds)

    async def deliver(self, seconds=0.0):
        """Start, finish and settle whatever is claimed, one at a time."""
        while True:
            await self.in_hand.start()
            await asyncio.sleep(seconds)
            self.in_hand.finish()
            self.in_hand.drop(1)


async def with_deliveries(stage, *, seconds=0.0, until=60.0):
    delivering = asyncio.create_task(stage.deliver(seconds))
    try:
        return await stage.until(until)
    finally:
        delivering.cancel()


# Why it ends


async def test_it_ends_when_a_block_is_short_and_nothing_more_is_ready():
    stage = PlayedClaiming(PlayedQueue(3))
    assert await with_deliveries(stage) == "nothing is ready"
    assert stage.queue.calls == ["claim", "first_claim", "count_ready"]


@pytest.mark.parametrize(("seconds", "claims"), [(0.0, 0), (0.001, 1)])
async def test_nothing_is_claimed_at_the_deadline(seconds, claims):
    stage = PlayedClaiming(PlayedQueue(20), MAX_CONCURRENT_DELIVERIES="4")
    assert await stage.until(seconds) == "the budget is spent"
    assert stage.queue.calls.count("claim") == claims


@pytest.mark.parametrize(
    ("stopped", "doubted", "reason"),
    [(True, False, "stop requested"), (False, True, "credentials stop"), (True, True, "stop requested")],
)
async def test_it_ends_at_once_after_a_stop_or_a_doubt_about_our_credentials(stopped, doubted, reason):
    stage = PlayedClaiming(PlayedQueue(10))
    if stopped:
        stage.stop.set()
    if doubted:
        stage.doubted.set()
    assert await stage.until() == reason
    assert stage.queue.calls == []


async def test_a_probe_claims_once_and_says_that_it_is_done():
    stage = PlayedClaiming(PlayedQueue(10), PROBE="1")
    assert await stage.until() == "the probe is done"
    assert stage.queue.calls == ["claim", "first_claim"]
    assert stage.in_hand.entries == 1


# What it asks for


async def test_the_first_claim_asks_for_a_containers_entries():
    stage = PlayedClaiming(PlayedQueue(3), MAX_BLOCK_CHARACTERS="1000")
    await with_deliveries(stage)
    (request,) = stage.queue.requests
    assert (request.token, request.entries, request.characters, request.suspects) == ("token-0", 10, 1000, 100)
    assert (request.nothing_in_hand, request.probe) == (True, False)


@pytest.mark.parametrize(
    ("environ", "entries", "suspects"),
    [
        ({"PROBE": "1"}, 1, 1),
        ({"MAX_BLOCK_ENTRIES": "50"}, 10, 50),
        ({"MAX_BLOCK_ENTRIES": "100"}, 10, 100),
        ({"MAX_BLOCK_ENTRIES": "101"}, 10, 100),
        ({"MAX_BLOCK_ENTRIES": "10"}, 10, 10),
    ],
)
async def test_no_claim_asks_for_more_than_its_limits_and_a_probe_for_one(environ, entries, suspects):
    stage = PlayedClaiming(PlayedQueue(3), **environ)
    await with_deliveries(stage)
    request = stage.queue.requests[0]
    assert (request.entries, request.suspects, request.probe) == (entries, suspects, "PROBE" in environ)


async def test_a_claim_says_whether_entries_are_in_hand():
    stage = PlayedClaiming(PlayedQueue(3))
    stage.in_hand.take([Entry(id=0, data="{}", idempotency_key="key", claim_token="other")])
    await stage.until(0.001)
    assert not stage.queue.requests[0].nothing_in_hand


async def test_what_is_claimed_is_in_hand_in_the_order_of_the_claim():
    stage = PlayedClaiming(PlayedQueue(3))
    await stage.until(0.001)
    assert stage.in_hand.entries == stage.in_hand.unstarted == 3
    assert [(await stage.in_hand.start()).id for _ in range(3)] == [0, 1, 2]


async def test_a_first_claim_that_cannot_be_recorded_is_no_reason_to_stop():
    class Unrecorded(PlayedQueue):
        async def record_first_claim(self, *, entries):
            raise WarehouseUnavailable("gone")

    stage = PlayedClaiming(Unrecorded(3))
    assert await with_deliveries(stage) == "nothing is ready"


async def test_only_the_first_claim_is_recorded():
    stage = PlayedClaiming(PlayedQueue(30))
    await with_deliveries(stage)
    assert stage.queue.calls.count("claim") > 1
    assert stage.queue.calls.count("first_claim") == 1
    assert stage.queue.tables.processors[0].entries == 10


# When it claims again


async def test_while_too_much_is_unstarted_nothing_more_is_claimed():
    stage = PlayedClaiming(PlayedQueue(100), MAX_CONCURRENT_DELIVERIES="4")
    stage.gate.in_flight = 4  # no room
    assert await stage.until(5) == "the budget is spent"
    assert stage.queue.calls.count("claim") == 1


async def test_as_much_as_can_start_at_once_may_be_unstarted():
    stage = PlayedClaiming(PlayedQueue(100), MAX_CONCURRENT_DELIVERIES="10")
    assert await stage.until(1) == "the budget is spent"
    assert stage.queue.calls.count("claim") == 2, "10 are unstarted after the first claim, and 10 can start"


async def test_no_more_than_half_of_the_largest_block_may_be_unstarted():
    stage = PlayedClaiming(PlayedQueue(100), MAX_CONCURRENT_DELIVERIES="100", MAX_BLOCK_ENTRIES="18")
    await stage.until(1)
    assert stage.queue.calls.count("claim") == 1, "10 are unstarted, and 9 is half of 18"
    other = PlayedClaiming(PlayedQueue(100), MAX_CONCURRENT_DELIVERIES="100", MAX_BLOCK_ENTRIES="20")
    await other.until(1)
    assert other.queue.calls.count("claim") == 2


@pytest.mark.parametrize(("lag_s", "claims_more"), [(10.0, True), (10.1, False)])
async def test_nothing_is_claimed_while_an_outcome_has_waited_longer_than_ten_seconds(lag_s, claims_more):
    stage = PlayedClaiming(PlayedQueue(20))
    stage.lag_s = lag_s
    await with_deliveries(stage, until=1)
    assert (stage.queue.calls.count("claim") > 1) == claims_more


SLOW = SettlePace(statement_s=1.0, statement_bytes=1000, outcome_bytes=100.0)
"""It settles ten entries a second. Half of the time for settles at a stop is 15 s, and the UPDATE takes one of them."""


@pytest.mark.parametrize(("in_hand", "claims_more"), [(139, True), (140, False)])
async def test_nothing_is_claimed_while_more_is_in_hand_than_half_of_what_a_stop_could_settle(in_hand, claims_more):
    stage = PlayedClaiming(PlayedQueue(20))
    stage.pace = SLOW
    stage.in_hand.entries = in_hand
    await with_deliveries(stage, until=1)
    assert (stage.queue.calls.count("claim") > 1) == claims_more


@pytest.mark.parametrize(("pace", "claims"), [(None, 2), (SLOW, 1)])
async def test_a_block_is_claimed_no_earlier_than_settles_will_need_it_however_quick_the_service_is(pace, claims):
    stage = PlayedClaiming(PlayedQueue(20), MAX_CONCURRENT_DELIVERIES="100")
    stage.pace = pace or stage.pace
    stage.gate.answered(0.001)
    stage.gate.in_flight = 100
    await stage.until(1)
    assert stage.queue.calls.count("claim") == claims, "10 are unstarted, and 2 are settled during two claims"


async def test_after_a_short_block_smaller_than_the_first_it_waits_for_more_entries():
    stage = PlayedClaiming(PlayedQueue(3), FLUSH_SECONDS="2")
    began = now()
    assert await with_deliveries(stage) == "nothing is ready"
    assert now() - began == pytest.approx(2, abs=0.01)


async def test_after_an_empty_block_it_does_not_wait_for_more_entries():
    stage = PlayedClaiming(PlayedQueue(0), FLUSH_SECONDS="2")
    began = now()
    assert await with_deliveries(stage) == "nothing is ready"
    assert now() - began < 0.01


async def test_the_time_of_a_slow_claim_counts_towards_the_wait_for_more_entries():
    class SlowClaims(PlayedQueue):
        async def claim(self, request):
            await asyncio.sleep(1.5)
            return await super().claim(request)

    stage = PlayedClaiming(SlowClaims(3), FLUSH_SECONDS="2")
    began = now()
    await with_deliveries(stage)
    assert now() - began == pytest.approx(2, abs=0.01)


async def test_a_stop_ends_the_wait_for_more_entries():
    stage = PlayedClaiming(PlayedQueue(3), FLUSH_SECONDS="50")
    asyncio.get_running_loop().call_later(1, stage.stop.set)
    began = now()
    assert await with_deliveries(stage) == "stop requested"
    assert now() - began == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("draw", [0.0, 0.25, 1.0])
async def test_after_an_empty_claim_although_entries_are_ready_it_waits_up_to_twice_the_mean(draw):
    stage = PlayedClaiming(PlayedQueue(3, empty_claims=1), rng=lambda: draw, FLUSH_SECONDS="0.01")
    times = []
    claim = stage.queue.claim

    async def timed(request):
        times.append(now())
        return await claim(request)

    stage.queue.claim = timed
    await with_deliveries(stage)
    assert times[1] - times[0] == pytest.approx(2 * 0.3 * draw, abs=0.01)


async def test_after_suspects_nothing_is_claimed_until_they_are_settled():
    queue = PlayedQueue(2)
    queue.insert(1, first=100, crash_count=1, priority=9)
    stage = PlayedClaiming(queue)
    await with_deliveries(stage, seconds=3)
    assert [[entry.id for entry in block] for block in queue.blocks][:2] == [[100], [0, 1]]
    assert queue.requests[1].nothing_in_hand


async def test_suspects_that_are_all_that_is_ready_are_claimed_when_nothing_is_in_hand():
    queue = PlayedQueue(1)
    queue.insert(1, first=100, crash_count=1)
    stage = PlayedClaiming(queue)
    began = now()
    await with_deliveries(stage, seconds=3)
    assert [[entry.id for entry in block] for block in queue.blocks] == [[0], [100], []][: len(queue.blocks)]
    assert len(queue.blocks) >= 2
    assert now() - began >= 6


class Arriving(PlayedQueue):
    """Claims take as long as the plan says."""

    def __init__(self, entries, *seconds):
        super().__init__(entries)
        self.seconds = list(seconds)

    async def claim(self, request):
        await asyncio.sleep(self.seconds.pop(0) if self.seconds else 0.0)
        return await super().claim(request)


async def test_the_time_of_a_claim_is_averaged_with_those_before_and_never_below_a_tenth_of_a_second():
    stage = PlayedClaiming(Arriving(60, 0.5, 0.9, 0.0, 0.0, 0.0, 0.0))
    seen = []
    claim = stage.claiming._claim

    for _ in range(6):
        await claim()
        seen.append(round(stage.claiming._claim_s, 4))
    assert seen == [0.3, 0.6, 0.3, 0.15, 0.1, 0.1]


async def test_a_block_is_logged_and_an_empty_claim_is_not(capsys):
    configure("processor")
    stage = PlayedClaiming(Arriving(3, 0.12345))
    await with_deliveries(stage)
    claims = [json.loads(line) for line in capsys.readouterr().out.splitlines() if "block_claimed" in line]
    assert [(line["claim_token"], line["entries"], line["seconds"]) for line in claims] == [("token-0", 3, 0.123)]


async def test_after_a_block_of_the_first_ones_size_the_wait_ends_with_its_deliveries():
    stage = PlayedClaiming(PlayedQueue(10), FLUSH_SECONDS="50", MAX_ENTRIES="10", MAX_BLOCK_ENTRIES="10")
    stage.claiming._block_size = 11  # so that ten entries are a short block
    began = now()
    assert await with_deliveries(stage, seconds=0.5) == "nothing is ready"
    assert now() - began == pytest.approx(5, abs=0.1)


async def test_the_wait_for_suspects_ends_with_the_budget():
    queue = PlayedQueue(0)
    queue.insert(1, first=100, crash_count=1)
    stage = PlayedClaiming(queue)
    await asyncio.sleep(20)  # so that the clock is not at 0
    began = now()
    assert await stage.until(7) == "the budget is spent"
    assert now() - began == pytest.approx(7, abs=0.1)


async def test_the_wait_until_suspects_may_be_claimed_ends_with_the_budget():
    queue = PlayedQueue(1)
    queue.insert(1, first=100, crash_count=1)
    stage = PlayedClaiming(queue)
    await asyncio.sleep(20)
    began = now()
    assert await stage.until(7) == "the budget is spent"
    assert now() - began == pytest.approx(7, abs=0.1)


async def test_a_claim_is_stale_after_the_minutes_of_the_setting():
    assert PlayedClaiming(PlayedQueue()).claiming._limits().stale_s == 1800


# first_of


async def test_first_of_returns_with_the_first_and_cancels_the_others():
    slow = asyncio.create_task(asyncio.sleep(60))
    began = now()
    await first_of(slow, asyncio.sleep(1))
    assert now() - began == pytest.approx(1, abs=0.01)
    await asyncio.sleep(0)
    assert slow.cancelled()


async def test_first_of_returns_after_its_time():
    began = now()
    await first_of(asyncio.sleep(60), within_s=2)
    assert now() - began == pytest.approx(2, abs=0.01)
