"""What people do: each action changes what it says, refuses what it cannot read, and is on record."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from rowqueue import sql as statements
from rowqueue.contract import valid_destination
from rowqueue.errors import WarehouseError
from rowqueue.operator import Operator, Selector

WHY = "the partner's mistake"
ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]
STATUSES = ("pending", "processing", "completed", "failed", "cancelled")


@pytest.fixture
def operator(warehouses):
    """The actions, as a person with the role OPERATOR sends them."""
    return Operator(warehouses("operator"))


@pytest.fixture
def insert(sql):
    """Inserts an entry and returns its id."""

    def insert(**columns):
        names = ", ".join(["data", *columns])
        marks = ", ".join(["?"] * (len(columns) + 1))
        sql(f"INSERT INTO PROCESSING_QUEUE ({names}) SELECT {marks}", '{"a": 1}', *columns.values())
        ((number,),) = sql("SELECT MAX(id) FROM PROCESSING_QUEUE")
        return number

    return insert


@pytest.fixture
def read(sql):
    """Some columns of the entries, by id."""

    def read(*columns):
        rows = sql(f"SELECT {', '.join(columns)} FROM PROCESSING_QUEUE ORDER BY id")
        return [row[0] if len(columns) == 1 else tuple(row) for row in rows]

    return read


def actions(sql):
    return [
        tuple(row)
        for row in sql("SELECT action, reason, entries, acted_by FROM PROCESSING_ACTIONS ORDER BY acted_at, entries")
    ]


def test_requeue_clears_the_old_failure_and_the_cancel_and_numbers_attempts_on(sql, operator, insert, read):
    ended = {"result": "no", "response_status": 503, "error_message": "503", "claim_token": "t", "processor_id": "p"}
    now = datetime.now(UTC).replace(tzinfo=None)
    one = insert(status="failed", retry_count=3, crash_count=4, doubts=7, failed_at=now, claimed_at=now, **ended)
    two = insert(status="cancelled", retry_count=1, earlier_attempts=2, requeued=1, cancelled_at=now, cancelled_by="X",
                 cancel_reason="y", cancel_requested=True)  # fmt: skip
    keys = read("idempotency_key")
    assert operator.requeue(Selector(ids=(one, two)), reason=WHY) == 2
    assert read("idempotency_key") == keys
    assert read("status", "retry_count", "earlier_attempts", "requeued", "crash_count", "doubts") == [
        ("pending", 0, 3, 1, 1, 0),
        ("pending", 0, 3, 2, 0, 0),
    ]
    nothing = ("failed_at", "completed_at", "cancelled_at", "cancelled_by", "cancel_reason", "result", "error_message")
    assert read(*nothing, "response_status", "claim_token", "claimed_at", "processor_id") == [(None,) * 11] * 2
    assert (
        read("cancel_requested", "available_at <= SYSDATE()", "updated_at >= created_at") == [(False, True, True)] * 2
    )


def test_copies_of_an_entry_are_changed_together_and_are_one_entry_on_record(sql, operator, insert, read):
    entry = insert(status="failed", failed_at=datetime(2026, 11, 1, tzinfo=UTC).replace(tzinfo=None))
    sql("""
        INSERT INTO PROCESSING_QUEUE (id, data, idempotency_key, status, failed_at, cancelled_at)
        SELECT id, data, idempotency_key, 'cancelled', failed_at, DATEADD('day', 9, failed_at) FROM PROCESSING_QUEUE""")
    of_the_cancel = Selector(since=datetime(2026, 11, 5, tzinfo=UTC).replace(tzinfo=None))
    assert operator.requeue(of_the_cancel, reason=WHY) == 1, "a row that was cancelled has the time of its cancel"
    assert operator.cancel(Selector(status="pending"), reason=WHY) == 1
    assert operator.requeue(Selector(ids=(entry,)), reason=WHY) == 2
    assert read("status") == ["pending"] * 2
    assert operator.reprioritise(Selector(ids=(entry,)), priority=1, reason=WHY) == 2
    assert operator.cancel(Selector(ids=(entry,)), reason=WHY) == 2
    sql("UPDATE PROCESSING_QUEUE SET status = 'failed'")
    assert operator.discard(Selector(ids=(entry,)), reason=WHY) == 2
    listed = sql("SELECT entries FROM PROCESSING_ACTION_ENTRIES JOIN PROCESSING_ACTIONS USING (action_id) ORDER BY 1")
    assert [count for (count,) in listed] == [1, 1, 2, 2, 2, 2], "one row for each action"


REACHED = {
    "requeue": {"failed": "pending", "cancelled": "pending"},
    "cancel": {"pending": "cancelled", "processing": "processing"},
    "discard": {"failed": "cancelled"},
    "reprioritise": {"pending": "pending"},
}


def test_an_action_reaches_its_statuses_and_no_others_and_says_so(sql, operator, insert, read):
    acting = (operator.requeue, operator.cancel, operator.discard, partial(operator.reprioritise, priority=9))
    for act, (name, reached) in zip(acting, REACHED.items(), strict=True):
        ids = tuple(insert(status=status) for status in STATUSES)
        assert act(Selector(ids=ids), reason=WHY) == len(reached)
        assert read("status")[-5:] == [reached.get(status, status) for status in STATUSES]
        expected = [number for number, status in zip(ids, STATUSES, strict=True) if status in reached]
        chosen = f"JOIN PROCESSING_ACTIONS USING (action_id) WHERE action = '{name}' ORDER BY 1"
        recorded = sql(f"SELECT entry_id FROM PROCESSING_ACTION_ENTRIES {chosen}")
        marked = sql(f"SELECT id FROM PROCESSING_QUEUE {chosen}")
        assert [number for (number,) in recorded] == expected == [number for (number,) in marked]
    assert operator.cancel(Selector(ids=(0,)), reason=WHY) == 0
    counts = [len(reached) for reached in REACHED.values()]
    assert actions(sql) == [
        *((name, WHY, n, "TESTER") for name, n in zip(REACHED, counts, strict=True)),
        ("cancel", WHY, 0, "TESTER"),
    ]


def test_a_cancelled_entry_says_when_who_and_why_and_one_in_hand_is_marked(sql, operator, insert, read):
    insert()
    insert(status="processing", claim_token="t", processor_id="p")
    operator.cancel(Selector(reference=None, destination="default"), reason=WHY)
    assert read("status", "cancel_requested", "cancelled_at IS NOT NULL", "cancelled_by", "cancel_reason") == [
        ("cancelled", False, True, "TESTER", WHY),
        ("processing", True, False, "TESTER", WHY),
    ]
    assert read("claim_token") == [None, "t"]
    insert(status="failed", error_message="503", response_status=503)
    operator.discard(Selector(error="%503%"), reason=WHY)
    assert read("status", "error_message", "cancelled_at IS NOT NULL", "cancelled_by", "cancel_reason")[2:] == [
        ("cancelled", "503", True, "TESTER", WHY)
    ]
    insert(priority=1, reference="a")
    assert operator.reprioritise(Selector(reference="a"), priority=50, reason=WHY) == 1
    assert read("priority", "status")[2:] == [(0, "cancelled"), (50, "pending")]
    ((selector,),) = sql("SELECT selector FROM PROCESSING_ACTIONS WHERE action = 'reprioritise'")
    assert json.loads(selector) == {"reference": "a", "priority": 50}


def test_an_entry_in_hand_keeps_its_first_cancel(sql, operator, insert, read):
    entry = insert(status="processing", claim_token="t", processor_id="p")
    assert operator.cancel(Selector(ids=(entry,)), reason="first") == 1
    assert operator.cancel(Selector(ids=(entry,)), reason="second") == 0
    assert read("cancel_requested", "cancel_reason") == [(True, "first")]


def test_a_requeue_keeps_a_time_that_is_still_to_come(sql, operator, insert, read):
    for hours in (5, -5):
        insert(status="cancelled")
        sql(
            "UPDATE PROCESSING_QUEUE SET available_at = DATEADD('hour', ?, SYSDATE())"
            " WHERE id = (SELECT MAX(id) FROM PROCESSING_QUEUE)",
            hours,
        )
    operator.requeue(Selector(status="cancelled"), reason=WHY)
    waits = read("ROUND(DATEDIFF('minute', SYSDATE(), available_at) / 60)")
    assert waits == [5, 0]


def test_a_time_may_be_a_day_or_have_a_fraction(sql, operator, insert):
    at = datetime(2026, 11, 20, 10, 0, 0, 500_000, tzinfo=UTC).replace(tzinfo=None)
    insert(status="failed", failed_at=at)
    for since, until, chosen in (
        ("2026-11-20", "2026-11-21", 1),
        ("2026-11-20T10:00", "2026-11-20 10:00:01", 1),
        ("2026-11-20 10:00:00.5", "2026-11-20 10:01", 1),
        ("2026-11-20 10:00:00.51", "2026-11-21", 0),
        ("2026-11-20", "2026-11-20 10:00:00.500000", 0),
    ):
        selector = json.dumps({"since": since, "until": until})
        assert operator._row("discard", columns=1, selector=selector, reason=WHY)[0] == chosen
        sql("UPDATE PROCESSING_QUEUE SET status = 'failed'")


def test_each_key_of_a_selector_narrows_the_choice(operator, insert, read):
    early, late = (datetime(2026, 11, day, 10, tzinfo=UTC).replace(tzinfo=None) for day in (1, 2))
    fits = {"reference": "order-1", "error_message": "503 here", "destination": "north", "failed_at": early}
    ids = [insert(status="failed", **fits)]
    others = (
        {"reference": "bill-1"},
        {"reference": None},
        {"error_message": "400"},
        {"destination": "south"},
        {"failed_at": late},
        {"failed_at": early - timedelta(seconds=1)},
    )
    ids += [insert(status="failed", **fits | other) for other in others]
    ids.append(insert(status="cancelled", **fits))
    insert(status="failed", **fits)
    chosen = Selector(
        ids=tuple(ids),
        reference="order-%",
        error="%503%",
        destination="north",
        status="failed",
        since=early,
        until=late,
    )
    assert operator.requeue(chosen, reason=WHY) == 1
    assert [number for number, requeued in enumerate(read("requeued"), 1) if requeued] == [1]


NO_OFFSET = "without an offset"
REFUSED = [
    ("requeue", {"selector": '{"idd": [1]}', "reason": WHY}, "the selector has the unknown key idd"),
    ("cancel", {"selector": '{"ids": [1], "Status": "pending"}', "reason": WHY}, "unknown key Status"),
    ("requeue", {"selector": "{}", "reason": WHY}, "the selector is empty: expected ids, reference"),
    ("requeue", {"selector": "", "reason": WHY}, "the selector is no JSON object"),
    ("requeue", {"selector": "id = 1", "reason": WHY}, "the selector is no JSON object"),
    ("requeue", {"selector": "[1]", "reason": WHY}, "the selector is no JSON object"),
    ("requeue", {"selector": "7", "reason": WHY}, "the selector is no JSON object"),
    ("requeue", {"selector": None, "reason": WHY}, "the selector is no JSON object"),
    ("requeue", {"selector": '{"ids": [1]}', "reason": " "}, "the reason is empty"),
    ("requeue", {"selector": '{"ids": [1]}', "reason": None}, "the reason is empty"),
    ("requeue", {"selector": '{"ids": [1]}', "reason": "x" * 1001}, "the reason has more than 1000 characters"),
    ("requeue", {"selector": '{"ids": []}', "reason": WHY}, "ids: expected a list of numbers"),
    ("requeue", {"selector": '{"ids": 1}', "reason": WHY}, "ids: expected a list of numbers"),
    ("requeue", {"selector": '{"ids": ["1"]}', "reason": WHY}, "ids: expected a list of numbers"),
    ("requeue", {"selector": '{"ids": null}', "reason": WHY}, "ids: expected a list of numbers"),
    ("requeue", {"selector": '{"reference": null}', "reason": WHY}, "reference: expected a text"),
    ("requeue", {"selector": '{"error": 503}', "reason": WHY}, "error: expected a text"),
    ("requeue", {"selector": '{"destination": ""}', "reason": WHY}, "destination: expected a text"),
    (
        "requeue",
        {"selector": '{"status": "completed"}', "reason": WHY},
        "status: expected one of failed, cancelled; got completed",
    ),
    ("cancel", {"selector": '{"status": "failed"}', "reason": WHY}, "one of pending, processing; got failed"),
    ("discard", {"selector": '{"status": "fail"}', "reason": WHY}, "status: expected one of failed; got fail"),
    ("requeue", {"selector": '{"since": "yesterday"}', "reason": WHY}, "since: expected a time in UTC, without an"),
    ("requeue", {"selector": '{"until": "2026-11-31"}', "reason": WHY}, "like 2026-11-20 10:00:00; got 2026-11-31"),
    ("cancel", {"selector": '{"until": "2026-11-20 10:00:00 +0200"}', "reason": WHY}, "without an offset"),
    ("cancel", {"selector": '{"since": "2026-11-20T10:00:00Z"}', "reason": WHY}, "without an offset"),
    *(
        (
            "requeue",
            {"selector": f'{{"since": "{text}"}}', "reason": WHY},
            f"since: expected a time in UTC, {NO_OFFSET}",
        )
        for text in ("20261101", "1764547200", "infinity", "epoch", "2026-11-20 10", "2026-13-01", "11/20/2026")
    ),
    ("requeue", {"selector": '{"ids": "[1,2]"}', "reason": WHY}, "ids: expected a list of numbers"),
    (
        "requeue",
        {"selector": '{"status": "failed, cancelled"}', "reason": WHY},
        "one of failed, cancelled; got failed, ",
    ),
    ("requeue", {"selector": '{"ids": [1]}', "reason": "\t\r\n "}, "the reason is empty"),
    ("hold", {"scope": "*", "seconds": 1, "reason": "\n"}, "the reason is empty"),
    ("hold", {"scope": "*", "seconds": 10**12, "reason": WHY}, "the seconds: expected at most 31622400"),
    ("lift", {"scope": "*", "reason": "\t"}, "the reason is empty"),
    ("reprioritise", {"selector": '{"ids": [1]}', "priority": None, "reason": WHY}, "the priority is empty"),
    ("reprioritise", {"selector": '{"status": "failed"}', "priority": 1, "reason": WHY}, "one of pending; got failed"),
    ("hold", {"scope": " ", "seconds": 1, "reason": WHY}, "the scope is empty"),
    ("hold", {"scope": None, "seconds": 1, "reason": WHY}, "the scope is empty"),
    ("hold", {"scope": "Default", "seconds": 1, "reason": WHY}, "the scope: expected * for all, or a destination"),
    ("hold", {"scope": "default ", "seconds": 1, "reason": WHY}, "the first a letter or digit; got default"),
    ("hold", {"scope": "-north", "seconds": 1, "reason": WHY}, "got -north"),
    ("hold", {"scope": "n" * 64, "seconds": 1, "reason": WHY}, "1 to 63 of a-z, 0-9, - and _"),
    ("hold", {"scope": "**", "seconds": 1, "reason": WHY}, "got **"),
    ("hold", {"scope": "*", "seconds": 0, "reason": WHY}, "the seconds: expected more than 0"),
    ("hold", {"scope": "*", "seconds": 1, "reason": ""}, "the reason is empty"),
    ("lift", {"scope": "", "reason": WHY}, "the scope is empty"),
    ("lift", {"scope": "*", "reason": "x" * 1001}, "the reason has more than 1000 characters"),
]


def test_a_refusal_names_what_is_wrong_and_changes_nothing(sql, operator, insert, read):
    for status in STATUSES:
        insert(status=status, reference="a")
    sql("INSERT INTO PROCESSING_HOLDS (reason, created_by) VALUES ('x', 'y')")
    before = read("status", "priority", "updated_at", "action_id")
    for action, values, named in REFUSED:
        with pytest.raises(WarehouseError) as refused:
            operator._row(action, columns=1, **values)
        assert named in str(refused.value)
    assert read("status", "priority", "updated_at", "action_id") == before
    assert len(sql("SELECT * FROM PROCESSING_HOLDS")) == 1
    assert actions(sql) == []


def test_a_hold_stops_claims_until_it_is_lifted_and_a_fence_stays(sql, operator, insert, workers):
    insert()
    assert operator.hold("*", seconds=None, reason=WHY) == 1
    assert operator.hold("default", seconds=60, reason=WHY) == 1
    sql("INSERT INTO PROCESSING_HOLDS (scope, kind, reason, created_by) VALUES ('*', 'fence', 'x', 'y')")
    sql("INSERT INTO PROCESSING_HOLDS (scope, kind, reason, created_by) VALUES ('*', 'credentials', 'x', 'y')")
    rows = sql("SELECT scope, kind, DATEDIFF('second', SYSDATE(), until_at), created_by, reason FROM PROCESSING_HOLDS")
    persons = sorted((row[0], row[2] and 50 <= row[2] <= 60, *row[3:]) for row in rows if row[1] == "person")
    assert persons == [("*", None, "TESTER", WHY), ("default", True, "TESTER", WHY)]
    assert workers().count_ready(probe=False).entries == 0
    assert operator.lift("*", reason=WHY) == 2
    assert sorted(row[0] for row in sql("SELECT scope || kind FROM PROCESSING_HOLDS")) == ["*fence", "defaultperson"]
    assert [row[:3] for row in actions(sql)] == [("hold", WHY, 1), ("hold", WHY, 1), ("lift", WHY, 2)]
    selectors = [json.loads(row[0]) for row in sql("SELECT selector FROM PROCESSING_ACTIONS ORDER BY acted_at")]
    assert selectors == [{"scope": "*"}, {"scope": "default", "seconds": 60}, {"scope": "*"}]


def test_a_hold_takes_each_name_that_a_destination_may_have(sql, operator):
    scopes = ["*", "0", "a-b_9", "n" * 63]
    for scope in scopes:
        assert operator.hold(scope, seconds=60, reason=WHY) == 1
    assert [valid_destination(scope) for scope in scopes[1:]] == scopes[1:]
    assert sorted(scope for (scope,) in sql("SELECT scope FROM PROCESSING_HOLDS")) == scopes


class TestAnActionThatFails:
    """A test that renames tables."""

    @pytest.fixture
    def environ(self, fresh_schema):
        return fresh_schema

    def test_a_statement_that_fails_leaves_nothing_of_the_action(self, sql, operator, insert, read):
        entry = insert(status="failed")
        sql("INSERT INTO PROCESSING_HOLDS (reason, created_by) VALUES ('x', 'y')")
        steps = {
            "PROCESSING_ACTION_ENTRIES": [lambda: operator.requeue(Selector(ids=(entry,)), reason=WHY)],
            "PROCESSING_ACTIONS": [
                lambda: operator.requeue(Selector(ids=(entry,)), reason=WHY),
                lambda: operator.hold("*", seconds=None, reason=WHY),
                lambda: operator.lift("*", reason=WHY),
            ],
            "PROCESSING_HOLDS": [lambda: operator.lift("*", reason=WHY)],
        }
        for table, acts in steps.items():
            sql(f"ALTER TABLE {table} RENAME TO MOVED")
            for act in acts:
                with pytest.raises(WarehouseError, match=table):
                    act()
            sql(f"ALTER TABLE MOVED RENAME TO {table}")
            assert read("status", "requeued", "action_id") == [("failed", 0, None)]
            assert [sql(f"SELECT COUNT(*) FROM {each}")[0][0] for each in steps] == [0, 0, 1]
        assert operator.requeue(Selector(ids=(entry,)), reason=WHY) == 1, "and the session goes on"


def calls():
    """Each CALL that a page tells people to run, with the literals that stand for its values."""
    for page in PAGES:
        for call in re.findall(r"\bCALL [A-Z_]+\([^;`]*\)(?=[;`])", page.read_text(encoding="utf-8")):
            yield page.name, call


def test_the_sql_for_people_is_the_statements_of_the_operator_and_runs(sql, operator, insert):
    known = {text.text for text in statements.statements(queue="", file="operator.sql").values()}
    named = set()
    insert(status="failed")
    for page, call in calls():
        template = re.sub(r"'[^']*'|\b[0-9]+\b|NULL", "?", call)
        assert template in known, f"{page}: {call}"
        if "idd" in call:
            continue  # a page shows what is refused
        assert sql(call)[0][0] >= 0
        named.add(template)
    assert named == known, "the pages show each action"


def test_no_page_tells_people_to_change_entries_or_holds_without_a_record():
    changes = re.compile(
        r"\b(?:UPDATE PROCESSING_QUEUE|DELETE FROM PROCESSING_(?:QUEUE|HOLDS)|INSERT INTO PROCESSING_HOLDS)\b[^`;]*"
    )
    scripts = [path for path in (ROOT / "scripts").iterdir() if path.is_file()]
    found = {page.name: changes.findall(page.read_text(encoding="utf-8")) for page in (*PAGES, *scripts)}
    assert {page: texts for page, texts in found.items() if texts} == {}
