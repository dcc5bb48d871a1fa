"""The gate at its boundaries: pauses that overlap, a cancellation in the moment of admission, rounding."""

from __future__ import annotations

import asyncio

import pytest

from rowqueue.processor.gate import Gate


def now():
    return asyncio.get_running_loop().time()


@pytest.fixture
async def gate():
    return Gate(most=8, clock=asyncio.get_running_loop().time)


def admitted(visitors):
    return sum(task.done() for task in visitors)


async def admitted_after(gate):
    """Seconds until the gate admits one."""
    began = now()
    await gate.enter()
    gate.leave()
    return pytest.approx(now() - began, abs=1e-4)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [(None, 1), (0, 1), (0.5, 1), (1, 1), (5, 5), (30, 30), (31, 30), (10_000, 30)],
)
async def test_a_429_closes_the_gate_for_as_long_as_the_service_asks_from_one_second_to_thirty(gate, asked, expected):
    gate.slow_down(asked)
    assert await admitted_after(gate) == expected


@pytest.mark.parametrize(("first", "later", "expected"), [(20, 1, 20), (20, None, 20), (2, 20, 21)])
async def test_a_later_429_never_shortens_a_pause_and_may_lengthen_it(gate, first, later, expected):
    began = now()
    gate.slow_down(first)
    await asyncio.sleep(1)
    gate.slow_down(later)
    await admitted_after(gate)
    assert now() - began == pytest.approx(expected, abs=1e-4)


async def test_a_429_during_a_pause_does_not_halve_again_and_one_at_its_end_does(gate):
    gate.slow_down(2)
    await asyncio.sleep(1.9)
    gate.slow_down(0.1)
    assert gate.allowed == 4
    await asyncio.sleep(1)
    gate.slow_down(1)
    assert gate.allowed == 2


async def test_after_a_pause_the_gate_opens_without_another_event(gate):
    gate.slow_down(3)
    visitors = [asyncio.create_task(gate.enter()) for _ in range(8)]
    await asyncio.sleep(2.9)
    assert (gate.in_flight, admitted(visitors)) == (0, 0)
    await asyncio.sleep(0.2)
    assert (gate.in_flight, admitted(visitors)) == (4, 4)
    for task in visitors:
        task.cancel()


async def test_there_is_no_room_during_a_pause_and_half_at_the_moment_it_ends():
    clock = [100.0]
    gate = Gate(most=8, clock=lambda: clock[0])
    gate.slow_down(5)
    clock[0] = 104.9
    assert gate.room == 0
    clock[0] = 105.0
    assert gate.room == 4


async def test_a_delivery_that_is_cancelled_at_the_moment_of_its_admission_gives_its_place_back():
    gate = Gate(most=1, clock=now)
    await gate.enter()
    second = asyncio.create_task(gate.enter())
    third = asyncio.create_task(gate.enter())
    await asyncio.sleep(0)
    gate.leave()  # admits the second, which has not run yet
    second.cancel()
    await asyncio.sleep(0.01)
    assert second.cancelled()
    assert third.done()
    assert gate.in_flight == 1


async def test_a_delivery_that_is_cancelled_before_its_admission_changes_no_count():
    gate = Gate(most=1, clock=now)
    await gate.enter()
    second = asyncio.create_task(gate.enter())
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.sleep(0)
    assert (gate.in_flight, gate.room) == (1, 0)
    gate.leave()
    assert (gate.in_flight, gate.room) == (0, 1)


async def test_a_later_delivery_is_not_admitted_before_earlier_ones(gate):
    gate.close()
    visitors = [asyncio.create_task(gate.enter()) for _ in range(8)]
    await asyncio.sleep(0)
    gate._closed = False  # open, but none has been admitted yet
    late = asyncio.create_task(gate.enter())
    await asyncio.sleep(0.01)
    assert all(task.done() for task in visitors)
    assert not late.done()
    late.cancel()


async def test_each_delivery_that_waits_reduces_the_room(gate):
    await gate.enter()
    gate.close()
    visitors = [asyncio.create_task(gate.enter()) for _ in range(2)]
    await asyncio.sleep(0)
    gate._closed = False
    assert (admitted(visitors), gate.room) == (0, 5)
    gate.open()
    await asyncio.sleep(0)
    assert (admitted(visitors), gate.room) == (2, 5)
    await asyncio.gather(*visitors)


def test_the_room_is_never_negative():
    gate = Gate(most=8, clock=lambda: 0.0)
    gate.in_flight, gate.allowed = 8, 1.5
    assert gate.room == 0


async def test_each_delivery_that_ends_allows_a_share_of_one_more_up_to_the_most():
    gate = Gate(most=4, clock=now)
    gate.allowed, gate.in_flight = 2.0, 4
    gate.leave()
    assert (gate.allowed, gate.in_flight) == (2.5, 3)
    gate.leave()
    assert gate.allowed == 2.9
    gate.allowed = 3.9
    gate.leave()
    assert gate.allowed == 4
    gate.allowed = 1.0
    gate.leave()
    assert gate.allowed == 2


async def test_no_number_of_429s_allows_less_than_one():
    gate = Gate(most=1, clock=now)
    gate.slow_down(1)
    assert gate.allowed == 1


async def test_what_is_allowed_is_rounded_down_but_one_is_always_admitted():
    gate = Gate(most=8, clock=now)
    gate.allowed = 2.9
    await asyncio.gather(gate.enter(), gate.enter())
    third = asyncio.create_task(gate.enter())
    await asyncio.sleep(0.01)
    assert not third.done()
    third.cancel()
    single = Gate(most=8, clock=now)
    single.allowed = 0.5
    await single.enter()
    assert single.in_flight == 1
