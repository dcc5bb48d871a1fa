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


def test_before_anything_was_delivered_nothing_is_claimed_ahead():
    assert Pace(clock=Clock()).ahead() == 0


@pytest.mark.parametrize(("per_second", "claim_s", "expected"), [(100, 0.5, 100), (100, 0.01, 20), (2, 0.5, 2)])
def test_a_block_is_claimed_ahead_by_what_is_delivered_while_two_claims_are_made(per_second, claim_s, expected):
    clock = Clock()
    pace = Pace(clock=clock)
    for _ in range(20):
        pace.claimed(claim_s)
    pace.began()
    for _ in range(500):
        clock.now += 1 / per_second
        pace.delivered()
    assert pace.ahead() == pytest.approx(expected, abs=2)


def test_entries_that_end_at_the_same_moment_give_no_absurd_rate():
    clock = Clock()
    pace = Pace(clock=clock)
    pace.began()
    clock.now += 0.3
    pace.delivered()
    pace.delivered()
    assert pace.ahead() <= 2
