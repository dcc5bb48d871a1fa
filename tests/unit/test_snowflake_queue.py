"""The thread of a SnowflakeQueue: one for all statements, with the caller's context in what they log."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest

from rowqueue.errors import WarehouseUnavailable
from rowqueue.processor.queue import LookAnswer, Ready, SnowflakeQueue

TASK = contextvars.ContextVar("TASK", default="none")


class WatchedStore:
    """Stands where ProcessorStore does; keeps in which thread and context each call ran."""

    def __init__(self):
        self.calls = []

    def seen(self, name):
        self.calls.append((name, threading.get_ident(), TASK.get()))

    def claim(self, request):
        self.seen("claim")
        return []

    def count_ready(self):
        self.seen("count_ready")
        return Ready(entries=0)

    def settle(self, settlements, attempts):
        self.seen("settle")
        return frozenset()

    def lift_ended_holds(self):
        raise WarehouseUnavailable("gone")


@pytest.fixture
def store():
    return WatchedStore()


@pytest.fixture
def queue(store):
    queue = SnowflakeQueue(store)
    yield queue
    queue.close()


async def test_all_statements_run_in_one_thread_that_is_not_the_event_loops(store, queue):
    answered = threading.Event()
    store.count_ready = lambda: store.seen("count_ready") or answered.wait(60)
    calls = [asyncio.create_task(queue.count_ready()) for _ in range(8)]
    await asyncio.sleep(0)
    threads = {thread.ident for thread in threading.enumerate() if thread.name.startswith("warehouse")}
    answered.set()
    await asyncio.gather(*calls)
    assert len(threads) == 1, "the first statement has not ended, and no other thread sends the second"
    assert {thread for _, thread, _ in store.calls} == threads
    assert len(store.calls) == 8


async def test_what_a_statement_logs_carries_the_callers_context(store, queue):
    TASK.set("dev-7")
    await queue.count_ready()
    assert [context for *_, context in store.calls] == ["dev-7"]


async def test_an_error_of_a_statement_reaches_the_caller(queue):
    with pytest.raises(WarehouseUnavailable, match="gone"):
        await queue.lift_ended_holds()


async def test_after_a_close_nothing_is_sent(store):
    queue = SnowflakeQueue(store)
    queue.close()
    with pytest.raises(RuntimeError):
        await queue.count_ready()
    assert store.calls == []


async def test_a_look_does_not_wait_for_a_statement_that_waits_for_the_lock(store):
    class WatchedLooks:
        def look(self, tokens):
            return LookAnswer(hold=tokens == ["a"])

    queue, free = SnowflakeQueue(store, looking=WatchedLooks()), threading.Event()
    store.count_ready = lambda: free.wait(60)
    counting = asyncio.create_task(queue.count_ready())
    await asyncio.sleep(0)
    assert (await queue.look(["a"])).hold
    assert not counting.done()
    free.set()
    await counting
    await asyncio.to_thread(queue.close)
