"""What people say while entries are in hand, a hold or a cancel, reaches what has not begun. Time is virtual."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter

import pytest
from processor_played import PlayedQueue, now, processor

from rowqueue.errors import CredentialsStop, StatementRefused, WarehouseUnavailable
from rowqueue.lifecycle import CredentialsFault, Permanent, Status, Succeeded, Transient
from rowqueue.processor.in_hand import InHand
from rowqueue.processor.looking import Looking
from rowqueue.processor.queue import ClaimRequest, LookAnswer
from rowqueue.processor.store import ProcessorStore
from rowqueue.sql import ClaimedKey
from rowqueue_local.memory_queue import HoldRow

PROMISE_S = 5.0
"""Later than this after a cancel or a hold nothing begins that it is about."""
ONE_BLOCK = {"MAX_BLOCK_ENTRIES": "10000", "FLUSH_SECONDS": "1", "CONTAINER_TIMEOUT_SECONDS": "900"}


class CancelStage:
    """A queue, a service that takes a while for each entry, and a person.

    Attributes:
        began: when the delivery of each entry began.
    """

    def __init__(self, entries, *, takes_s=1.0, verdict=None, queue=None):
        self.queue = queue or PlayedQueue(entries)
        self.began = {}
        self.takes_s = takes_s
        self.verdict = verdict or Succeeded(response_status=200)

    async def deliver(self, entry):
        self.began[entry.id] = now()
        await asyncio.sleep(self.takes_s)
        return self.verdict

    async def run(self, *, concurrency=10, **environ):
        in_one_claim = {"MAX_ENTRIES": str(len(self.queue.tables.queue)), "MAX_CONCURRENT_DELIVERIES": str(concurrency)}
        return await processor(self.queue, self.deliver, **(ONE_BLOCK | in_one_claim | environ)).run()

    def cancel(self, ids):
        """What the action does: a pending row becomes cancelled, for a processing one it is requested."""
        for row in self.queue.tables.queue:
            if row.id not in ids:
                continue
            if row.status == Status.PENDING:
                row.status, row.cancelled_at = Status.CANCELLED, now()
            if row.status == Status.PROCESSING:
                row.cancel_requested = True
            row.cancelled_by, row.cancel_reason = "me", "a wrong batch"

    def hold(self):
        self.queue.tables.holds.append(HoldRow(reason="maintenance", created_by="me"))

    def at(self, seconds, act, *args):
        asyncio.get_running_loop().call_later(seconds, act, *args)

    def statuses(self):
        return Counter(row.status for row in self.queue.tables.queue)

    def begun_after(self, seconds):
        return sorted(number for number, at in self.began.items() if at > seconds)


# Each second ten deliveries begin and end, so that a cancel at 20.5 finds 210 that have begun.
CANCEL_AT_S = 20.5


async def test_what_is_cancelled_in_hand_does_not_begin_later_than_five_seconds_after():
    stage = CancelStage(600)
    stage.at(CANCEL_AT_S, stage.cancel, range(600))
    await stage.run()
    assert stage.begun_after(CANCEL_AT_S + PROMISE_S) == []
    assert stage.statuses() == {"completed": len(stage.began), "cancelled": 600 - len(stage.began)}
    assert len(stage.began) < 300
    rows = [row for row in stage.queue.tables.queue if row.status == Status.CANCELLED]
    assert {(row.cancelled_by, row.cancel_reason, row.retry_count) for row in rows} == {("me", "a wrong batch", 0)}
    assert all(CANCEL_AT_S < row.cancelled_at <= CANCEL_AT_S + PROMISE_S for row in rows)


async def test_other_entries_in_hand_are_delivered_in_their_order():
    stage = CancelStage(500)
    stage.at(CANCEL_AT_S, stage.cancel, range(0, 500, 2))
    await stage.run()
    odd = [number for number in stage.began if number % 2]
    assert odd == list(range(1, 500, 2))
    assert not [number for number in stage.begun_after(CANCEL_AT_S + PROMISE_S) if number % 2 == 0]


@pytest.mark.parametrize(
    ("verdict", "status", "counted"),
    [
        (Succeeded(response_status=201), "completed", 0),
        (Permanent(reason="the service answered 400", response_status=400), "failed", 1),
        (Transient(reason="the service answered 503", response_status=503), "cancelled", 1),
    ],
    ids=["2xx", "permanent", "transient"],
)
async def test_a_delivery_that_has_begun_ends_as_it_ends_but_is_not_retried(verdict, status, counted):
    stage = CancelStage(1, takes_s=60, verdict=verdict)
    stage.at(5, stage.cancel, [0])
    await stage.run()
    (row,) = stage.queue.tables.queue
    assert (row.status, row.retry_count, row.response_status) == (status, counted, verdict.response_status)
    assert (row.cancelled_at is None) == (status != "cancelled")
    assert len(stage.queue.attempts) == 1


async def test_while_nothing_waits_nobody_looks():
    stage = CancelStage(10, takes_s=60)
    await stage.run()
    assert stage.queue.looks == []


async def test_a_look_follows_each_flush_and_comes_at_most_four_seconds_after_the_last_one():
    stage = CancelStage(60, takes_s=20)
    await stage.run(FLUSH_SECONDS="0.5")
    times = [at for at, _ in stage.queue.looks]
    assert max(later - earlier for earlier, later in zip([0.0, *times], times, strict=False)) <= 4
    for settled_at in (20.5, 40.5, 60.5):
        assert any(settled_at <= at < settled_at + 1.3 for at in times), f"after the flush at {settled_at}: {times}"
    assert times[-1] < 100.1, "the last ten have begun"
    assert len(times) <= 40, "one for each flush, and one for each three seconds"


async def test_many_flushes_in_a_second_cost_one_look():
    stage = CancelStage(600, takes_s=0.2)
    await stage.run(FLUSH_SECONDS="0.01")
    assert len(stage.queue.looks) <= 14


async def test_what_several_claims_took_is_one_look():
    queue = PlayedQueue(50)
    for name in "abc":
        await queue.claim(ClaimRequest(token=name, entries=10, characters=1000))
    queue.tables.queue[15].cancel_requested = queue.tables.queue[45].cancel_requested = True
    seen = await queue.look(["a", "b", "c"])
    assert {key.entry_id for key in seen.cancelled} == {15}
    in_hand = InHand()
    in_hand.take(queue.blocks[0])
    in_hand.take(queue.blocks[1])
    assert in_hand.tokens == ["a", "b"]


class BadLooks(PlayedQueue):
    """Looks fail, or take long."""

    def __init__(self, entries, *, error=None, seconds=0.0, from_s=0.0):
        super().__init__(entries)
        self.error, self.seconds, self.from_s = error, seconds, from_s

    async def look(self, tokens):
        seen = await super().look(tokens)
        if now() >= self.from_s:
            await asyncio.sleep(self.seconds)
            if self.error:
                raise self.error
        return seen


@pytest.mark.parametrize("error", [WarehouseUnavailable("gone"), StatementRefused("no such column")], ids=str)
async def test_a_look_that_fails_stops_no_delivery_and_does_not_end_the_run(error, capsys):
    stage = CancelStage(100, queue=BadLooks(100, error=error))
    report = await stage.run()
    assert report.settled == {"completed": 100}
    assert now() < 12
    assert capsys.readouterr().out.count("look_failed") == 1, "not one line for each second of an outage"


async def test_a_look_that_is_slow_stops_no_delivery_and_does_not_delay_the_end():
    stage = CancelStage(100, queue=BadLooks(100, seconds=600))
    report = await stage.run()
    assert report.settled == {"completed": 100}
    assert now() < 12


async def test_after_a_look_that_failed_the_next_one_comes_soon():
    queue = BadLooks(600, error=WarehouseUnavailable("cut"), from_s=21.0)
    stage = CancelStage(600, queue=queue)
    stage.at(CANCEL_AT_S, stage.cancel, range(600))
    stage.at(22.9, setattr, queue, "error", None)
    await stage.run(FLUSH_SECONDS="60")
    failed = [at for at, _ in queue.looks if 21 <= at <= 24]
    assert len(failed) >= 2
    assert max(later - earlier for earlier, later in itertools.pairwise(failed)) < 1.3
    assert stage.begun_after(CANCEL_AT_S + PROMISE_S) == []


async def test_what_waits_for_admission_after_a_429_has_not_begun_and_is_cancelled_too():
    stage = CancelStage(40, takes_s=1, verdict=Transient(reason="429", response_status=429, retry_after_s=30))
    stage.at(10, stage.cancel, range(40))
    ends = asyncio.create_task(stage.run())
    await asyncio.sleep(10 + PROMISE_S)
    assert len(stage.began) == 10, "the others wait for the end of the pause"
    assert stage.statuses() == {"cancelled": 30, "pending": 10} or stage.statuses() == {"cancelled": 40}
    await ends
    assert len(stage.began) == 10


async def test_what_is_turned_away_makes_no_room_for_more_deliveries_than_are_allowed():
    stage = CancelStage(30, takes_s=1, verdict=Transient(reason="429", response_status=429, retry_after_s=30))
    stage.at(5, stage.cancel, range(10, 20))
    stage.at(6, setattr, stage, "verdict", Succeeded(response_status=200))
    await stage.run()
    began = Counter(at for number, at in stage.began.items() if number >= 20)
    assert sum(began.values()) == 10
    assert began[min(began)] < 8, "a 429 has halved what is allowed"


async def test_a_look_that_takes_long_does_not_delay_the_next_one():
    stage = CancelStage(300, queue=BadLooks(300, seconds=1.5))
    await stage.run(FLUSH_SECONDS="60")
    times = [at for at, _ in stage.queue.looks]
    assert len(times) > 5
    assert max(later - earlier for earlier, later in itertools.pairwise(times)) < 3.5


async def test_a_claim_that_took_long_is_looked_at_when_its_entries_come():
    class SlowClaim(PlayedQueue):
        async def claim(self, request):
            block = await super().claim(request)
            await asyncio.sleep(20)  # the rows are read: long data
            return block

    stage = CancelStage(200, queue=SlowClaim(200))
    stage.at(19, stage.cancel, range(200))
    await stage.run()
    assert len(stage.began) <= 10
    assert stage.statuses()["cancelled"] >= 190


async def test_during_a_hold_what_has_not_begun_is_released_and_nothing_is_claimed():
    stage = CancelStage(600)
    stage.at(CANCEL_AT_S, stage.hold)
    report = await stage.run(MAX_ENTRIES="400", MAX_BLOCK_ENTRIES="400")
    assert report.reason == "a hold stands"
    assert stage.begun_after(CANCEL_AT_S + PROMISE_S) == []
    assert stage.statuses() == {"completed": len(stage.began), "pending": 600 - len(stage.began)}
    assert {row.retry_count for row in stage.queue.tables.queue} == {0}
    assert now() < CANCEL_AT_S + PROMISE_S + 2
    assert stage.queue.calls[-1] == "end"


async def test_a_hold_that_has_ended_releases_nothing():
    stage = CancelStage(200)
    stage.at(5, lambda: stage.queue.tables.holds.append(HoldRow(reason="x", until_at=4.0)))
    report = await stage.run()
    assert report.settled == {"completed": 200}


async def test_of_a_claim_that_was_under_way_when_a_hold_was_placed_only_the_first_begin():
    class SecondClaimAtTheLock(PlayedQueue):
        async def claim(self, request):
            block = await super().claim(request)
            if len(self.requests) > 1:
                await asyncio.sleep(30)
            return block

    stage = CancelStage(200, queue=SecondClaimAtTheLock(200))
    stage.at(12, stage.hold)
    report = await stage.run(MAX_ENTRIES="100", MAX_BLOCK_ENTRIES="100")
    assert report.reason == "a hold stands"
    assert len(stage.begun_after(12 + PROMISE_S)) <= 10, "those that begin while the look is on its way"
    assert stage.statuses()["pending"] == 200 - len(stage.began)


async def test_a_hold_releases_what_has_not_begun_without_waiting_for_a_claim_at_the_lock():
    class Released:
        at_s = None

        def release_unstarted(self):
            self.at_s = now()

    queue, in_hand, delivering, hold_seen = PlayedQueue(3), InHand(), Released(), asyncio.Event()
    in_hand.take(await queue.claim(ClaimRequest(token="a", entries=3, characters=1000)))
    queue.tables.holds.append(HoldRow(reason="maintenance", created_by="me"))
    flushed = asyncio.Event()
    looking = Looking(
        queue=queue, in_hand=in_hand, delivering=delivering, flushed=flushed, hold_seen=hold_seen, clock=now
    )
    await looking.run()
    assert hold_seen.is_set()
    assert delivering.at_s <= 4


async def test_a_doubt_that_no_delivery_can_clear_any_more_stops_the_task():
    """The last entries that could have brought a 2xx are cancelled."""
    stage = CancelStage(40, takes_s=1)
    refused = CredentialsFault(reason="the service answered 401", certain=False, response_status=401)
    slow = Transient(reason="429", response_status=429, retry_after_s=30)

    async def deliver(entry):
        stage.began[entry.id] = now()
        await asyncio.sleep(1)
        return refused if entry.id == 0 else slow

    stage.deliver = deliver
    stage.at(5, stage.cancel, range(2, 40))
    with pytest.raises(CredentialsStop):
        await stage.run(concurrency=2)
    assert now() < 10
    assert stage.statuses() == {"cancelled": 38, "pending": 2}


class LookedAt:
    """Answers a look."""

    def __init__(self, *rows):
        self.answer = list(rows)
        self.sent = []

    def rows(self, statement, values):
        self.sent.append((statement.name, values))
        return self.answer


def look(*rows):
    warehouse = LookedAt(*rows)
    store = ProcessorStore(warehouse, queue="PROCESSING_QUEUE", processor_id="dev-1", max_retries=3)
    return store.look(["a", "b"]), warehouse


def test_a_look_is_one_statement_with_all_claims_in_one_value():
    seen, warehouse = look((0, None, None, None))
    assert seen == LookAnswer(hold=False, cancelled=frozenset())
    ((name, values),) = warehouse.sent
    assert (name, json.loads(values["tokens"])) == ("look", ["a", "b"])


def test_a_look_finds_a_hold_and_what_is_cancelled():
    assert look((2, None, None, None))[0] == LookAnswer(hold=True)
    both = look((1, 7, "a", "key"), (1, 8, "b", "other"))[0]
    assert both == LookAnswer(hold=True, cancelled=frozenset({ClaimedKey(7, "a", "key"), ClaimedKey(8, "b", "other")}))
