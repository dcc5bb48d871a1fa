"""The queue as the poller sees it: a glance at all of it, and the duties towards what workers have left behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rowqueue.records import Holder, Pulse, as_json, death_row
from rowqueue.store import QueueStore

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from rowqueue.records import Death


class PolledQueue(QueueStore):
    """The duties of the poller, beside those of the store."""

    def pulse(self) -> Pulse:
        """Look at the queue with the one statement that an idle tick sends."""
        (row,) = self._rows("pulse")
        pending, exhausted, available_at, processing, claimed_at, unknown, holds, held_until, reason = row
        return Pulse(
            pending=pending,
            exhausted=exhausted,
            earliest_available_at=available_at,
            processing=processing,
            earliest_claimed_at=claimed_at,
            unknown=unknown,
            holds=holds,
            held_until=held_until,
            hold_reason=reason,
        )

    def reset_stale(self, *, stale_threshold_s: float) -> int:
        """Take stale claims away, by Snowflake's clock, the audit trail first; returns how many."""
        self._change("record_resets", stale_threshold_s=stale_threshold_s)
        return self._change("reset_stale", max_retries=self._max_retries, stale_threshold_s=stale_threshold_s)

    def fail_exhausted(self) -> int:
        """Fail pending entries that have no attempts left: no claim would ever take them; returns how many."""
        return self._change("fail_exhausted", max_retries=self._max_retries)

    def holders(self) -> list[Holder]:
        """Who holds claims."""
        return [
            Holder(processor_id=processor_id, entries=entries, earliest_claimed_at=earliest)
            for processor_id, entries, earliest in self._rows("holders")
        ]

    def record_deaths(self, deaths: Sequence[Death]) -> None:
        """Put what these workers hold into the audit trail; once, unless two ticks do so at the same moment."""
        self._change("record_deaths", deaths=as_json([death_row(death) for death in deaths]))

    def fail_poison(self, deaths: Sequence[Death], *, max_crashes: int) -> int:
        """Fail what too many workers have died on, of what these held alone; returns how many entries."""
        if not deaths:
            return 0
        rows = as_json([death_row(death) for death in deaths])
        return self._change("fail_poison", deaths=rows, max_crashes=max_crashes)

    def release_dead(self, deaths: Sequence[Death]) -> int:
        """Give back what these workers hold; returns how many entries."""
        rows = as_json([death_row(death) for death in deaths])
        return self._change("release_dead", deaths=rows, max_retries=self._max_retries)

    def processors_seen(self, processor_ids: Collection[str]) -> frozenset[str]:
        """Those of ``processor_ids`` that have made their first claim."""
        if not processor_ids:
            return frozenset()
        rows = self._rows("processors_seen", processor_ids=as_json(sorted(processor_ids)))
        return frozenset(processor_id for (processor_id,) in rows)

    def recent_take(self) -> float | None:
        """What a processor settled in its life, of late, the median; ``None`` if none has ended of late."""
        ((entries,),) = self._rows("recent_take")
        return None if entries is None else float(entries)
