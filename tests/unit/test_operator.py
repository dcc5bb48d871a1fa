"""What a person asks: the selector's JSON, and the one statement of each action."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from rowqueue import sql
from rowqueue.errors import WarehouseUnavailable
from rowqueue.operator import Operator, Selector

ACTIONS = (Path(__file__).parents[2] / "snowflake" / "03_actions.sql").read_text(encoding="utf-8")
STATEMENTS = sql.statements(queue="", file="operator.sql")
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC).replace(tzinfo=None)


class AskedWarehouse:
    """Answers every statement with one row, and writes down what was asked."""

    def __init__(self, *rows):
        self.answer = list(rows)
        self.asked = []

    def rows(self, statement, values):
        self.asked.append((statement.name, dict(values)))
        return self.answer

    def change(self, statement, values):
        raise AssertionError("an action answers with a row")


def test_a_selector_has_the_keys_that_were_given_and_no_others():
    given = Selector(ids=(1, 2), reference="o%", status="failed", error="%x%", destination="d", since=NOON, until=NOON)
    assert json.loads(given.as_json()) == {
        "ids": [1, 2],
        "reference": "o%",
        "status": "failed",
        "error": "%x%",
        "destination": "d",
        "since": "2026-11-20 12:00:00.000000",
        "until": "2026-11-20 12:00:00.000000",
    }
    assert Selector().as_json() == "{}"
    assert Selector(ids=()).as_json() == '{"ids": []}', "the procedure refuses it, and does not take all entries"


@pytest.mark.parametrize(
    ("act", "name", "values"),
    [
        (lambda o, s: o.requeue(s, reason="r"), "requeue", {}),
        (lambda o, s: o.cancel(s, reason="r"), "cancel", {}),
        (lambda o, s: o.discard(s, reason="r"), "discard", {}),
        (lambda o, s: o.reprioritise(s, priority=5, reason="r"), "reprioritise", {"priority": 5}),
        (lambda o, _: o.hold("*", seconds=None, reason="r"), "hold", {"scope": "*", "seconds": None}),
        (lambda o, _: o.lift("d", reason="r"), "lift", {"scope": "d"}),
    ],
)
def test_each_action_is_one_statement_with_the_values_that_it_binds(act, name, values):
    warehouse = AskedWarehouse((7,))
    selector = Selector(status="failed")
    assert act(Operator(warehouse), selector) == 7
    chosen = {} if "scope" in values else {"selector": selector.as_json()}
    assert warehouse.asked == [(name, {**chosen, **values, "reason": "r"})]
    assert set(STATEMENTS[name].parameters) == set(warehouse.asked[0][1])


def test_the_lab_acts_as_an_operator_and_sends_no_call_of_its_own():
    lab = Path(__file__).parents[2] / "local" / "src" / "rowqueue_local"
    texts = {path.name: path.read_text(encoding="utf-8") for path in lab.rglob("*.py")}
    assert not re.findall(r"CALL [A-Z]+_(?:ENTRIES|DESTINATION|HOLD)\(.*", "\n".join(texts.values()))
    assert [name for name, text in texts.items() if "rowqueue.operator import" in text] == ["cancel.py"]
    assert "QUEUE_DB_OPERATOR" in texts["cancel.py"]


def test_an_answer_that_is_no_answer_of_snowflake_is_not_taken_for_a_number():
    with pytest.raises(WarehouseUnavailable, match="one row"):
        Operator(AskedWarehouse()).lift("*", reason="r")


@pytest.mark.parametrize("name", STATEMENTS)
def test_each_statement_calls_a_procedure_with_its_arguments_in_their_order(name):
    statement = STATEMENTS[name]
    (called,) = re.findall(r"^CALL (\w+)\((?:\?(?:, )?)+\)$", statement.text)
    (parameters,) = re.findall(rf"PROCEDURE {called}\((.*)\)\n", ACTIONS)
    assert tuple(re.findall(r"(\w+) (?:VARCHAR|NUMBER)", parameters)) == statement.parameters


CREATED = "created_at"
ENDED = "COALESCE(cancelled_at, failed_at)"
CHOOSES = {
    "REQUEUE_ENTRIES": ("failed, cancelled", "status IN ('failed', 'cancelled')", ENDED),
    "CANCEL_ENTRIES": (
        "pending, processing",
        "(status = 'pending' OR status = 'processing' AND NOT cancel_requested)",
        CREATED,
    ),
    "DISCARD_ENTRIES": ("failed", "status = 'failed'", "failed_at"),
    "REPRIORITISE_ENTRIES": ("pending", "status = 'pending'", CREATED),
}


def test_the_actions_that_choose_entries_differ_only_in_their_statuses_and_times():
    bodies = dict(re.findall(r"PROCEDURE (\w+_ENTRIES)\(.*?\n\$\$\n(.*?)\n\$\$;", ACTIONS, re.DOTALL))
    assert set(bodies) == set(CHOOSES)
    alike = set()
    for name, body in bodies.items():
        (checked,) = re.findall(r"CALL CHECK_ACTION\(:selector, :reason, '([^']+)'\);", body)
        chosen = body[body.index("FROM (SELECT wanted") :]
        (statuses,) = re.findall(r"WHERE (\(?status .*)\n", chosen.partition("INSERT")[0])
        (since,) = re.findall(r"\(chosen\.earliest IS NULL OR (.+) >= chosen\.earliest\)", chosen)
        (until,) = re.findall(r"\(chosen\.latest IS NULL OR (.+) < chosen\.latest\)", chosen)
        assert (checked, statuses, since) == CHOOSES[name]
        assert since == until
        for own, common in {
            f"WHERE {statuses}\n": "WHERE statuses\n",
            f"OR {since} ": "OR time ",
            f"'{name.partition('_')[0].lower()}'": "'action'",
            "TO_JSON(OBJECT_INSERT(PARSE_JSON(:selector)::OBJECT, 'priority', :priority))": ":selector",
        }.items():
            chosen = chosen.replace(own, common)
        alike.add(re.sub(r"\s+", " ", chosen))
    assert len(alike) == 1


def test_a_time_with_an_offset_is_no_time_of_a_selector():
    (pattern,) = re.findall(
        r"'since', 'until'\)\s+AND NOT \(REGEXP_LIKE\(given\.value::VARCHAR,\s+'([^']+)'\)", ACTIONS
    )
    given = Selector(since=NOON).since.isoformat(sep=" ", timespec="microseconds")
    times = (given, "2026-11-20 10:00:00", "2026-11-20T10:00:00.123", "2026-11-20 10:00", "2026-11-20")
    others = ("2026-11-20T10:00:00Z", "2026-11-20 10:00:00 +0200", "2026-11-20T10:00:00-01:00", "1795168800", "20 Nov")
    assert [bool(re.fullmatch(pattern, text)) for text in (*times, *others)] == [True] * 5 + [False] * 5
