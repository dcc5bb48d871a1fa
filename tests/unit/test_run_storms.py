"""Whatever happens to a processor and whenever: each entry that it claimed is settled once, and it comes to an end.

Every storm is a seed: how many entries, how slow Snowflake and the service are, what the service answers, when a stop
comes, when the budget ends. A seed that fails is a test case of its own.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from rowqueue.errors import CredentialsStop, DeliveryFault, LockContention, ServiceUnreachable
from rowqueue.lifecycle import CredentialsFault, Entry, Permanent, RetryPolicy, Succeeded, Transient
from rowqueue.processor import claiming, gate
from rowqueue.processor.run import Processor
from rowqueue.records import Ready
from rowqueue.settings import ProcessorSettings

ENVIRON = {
    "ENVIRONMENT": "dev",
    "CERT_BUCKET": "certs",
    "EXTERNAL_SERVICE_URL": "https://127.0.0.1/",
    "SNOWFLAKE_ACCOUNT": "local",
    "SNOWFLAKE_WAREHOUSE": "WH",
    "SNOWFLAKE_DATABASE": "DB",
    "SNOWFLAKE_SCHEMA": "PUBLIC",
    "FLUSH_SECONDS": "0.02",
}
ENDS_WITHIN_S = 10


class SlowQueue:
    """Stands where the store does, in the thread where Snowflake is waited for."""

    def __init__(self, rng):
        self.rng = rng
        self.left = rng.choice([1, 2, 3, 5, 20, 60])
        self.slowness = rng.choice([0.001, 0.01, 0.04])
        self.fails_at = rng.choice([None] * 9 + [3])
        self.claims = 0
        self.claimed = []
        self.settled = Counter()
        self.holds = []

    def wait(self):
        time.sleep(self.rng.random() * self.slowness)

    def claim(self, *, processor_id, claim_token, entries, characters, suspects, holds_nothing, probe):
        self.wait()
        self.claims += 1
        if self.claims == self.fails_at:
            raise LockContention("too many wait", errno=625)
        count = min(self.left, self.rng.randint(0, entries))
        self.left -= count
        ids = range(len(self.claimed), len(self.claimed) + count)
        self.claimed += ids
        return [Entry(id=n, data="{}", idempotency_key="key", claim_token=claim_token) for n in ids]

    def count_ready(self, *, probe=False):
        self.wait()
        return Ready(entries=self.left)

    def settle_or_bisect(self, settlements, attempts, *, processor_id):
        self.wait()
        self.settled.update(settlement.entry_id for settlement in settlements)
        return frozenset()

    def place_hold(self, *, reason, seconds, created_by):
        self.holds.append(reason)

    def lift_ended_holds(self):
        pass

    def record_first_claim(self, *, processor_id, entries):
        self.wait()

    def record_end(self, *, processor_id, entries, seconds, reason):
        self.wait()


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
    queue, stop, tokens = SlowQueue(rng), asyncio.Event(), itertools.count()
    settings = ProcessorSettings.from_env(
        ENVIRON
        | {
            "MAX_ENTRIES": str(rng.choice([1, 4, 8, 30])),
            "MAX_CONCURRENT_DELIVERIES": str(rng.choice([1, 3, 8, 32])),
            "STOP_GRACE_SECONDS": str(rng.choice([0, 0.05, 0.3])),
            "PROBE": rng.choice("0001"),
        }
    )
    if rng.random() < 0.5:
        asyncio.get_running_loop().call_later(rng.random() * 0.4, stop.set)
    with ThreadPoolExecutor(1) as thread:
        running = Processor(
            queue=queue,
            deliver=service(rng),
            policy=RetryPolicy(),
            settings=replace(settings, budget_s=rng.choice([0.05, 0.3, 1.0])),
            processor_id="dev-1",
            stop=stop,
            thread=thread,
            rng=rng.random,
            new_token=lambda: f"token-{next(tokens)}",
        )
        try:
            async with asyncio.timeout(ENDS_WITHIN_S):
                await running.run()
        except CredentialsStop:
            assert len(queue.holds) == 1
        except LockContention:
            assert queue.fails_at
        except (DeliveryFault, ServiceUnreachable):
            assert queue.settled
        else:
            assert queue.holds == []
    assert queue.settled == Counter(queue.claimed), "an entry was settled twice, or not at all"
    assert running._gate.in_flight == 0


@pytest.mark.parametrize("first", range(0, 160, 20))
async def test_each_claimed_entry_is_settled_once_whatever_happens_and_whenever(first, monkeypatch, caplog):
    monkeypatch.setattr(gate, "_SHORTEST_PAUSE_S", 0.05)
    monkeypatch.setattr(gate, "LONGEST_PAUSE_S", 0.2)
    monkeypatch.setattr(claiming, "_PAUSE_S", 0.02)
    outcomes = await asyncio.gather(*(storm(seed) for seed in range(first, first + 20)), return_exceptions=True)
    failed = {first + number: outcome for number, outcome in enumerate(outcomes) if outcome is not None}
    assert not failed, f"by seed: {failed}"
