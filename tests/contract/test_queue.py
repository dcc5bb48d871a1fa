"""The contract of a processor's queue, on Snowflake."""

from __future__ import annotations

import asyncio

import pytest
from queue_contract import *  # noqa: F403 -- its tests and fixtures
from queue_tables import InSnowflake

from rowqueue.processor.queue import ClaimRequest, SnowflakeQueue
from rowqueue.processor.store import ProcessorStore
from rowqueue.settings import SnowflakeSettings


@pytest.fixture
def tables(environ, sql, warehouses):
    in_snowflake = InSnowflake(sql, warehouses, SnowflakeSettings.from_env(environ).table)
    yield in_snowflake
    in_snowflake.close()


async def test_a_look_is_answered_while_a_claim_waits_for_the_lock(environ, sql, warehouses):
    table = SnowflakeSettings.from_env(environ).table

    def store():
        return ProcessorStore(warehouses(), queue=table, processor_id="dev-1", max_retries=3)

    def begin():
        sql("INSERT INTO PROCESSING_QUEUE (data) VALUES ('1'), ('2')")
        return SnowflakeQueue(store(), looking=store())

    queue = await asyncio.to_thread(begin)
    (entry,) = await queue.claim(ClaimRequest(token="first", entries=1, characters=9))
    await asyncio.to_thread(lambda: [sql(text) for text in ("BEGIN", "UPDATE PROCESSING_QUEUE SET priority = 1")])
    claiming = asyncio.create_task(queue.claim(ClaimRequest(token="second", entries=1, characters=9)))
    assert not (await queue.look(["first"])).cancelled
    assert not claiming.done()
    await asyncio.to_thread(sql, "UPDATE PROCESSING_QUEUE SET cancel_requested = (status = 'processing')")
    await asyncio.to_thread(sql, "COMMIT")
    assert (await queue.look(["first"])).cancelled == {(entry.id, "first", entry.idempotency_key)}
    assert len(await claiming) == 1
    await asyncio.to_thread(queue.close)
