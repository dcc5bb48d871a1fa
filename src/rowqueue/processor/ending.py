"""What a processor leaves in the tables when it ends, for people and for the others of the fleet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rowqueue.errors import WarehouseError
from rowqueue.observability import Event, Metric, embedded, log, log_problem
from rowqueue.processor.waiting import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

    from rowqueue.lifecycle import CredentialsFault
    from rowqueue.store import QueueStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """The last words.

    Attributes:
        queue: the store.
        thread: in which the queue is used.
        processor_id: whose they are.
    """

    queue: QueueStore
    thread: Executor
    processor_id: str

    async def place_hold(self, fault: CredentialsFault, *, seconds: float) -> None:
        """Keep the fleet from meeting the same fault."""
        log_problem(Event.CREDENTIALS_STOP, error=fault.reason, **embedded({Metric.CREDENTIALS_STOPS: 1}))
        await self._try(
            lambda: self.queue.place_hold(reason=fault.reason, seconds=seconds, created_by=self.processor_id)
        )

    async def lift_ended_holds(self) -> None:
        """Let the fleet go on: the probe was answered. If it can not be lifted, the next probe will."""
        if await self._try(self.queue.lift_ended_holds):
            log(Event.HOLDS_LIFTED)

    async def record(self, *, entries: int, seconds: float, reason: str) -> None:
        """A row for people; if it can not be written, what was settled is settled all the same."""
        await self._try(
            lambda: self.queue.record_end(
                processor_id=self.processor_id, entries=entries, seconds=round(seconds, 3), reason=reason
            )
        )

    async def _try(self, write: Callable[[], None]) -> bool:
        """No last word that fails changes what the processor ends with."""
        try:
            await in_thread(self.thread, write)
        except WarehouseError as error:
            log_problem(Event.PROCESSOR_NOT_RECORDED, error=str(error))
            return False
        return True
