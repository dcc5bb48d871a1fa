"""Random histories of the queue on Snowflake."""

from __future__ import annotations

import contextlib
import json

from queue_histories import LIMIT, Killed, destination_of, play

from rowqueue.poller.queue import PollerQueue
from rowqueue.processor.store import ProcessorStore
from rowqueue.settings import SnowflakeSettings


class KillableWarehouse:
    """A warehouse whose program is killed after a statement, if that was asked for."""

    def __init__(self, warehouse):
        self.warehouse = warehouse
        self.last = None

    def rows(self, statement, values):
        return self.warehouse.rows(statement, values)

    def change(self, statement, values):
        changed = self.warehouse.change(statement, values)
        if statement.name == self.last:
            raise Killed
        return changed


TIMES = {
    "PROCESSING_QUEUE": ("created_at", "available_at", "claimed_at", "tried_at"),
    "PROCESSING_ATTEMPTS": ("ready_at",),
    "PROCESSING_HOLDS": ("created_at", "until_at"),
}
"""``recorded_at`` stays: a settle finds its attempts by a clock of its own, which does not jump."""


class SnowflakeGround:
    """The tables in Snowflake. The clock jumps forwards when all times move back."""

    def __init__(self, sql, warehouses, table):
        self.sql = sql
        self.warehouse = KillableWarehouse(warehouses("processor"))
        of_poller = KillableWarehouse(warehouses("poller"))
        self.killable = (self.warehouse, of_poller)
        self.table = table
        self.poller = PollerQueue(of_poller, queue=table, max_retries=LIMIT)

    def clear(self):
        self.stores = {}
        for table in ("PROCESSING_QUEUE", "PROCESSING_ATTEMPTS", "PROCESSING_HOLDS"):
            self.sql(f"DELETE FROM {table}")

    def end(self):
        pass

    def at(self, now):
        pass

    def jump(self, seconds):
        for table, columns in TIMES.items():
            moved = ", ".join(f"{column} = DATEADD('second', ?, {column})" for column in columns)
            self.sql(f"UPDATE {table} SET {moved}", *[-seconds] * len(columns))

    def claimed_since(self):
        return {claimant.processor_id: claimant.earliest_claimed_at for claimant in self.poller.claimants()}

    def store(self, worker):
        if worker not in self.stores:
            self.stores[worker] = ProcessorStore(
                self.warehouse,
                queue=self.table,
                processor_id=worker,
                max_retries=LIMIT,
                destination=destination_of(worker),
            )
        return self.stores[worker]

    @contextlib.contextmanager
    def killed_after(self, statement):
        for warehouse in self.killable:
            warehouse.last = statement
        with contextlib.suppress(Killed):
            yield
        for warehouse in self.killable:
            warehouse.last = None

    def insert(self, data, *, ready_in_s, priority, max_retries, destination):
        self.sql(
            "INSERT INTO PROCESSING_QUEUE (data, available_at, priority, max_retries, destination) "
            "SELECT f.value::VARCHAR, DATEADD('second', ?, SYSDATE()), ?, ?, ? "
            "FROM TABLE(FLATTEN(INPUT => PARSE_JSON(?))) AS f ORDER BY f.index",
            *(ready_in_s, priority, max_retries, destination, json.dumps(data)),
        )

    def requeue(self, data, *, reset):
        counts = "earlier_attempts = earlier_attempts + retry_count, retry_count = 0, "
        action = f"{counts}cancel_requested = FALSE, cancelled_at = NULL, " if reset else ""
        self.sql(
            f"UPDATE PROCESSING_QUEUE SET status = 'pending', {action}available_at = SYSDATE() "
            "WHERE status IN ('failed', 'cancelled') AND data = ?",
            data,
        )

    def cancel(self, data):
        self.sql(
            "UPDATE PROCESSING_QUEUE SET cancel_requested = IFF(status = 'processing', TRUE, cancel_requested), "
            "cancelled_at = IFF(status = 'pending', SYSDATE(), NULL), "
            "status = IFF(status = 'pending', 'cancelled', status) "
            "WHERE status IN ('pending', 'processing') AND data = ?",
            data,
        )

    def rows(self):
        return [
            (*columns, round(seconds / 100))
            for *columns, seconds in self.sql(
                "SELECT data, IFF(status = 'cancelled' AND cancelled_at IS NULL, 'without a time', status), "
                "retry_count, earlier_attempts, crash_count, doubts, claim_token, processor_id, cancel_requested, "
                "DATEDIFF('second', SYSDATE(), available_at) FROM PROCESSING_QUEUE ORDER BY id"
            )
        ]

    def hold(self, scope, kind):
        self.sql(
            "INSERT INTO PROCESSING_HOLDS (scope, kind, reason, created_by) VALUES (?, ?, 'maintenance', 'me')",
            *(scope, kind.value),
        )

    def delete_holds_without_end(self):
        self.sql("DELETE FROM PROCESSING_HOLDS WHERE until_at IS NULL")

    def holds(self):
        return [tuple(row) for row in self.sql("SELECT scope, kind FROM PROCESSING_HOLDS")]

    def trail(self):
        return [
            tuple(row)
            for row in self.sql(
                "SELECT q.data, a.claim_token, a.attempt, a.outcome, a.entry_status IS NULL "
                "FROM PROCESSING_ATTEMPTS AS a JOIN PROCESSING_QUEUE AS q ON q.id = a.entry_id"
            )
        ]


def test_random_histories_keep_every_promise_on_snowflake(environ, sql, warehouses):
    play(
        SnowflakeGround(sql, warehouses, SnowflakeSettings.from_env(environ).table),
        histories=6,
        steps=30,
        shrink=False,
    )
