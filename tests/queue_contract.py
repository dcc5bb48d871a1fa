"""The contract of a processor's queue: its tests, run by tests/contract/test_queue.py on Snowflake and by
tests/unit/test_memory_queue.py in memory. Each brings a fixture ``tables``: an object of queue_tables.py.
"""

from __future__ import annotations

import asyncio
import json

import pytest

from rowqueue.contract import SCHEMA_VERSION, AttemptOutcome
from rowqueue.lifecycle import Settlement, Status
from rowqueue.processor.queue import ClaimRequest, LookAnswer, key_of
from rowqueue.sql import Attempt

BIG = 10**9


@pytest.fixture
def queue(tables):
    return tables.queue()


def asking(entries=100, *, token="token", characters=BIG, **more):
    return ClaimRequest(token=token, entries=entries, characters=characters, **more)


def data_of(block):
    return [entry.data for entry in block]


def settlement(entry, status=Status.COMPLETED, **changes):
    values = {"response_status": 200, "result": "ok"} if status is Status.COMPLETED else {}
    return Settlement(
        entry_id=entry.id,
        claim_token=entry.claim_token,
        idempotency_key=entry.idempotency_key,
        status=status,
        **(values | changes),
    )


def released(entry, **changes):
    return settlement(entry, Status.PENDING, released=True, **changes)


def retried(entry, **changes):
    values = {"counted": True, "error_message": "503", "response_status": 503}
    return settlement(entry, Status.PENDING, **(values | changes))


def attempt(settled, **changes):
    """The attempt of a settlement: it says the same."""
    outcome = AttemptOutcome.TRANSIENT if settled.status is Status.PENDING else AttemptOutcome.PERMANENT
    if settled.status is Status.COMPLETED:
        outcome = AttemptOutcome.SUCCEEDED
    if settled.released:
        outcome = AttemptOutcome.DOUBTFUL if settled.doubted else AttemptOutcome.INTERRUPTED
    values = {
        "claim_token": settled.claim_token,
        "attempt": 1,
        "outcome": outcome,
        "response_status": settled.response_status,
        "status": settled.status,
        "delay_ms": round(settled.delay_s * 1000) if outcome is AttemptOutcome.TRANSIENT else None,
        "error_message": "why it was released" if settled.released else settled.error_message,
        "entry_id": settled.entry_id,
        "started_ms_ago": 1500,
        "finished_ms_ago": 500,
        "idempotency_key": settled.idempotency_key,
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "result": settled.result,
    }
    return Attempt(**(values | changes))


def started(settlements):
    """Settlements of entries whose delivery was started, with their attempts."""
    return settlements, [attempt(settled) for settled in settlements]


def never_started(settlements):
    return settlements, []


each_form = pytest.mark.parametrize("form", [started, never_started])


async def test_a_claimed_entry_has_what_was_inserted_and_the_defaults(tables, queue):
    tables.insert('{"type": "new_type", "payload": {"a": 1}}')
    assert (await queue.count_ready()).entries == 1
    (entry,) = await queue.claim(asking())
    assert json.loads(entry.data) == {"type": "new_type", "payload": {"a": 1}}
    assert entry.idempotency_key
    assert (entry.retry_count, entry.max_retries, entry.crash_count, entry.claim_token) == (0, None, 0, "token")
    assert tables.rows("status", "processor_id", "claim_token") == [("processing", "dev-1", "token")]


async def test_a_claim_takes_the_largest_priority_first_then_the_longest_available(tables, queue):
    tables.insert("1")
    tables.insert("2", priority=5, ready_in_s=-10)
    tables.insert("3", priority=5, ready_in_s=-20)
    tables.insert("4", priority=9)
    assert data_of(await queue.claim(asking(3))) == ["4", "3", "2"]
    assert [status for (status,) in tables.rows("status")] == ["pending", "processing", "processing", "processing"]


async def test_a_claim_takes_no_entry_before_its_time_and_none_without_attempts_left(tables, queue):
    tables.insert("later", ready_in_s=3600)
    tables.insert("used up", retry_count=3)
    tables.insert("own limit reached", retry_count=1, max_retries=1)
    tables.insert("own limit open", retry_count=3, max_retries=4)
    tables.insert("none from the start", max_retries=0)
    assert (await queue.count_ready()).entries == 1
    assert data_of(await queue.claim(asking())) == ["own limit open"]


async def test_the_settings_limit_is_the_queues_own(tables):
    tables.insert("{}", retry_count=3)
    assert (await tables.queue(max_retries=3).count_ready()).entries == 0
    assert (await tables.queue(max_retries=4).count_ready()).entries == 1


async def test_a_claim_is_limited_by_characters_but_always_takes_one_entry(tables, queue):
    tables.insert("x" * 1000, "y" * 1000, "z" * 1000)
    assert len(await queue.claim(asking(token="a", characters=10))) == 1
    assert len(await queue.claim(asking(token="b", characters=1500))) == 2


async def test_data_that_is_too_long_is_left_out_and_its_length_is_known(tables, queue):
    tables.insert("x" * 101, "中😀" * 50, "{}")
    block = await queue.claim(asking(longest=100))
    assert data_of(block) == ["", "中😀" * 50, "{}"]
    assert [entry.characters for entry in block] == [101, 100, 2]


async def test_the_characters_of_earlier_entries_are_compared_with_the_limit(tables, queue):
    tables.insert("x" * 1000, "y" * 1000)
    assert len(await queue.claim(asking(token="a", characters=1000))) == 1


async def test_claims_at_the_same_time_take_every_entry_exactly_once(tables):
    tables.insert(*["{}"] * 40)

    async def work(number):
        queue, taken = tables.queue(f"dev-{number}"), []
        while (await queue.count_ready()).entries:
            taken += await queue.claim(asking(4, token=f"{number}-{len(taken)}"))
        return [entry.id for entry in taken]

    ids = [entry_id for taken in await asyncio.gather(*map(work, range(4))) for entry_id in taken]
    assert len(ids) == len(set(ids)) == 40


async def test_an_entry_has_its_age_when_it_is_claimed(tables, queue):
    tables.insert("{}", age_s=300)
    (entry,) = await queue.claim(asking())
    assert 299 <= entry.age_s <= 310


@each_form
async def test_a_settle_writes_every_outcome_of_a_batch(tables, queue, form):
    tables.insert("1", "2", "3", "4", "5")
    one, two, three, four, five = await queue.claim(asking())
    settlements = [
        settlement(one, result='it\'s done: \\ "ü😀" %s ?', response_status=201),
        settlement(two, Status.FAILED, counted=True, error_message="no", response_status=400),
        settlement(three, Status.PENDING, counted=True, delay_s=3600, error_message="later", response_status=503),
        released(four),
        released(five, doubted=True),
    ]
    assert await queue.settle(*form(settlements)) == frozenset()
    assert tables.rows("status", "retry_count", "response_status", "result", "error_message", "processor_id") == [
        ("completed", 0, 201, 'it\'s done: \\ "ü😀" %s ?', None, "dev-1"),
        ("failed", 1, 400, None, "no", "dev-1"),
        ("pending", 1, 503, None, "later", "dev-1"),
        ("pending", 0, None, None, None, None),
        ("pending", 0, None, None, None, None),
    ]
    assert [doubts for (doubts,) in tables.rows("doubts")] == [0, 0, 0, 0, 1]
    assert 3500 <= tables.seconds_until_ready()[2] <= 3600
    ended = [
        (completed is not None, failed is not None) for completed, failed in tables.rows("completed_at", "failed_at")
    ]
    assert ended == [(True, False), (False, True), *[(False, False)] * 3]
    assert [claimed is None for (claimed,) in tables.rows("claimed_at")] == [False, False, False, True, True]
    assert (await queue.count_ready()).entries == 2, "what was released is ready at once"


async def test_a_batch_may_have_entries_that_were_started_and_entries_that_were_not(tables, queue):
    tables.insert("1", "2", "3")
    one, two, three = await queue.claim(asking())
    settlements = [settlement(one), released(two), released(three)]
    assert await queue.settle(settlements, [attempt(settlements[0]), attempt(settlements[2])]) == frozenset()
    assert tables.rows("status", "processor_id") == [("completed", "dev-1"), ("pending", None), ("pending", None)]
    assert tables.attempts("entry_id", "outcome") == [(one.id, "succeeded"), (three.id, "interrupted")]


@each_form
async def test_a_released_entry_keeps_its_place_and_its_last_failure(tables, queue, form):
    tables.insert("{}")
    (entry,) = await queue.claim(asking())
    await queue.settle(*form([retried(entry)]))
    ready_at = tables.rows("available_at")
    (entry,) = await queue.claim(asking(token="second"))
    await queue.settle(*form([released(entry, delay_s=60)]))
    assert tables.rows("error_message", "response_status", "retry_count") == [("503", 503, 1)]
    assert tables.rows("available_at") == ready_at


@each_form
async def test_a_worker_that_lost_its_claim_changes_nothing_and_gets_the_entry_as_lost(tables, queue, form):
    tables.insert("1", "2")
    one, two = await queue.claim(asking(token="old"))
    tables.take_over(one.id)
    assert await queue.settle(*form([settlement(one, result="wrong"), settlement(two)])) == {one.id}
    assert tables.rows("status", "result", "processor_id") == [
        ("processing", None, "dev-2"),
        ("completed", "ok", "dev-1"),
    ]


@each_form
async def test_an_entry_that_is_settled_differently_counts_as_lost(tables, queue, form):
    tables.insert("{}")
    (entry,) = await queue.claim(asking())
    await queue.settle(*form([settlement(entry)]))
    assert await queue.settle(*form([settlement(entry, Status.FAILED, counted=True)])) == {entry.id}
    assert tables.rows("status", "retry_count") == [("completed", 0)]


@each_form
async def test_a_settle_that_runs_twice_records_once_and_loses_nothing(tables, queue, form):
    tables.insert("{}")
    (entry,) = await queue.claim(asking())
    for _ in range(2):
        settlements, attempts = form([retried(entry)])
        assert await queue.settle(settlements, attempts) == frozenset()
    assert tables.rows("status", "retry_count") == [("pending", 1)]
    assert len(tables.attempts("attempt")) == len(attempts)


async def test_a_success_on_record_settles_its_entry_whatever_is_settled_later(tables, queue):
    tables.insert("{}")
    (entry,) = await queue.claim(asking())
    await queue.settle([], [attempt(settlement(entry))])  # the worker was cut off before its settle
    assert await queue.settle(*started([retried(entry)])) == frozenset()
    assert tables.rows("status", "retry_count", "result") == [("completed", 0, "ok")]


async def test_the_answer_of_a_doubtful_delivery_is_on_record_and_its_entry_does_not_get_it(tables, queue):
    tables.insert("{}")
    (entry,) = await queue.claim(asking())
    doubted = released(entry, doubted=True)
    await queue.settle([doubted], [attempt(doubted, result="<h1>403</h1>", response_status=403)])
    assert tables.attempts("result", "response_status") == [("<h1>403</h1>", 403)]
    assert tables.rows("status", "result", "response_status", "doubts") == [("pending", None, None, 1)]


async def test_a_claim_settles_only_the_attempts_of_its_own_token(tables, queue):
    tables.insert("1", "2")
    one, two = await queue.claim(asking(token="first"))
    await queue.settle(*started([released(one), released(two)]))
    one, two = await queue.claim(asking(token="second"))
    await queue.settle(*started([settlement(one)]))
    assert [status for (status,) in tables.rows("status")] == ["completed", "processing"]


async def test_an_attempt_is_recorded_with_its_duration_and_without_what_cannot_be_stored(tables, queue):
    tables.insert("{}")
    (entry,) = await queue.claim(asking())
    unstorable = retried(entry, error_message="no\0\ud800answer", result="a\0b")
    await queue.settle([unstorable], [attempt(unstorable, attempt=2)])
    recorded = tables.attempts(
        "entry_id", "claim_token", "attempt", "processor_id", "outcome", "response_status", "error_message", "result"
    )
    assert recorded == [(entry.id, "token", 2, "dev-1", "transient", 503, "no\ufffd\ufffdanswer", "a\ufffdb")]
    assert tables.attempts("milliseconds", "trace_id") == [(1000, "0af7651916cd43dd8448eb211c80319c")]
    assert 990 <= tables.attempt_milliseconds()[0] <= 1010
    assert tables.rows("error_message", "result") == [("no\ufffd\ufffdanswer", "a\ufffdb")]


async def test_while_a_hold_stands_nothing_is_ready_and_nothing_is_claimed_not_even_by_a_probe(tables, queue):
    tables.insert("{}")
    await queue.place_hold(reason="the service answered 401", seconds=60)
    assert (await queue.count_ready()).entries == 0
    for probe in (False, True):
        assert await queue.claim(asking(token=f"probe {probe}", probe=probe)) == []
    assert tables.holds() == [("the service answered 401", "dev-1")]


async def test_after_a_hold_has_ended_only_a_probe_claims_until_it_is_lifted(tables, queue):
    tables.insert("1", "2")
    await queue.place_hold(reason="x", seconds=60)
    tables.end_holds()
    assert (await queue.count_ready()).entries == 0
    assert await queue.claim(asking(token="a")) == []
    assert len(await queue.claim(asking(1, token="b", probe=True))) == 1
    await queue.lift_ended_holds()
    assert tables.holds() == []
    assert len(await queue.claim(asking(token="c"))) == 1


async def test_processors_that_meet_the_same_fault_place_one_hold(tables):
    for name in ("dev-1", "dev-2", "dev-3"):
        await tables.queue(name).place_hold(reason="x" * 2000, seconds=60)
    assert tables.holds() == [("x" * 1000, "dev-1")]


async def test_a_new_hold_is_placed_after_the_last_one_has_ended(tables, queue):
    await queue.place_hold(reason="first", seconds=60)
    tables.end_holds()
    await queue.place_hold(reason="second", seconds=60)
    assert sorted(tables.holds()) == [("first", "dev-1"), ("second", "dev-1")]
    await queue.lift_ended_holds()
    assert tables.holds() == [("second", "dev-1")], "a hold that stands stays"


async def test_a_persons_hold_without_an_end_stands_until_it_is_deleted(tables, queue):
    tables.insert("{}")
    tables.hold("maintenance at the partner", created_by="me")
    await queue.place_hold(reason="x", seconds=60)
    assert tables.holds() == [("maintenance at the partner", "me")]
    assert await queue.claim(asking(probe=True)) == []
    await queue.lift_ended_holds()
    assert await queue.claim(asking()) == []
    tables.delete_holds()
    assert len(await queue.claim(asking())) == 1


async def test_suspects_are_claimed_with_nothing_in_hand_and_without_other_entries(tables, queue):
    tables.insert("1", "2", "3", "4", crash_count=1)
    tables.insert("5", "6")
    busy = await queue.claim(asking(9, token="a", suspects=3, nothing_in_hand=False))
    assert data_of(busy) == ["5", "6"]
    tables.insert("7")
    suspects = await queue.claim(asking(9, token="b", suspects=3))
    assert [(entry.data, entry.is_suspect) for entry in suspects] == [("1", True), ("2", True), ("3", True)]
    assert data_of(await queue.claim(asking(9, token="c", suspects=3))) == ["4"], "without the 7"
    tables.insert("8", crash_count=1)
    assert data_of(await queue.claim(asking(9, token="d", suspects=3))) == ["7"], "a block ends before the next suspect"


async def test_an_entry_that_two_workers_died_on_is_claimed_alone(tables, queue):
    tables.insert("1", "2", crash_count=2)
    tables.insert("3", crash_count=1)
    tables.insert("4", crash_count=2)
    taken = [data_of(await queue.claim(asking(9, token=token, suspects=3))) for token in "abcd"]
    assert taken == [["1"], ["2"], ["3"], ["4"]]


async def test_a_probe_takes_one_suspect(tables, queue):
    tables.insert("1", "2", crash_count=1)
    assert len(await queue.claim(asking(1, suspects=1, probe=True))) == 1


async def test_a_probe_takes_the_entry_least_recently_tried_whatever_its_priority(tables, queue):
    tables.insert("1", "2")
    tables.insert("urgent", priority=9)
    tried = []
    for token in "abcd":
        (entry,) = await queue.claim(asking(1, token=token, probe=True))
        tried.append(entry.data)
        await queue.settle([released(entry, doubted=True)], [])
        tables.sleep()
    assert tried == ["urgent", "1", "2", "urgent"]
    (entry,) = await queue.claim(asking(1, token="e"))
    assert entry.data == "urgent", "only a probe asks when an entry was tried"
    assert entry.doubts == 2


@each_form
async def test_two_rows_with_one_id_are_two_entries(tables, queue, form):
    tables.insert("1", id=7, idempotency_key="one")
    tables.insert("2", id=7, idempotency_key="two")
    one, two = await queue.claim(asking())
    assert await queue.settle(*form([settlement(one), retried(two)])) == frozenset()
    assert sorted(tables.rows("data", "status", "retry_count", "result")) == [
        ("1", "completed", 0, "ok"),
        ("2", "pending", 1, None),
    ]


@each_form
async def test_a_copy_of_a_row_is_delivered_once_and_settled_alike(tables, queue, form):
    tables.insert("1", "1", id=7, idempotency_key="key")
    tables.insert("2", id=8)
    block = await queue.claim(asking(2))
    assert data_of(block) == ["1", "2"]
    assert await queue.settle(*form([settlement(entry) for entry in block])) == frozenset()
    assert [status for (status,) in tables.rows("status")] == ["completed"] * 3


@each_form
async def test_a_lost_claim_is_seen_beside_an_entry_with_a_copy(tables, queue, form):
    tables.insert("1", "1", id=7, idempotency_key="key")
    tables.insert("2", id=8)
    block = await queue.claim(asking())
    tables.take_over(8)
    assert await queue.settle(*form([settlement(entry) for entry in block])) == {8}


async def test_a_copy_that_is_not_ready_is_not_claimed_with_the_row_that_is(tables, queue):
    copies = {"id": 7, "idempotency_key": "key"}
    tables.insert("ready", **copies)
    tables.insert("later", ready_in_s=3600, **copies)
    tables.insert("suspect", crash_count=1, **copies)
    tables.insert("used up", retry_count=3, **copies)
    assert data_of(await queue.claim(asking(nothing_in_hand=False))) == ["ready"]
    assert sorted(tables.rows("data", "status")) == [
        ("later", "pending"),
        ("ready", "processing"),
        ("suspect", "pending"),
        ("used up", "pending"),
    ]


@each_form
async def test_copies_have_the_largest_of_their_counts_and_the_smallest_of_their_limits(tables, queue, form):
    tables.insert("1", id=7, idempotency_key="key", retry_count=2, max_retries=9)
    tables.insert("1", id=7, idempotency_key="key", doubts=4, max_retries=5)
    tables.insert("2", id=8)
    entry, other = await queue.claim(asking())
    assert (entry.retry_count, entry.doubts, entry.max_retries) == (2, 4, 5)
    assert (other.retry_count, other.doubts, other.max_retries) == (0, 0, None)
    await queue.settle(*form([retried(entry), settlement(other)]))
    assert tables.rows("id", "status", "retry_count", "doubts", "max_retries") == [
        (7, "pending", 3, 4, 5),
        (7, "pending", 3, 4, 5),
        (8, "completed", 0, 0, None),
    ]


@pytest.mark.parametrize("place", [0, 1])
async def test_a_copy_of_a_suspect_is_a_suspect_too(tables, queue, place):
    counts = [0, 0]
    counts[place] = 2
    for priority, crash_count in enumerate(counts):
        tables.insert("1", id=7, idempotency_key="key", crash_count=crash_count, priority=priority)
    tables.insert("2", id=8)
    (entry,) = await queue.claim(asking(suspects=9))
    assert (entry.data, entry.crash_count) == ("1", 2)
    assert tables.rows("status", "crash_count") == [("processing", 2), ("processing", 2), ("pending", 0)]


async def test_suspects_are_counted_apart(tables, queue):
    tables.insert("1", crash_count=1)
    tables.insert("2")
    ready = await queue.count_ready()
    assert (ready.for_worker(nothing_in_hand=True), ready.for_worker(nothing_in_hand=False)) == (2, 1)


async def test_a_look_finds_what_is_cancelled_of_the_claims_that_it_names(tables, queue):
    tables.insert("1", "2", "3", "4", "5")
    one, two = await queue.claim(asking(2, token="a"))
    (three,) = await queue.claim(asking(1, token="b"))
    (four,) = await queue.claim(asking(1, token="c"))
    tables.request_cancel(one.id, three.id, four.id)
    assert await queue.look(["a", "b"]) == LookAnswer(cancelled=frozenset({key_of(one), key_of(three)}))
    await queue.settle(*started([settlement(one)]))
    assert await queue.look(["a", "b"]) == LookAnswer(cancelled=frozenset({key_of(three)}))
    assert await queue.look([]) == LookAnswer()


async def test_a_look_sees_the_holds_that_stand_for_its_destination(tables, queue):
    tables.insert("{}")
    (entry,) = await queue.claim(asking(token="a"))
    tables.hold("another partner", created_by="me", scope="other")
    assert await queue.look(["a"]) == LookAnswer()
    await queue.place_hold(reason="x", seconds=60)
    tables.request_cancel(entry.id)
    assert await queue.look(["a"]) == LookAnswer(hold=True, cancelled=frozenset({key_of(entry)}))
    tables.end_holds()
    assert not (await queue.look(["a"])).hold
    tables.hold("everything", created_by="me")
    assert (await queue.look([])).hold


async def test_a_look_with_as_many_claims_as_a_worker_may_have_in_hand_is_answered(tables, queue):
    tables.insert("{}")
    (entry,) = await queue.claim(asking(token="token-9999"))
    tables.request_cancel(entry.id)
    seen = await queue.look([f"token-{number}" for number in range(10_000)])
    assert seen.cancelled == {key_of(entry)}


@each_form
async def test_what_a_person_has_cancelled_is_cancelled_where_it_would_become_pending(tables, queue, form):
    tables.insert("1", "2", "3", "4", "5")
    one, two, three, four, five = block = await queue.claim(asking())
    tables.request_cancel(*[entry.id for entry in block])
    settlements = [
        settlement(one),
        settlement(two, Status.FAILED, counted=True, error_message="no", response_status=400),
        retried(three, delay_s=60),
        released(four),
        released(five, doubted=True),
    ]
    for _ in range(2):
        assert await queue.settle(*form(settlements)) == frozenset()
    assert tables.rows("status", "retry_count", "error_message") == [
        ("completed", 0, None),
        ("failed", 1, "no"),
        ("cancelled", 1, "503"),
        ("cancelled", 0, None),
        ("cancelled", 0, None),
    ]
    too_late, cancelled = (False, None, None), (True, "me", "a wrong batch")
    of_the_cancel = tables.rows("cancel_requested", "cancelled_by", "cancel_reason")
    assert of_the_cancel == [too_late, too_late, cancelled, cancelled, cancelled]
    assert [at is not None for (at,) in tables.rows("cancelled_at")] == [False, False, True, True, True]
    assert (await queue.count_ready()).entries == 0


async def test_the_first_claim_and_the_end_are_recorded(tables, queue):
    await queue.record_first_claim(entries=0)
    await queue.record_end(entries=7, seconds=1.5, reason="nothing is ready")
    assert tables.processors() == [
        ("dev-1", "first_claim", 0, None, None),
        ("dev-1", "ended", 7, 1.5, "nothing is ready"),
    ]


async def test_only_the_entries_of_its_own_destination_are_counted_and_claimed(tables, queue):
    tables.insert("1")
    tables.insert("2", destination="acme")
    assert (await queue.count_ready()).entries == 1
    assert data_of(await queue.claim(asking())) == ["1"]
    acme = tables.queue("dev-2", destination="acme")
    assert (await acme.count_ready()).entries == 1
    assert data_of(await acme.claim(asking(token="acme"))) == ["2"]


async def test_an_entry_whose_cancel_was_requested_is_neither_counted_nor_claimed(tables, queue):
    tables.insert("1", cancel_requested=True)
    tables.insert("2")
    assert (await queue.count_ready()).entries == 1
    assert data_of(await queue.claim(asking())) == ["2"]


@pytest.mark.parametrize(("scope", "ready"), [("*", 0), ("default", 0), ("acme", 1)])
async def test_a_hold_is_obeyed_by_the_workers_of_its_scope(tables, queue, scope, ready):
    tables.insert("{}")
    tables.hold("maintenance", created_by="me", scope=scope)
    assert (await queue.count_ready()).entries == ready
    assert len(await queue.claim(asking(probe=True))) == ready


async def test_a_hold_of_a_processor_is_of_kind_credentials_and_has_its_destination_as_scope(tables):
    acme = tables.queue(destination="acme")
    tables.hold("maintenance", created_by="me", scope="default")
    await acme.place_hold(reason="401", seconds=60)
    assert sorted(tables.holds("scope", "kind", "reason")) == [
        ("acme", "credentials", "401"),
        ("default", "person", "maintenance"),
    ]


async def test_lifting_removes_no_hold_that_stands_none_of_another_scope_and_no_fence(tables, queue):
    tables.insert("{}")
    tables.hold("a migration", created_by="admin", kind="fence")
    tables.hold("elsewhere", created_by="dev-9", kind="credentials", scope="acme")
    tables.hold("for a while", created_by="me", scope="default")
    await queue.lift_ended_holds()
    assert len(tables.holds()) == 3, "all of them stand"
    tables.end_holds()
    await queue.lift_ended_holds()
    assert sorted(tables.holds("reason")) == [("a migration",), ("elsewhere",)]


async def test_a_program_that_is_too_old_for_the_schema_counts_and_claims_nothing(tables, queue):
    tables.insert("{}")
    tables.raise_oldest_program(SCHEMA_VERSION)
    assert (await queue.count_ready()).entries == 1
    tables.raise_oldest_program(SCHEMA_VERSION + 1)
    assert (await queue.count_ready()).entries == 0
    for probe in (False, True):
        assert await queue.claim(asking(token=f"probe {probe}", probe=probe)) == []


async def test_a_requeue_does_not_begin_the_numbers_of_the_attempts_again(tables, queue):
    tables.insert("{}", earlier_attempts=3, retry_count=1)
    (entry,) = await queue.claim(asking())
    assert (entry.attempt, entry.attempt_since_requeue) == (5, 2)


@each_form
async def test_a_claim_and_a_settle_say_when_the_row_was_changed(tables, queue, form):
    tables.insert("{}")
    tables.update_long_ago()
    (entry,) = await queue.claim(asking())
    assert 0 <= tables.seconds_since_update()[0] < 60
    tables.update_long_ago()
    await queue.settle(*form([settlement(entry)]))
    assert 0 <= tables.seconds_since_update()[0] < 60


async def test_a_claimed_entry_has_the_trace_of_its_producer(tables, queue):
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    tables.insert("1", traceparent=parent)
    tables.insert("2")
    assert [entry.traceparent for entry in await queue.claim(asking())] == [parent, None]


async def test_a_block_is_no_larger_than_asked_for_also_where_entries_have_one_id(tables, queue):
    tables.insert("1", id=7, idempotency_key="a")
    tables.insert("2", id=7, idempotency_key="b")
    tables.insert("3", id=8, ready_in_s=-1)
    taken = [
        data_of(await queue.claim(asking(entries, token=token))) for entries, token in ((1, "a"), (1, "b"), (2, "c"))
    ]
    assert taken == [["3"], ["1"], ["2"]]
