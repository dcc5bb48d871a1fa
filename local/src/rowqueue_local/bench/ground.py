"""The stand-ins for the benchmark, and a new queue for each run."""

from __future__ import annotations

import contextlib
import json
import urllib.request
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rowqueue.errors import RowqueueError
from rowqueue_local import deployment, stack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import snowflake.connector

    from rowqueue_local.snowflake.weather import Weather
    from rowqueue_local.stack import Stack

_TABLES = stack.REPOSITORY / "snowflake" / "01_create_table.sql"
_INSERT = "INSERT INTO PROCESSING_QUEUE (data) SELECT ? FROM TABLE(GENERATOR(ROWCOUNT => {entries}))"
_ATTEMPTED = """
INSERT INTO PROCESSING_ATTEMPTS
       (entry_id, claim_token, attempt, processor_id, started_at, finished_at, outcome, response_status)
SELECT id, claim_token, 1, processor_id, claimed_at, completed_at, 'succeeded', 200
  FROM PROCESSING_QUEUE
 WHERE status = 'completed'
"""
_LARGE = """
INSERT INTO PROCESSING_QUEUE
       (data, status, processor_id, claim_token, claimed_at, completed_at, response_status, result)
SELECT LEFT(REPEAT(SHA2(TO_VARCHAR(numbered.number)), {repeats}), {characters}), ?, ?, ?, ?, ?, ?, ?
  FROM (SELECT {first} + ROW_NUMBER() OVER (ORDER BY 1) AS number
          FROM TABLE(GENERATOR(ROWCOUNT => {rows}))) AS numbered
"""
"""Rows with different data, because the engine compresses data that repeats."""
_PENDING = ("pending", None, None, None, None, None, None)
_FINISHED_AT = datetime(2026, 1, 1)  # noqa: DTZ001 -- a TIMESTAMP_NTZ
_FINISHED = ("completed", "dev-gone", "finished-long-ago", _FINISHED_AT, _FINISHED_AT, 200, '{"accepted": true}')
_LARGE_AT_ONCE = 200_000_000
"""Characters of one INSERT."""
_ATTEMPTS_AT_ONCE = 1_000_000
_LONG_AGO = """
INSERT INTO PROCESSING_ATTEMPTS
       (entry_id, claim_token, idempotency_key, attempt, processor_id, started_at, finished_at, outcome,
        response_status, entry_status, result, recorded_at)
SELECT -made.number, 'token-' || FLOOR(made.number / 1000), 'key-' || made.number, 1,
       'dev-' || FLOOR(made.number / 20000), made.at, made.at, 'succeeded', 200, 'completed', ?, made.at
  FROM (SELECT ? + numbered.number AS number,
               DATEADD('millisecond', 250 * (? + numbered.number), DATEADD('day', -30, SYSDATE())) AS at
          FROM (SELECT ROW_NUMBER() OVER (ORDER BY 1) AS number
                  FROM TABLE(GENERATOR(ROWCOUNT => {rows}))) AS numbered) AS made
"""
"""Four attempts a second, in the order of their times, the first of them 30 days ago."""


class BenchError(RowqueueError):
    """A run is invalid: it did not deliver every entry exactly once."""


@dataclass(slots=True)
class Ground:
    """The stand-ins, and a session to prepare the queues."""

    stack: Stack
    session: snowflake.connector.SnowflakeConnection
    _queues: int = 0

    @contextlib.contextmanager
    def queue(self, *, entries: int = 0, data: str = "") -> Iterator[dict[str, str]]:
        """A new schema with ready entries; yields the environment variables with which a worker finds it.

        All schemas have the same name: otherwise the stand-in would translate each statement again.

        Args:
            entries: number of ready entries.
            data: of each entry.
        """
        self._queues += 1
        schema = f"BENCH_{self._queues}"
        self.sql(f"CREATE SCHEMA {schema}")
        self.sql(f"USE SCHEMA {schema}")
        self.session.execute_string(_TABLES.read_text(encoding="utf-8"))
        if entries:
            self.sql(_INSERT.format(entries=entries), data)
        try:
            yield self.stack.environ | {"SNOWFLAKE_SCHEMA": schema}
        finally:
            self.sql("USE SCHEMA PUBLIC")
            self.sql(f"DROP SCHEMA {schema}")
            self._queues -= 1

    def fill(self, *, finished: int = 0, pending: int = 0, characters: int, attempts: int = 0) -> None:
        """Add rows to the queue whose schema is in use: the newest one.

        Args:
            finished: number of finished entries, each with an attempt.
            pending: number of ready entries.
            characters: length of the data of each of these.
            attempts: number of further attempts, of entries that the table no longer has.
        """
        for rows, values in ((finished, _FINISHED), (pending, _PENDING)):
            at_once = max(1, _LARGE_AT_ONCE // characters)
            for first in range(0, rows, at_once):
                numbers = {"first": first, "rows": min(at_once, rows - first)}
                text = _LARGE.format(**numbers, repeats=characters // 64 + 1, characters=characters)
                self.sql(text, *values)
        if finished:
            self.sql(_ATTEMPTED)
        for first in range(0, attempts, _ATTEMPTS_AT_ONCE):
            rows = min(_ATTEMPTS_AT_ONCE, attempts - first)
            self.sql(_LONG_AGO.format(rows=rows), '{"accepted": true}', first, first)

    def sql(self, text: str, *values: object) -> list[tuple[Any, ...]]:
        """Run one statement."""
        with self.session.cursor() as cursor:
            cursor.execute(text, values or None)
            return [tuple(row) for row in cursor.fetchall()]

    def counts(self) -> dict[str, int]:
        """Entries by status."""
        return dict(self.sql("SELECT status, COUNT(*) FROM PROCESSING_QUEUE GROUP BY status"))

    @contextlib.contextmanager
    def weather(self, weather: Weather) -> Iterator[None]:
        """Slow down Snowflake within the block."""
        self._post("/_local/weather", weather.as_json())
        try:
            yield
        finally:
            self._post("/_local/weather", {})

    def forget_statements(self) -> None:
        """Count statements from now on."""
        self._post("/_local/reset-stats", {})

    def statements(self) -> dict[str, int]:
        """Number of statements sent, by kind."""
        return dict(self.stack.snowflake_stats()["by_kind"])

    def _post(self, path: str, body: dict[str, Any]) -> None:
        request = urllib.request.Request(self.stack.snowflake + path, json.dumps(body).encode())  # noqa: S310 -- ours
        with urllib.request.urlopen(request, timeout=10):  # noqa: S310 -- ours
            pass


@contextlib.contextmanager
def prepared(state: Path) -> Iterator[Ground]:
    """Start the stand-ins. They end with the block. What only the stand-in does is not measured."""
    with (
        stack.running(stack.Options(state=state, checked_updates=False)) as running,
        deployment.session(running) as session,
    ):
        yield Ground(stack=running, session=session)
