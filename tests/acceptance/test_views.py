"""Each view answers its question with the right numbers, after real processors have worked."""

from __future__ import annotations

import pytest


@pytest.fixture
def rows(sql, insert, processor):
    """A day's entries: some entries succeed, one at the second attempt, two are refused, one is in hand for long."""
    insert(6, delay_ms=20)
    insert(2, status=400)
    insert(1, status=503, first=1)
    for _ in range(2):
        with processor(RETRY_BACKOFF_SECONDS="0") as process:
            assert process.wait(30) == 0
    insert(2)
    sql("""
        UPDATE PROCESSING_QUEUE
           SET status = 'processing', processor_id = 'dev-gone', claimed_at = DATEADD('minute', -31, SYSDATE())
         WHERE id = (SELECT MAX(id) FROM PROCESSING_QUEUE)""")

    def read(view, *columns):
        return sql(f"SELECT {', '.join(columns)} FROM {view}")

    return read


def test_each_view_answers_its_question(rows):
    summary = {row[0]: row[1:] for row in rows("QUEUE_STATUS_SUMMARY", "status", "entries", "ready", "retried")}
    assert summary == {"completed": (7, 0, 1), "failed": (2, 0, 2), "pending": (1, 1, 0), "processing": (1, 0, 0)}

    ((entries, completed, failed, still_open, percent, seconds),) = rows(
        "PROCESSING_METRICS", "entries", "completed", "failed", "open", "success_percent", "p95_seconds_to_completed"
    )
    assert (entries, completed, failed, still_open) == (11, 7, 2, 2)
    assert float(percent) == pytest.approx(77.78)
    assert 0 < float(seconds) < 60

    ((name, deliveries, succeeded, transient, permanent, milliseconds, reason),) = rows(
        "PROCESSOR_PERFORMANCE",
        *("processor_id", "deliveries", "succeeded", "transient", "permanent", "average_delivery_ms", "reason"),
    )
    assert (name, deliveries, succeeded, transient, permanent) == ("dev-test", 10, 7, 1, 2)
    assert float(milliseconds) >= 10
    assert reason == "nothing is ready"

    ((worker, in_hand_seconds),) = rows("STALE_ENTRIES", "processor_id", "in_hand_seconds")
    assert worker == "dev-gone"
    assert 1850 <= in_hand_seconds <= 1920

    ((status, reason, count, example),) = rows(
        "FAILED_ENTRIES_ANALYSIS", "response_status", "reason", "entries", "example_message"
    )
    assert (status, reason, count) == (400, "the service answered # Bad Request", 2)
    assert example == "the service answered 400 Bad Request"
