"""Twenty-five workers on one table whose lock allows twenty waiters."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request

WORKERS = 25

# One worker with its own process, session and store, as in a task; it prints the entries that it settled.
WORKER = """
import json, os, random, sys, time
from rowqueue.lifecycle import Settlement, Status
from rowqueue.processor.queue import ClaimRequest
from rowqueue.processor.store import ProcessorStore
from rowqueue.settings import SnowflakeSettings
from rowqueue.warehouse import SnowflakeWarehouse

settings = SnowflakeSettings.from_env(os.environ)
login = {"user": "worker", "password": "worker"}
name = sys.argv[1]
warehouse = SnowflakeWarehouse(settings, login, query_tag="race")
store = ProcessorStore(warehouse, queue=settings.table, processor_id=name, max_retries=3)
warehouse.connect()
print("ready", flush=True)
sys.stdin.readline()
settled, claims = [], 0
while store.count_ready().entries:
    claims += 1
    entries = store.claim(ClaimRequest(token=f"{name}-{claims}", entries=8, characters=10**9))
    if entries:
        done = [
            Settlement(
                entry_id=e.id, claim_token=e.claim_token, idempotency_key=e.idempotency_key, status=Status.COMPLETED
            )
            for e in entries
        ]
        assert store.settle(done, []) == frozenset()
        settled += [e.id for e in entries]
print(json.dumps(settled), flush=True)
"""


def test_every_entry_is_claimed_once_although_the_lock_refuses_waiters(deployed, sql, insert, capsys):
    insert(1000)
    environ = {"PATH": "", **deployed.environ_of("processor")}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, f"worker-{number}"],
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(WORKERS)
    ]
    try:
        for worker in workers:
            while worker.stdout.readline() != "ready\n":
                assert worker.poll() is None
        for worker in workers:
            worker.stdin.write("go\n")
            worker.stdin.flush()
        settled = []
        for worker in workers:
            *_, last = worker.stdout.read().splitlines()
            settled += json.loads(last)
            assert worker.wait(10) == 0
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
    with urllib.request.urlopen(f"{deployed.snowflake}/_local/stats") as answer:
        refused = json.load(answer)["refused_625"]
    assert len(settled) == len(set(settled)) == 1000, "claimed twice, or lost"
    assert sql("SELECT status, COUNT(*) FROM PROCESSING_QUEUE GROUP BY status") == [("completed", 1000)]
    assert refused > 0, "the lock has refused no statement, so this run shows nothing"
    with capsys.disabled():
        print(f"\n25 workers, 1000 entries: 0 claimed twice, 0 stuck, errno 625 seen {refused} times")
