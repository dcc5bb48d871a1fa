"""The queue as the poller uses it: counts, and the rows of workers that are gone."""

from __future__ import annotations

import json
from dataclasses import fields
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from rowqueue import sql
from rowqueue.contract import why_too_new
from rowqueue.errors import ObjectMissing, SchemaError
from rowqueue.lifecycle import storable
from rowqueue.poller.records import Claimant, Pulse

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from rowqueue.poller.records import Death

_OF_THE_PULSE = tuple(field.name for field in fields(Pulse))
"""The columns of the statement, in their order."""
_MARGIN = timedelta(minutes=1)
_LONG_AGO = datetime(1970, 1, 1)  # noqa: DTZ001 -- as Snowflake's timestamps: UTC, naive


class PollerQueue(sql.Sender):
    """The statements that the poller sends."""

    def pulse(self) -> Pulse:
        """Look at the queue with the one statement that an idle tick sends.

        Raises:
            SchemaError: this program needs a newer version of the tables.
        """
        try:
            row = self._row("pulse", columns=16)
        except ObjectMissing:
            self.require_schema()
            raise
        pulse = Pulse(**dict(zip(_OF_THE_PULSE, row, strict=True)))
        if reason := why_too_new(pulse.version):
            raise SchemaError(f"{reason}: run: rowqueue migrate")
        return pulse

    def count_ready(self, *, probe: bool = False) -> int:
        """Count the entries that claims would take now. While there is a hold, the count is 0.

        Args:
            probe: whether to count even if an ended hold has not been lifted.
        """
        entries, _suspects = self._row(
            "count_ready",
            columns=2,
            max_retries=self._max_retries,
            destination=self._destination,
            probe=int(probe),
        )
        return int(entries)

    def reset_stale(self, *, stale_threshold_s: float, claimed_since: datetime | None = None) -> int:
        """Reset claims that are stale by Snowflake's clock, the audit trail first; returns how many.

        What a worker has recorded is settled instead.

        Args:
            stale_threshold_s: the age from which a claim is stale, seconds.
            claimed_since: no claim is older; UTC, naive, by Snowflake's clock.
        """
        since = _recorded_since([claimed_since])
        self._change("record_resets", stale_threshold_s=stale_threshold_s, since=since)
        return self._change(
            "reset_stale", max_retries=self._max_retries, stale_threshold_s=stale_threshold_s, since=since
        )

    def fail_exhausted(self) -> int:
        """Fail pending entries without attempts left, which no claim would take; returns how many."""
        return self._change("fail_exhausted", max_retries=self._max_retries, destination=self._destination)

    def end_cancelled(self) -> int:
        """Cancel pending entries whose cancel was requested; returns how many."""
        return self._change("end_cancelled")

    def claimants(self) -> list[Claimant]:
        """The workers that have claims."""
        return [
            Claimant(processor_id=processor_id, entries=entries, earliest_claimed_at=earliest)
            for processor_id, entries, earliest in self._rows("claimants", columns=3)
        ]

    def record_deaths(self, deaths: Sequence[Death]) -> None:
        """Add what these workers had in hand to the audit trail. Two ticks at the same moment may add it twice."""
        self._change("record_deaths", deaths=_as_json(deaths), since=_since(deaths))

    def fail_poison(self, deaths: Sequence[Death], *, max_crashes: int) -> int:
        """Fail the entries that these workers died on, if at least ``max_crashes`` had died on them before.

        Args:
            deaths: of workers that had a single entry in hand.
            max_crashes: earlier deaths.

        Returns:
            How many entries failed.
        """
        if not deaths:
            return 0
        return self._change("fail_poison", deaths=_as_json(deaths), max_crashes=max_crashes, since=_since(deaths))

    def release_dead(self, deaths: Sequence[Death]) -> int:
        """Release what these workers had in hand, and settle what they have recorded; returns how many entries."""
        return self._change(
            "release_dead", deaths=_as_json(deaths), max_retries=self._max_retries, since=_since(deaths)
        )

    def processors_seen(self, processor_ids: Collection[str]) -> frozenset[str]:
        """Those of these processors that have made their first claim."""
        if not processor_ids:
            return frozenset()
        rows = self._rows("processors_seen", columns=1, processor_ids=json.dumps(sorted(processor_ids)))
        return frozenset(processor_id for (processor_id,) in rows)

    def recent_take(self) -> float | None:
        """Median number of entries that a task settled, over the last hour; ``None`` if no task has ended."""
        (entries,) = self._row("recent_take", columns=1)
        return None if entries is None else float(entries)


def _since(deaths: Sequence[Death]) -> str:
    return _recorded_since([death.claimed_since for death in deaths])


def _recorded_since(claims: Sequence[datetime | None]) -> str:
    """From when the attempts of these claims can have been recorded. The margin is for servers whose clocks differ."""
    known = [claimed for claimed in claims if claimed is not None]
    earliest = min(known) - _MARGIN if len(known) == len(claims) else _LONG_AGO
    return earliest.isoformat(sep=" ")


def _as_json(deaths: Sequence[Death]) -> str:
    return json.dumps(
        [
            {
                "processor_id": death.processor_id,
                "reason": storable(death.reason),
                "crashed": int(death.crashed),
                "counted": int(death.counted),
            }
            for death in deaths
        ]
    )
