"""The cost of full tables: the same statements on a queue with few rows and on a full one, in turn."""

from __future__ import annotations

import time
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

from rowqueue import credentials
from rowqueue.lifecycle import RetryPolicy, Succeeded, settlement_for
from rowqueue.poller.queue import PollerQueue
from rowqueue.poller.records import Death
from rowqueue.processor.attempts import Delivery, attempts_of
from rowqueue.processor.queue import ClaimRequest
from rowqueue.processor.store import ProcessorStore
from rowqueue.settings import SnowflakeSettings
from rowqueue.warehouse import SnowflakeWarehouse
from rowqueue_local.bench.cases import WEATHERS
from rowqueue_local.bench.figures import Promise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rowqueue_local.bench.cases import Sky
    from rowqueue_local.bench.ground import Ground

_ROUNDS = 15
_WEATHER_ROUNDS = 5
_BLOCK = 100
_MOST = 1.5
_WORKER = "bench"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """What the full queue has in its tables. The other one has a block of ready entries.

    Attributes:
        finished: entries that have ended, each with an attempt.
        pending: further entries that are ready.
        characters: length of the data of each entry, in both queues.
        attempts: attempts of entries that are no longer in the table.
    """

    finished: int = 0
    pending: int = 0
    characters: int = 1000
    attempts: int = 0

    def __str__(self) -> str:
        if self.attempts:
            return f"{self.attempts} attempts"
        counts = ((self.finished, "finished entries"), (self.pending, "pending entries"))
        return f"{' and '.join(f'{count} {what}' for count, what in counts if count)} of {self.characters} characters"

    @property
    def promised(self) -> tuple[tuple[str, str], ...]:
        """Duties that must not take much longer than on the other queue, each with the name of its ratio."""
        if self.attempts:
            return (("settle", "raw_ratio"), ("rescue", "raw_ratio"))
        weather = [(duty, "ratio") for duty in ("pulse", "count_ready", "claim", "settle")]
        raw = [("pulse", "raw_ratio"), ("claim", "raw_ratio")] if self.finished else []
        return (*weather, *raw)


@dataclass(slots=True)
class Times:
    """Durations of the statements of one duty, seconds each.

    Attributes:
        weather: by queue, *empty* or *full*, with the time that the stand-in adds.
        raw: by queue, without it.
    """

    weather: dict[str, list[float]] = field(default_factory=lambda: {"empty": [], "full": []})
    raw: dict[str, list[float]] = field(default_factory=lambda: {"empty": [], "full": []})

    def as_json(self, duty: str, fill: Fill) -> dict[str, Any]:
        """The medians."""
        figures: dict[str, Any] = {
            "duty": duty,
            "table_rows": fill.finished + fill.pending or fill.attempts,
            "characters": fill.characters,
        }
        for prefix, sides in (("", self.weather), ("raw_", self.raw)):
            empty, full = median(sides["empty"]), median(sides["full"])
            figures |= {
                f"{prefix}empty_ms": round(empty * 1000, 2),
                f"{prefix}full_ms": round(full * 1000, 2),
                f"{prefix}ratio": round(full / empty, 3),
            }
        return figures


def measure(ground: Ground, fill: Fill, *, repetitions: int, watch: Callable[[str], None]) -> list[dict[str, Any]]:
    """Measure each duty on both queues, in turn, under weather and without it.

    Args:
        ground: the stand-ins.
        fill: what the full queue has more than the other.
        repetitions: rounds under each weather; 0 for the default.
        watch: called with a line about the progress.
    """
    times: dict[str, Times] = {}
    with ExitStack() as cleanup:
        watch(f"Inserting {fill} ...")
        sides = {
            "full": cleanup.enter_context(_side(ground, fill)),
            "empty": cleanup.enter_context(_side(ground, Fill(characters=fill.characters))),
        }
        watch("Running each statement on both, in turn ...")
        plays: list[tuple[Sky, int]] = [("none", -1)]  # warms up, and is not counted
        plays += [("real", number) for number in range(repetitions or _WEATHER_ROUNDS)]
        plays += [("none", number) for number in range(repetitions or _ROUNDS)]
        for sky, number in plays:
            for side in sides.values():
                _top_up(ground, side)
            with ground.weather(WEATHERS[sky]):
                for name, side in sides.items():
                    for duty, seconds in _round(side.poller, side.store, token=f"{sky}-{number}"):
                        if number >= 0:
                            taken = times.setdefault(duty, Times())
                            (taken.weather if sky == "real" else taken.raw)[name].append(seconds)
    return [taken.as_json(duty, fill) for duty, taken in times.items()]


def promises(rows: list[dict[str, Any]], fill: Fill) -> list[Promise]:
    """The promises about these figures."""
    figures = {(row["duty"], name): row[name] for row in rows for name in ("ratio", "raw_ratio")}
    return [
        Promise(
            text=f"{duty}{'' if name == 'ratio' else ', raw'} with {fill}: at most {_MOST} times the empty table's",
            got=figures[duty, name],
            kept=figures[duty, name] <= _MOST,
        )
        for duty, name in fill.promised
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Side:
    """One of the two queues."""

    schema: str
    characters: int
    poller: PollerQueue
    store: ProcessorStore


@contextmanager
def _side(ground: Ground, fill: Fill) -> Iterator[_Side]:
    with ground.queue() as environ:
        ground.fill(finished=fill.finished, pending=fill.pending, characters=fill.characters, attempts=fill.attempts)
        settings = SnowflakeSettings.from_env(environ)
        login = credentials.login(settings, environment="bench")
        with closing(SnowflakeWarehouse(settings, login, query_tag="bench")) as warehouse:
            yield _Side(
                schema=settings.schema,
                characters=fill.characters,
                poller=PollerQueue(warehouse, queue=settings.table, max_retries=3),
                store=ProcessorStore(warehouse, queue=settings.table, processor_id=_WORKER, max_retries=3),
            )


def _top_up(ground: Ground, side: _Side) -> None:
    """Insert the entries that a round takes."""
    ground.sql(f"USE SCHEMA {side.schema}")
    ground.fill(pending=_BLOCK, characters=side.characters)


def _round(poller: PollerQueue, store: ProcessorStore, *, token: str) -> Iterator[tuple[str, float]]:
    """Every duty once, with its duration in seconds."""
    yield "pulse", _seconds(poller.pulse)
    yield "count_ready", _seconds(store.count_ready)
    store.claim(ClaimRequest(token=f"{token}-dies", entries=_BLOCK, characters=10**9))
    deaths = [
        Death(processor_id=_WORKER, reason="the task has stopped", claimed_since=claimant.earliest_claimed_at)
        for claimant in poller.claimants()
    ]
    yield "rescue", _seconds(lambda: _rescue(poller, deaths))
    began = time.perf_counter()
    entries = store.claim(ClaimRequest(token=token, entries=_BLOCK, characters=10**9))
    yield "claim", time.perf_counter() - began
    delivered = [
        Delivery(entry=entry, outcome=Succeeded(response_status=200, result="{}"), began=1.0, ended=2.0)
        for entry in entries
    ]
    settlements = [settlement_for(d.entry, d.outcome, RetryPolicy(), random=lambda: 0.5) for d in delivered]
    attempts = attempts_of(delivered, settlements, now=3.0)
    yield "settle", _seconds(lambda: store.settle(settlements, attempts))


def _rescue(poller: PollerQueue, deaths: Sequence[Death]) -> None:
    poller.record_deaths(deaths)
    poller.release_dead(deaths)


def _seconds(duty: Callable[[], object]) -> float:
    began = time.perf_counter()
    duty()
    return time.perf_counter() - began
