"""A processor's run, on a queue in memory and with a fake service. Time is virtual."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from processor_played import PlayedQueue, now, processor, succeed

from rowqueue.errors import (
    CredentialsStop,
    DeliveryFault,
    LockContention,
    ServiceUnreachable,
    WarehouseUnavailable,
)
from rowqueue.lifecycle import CredentialsFault, Permanent, Status, Succeeded, Transient
from rowqueue.processor.run import Pauses


async def test_everything_that_is_ready_is_claimed_delivered_and_settled_once():
    queue = PlayedQueue(100)
    report = await processor(queue, succeed, MAX_ENTRIES="8").run()
    assert report.reason == "nothing is ready"
    assert report.settled == {"completed": 100}
    assert sorted(s.entry_id for s in queue.settlements) == list(range(100))
    assert sorted(a.entry_id for a in queue.attempts) == list(range(100))
    assert (queue.ended.entries, queue.ended.reason) == (100, "nothing is ready")


async def test_outcomes_are_settled_in_batches():
    queue = PlayedQueue(200)
    await processor(queue, succeed, MAX_ENTRIES="50").run()
    assert queue.calls.count("settle") <= 8


async def test_the_first_claim_is_recorded_also_when_it_is_empty():
    queue = PlayedQueue()
    await processor(queue, succeed).run()
    assert queue.calls == ["claim", "first_claim", "count_ready", "end"]


async def test_an_empty_claim_while_entries_are_ready_is_tried_again():
    queue = PlayedQueue(3, empty_claims=2)
    report = await processor(queue, succeed).run()
    assert report.settled == {"completed": 3}


async def test_no_more_deliveries_are_in_flight_than_the_setting_says():
    now, most = 0, 0

    async def deliver(entry):
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.001)
        now -= 1
        return Succeeded(response_status=200)

    await processor(PlayedQueue(60), deliver, MAX_ENTRIES="30", MAX_CONCURRENT_DELIVERIES="7").run()
    assert most == 7


async def test_the_next_block_is_claimed_before_this_one_is_drained():
    queue = PlayedQueue(20)
    gate = asyncio.Event()

    async def deliver(entry):
        if entry.id == 0:
            await gate.wait()
        if queue.calls.count("claim") >= 2:
            gate.set()
        return Succeeded(response_status=200)

    async with asyncio.timeout(5):
        await processor(queue, deliver, MAX_ENTRIES="10", MAX_CONCURRENT_DELIVERIES="4").run()


async def test_entries_that_arrive_one_by_one_do_not_cost_a_claim_each():
    queue = PlayedQueue(1)

    async def deliver(entry):
        await asyncio.sleep(0.05)
        return Succeeded(response_status=200)

    async def trickle():
        for number in range(1, 40):
            queue.insert(1, first=number)
            await asyncio.sleep(0.005)

    producing = asyncio.create_task(trickle())
    report = await processor(queue, deliver, MAX_ENTRIES="30").run()
    await producing
    assert queue.calls.count("claim") < report.settled["completed"] / 2


async def test_a_stop_lets_what_is_in_flight_finish_and_releases_what_has_not_started():
    queue, stop, gate = PlayedQueue(50), asyncio.Event(), asyncio.Event()
    started = []

    async def deliver(entry):
        started.append(entry.id)
        if len(started) == 5:
            stop.set()
        await gate.wait()
        return Succeeded(response_status=200)

    running = asyncio.create_task(
        processor(queue, deliver, stop=stop, MAX_ENTRIES="20", MAX_CONCURRENT_DELIVERIES="5").run()
    )
    await stop.wait()
    await asyncio.sleep(0.05)
    gate.set()
    report = await running
    assert report.reason == "stop requested"
    assert report.settled == {"completed": 5, "released": 15}
    assert len(started) == 5
    assert {a.entry_id for a in queue.attempts} == set(started), "no attempt is spent on what never started"
    assert queue.pending() == 30, "nothing is claimed after a stop"


async def test_what_does_not_finish_within_the_grace_is_cut_short_and_released():
    queue, stop = PlayedQueue(4), asyncio.Event()

    async def deliver(entry):
        stop.set()
        await asyncio.sleep(60)

    report = await processor(queue, deliver, stop=stop, STOP_GRACE_SECONDS="0.05").run()
    assert report.settled == {"released": 4}
    assert {a.outcome for a in queue.attempts} == {"interrupted"}
    assert all(s.released and not s.counted for s in queue.settlements)


async def test_a_delivery_whose_2xx_has_arrived_is_completed_although_a_stop_cuts_it_short():
    queue, stop = PlayedQueue(4), asyncio.Event()

    async def deliver(entry):
        stop.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            if entry.id != 2:
                raise
        return Succeeded(response_status=200, result="half")

    async with asyncio.timeout(5):
        report = await processor(queue, deliver, stop=stop, STOP_GRACE_SECONDS="0.05").run()
    assert report.settled == {"completed": 1, "released": 3}


async def test_a_delivery_that_outlives_its_cancellation_is_the_last_one_of_its_worker():
    queue, stop, started = PlayedQueue(4), asyncio.Event(), []

    async def deliver(entry):
        started.append(entry.id)
        if len(started) == 1:
            asyncio.current_task().cancel()
        return await succeed(entry)

    asyncio.get_running_loop().call_later(1, stop.set)
    async with asyncio.timeout(5):
        await processor(queue, deliver, stop=stop, MAX_CONCURRENT_DELIVERIES="1").run()
    assert started == [0]


async def test_a_stop_after_the_last_claim_releases_what_is_in_hand():
    queue, stop = PlayedQueue(2), asyncio.Event()

    async def deliver(entry):
        while "count_ready" not in queue.calls:  # noqa: ASYNC110 -- the queue has no event for it
            await asyncio.sleep(0.01)
        stop.set()
        await asyncio.sleep(60)

    report = await processor(queue, deliver, stop=stop, STOP_GRACE_SECONDS="0.05").run()
    assert report.reason == "stop requested"
    assert report.settled == {"released": 2}


async def test_when_the_budget_is_spent_no_more_is_claimed_and_what_has_not_started_is_released():
    queue = PlayedQueue(1000)

    async def deliver(entry):
        await asyncio.sleep(0.3)
        return Succeeded(response_status=200)

    settings = {"CONTAINER_TIMEOUT_SECONDS": "1", "MAX_ENTRIES": "100", "MAX_CONCURRENT_DELIVERIES": "2"}
    report = await processor(queue, deliver, **settings).run()
    assert report.reason == "the budget is spent"
    assert set(report.settled) == {"completed", "released"}
    assert report.settled.total() == 1000 - queue.pending()


async def test_a_lost_claim_is_not_counted_as_settled():
    queue = PlayedQueue(5, lost=frozenset({2, 3}))
    report = await processor(queue, succeed).run()
    assert report.settled == {"completed": 3}


async def test_what_was_delivered_is_settled_also_when_claiming_fails():
    queue = PlayedQueue(20, fail_on_claim=LockContention("too many wait", errno=625))
    with pytest.raises(LockContention):
        await processor(queue, succeed, MAX_ENTRIES="5", MAX_CONCURRENT_DELIVERIES="2").run()
    assert {s.entry_id for s in queue.settlements} == {0, 1, 2, 3, 4}
    assert {s.status for s in queue.settlements} <= {Status.COMPLETED, Status.PENDING}


async def test_when_outcomes_cannot_be_written_the_one_reason_is_raised():
    queue = PlayedQueue(5, fail_on_settle=WarehouseUnavailable("gone"))
    with pytest.raises(WarehouseUnavailable, match="gone"):
        await processor(queue, succeed).run()


async def test_a_transient_failure_becomes_pending_with_its_attempt_in_the_audit_trail():
    queue = PlayedQueue(1)

    async def deliver(entry):
        return Transient(reason="the service answered 503", response_status=503)

    report = await processor(queue, deliver).run()
    assert report.settled == {"pending": 1}
    (attempt,) = queue.attempts
    assert (attempt.outcome, attempt.attempt, attempt.response_status) == ("transient", 1, 503)
    assert 0 <= attempt.finished_ms_ago <= attempt.started_ms_ago


def refused(*, status=401, certain=False):
    return CredentialsFault(reason=f"the service answered {status}", certain=certain, response_status=status)


async def test_a_refusal_of_our_credentials_releases_all_entries_places_a_hold_and_counts_no_attempt():
    queue = PlayedQueue(40)

    async def deliver(entry):
        await asyncio.sleep(0.001)
        return refused()

    with pytest.raises(CredentialsStop, match="the service answered 401"):
        await processor(queue, deliver, MAX_ENTRIES="20", MAX_CONCURRENT_DELIVERIES="5").run()
    assert queue.holds == ["the service answered 401"]
    assert all(s.released and not s.counted for s in queue.settlements)
    assert len(queue.settlements) == 40 - queue.pending()
    assert len(queue.attempts) < 10, "what was in flight, and hardly anything after it"
    assert queue.ended.reason == "credentials stop"


@pytest.mark.parametrize("certain", [True, False])
async def test_after_a_2xx_only_a_fault_that_no_entry_can_cause_stops_the_task(certain):
    queue = PlayedQueue(10)

    async def deliver(entry):
        return refused(status=403, certain=certain) if entry.id == 5 else await succeed(entry)

    running = processor(queue, deliver, MAX_ENTRIES="10", MAX_CONCURRENT_DELIVERIES="1").run()
    if certain:
        with pytest.raises(CredentialsStop):
            await running
        assert {s.entry_id for s in queue.settlements if s.released} == {5, 6, 7, 8, 9}
    else:
        report = await running
        assert report.settled == {"completed": 9, "failed": 1}
        assert queue.holds == []


async def test_a_refused_entry_is_settled_when_other_entries_have_been_answered():
    queue = PlayedQueue(6)

    async def deliver(entry):
        if entry.id == 0:
            return refused()
        await asyncio.sleep(0.03)
        return Succeeded(response_status=200)

    report = await processor(queue, deliver, MAX_CONCURRENT_DELIVERIES="3").run()
    assert report.settled == {"completed": 5, "failed": 1}
    assert queue.holds == []


async def test_a_connection_that_was_closed_on_one_entry_costs_only_that_entry_a_retry():
    queue = PlayedQueue(6)

    async def deliver(entry):
        if entry.id == 0:
            return CredentialsFault(reason="the service closed the connection", certain=False)
        await asyncio.sleep(0.03)
        return Succeeded(response_status=200)

    report = await processor(queue, deliver, MAX_CONCURRENT_DELIVERIES="3").run()
    assert report.settled == {"completed": 5, "pending": 1}


async def test_a_probe_claims_one_entry_and_lifts_the_hold_when_it_is_answered():
    queue = PlayedQueue(9)
    report = await processor(queue, succeed, PROBE="1").run()
    assert report.settled == {"completed": 1}
    assert queue.pending() == 8
    assert "lift" in queue.calls


async def test_a_refused_probe_releases_its_entry_counts_the_doubt_and_places_another_hold():
    queue = PlayedQueue(9)

    async def deliver(entry):
        return refused()

    with pytest.raises(CredentialsStop):
        await processor(queue, deliver, PROBE="1").run()
    (settlement,) = queue.settlements
    assert (settlement.status, settlement.counted, settlement.released) == (Status.PENDING, False, True)
    assert settlement.doubted
    assert [attempt.outcome for attempt in queue.attempts] == ["doubtful"]
    assert queue.holds == ["the service answered 401"]
    assert "lift" not in queue.calls


async def test_a_probe_pays_for_a_doubt_when_its_entry_was_released_twenty_times():
    class DoubtedOften(PlayedQueue):
        async def claim(self, request):
            return [replace(entry, doubts=20) for entry in await super().claim(request)]

    queue = DoubtedOften(9)

    async def deliver(entry):
        return refused()

    with pytest.raises(CredentialsStop):
        await processor(queue, deliver, PROBE="1").run()
    (settlement,) = queue.settlements
    assert (settlement.status, settlement.counted, settlement.released) == (Status.PENDING, True, False)
    assert settlement.delay_s > 0
    assert queue.holds == ["the service answered 401"]


async def test_a_probe_that_meets_a_certificate_fault_counts_neither_an_attempt_nor_a_doubt():
    queue = PlayedQueue(9)

    async def deliver(entry):
        return CredentialsFault(reason="TLS failed", certain=True)

    with pytest.raises(CredentialsStop):
        await processor(queue, deliver, PROBE="1").run()
    assert queue.settlements[0].released
    assert not queue.settlements[0].counted
    assert not queue.settlements[0].doubted


async def test_a_fault_of_this_program_costs_one_entry_an_attempt_and_does_not_affect_other_entries():
    queue = PlayedQueue(9)

    async def deliver(entry):
        if entry.id == 4:
            raise KeyError("canary")
        return await succeed(entry)

    with pytest.raises(DeliveryFault, match="1 deliveries met a fault of this program"):
        await processor(queue, deliver).run()
    assert {s.entry_id: s.status for s in queue.settlements if s.status is not Status.COMPLETED} == {4: Status.PENDING}
    assert len(queue.settlements) == 9


async def test_a_credentials_stop_stays_decided_although_a_later_block_could_clear_the_doubt():
    class SlowSecondClaim(PlayedQueue):
        async def claim(self, request):
            if self.requests:
                await asyncio.sleep(0.3)
            return await super().claim(request)

    queue = SlowSecondClaim(21)

    async def deliver(entry):
        await asyncio.sleep(0.01)
        if entry.id == 0:
            return refused()
        return Transient(reason="503", response_status=503) if entry.id < 20 else Succeeded(response_status=200)

    with pytest.raises(CredentialsStop):
        await processor(queue, deliver, MAX_ENTRIES="20", MAX_CONCURRENT_DELIVERIES="20").run()
    assert queue.ended.reason == "credentials stop"
    assert len(queue.blocks) == 2
    assert {s.entry_id for s in queue.settlements} == set(range(21))


async def test_a_hold_that_cannot_be_placed_does_not_hide_why_the_task_ends():
    class WithoutHolds(PlayedQueue):
        async def place_hold(self, *, reason, seconds):
            raise WarehouseUnavailable("gone")

    queue = WithoutHolds(3)

    async def deliver(entry):
        return refused()

    with pytest.raises(CredentialsStop):
        await processor(queue, deliver).run()
    assert queue.ended.reason == "credentials stop"


async def test_when_no_delivery_got_an_answer_the_task_says_so_after_everything_is_settled():
    queue = PlayedQueue(9)

    async def deliver(entry):
        return Transient(reason="no connection")

    with pytest.raises(ServiceUnreachable, match="no delivery got an answer; the last: no connection"):
        await processor(queue, deliver).run()
    assert len(queue.settlements) == 9
    assert queue.ended.entries == 9


async def test_a_probe_that_gets_no_answer_at_all_leaves_the_hold_as_it_is():
    queue = PlayedQueue(9)

    async def deliver(entry):
        return Transient(reason="no connection")

    with pytest.raises(ServiceUnreachable):
        await processor(queue, deliver, PROBE="1").run()
    assert [s.status for s in queue.settlements] == [Status.PENDING]
    assert "lift" not in queue.calls
    assert queue.holds == []


async def test_a_429_slows_the_task_that_saw_it():
    queue, now, most_after = PlayedQueue(60), 0, 0

    async def deliver(entry):
        nonlocal now, most_after
        now += 1
        if 8 <= entry.id < 16:
            most_after = max(most_after, now)
        await asyncio.sleep(0.002)
        now -= 1
        if entry.id < 8:
            return Transient(reason="429", response_status=429, retry_after_s=1)
        return Succeeded(response_status=200)

    async with asyncio.timeout(20):
        report = await processor(queue, deliver, MAX_ENTRIES="60", MAX_CONCURRENT_DELIVERIES="8").run()
    assert report.settled == {"pending": 8, "completed": 52}
    assert most_after <= 5


async def test_a_stop_while_the_gate_is_closed_releases_the_deliveries_it_has_not_admitted():
    queue, stop = PlayedQueue(20), asyncio.Event()

    async def deliver(entry):
        asyncio.get_running_loop().call_later(0.05, stop.set)
        await asyncio.sleep(0.001)
        return Transient(reason="429", response_status=429, retry_after_s=30)

    async with asyncio.timeout(5):
        report = await processor(queue, deliver, stop=stop, MAX_ENTRIES="20", MAX_CONCURRENT_DELIVERIES="4").run()
    assert report.settled["released"] == 16
    assert len(queue.attempts) == 4


async def test_a_worker_with_entries_in_hand_asks_for_no_suspects():
    queue = PlayedQueue(40)

    async def slow(entry):
        await asyncio.sleep(0.01)
        return Succeeded(response_status=200)

    await processor(queue, slow, MAX_ENTRIES="8", MAX_CONCURRENT_DELIVERIES="4", FLUSH_SECONDS="0.05").run()
    asked = [request.nothing_in_hand for request in queue.requests]
    assert asked[0] is True
    assert False in asked, "the next block is claimed before the last one is settled"


async def test_suspects_are_claimed_when_everything_before_is_settled():
    class QueueWatchingInHand(PlayedQueue):
        in_hand_at_claims = ()

        async def claim(self, request):
            in_hand = sum(len(block) for block in self.blocks) - len(self.settlements)
            block = await super().claim(request)
            if block and block[0].is_suspect:
                self.in_hand_at_claims = (*self.in_hand_at_claims, in_hand)
            return block

    queue = QueueWatchingInHand(30)
    queue.insert(250, first=100, crash_count=1, priority=-1)
    report = await processor(queue, succeed, FLUSH_SECONDS="0.05").run()
    assert report.settled == {"completed": 280}
    assert [len(block) for block in queue.blocks if block and block[0].is_suspect] == [100, 100, 50]
    assert queue.in_hand_at_claims == (0, 0, 0)
    assert queue.calls.count("claim") <= 8, "it waits for that, and does not ask again and again"


async def test_entries_that_two_workers_died_on_are_claimed_alone():
    queue = PlayedQueue()
    queue.insert(3, crash_count=2)
    await processor(queue, succeed, FLUSH_SECONDS="0.05").run()
    assert [len(block) for block in queue.blocks] == [1, 1, 1, 0]
    assert queue.calls.count("settle") == 3


@pytest.mark.parametrize(
    ("environ", "suspects"),
    [({"PROBE": "1"}, 1), ({"MAX_ENTRIES": "5", "MAX_BLOCK_ENTRIES": "20"}, 20), ({}, 100)],
)
async def test_a_probe_asks_for_one_suspect_and_a_small_cap_limits_them_too(environ, suspects):
    queue = PlayedQueue()
    await processor(queue, succeed, **environ).run()
    assert [request.suspects for request in queue.requests] == [suspects]


async def test_after_a_stop_nothing_is_counted():
    queue, stop = PlayedQueue(3), asyncio.Event()

    async def deliver(entry):
        stop.set()
        return await succeed(entry)

    await processor(queue, deliver, stop=stop).run()
    assert "count_ready" not in queue.calls


async def test_an_empty_claim_is_followed_by_a_pause_although_entries_are_ready():
    queue = PlayedQueue(3, empty_claims=3)
    began = now()
    await processor(queue, succeed, rng=lambda: 0.25).run()
    assert now() - began > 3 * 2 * 0.3 * 0.25


async def test_a_block_limited_by_characters_is_not_short():
    queue = PlayedQueue()
    queue.insert(40, data='"' + "x" * 98 + '"')
    await processor(queue, succeed, MAX_BLOCK_CHARACTERS="500").run()
    assert queue.calls.count("count_ready") == 1, "after eight blocks of five, and not after each"


async def test_a_delivery_without_an_answer_does_not_count_as_a_fast_one():
    queue = PlayedQueue(5000)

    async def deliver(entry):
        if entry.id == 0:
            return Permanent(reason="data is not JSON")
        await asyncio.sleep(60)
        raise AssertionError

    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(0.5, stop.set)
    await processor(queue, deliver, stop=stop, MAX_CONCURRENT_DELIVERIES="32", STOP_GRACE_SECONDS="0.05").run()
    assert sum(asked_of(queue)) < 100, "as many as can start, and a little more"


async def test_no_more_than_half_a_block_is_unstarted_when_the_next_is_claimed():
    unstarted = []

    class QueueWatchingUnstarted(PlayedQueue):
        async def claim(self, request):
            unstarted.append(running._in_hand.unstarted)
            return await super().claim(request)

    async def deliver(entry):
        await asyncio.sleep(0.01)
        return Succeeded(response_status=200)

    queue = QueueWatchingUnstarted(3000)
    running = processor(queue, deliver, MAX_ENTRIES="8", MAX_BLOCK_ENTRIES="40", MAX_CONCURRENT_DELIVERIES="4")
    await running.run()
    assert 0 < max(unstarted) <= 20


async def test_a_suspect_is_delivered_and_settled_before_anything_else_is_claimed():
    class QueueWatchingSettles(PlayedQueue):
        settled_at_claims = ()

        async def claim(self, request):
            self.settled_at_claims = (*self.settled_at_claims, [s.entry_id for s in self.settlements])
            return await super().claim(request)

    queue = QueueWatchingSettles()
    queue.insert(1, first=100, crash_count=1, priority=1)
    queue.insert(8)
    report = await processor(queue, succeed, FLUSH_SECONDS="0.05").run()
    assert report.settled == {"completed": 9}
    assert queue.settled_at_claims[:2] == ([], [100])


def asked_of(queue):
    """How many entries each claim has asked for."""
    return [request.entries for request in queue.requests]


async def test_blocks_grow_while_they_come_back_full_and_shrink_when_one_does_not():
    class RefilledOnce(PlayedQueue):
        refilled = False

        async def count_ready(self):
            if not self.refilled:
                self.refilled = True
                self.insert(40, first=900)
            return await super().count_ready()

    queue = RefilledOnce(900)
    report = await processor(queue, succeed, MAX_CONCURRENT_DELIVERIES="32").run()
    assert report.settled == {"completed": 940}
    asked = asked_of(queue)
    assert asked[:4] == [8, 32, 128, 512]
    assert asked[4] > 220
    assert asked[5:] == [220], "the fifth claim got that many, and nothing was ready after the sixth"


async def test_when_nothing_is_ready_there_is_no_further_claim():
    queue = PlayedQueue(5)
    await processor(queue, succeed).run()
    assert queue.calls.count("claim") == 1, "a claim locks the table also when it finds nothing"
    assert queue.calls[-3:] == ["count_ready", "settle", "end"]


async def test_blocks_grow_no_larger_than_their_cap():
    queue = PlayedQueue(300)
    await processor(queue, succeed, MAX_ENTRIES="8", MAX_BLOCK_ENTRIES="50").run()
    assert max(asked_of(queue)) == 50


async def test_suspects_that_are_claimed_alone_do_not_change_the_size_of_a_block():
    queue = PlayedQueue()
    queue.insert(2, crash_count=2)
    await processor(queue, succeed, FLUSH_SECONDS="0.05").run()
    assert asked_of(queue) == [8, 8, 8]


async def test_large_blocks_leave_little_to_release_when_the_budget_ends():
    queue = PlayedQueue(20_000)

    async def deliver(entry):
        await asyncio.sleep(0.02)
        return Succeeded(response_status=200)

    report = await processor(queue, deliver, CONTAINER_TIMEOUT_SECONDS="2").run()
    assert report.reason == "the budget is spent"
    assert max(asked_of(queue)) > 100
    assert report.settled["released"] < report.settled["completed"] / 5


@pytest.mark.parametrize(("longest_lag_s", "heeded"), [(0.05, True), (60, False)])
async def test_nothing_is_claimed_while_outcomes_have_waited_long_for_their_settle(longest_lag_s, heeded):
    delivered = 0

    class SlowSettle(PlayedQueue):
        unsettled = ()

        async def settle(self, settlements, attempts):
            await asyncio.sleep(0.004 * len(settlements))
            return await super().settle(settlements, attempts)

        async def claim(self, request):
            self.unsettled = (*self.unsettled, delivered - len(self.settlements))
            return await super().claim(request)

    async def deliver(entry):
        nonlocal delivered
        await asyncio.sleep(0.01)
        delivered += 1
        return Succeeded(response_status=200, result="x" * 45_000)  # 20 fit into a statement

    queue = SlowSettle(500)
    settings = {"MAX_ENTRIES": "50", "MAX_BLOCK_ENTRIES": "50", "MAX_CONCURRENT_DELIVERIES": "8"}
    pauses = Pauses(longest_lag_s=longest_lag_s)
    report = await processor(queue, deliver, pauses=pauses, **settings).run()
    assert report.settled == {"completed": 500}
    assert (max(queue.unsettled) < 150) is heeded


async def test_the_wait_after_a_short_block_ends_with_its_deliveries():
    queue = PlayedQueue(20)
    async with asyncio.timeout(5):
        report = await processor(queue, succeed, FLUSH_SECONDS="30").run()
    assert report.settled == {"completed": 20}


async def test_a_block_smaller_than_the_first_is_followed_by_a_pause():
    queue = PlayedQueue(3)
    began = now()
    await processor(queue, succeed, FLUSH_SECONDS="0.4").run()
    assert now() - began >= 0.4, "what trickles in is claimed together"


async def test_the_grace_counts_from_the_stop_and_not_from_the_end_of_a_claim():
    class QueueWithASlowClaim(PlayedQueue):
        async def claim(self, request):
            if self.requests:
                stop.set()
                await asyncio.sleep(20)
            return await super().claim(request)

    stop = asyncio.Event()
    queue = QueueWithASlowClaim(40)

    async def deliver(entry):
        await asyncio.sleep(1000)
        raise AssertionError

    began = now()
    settings = {"MAX_ENTRIES": "10", "MAX_CONCURRENT_DELIVERIES": "10", "STOP_GRACE_SECONDS": "30"}
    report = await processor(queue, deliver, stop=stop, **settings).run()
    assert report.settled.total() == report.settled["released"]
    assert now() - began == pytest.approx(30, abs=1)


async def test_a_stop_before_any_answer_is_not_reported_as_an_unreachable_service():
    queue, stop = PlayedQueue(3), asyncio.Event()

    async def deliver(entry):
        stop.set()
        return Transient(reason="no connection")

    report = await processor(queue, deliver, stop=stop).run()
    assert report.reason == "stop requested"


async def test_after_a_concluded_doubt_no_delivery_of_a_later_block_starts():
    started = []

    class QueueWithALateBlock(PlayedQueue):
        async def claim(self, request):
            if self.requests:
                await asyncio.sleep(1)
            return await super().claim(request)

    queue = QueueWithALateBlock(3)

    async def deliver(entry):
        started.append(entry.id)
        return refused()

    with pytest.raises(CredentialsStop):
        await processor(queue, deliver, MAX_ENTRIES="2", MAX_CONCURRENT_DELIVERIES="2", FLUSH_SECONDS="30").run()
    assert started == [0, 1]
