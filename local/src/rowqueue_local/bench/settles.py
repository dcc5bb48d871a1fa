"""How many entries are settled per second, by the length of their answers: joined with the attempts, and as before.

Every delivery has ended already, so only the settles take time. *Bound* is the form before: the attempts without their
answers, and then an UPDATE with the outcomes as bound values. It remains in the product as a last resort.
"""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

from rowqueue import credentials
from rowqueue.lifecycle import RetryPolicy, Succeeded, settlement_for
from rowqueue.processor.attempts import Delivery, attempts_of
from rowqueue.processor.parts import MAX_STATEMENT_BYTES
from rowqueue.processor.queue import ClaimRequest
from rowqueue.processor.settling import Unsettled
from rowqueue.processor.store import ProcessorStore
from rowqueue.settings import SnowflakeSettings
from rowqueue.warehouse import SnowflakeWarehouse
from rowqueue_local.bench.cases import FLEET, WEATHERS
from rowqueue_local.bench.figures import Promise
from rowqueue_local.bench.ground import BenchError
from rowqueue_local.bench.work import payload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rowqueue.lifecycle import Entry, Settlement
    from rowqueue.sql import Attempt
    from rowqueue_local.bench.ground import Ground

SettleForm = Literal["bound", "joined"]

_WORKERS = FLEET
_LARGEST_CLAIM = 10_000
_ROW_BYTES = 250
"""An outcome in a statement without its answer, about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Outcomes to settle.

    Attributes:
        characters: of each answer.
        entries: in all.
        least_ratio: the promise: entries/s, joined compared with bound.
        fewer_updates: the promise: UPDATEs, bound compared with joined. It does not depend on the machine.
    """

    characters: int
    entries: int
    least_ratio: float
    fewer_updates: float


LOADS = (
    Load(characters=20, entries=40_000, least_ratio=0.9, fewer_updates=1),
    Load(characters=1_000, entries=40_000, least_ratio=1.5, fewer_updates=3),
    Load(characters=16_000, entries=6_000, least_ratio=2.5, fewer_updates=8),
)


class BoundStore(ProcessorStore):
    """Settles in the form before: outcomes are bound values of the UPDATE, so one is needed for each 900 kB."""

    def settle(self, settlements: Sequence[Settlement], attempts: Sequence[Attempt]) -> frozenset[int]:
        """See :meth:`rowqueue.processor.queue.Queue.settle`."""
        made = {attempt.key: attempt._replace(result=None) for attempt in attempts}
        lost: frozenset[int] = frozenset()
        for part in _parts(settlements):
            keys = ((one.entry_id, one.claim_token, one.idempotency_key) for one in part)
            super().settle([], [made[key] for key in keys if key in made])
            lost |= super().settle(part, [])
        return lost


def measure(ground: Ground, *, shrink: int, repetitions: int, watch: Callable[[str], None]) -> list[dict[str, Any]]:
    """Settle each load in both forms, in turn.

    Args:
        ground: the stand-ins.
        shrink: divides the number of entries.
        repetitions: of each load.
        watch: called with a line about each run.
    """
    rows = []
    for load in LOADS:
        rates: dict[SettleForm, list[float]] = {"bound": [], "joined": []}
        statements: dict[SettleForm, int] = {}
        for _ in range(repetitions):
            for form, of in rates.items():
                per_second, statements[form] = _settled(ground, load, form, entries=load.entries // shrink)
                of.append(per_second)
                watch(f"answers of {load.characters} characters, {form}: {per_second:.4g} entries/s")
        rows.append(
            {
                "answer_characters": load.characters,
                "entries": load.entries // shrink,
                "workers": _WORKERS,
                "bound_per_second": round(median(rates["bound"]), 1),
                "joined_per_second": round(median(rates["joined"]), 1),
                "bound_updates": statements["bound"],
                "joined_updates": statements["joined"],
                "ratio": round(
                    median(joined / bound for bound, joined in zip(rates["bound"], rates["joined"], strict=True)), 2
                ),
            }
        )
    return rows


def promises(rows: list[dict[str, Any]]) -> list[Promise]:
    """The promises about these figures."""
    loads = {load.characters: load for load in LOADS}
    judged = []
    for row in rows:
        load, fewer = loads[row["answer_characters"]], row["bound_updates"] / row["joined_updates"]
        text = f"answers of {load.characters} characters: at least {load.least_ratio:g} times the entries/s"
        judged.append(Promise(text=text, got=row["ratio"], kept=row["ratio"] >= load.least_ratio))
        text = f"answers of {load.characters} characters: bound sends at least {load.fewer_updates:g} times the UPDATEs"
        judged.append(Promise(text=text, got=fewer, kept=fewer >= load.fewer_updates))
    return judged


def _settled(ground: Ground, load: Load, form: SettleForm, *, entries: int) -> tuple[float, int]:
    """Settle a load; returns entries per second and the number of UPDATEs."""
    with ground.queue(entries=entries, data=payload(0)) as environ, ExitStack() as cleanup:
        settings = SnowflakeSettings.from_env(environ)
        login = credentials.login(settings, environment="bench")
        workers = []
        for number in range(_WORKERS):
            warehouse = cleanup.enter_context(closing(SnowflakeWarehouse(settings, login, query_tag="bench")))
            kind = BoundStore if form == "bound" else ProcessorStore
            store = kind(warehouse, queue=settings.table, processor_id=f"bench-{number}", max_retries=3)
            claimed = _claimed(store, name=f"bench-{number}", most=entries // _WORKERS)
            workers.append((store, _unsettled(claimed, characters=load.characters)))
        ground.forget_statements()
        with ground.weather(WEATHERS["real"]), ThreadPoolExecutor(_WORKERS) as pool:
            began = time.monotonic()
            for _ in pool.map(lambda worker: _settle_all(*worker), workers):
                pass
            seconds = time.monotonic() - began
        counts = ground.counts()
        if counts != {"completed": entries}:
            raise BenchError(
                f"answers of {load.characters} characters, {form}: expected {entries} completed, got {counts}"
            )
        return entries / seconds, ground.statements()["update"]


def _claimed(store: ProcessorStore, *, name: str, most: int) -> list[Entry]:
    claimed: list[Entry] = []
    while len(claimed) < most:
        entries = min(most - len(claimed), _LARGEST_CLAIM)
        claimed += store.claim(ClaimRequest(token=f"{name}-{len(claimed)}", entries=entries, characters=10**9))
    return claimed


def _unsettled(entries: list[Entry], *, characters: int) -> Unsettled:
    unsettled = Unsettled()
    for entry in entries:
        outcome = Succeeded(response_status=200, result=_answer(entry.id, characters))
        unsettled.add(Delivery(entry=entry, outcome=outcome, began=1.0, ended=2.0))
    return unsettled


def _settle_all(store: ProcessorStore, unsettled: Unsettled) -> None:
    """Settle batch after batch, as the settling loop of a processor does."""
    while flush := unsettled.take():
        settlements = [settlement_for(d.entry, d.outcome, RetryPolicy(), random=random.random) for d in flush]
        store.settle(settlements, attempts_of(flush, settlements, now=3.0))


def _answer(number: int, characters: int) -> str:
    """An answer that does not compress well, the same in each run."""
    return random.Random(number).randbytes(characters // 2).hex()  # noqa: S311 -- no secret


def _parts(settlements: Sequence[Settlement]) -> Iterator[list[Settlement]]:
    part: list[Settlement] = []
    size = 0
    for settlement in settlements:
        grows_by = _ROW_BYTES + len(settlement.result or "")
        if part and size + grows_by > MAX_STATEMENT_BYTES:
            yield part
            part, size = [], 0
        part.append(settlement)
        size += grows_by
    if part:
        yield part
