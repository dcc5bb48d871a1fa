"""How many deliveries the gate lets in, and how early the next block is claimed."""

from __future__ import annotations

import asyncio

import pytest

from rowqueue.processor.gate import LONGEST_PAUSE_S, Gate
from rowqueue.processor.pace import Pace


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


async def let_in(gate, count):
    """How many of so many get in within a moment."""
    waiting = [asyncio.create_task(gate.enter()) for _ in range(count)]
    await asyncio.sleep(0.01)
    got_in = sum(task.done() for task in waiting)
    for task in waiting:
        task.cancel()
    return got_in


async def test_no_more_get_in_than_are_allowed():
    assert await let_in(Gate(most=3, clock=Clock()), 10) == 3


async def test_one_that_leaves_makes_room_for_one():
    gate = Gate(most=2, clock=Clock())
    assert await let_in(gate, 2) == 2
    gate.leave()
    assert await let_in(gate, 2) == 1


async def test_a_dismissed_gate_lets_everybody_in_whatever_comes_after():
    gate = Gate(most=2, clock=Clock())
    gate.slow_down(30)
    waiting = [asyncio.create_task(gate.enter()) for _ in range(5)]
    await asyncio.sleep(0)
    assert gate.waiting == 5
    gate.dismiss()
    gate.close()
    await asyncio.sleep(0)
    assert all(task.done() for task in waiting)
    assert gate.waiting == 0


async def test_who_waits_longest_gets_in_first():
    gate, order = Gate(most=1, clock=Clock()), []

    async def visit(name):
        for _ in range(3):
            await gate.enter()
            order.append(name)
            await asyncio.sleep(0)
            gate.leave()

    await asyncio.gather(visit("a"), visit("b"), visit("c"))
    assert order == ["a", "b", "c"] * 3


async def test_one_that_is_cancelled_while_it_waits_takes_no_place():
    gate = Gate(most=1, clock=Clock())
    await gate.enter()
    impatient, patient = asyncio.create_task(gate.enter()), asyncio.create_task(gate.enter())
    await asyncio.sleep(0)
    impatient.cancel()
    gate.leave()
    await asyncio.sleep(0.01)
    assert patient.done()
    assert gate.in_flight == 1


async def test_a_429_halves_what_is_allowed_and_shuts_the_gate_for_as_long_as_asked():
    clock = Clock()
    gate = Gate(most=8, clock=clock)
    gate.slow_down(5)
    assert await let_in(gate, 8) == 0
    clock.now += 5
    assert await let_in(gate, 8) == 4


async def test_many_429s_at_the_same_moment_halve_it_once():
    clock = Clock()
    gate = Gate(most=8, clock=clock)
    for _ in range(8):
        gate.slow_down(1)
    assert gate.allowed == 4


async def test_no_service_shuts_the_gate_for_longer_than_the_longest_pause():
    clock = Clock()
    gate = Gate(most=8, clock=clock)
    gate.slow_down(10_000)
    clock.now += LONGEST_PAUSE_S
    assert await let_in(gate, 8) == 4


async def test_what_is_allowed_grows_back_one_at_a_time_and_never_falls_below_one():
    clock = Clock()
    gate = Gate(most=4, clock=clock)
    for _ in range(10):
        gate.slow_down(1)
        clock.now += 1
    assert await let_in(gate, 4) == 1
    for _ in range(30):
        gate.leave()
    assert gate.allowed == pytest.approx(4)


async def test_a_closed_gate_lets_nobody_in_until_it_is_opened():
    gate = Gate(most=4, clock=Clock())
    gate.close()
    assert await let_in(gate, 4) == 0
    gate.open()
    assert await let_in(gate, 4) == 4


async def test_there_is_room_for_what_is_allowed_and_neither_in_nor_waiting():
    clock = Clock()
    gate = Gate(most=10, clock=clock)
    assert gate.room == 10
    assert await let_in(gate, 4) == 4
    assert gate.room == 6
    gate.slow_down(20)
    assert gate.room == 0, "nobody is let in for 20 s"
    clock.now += 20
    assert gate.room == 1, "half as many are allowed, and four are in"
    gate.close()
    assert gate.room == 0


def pace_of(*, most, deliveries_s, claims_s, in_flight=None):
    pace = Pace(gate=Gate(most=most, clock=Clock()))
    pace.gate.in_flight = most if in_flight is None else in_flight
    for seconds in deliveries_s:
        pace.delivered(seconds)
    for seconds in claims_s:
        pace.claimed(seconds)
    return pace


@pytest.mark.parametrize(("in_flight", "expected"), [(100, 0), (92, 8), (0, 100)])
def test_before_anything_was_delivered_no_more_is_claimed_ahead_than_can_start_at_once(in_flight, expected):
    pace = pace_of(most=100, deliveries_s=[], claims_s=[0.5], in_flight=in_flight)
    assert pace.ahead() == expected
    assert pace.per_second() is None


def test_what_can_start_at_once_is_claimed_ahead_too():
    busy = pace_of(most=100, deliveries_s=[1.0] * 10, claims_s=[0.5] * 20)
    idle = pace_of(most=100, deliveries_s=[1.0] * 10, claims_s=[0.5] * 20, in_flight=70)
    assert idle.ahead() == busy.ahead() + 30


@pytest.mark.parametrize(
    ("most", "delivery_s", "claim_s", "expected"), [(100, 1, 0.5, 100), (100, 1, 0.01, 20), (4, 2, 0.5, 2)]
)
def test_a_block_is_claimed_ahead_by_what_is_delivered_while_two_claims_are_made(most, delivery_s, claim_s, expected):
    pace = pace_of(most=most, deliveries_s=[delivery_s] * 10, claims_s=[claim_s] * 20)
    assert pace.ahead() == pytest.approx(expected, abs=1)


def test_the_first_deliveries_which_had_to_connect_are_forgotten():
    pace = pace_of(most=100, deliveries_s=[0.4] * 100 + [0.01] * 160, claims_s=[])
    assert pace.per_second() == pytest.approx(100 / 0.01, rel=0.3)


def test_a_service_that_asks_for_less_is_delivered_less():
    pace = pace_of(most=8, deliveries_s=[0.5], claims_s=[])
    assert pace.per_second() == 16
    pace.gate.allowed = 4
    assert pace.per_second() == 8


def test_deliveries_that_take_no_time_give_no_endless_rate():
    assert pace_of(most=1, deliveries_s=[0.0], claims_s=[]).per_second() < 1e6
