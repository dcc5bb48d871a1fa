"""What an investigation needs: the views show each failure's cause, each entry's history, and no payload to others."""

from __future__ import annotations

import pytest

from rowqueue.operator import Operator, Selector


@pytest.fixture
def read(sql):
    return lambda text, *values: [tuple(row) for row in sql(text, *values)]


def failed(sql, *, entry, status, message, answer):
    sql(
        "INSERT INTO PROCESSING_QUEUE (id, data, status, response_status, error_message, result, failed_at)"
        " SELECT ?, '{}', 'failed', ?, ?, ?, SYSDATE()",
        entry,
        status,
        message,
        answer,
    )


SAME = [
    '{"error": "unknown currency", "order": "ORD-4711", "at": "2026-11-20T10:00:00.123Z"}',
    '{"error": "unknown currency", "order": "ORD-12", "at": "2026-11-21T23:59:59Z"}',
    '{"error": "unknown currency",\n "order": "b0a1c5f2-7c3e-4b57-9d34-5a6b7c8d9e0f", "at": "2026-11-21 09:59+01:00"}',
    '{"error": "unknown currency", "order": "0f8e", "at": "17.5"}',
]
OTHERS = [
    '{"error": "amount missing", "order": "ORD-4711", "at": "2026-11-20T10:00:00.123Z"}',
    '{"error": "unknown country", "order": "ORD-4711", "at": "2026-11-20T10:00:00.123Z"}',
    None,
]


def test_failures_with_different_answers_are_different_groups_and_numbers_and_ids_make_none(sql, read):
    for entry, answer in enumerate((*SAME, *OTHERS), start=1):
        failed(sql, entry=entry, status=400, message="the service answered 400 Bad Request", answer=answer)
    failed(sql, entry=8, status=422, message="the service answered 422 Unprocessable", answer=SAME[0])
    groups = read("SELECT response_status, entries, reason FROM FAILED_ENTRIES_ANALYSIS ORDER BY entries DESC, 1")
    bad = "the service answered # Bad Request"
    assert groups == [
        (400, 4, bad),
        (400, 1, bad),
        (400, 1, bad),
        (400, 1, bad),
        (422, 1, "the service answered # Unprocessable"),
    ]
    ((answer, example, shown),) = read(
        "SELECT answer, example_id, example_answer FROM FAILED_ENTRIES_ANALYSIS WHERE entries = 4"
    )
    assert (answer, example, shown) == ("error: unknown currency; ", 4, SAME[3])


CAUSES = [
    ('{"error": "unknown customer", "name": "Alice"}', '{"error": "unknown customer", "name": "Bob"}', 1),
    ('{"error": "unknown customer", "name": "Alice"}', '{"error": "unknown country", "name": "Alice"}', 2),
    ('{"code": "E17", "name": "Alice"}', '{"code": "E18", "name": "Alice"}', 2),
    ('{"code": "E17", "name": "Alice"}', '{"code": "E17", "name": "Bob"}', 1),
    ('{"status": 400, "why": "no amount"}', '{"status": 400, "why": "no currency"}', 2),
    ('{"title": "Bad", "type": "/errors/1"}', '{"title": "Bad", "type": "/errors/2"}', 2),
    ('{"errors": [{"field": "amount"}]}', '{"errors": [{"field": "currency"}]}', 2),
    ("the limit is 1,234.56 EUR", "the limit is 17 EUR", 1),
    ('{"detail": "no order \'A-1\'"}', '{"detail": "no order \'0f8e-dd\'"}', 1),
    ("field 'amount' is missing", "field 'currency' is missing", 2),
    ("not JSON", '{"error": "cut', 2),
]


def test_answers_with_the_same_cause_are_one_group(sql, read):
    for place, (one, other, _) in enumerate(CAUSES):
        for number, answer in enumerate((one, other)):
            failed(sql, entry=2 * place + number + 1, status=400 + place, message="no", answer=answer)
    groups = read("SELECT COUNT(*) FROM FAILED_ENTRIES_ANALYSIS GROUP BY response_status ORDER BY response_status")
    assert [(*cause[:2], count) for cause, (count,) in zip(CAUSES, groups, strict=True)] == CAUSES


def test_one_entry_is_shown_whole_and_in_order(sql, read, warehouses):
    operator = Operator(warehouses("operator"))
    minute = "DATEADD('minute', {}, '2026-11-20 10:00:00'::TIMESTAMP_NTZ)".format
    sql(f"INSERT INTO PROCESSING_QUEUE (id, data, reference, created_at) SELECT 1, '{{}}', 'order-1', {minute(0)}")
    sql("INSERT INTO PROCESSING_QUEUE (id, data, reference) SELECT 2, '{}', 'another'")
    ((key,),) = read("SELECT idempotency_key FROM PROCESSING_QUEUE WHERE id = 1")
    for token, worker, at, outcome, status, error in (
        ("t1", "dev-a", 1, "transient", "pending", "503"),
        ("t2", "dev-b", 4, "crashed", None, "exit code 137"),
        ("t3", "dev-c", 7, "permanent", "failed", "400"),
        ("t3", "dev-c", 7, "permanent", "failed", "400"),
    ):
        sql(
            f"""
            INSERT INTO PROCESSING_ATTEMPTS (entry_id, claim_token, idempotency_key, attempt, processor_id, started_at,
                                             finished_at, outcome, entry_status, error_message, result, milliseconds,
                                             trace_id, response_status)
            SELECT 1, '{token}', ?, {at}, '{worker}', {minute(at)}, {minute(at + 1)}, '{outcome}', ?, '{error}', 'no',
                   60000, 'abc', 503""",
            key,
            status,
        )
    ended = "INSERT INTO PROCESSORS (processor_id, event, recorded_at, reason)"
    sql(f"{ended} SELECT 'dev-a', 'ended', {minute(3)}, 'done'")
    sql(f"{ended} SELECT 'dev-a', 'first_claim', {minute(1)}, NULL")
    sql(f"{ended} SELECT 'dev-other', 'ended', {minute(3)}, 'not this one'")
    sql("UPDATE PROCESSING_QUEUE SET status = 'failed', retry_count = 3, claim_token = 't3' WHERE id = 1")
    operator.requeue(Selector(ids=(1,)), reason="mended")
    operator.cancel(Selector(ids=(1,)), reason="no longer wanted")
    history = read("""
        SELECT place, event, done_by, attempt, response_status, milliseconds, detail, answer, trace_id
          FROM ENTRY_HISTORY WHERE entry_id = 1 ORDER BY place""")
    nothing = (None, None, None)
    assert history == [
        (1, "inserted", None, *nothing, "for default, reference order-1", None, None),
        (2, "claimed", "dev-a", *nothing, None, None, None),
        (3, "delivered: transient", "dev-a", 1, 503, 60000, "503", "no", "abc"),
        (4, "task ended", "dev-a", *nothing, "done", None, None),
        (5, "claimed", "dev-b", *nothing, None, None, None),
        (6, "taken away: crashed", "dev-b", 4, 503, 60000, "exit code 137", "no", "abc"),
        (7, "claimed", "dev-c", *nothing, None, None, None),
        (8, "delivered: permanent", "dev-c", 7, 503, 60000, "400", "no", "abc"),
        (9, "failed", "dev-c", None, 503, None, "400", None, None),
        (10, "requeue", "TESTER", *nothing, "mended", None, None),
        (11, "cancel", "TESTER", *nothing, "no longer wanted", None, None),
        (12, "cancelled", "TESTER", *nothing, "no longer wanted", None, None),
    ]


class Past:
    """Writes what happened to entry 1, by the minute, as programs and procedures write it."""

    def __init__(self, sql):
        self._sql = sql

    def at(self, minute):
        return f"DATEADD('minute', {minute}, '2026-11-20 10:00:00'::TIMESTAMP_NTZ)"

    def entry(self, **columns):
        self._sql(
            f"INSERT INTO PROCESSING_QUEUE (id, data, idempotency_key, created_at, {', '.join(columns)})"
            f" SELECT 1, '{{}}', 'k', {self.at(0)}, {', '.join(columns.values())}"
        )

    def attempt(self, minute, token, outcome, status):
        self._sql(
            f"""
            INSERT INTO PROCESSING_ATTEMPTS (entry_id, claim_token, idempotency_key, attempt, processor_id, started_at,
                                             finished_at, recorded_at, outcome, entry_status, error_message)
            SELECT 1, '{token}', 'k', 1, 'dev', {self.at(minute - 1)}, {self.at(minute)}, {self.at(minute)},
                   '{outcome}', ?, 'answer {minute}'""",
            status,
        )

    def action(self, minute, action):
        self._sql(
            f"""
            INSERT INTO PROCESSING_ACTIONS (action_id, action, reason, entries, acted_by, acted_at)
            SELECT '{minute}', '{action}', 'reason {minute}', 1, 'ME', {self.at(minute)}"""
        )
        self._sql(f"INSERT INTO PROCESSING_ACTION_ENTRIES (action_id, entry_id) SELECT '{minute}', 1")

    def ends(self):
        return self._of("event IN ('completed', 'failed', 'cancelled')")

    def events(self):
        return [event for event, *_ in self._of("event NOT IN ('inserted', 'claimed')")]

    def _of(self, which):
        rows = self._sql(
            f"""
            SELECT event, DATEDIFF('minute', {self.at(0)}, happened_at), done_by, detail
              FROM ENTRY_HISTORY WHERE entry_id = 1 AND {which} ORDER BY place"""
        )
        return [tuple(row) for row in rows]


def test_each_end_before_a_requeue_stays_in_the_history(sql):
    past = Past(sql)
    past.entry(status="'pending'", requeued="4")
    past.attempt(2, "t1", "permanent", "failed")
    past.attempt(2, "t1", "permanent", "failed")  # the INSERT ran twice
    past.action(3, "requeue")
    past.attempt(5, "t2", "transient", "pending")
    past.action(6, "cancel")  # while it is pending
    past.action(7, "requeue")
    past.attempt(9, "t3", "permanent", "failed")
    past.action(10, "discard")
    past.action(11, "requeue")
    past.action(13, "cancel")  # while it is in hand
    past.action(14, "reprioritise")
    past.attempt(15, "t4", "transient", "pending")
    past.action(16, "requeue")
    past.attempt(18, "t5", "transient", "pending")
    assert past.ends() == [
        ("failed", 2, "dev", "answer 2"),
        ("cancelled", 6, "ME", "reason 6"),
        ("failed", 9, "dev", "answer 9"),
        ("cancelled", 10, "ME", "reason 10"),
        ("cancelled", 15, "ME", "reason 13"),
    ]
    delivered = "delivered: "
    assert past.events() == [
        *(f"{delivered}permanent", "failed", "requeue"),
        *(f"{delivered}transient", "cancel", "cancelled", "requeue"),
        *(f"{delivered}permanent", "failed", "discard", "cancelled", "requeue"),
        *("cancel", "reprioritise", f"{delivered}transient", "cancelled", "requeue"),
        f"{delivered}transient",
    ]


def test_a_cancel_that_came_too_late_is_no_end(sql):
    past = Past(sql)
    past.entry(status="'pending'", requeued="2")
    past.action(1, "cancel")
    past.attempt(2, "t1", "permanent", "failed")
    past.action(3, "requeue")
    past.action(5, "cancel")
    past.attempt(6, "t2", "crashed", None)  # cancelled, or failed as poison: nothing says which
    past.action(7, "requeue")
    assert past.ends() == [("failed", 2, "dev", "answer 2")]


def test_a_discarded_entry_has_both_ends(sql):
    past = Past(sql)
    past.entry(status="'cancelled'", claim_token="'t'", processor_id="'dev'", error_message="'400'",
               failed_at=past.at(2), cancelled_at=past.at(3), cancelled_by="'ME'", cancel_reason="'old'")  # fmt: skip
    past.attempt(2, "t", "permanent", "failed")
    past.action(3, "discard")
    assert past.ends() == [("failed", 2, "dev", "400"), ("cancelled", 3, "ME", "old")]


def test_a_death_that_two_ticks_recorded_is_one(sql, read):
    for status, outcome in [(None, "crashed")] * 3 + [("failed", "permanent")] * 2:
        sql(
            """
            INSERT INTO PROCESSING_ATTEMPTS (entry_id, claim_token, idempotency_key, attempt, processor_id, started_at,
                                             finished_at, outcome, entry_status)
            SELECT 1, 't', 'key', 1, 'dev-a', SYSDATE(), SYSDATE(), ?, ?""",
            outcome,
            status,
        )
    events = read("SELECT event FROM ENTRY_HISTORY WHERE entry_id = 1 ORDER BY place")
    assert events == [("claimed",), ("taken away: crashed",), ("delivered: permanent",)]
    columns = "deliveries, permanent, lost_with_the_worker"
    assert read(f"SELECT {columns} FROM PROCESSOR_PERFORMANCE") == [(2, 1, 1)]


def test_two_entries_with_one_id_have_a_history_each_and_a_reference_finds_an_entry(sql, read):
    for reference, token in (("order-a", "a"), ("order-b", "b")):
        sql(
            "INSERT INTO PROCESSING_QUEUE (id, data, reference, idempotency_key) SELECT 1, '{}', ?, ?",
            reference,
            f"key-{token}",
        )
        sql(
            """
            INSERT INTO PROCESSING_ATTEMPTS (entry_id, claim_token, idempotency_key, attempt, processor_id, started_at,
                                             finished_at, outcome, entry_status)
            SELECT 1, ?, ?, 1, ?, SYSDATE(), SYSDATE(), 'transient', 'pending'""",
            token,
            f"key-{token}",
            f"dev-{token}",
        )
    columns = "place, idempotency_key, event, done_by"
    assert read(f"SELECT {columns} FROM ENTRY_HISTORY WHERE reference = 'order-b' ORDER BY place") == [
        (1, "key-b", "inserted", None),
        (2, "key-b", "claimed", "dev-b"),
        (3, "key-b", "delivered: transient", "dev-b"),
    ]
    assert read("SELECT reference, COUNT(*) FROM ENTRY_HISTORY WHERE entry_id = 1 GROUP BY 1 ORDER BY 1") == [
        ("order-a", 3),
        ("order-b", 3),
    ]


def test_a_claim_of_now_and_its_end_have_their_own_times(sql, read):
    sql("""
        INSERT INTO PROCESSING_QUEUE (data, status, claim_token, processor_id, response_status, claimed_at,
                                      completed_at)
        SELECT '{}', 'completed', 't', 'dev-a', 200, SYSDATE(), DATEADD('second', 5, SYSDATE())""")
    assert read("SELECT event, done_by, response_status FROM ENTRY_HISTORY ORDER BY place") == [
        ("inserted", None, None),
        ("claimed", "dev-a", None),
        ("completed", "dev-a", 200),
    ]


def test_data_results_and_answers_are_shown_only_to_who_has_the_role(sql, environ, connection):
    failed(sql, entry=1, status=400, message="400", answer="secret")
    sql("""
        INSERT INTO PROCESSING_ATTEMPTS (entry_id, claim_token, attempt, processor_id, started_at, finished_at, outcome,
                                         result, entry_status)
        SELECT 1, 't', 1, 'dev-a', SYSDATE(), SYSDATE(), 'permanent', 'secret', 'failed'""")
    shown = {
        "QUEUE_ENTRIES": "data, result",
        "DELIVERY_ATTEMPTS": "result",
        "ENTRY_HISTORY": "MAX(answer)",
        "FAILED_ENTRIES_ANALYSIS": "answer, example_answer",
    }
    viewer = environ["SNOWFLAKE_DATABASE"] + "_VIEWER"
    with connection(environ | {"SNOWFLAKE_ROLE": viewer}) as session, session.cursor() as cursor:
        for view, columns in shown.items():
            assert set(cursor.execute(f"SELECT {columns} FROM {view}").fetchone()) == {None}
        visible = cursor.execute("SELECT id, status, data_characters, error_message FROM QUEUE_ENTRIES").fetchall()
        assert [tuple(row) for row in visible] == [(1, "failed", 2, "400")]
        failed(sql, entry=2, status=400, message="400", answer="another secret")
        groups = cursor.execute("SELECT entries FROM FAILED_ENTRIES_ANALYSIS").fetchall()
        assert [tuple(row) for row in groups] == [(2,)], "the number of groups says nothing about the answers"
    sql("DELETE FROM PROCESSING_QUEUE WHERE id = 2")
    for view, columns in shown.items():
        assert "secret" in tuple(sql(f"SELECT {columns} FROM {view}")[0]), "SYSADMIN has the role"
