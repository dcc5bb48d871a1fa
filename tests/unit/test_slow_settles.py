"""A settle may take a minute or two, in an outage or behind a lock. The worker goes on soon afterwards."""

from __future__ import annotations

import asyncio
import itertools
import random

import pytest
from processor_played import PlayedQueue, now, processor

from rowqueue.lifecycle import Succeeded


class QueueWithSettleTimes(PlayedQueue):
    """Its settles take as long as planned, and those after these a tenth of a second.

    Attributes:
        claims: when each claim was made.
        quick_from: when the last of the planned settles ended.
    """

    def __init__(self, entries, seconds):
        super().__init__(entries)
        self.seconds = list(seconds)
        self.claims = []
        self.quick_from = 0.0

    async def claim(self, request):
        self.claims.append(now())
        return await super().claim(request)

    async def settle(self, settlements, attempts):
        planned = bool(self.seconds)
        await asyncio.sleep(self.seconds.pop(0) if planned else 0.1)
        if planned:
            self.quick_from = now()
        return await super().settle(settlements, attempts)


def answering(characters):
    async def deliver(entry):
        await asyncio.sleep(0.2)
        return Succeeded(response_status=200, result="x" * characters)

    return deliver


async def run_with(seconds, *, entries=1500, characters=20, **environ):
    queue = QueueWithSettleTimes(entries, seconds)
    environ = {"MAX_ENTRIES": "8", "CONTAINER_TIMEOUT_SECONDS": "900", "FLUSH_SECONDS": "1"} | environ
    return queue, await processor(queue, answering(characters), **environ).run()


@pytest.mark.parametrize("characters", [20, 16_000])
@pytest.mark.parametrize("slow_s", [20.0, 45.0, 61.0, 100.0])
async def test_after_one_slow_settle_everything_is_settled_soon(slow_s, characters):
    queue, report = await run_with([0.1, 0.1, slow_s], characters=characters)
    assert (report.reason, report.settled) == ("nothing is ready", {"completed": 1500})
    assert now() - queue.quick_from < 30, "8 deliveries at a time take 38 s without the slow settle"


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_settles_take_the_worker_goes_on_when_they_are_quick_again(seed):
    chance = random.Random(seed)
    seconds = [chance.choice([0.05, 0.5, 3.0, 12.0]) * chance.random() for _ in range(chance.randint(0, 12))]
    for slow_s in chance.sample([20.0, 45.0, 61.0, 100.0], k=chance.randint(1, 3)):
        seconds.insert(chance.randint(0, len(seconds)), slow_s)
    queue, report = await run_with(
        seconds,
        characters=chance.choice([20, 1000, 16_000]),
        MAX_ENTRIES=str(chance.choice([1, 8, 500])),
        MAX_CONCURRENT_DELIVERIES=str(chance.choice([8, 100])),
    )
    assert (report.reason, report.settled) == ("nothing is ready", {"completed": 1500})
    assert now() - queue.quick_from < 45, "8 deliveries at a time take 38 s"


async def test_a_worker_whose_settles_are_all_slow_claims_whenever_nothing_is_in_hand():
    queue, report = await run_with([70.0] * 9, entries=2500, CONTAINER_TIMEOUT_SECONDS="500")
    assert report.reason == "the budget is spent"
    assert [len(block) for block in queue.blocks[-2:]] == [8] * 2, "first blocks; a stop could not settle more"
    assert max(later - earlier for earlier, later in itertools.pairwise(queue.claims)) < 150, "two settles"
