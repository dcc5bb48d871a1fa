"""The cost of a table full of finished entries: the same statements on an empty and on a full queue, in turn."""

from __future__ import annotations

import time
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

from rowqueue import credentials
from rowqueue.lifecycle import RetryPolicy, Succeeded, settlement_for
from rowqueue.poller.queue import PollerQueue
from rowqueue.processor.queue import ClaimRequest, ProcessorStore
from rowqueue.processor.settling import Delivery, attempts_of
from rowqueue.settings import SnowflakeSettings
from rowqueue.warehouse import SnowflakeWarehouse
from rowqueue_local.bench.figures import Promise
from rowqueue_local.bench.work import payload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rowqueue_local.bench.ground import Ground

_ROUNDS = 15
_BLOCK = 100
_MOST = 1.5
_PROMISED = ("pulse", "claim")


@dataclass(slots=True)
class Times:
    """Durations of the statements of one duty.

    Attributes:
        empty_s: on a queue without finished entries, seconds each.
        full_s: on the full queue, seconds each.
    """

    empty_s: list[float] = field(default_factory=list)
    full_s: list[float] = field(default_factory=list)

    def as_json(self, duty: str, finished: int) -> dict[str, Any]:
        """The medians."""
        empty, full = median(self.empty_s), median(self.full_s)
        return {
            "duty": duty,
            "table_rows": finished,
            "empty_ms": round(empty * 1000, 2),
            "full_ms": round(full * 1000, 2),
            "ratio": round(full / empty, 3),
        }


def measure(ground: Ground, *, finished: int, watch: Callable[[str], None]) -> list[dict[str, Any]]:
    """Measure each duty on both queues, in turn.

    Args:
        ground: the stand-ins.
        finished: number of finished entries in the full queue.
        watch: called with a line about the progress.
    """
    times: dict[str, Times] = {}
    with ExitStack() as cleanup:
        watch(f"Inserting {finished} finished entries ...")
        full = cleanup.enter_context(_stores(ground, finished=finished))
        empty = cleanup.enter_context(_stores(ground, finished=0))
        watch(f"Running each statement {_ROUNDS} times on both ...")
        for number in range(-1, _ROUNDS):  # the first round warms up
            for stores, of in ((empty, "empty_s"), (full, "full_s")):
                for duty, seconds in _round(*stores, token=f"round-{number}"):
                    if number >= 0:
                        getattr(times.setdefault(duty, Times()), of).append(seconds)
    return [taken.as_json(duty, finished) for duty, taken in times.items()]


def promises(rows: list[dict[str, Any]]) -> list[Promise]:
    """The promises about these figures."""
    return [
        Promise(
            text=f"{row['duty']} with {row['table_rows']} finished entries: at most {_MOST} times the empty table's",
            got=row["ratio"],
            kept=row["ratio"] <= _MOST,
        )
        for row in rows
        if row["duty"] in _PROMISED
    ]


@contextmanager
def _stores(ground: Ground, *, finished: int) -> Iterator[tuple[PollerQueue, ProcessorStore]]:
    with ground.queue(entries=(_ROUNDS + 1) * _BLOCK, data=payload(0), finished=finished) as environ:
        settings = SnowflakeSettings.from_env(environ)
        login = credentials.login(settings, environment="bench")
        with closing(SnowflakeWarehouse(settings, login, query_tag="bench")) as warehouse:
            yield (
                PollerQueue(warehouse, queue=settings.table, max_retries=3),
                ProcessorStore(warehouse, queue=settings.table, processor_id="bench", max_retries=3),
            )


def _round(poller: PollerQueue, store: ProcessorStore, *, token: str) -> Iterator[tuple[str, float]]:
    """Every duty once, with its duration in seconds."""
    yield "pulse", _seconds(poller.pulse)
    yield "count_ready", _seconds(store.count_ready)
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


def _seconds(duty: Callable[[], object]) -> float:
    began = time.perf_counter()
    duty()
    return time.perf_counter() - began
