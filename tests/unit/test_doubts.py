"""What one entry, or every entry, with a fault of credentials does to the queue over several runs, holds and probes.

Time is virtual, and the queue is in memory. The service is played by what its answers mean.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter

import pytest
from processor_played import PlayedQueue, processor

from rowqueue.errors import CredentialsStop
from rowqueue.lifecycle import MAX_FREE_DOUBTS, CredentialsFault, Status, Succeeded
from rowqueue.processor.exchange import verdict_of

HOLD_S = 300
SENTENCE = "The SSL certificate error"
PAGE = (
    f"<html>\r\n<head><title>400 {SENTENCE}</title></head>\r\n<body>\r\n<center><h1>400 Bad Request</h1></center>\r\n"
    f"<center>{SENTENCE}</center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
)
ECHO = f'{{"error": "not valid", "input": "{SENTENCE}"}}'

FAULTS = {
    "echo of a page": verdict_of(400, "Bad Request", ECHO, html=ECHO),
    "page": verdict_of(400, "Bad Request", PAGE, html=PAGE),
    "495": verdict_of(495, "", ""),
    "403": verdict_of(403, "Forbidden", ""),
    "closed connection": CredentialsFault(reason="the service closed the connection", certain=False),
}
CERTIFICATE = CredentialsFault(reason="the service does not accept our certificate: unknown CA", certain=True)


class Played:
    """A queue with one row of the highest priority and its neighbours, and what was delivered in each run."""

    def __init__(self, *, neighbours):
        self.queue = PlayedQueue()
        self.queue.insert(1, priority=9)
        self.queue.insert(neighbours, first=1)
        self.delivered = []
        self.stops = 0
        self._tokens = itertools.count()

    @property
    def rows(self):
        return self.queue.tables.queue

    def statuses(self):
        return Counter(row.status for row in self.rows)

    async def run(self, verdict, **environ):
        """One task, as the poller would launch it: a probe after a hold, and nothing while one stands."""
        holds = self.queue.tables.holds
        if holds:
            await asyncio.sleep(max(0, max(hold.until_at for hold in holds) - asyncio.get_running_loop().time()))
        self.delivered.append([])

        async def deliver(entry):
            self.delivered[-1].append(entry.id)
            await asyncio.sleep(0.01)
            return verdict(entry)

        settings = {"HOLD_SECONDS": str(HOLD_S), "MAX_CONCURRENT_DELIVERIES": "1"} | environ
        task = processor(self.queue, deliver, tokens=self._tokens, PROBE=str(int(bool(holds))), **settings)
        try:
            await task.run()
        except CredentialsStop:
            self.stops += 1


def only_the_first(fault):
    return lambda entry: fault if entry.id == 0 else Succeeded(response_status=200)


@pytest.mark.parametrize("concurrency", ["1", "4", "32"])
@pytest.mark.parametrize("fault", FAULTS)
async def test_one_entry_with_a_fault_never_holds_back_its_neighbours(fault, concurrency):
    played = Played(neighbours=10)
    for _ in range(3):
        await played.run(only_the_first(FAULTS[fault]), MAX_CONCURRENT_DELIVERIES=concurrency)
    assert {row.id for row in played.rows if row.status == Status.COMPLETED} == set(range(1, 11))
    assert played.queue.holds == []
    assert played.stops == 0
    (first,) = [row for row in played.rows if row.id == 0]
    assert first.retry_count == 1, "its own fault costs it an attempt"
    if fault in {"echo of a page", "page"}:
        assert first.status == Status.FAILED
        assert first.result in {ECHO, PAGE}


@pytest.mark.parametrize("fault", ["page", "403", "closed connection"])
async def test_an_entry_that_meets_its_fault_alone_moves_aside_for_the_next_probe(fault):
    played = Played(neighbours=0)
    await played.run(only_the_first(FAULTS[fault]))
    assert played.stops == 1, "it was all there was"
    played.queue.insert(10, first=1)
    for _ in range(4):
        await played.run(only_the_first(FAULTS[fault]))
    assert played.delivered[0] == [0]
    assert played.delivered[1] == [1], "the probe took an entry that was never tried, though row 0 is more urgent"
    assert {row.id for row in played.rows if row.status == Status.COMPLETED} == set(range(1, 11))
    assert played.queue.holds == []
    assert played.stops == 1


async def test_no_entry_is_probed_twice_in_a_row_while_others_wait_whatever_their_faults():
    played = Played(neighbours=4)

    def refuse(entry):
        return FAULTS["page"]

    for _ in range(16):
        await played.run(refuse)
    probed = [delivered[0] for delivered in played.delivered[1:]]
    assert all(len(delivered) == 1 for delivered in played.delivered[1:])
    assert all(one != other for one, other in itertools.pairwise(probed))
    assert max(Counter(probed).values()) - min(Counter(probed).values()) <= 1, "each has its turn"


async def test_a_fault_that_every_entry_meets_costs_nobody_an_attempt_for_twenty_doubts_and_then_everybody():
    played = Played(neighbours=1)
    free = 2 * MAX_FREE_DOUBTS - 1  # the first run meets it with both entries, each probe with one
    for _ in range(free):
        await played.run(lambda _entry: FAULTS["page"])
    assert {(row.status, row.retry_count, row.doubts) for row in played.rows} == {(Status.PENDING, 0, MAX_FREE_DOUBTS)}
    assert Counter(attempt.outcome for attempt in played.queue.attempts) == {"doubtful": 2 * MAX_FREE_DOUBTS}
    for _ in range(2):
        await played.run(lambda _entry: FAULTS["page"])
    assert [row.retry_count for row in played.rows] == [1, 1]
    assert played.stops == free + 2


async def test_a_refused_certificate_never_costs_anybody_anything():
    played = Played(neighbours=3)
    runs = 5 * MAX_FREE_DOUBTS
    for _ in range(runs):
        await played.run(lambda _entry: CERTIFICATE)
    assert played.stops == runs
    assert {(row.status, row.retry_count, row.doubts) for row in played.rows} == {(Status.PENDING, 0, 0)}
    await played.run(only_the_first(Succeeded(response_status=200)))
    await played.run(only_the_first(Succeeded(response_status=200)))
    assert played.statuses() == {Status.COMPLETED: 4}
    assert played.queue.holds == []


async def test_three_pages_and_no_2xx_stop_the_task_and_two_do_not():
    two, three = Played(neighbours=9), Played(neighbours=9)
    await two.run(lambda entry: FAULTS["page"] if entry.id < 2 else Succeeded(response_status=200))
    assert two.stops == 0
    assert two.statuses() == {Status.COMPLETED: 8, Status.FAILED: 2}
    await three.run(lambda entry: FAULTS["page"] if entry.id < 3 else Succeeded(response_status=200))
    assert three.stops == 1
    assert three.statuses() == {Status.PENDING: 10}
    assert sum(row.doubts for row in three.rows) == 3
