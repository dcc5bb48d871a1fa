"""What the benchmark runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from rowqueue.settings import LARGEST_BLOCK
from rowqueue_local.snowflake.weather import Weather

System = Literal["ours", "limit", "sketch"]
Sky = Literal["none", "real"]

WEATHERS: dict[Sky, Weather] = {"none": Weather(), "real": Weather(dml_ms=400, select_ms=100)}
"""Milliseconds on top of what the stand-in takes. ``real`` is a guess at a small warehouse, measured on none."""

CONCURRENCY = 100
FIRST_BLOCK = 8
FLEET = 10
_FLEET_ENTRIES = 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One thing to measure.

    Attributes:
        system: what delivers.
        weather: how slow Snowflake is. The limit knows no Snowflake: there it says whose limit it is.
        processes: how many at once.
        service_ms: how long the partner takes to answer.
        entries: how many are delivered.
        block: the first block that a processor claims.
        largest_block: the largest.
        slow: takes so long that it is repeated less often.
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
    """The limit, ours and the sketch, one process each; the sketch gets few entries, for it is slow."""
    slow = weather == "real"
    common = Case(system="limit", weather=weather, service_ms=service_ms, entries=ours, slow=slow)
    return (common, replace(common, system="ours"), replace(common, system="sketch", entries=sketch))


def _fleet(*, weather: Sky, service_ms: int, one: int) -> tuple[Case, ...]:
    """Ten processors that claim blocks of a tenth of all from the start, and what they are compared with."""
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
    """How much of it is run.

    Attributes:
        cases: in this order, over and over.
        repetitions: of each case.
        slow_repetitions: of those that are slow.
        judged: whether the sizes are those that the promises speak of.
    """

    cases: tuple[Case, ...]
    repetitions: int
    slow_repetitions: int
    judged: bool = True

    def plays(self) -> list[tuple[int, Case]]:
        """Repetition and case, interleaved: what disturbs the machine for a while disturbs all of them."""
        return [
            (repetition, case)
            for repetition in range(self.repetitions)
            for case in self.cases
            if repetition < (self.slow_repetitions if case.slow else self.repetitions)
        ]


def form(*, groups: tuple[str, ...] = (), quick: bool = False, smoke: bool = False, repetitions: int = 0) -> Form:
    """What the command's options ask for.

    Args:
        groups: only these; all of them if there are none, or the promised ones when it is to be quick.
        quick: a few minutes instead of a quarter of an hour.
        smoke: seconds; enough to see that it works, and too small to judge by.
        repetitions: of each case; 0 for the form's own.
    """
    if smoke:
        return Form(cases=_SMOKE, repetitions=repetitions or 1, slow_repetitions=repetitions or 1, judged=False)
    names = groups or (tuple(GROUPS)[:4] if quick else tuple(GROUPS))
    cases = tuple(dict.fromkeys(case for name in names for case in GROUPS[name]))
    often, seldom = (7, 1) if quick else (7, 3)
    return Form(cases=cases, repetitions=repetitions or often, slow_repetitions=repetitions or seldom)
