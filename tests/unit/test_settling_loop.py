"""When outcomes are settled, how many at a time, and what is counted."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys

import pytest
from processor_played import PlayedQueue, now

from rowqueue.errors import WarehouseUnavailable
from rowqueue.lifecycle import Entry, Interrupted, Permanent, RetryPolicy, Succeeded, Transient
from rowqueue.observability import configure
from rowqueue.processor.attempts import Delivery
from rowqueue.processor.in_hand import InHand
from rowqueue.processor.queue import ClaimRequest
from rowqueue.processor.settling import Settling
from rowqueue.settings import LARGEST_BLOCK

DONE = Succeeded(response_status=200)


class PlayedSettling:
    """Settling of entries that are in hand, with a queue that says when it was called."""

    def __init__(self, entries, *, queue=None, flush_s=1.0, flush_entries=100, stop_s=30.0, most_answer_bytes=10**9):
        self.queue = queue or PlayedQueue(entries)
        self.in_hand = InHand()
        self.settling = Settling(
            queue=self.queue,
            policy=RetryPolicy(backoff_s=900),
            in_hand=self.in_hand,
            flush_s=flush_s,
            flush_entries=flush_entries,
            flushed=asyncio.Event(),
            stop_s=stop_s,
            most_answer_bytes=most_answer_bytes,
            clock=now,
            rng=lambda: 0.5,
        )
        self.batches = []
        settle = self.queue.settle

        async def timed(settlements, attempts):
            self.batches.append((round(now(), 2), len(settlements)))
            return await settle(settlements, attempts)

        self.queue.settle = timed
        self.count = entries

    async def claim(self):
        self.entries = await self.queue.claim(ClaimRequest(token="token", entries=self.count, characters=10**9))
        self.in_hand.take(self.entries)
        return self.entries

    def end(self, entry, outcome=DONE, *, began=0.0):
        self.settling.add(Delivery(entry=entry, outcome=outcome, began=began, ended=now()))


class SlowSettles(PlayedQueue):
    async def settle(self, settlements, attempts):
        await asyncio.sleep(5.0006)
        return await super().settle(settlements, attempts)


@contextlib.asynccontextmanager
async def running(stage):
    task = asyncio.create_task(stage.settling.run())
    yield stage
    stage.settling.close()
    await task


async def test_outcomes_wait_for_others_and_no_longer_than_the_flush_time():
    stage = PlayedSettling(5)
    first, second, third, *_ = await stage.claim()
    async with running(stage):
        await asyncio.sleep(0.2)
        stage.end(first)
        await asyncio.sleep(0.5)
        stage.end(second)
        await asyncio.sleep(0.45)
        assert stage.batches == []
        await asyncio.sleep(0.1)
        assert stage.batches == [(1.2, 2)], "a second after the first of them"
        stage.end(third)
        await asyncio.sleep(1.01)
        assert stage.batches[1:] == [(2.25, 1)]


@pytest.mark.parametrize(("ended", "batches"), [(2, []), (3, [(0.0, 3)]), (4, [(0.0, 4)])])
async def test_a_full_batch_is_settled_at_once(ended, batches):
    stage = PlayedSettling(9, flush_entries=3)
    entries = await stage.claim()
    async with running(stage):
        await asyncio.sleep(0)
        for entry in entries[:ended]:
            stage.end(entry)
        await asyncio.sleep(0.1)
        assert stage.batches == batches


async def test_a_batch_that_becomes_full_while_it_is_gathered_is_settled_at_once():
    stage = PlayedSettling(9, flush_entries=3)
    entries = await stage.claim()
    async with running(stage):
        for entry in entries[:3]:
            await asyncio.sleep(0.1)
            stage.end(entry)
        await asyncio.sleep(0.01)
        assert stage.batches == [(0.3, 3)]


async def test_a_single_entry_in_hand_is_settled_at_once():
    stage = PlayedSettling(1)
    (entry,) = await stage.claim()
    async with running(stage):
        await asyncio.sleep(0.1)
        stage.end(entry)
        await asyncio.sleep(0.01)
        assert stage.batches == [(0.1, 1)]


async def test_the_last_outcome_of_several_in_hand_waits_for_none_that_cannot_come():
    stage = PlayedSettling(2)
    one, other = await stage.claim()
    async with running(stage):
        stage.end(one)
        await asyncio.sleep(1.1)
        assert stage.batches == [(1.0, 1)], "the other was in hand and could still come"
        stage.end(other)
        await asyncio.sleep(0.01)
        assert stage.batches[1:] == [(1.1, 1)]


async def test_at_the_end_everything_is_settled_at_once_and_the_loop_ends():
    stage = PlayedSettling(5, flush_s=60)
    for entry in await stage.claim():
        stage.end(entry)
    async with running(stage):
        await asyncio.sleep(0.1)
        assert stage.batches == []
    assert (now(), stage.batches) == (pytest.approx(0.1, abs=0.01), [(0.1, 5)])


async def test_a_loop_that_is_closed_before_anything_ended_settles_nothing():
    stage = PlayedSettling(1)
    async with running(stage):
        await asyncio.sleep(0)
    assert stage.batches == []


async def test_a_batch_whose_bytes_fill_a_statement_is_settled_at_once():
    stage = PlayedSettling(200, flush_s=1.0, flush_entries=2000)
    entries = await stage.claim()
    async with running(stage):
        for entry in entries[:112]:
            await asyncio.sleep(0.001)
            stage.end(entry, Succeeded(response_status=200, result="x" * 16_000))
        await asyncio.sleep(0.01)
    assert [count for _, count in stage.batches] == [56, 56]
    assert [at for at, _ in stage.batches] == [0.06, 0.11], "as soon as 900 kB have come"


async def test_what_ends_during_a_settle_is_settled_together_whatever_its_size():
    stage = PlayedSettling(300, flush_s=60.0, queue=SlowSettles(300))
    entries = await stage.claim()
    async with running(stage):
        for entry in entries:
            stage.end(entry, Succeeded(response_status=200, result="x" * 16_000))
            await asyncio.sleep(0.01)
        await asyncio.sleep(3)
    assert [count for _, count in stage.batches] == [56, 244]


async def test_a_batch_is_no_larger_than_the_largest_block():
    stage = PlayedSettling(LARGEST_BLOCK + 1)
    for entry in await stage.claim():
        stage.end(entry)
    async with running(stage):
        await asyncio.sleep(1)
    assert [count for _, count in stage.batches] == [LARGEST_BLOCK, 1]


async def test_what_was_never_started_is_released_before_any_outcome_is_settled_and_waits_for_nothing():
    stage = PlayedSettling(60, flush_s=60.0, queue=SlowSettles(60))
    entries = await stage.claim()
    async with running(stage):
        await asyncio.sleep(0.5)
        for entry in entries[:18]:
            stage.end(entry, Succeeded(response_status=200, result="x" * 50_000))
        await asyncio.sleep(0.1)
        for entry in entries[18:40]:
            stage.end(entry, Succeeded(response_status=200, result="x" * 50_000))
        for entry in entries[40:]:
            stage.end(entry, Interrupted(reason="never started"), began=None)
        await asyncio.sleep(6)
        assert [count for _, count in stage.batches] == [18, 20], "the batch in progress, then the releases"
    assert [count for _, count in stage.batches] == [18, 20, 22]


async def test_a_release_does_not_wait_for_others():
    stage = PlayedSettling(5, flush_s=60.0)
    entries = await stage.claim()
    async with running(stage):
        await asyncio.sleep(0.5)
        stage.end(entries[0])
        await asyncio.sleep(0.5)
        stage.end(entries[1], Interrupted(reason="never started"), began=None)
        await asyncio.sleep(0.01)
        assert stage.batches == [(1.0, 1)]
        assert stage.settling.lag_s() == pytest.approx(0.51, abs=0.01), "the outcome still waits"


async def test_what_was_settled_is_no_longer_in_hand_whether_its_claim_was_lost_or_not():
    stage = PlayedSettling(5, queue=PlayedQueue(5, lost=frozenset({1, 2})))
    for entry in await stage.claim():
        stage.end(entry)
    assert not stage.in_hand.nothing.is_set()
    async with running(stage):
        await asyncio.sleep(0)
    assert stage.in_hand.entries == 0
    assert stage.in_hand.nothing.is_set()
    assert stage.settling.settled == {"completed": 3}


async def test_each_outcome_is_counted_by_where_its_entry_went():
    stage = PlayedSettling(5)
    outcomes = [DONE, DONE, Transient(reason="503"), Permanent(reason="422"), Interrupted(reason="stop")]
    for entry, outcome in zip(await stage.claim(), outcomes, strict=True):
        stage.end(entry, outcome)
    async with running(stage):
        await asyncio.sleep(0)
    assert stage.settling.settled == {"completed": 2, "pending": 1, "failed": 1, "released": 1}


async def test_what_is_settled_carries_the_policys_delay_and_its_jitter():
    stage = PlayedSettling(1)
    (entry,) = await stage.claim()
    stage.end(entry, Transient(reason="503"))
    async with running(stage):
        await asyncio.sleep(0)
    (settlement,) = stage.queue.settlements
    assert settlement.delay_s == 450


async def test_a_batch_is_logged_with_its_counts_times_and_lost_claims(capsys):
    configure("processor")
    stage = PlayedSettling(4, queue=PlayedQueue(4, lost=frozenset({3})))
    entries = await stage.claim()
    await asyncio.sleep(0.25)
    for entry, outcome in zip(entries, [DONE, Transient(reason="503"), Interrupted(reason="stop"), DONE], strict=True):
        stage.end(entry, outcome)
    async with running(stage):
        await asyncio.sleep(0)
    lost, settled = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (lost["event"], lost["entries"], lost["count"]) == ("claim_lost", [3], 1)
    assert (settled["event"], settled["entries"]) == ("block_settled", 4)
    assert (settled["completed"], settled["pending"], settled["released"]) == (1, 1, 1)
    assert settled["DeliveryMilliseconds"] == [250.0, 250.0, 250.0, 250.0]
    assert (settled["EntriesCompleted"], settled["EntriesFailed"], settled["EntriesRetried"]) == (1, 0, 1)
    assert (settled["EntriesReleased"], settled["ClaimsLost"]) == (1, 1)


async def test_a_release_of_what_was_never_started_is_logged_without_a_time_of_delivery(capsys):
    configure("processor")
    stage = PlayedSettling(2)
    for entry in await stage.claim():
        stage.end(entry, Interrupted(reason="never started"), began=None)
    async with running(stage):
        await asyncio.sleep(0)
    (settled,) = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (settled["entries"], settled["EntriesReleased"]) == (2, 2)
    assert "DeliveryMilliseconds" not in settled


async def test_the_log_names_twenty_lost_claims_and_counts_all(capsys):
    configure("processor")
    stage = PlayedSettling(21, queue=PlayedQueue(21, lost=frozenset(range(21))))
    for entry in await stage.claim():
        stage.end(entry)
    async with running(stage):
        await asyncio.sleep(0)
    lost = json.loads(capsys.readouterr().out.splitlines()[0])
    assert (lost["entries"], lost["count"]) == (list(range(20)), 21)


async def test_the_log_says_how_long_a_settle_and_each_delivery_took(capsys):
    configure("processor")
    stage = PlayedSettling(1, queue=SlowSettles(1))
    (entry,) = await stage.claim()
    await asyncio.sleep(0.35046)
    stage.end(entry, began=0.1)
    async with running(stage):
        await asyncio.sleep(0)
    settled = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert settled["seconds"] == pytest.approx(5.001, abs=1e-6)
    assert settled["DeliveryMilliseconds"] == [250.5]


# Whether another delivery may start


async def test_no_delivery_starts_while_answers_take_more_memory_than_they_may_until_some_are_settled():
    answer = "x" * 10_000
    stage = PlayedSettling(4, queue=SlowSettles(4), most_answer_bytes=3 * sys.getsizeof(answer))
    entries = await stage.claim()
    for entry in entries[:3]:
        stage.end(entry, Succeeded(response_status=200, result=answer))
    assert stage.settling.room.is_set()
    stage.end(entries[3], Succeeded(response_status=200, result=answer))
    assert not stage.settling.room.is_set()
    async with running(stage):
        await asyncio.sleep(5)
        assert not stage.settling.room.is_set()
        await asyncio.sleep(1.1)
        assert stage.settling.room.is_set()


async def test_no_delivery_starts_while_more_is_unsettled_than_a_stop_could_settle():
    stage = PlayedSettling(40, queue=SlowSettles(40), stop_s=2.5)
    entries = await stage.claim()
    for entry in entries[:18]:
        stage.end(entry, Succeeded(response_status=200, result="x" * 49_800))
    assert stage.settling.room.is_set(), "one statement, which is thought to take 2.5 s"
    stage.end(entries[18], Succeeded(response_status=200, result="x" * 49_800))
    assert not stage.settling.room.is_set()


# How long outcomes have waited


async def test_the_lag_is_the_age_of_the_oldest_outcome_also_while_it_is_being_settled():
    stage = PlayedSettling(3, queue=SlowSettles(3))
    one, other, _ = await stage.claim()
    assert stage.settling.lag_s() == 0
    async with running(stage):
        await asyncio.sleep(0.1)
        stage.end(one)
        await asyncio.sleep(0.5)
        stage.end(other)
        assert stage.settling.lag_s() == pytest.approx(0.5, abs=0.01)
        await asyncio.sleep(3)
        assert stage.settling.lag_s() == pytest.approx(3.5, abs=0.01)
        await asyncio.sleep(3)
        assert stage.settling.lag_s() == 0


async def test_a_settle_that_fails_ends_the_loop_with_its_reason():
    stage = PlayedSettling(1, queue=PlayedQueue(1, fail_on_settle=WarehouseUnavailable("gone")))
    (entry,) = await stage.claim()
    stage.end(entry)
    with pytest.raises(WarehouseUnavailable, match="gone"):
        await stage.settling.run()
    assert stage.in_hand.entries == 1


# What is in hand


def entry(number):
    return Entry(id=number, data="{}", idempotency_key="key", claim_token="token")


async def test_what_was_not_started_can_be_taken_back_and_stays_in_hand():
    in_hand = InHand()
    in_hand.take([entry(1), entry(2), entry(3)])
    assert (await in_hand.start()).id == 1
    assert [taken.id for taken in in_hand.withdraw()] == [2, 3]
    assert (in_hand.entries, in_hand.unstarted) == (3, 0)


async def test_all_are_finished_when_each_that_was_started_is_and_none_is_left_to_start():
    in_hand = InHand()
    in_hand.take([entry(1), entry(2), entry(3)])
    await in_hand.start()
    finished = asyncio.create_task(in_hand.all_finished())
    in_hand.withdraw()
    await asyncio.sleep(0.01)
    assert not finished.done()
    in_hand.finish()
    await asyncio.sleep(0.01)
    assert finished.done()


async def test_nothing_is_in_hand_before_the_first_claim_and_after_an_empty_one():
    in_hand = InHand()
    assert in_hand.nothing.is_set()
    in_hand.take([])
    assert in_hand.nothing.is_set()
    in_hand.take([entry(1), entry(2)])
    assert not in_hand.nothing.is_set()
    in_hand.drop(1)
    assert not in_hand.nothing.is_set()
    in_hand.drop(1)
    assert in_hand.nothing.is_set()
