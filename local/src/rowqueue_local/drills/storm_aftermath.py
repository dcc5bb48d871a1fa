"""Reads what a storm left behind: the tables, the partner's log, and the lives of the tasks."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC
from typing import TYPE_CHECKING, Any

from rowqueue.contract import processor_id
from rowqueue_local import stack
from rowqueue_local.drills.storm_judge import Aftermath, FinalRow, LoggedDelivery, RecordedAttempt, TaskLife

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from rowqueue_local.drills.stage import Stage
    from rowqueue_local.drills.storm_faults import StormFaults
    from rowqueue_local.drills.storm_plan import StormPlan


def aftermath(
    stage: Stage,
    planned: StormPlan,
    faults: StormFaults,
    *,
    late_after_s: float,
    stale_after_s: float,
    max_containers: int,
    max_crashes: int,
    max_retries: int,
) -> Aftermath:
    """Read what is left, and what the partner and ECS noted.

    Args:
        stage: where the storm was.
        planned: what was inserted.
        faults: noted what was frozen, and when claims were taken away.
        late_after_s: from when a partner's answer may come too late, seconds.
        stale_after_s: the age from which a claim is stale, seconds.
        max_containers: the setting.
        max_crashes: the setting.
        max_retries: the setting.
    """
    rows = stage.sql("SELECT id, idempotency_key, status, retry_count, max_retries FROM PROCESSING_QUEUE")
    attempts = stage.sql(
        "SELECT entry_id, claim_token, processor_id, outcome, response_status, started_at, recorded_at "
        "FROM PROCESSING_ATTEMPTS"
    )
    return Aftermath(
        keys=[entry.key for batch in planned.batches for entry in batch.entries],
        rows=[
            FinalRow(id=id_, key=key, status=status, retry_count=retries, limit=limit or max_retries)
            for id_, key, status, retries, limit in rows
        ],
        attempts=[
            RecordedAttempt(
                entry_id=entry_id,
                claim_token=token,
                processor_id=worker,
                outcome=outcome,
                response_status=status,
                started_at=_epoch(started_at),
                recorded_at=_epoch(recorded_at),
            )
            for entry_id, token, worker, outcome, status, started_at, recorded_at in attempts
        ],
        deliveries=[LoggedDelivery(**delivery) for delivery in stage.stack.deliveries()],
        tasks=_tasks(stage.stack.launches()["tasks"]),
        takings=faults.watcher.takings,
        freezes=faults.freezes,
        late_after_s=late_after_s,
        stale_after_s=stale_after_s,
        max_crashes=max_crashes,
        max_containers=max_containers,
    )


def keep(stage: Stage, after: Aftermath, folder: Path) -> None:
    """Write down what the figures are computed from, and what the poller logged, for a person who wants to know why."""
    (folder / "storm.json").write_text(json.dumps(asdict(after)))
    (folder / "poller.jsonl").write_text("".join(json.dumps(line) + "\n" for line in stage.logged()))


def _tasks(described: Sequence[dict[str, Any]]) -> list[TaskLife]:
    return [
        TaskLife(
            processor_id=processor_id(stack.ENVIRONMENT, task["id"]),
            began_at=task["created_at"],
            ended_at=task["stopped_at"],
            exit_code=task["exit_code"],
            stop_code=task["stop_code"],
            stopped_reason=task["stopped_reason"],
        )
        for task in described
    ]


def _epoch(moment: datetime) -> float:
    return moment.replace(tzinfo=UTC).timestamp()
