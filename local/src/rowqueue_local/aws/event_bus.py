"""The default event bus of every region: it delivers events to functions."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from typing import TYPE_CHECKING

from rowqueue_local.aws.events import deliveries, payload_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rowqueue_local.aws.events import Event, Rule, Target

_log = logging.getLogger(__name__)


class EventBus:
    """Delivers events to the targets of the matching rules, in its own thread.

    Args:
        rules: returns the present rules of a region's default bus.
        invoke: invokes a function asynchronously, given the ARN of the rule, the function's ARN and the event.
        waits: returns the delay of each copy of the next event, seconds.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        *,
        rules: Callable[[str], Iterable[Rule]],
        invoke: Callable[[str, str, str], None],
        waits: Callable[[], Iterable[float]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rules = rules
        self._invoke = invoke
        self._waits = waits
        self._clock = clock
        self._left_out: set[tuple[str, Target]] = set()
        self._pending: list[tuple[float, int, Event, Rule | None]] = []  # a heap, by when they are due
        self._numbers = itertools.count()  # keeps the order of events that are due at the same time
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="event-bus", daemon=True)

    def start(self) -> None:
        """Start to deliver."""
        self._thread.start()

    def put(self, event: Event, rule: Rule | None = None) -> None:
        """Add an event and return at once.

        Args:
            event: in EventBridge's envelope.
            rule: apply only this rule; by default all rules that the bus has when the event is due.
        """
        now = self._clock()
        with self._changed:
            for wait in self._waits():
                heapq.heappush(self._pending, (now + wait, next(self._numbers), event, rule))
            self._changed.notify()

    def close(self) -> None:
        """Stop to deliver."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while due := self._next():
            event, rule = due
            for by, target in deliveries(event, [rule] if rule else self._rules(event["region"])):
                if target.is_run_here:
                    self._invoke(by.arn, target.arn, payload_of(event, target))
                else:
                    self._name_left_out(by, target)

    def _next(self) -> tuple[Event, Rule | None] | None:
        """Wait for the next event that is due; None after ``close``."""
        with self._changed:
            while not self._closing:
                pause = self._pending[0][0] - self._clock() if self._pending else None
                if pause is not None and pause <= 0:
                    _, _, event, rule = heapq.heappop(self._pending)
                    return event, rule
                self._changed.wait(pause)
            return None

    def _name_left_out(self, rule: Rule, target: Target) -> None:
        if (rule.arn, target) not in self._left_out:
            self._left_out.add((rule.arn, target))
            why = "only functions are, which get the whole event or a constant Input"
            _log.warning("%s: the target %s is not run here, %s", rule.arn, target.arn, why)
