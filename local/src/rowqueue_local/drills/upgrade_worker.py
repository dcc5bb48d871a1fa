"""One worker of the drill ``upgrade``: the processor of this checkout with the statements of a file.

The first line of stdin is an :class:`UpgradeJob` as JSON. The worker claims and delivers until stdin ends. Its log
has a line for each claim that took entries: when it was committed, and how many they were.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rowqueue import credentials, observability, sql
from rowqueue.processor.queue import SnowflakeQueue
from rowqueue.processor.store import ProcessorStore
from rowqueue.settings import ProcessorSettings
from rowqueue.warehouse import SnowflakeWarehouse
from rowqueue_local.task_parts import entry_point, tls

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rowqueue.sql import Statement

_PAUSE_S = 0.2
_BEGIN, _COMMIT = (sql.Statement(name=word, text=word, parameters=()) for word in ("BEGIN", "COMMIT"))


@dataclass(frozen=True, slots=True, kw_only=True)
class UpgradeJob:
    """What a worker has to do.

    Attributes:
        environ: the stack's addresses and the processor's settings, as environment variables.
        name: the processor's id.
        statements: the file.
        claim_s: from what a claim reads to its commit, seconds.
    """

    environ: Mapping[str, str]
    name: str
    statements: str
    claim_s: float


class _SlowClaims:
    """A warehouse in which a claim takes time between what it reads and its commit, as it may in Snowflake.

    The stand-in reads and commits in one moment, so the claim gets a transaction of its own.
    """

    def __init__(self, warehouse: SnowflakeWarehouse, seconds: float) -> None:
        self._warehouse = warehouse
        self._seconds = seconds

    def rows(self, statement: Statement, values: Mapping[str, object]) -> list[tuple[Any, ...]]:
        return self._warehouse.rows(statement, values)

    def change(self, statement: Statement, values: Mapping[str, object]) -> int:
        if statement.name != "claim":
            return self._warehouse.change(statement, values)
        self._warehouse.change(_BEGIN, {})
        entries = self._warehouse.change(statement, values)
        if entries:
            time.sleep(self._seconds)
            # Before the COMMIT, because the stand-in's engine refuses it if the table was altered meanwhile.
            sys.stdout.write(json.dumps({"commits_at": time.time(), "entries": entries}) + "\n")
            sys.stdout.flush()
        self._warehouse.change(_COMMIT, {})
        return entries


class _StoreOf(ProcessorStore):
    """A processor's statements, from a file."""

    def __init__(self, statements: dict[str, Statement], warehouse: _SlowClaims, **names: Any) -> None:
        super().__init__(warehouse, **names)
        self._statements = statements


def _wait_for_the_end(ended: threading.Event) -> None:
    sys.stdin.read()
    ended.set()


def main() -> None:
    """Claim and deliver until stdin ends."""
    job = UpgradeJob(**json.loads(sys.stdin.readline()))
    ended = threading.Event()
    threading.Thread(target=_wait_for_the_end, args=(ended,), daemon=True).start()
    settings = ProcessorSettings.from_env(job.environ)
    observability.configure("processor", environment=settings.environment)
    login = credentials.login(settings.snowflake, environment=settings.environment)
    with contextlib.closing(SnowflakeWarehouse(settings.snowflake, login, query_tag="drill")) as warehouse:
        store = _StoreOf(
            sql.load(Path(job.statements).read_text(encoding="utf-8"), queue=settings.snowflake.table),
            _SlowClaims(warehouse, job.claim_s),
            queue=settings.snowflake.table,
            processor_id=job.name,
            max_retries=settings.max_retries,
        )
        processor, context = entry_point(), tls(job.environ)
        while not ended.wait(_PAUSE_S):
            with contextlib.closing(SnowflakeQueue(store)) as queue:
                asyncio.run(processor.run(settings, queue, context, job.name, stop=asyncio.Event()))


if __name__ == "__main__":
    main()
