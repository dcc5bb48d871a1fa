from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from rowqueue_local.snowflake.table_locks import LockTimedOut, TableLocks, TooManyWaiters

if TYPE_CHECKING:
    from collections.abc import Iterable

QUEUE = ("DB", "PUBLIC", "QUEUE")
OTHER = ("DB", "PUBLIC", "OTHER")
A, B, C, D = "ABCD"


@pytest.fixture
def locks() -> TableLocks[str]:
    return TableLocks(max_waiters=2)


async def waiters(locks: TableLocks[str], owners: Iterable[str], *, seconds: float = 60) -> list[asyncio.Task[None]]:
    """Have each owner ask for QUEUE, one after the other."""
    tasks = []
    for owner in owners:
        tasks.append(asyncio.create_task(locks.acquire(QUEUE, owner, timeout_seconds=seconds)))
        await asyncio.sleep(0)
    return tasks


async def test_a_free_table_is_locked_without_waiting(locks):
    await locks.acquire(QUEUE, A, timeout_seconds=0)
    assert locks.owner_of(QUEUE) is A
    assert locks.waits == 0


async def test_its_owner_may_lock_it_again(locks):
    await locks.acquire(QUEUE, A, timeout_seconds=0)
    await locks.acquire(QUEUE, A, timeout_seconds=0)
    locks.release(A)
    assert locks.owner_of(QUEUE) is None


async def test_two_tables_do_not_wait_for_each_other(locks):
    await locks.acquire(QUEUE, A, timeout_seconds=0)
    await locks.acquire(OTHER, B, timeout_seconds=0)
    assert (locks.owner_of(QUEUE), locks.owner_of(OTHER)) == (A, B)


async def test_a_release_gives_back_every_table_of_its_owner_and_no_other(locks):
    await locks.acquire(QUEUE, A, timeout_seconds=0)
    await locks.acquire(OTHER, A, timeout_seconds=0)
    await locks.acquire(("X",), B, timeout_seconds=0)
    locks.release(A)
    assert [locks.owner_of(table) for table in (QUEUE, OTHER, ("X",))] == [None, None, B]


async def test_waiters_are_served_in_the_order_in_which_they_came(locks):
    await locks.acquire(QUEUE, A, timeout_seconds=0)
    b, c = await waiters(locks, (B, C))
    assert locks.waits == 2

    locks.release(A)
    await b
    assert not c.done()
    locks.release(B)
    await c
    assert locks.owner_of(QUEUE) is C


async def test_no_owner_overtakes_a_waiter_that_has_not_noticed_its_turn_yet(locks):
    await locks.acquire(QUEUE, A, timeout_seconds=0)
    (b,) = await waiters(locks, [B])
    locks.release(A)
    with pytest.raises(LockTimedOut):
        await locks.acquire(QUEUE, C, timeout_seconds=0)
    await b
    assert locks.owner_of(QUEUE) is B


async def test_one_waiter_more_than_the_limit_is_refused_at_once(locks):
    await locks.acquire(QUEUE, A, timeout_seconds=0)
    tasks = await waiters(locks, (B, C))
    with pytest.raises(TooManyWaiters):
        await locks.acquire(QUEUE, D, timeout_seconds=60)
    assert locks.waits == 2

    for owner, task in zip((A, B, C), [*tasks, None], strict=True):
        locks.release(owner)
        if task:
            await task
    assert locks.owner_of(QUEUE) is None


async def test_with_a_limit_of_zero_nobody_may_wait():
    locks: TableLocks[str] = TableLocks(max_waiters=0)
    await locks.acquire(QUEUE, A, timeout_seconds=0)
    with pytest.raises(TooManyWaiters):
        await locks.acquire(QUEUE, B, timeout_seconds=60)


async def test_a_waiter_after_its_time_out_leaves_the_line(locks):
    await locks.acquire(QUEUE, A, timeout_seconds=0)
    (b,) = await waiters(locks, [B], seconds=0.01)
    (c,) = await waiters(locks, [C])
    with pytest.raises(LockTimedOut):
        await b
    locks.release(A)
    await c
    assert locks.owner_of(QUEUE) is C


async def test_a_waiter_that_is_cancelled_leaves_the_line(locks):
    await locks.acquire(QUEUE, A, timeout_seconds=0)
    b, c = await waiters(locks, (B, C))
    b.cancel()
    with pytest.raises(asyncio.CancelledError):
        await b
    locks.release(A)
    await c
    assert locks.owner_of(QUEUE) is C


async def test_a_lock_granted_to_a_waiter_that_is_cancelled_goes_to_the_next(locks):
    await locks.acquire(QUEUE, A, timeout_seconds=0)
    b, c = await waiters(locks, (B, C))
    locks.release(A)
    b.cancel()
    with pytest.raises(asyncio.CancelledError):
        await b
    await c
    assert locks.owner_of(QUEUE) is C


async def test_an_owner_knows_whether_others_wait_for_it(locks):
    await locks.acquire(QUEUE, A, timeout_seconds=0)
    assert not locks.is_in_the_way(A)
    (b,) = await waiters(locks, [B])
    assert locks.is_in_the_way(A)
    assert not locks.is_in_the_way(B)
    locks.release(A)
    await b
    assert not locks.is_in_the_way(A)


async def test_the_owner_of_one_table_waits_for_another_without_losing_the_first(locks):
    await locks.acquire(QUEUE, A, timeout_seconds=0)
    await locks.acquire(OTHER, B, timeout_seconds=0)
    with pytest.raises(LockTimedOut):
        await locks.acquire(QUEUE, B, timeout_seconds=0.01)
    assert locks.owner_of(OTHER) is B
