"""Large answers and slow settles: what is in hand, what is delivered, and how a stop ends."""

from __future__ import annotations

import asyncio
import math

import pytest
from processor_played import PlayedQueue, now, processor

from rowqueue.lifecycle import Status, Succeeded
from rowqueue.settings import STOP_TIMEOUT_S


class QueueWithSlowUpdates(PlayedQueue):
    """One statement at a time, as in the queue's thread; an UPDATE or INSERT takes some tenths of a second."""

    def __init__(self, entries, *, update_s=0.4):
        super().__init__(entries)
        self.update_s = update_s
        self.thread = asyncio.Lock()
        self.settles = []

    async def claim(self, request):
        async with self.thread:
            await asyncio.sleep(self.update_s + 0.1)
            return await super().claim(request)

    async def settle(self, settlements, attempts):
        async with self.thread:
            self.settles.append((now(), len(settlements), sum(s.released for s in settlements)))
            characters = sum(200 + len(settlement.result or "") for settlement in settlements)
            inserts = math.ceil(characters / 900_000) if attempts else 0
            await asyncio.sleep(self.update_s * (inserts + 1))
            return await super().settle(settlements, attempts)


def answering(characters, *, seconds=0.05):
    async def deliver(entry):
        await asyncio.sleep(seconds)
        return Succeeded(response_status=200, result="x" * characters)

    return deliver


LONG = {"CONTAINER_TIMEOUT_SECONDS": "3600", "STALE_THRESHOLD_MINUTES": "1000", "FLUSH_SECONDS": "1"}


@pytest.mark.parametrize(("update_s", "stopped_after_s"), [(0.4, 3), (0.4, 40), (1.5, 10)])
async def test_a_stop_ends_in_time_and_leaves_nothing_in_hand(update_s, stopped_after_s):
    queue, stop = QueueWithSlowUpdates(6000, update_s=update_s), asyncio.Event()
    asyncio.get_running_loop().call_later(stopped_after_s, stop.set)
    run = processor(queue, answering(16_000), stop=stop, MAX_CONCURRENT_DELIVERIES="100", MAX_ENTRIES="3000", **LONG)
    report = await run.run()
    assert report.reason == "stop requested"
    assert now() - stopped_after_s < STOP_TIMEOUT_S - 20
    assert all(row.status != Status.PROCESSING for row in queue.tables.queue)
    stopped = [settle for settle in queue.settles if settle[0] > stopped_after_s]
    assert stopped[0][1] == stopped[0][2] > 0, "the first settle after the stop releases what was never started"
    assert not any(released for _, _, released in stopped[3:])


@pytest.mark.parametrize(
    ("update_s", "most_s"),
    [(0.5, 5.0), (1.5, 4 * 1.5), (12.0, 30.0)],
    ids=["five seconds", "four statements", "what a stop can settle"],
)
async def test_deliveries_wait_while_more_is_unsettled_than_a_stop_could_settle(update_s, most_s):
    ended, unsettled_s = [], []

    class Watched(QueueWithSlowUpdates):
        async def settle(self, settlements, attempts):
            lost = await super().settle(settlements, attempts)
            if now() > 20 * update_s:
                unsettled_s.append((len(ended) - len(self.settlements) + len(settlements)) / 56 * update_s)
            return lost

    async def deliver(entry):
        await asyncio.sleep(0.05)
        ended.append(entry.id)
        return Succeeded(response_status=200, result="x" * 16_000)

    queue, stop = Watched(3000, update_s=update_s), asyncio.Event()
    asyncio.get_running_loop().call_later(30 * update_s, stop.set)
    await processor(queue, deliver, stop=stop, MAX_CONCURRENT_DELIVERIES="10", MAX_ENTRIES="1000", **LONG).run()
    in_flight_s = 10 / 56 * update_s
    assert 0.75 * most_s < max(unsettled_s) < 1.02 * most_s + in_flight_s


@pytest.mark.parametrize(("characters", "at_least"), [(20, 5000), (16_000, 400)])
async def test_blocks_are_as_large_as_can_be_settled_and_no_larger(characters, at_least):
    queue, stop = QueueWithSlowUpdates(4000), asyncio.Event()
    asyncio.get_running_loop().call_later(20, stop.set)
    await processor(queue, answering(characters), stop=stop, MAX_CONCURRENT_DELIVERIES="100", **LONG).run()
    largest = max(request.entries for request in queue.requests)
    assert largest >= at_least
    if characters == 16_000:
        assert largest <= 30 / 0.4 * 56


async def test_large_answers_are_settled_as_quickly_as_statements_can_carry_them():
    queue = QueueWithSlowUpdates(1000)
    report = await processor(queue, answering(16_000), MAX_CONCURRENT_DELIVERIES="100", **LONG).run()
    assert report.settled == {"completed": 1000}
    assert report.seconds < 14, "19 INSERTs take 7.6 s, and growing the blocks and the UPDATEs the rest"
