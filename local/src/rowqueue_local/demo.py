"""The demo: entries of different kinds on a fresh embedded stack, from INSERT to their end."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from rowqueue.lifecycle import Status
from rowqueue_local import deployment, stack
from rowqueue_local.stack import Options, Stack, StackError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

TICK_S = 1.0
MAX_CONTAINERS = 4
"""Suits a laptop: each task is a Python process, and its start takes about a second of CPU time."""
_LOOK_EVERY_S = 0.4
_INSERTED_AT_ONCE = 1000
_PATIENCE_S = 60.0
"""The demo fails when nothing has changed for this time."""

_FOR_PEOPLE = frozenset({"answers", "reasons", "in_flight", "most_tasks"})
"""Figures of the summary that are not part of the JSON."""

_INSERT = """
INSERT INTO PROCESSING_QUEUE (data, reference)
SELECT e.value:data::VARCHAR, e.value:reference::VARCHAR
  FROM TABLE(FLATTEN(INPUT => PARSE_JSON(?))) AS e
"""
_COUNTS = "SELECT status, COUNT(*) FROM PROCESSING_QUEUE GROUP BY status"
_ATTEMPTS = "SELECT COUNT(*) FROM PROCESSING_ATTEMPTS"
_REASONS = (
    "SELECT reason, SUM(entries) AS failed FROM FAILED_ENTRIES_ANALYSIS GROUP BY reason ORDER BY failed DESC, reason"
)

_TOO_MANY = {"status": 429, "retry_after": 1, "first": 1}
_ONCE_MORE = {"status": 500, "first": 1}
# How many of twenty entries ask for which behaviour of the partner.
_KINDS: tuple[tuple[int, dict[str, Any]], ...] = (
    (13, {"delay_ms": 30}),
    (2, {"delay_ms": 400}),
    (1, {"status": 400}),
    (1, _ONCE_MORE),
    (1, _TOO_MANY),
    (1, {"hang_up": True, "first": 1}),
    (1, {"status": 503}),
)
_TWENTY = tuple(behaviour for count, behaviour in _KINDS for _ in range(count))


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """The state of the queue and the tasks at one moment.

    Attributes:
        seconds: since the first INSERT.
        counts: entries by status.
        live: tasks that run or start.
        launched: tasks since the beginning.
    """

    seconds: float
    counts: dict[str, int]
    live: int
    launched: int

    def of(self, *statuses: Status) -> int:
        """Entries in these statuses."""
        return sum(self.counts.get(status.value, 0) for status in statuses)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The figures of a demo.

    Attributes:
        statements: the system's, by kind, without the demo's own.
        duplicate_deliveries: deliveries of an entry that the partner had already answered with 2xx.
        answers: how often the partner gave each answer.
        reasons: reasons of failed entries, with their number.
        in_flight: the largest number of concurrent deliveries.
        most_tasks: the largest number of tasks at one time.
    """

    entries: int
    completed: int
    failed: int
    pending: int
    processing: int
    attempts: int
    tasks_launched: int
    statements: dict[str, int]
    duplicate_deliveries: int
    seconds: float
    answers: dict[str, int] = field(default_factory=dict)
    reasons: list[tuple[str, int]] = field(default_factory=list)
    in_flight: int = 0
    most_tasks: int = 0

    @property
    def kept(self) -> bool:
        """Whether every entry ended, none was delivered again after a success, and there were never too many tasks."""
        ended = self.completed + self.failed == self.entries and self.pending == self.processing == 0
        return ended and self.duplicate_deliveries == 0 and self.most_tasks <= MAX_CONTAINERS

    def as_json(self) -> str:
        """The figures as one JSON object."""
        behaviour = asdict(self) | {"statements": sum(self.statements.values())}
        return json.dumps({name: value for name, value in behaviour.items() if name not in _FOR_PEOPLE})


def options(state: Path, entries: int) -> Options:
    """Options for a laptop: few tasks with larger blocks, a short tick, short back-off."""
    return Options(
        state=state,
        tick_s=TICK_S,
        poller={
            "TICK_SECONDS": str(TICK_S),
            "MAX_CONTAINERS": str(MAX_CONTAINERS),
            "ENTRIES_PER_CONTAINER": str(min(100, max(10, entries // MAX_CONTAINERS))),
        },
        processor={"RETRY_BACKOFF_SECONDS": "1", "MAX_CONCURRENT_DELIVERIES": "16"},
    )


def _behaviour(number: int) -> dict[str, Any]:
    """What entry ``number`` asks of the partner: one 429 in a hundred, because each slows its task for a second."""
    behaviour = _TWENTY[number % len(_TWENTY)]
    return _ONCE_MORE if behaviour is _TOO_MANY and number % 100 >= len(_TWENTY) else behaviour


def mixed(entries: int) -> list[dict[str, str]]:
    """Most of these entries succeed, some at the second attempt, some never, and one is not JSON."""
    made = [
        {
            "data": json.dumps({"type": "demo", "number": number, "partner": _behaviour(number)}),
            "reference": f"demo-{number}",
        }
        for number in range(entries)
    ]
    made[0]["data"] = "this is not JSON"
    return made


def play(state: Path, entries: int, *, watch: Callable[[Look], None]) -> Result:
    """Start a stack, insert entries, wait until none is pending or processing, and count.

    Args:
        state: the stack's folder.
        entries: how many, at least one.
        watch: called with each look.

    Raises:
        StackError: a service ended by itself, or nothing has changed for a minute.
    """
    with stack.running(options(state, entries)) as running:
        deployment.deploy(running)
        return _Demo(running, entries).play(watch)


class _Demo:
    """Counts its own statements, to subtract them from all."""

    def __init__(self, running: Stack, entries: int) -> None:
        self._running = running
        self._entries = entries
        self._ecs = deployment.client(running, "ecs")
        self._session = deployment.session(running)
        self._own: dict[str, int] = {}

    def play(self, watch: Callable[[Look], None]) -> Result:
        before = self._running.snowflake_stats()["by_kind"]
        began = time.monotonic()
        made = mixed(self._entries)
        for first in range(0, len(made), _INSERTED_AT_ONCE):
            self._sql("insert", _INSERT, json.dumps(made[first:][:_INSERTED_AT_ONCE]))
        last = None
        for last in self._looks(began):
            watch(last)
        assert last is not None
        after = self._running.snowflake_stats()["by_kind"]
        sent = {kind: count - before.get(kind, 0) - self._own.get(kind, 0) for kind, count in after.items()}
        return self._result(last, {kind: count for kind, count in sent.items() if count})

    def _looks(self, began: float) -> Iterator[Look]:
        """Look repeatedly until nothing is pending or processing."""
        previous, moved_at = None, began
        while True:
            self._running.check()
            counts = dict(self._sql("select", _COUNTS))
            live, stopped = (len(self._tasks(status)) for status in ("RUNNING", "STOPPED"))
            look = Look(seconds=time.monotonic() - began, counts=counts, live=live, launched=live + stopped)
            yield look
            if not look.of(Status.PENDING, Status.PROCESSING):
                return
            if (counts, live) != previous:
                previous, moved_at = (counts, live), time.monotonic()
            elif time.monotonic() - moved_at > _PATIENCE_S:
                raise StackError(f"nothing has changed for {_PATIENCE_S:g} s: {counts}, {live} tasks live")
            time.sleep(_LOOK_EVERY_S)

    def _result(self, last: Look, statements: dict[str, int]) -> Result:
        ((attempts,),) = self._sql("select", _ATTEMPTS)
        partner = self._running.partner_stats()
        return Result(
            entries=self._entries,
            completed=last.of(Status.COMPLETED),
            failed=last.of(Status.FAILED),
            pending=last.of(Status.PENDING),
            processing=last.of(Status.PROCESSING),
            attempts=attempts,
            tasks_launched=last.launched,
            statements=statements,
            duplicate_deliveries=partner["duplicates"],
            seconds=round(last.seconds, 1),
            answers=partner["answers"],
            reasons=[(reason, int(count)) for reason, count in self._sql("select", _REASONS)],
            in_flight=partner["most_in_flight"],
            most_tasks=self._running.most_tasks(),
        )

    def _sql(self, kind: str, text: str, *values: str) -> Sequence[tuple[Any, ...]]:
        self._own[kind] = self._own.get(kind, 0) + 1
        with self._session.cursor() as cursor:
            cursor.execute(text, values)
            return cursor.fetchall()

    def _tasks(self, desired_status: str) -> list[str]:
        pages = self._ecs.get_paginator("list_tasks").paginate(
            cluster=deployment.PROCESSOR, family=deployment.PROCESSOR, desiredStatus=desired_status
        )
        return [arn for page in pages for arn in page["taskArns"]]
