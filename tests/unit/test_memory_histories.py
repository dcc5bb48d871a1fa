"""Random histories of the queue in memory."""

from __future__ import annotations

import contextlib

from queue_histories import LIMIT, Killed, destination_of, play

from rowqueue.lifecycle import Status
from rowqueue_local.memory_poller import MemoryPoller
from rowqueue_local.memory_queue import HoldRow, MemoryQueue, MemoryTables


def finished(coroutine):
    """The result of a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("the queue in memory has waited")


class MemoryStore:
    """A MemoryQueue with the methods of a ProcessorStore."""

    def __init__(self, ground, queue):
        self.ground = ground
        self.queue = queue

    def claim(self, request):
        return finished(self.queue.claim(request))

    def settle(self, settlements, attempts):
        if self.ground.kill:
            finished(self.queue.settle([], attempts))
            raise Killed
        return finished(self.queue.settle(settlements, attempts))

    def look(self, tokens):
        return finished(self.queue.look(tokens))

    def place_hold(self, **hold):
        finished(self.queue.place_hold(**hold))

    def lift_ended_holds(self):
        finished(self.queue.lift_ended_holds())


class MemoryGround:
    """The tables in memory, on the clock of the history."""

    def clear(self):
        self.now, self.kill = 0.0, False
        self.tables = MemoryTables(clock=lambda: self.now)
        self.poller = MemoryPoller(self.tables, max_retries=LIMIT)

    def end(self):
        pass

    def at(self, now):
        self.now = now

    def jump(self, seconds):
        self.now += seconds

    def claimed_since(self):
        return {}

    def store(self, worker):
        destination = destination_of(worker)
        queue = MemoryQueue(self.tables, processor_id=worker, max_retries=LIMIT, destination=destination)
        return MemoryStore(self, queue)

    @contextlib.contextmanager
    def killed_after(self, statement):
        self.kill = True
        with contextlib.suppress(Killed):
            yield
        self.kill = False

    def insert(self, data, *, ready_in_s, **columns):
        for item in data:
            self.tables.insert(item, available_at=self.now + ready_in_s, **columns)

    def requeue(self, data, *, reset):
        row = self._row(data)
        row.status, row.available_at = Status.PENDING, self.now
        if reset:
            row.earlier_attempts += row.retry_count
            row.retry_count, row.cancel_requested, row.cancelled_at = 0, False, None

    def cancel(self, data):
        row = self._row(data)
        if row.status == Status.PENDING:
            row.status, row.cancelled_at = Status.CANCELLED, self.now
        else:
            row.cancel_requested = True

    def rows(self):
        return [
            (
                row.data,
                "without a time" if row.status == Status.CANCELLED and row.cancelled_at is None else str(row.status),
                *(row.retry_count, row.earlier_attempts, row.crash_count, row.doubts),
                *(row.claim_token, row.processor_id, row.cancel_requested),
                round((row.available_at - self.now) / 100),
            )
            for row in self.tables.queue
        ]

    def trail(self):
        data = {row.id: row.data for row in self.tables.queue}
        return [
            (data[row.made.entry_id], row.made.claim_token, row.made.attempt, str(row.made.outcome), row.by_poller)
            for row in self.tables.attempts
        ]

    def hold(self, scope, kind):
        self.tables.holds.append(HoldRow(reason="maintenance", scope=scope, kind=kind))

    def delete_holds_without_end(self):
        self.tables.holds[:] = [hold for hold in self.tables.holds if hold.until_at is not None]

    def holds(self):
        return [(hold.scope, str(hold.kind)) for hold in self.tables.holds]

    def _row(self, data):
        return next(row for row in self.tables.queue if row.data == data)


def test_random_histories_keep_every_promise_in_memory():
    play(MemoryGround(), histories=100, steps=50, shrink=True)
