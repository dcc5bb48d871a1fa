"""Random events at random times: each entry that a processor has claimed is settled once, and the run ends.

Every storm is a seed: how many entries, how slow Snowflake and the service are, what the service answers, when a stop
is requested, when the budget ends. A seed that fails is a test case of its own. Time is virtual.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import replace

import pytest
from processor_played import PlayedQueue, now, processor

from rowqueue.errors import CredentialsStop, DeliveryFault, LockContention, ServiceUnreachable
from rowqueue.lifecycle import CredentialsFault, Permanent, Succeeded, Transient
from rowqueue.processor.run import Pauses

ENDS_WITHIN_S = 60


class SlowQueue(PlayedQueue):
    """Every call takes a while, claims get fewer entries than they ask for, and the third claim may fail."""

    def __init__(self, rng):
        super().__init__(rng.choice([1, 2, 3, 5, 20, 60]))
        self.rng = rng
        self.slowness = rng.choice([0.001, 0.01, 0.04])
        self.fails_at = rng.choice([None] * 9 + [3])

    async def wait(self):
        await asyncio.sleep(self.rng.random() * self.slowness)

    async def claim(self, request):
        await self.wait()
        if len(self.requests) + 1 == self.fails_at:
            raise LockContention("too many wait", errno=625)
        fewer = self.rng.randint(0, request.entries)
        if not fewer:
            self.requests.append(request)
            return []
        return await super().claim(replace(request, entries=fewer))

    async def count_ready(self):
        await self.wait()
        return await super().count_ready()

    async def settle(self, settlements, attempts):
        await self.wait()
        lost = await super().settle(settlements, attempts)
        assert not lost
        return lost

    async def record_first_claim(self, *, entries):
        await self.wait()
        await super().record_first_claim(entries=entries)

    async def record_end(self, *, entries, seconds, reason):
        await self.wait()
        await super().record_end(entries=entries, seconds=seconds, reason=reason)


def service(rng):
    """Answers at random, in a mixture that the seed decides."""
    slowness = rng.choice([0.001, 0.02, 0.08])
    weights = {
        "fine": rng.choice([0, 0, 0.5, 0.9]),
        "401": rng.choice([0, 0.1, 0.5]),
        "tls": rng.choice([0, 0, 0.03, 0.3]),
        "429": rng.choice([0, 0.1, 0.4]),
        "503": 0.1,
        "400": 0.05,
        "bug": rng.choice([0, 0.05]),
    }

    async def deliver(entry):
        await asyncio.sleep(rng.random() * slowness)
        match rng.choices(list(weights), list(weights.values()))[0]:
            case "fine":
                return Succeeded(response_status=200)
            case "401":
                return CredentialsFault(reason="401", certain=False, response_status=rng.choice([None, 401]))
            case "tls":
                return CredentialsFault(reason="TLS failed", certain=True)
            case "429":
                return Transient(reason="429", response_status=429, retry_after_s=rng.random() * 0.2)
            case "400":
                return Permanent(reason="400", response_status=400)
            case "bug":
                raise ZeroDivisionError
            case _:
                return Transient(reason="503", response_status=503)

    return deliver


async def storm(seed):
    rng = random.Random(seed)
    queue, stop = SlowQueue(rng), asyncio.Event()
    settings = {
        "MAX_ENTRIES": str(rng.choice([1, 4, 8, 30])),
        "MAX_CONCURRENT_DELIVERIES": str(rng.choice([1, 3, 8, 32])),
        "STOP_GRACE_SECONDS": str(rng.choice([0, 0.05, 0.3])),
        "CONTAINER_TIMEOUT_SECONDS": str(rng.choice([1, 2, 6])),
        "PROBE": rng.choice("0001"),
    }
    if rng.random() < 0.5:
        asyncio.get_running_loop().call_later(rng.random() * 0.4, stop.set)
    running = processor(
        queue,
        service(rng),
        stop=stop,
        rng=rng.random,
        pauses=Pauses(retry_s=0.02, shortest_s=0.05, longest_s=0.2),
        **settings,
    )
    began = now()
    try:
        await running.run()
    except CredentialsStop:
        assert len(queue.holds) == 1
    except LockContention:
        assert queue.fails_at
    except (DeliveryFault, ServiceUnreachable):
        assert queue.settlements
    else:
        assert queue.holds == []
    assert now() - began < ENDS_WITHIN_S
    claimed = Counter((entry.id, entry.claim_token) for block in queue.blocks for entry in block)
    settled = Counter((settlement.entry_id, settlement.claim_token) for settlement in queue.settlements)
    assert settled == claimed, "an entry was settled twice, or not at all"
    assert running._in_hand.entries == 0


@pytest.mark.parametrize("first", range(0, 320, 20))
async def test_each_claimed_entry_is_settled_once_whatever_happens_and_whenever(first):
    for seed in range(first, first + 20):
        try:
            await storm(seed)
        except Exception as error:
            raise AssertionError(f"seed {seed}") from error
