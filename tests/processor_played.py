"""A processor on a queue in memory whose calls a test can watch, delay and fail."""

from __future__ import annotations

import asyncio
import itertools

from rowqueue.lifecycle import RetryPolicy, Status, Succeeded
from rowqueue.processor.run import Pauses, Processor
from rowqueue.settings import ProcessorSettings
from rowqueue_local.memory_queue import MemoryQueue, MemoryTables

ENVIRON = {
    "ENVIRONMENT": "dev",
    "CERT_BUCKET": "certs",
    "EXTERNAL_SERVICE_URL": "https://127.0.0.1/",
    "SNOWFLAKE_ACCOUNT": "local",
    "SNOWFLAKE_WAREHOUSE": "WH",
    "SNOWFLAKE_DATABASE": "DB",
    "SNOWFLAKE_SCHEMA": "PUBLIC",
    "FLUSH_SECONDS": "0.02",
    "RETRY_BACKOFF_SECONDS": "900",  # no entry is ready again during a test
}


def now():
    """Seconds on the event loop's clock."""
    return asyncio.get_running_loop().time()


class PlayedQueue(MemoryQueue):
    """Keeps what it was asked and what it settled.

    Args:
        entries: how many are inserted; their ids count from 0.
        empty_claims: how many claims come back empty first.
        fail_on_claim: raised by every claim but the first.
        fail_on_settle: raised by every settle.
        lost: entries whose claims another worker takes over before their settle.
    """

    def __init__(self, entries=0, *, empty_claims=0, fail_on_claim=None, fail_on_settle=None, lost=frozenset()):
        super().__init__(MemoryTables(clock=now))
        self.empty_claims = empty_claims
        self.fail_on_claim = fail_on_claim
        self.fail_on_settle = fail_on_settle
        self.lost = lost
        self.calls = []
        self.requests = []
        self.looks = []
        self.blocks = []
        self.settlements = []
        self.insert(entries)

    def insert(self, count, *, first=0, **columns):
        for number in range(first, first + count):
            self.tables.insert(id=number, **columns)

    def pending(self):
        return sum(row.status == Status.PENDING and row.claim_token is None for row in self.tables.queue)

    @property
    def attempts(self):
        return [row.made for row in self.tables.attempts]

    @property
    def holds(self):
        return [hold.reason for hold in self.tables.holds]

    @property
    def ended(self):
        return self.tables.processors[-1]

    async def claim(self, request):
        self.calls.append("claim")
        self.requests.append(request)
        if self.fail_on_claim and len(self.requests) > 1:
            raise self.fail_on_claim
        if self.empty_claims:
            self.empty_claims -= 1
            return []
        block = await super().claim(request)
        self.blocks.append(block)
        return block

    async def count_ready(self):
        self.calls.append("count_ready")
        return await super().count_ready()

    async def settle(self, settlements, attempts):
        self.calls.append("settle")
        if self.fail_on_settle:
            raise self.fail_on_settle
        for row in self.tables.queue:
            if row.id in self.lost:
                row.claim_token = "another worker's"
        self.settlements += settlements
        return await super().settle(settlements, attempts)

    async def look(self, tokens):
        self.looks.append((now(), tokens))
        return await super().look(tokens)

    async def lift_ended_holds(self):
        self.calls.append("lift")
        await super().lift_ended_holds()

    async def record_first_claim(self, *, entries):
        self.calls.append("first_claim")
        await super().record_first_claim(entries=entries)

    async def record_end(self, *, entries, seconds, reason):
        self.calls.append("end")
        await super().record_end(entries=entries, seconds=seconds, reason=reason)


def processor(queue, deliver, *, stop=None, rng=lambda: 0.01, pauses=None, tokens=None, **environ):
    """A processor whose clock is the event loop's. Processors that run one after the other share ``tokens``."""
    tokens = tokens or itertools.count()
    return Processor(
        queue=queue,
        deliver=deliver,
        policy=RetryPolicy(),
        settings=ProcessorSettings.from_env(ENVIRON | environ),
        stop=stop or asyncio.Event(),
        clock=now,
        rng=rng,
        new_token=lambda: f"token-{next(tokens)}",
        pauses=pauses or Pauses(),
    )


async def succeed(entry):
    await asyncio.sleep(0)
    return Succeeded(response_status=200)
