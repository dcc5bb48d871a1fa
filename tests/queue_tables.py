"""The tables of a queue, in Snowflake and in memory: what a test inserts into them and reads from them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from rowqueue.processor.queue import SnowflakeQueue
from rowqueue.processor.store import ProcessorStore
from rowqueue_local.memory_queue import HoldRow, MemoryQueue, MemoryTables

HOLDS = ("reason", "created_by")


class InMemory:
    """Tables in memory. The clock starts at an arbitrary time and stands still, but for :meth:`sleep`."""

    def __init__(self):
        self.now = 1000.0
        self.tables = MemoryTables(clock=lambda: self.now)

    def sleep(self):
        self.now += 0.001

    def queue(self, processor_id="dev-1", *, max_retries=3, **more):
        return MemoryQueue(self.tables, processor_id=processor_id, max_retries=max_retries, **more)

    def insert(self, *data, ready_in_s=0, age_s=0, **columns):
        for item in data:
            self.tables.insert(item, available_at=1000.0 + ready_in_s, created_at=1000.0 - age_s, **columns)

    def rows(self, *columns):
        return [tuple(getattr(row, column) for column in columns) for row in self.tables.queue]

    def seconds_until_ready(self):
        return [row.available_at - 1000.0 for row in self.tables.queue]

    def attempts(self, *columns):
        rows = sorted(self.tables.attempts, key=lambda row: row.made.entry_id)
        found = [
            {
                "processor_id": row.processor_id,
                "milliseconds": None if row.by_poller else row.made.started_ms_ago - row.made.finished_ms_ago,
                **row.made._asdict(),
            }
            for row in rows
        ]
        return [tuple(row[column] for column in columns) for row in found]

    def attempt_milliseconds(self):
        return [row.made.started_ms_ago - row.made.finished_ms_ago for row in self.tables.attempts]

    def take_over(self, entry_id):
        for row in self.tables.queue:
            if row.id == entry_id:
                row.claim_token, row.processor_id = "new", "dev-2"

    def request_cancel(self, *ids):
        for row in self.tables.queue:
            if row.id in ids:
                row.cancel_requested, row.cancelled_by, row.cancel_reason = True, "me", "a wrong batch"

    def hold(self, reason, *, created_by, **columns):
        self.tables.holds.append(HoldRow(reason=reason, created_by=created_by, **columns))

    def holds(self, *columns):
        return [tuple(getattr(hold, name) for name in columns or HOLDS) for hold in self.tables.holds]

    def raise_oldest_program(self, version):
        self.tables.oldest_program = version

    def seconds_since_update(self):
        return [self.now - row.updated_at for row in self.tables.queue]

    def update_long_ago(self):
        for row in self.tables.queue:
            row.updated_at = 0.0

    def end_holds(self):
        for hold in self.tables.holds:
            hold.until_at = 999.0

    def delete_holds(self):
        self.tables.holds.clear()

    def processors(self):
        return [(row.processor_id, row.event, row.entries, row.seconds, row.reason) for row in self.tables.processors]


class InSnowflake:
    """Tables in Snowflake.

    Args:
        sql: runs one statement and returns its rows.
        warehouses: makes warehouses, each with a session of its own.
        table: the queue table's name.
    """

    def __init__(self, sql, warehouses, table):
        self.sql = sql
        self.warehouses = warehouses
        self.table = table
        self.opened = []

    def queue(self, processor_id="dev-1", *, max_retries=3, **more):
        # In a thread, because the store reads a file and a test may be on the event loop.
        with ThreadPoolExecutor(1) as thread:
            making = thread.submit(
                lambda: ProcessorStore(
                    self.warehouses(), queue=self.table, processor_id=processor_id, max_retries=max_retries, **more
                )
            )
            self.opened.append(SnowflakeQueue(making.result()))
        return self.opened[-1]

    def close(self):
        for queue in self.opened:
            queue.close()

    def sleep(self):
        """Nothing: each statement takes longer than the clock's resolution."""

    def insert(self, *data, ready_in_s=0, age_s=0, **columns):
        names, values = ", ".join(["data", *columns]), list(columns.values())
        marks = ", ".join("?" * (1 + len(values)))
        for item in data:
            times = f"DATEADD('second', {ready_in_s}, SYSDATE()), DATEADD('second', {-age_s}, SYSDATE())"
            self.sql(
                f"INSERT INTO PROCESSING_QUEUE (available_at, created_at, {names}) SELECT {times}, {marks}",
                item,
                *values,
            )

    def rows(self, *columns):
        return self._tuples(f"SELECT {', '.join(columns)} FROM PROCESSING_QUEUE ORDER BY id")

    def seconds_until_ready(self):
        return [
            row[0]
            for row in self.sql("SELECT DATEDIFF('second', SYSDATE(), available_at) FROM PROCESSING_QUEUE ORDER BY id")
        ]

    def attempts(self, *columns):
        return self._tuples(f"SELECT {', '.join(columns)} FROM PROCESSING_ATTEMPTS ORDER BY entry_id")

    def attempt_milliseconds(self):
        return [
            row[0]
            for row in self.sql("SELECT DATEDIFF('millisecond', started_at, finished_at) FROM PROCESSING_ATTEMPTS")
        ]

    def take_over(self, entry_id):
        self.sql(
            "UPDATE PROCESSING_QUEUE SET claim_token = 'new', processor_id = 'dev-2' WHERE id = ?",
            entry_id,
        )

    def request_cancel(self, *ids):
        for entry_id in ids:
            self.sql(
                "UPDATE PROCESSING_QUEUE SET cancel_requested = TRUE, cancelled_by = 'me', "
                "cancel_reason = 'a wrong batch' WHERE id = ?",
                entry_id,
            )

    def hold(self, reason, **columns):
        names, marks = ", ".join(["reason", *columns]), ", ".join("?" * (1 + len(columns)))
        self.sql(f"INSERT INTO PROCESSING_HOLDS ({names}) SELECT {marks}", reason, *columns.values())

    def holds(self, *columns):
        return self._tuples(f"SELECT {', '.join(columns or HOLDS)} FROM PROCESSING_HOLDS")

    def raise_oldest_program(self, version):
        self.sql(
            "INSERT INTO SCHEMA_VERSION (version, oldest_program, applied_by) SELECT ?, ?, 'tester'", version, version
        )

    def seconds_since_update(self):
        return [
            row[0]
            for row in self.sql("SELECT DATEDIFF('second', updated_at, SYSDATE()) FROM PROCESSING_QUEUE ORDER BY id")
        ]

    def update_long_ago(self):
        self.sql("UPDATE PROCESSING_QUEUE SET updated_at = '1970-01-01 00:00:00'::TIMESTAMP_NTZ")

    def end_holds(self):
        self.sql("UPDATE PROCESSING_HOLDS SET until_at = DATEADD('second', -1, SYSDATE())")

    def delete_holds(self):
        self.sql("DELETE FROM PROCESSING_HOLDS")

    def processors(self):
        return self._tuples(
            "SELECT processor_id, event, entries, seconds, reason FROM PROCESSORS ORDER BY recorded_at, event DESC"
        )

    def _tuples(self, text):
        return [tuple(row) for row in self.sql(text)]
