"""A storm: many faults of many kinds at random times, while entries arrive. Then the damage is counted."""

from __future__ import annotations

import contextlib
import heapq
import json
import math
import random
import time
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

from rowqueue_local.drills import Drill, Verdict
from rowqueue_local.drills.stage import Stage, staged, wait_until
from rowqueue_local.drills.storm_aftermath import aftermath, keep
from rowqueue_local.drills.storm_faults import StormFaults, Watcher
from rowqueue_local.drills.storm_judge import damaged, judge, trails
from rowqueue_local.drills.storm_plan import plan
from rowqueue_local.snowflake.proxy import proxying
from rowqueue_local.stack import StackError

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from rowqueue_local.drills import Tell
    from rowqueue_local.drills.storm_judge import Aftermath, FinalRow, RecordedAttempt
    from rowqueue_local.drills.storm_plan import FaultKind, PlannedBatch, PlannedFault, StormPlan

MINUTES = 10.0
MAX_CONTAINERS = 5
MAX_RETRIES = 5
MAX_CRASHES = 2
STALE_AFTER_S = 1_800.0
_FAULTS_A_MINUTE = 10
_KINDS = 12
_TICK_S = 1.0
_SERVICE_TIMEOUT_S = 5.0
_ON_THE_WAY_S = 1.0
_STOP_TIMEOUT_S = 15
_POLLER = {
    "MAX_CONTAINERS": str(MAX_CONTAINERS),
    "MAX_RETRIES": str(MAX_RETRIES),
    "ENTRIES_PER_CONTAINER": "25",
    "BOOT_DEADLINE_SECONDS": "20",
    "TASK_DEADLINE_SECONDS": "60",
    "MAX_CRASHES": str(MAX_CRASHES),
    "STALE_THRESHOLD_MINUTES": f"{STALE_AFTER_S / 60:g}",
}
_PROCESSOR = {
    "MAX_RETRIES": str(MAX_RETRIES),
    "CONTAINER_TIMEOUT_SECONDS": "20",
    "SERVICE_TIMEOUT_SECONDS": f"{_SERVICE_TIMEOUT_S:g}",
    "MAX_CONCURRENT_DELIVERIES": "8",
    "RETRY_BACKOFF_SECONDS": "0.3",
    "RETRY_BACKOFF_CAP_SECONDS": "2",
    "HOLD_SECONDS": "2",
    "FLUSH_SECONDS": "0.3",
    "STOP_GRACE_SECONDS": "5",
}
_COMPRESSED = {
    "TICK_SECONDS": f"{_TICK_S:g} instead of 60",
    "BOOT_DEADLINE_SECONDS": "20 instead of 180",
    "TASK_DEADLINE_SECONDS": "60 instead of the sum of the other limits",
    "CONTAINER_TIMEOUT_SECONDS": "20 instead of 60",
    "HOLD_SECONDS": "2 instead of 300",
}
_EXAMPLES = 5
_AGAIN_AFTER_S = 0.3
_HOPELESS_AFTER_S = 5.0
_LINE_EVERY_S = 10.0
_FIRST_CLAIM_WITHIN_S = 60.0
_DRAINED_WITHIN_S = 240.0
_ENDED_WITHIN_S = 60.0

_INSERT = """
INSERT INTO PROCESSING_QUEUE (data, idempotency_key, priority, available_at)
SELECT e.value:data::VARCHAR, e.value:key::VARCHAR, e.value:priority::NUMBER(38, 0),
       DATEADD('millisecond', e.value:after_ms::NUMBER(38, 0), SYSDATE())
  FROM TABLE(FLATTEN(INPUT => PARSE_JSON(?))) AS e
"""


def _play(state: Path, tell: Tell, *, seed: int | None, minutes: float) -> Verdict:
    planned = plan(random.randrange(2**32) if seed is None else seed, minutes)  # noqa: S311 -- no secret
    tell(
        f"seed {planned.seed}: {planned.entries} entries in {minutes:g} minutes, {len(planned.faults)} planned faults "
        "(those that have an effect are counted)"
    )
    watcher = Watcher()
    with contextlib.ExitStack() as cleanup:
        proxies = []

        @contextlib.contextmanager
        def proxied(url: str) -> Iterator[str]:
            with proxying(url, observe=watcher.observe, ran=watcher.ran) as proxy:
                proxies.append(proxy)
                yield proxy.url

        stage = cleanup.enter_context(
            staged(
                state,
                tick_s=_TICK_S,
                stop_timeout_s=_STOP_TIMEOUT_S,
                poller=_POLLER,
                processor=_PROCESSOR,
                snowflake_proxy=proxied,
                counts_tasks=True,
            )
        )
        faults = StormFaults(stage, proxies[0], watcher)
        _Storm(stage, planned, faults, tell).run()
        _drain(stage, tell)
        after = aftermath(
            stage,
            planned,
            faults,
            late_after_s=_SERVICE_TIMEOUT_S - _ON_THE_WAY_S,
            stale_after_s=STALE_AFTER_S,
            max_containers=MAX_CONTAINERS,
            max_crashes=MAX_CRASHES,
            max_retries=MAX_RETRIES,
        )
        keep(stage, after, state / "logs")
    return verdict(planned, after, faults.counts)


def verdict(planned: StormPlan, after: Aftermath, counts: Counter[FaultKind]) -> Verdict:
    """Whether the promise was kept: nothing was damaged, and there were enough faults to show it.

    Args:
        planned: the storm.
        after: what it left behind.
        counts: faults with an effect, by kind.
    """
    damage = judge(after)
    faults = {kind.value: number for kind, number in sorted(counts.items()) if number}
    return Verdict(
        kept=damage.is_none and are_enough(faults, planned.minutes),
        figures={
            "seed": planned.seed,
            "minutes": planned.minutes,
            "entries": planned.entries,
            **asdict(damage),
            "faults": faults,
            "faults_total": counts.total(),
        },
        compressed=_COMPRESSED,
        table=examples(after),
    )


def examples(after: Aftermath) -> list[tuple[str, str, str]]:
    """Some of what was damaged, for people; empty if nothing was."""
    rows, trail = {row.key: row for row in after.rows}, trails(after.attempts)
    found = [
        (figure, name, _story(rows[name], trail[rows[name].id]) if name in rows else "")
        for figure, names in damaged(after).items()
        for name in names[:_EXAMPLES]
    ]
    return [("figure", "entry or task", "its row and its attempts"), *found] if found else []


def _story(row: FinalRow, trail: Sequence[RecordedAttempt]) -> str:
    attempts = ", ".join(f"{a.outcome} {a.response_status or ''} by {a.processor_id[-6:]}" for a in trail)
    return f"{row.status}, {row.retry_count} counted: {attempts}"


def are_enough(faults: dict[str, int], minutes: float) -> bool:
    """Whether a storm had ten faults a minute, and twelve kinds if it had that many faults."""
    wanted = math.ceil(_FAULTS_A_MINUTE * minutes)
    return sum(faults.values()) >= wanted and len(faults) >= min(_KINDS, wanted)


@dataclass(slots=True)
class _Storm:
    """Inserts the entries and causes the faults, each at its time.

    An action answers when it wants to be called again, in seconds since the storm began, or None.
    """

    stage: Stage
    planned: StormPlan
    faults: StormFaults
    tell: Tell
    _began: float = 0.0
    # Of two actions at the same time, the one that was added first comes first.
    _numbers: Iterator[int] = field(default_factory=count)
    _agenda: list[tuple[float, int, Callable[[], float | None]]] = field(default_factory=list)

    def run(self) -> None:
        """Run the plan. It begins when a task has claimed the first entries. At the end no fault is left."""
        first, *batches = self.planned.batches
        self._insert(first)
        if not wait_until(lambda: self.stage.counts().keys() != {"pending"}, seconds=_FIRST_CLAIM_WITHIN_S):
            raise StackError(f"no task has claimed: {self.stage.counts()}")
        self._began = time.monotonic()
        for batch in batches:
            self._at(batch.at_s, partial(self._insert, batch))
        for fault in self.planned.faults:
            self._at(fault.at_s, partial(self._begin, fault))
        for number in range(1, int(self.planned.minutes * 60 / _LINE_EVERY_S) + 1):
            self._at(number * _LINE_EVERY_S, self._look)
        while self._agenda:
            due_s, _, action = heapq.heappop(self._agenda)
            time.sleep(max(0.0, due_s - self._now()))
            if (again_s := action()) is not None:
                self._at(again_s, action)
        self.faults.finish()

    def _now(self) -> float:
        return time.monotonic() - self._began

    def _at(self, due_s: float, action: Callable[[], float | None]) -> None:
        heapq.heappush(self._agenda, (due_s, next(self._numbers), action))

    def _begin(self, fault: PlannedFault) -> float | None:
        if self.faults.begin(fault):
            self._at(self._now() + fault.lasts_s, partial(self._end, fault))
        elif self._now() < fault.at_s + _HOPELESS_AFTER_S:
            return self._now() + _AGAIN_AFTER_S
        return None

    def _end(self, fault: PlannedFault) -> float | None:
        return None if self.faults.end(fault) else self._now() + _AGAIN_AFTER_S

    def _insert(self, batch: PlannedBatch) -> None:
        rows = [
            {
                "data": json.dumps({"type": "storm", "partner": entry.behaviour}),
                "key": entry.key,
                "priority": entry.priority,
                "after_ms": round(entry.after_s * 1000),
            }
            for entry in batch.entries
        ]
        self.stage.sql(_INSERT, json.dumps(rows))

    def _look(self) -> None:
        self.stage.stack.check()
        self.tell(f"{self._now():4.0f} s: {self.faults.counts.total()} faults, {self.stage.counts()}")


def _drain(stage: Stage, tell: Tell) -> None:
    """Wait until every entry has ended and every task has stopped; what has not by then is judged as it is."""
    began = time.monotonic()
    tell(f"the storm is over, {stage.counts()}")
    wait_until(lambda: not {"pending", "processing"} & stage.counts().keys(), seconds=_DRAINED_WITHIN_S, every_s=0.5)
    wait_until(
        lambda: all(task["status"] == "STOPPED" for task in stage.stack.launches()["tasks"]),
        seconds=_ENDED_WITHIN_S,
        every_s=0.5,
    )
    tell(f"{time.monotonic() - began:.0f} s later: {stage.counts()}")


def drill(*, seed: int | None = None, minutes: float = MINUTES) -> Drill:
    """The drill.

    Args:
        seed: of its plan; by default a random one, which is printed.
        minutes: how long faults happen.
    """
    return Drill(
        name="storm",
        promise="Under random faults of every kind no entry is lost, no success is repeated or thrown away, no attempt "
        "is wrongly counted, and MAX_CONTAINERS is not exceeded.",
        play=partial(_play, seed=seed, minutes=minutes),
    )


DRILL = drill()
