"""The stored procedures of the Snowflake stand-in: what is read, what runs, and what is left after a failure."""

from __future__ import annotations

import asyncio

import pytest

from rowqueue_local.snowflake.failures import Failure
from rowqueue_local.snowflake.procedures import (
    Called,
    Procedures,
    called,
    expression_with_values,
    rendered_literal,
    with_values,
)
from rowqueue_local.snowflake.scripting import ProcedureRun

PLACE = ("DB", "PUBLIC")


def created(body, *, parameters="a NUMBER(38, 0), b VARCHAR", name="p"):
    return f"CREATE OR REPLACE PROCEDURE {name}({parameters})\nRETURNS NUMBER(38, 0)\nLANGUAGE SQL\nAS\n$$\n{body}\n$$;"


class ScriptedSession:
    """Answers each statement as the test says, and writes down what was asked."""

    def __init__(self, **answers):
        self.in_transaction = False
        self.answers = answers
        self.sent = []

    async def rows(self, text):
        self.sent.append(text)
        for part, answer in self.answers.items():
            if part in text:
                if isinstance(answer, Exception):
                    raise answer
                return answer
        return [(1,)]

    async def begin(self):
        self.in_transaction = True
        self.sent.append("BEGIN")

    async def commit(self):
        self.in_transaction = False
        self.sent.append("COMMIT")

    async def rollback(self):
        if self.in_transaction:
            self.sent.append("ROLLBACK")
        self.in_transaction = False


def play(session, *texts, arguments=(1, "x"), name="P"):
    procedures = Procedures(None)
    for text in texts:
        procedures.create(text, PLACE)

    def find(wanted):
        return procedures.find(wanted, PLACE)[0]

    procedure = find(Called(name=(name,), arguments=("",) * len(arguments)))
    return asyncio.run(ProcedureRun(session, find).call(procedure, arguments))


BROKEN = Failure(100, "22000", "it broke")
GUARDED = """
DECLARE
    n NUMBER(38, 0) DEFAULT 5;
BEGIN
    BEGIN
        BEGIN TRANSACTION;
        UPDATE q SET v = :b WHERE id = :a AND n = :n;
        COMMIT;
    EXCEPTION
        WHEN OTHER THEN
            ROLLBACK;
            RAISE;
    END;
    RETURN n;
END;
"""


def test_a_procedure_binds_its_arguments_and_variables_and_returns_a_value():
    session = ScriptedSession(**{"SELECT 5": [(5,)]})
    assert play(session, created(GUARDED), arguments=(7, "it's")) == 5
    assert session.sent == ["SELECT 5", "BEGIN", "UPDATE q SET v = 'it''s' WHERE id = 7 AND n = 5", "COMMIT"]


def test_a_failed_statement_rolls_back_and_is_raised_again_with_its_place_and_number():
    session = ScriptedSession(UPDATE=BROKEN)
    with pytest.raises(Failure) as failure:
        play(session, created(GUARDED))
    assert session.sent[-1] == "ROLLBACK"
    assert failure.value.errno == 100
    expected = "Uncaught exception of type 'STATEMENT_ERROR' on line 8 at position 8 : it broke"
    assert failure.value.message == expected


def test_what_a_procedure_leaves_open_is_rolled_back_with_an_error():
    session = ScriptedSession()
    with pytest.raises(Failure, match="incomplete"):
        play(session, created("BEGIN\n BEGIN TRANSACTION;\n RETURN 1;\nEND;"))
    assert session.sent[-1] == "ROLLBACK"


def test_a_failure_without_a_handler_rolls_back_what_the_procedure_began():
    session = ScriptedSession(UPDATE=BROKEN)
    with pytest.raises(Failure, match="it broke"):
        play(session, created("BEGIN\n BEGIN TRANSACTION;\n UPDATE q SET a = 1;\n COMMIT;\nEND;"))
    assert session.sent[-1] == "ROLLBACK"


def test_a_transaction_of_the_caller_stays_open_after_a_procedure_without_one():
    session = ScriptedSession()
    session.in_transaction = True
    play(session, created("BEGIN\n UPDATE q SET a = 1;\n RETURN 1;\nEND;"))
    assert session.in_transaction


def test_a_transaction_inside_the_one_of_the_caller_is_refused_because_the_engine_has_none():
    session = ScriptedSession()
    session.in_transaction = True
    with pytest.raises(Failure, match="COMMIT or ROLLBACK it first"):
        play(session, created(GUARDED))
    assert "UPDATE" not in " ".join(session.sent)


def test_a_procedure_calls_another_one_and_reads_into_a_variable():
    inner = created("BEGIN\n SELECT x INTO :a FROM t;\n RETURN a;\nEND;", name="inner_one", parameters="a NUMBER")
    outer = created("DECLARE\n m NUMBER;\nBEGIN\n CALL inner_one(:a);\n m := a + 1;\n RETURN :m;\nEND;")
    session = ScriptedSession(
        **{"SELECT x": [(9,)], "SELECT 1 + 1": [(2,)], "SELECT 1": [(1,)], "SELECT NULL": [(None,)]}
    )
    assert play(session, inner, outer) == 2
    assert "SELECT x  FROM t" in session.sent


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ("BEGIN\n WHILE (TRUE) DO\n END WHILE;\nEND;", "WHILE"),
        ("BEGIN\n EXECUTE IMMEDIATE 'DROP TABLE q';\nEND;", "EXECUTE"),
        ("BEGIN\n RETURN 1\nEND", "semicolon"),
        ("BEGIN\n RETURN 1;\n", "the end instead of END"),
        ("BEGIN\n RETURN 1;\nEND; SELECT 1;", "text after the last END"),
    ],
)
def test_what_the_stand_in_cannot_run_is_refused_when_the_procedure_is_created(body, what):
    with pytest.raises(Failure, match=what):
        Procedures(None).create(created(body), PLACE)


@pytest.mark.parametrize("option", ["LANGUAGE PYTHON", "LANGUAGE SQL EXECUTE AS CALLER"])
def test_only_sql_with_the_rights_of_the_owner_is_supported(option):
    text = created("BEGIN\n RETURN 1;\nEND;").replace("LANGUAGE SQL", option)
    with pytest.raises(Failure, match="not supported"):
        Procedures(None).create(text, PLACE)


def test_an_unknown_procedure_is_unknown_also_with_another_number_of_arguments():
    procedures = Procedures(None)
    procedures.create(created("BEGIN\n RETURN 1;\nEND;"), PLACE)
    assert procedures.find(called("CALL db.public.p(1, 'x, y')"), PLACE)[0].parameters == ("A", "B")
    for text in ("CALL p(1)", "CALL q(1, 2)", "CALL other.p(1, 2)"):
        with pytest.raises(Failure, match="Unknown user-defined function") as failure:
            procedures.find(called(text), PLACE)
        assert failure.value.errno == 2141


def test_create_without_or_replace_keeps_the_one_that_is_there():
    procedures, text = Procedures(None), created("BEGIN\n RETURN 1;\nEND;")
    procedures.create(text, PLACE)
    with pytest.raises(Failure, match="already exists"):
        procedures.create(text.replace("OR REPLACE ", ""), PLACE)


def test_procedures_are_there_again_after_a_restart(tmp_path):
    path = tmp_path / "procedures.json"
    Procedures(path).create("-- about it\n" + created("BEGIN\n RETURN 1;\nEND;"), PLACE)
    assert Procedures(path).find(called("call P(?, ?);"), PLACE)[0].name == "P"


def test_only_variables_get_values_and_neither_paths_nor_casts_nor_texts():
    text = "SELECT ':a', x:a::NUMBER, y[0]:a, :a, ',:b' FROM t WHERE \"c:a\" = :b"
    expected = "SELECT ':a', x:a::NUMBER, y[0]:a, 1, ',:b' FROM t WHERE \"c:a\" = 'two'"
    assert with_values(text, {"A": 1, "B": "two"}) == expected
    assert expression_with_values("a + :b + t.a + x:a", {"A": 1, "B": 2}) == "1 + 2 + t.a + x:a"
    with pytest.raises(Failure, match="invalid identifier 'c'"):
        with_values("SELECT :c", {})


@pytest.mark.parametrize(
    ("value", "literal"), [(None, "NULL"), (True, "TRUE"), (3, "3"), ("a'b\\c", "'a''b\\\\c'"), ("", "''")]
)
def test_a_value_becomes_a_literal(value, literal):
    assert rendered_literal(value) == literal
