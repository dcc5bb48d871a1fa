"""The cases of the benchmark."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from rowqueue.settings import LARGEST_BLOCK
from rowqueue_local.snowflake.weather import Weather

System = Literal["ours", "limit", "sketch", "watched"]
Sky = Literal["none", "real"]

WEATHERS: dict[Sky, Weather] = {"none": Weather(), "real": Weather(dml_ms=400, select_ms=100)}
"""Milliseconds added by the stand-in. ``real`` is a guess at a small warehouse, not a measurement."""

CONCURRENCY = 100
FIRST_BLOCK = 8
FLEET = 10
_FLEET_ENTRIES = 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One thing to measure.

    Attributes:
        weather: how slow Snowflake is. The limit uses no Snowflake; there it names the cases that it is compared with.
        processes: how many run at once.
        service_ms: time that the partner takes to answer.
        entries: how many are delivered.
        block: size of the first block that a processor claims.
        largest_block: largest size of a block.
        slow: whether it is repeated less often because it takes long.
    """

    system: System
    weather: Sky = "none"
    processes: int = 1
    service_ms: int = 50
    entries: int = 5000
    block: int = FIRST_BLOCK
    largest_block: int = LARGEST_BLOCK
    slow: bool = False

    def __str__(self) -> str:
        fleet = "1 process" if self.processes == 1 else f"{self.processes} processes"
        return f"{self.system}, weather {self.weather}, {fleet}, service {self.service_ms} ms, {self.entries} entries"


def _side_by_side(*, ours: int, sketch: int, weather: Sky = "none", service_ms: int = 50) -> tuple[Case, ...]:
    """The limit, ours and the sketch, one process each. The sketch gets few entries because it is slow."""
    slow = weather == "real"
    common = Case(system="limit", weather=weather, service_ms=service_ms, entries=ours, slow=slow)
    return (common, replace(common, system="ours"), replace(common, system="sketch", entries=sketch))


def _fleet(*, weather: Sky, service_ms: int, one: int) -> tuple[Case, ...]:
    """Ten processors, each claiming a tenth of the entries at once, and what they are compared with."""
    share = _FLEET_ENTRIES // FLEET
    limit = Case(system="limit", weather=weather, service_ms=service_ms, entries=one, slow=weather == "real")
    ours = replace(limit, system="ours")
    ten = replace(ours, processes=FLEET, entries=_FLEET_ENTRIES, block=share, largest_block=share, slow=True)
    return (limit, ours, ten)


GROUPS: dict[str, tuple[Case, ...]] = {
    "one-processor": _side_by_side(ours=5000, sketch=200),
    "no-service-time": _side_by_side(ours=5000, sketch=200, service_ms=0),
    "weather": _side_by_side(ours=20_000, sketch=40, weather="real"),
    "fleet": _fleet(weather="real", service_ms=50, one=20_000),
    "weather-no-service-time": _side_by_side(ours=20_000, sketch=40, weather="real", service_ms=0),
    "fleet-no-service-time": _fleet(weather="real", service_ms=0, one=20_000),
    "fleet-fair": (*_fleet(weather="none", service_ms=50, one=5000), *_fleet(weather="none", service_ms=0, one=5000)),
}

_SMOKE = (
    Case(system="limit", entries=300),
    Case(system="sketch", entries=16),
    Case(system="ours", entries=300),
    Case(system="ours", weather="real", processes=2, entries=200, block=100),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """Which cases are run, and how often.

    Attributes:
        cases: in this order, repeatedly.
        slow_repetitions: repetitions of slow cases.
        judged: whether the cases are large enough to check the promises.
    """

    cases: tuple[Case, ...]
    repetitions: int
    slow_repetitions: int
    judged: bool = True

    def plays(self) -> list[tuple[int, Case]]:
        """Repetition and case, interleaved, so that a temporary load on the machine affects all cases."""
        return [
            (repetition, case)
            for repetition in range(self.repetitions)
            for case in self.cases
            if repetition < (self.slow_repetitions if case.slow else self.repetitions)
        ]


def form(*, groups: tuple[str, ...] = (), quick: bool = False, smoke: bool = False, repetitions: int = 0) -> Form:
    """The form for the command's options.

    Args:
        groups: only these; without any, all groups, or with ``quick`` the promised ones.
        quick: takes a few minutes instead of a quarter of an hour.
        smoke: takes seconds and is too small to check the promises.
        repetitions: of each case; 0 for the default.
    """
    if smoke:
        return Form(cases=_SMOKE, repetitions=repetitions or 1, slow_repetitions=repetitions or 1, judged=False)
    names = groups or (tuple(GROUPS)[:4] if quick else tuple(GROUPS))
    cases = tuple(dict.fromkeys(case for name in names for case in GROUPS[name]))
    often, seldom = (7, 1) if quick else (7, 3)
    return Form(cases=cases, repetitions=repetitions or often, slow_repetitions=repetitions or seldom)
