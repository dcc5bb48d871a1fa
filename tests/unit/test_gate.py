"""How many deliveries the gate admits."""

from __future__ import annotations

import asyncio

import pytest

from rowqueue.processor.gate import LONGEST_PAUSE_S, Gate


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


async def admitted(gate, count):
    """How many of ``count`` deliveries the gate admits at once."""
    entering = [asyncio.create_task(gate.enter()) for _ in range(count)]
    await asyncio.sleep(0.01)
    entered = sum(task.done() for task in entering)
    for task in entering:
        task.cancel()
    return entered


async def test_no_more_deliveries_are_admitted_than_are_allowed():
    assert await admitted(Gate(most=3, clock=Clock()), 10) == 3


async def test_a_delivery_that_leaves_makes_room_for_one():
    gate = Gate(most=2, clock=Clock())
    assert await admitted(gate, 2) == 2
    gate.leave()
    assert await admitted(gate, 2) == 1


async def test_a_dismissed_gate_admits_every_delivery_even_when_it_is_closed_afterwards():
    gate = Gate(most=2, clock=Clock())
    gate.slow_down(30)
    entering = [asyncio.create_task(gate.enter()) for _ in range(5)]
    await asyncio.sleep(0)
    assert gate.not_admitted == 5
    gate.dismiss()
    gate.close()
    await asyncio.sleep(0)
    assert all(task.done() for task in entering)
    assert gate.not_admitted == 0


async def test_the_delivery_that_has_waited_longest_is_admitted_first():
    gate, order = Gate(most=1, clock=Clock()), []

    async def visit(name):
        for _ in range(3):
            await gate.enter()
            order.append(name)
            await asyncio.sleep(0)
            gate.leave()

    await asyncio.gather(visit("a"), visit("b"), visit("c"))
    assert order == ["a", "b", "c"] * 3


async def test_a_delivery_that_is_cancelled_while_it_waits_takes_no_place():
    gate = Gate(most=1, clock=Clock())
    await gate.enter()
    impatient, patient = asyncio.create_task(gate.enter()), asyncio.create_task(gate.enter())
    await asyncio.sleep(0)
    impatient.cancel()
    gate.leave()
    await asyncio.sleep(0.01)
    assert patient.done()
    assert gate.in_flight == 1


async def test_a_429_halves_what_is_allowed_and_closes_the_gate_for_as_long_as_the_service_asks():
    clock = Clock()
    gate = Gate(most=8, clock=clock)
    gate.slow_down(5)
    assert await admitted(gate, 8) == 0
    clock.now += 5
    assert await admitted(gate, 8) == 4


async def test_many_429s_at_the_same_moment_halve_it_once():
    clock = Clock()
    gate = Gate(most=8, clock=clock)
    for _ in range(8):
        gate.slow_down(1)
    assert gate.allowed == 4


async def test_no_service_closes_the_gate_for_longer_than_the_longest_pause():
    clock = Clock()
    gate = Gate(most=8, clock=clock)
    gate.slow_down(10_000)
    clock.now += LONGEST_PAUSE_S
    assert await admitted(gate, 8) == 4


async def test_what_is_allowed_grows_back_one_at_a_time_and_never_falls_below_one():
    clock = Clock()
    gate = Gate(most=4, clock=clock)
    for _ in range(10):
        gate.slow_down(1)
        clock.now += 1
    assert await admitted(gate, 4) == 1
    for _ in range(30):
        gate.leave()
    assert gate.allowed == pytest.approx(4)


async def test_a_closed_gate_admits_no_delivery_until_it_is_opened():
    gate = Gate(most=4, clock=Clock())
    gate.close()
    assert await admitted(gate, 4) == 0
    gate.open()
    assert await admitted(gate, 4) == 4


async def test_the_room_is_what_is_allowed_less_the_deliveries_in_flight_and_those_not_admitted():
    clock = Clock()
    gate = Gate(most=10, clock=clock)
    assert gate.room == 10
    assert await admitted(gate, 4) == 4
    assert gate.room == 6
    gate.slow_down(20)
    assert gate.room == 0, "no delivery is admitted for 20 s"
    clock.now += 20
    assert gate.room == 1, "half as many are allowed, and four are in"
    gate.close()
    assert gate.room == 0


def gate_after(*, most, deliveries_s):
    gate = Gate(most=most, clock=Clock())
    for seconds in deliveries_s:
        gate.answered(seconds)
    return gate


async def test_a_delivery_that_is_turned_away_has_never_been_in_flight():
    gate = Gate(most=1, clock=Clock())
    assert await gate.enter("first")
    ends = [asyncio.create_task(gate.enter(key)) for key in ("second", "third", "fourth")]
    await asyncio.sleep(0)
    assert gate.turn_away({"first", "second", "third"}) == 2
    ends[1].cancel()
    await asyncio.sleep(0)
    assert (await ends[0], gate.in_flight, gate.not_admitted) == (False, 1, 1)
    gate.leave()
    assert await ends[2]
    assert gate.in_flight == 1


def test_before_the_first_answer_it_is_unknown_how_many_entries_can_be_delivered():
    assert gate_after(most=100, deliveries_s=[]).per_second is None


def test_the_first_deliveries_which_had_to_connect_are_forgotten():
    gate = gate_after(most=100, deliveries_s=[0.4] * 100 + [0.01] * 160)
    assert gate.per_second == pytest.approx(100 / 0.01, rel=0.3)


def test_with_fewer_deliveries_at_once_fewer_entries_are_delivered():
    gate = gate_after(most=8, deliveries_s=[0.5])
    assert gate.per_second == 16
    gate.allowed = 4
    assert gate.per_second == 8


def test_deliveries_that_take_no_time_give_a_finite_rate():
    assert gate_after(most=1, deliveries_s=[0.0]).per_second < 1e6
