"""How much memory entries may take, and what a claim asks for because of it."""

from __future__ import annotations

import asyncio
import sys

import pytest
from processor_played import PlayedQueue, processor

from rowqueue.lifecycle import Entry, Succeeded
from rowqueue.processor import memory
from rowqueue.processor.in_hand import InHand

MIB = 2**20


@pytest.mark.parametrize(("task_mib", "mib"), [(512, 320), (1024, 832), (256, 64), (224, 32), (64, 32)])
def test_entries_have_what_the_program_leaves(task_mib, mib):
    assert memory.for_entries(task_mib) == mib * MIB


def test_the_longest_entry_that_is_delivered_fits_into_the_default_task_beyond_a_claim():
    most = memory.for_entries(512)
    asked = memory.characters_to_claim(most=most, taken=0, longest=10_000_000)
    assert asked == 8_388_608
    assert memory.characters_to_claim(most=most, taken=most // 4, longest=10_000_000) == 4_194_304


@pytest.mark.parametrize(
    ("taken", "longest", "asked"),
    [
        (0, 100, 900),
        (5_000, 100, 650),
        (0, 500, 500),
        (0, 10**9, 500),  # no more than half is kept free, whatever the limit
        (18_000, 100, 1),
        (40_000, 100, 1),
    ],
)
def test_a_claim_asks_for_what_is_left_beside_one_entry_more(taken, longest, asked):
    assert memory.characters_to_claim(most=20_000, taken=taken, longest=longest) == asked


@pytest.mark.parametrize(("taken", "allowed"), [(0, True), (5_000, True), (5_001, False)])
def test_a_claim_waits_until_most_of_the_memory_is_free(taken, allowed):
    assert memory.allows_claim(most=20_000, taken=taken) is allowed


@pytest.mark.parametrize("text", ["x" * 501, "é" * 501, "中" * 501, "😀" * 501])
def test_data_is_counted_as_text_and_as_what_is_sent(text):
    assert memory.of_data(text) >= sys.getsizeof(text) + len(text.encode())
    assert memory.of_answer(text) == sys.getsizeof(text)


def test_short_texts_are_part_of_the_entrys_own_figure():
    assert (memory.of_data("x" * 500), memory.of_answer("x" * 500), memory.of_answer(None)) == (0, 0, 0)
    assert sys.getsizeof("😀" * 500) < 2 * memory.ENTRY_BYTES


def test_what_is_in_hand_takes_memory_for_each_entry_and_its_long_texts():
    in_hand = InHand()
    long = "x" * 10_000
    in_hand.take([Entry(id=n, data=data, idempotency_key="k", claim_token="t") for n, data in enumerate(["{}", long])])
    assert in_hand.bytes == 2 * memory.ENTRY_BYTES + 3 * sys.getsizeof(long)


class WatchedQueue(PlayedQueue):
    """Keeps how much memory was taken before each claim, and how many characters came.

    Args:
        settle_s: seconds that a settle takes.
    """

    def __init__(self, *, settle_s=0.2):
        super().__init__()
        self.settle_s = settle_s
        self.watched = None
        self.claims = []
        self.while_settling = []

    async def claim(self, request):
        before = self.watched.bytes
        await asyncio.sleep(0.2)
        block = await super().claim(request)
        self.claims.append((before, sum(len(entry.data) for entry in block)))
        return block

    async def settle(self, settlements, attempts):
        self.while_settling.append(self.watched.data_bytes)
        await asyncio.sleep(self.settle_s)
        return await super().settle(settlements, attempts)

    async def run(self, deliver, **environ):
        run = processor(self, deliver, **environ)
        self.watched = run._in_hand
        return await run.run()


async def delivered(entry):
    await asyncio.sleep(1)
    return Succeeded(response_status=200)


@pytest.mark.parametrize("length", [100_000, 400_000, 1_000_000])
async def test_the_data_in_hand_has_one_bound_however_many_claims_it_came_with(length):
    queue = WatchedQueue()
    queue.insert(60, data='"' + "x" * (length - 2) + '"')
    report = await queue.run(delivered, TASK_MEMORY_MIB="256", MAX_DATA_CHARACTERS="1000000")
    assert report.settled == {"completed": 60}
    assert max(before + 20 * characters for before, characters in queue.claims) <= 64 * MIB
    assert queue.watched.bytes == 0, "all was given back"


async def test_one_entry_larger_than_the_bound_is_claimed_with_little_else_in_hand():
    queue = WatchedQueue()
    queue.insert(20, data='"' + "x" * 300_000 + '"')
    queue.insert(1, first=100, data='"' + "x" * 8_000_000 + '"')
    queue.insert(20, first=200, data='"' + "x" * 300_000 + '"')
    report = await queue.run(delivered, TASK_MEMORY_MIB="256")
    assert report.settled == {"completed": 41}
    (before,) = (before for before, characters in queue.claims if characters > 8_000_000)
    assert before <= 16 * MIB


async def test_answers_that_are_not_settled_take_part_of_the_bound():
    async def deliver(entry):
        await asyncio.sleep(0.01)
        return Succeeded(response_status=200, result="x" * 16_000)

    queue = WatchedQueue(settle_s=3)
    queue.insert(3000)
    report = await queue.run(
        deliver,
        TASK_MEMORY_MIB="256",
        MAX_ENTRIES="500",
        CONTAINER_TIMEOUT_SECONDS="600",
    )
    assert report.settled == {"completed": 3000}
    assert max(before for before, _ in queue.claims) <= 16 * MIB


async def test_deliveries_wait_while_answers_take_half_of_the_memory_for_entries():
    most = []

    async def deliver(entry):
        await asyncio.sleep(0.01)
        most.append(queue.watched.answer_bytes)
        return Succeeded(response_status=200, result=answer)

    answer = "😀" * 16_000
    queue = WatchedQueue(settle_s=1)
    queue.insert(3000)
    report = await queue.run(deliver, TASK_MEMORY_MIB="256", MAX_ENTRIES="3000", MAX_CONCURRENT_DELIVERIES="10")
    assert report.settled == {"completed": 3000}
    assert 32 * MIB < max(most) <= 32 * MIB + 10 * sys.getsizeof(answer), "those in flight come on top"


async def test_data_is_freed_when_its_delivery_has_ended():
    queue = WatchedQueue()
    queue.insert(3, data='"' + "x" * 10_000 + '"')
    await queue.run(delivered)
    assert queue.while_settling == [0]
