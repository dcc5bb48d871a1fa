"""Time-outs that share a timer: each wait gets its own end, and nobody's cancellation is taken for it."""

from __future__ import annotations

import asyncio
import time

import pytest

from rowqueue.processor.shared_timeout import SharedTimeout


async def waited(limit, seconds):
    with limit:
        await asyncio.sleep(seconds)
    return "done"


async def test_a_wait_that_is_short_enough_is_left_alone():
    timeout = SharedTimeout(0.05)
    assert [await waited(timeout, 0.01) for _ in range(10)] == ["done"] * 10, "longer than one may take, all together"
    await asyncio.sleep(0.1)


async def test_a_wait_that_takes_too_long_ends_in_time_and_the_task_goes_on():
    timeout = SharedTimeout(0.05)
    for _ in range(2):
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            await waited(timeout, 60)
        assert 0.05 <= time.monotonic() - began < 2
        assert asyncio.current_task().cancelling() == 0
    assert await waited(timeout, 0) == "done"


async def test_each_of_many_ends_by_its_own_start():
    timeout, ended, began = SharedTimeout(0.2), {}, time.monotonic()

    async def one(number):
        await asyncio.sleep(number / 50)
        try:
            return await waited(timeout, 0 if number % 2 else 60)
        except TimeoutError:
            ended[number] = time.monotonic() - began
            return "late"

    answers = await asyncio.gather(*(one(number) for number in range(10)))
    assert answers == ["late", "done"] * 5
    assert all(0.2 <= seconds - number / 50 < 2 for number, seconds in ended.items())
    assert list(ended) == sorted(ended)


@pytest.mark.parametrize("first", ["cancelled", "timed out"])
async def test_a_task_that_is_cancelled_meanwhile_stays_cancelled(first):
    timeout = SharedTimeout(0.05)
    task = asyncio.create_task(waited(timeout, 60))
    await asyncio.sleep(0)
    if first == "timed out":
        asyncio.get_running_loop().call_later(0.05, task.cancel)
    time.sleep(0.06)  # noqa: ASYNC251 -- both are due in the same turn of the loop
    if first == "cancelled":
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_ends_otherwise_although_its_time_is_over_keeps_its_end():
    timeout = SharedTimeout(0.02)

    async def stubborn():
        with timeout:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                raise ConnectionResetError from None

    with pytest.raises(ConnectionResetError):
        await stubborn()
    assert asyncio.current_task().cancelling() == 0
    await asyncio.sleep(0.01)


async def test_an_answer_that_is_there_is_lost_to_a_time_out_in_the_same_turn_and_the_next_wait_is_unharmed():
    timeout, answer = SharedTimeout(0.02), asyncio.get_running_loop().create_future()

    async def wait():
        with timeout:
            return await answer

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_later(0.01, answer.set_result, "there")
    time.sleep(0.05)  # noqa: ASYNC251
    with pytest.raises(TimeoutError):
        await task
    assert await waited(timeout, 0) == "done"


async def test_one_that_does_not_end_when_it_should_keeps_no_other_from_ending():
    timeout = SharedTimeout(0.05)

    async def slow_to_end():
        with timeout:
            try:
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(2)

    first = asyncio.create_task(slow_to_end())
    await asyncio.sleep(0.02)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        await waited(timeout, 60)
    assert time.monotonic() - began < 1.5
    with pytest.raises(TimeoutError):
        await first
