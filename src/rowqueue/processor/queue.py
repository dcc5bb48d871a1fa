"""The queue as a processor uses it: claim, count, look, settle, hold, record.

:class:`Queue` is the Protocol. :class:`SnowflakeQueue` implements it with the statements of
:class:`~rowqueue.processor.store.ProcessorStore`, which it sends from one thread. A second implementation, in memory,
is used by the tests. Both pass ``tests/queue_contract.py``: ``tests/contract/test_queue.py`` runs it on Snowflake,
``tests/unit/test_memory_queue.py`` in memory.
"""

from __future__ import annotations

import asyncio
import contextvars
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from rowqueue.lifecycle import Entry
from rowqueue.settings import LONGEST_DATA
from rowqueue.sql import ClaimedKey

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rowqueue.lifecycle import Settlement
    from rowqueue.processor.store import ProcessorStore
    from rowqueue.sql import Attempt

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRequest:
    """What a worker asks for.

    Attributes:
        token: never used before.
        entries: the largest number of entries.
        characters: the largest sum of ``data``; a single entry may exceed it.
        suspects: the largest number of entries that one worker has died on. A claim that starts with one of them takes
            no others. An entry that more workers have died on is claimed alone.
        nothing_in_hand: whether the worker has no other entry. Only then does it get suspects.
        probe: whether to claim even if an ended hold has not been lifted.
        longest: longer ``data`` is left out, characters.
    """

    token: str
    entries: int
    characters: int
    suspects: int = 1
    nothing_in_hand: bool = True
    probe: bool = False
    longest: int = LONGEST_DATA


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """What claims would take now.

    Attributes:
        entries: all of them, suspects included.
        suspects: those that a worker has died on.
    """

    entries: int
    suspects: int = 0

    def for_worker(self, *, nothing_in_hand: bool) -> int:
        """How many a worker could get."""
        return self.entries if nothing_in_hand else self.entries - self.suspects


@dataclass(frozen=True, slots=True, kw_only=True)
class LookAnswer:
    """What people have said since entries were claimed.

    Attributes:
        hold: whether a hold stands, so that nothing may begin.
        cancelled: the entries that a person has cancelled.
    """

    hold: bool = False
    cancelled: frozenset[ClaimedKey] = frozenset()


class Queue(Protocol):
    """The queue of one processor. Every method may raise a :class:`~rowqueue.errors.WarehouseError`."""

    async def claim(self, request: ClaimRequest) -> list[Entry]:
        """Take a block. It may be empty although entries are ready, when another worker was quicker."""
        ...

    async def count_ready(self) -> Ready:
        """Count what a claim would take now. While there is a hold, the count is 0."""
        ...

    async def look(self, tokens: Sequence[str]) -> LookAnswer:
        """Read whether a hold stands, and which entries of these claims a person has cancelled. It takes no lock."""
        ...

    async def settle(self, settlements: Sequence[Settlement], attempts: Sequence[Attempt]) -> frozenset[int]:
        """Write outcomes back, and the attempts that led to them.

        An entry that would become pending and that a person has cancelled becomes cancelled instead.
        Writing the same twice changes nothing. An answer that cannot be stored is replaced by a sentence that says so.

        Args:
            settlements: what becomes of each entry.
            attempts: of those entries whose delivery was started. Each says the same as the settlement of its entry.
                If another attempt is on record for the same claim, a success counts, and otherwise the earliest.

        Returns:
            The entries whose claim is lost: another worker has claimed or settled them, and nothing was changed.
        """
        ...

    async def place_hold(self, *, reason: str, seconds: float) -> None:
        """Stop all claims for some seconds, unless a hold stands already."""
        ...

    async def lift_ended_holds(self) -> None:
        """Remove the holds that have ended, so that every worker may claim again."""
        ...

    async def record_first_claim(self, *, entries: int) -> None:
        """Record that this processor has claimed, so that the poller no longer counts it as starting."""
        ...

    async def record_end(self, *, entries: int, seconds: float, reason: str) -> None:
        """Record that this processor has ended, how many entries it settled, and why it stopped."""
        ...


class SnowflakeQueue:
    """A :class:`Queue` on Snowflake. The event loop does not wait for it.

    All statements but a look run in one thread, in the order of the calls: the driver blocks, and threads that share
    its session would wait for each other. What they log carries the caller's context.

    Args:
        store: sends the statements.
        looking: sends the looks, in a session and a thread of its own, because a claim or a settle may wait long for
            the table's lock. Default: ``store``, in its thread.
    """

    def __init__(self, store: ProcessorStore, *, looking: ProcessorStore | None = None) -> None:
        self._store = store
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="warehouse")
        self._looking = looking or store
        self._looks = ThreadPoolExecutor(1, thread_name_prefix="looks") if looking else self._thread

    def close(self) -> None:
        """End the threads, after the statements that they are sending."""
        self._thread.shutdown()
        self._looks.shutdown()

    async def claim(self, request: ClaimRequest) -> list[Entry]:
        """See :meth:`Queue.claim`."""
        return await self._in_thread(lambda: self._store.claim(request))

    async def count_ready(self) -> Ready:
        """See :meth:`Queue.count_ready`."""
        return await self._in_thread(self._store.count_ready)

    async def look(self, tokens: Sequence[str]) -> LookAnswer:
        """See :meth:`Queue.look`."""
        return await self._in_thread(lambda: self._looking.look(tokens), self._looks)

    async def settle(self, settlements: Sequence[Settlement], attempts: Sequence[Attempt]) -> frozenset[int]:
        """See :meth:`Queue.settle`."""
        return await self._in_thread(lambda: self._store.settle(settlements, attempts))

    async def place_hold(self, *, reason: str, seconds: float) -> None:
        """See :meth:`Queue.place_hold`."""
        await self._in_thread(lambda: self._store.place_hold(reason=reason, seconds=seconds))

    async def lift_ended_holds(self) -> None:
        """See :meth:`Queue.lift_ended_holds`."""
        await self._in_thread(self._store.lift_ended_holds)

    async def record_first_claim(self, *, entries: int) -> None:
        """See :meth:`Queue.record_first_claim`."""
        await self._in_thread(lambda: self._store.record_first_claim(entries=entries))

    async def record_end(self, *, entries: int, seconds: float, reason: str) -> None:
        """See :meth:`Queue.record_end`."""
        await self._in_thread(lambda: self._store.record_end(entries=entries, seconds=seconds, reason=reason))

    async def _in_thread(self, call: Callable[[], T], thread: ThreadPoolExecutor | None = None) -> T:
        context = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(thread or self._thread, context.run, call)


def key_of(claimed: Entry | Settlement) -> ClaimedKey:
    """What names a claimed entry, or the entry that a settlement is about."""
    entry_id = claimed.id if isinstance(claimed, Entry) else claimed.entry_id
    return ClaimedKey(entry_id, claimed.claim_token, claimed.idempotency_key)
