"""The processor's life, with a queue and a partner that the test holds in its hands."""

from __future__ import annotations

import asyncio
import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import pytest

from rowqueue.errors import (
    CredentialsStop,
    DeliveryFault,
    LockContention,
    ServiceUnreachable,
    WarehouseUnavailable,
)
from rowqueue.lifecycle import CredentialsFault, Entry, Permanent, RetryPolicy, Status, Succeeded, Transient
from rowqueue.processor import claiming
from rowqueue.processor.run import Processor
from rowqueue.records import Ready
from rowqueue.settings import ProcessorSettings

SETTINGS = {
    "ENVIRONMENT": "dev",
    "CERT_BUCKET": "certs",
    "EXTERNAL_SERVICE_URL": "https://127.0.0.1/",
    "SNOWFLAKE_ACCOUNT": "local",
    "SNOWFLAKE_WAREHOUSE": "WH",
    "SNOWFLAKE_DATABASE": "DB",
    "SNOWFLAKE_SCHEMA": "PUBLIC",
    "FLUSH_SECONDS": "0.02",
}


@dataclass
class QueueInMemory:
    """Stands where the store does: entries wait, are claimed, are settled; every call is kept."""

    waiting: list[Entry]
    calls: list[str] = field(default_factory=list)
    settlements: list = field(default_factory=list)
    attempts: list = field(default_factory=list)
    lost: frozenset[int] = frozenset()
    empty_claims: int = 0
    fail_on_claim: Exception | None = None
    fail_on_settle: Exception | None = None
    ended: dict | None = None
    first_claim: int | None = None
    holds: list[str] = field(default_factory=list)

    def claim(self, *, processor_id, claim_token, entries, characters, suspects, holds_nothing, probe):
        self.calls.append("claim")
        if self.fail_on_claim and self.calls.count("claim") > 1:
            raise self.fail_on_claim
        if self.empty_claims:
            self.empty_claims -= 1
            return []
        ready = [entry for entry in self.waiting if holds_nothing or not entry.is_suspect]
        alike = list(itertools.takewhile(lambda entry: entry.crash_count == ready[0].crash_count, ready))
        most = {0: entries, 1: suspects}.get(ready[0].crash_count, 1) if ready else 0
        before = itertools.accumulate((len(entry.data) for entry in alike), initial=0)
        block = [entry for entry, size in zip(alike[:most], before, strict=False) if size < characters]
        taken = {entry.id for entry in block}
        self.waiting = [entry for entry in self.waiting if entry.id not in taken]
        return block

    def count_ready(self, *, probe=False):
        self.calls.append("count_ready")
        return Ready(entries=len(self.waiting), suspects=sum(entry.is_suspect for entry in self.waiting))

    def place_hold(self, *, reason, seconds, created_by):
        self.holds.append(reason)

    def lift_ended_holds(self):
        self.calls.append("lift")

    def settle_or_bisect(self, settlements, attempts, *, processor_id):
        self.calls.append("settle")
        if self.fail_on_settle:
            raise self.fail_on_settle
        self.settlements += settlements
        self.attempts += attempts
        return self.lost

    def record_first_claim(self, *, processor_id, entries):
        self.calls.append("first_claim")
        self.first_claim = entries

    def record_end(self, *, processor_id, entries, seconds, reason):
        self.calls.append("end")
        self.ended = {"entries": entries, "reason": reason}


def entries(count):
    return [Entry(id=n, data="{}", idempotency_key=f"key-{n}", claim_token="token") for n in range(count)]


THREAD = ThreadPoolExecutor(1)


def processor(queue, deliver, *, stop=None, rng=lambda: 0.01, **settings):
    tokens = itertools.count()
    return Processor(
        queue=queue,
        deliver=deliver,
        policy=RetryPolicy(),
        settings=ProcessorSettings.from_env(SETTINGS | settings),
        processor_id="dev-1",
        thread=THREAD,
        stop=stop or asyncio.Event(),
        rng=rng,
        new_token=lambda: f"token-{next(tokens)}",
    )


async def succeed(entry):
    await asyncio.sleep(0)
    return Succeeded(response_status=200)


async def test_everything_that_is_ready_is_claimed_delivered_and_settled_once():
    queue = QueueInMemory(entries(100))
    report = await processor(queue, succeed, MAX_ENTRIES="8").run()
    assert report.reason == "nothing is ready"
    assert report.settled == {"completed": 100}
    assert sorted(s.entry_id for s in queue.settlements) == list(range(100))
    assert sorted(a.entry_id for a in queue.attempts) == list(range(100))
    assert queue.ended == {"entries": 100, "reason": "nothing is ready"}


async def test_outcomes_are_settled_by_the_batch_and_never_one_by_one():
    queue = QueueInMemory(entries(200))
    await processor(queue, succeed, MAX_ENTRIES="50").run()
    assert queue.calls.count("settle") <= 8


async def test_the_first_claim_is_recorded_also_when_it_is_empty():
    queue = QueueInMemory([])
    await processor(queue, succeed).run()
    assert queue.calls == ["claim", "first_claim", "count_ready", "end"]


async def test_an_empty_claim_while_entries_are_ready_is_tried_again():
    queue = QueueInMemory(entries(3), empty_claims=2)
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

    await processor(QueueInMemory(entries(60)), deliver, MAX_ENTRIES="30", MAX_CONCURRENT_DELIVERIES="7").run()
    assert most == 7


async def test_the_next_block_is_claimed_before_this_one_is_drained():
    queue = QueueInMemory(entries(20))
    gate = asyncio.Event()

    async def deliver(entry):
        if entry.id == 0:
            await gate.wait()
        if queue.calls.count("claim") >= 2:
            gate.set()
        return Succeeded(response_status=200)

    async with asyncio.timeout(5):
        await processor(queue, deliver, MAX_ENTRIES="10", MAX_CONCURRENT_DELIVERIES="4").run()


async def test_entries_that_trickle_in_do_not_cost_a_claim_each():
    queue = QueueInMemory([])
    made = iter(entries(40))

    async def deliver(entry):
        await asyncio.sleep(0.05)
        return Succeeded(response_status=200)

    async def trickle():
        for entry in made:
            queue.waiting.append(entry)
            await asyncio.sleep(0.005)

    queue.waiting.append(next(made))
    producing = asyncio.create_task(trickle())
    report = await processor(queue, deliver, MAX_ENTRIES="30").run()
    await producing
    assert queue.calls.count("claim") < report.settled["completed"] / 2


async def test_a_stop_lets_what_is_in_flight_finish_and_releases_what_has_not_started():
    queue, stop, gate = QueueInMemory(entries(50)), asyncio.Event(), asyncio.Event()
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
    assert len(queue.waiting) == 30, "nothing is claimed after a stop"


async def test_what_does_not_finish_within_the_grace_is_cut_short_and_released():
    queue, stop = QueueInMemory(entries(4)), asyncio.Event()

    async def deliver(entry):
        stop.set()
        await asyncio.sleep(60)

    report = await processor(queue, deliver, stop=stop, STOP_GRACE_SECONDS="0.05").run()
    assert report.settled == {"released": 4}
    assert {a.outcome for a in queue.attempts} == {"interrupted"}
    assert all(s.released and not s.counted for s in queue.settlements)


async def test_a_stop_after_the_last_claim_is_heeded_too():
    queue, stop = QueueInMemory(entries(2)), asyncio.Event()

    async def deliver(entry):
        while "count_ready" not in queue.calls:  # noqa: ASYNC110 -- it is called in another thread
            await asyncio.sleep(0.01)
        stop.set()
        await asyncio.sleep(60)

    report = await processor(queue, deliver, stop=stop, STOP_GRACE_SECONDS="0.05").run()
    assert report.reason == "stop requested"
    assert report.settled == {"released": 2}


async def test_when_the_budget_is_spent_no_more_is_claimed_and_what_has_not_started_is_released():
    queue = QueueInMemory(entries(1000))

    async def deliver(entry):
        await asyncio.sleep(0.3)
        return Succeeded(response_status=200)

    settings = {"CONTAINER_TIMEOUT_SECONDS": "1", "MAX_ENTRIES": "100", "MAX_CONCURRENT_DELIVERIES": "2"}
    report = await processor(queue, deliver, **settings).run()
    assert report.reason == "the budget is spent"
    assert set(report.settled) == {"completed", "released"}
    assert report.settled.total() == 1000 - len(queue.waiting)


async def test_a_lost_claim_is_not_counted_as_settled():
    queue = QueueInMemory(entries(5), lost=frozenset({2, 3}))
    report = await processor(queue, succeed).run()
    assert report.settled == {"completed": 3}


async def test_what_was_delivered_is_settled_also_when_claiming_fails():
    queue = QueueInMemory(entries(20), fail_on_claim=LockContention("too many wait", errno=625))
    with pytest.raises(LockContention):
        await processor(queue, succeed, MAX_ENTRIES="5", MAX_CONCURRENT_DELIVERIES="2").run()
    assert {s.entry_id for s in queue.settlements} == {0, 1, 2, 3, 4}
    assert {s.status for s in queue.settlements} <= {Status.COMPLETED, Status.PENDING}


async def test_when_outcomes_can_not_be_written_the_one_reason_is_raised():
    queue = QueueInMemory(entries(5), fail_on_settle=WarehouseUnavailable("gone"))
    with pytest.raises(WarehouseUnavailable, match="gone"):
        await processor(queue, succeed).run()


async def test_a_transient_failure_goes_back_with_its_attempt_in_the_audit_trail():
    queue = QueueInMemory(entries(1))

    async def deliver(entry):
        return Transient(reason="the service answered 503", response_status=503)

    report = await processor(queue, deliver).run()
    assert report.settled == {"pending": 1}
    (attempt,) = queue.attempts
    assert (attempt.outcome, attempt.attempt, attempt.response_status) == ("transient", 1, 503)
    assert 0 <= attempt.finished_ms_ago <= attempt.started_ms_ago


def refused(*, status=401, certain=False):
    return CredentialsFault(reason=f"the service answered {status}", certain=certain, response_status=status)


async def test_when_the_service_lets_nobody_in_everything_is_released_a_hold_placed_and_no_attempt_spent():
    queue = QueueInMemory(entries(40))

    async def deliver(entry):
        await asyncio.sleep(0.001)
        return refused()

    with pytest.raises(CredentialsStop, match="the service answered 401"):
        await processor(queue, deliver, MAX_ENTRIES="20", MAX_CONCURRENT_DELIVERIES="5").run()
    assert queue.holds == ["the service answered 401"]
    assert all(s.released and not s.counted for s in queue.settlements)
    assert len(queue.settlements) == 40 - len(queue.waiting)
    assert len(queue.attempts) < 10, "what was in flight, and hardly anything after it"
    assert queue.ended["reason"] == "credentials stop"


@pytest.mark.parametrize("certain", [True, False])
async def test_after_a_2xx_only_a_fault_that_no_entry_can_cause_stops_the_task(certain):
    queue = QueueInMemory(entries(10))

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


async def test_an_entry_that_is_refused_first_is_judged_when_its_neighbours_have_been_answered():
    queue = QueueInMemory(entries(6))

    async def deliver(entry):
        if entry.id == 0:
            return refused()
        await asyncio.sleep(0.03)
        return Succeeded(response_status=200)

    report = await processor(queue, deliver, MAX_CONCURRENT_DELIVERIES="3").run()
    assert report.settled == {"completed": 5, "failed": 1}
    assert queue.holds == []


async def test_a_connection_that_was_closed_on_one_entry_only_is_that_entrys_retry():
    queue = QueueInMemory(entries(6))

    async def deliver(entry):
        if entry.id == 0:
            return CredentialsFault(reason="the service closed the connection", certain=False)
        await asyncio.sleep(0.03)
        return Succeeded(response_status=200)

    report = await processor(queue, deliver, MAX_CONCURRENT_DELIVERIES="3").run()
    assert report.settled == {"completed": 5, "pending": 1}


async def test_a_probe_claims_one_entry_and_lifts_the_hold_when_it_is_answered():
    queue = QueueInMemory(entries(9))
    report = await processor(queue, succeed, PROBE="1").run()
    assert report.settled == {"completed": 1}
    assert len(queue.waiting) == 8
    assert "lift" in queue.calls


async def test_a_probe_that_is_refused_spends_its_entrys_attempt_and_places_another_hold():
    queue = QueueInMemory(entries(9))

    async def deliver(entry):
        return refused()

    with pytest.raises(CredentialsStop):
        await processor(queue, deliver, PROBE="1").run()
    (settlement,) = queue.settlements
    assert (settlement.status, settlement.counted, settlement.released) == (Status.PENDING, True, False)
    assert settlement.delay_s > 0, "so that the next probe takes another entry"
    assert queue.holds == ["the service answered 401"]
    assert "lift" not in queue.calls


async def test_a_probe_that_meets_a_certificate_fault_spends_nothing():
    queue = QueueInMemory(entries(9))

    async def deliver(entry):
        return CredentialsFault(reason="TLS failed", certain=True)

    with pytest.raises(CredentialsStop):
        await processor(queue, deliver, PROBE="1").run()
    assert queue.settlements[0].released
    assert not queue.settlements[0].counted


async def test_a_fault_of_ours_costs_one_entry_an_attempt_and_its_neighbours_nothing():
    queue = QueueInMemory(entries(9))

    async def deliver(entry):
        if entry.id == 4:
            raise KeyError("canary")
        return await succeed(entry)

    with pytest.raises(DeliveryFault, match="1 deliveries met a fault of this program"):
        await processor(queue, deliver).run()
    assert {s.entry_id: s.status for s in queue.settlements if s.status is not Status.COMPLETED} == {4: Status.PENDING}
    assert len(queue.settlements) == 9


async def test_a_doubt_that_a_later_block_could_clear_is_not_reopened_once_it_is_concluded():
    queue = QueueInMemory(entries(21))
    claimed_at_once = queue.claim

    def slow_second_claim(**arguments):
        if "claim" in queue.calls:
            time.sleep(0.3)
        return claimed_at_once(**arguments)

    queue.claim = slow_second_claim

    async def deliver(entry):
        await asyncio.sleep(0.01)
        if entry.id == 0:
            return refused()
        return Transient(reason="503", response_status=503) if entry.id < 20 else Succeeded(response_status=200)

    with pytest.raises(CredentialsStop):
        await processor(queue, deliver, MAX_ENTRIES="20", MAX_CONCURRENT_DELIVERIES="20").run()
    assert queue.ended["reason"] == "credentials stop"
    assert {s.entry_id for s in queue.settlements} == set(range(21 - len(queue.waiting)))


async def test_a_hold_that_can_not_be_placed_does_not_hide_why_the_task_ends():
    queue = QueueInMemory(entries(3))

    def fail(**_):
        raise WarehouseUnavailable("gone")

    queue.place_hold = fail

    async def deliver(entry):
        return refused()

    with pytest.raises(CredentialsStop):
        await processor(queue, deliver).run()
    assert queue.ended["reason"] == "credentials stop"


async def test_when_not_one_delivery_got_an_answer_the_task_says_so_after_everything_is_settled():
    queue = QueueInMemory(entries(9))

    async def deliver(entry):
        return Transient(reason="no connection")

    with pytest.raises(ServiceUnreachable, match="not one delivery got an answer; the last: no connection"):
        await processor(queue, deliver).run()
    assert len(queue.settlements) == 9
    assert queue.ended["entries"] == 9


async def test_a_probe_that_gets_no_answer_at_all_leaves_the_hold_as_it_is():
    queue = QueueInMemory(entries(9))

    async def deliver(entry):
        return Transient(reason="no connection")

    with pytest.raises(ServiceUnreachable):
        await processor(queue, deliver, PROBE="1").run()
    assert [s.status for s in queue.settlements] == [Status.PENDING]
    assert "lift" not in queue.calls
    assert queue.holds == []


async def test_a_429_slows_the_task_that_saw_it():
    queue, now, most_after = QueueInMemory(entries(60)), 0, 0

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


async def test_a_stop_while_the_gate_is_shut_releases_what_waits_at_it():
    queue, stop = QueueInMemory(entries(20)), asyncio.Event()

    async def deliver(entry):
        asyncio.get_running_loop().call_later(0.05, stop.set)
        await asyncio.sleep(0.001)
        return Transient(reason="429", response_status=429, retry_after_s=30)

    async with asyncio.timeout(5):
        report = await processor(queue, deliver, stop=stop, MAX_ENTRIES="20", MAX_CONCURRENT_DELIVERIES="4").run()
    assert report.settled["released"] == 16
    assert len(queue.attempts) == 4


async def test_a_worker_that_holds_entries_asks_for_none_that_may_kill_it():
    queue = QueueInMemory(entries(40))
    asked = []
    claim = queue.claim

    def claiming(*, holds_nothing, **rest):
        asked.append(holds_nothing)
        return claim(holds_nothing=holds_nothing, **rest)

    queue.claim = claiming

    async def slow(entry):
        await asyncio.sleep(0.01)
        return Succeeded(response_status=200)

    await processor(queue, slow, MAX_ENTRIES="8", MAX_CONCURRENT_DELIVERIES="4", FLUSH_SECONDS="0.05").run()
    assert asked[0] is True
    assert False in asked, "the next block is claimed before the one before is settled"


async def test_what_a_worker_has_died_on_waits_until_this_one_holds_nothing():
    suspects = [replace(entry, id=entry.id + 100, crash_count=1) for entry in entries(250)]
    queue = QueueInMemory(entries(30) + suspects)
    held, blocks = [], []
    claim = queue.claim

    def claiming(**options):
        block = claim(**options)
        if block and block[0].is_suspect:
            held.append(30 + sum(blocks) - len(queue.settlements))
            blocks.append(len(block))
        return block

    queue.claim = claiming
    report = await processor(queue, succeed, FLUSH_SECONDS="0.05").run()
    assert report.settled == {"completed": 280}
    assert blocks == [100, 100, 50]
    assert held == [0, 0, 0], "whatever was claimed before is settled"
    assert queue.calls.count("claim") <= 8, "it waits for that, and does not ask again and again"


async def test_what_two_workers_have_died_on_is_claimed_alone():
    queue = QueueInMemory([replace(entry, crash_count=2) for entry in entries(3)])
    asked = asked_of(queue)
    await processor(queue, succeed, FLUSH_SECONDS="0.05").run()
    assert len(asked) == 4
    assert queue.calls.count("settle") == 3


async def test_a_probe_asks_for_one_suspect_at_most_and_a_small_cap_binds_them_too():
    for settings, expected in (({"PROBE": "1"}, 1), ({"MAX_ENTRIES": "5", "MAX_BLOCK_ENTRIES": "20"}, 20), ({}, 100)):
        queue, asked = QueueInMemory([]), []
        claim = queue.claim

        def claiming(claim=claim, asked=asked, **options):
            asked.append(options["suspects"])
            return claim(**options)

        queue.claim = claiming
        await processor(queue, succeed, **settings).run()
        assert asked == [expected]


async def test_no_look_follows_a_stop():
    queue, stop = QueueInMemory(entries(3)), asyncio.Event()

    async def deliver(entry):
        stop.set()
        return await succeed(entry)

    await processor(queue, deliver, stop=stop).run()
    assert "count_ready" not in queue.calls


async def test_after_an_empty_claim_there_is_a_pause_though_something_is_ready():
    queue = QueueInMemory(entries(3), empty_claims=3)
    began = time.monotonic()
    await processor(queue, succeed, rng=lambda: 0.25).run()
    assert time.monotonic() - began > 3 * 2 * 0.3 * 0.25


async def test_a_block_bounded_by_characters_is_not_short():
    large = [replace(entry, data='"' + "x" * 98 + '"') for entry in entries(40)]
    queue = QueueInMemory(large)
    await processor(queue, succeed, MAX_BLOCK_CHARACTERS="500").run()
    assert queue.calls.count("count_ready") == 1, "after eight blocks of five, and not after each"


async def test_an_outcome_that_came_of_no_answer_says_nothing_of_the_pace():
    queue = QueueInMemory(entries(5000))
    asked = asked_of(queue)

    async def deliver(entry):
        if entry.id == 0:
            return Permanent(reason="data is not JSON")
        return await asyncio.sleep(60)

    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(0.5, stop.set)
    await processor(queue, deliver, stop=stop, MAX_CONCURRENT_DELIVERIES="32", STOP_GRACE_SECONDS="0.05").run()
    assert sum(asked) < 100, "as many as can start, and a little more"


async def test_no_more_waits_than_half_a_block_when_the_next_is_claimed():
    queue = QueueInMemory(entries(3000))
    waiting = []
    claim = queue.claim
    running = processor(queue, succeed, MAX_ENTRIES="8", MAX_BLOCK_ENTRIES="40", MAX_CONCURRENT_DELIVERIES="4")

    def claiming(**options):
        waiting.append(running._waiting.qsize())
        return claim(**options)

    queue.claim = claiming
    await running.run()
    assert max(waiting) <= 20


async def test_an_entry_that_a_worker_has_died_on_is_delivered_alone_and_settled_before_anything_else_is_claimed():
    suspect = Entry(id=100, data="{}", idempotency_key="k", claim_token="token", crash_count=1)
    queue = QueueInMemory([])
    blocks = [[suspect], entries(8)]
    settled_at_claim = []

    def claim(**_):
        queue.calls.append("claim")
        settled_at_claim.append([s.entry_id for s in queue.settlements])
        queue.waiting = [entry for block in blocks[1:] for entry in block]
        return blocks.pop(0) if blocks else []

    queue.claim = claim
    report = await processor(queue, succeed, FLUSH_SECONDS="0.05").run()
    assert report.settled == {"completed": 9}
    assert settled_at_claim[:2] == [[], [100]]


def asked_of(queue):
    """How many entries each claim asks for, as they come."""
    asked, claim = [], queue.claim

    def claiming(*, entries, **rest):
        asked.append(entries)
        return claim(entries=entries, **rest)

    queue.claim = claiming
    return asked


async def test_blocks_grow_while_they_come_back_full_and_fall_back_when_one_does_not():
    queue = QueueInMemory(entries(900))
    asked = asked_of(queue)
    count, more = queue.count_ready, entries(40)

    def counting(**options):
        queue.waiting, more[:] = queue.waiting + more, []
        return count(**options)

    queue.count_ready = counting
    report = await processor(queue, succeed, MAX_CONCURRENT_DELIVERIES="32").run()
    assert report.settled == {"completed": 940}
    assert asked[:4] == [8, 32, 128, 512]
    assert asked[4] > 220
    assert asked[5:] == [220], "the fifth found so many, and after the sixth there were none"


async def test_a_queue_that_looks_empty_is_not_claimed_from_again():
    queue = QueueInMemory(entries(5))
    await processor(queue, succeed).run()
    assert queue.calls.count("claim") == 1, "a claim locks the table also when it finds nothing"
    assert queue.calls[-3:] == ["count_ready", "settle", "end"]


async def test_blocks_grow_no_larger_than_their_cap():
    queue = QueueInMemory(entries(300))
    asked = asked_of(queue)
    await processor(queue, succeed, MAX_ENTRIES="8", MAX_BLOCK_ENTRIES="50").run()
    assert max(asked) == 50


async def test_entries_that_are_claimed_alone_say_nothing_of_how_large_a_block_should_be():
    queue = QueueInMemory([])
    suspect = Entry(id=900, data="{}", idempotency_key="k", claim_token="token", crash_count=1)
    blocks = [[suspect], [suspect], []]
    queue.claim = lambda **_: blocks.pop(0)
    asked = asked_of(queue)
    await processor(queue, succeed, FLUSH_SECONDS="0.05").run()
    assert asked == [8, 8, 8]


async def test_large_blocks_leave_little_to_release_when_the_budget_ends():
    queue = QueueInMemory(entries(20_000))
    asked = asked_of(queue)

    async def deliver(entry):
        await asyncio.sleep(0.02)
        return Succeeded(response_status=200)

    report = await processor(queue, deliver, CONTAINER_TIMEOUT_SECONDS="2").run()
    assert report.reason == "the budget is spent"
    assert max(asked) > 100
    assert report.settled["released"] < report.settled["completed"] / 5


@pytest.mark.parametrize(("most_lag_s", "heeded"), [(0.05, True), (60, False)])
async def test_nothing_is_claimed_while_outcomes_have_waited_long_to_be_settled(monkeypatch, most_lag_s, heeded):
    monkeypatch.setattr(claiming, "_MOST_LAG_S", most_lag_s)
    queue = QueueInMemory(entries(500))
    delivered, unsettled = 0, []
    settle, claim = queue.settle_or_bisect, queue.claim

    def settling(settlements, *rest, **named):
        time.sleep(0.004 * len(settlements))
        return settle(settlements, *rest, **named)

    def claims(**arguments):
        unsettled.append(delivered - len(queue.settlements))
        return claim(**arguments)

    async def deliver(entry):
        nonlocal delivered
        await asyncio.sleep(0.01)
        delivered += 1
        return Succeeded(response_status=200, result="x" * 45_000)  # 20 fit into a statement

    queue.settle_or_bisect, queue.claim = settling, claims
    settings = {"MAX_ENTRIES": "50", "MAX_BLOCK_ENTRIES": "50", "MAX_CONCURRENT_DELIVERIES": "8"}
    report = await processor(queue, deliver, **settings).run()
    assert report.settled == {"completed": 500}
    assert (max(unsettled) < 150) is heeded


async def test_a_short_block_keeps_nobody_waiting_once_it_is_delivered():
    queue = QueueInMemory(entries(20))
    async with asyncio.timeout(5):
        report = await processor(queue, succeed, FLUSH_SECONDS="30").run()
    assert report.settled == {"completed": 20}


async def test_a_block_smaller_than_the_first_is_followed_by_a_pause():
    queue = QueueInMemory(entries(3))
    began = time.monotonic()
    await processor(queue, succeed, FLUSH_SECONDS="0.4").run()
    assert time.monotonic() - began >= 0.4, "what trickles in is claimed together"
