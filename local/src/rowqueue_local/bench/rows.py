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
from rowqueue_local.bench.figures import Promise
from rowqueue_local.bench.work import payload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rowqueue_local.bench.ground import Ground

_ROUNDS = 15
_BLOCK = 100
_MOST = 1.5
_WORKER = "bench"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """What the full queue has in its tables, beside the entries that are ready.

    Attributes:
        finished: entries that have ended, each with an attempt.
        attempts: attempts of entries that are no longer in the table.
    """

    finished: int = 0
    attempts: int = 0

    def __str__(self) -> str:
        return f"{self.attempts} attempts" if self.attempts else f"{self.finished} finished entries"

    @property
    def promised(self) -> tuple[str, ...]:
        """The duties that must not take much longer than on the other queue."""
        return ("settle", "rescue") if self.attempts else ("pulse", "claim")


@dataclass(slots=True)
class Times:
    """Durations of the statements of one duty.

    Attributes:
        empty_s: on a queue without finished entries, seconds each.
        full_s: on the full queue, seconds each.
    """

    empty_s: list[float] = field(default_factory=list)
    full_s: list[float] = field(default_factory=list)

    def as_json(self, duty: str, fill: Fill) -> dict[str, Any]:
        """The medians."""
        empty, full = median(self.empty_s), median(self.full_s)
        return {
            "duty": duty,
            "table_rows": fill.finished or fill.attempts,
            "empty_ms": round(empty * 1000, 2),
            "full_ms": round(full * 1000, 2),
            "ratio": round(full / empty, 3),
        }


def measure(ground: Ground, fill: Fill, *, watch: Callable[[str], None]) -> list[dict[str, Any]]:
    """Measure each duty on both queues, in turn.

    Args:
        ground: the stand-ins.
        fill: what the full queue has more than the other.
        watch: called with a line about the progress.
    """
    times: dict[str, Times] = {}
    with ExitStack() as cleanup:
        watch(f"Inserting {fill} ...")
        full = cleanup.enter_context(_stores(ground, fill))
        empty = cleanup.enter_context(_stores(ground, Fill()))
        watch(f"Running each statement {_ROUNDS} times on both ...")
        for number in range(-1, _ROUNDS):  # the first round warms up
            for stores, of in ((empty, "empty_s"), (full, "full_s")):
                for duty, seconds in _round(*stores, token=f"round-{number}"):
                    if number >= 0:
                        getattr(times.setdefault(duty, Times()), of).append(seconds)
    return [taken.as_json(duty, fill) for duty, taken in times.items()]


def promises(rows: list[dict[str, Any]], fill: Fill) -> list[Promise]:
    """The promises about these figures."""
    return [
        Promise(
            text=f"{row['duty']} with {fill}: at most {_MOST} times the empty table's",
            got=row["ratio"],
            kept=row["ratio"] <= _MOST,
        )
        for row in rows
        if row["duty"] in fill.promised
    ]


@contextmanager
def _stores(ground: Ground, fill: Fill) -> Iterator[tuple[PollerQueue, ProcessorStore]]:
    ready = (_ROUNDS + 1) * _BLOCK
    with ground.queue(entries=ready, data=payload(0), finished=fill.finished, attempts=fill.attempts) as environ:
        settings = SnowflakeSettings.from_env(environ)
        login = credentials.login(settings, environment="bench")
        with closing(SnowflakeWarehouse(settings, login, query_tag="bench")) as warehouse:
            yield (
                PollerQueue(warehouse, queue=settings.table, max_retries=3),
                ProcessorStore(warehouse, queue=settings.table, processor_id=_WORKER, max_retries=3),
            )


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
