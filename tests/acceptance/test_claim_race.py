"""Twenty-five workers on one table whose lock allows twenty waiters."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request

WORKERS = 25

# Forks the workers after the imports, which take a second. Each has its own process, session and store, as in a task.
# The last line has the process of each and the entries that it settled.
RACE = f"""
import json, multiprocessing, os
from rowqueue.lifecycle import Settlement, Status
from rowqueue.processor.queue import ClaimRequest
from rowqueue.processor.store import ProcessorStore
from rowqueue.settings import SnowflakeSettings
from rowqueue.warehouse import SnowflakeWarehouse

processes = multiprocessing.get_context("fork")
all_are_ready = processes.Barrier({WORKERS})
settings = SnowflakeSettings.from_env(os.environ)
login = {{"user": "worker", "password": "worker"}}

def work(name):
    warehouse = SnowflakeWarehouse(settings, login, query_tag="race")
    store = ProcessorStore(warehouse, queue=settings.table, processor_id=name, max_retries=3)
    warehouse.connect()
    all_are_ready.wait(60)
    settled, claims = [], 0
    while store.count_ready().entries:
        claims += 1
        entries = store.claim(ClaimRequest(token=f"{{name}}-{{claims}}", entries=8, characters=10**9))
        if entries:
            done = [
                Settlement(
                    entry_id=e.id, claim_token=e.claim_token, idempotency_key=e.idempotency_key, status=Status.COMPLETED
                )
                for e in entries
            ]
            assert store.settle(done, []) == frozenset()
            settled += [e.id for e in entries]
    return os.getpid(), settled

with processes.Pool({WORKERS}) as pool:
    print(json.dumps(pool.map(work, [f"worker-{{number}}" for number in range({WORKERS})], chunksize=1)))
"""


def refusals(deployed):
    with urllib.request.urlopen(f"{deployed.snowflake}/_local/stats") as answer:
        return json.load(answer)["refused_625"]


def test_every_entry_is_claimed_once_although_the_lock_refuses_waiters(deployed, sql, insert, capsys):
    before = refusals(deployed)
    insert(1000)
    environ = {"PATH": "", **deployed.environ_of("processor")}
    race = subprocess.run(
        [sys.executable, "-c", RACE], env=environ, capture_output=True, text=True, timeout=110, check=False
    )
    assert race.returncode == 0, race.stderr
    workers = json.loads(race.stdout.splitlines()[-1])
    assert len({process for process, _ in workers}) == WORKERS
    settled = [entry for _, entries in workers for entry in entries]
    refused = refusals(deployed) - before
    assert len(settled) == len(set(settled)) == 1000, "claimed twice, or lost"
    assert sql("SELECT status, COUNT(*) FROM PROCESSING_QUEUE GROUP BY status") == [("completed", 1000)]
    assert refused > 0, "the lock has refused no statement, so this run shows nothing"
    with capsys.disabled():
        print(f"\n25 workers, 1000 entries: 0 claimed twice, 0 stuck, errno 625 seen {refused} times")
