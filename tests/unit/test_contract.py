"""What separate processes agree on: the same words in the program, the SQL, the Terraform and the documents."""

from __future__ import annotations

import re
from dataclasses import fields
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rowqueue import contract, sql
from rowqueue.contract import AttemptOutcome, ExitCode, HoldKind, ProcessorEvent
from rowqueue.settings import ProcessorSettings

ROOT = Path(__file__).parents[2]
STATEMENTS = {name: statement.text for name, statement in sql.statements(queue="PROCESSING_QUEUE").items()}
TABLES = (ROOT / "snowflake" / "01_create_table.sql").read_text(encoding="utf-8")
VIEWS = (ROOT / "snowflake" / "03_monitoring_views.sql").read_text(encoding="utf-8")
TASK = "0123456789abcdef" * 2


def words(text):
    return set(re.findall(r"'(\w+)'", text))


def compared(column, text):
    """The words that a column is compared with."""
    return {word for found in re.findall(rf"\b{column} (?:=|IN) (\([^)]*\)|'\w+')", text) for word in words(found)}


# Exit codes


@pytest.mark.parametrize("document", ["README.md", "docs/architecture.md"])
def test_the_table_of_exit_codes_has_each_code_with_its_sentence(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    (table,) = re.findall(r"^\| (?:exit )?code \| meaning \|\n\| --- \| --- \|\n((?:\|.*\n)+)", text, re.MULTILINE)
    assert table.splitlines() == [f"| {int(code)} | {code.meaning} |" for code in ExitCode], "see rowqueue.contract"


@pytest.mark.parametrize(
    ("code", "crash", "failed_launch", "counts"),
    [
        (ExitCode.DONE, False, False, False),
        (ExitCode.FAULT, True, False, False),
        (ExitCode.SETTINGS, False, False, False),
        (ExitCode.CERTIFICATES, False, True, False),
        (ExitCode.CREDENTIALS_STOP, False, True, False),
        (ExitCode.NO_ANSWER, False, False, False),
        (ExitCode.NO_SNOWFLAKE, False, True, True),
        (137, True, False, False),  # SIGKILL
        (None, False, False, False),  # the container never ran
    ],
)
def test_an_exit_code_says_whether_it_is_a_crash_a_failed_launch_or_a_retry(code, crash, failed_launch, counts):
    number = None if code is None else int(code)
    assert ExitCode.is_crash(number) == crash
    assert ExitCode.is_failed_launch(number) == failed_launch
    assert ExitCode.counts_as_retry(number) == counts


def test_exit_codes_keep_their_numbers():
    assert [int(code) for code in ExitCode] == [0, 1, 2, 3, 4, 5, 6]


# The processor's id


def test_the_id_of_a_processor_leads_from_its_rows_to_its_task():
    name = contract.processor_id("dev", f"arn:aws:ecs:eu-west-1:1:task/cluster/{TASK}")
    assert name == f"dev-{TASK}"
    assert contract.task_id(name, "dev") == TASK


@pytest.mark.parametrize("name", [f"prod-{TASK}", "dev-laptop", "dev", f"dev-{TASK}0", f"dev-{TASK.upper()}", "", None])
def test_the_id_of_another_worker_names_no_task_of_ours(name):
    assert contract.task_id(name, "dev") is None


@given(environment=st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True), number=st.integers(0, 2**128 - 1))
def test_an_id_that_was_made_is_parsed_whatever_the_environment_is_called(environment, number):
    made = contract.processor_id(environment, f"arn:aws:ecs:eu-west-1:1:task/cluster/{number:032x}")
    assert contract.task_id(made, environment) == f"{number:032x}"


# What a launch writes and a processor reads


def test_a_processor_reads_the_variables_that_a_launch_overrides():
    read = {field.metadata.get("name") for field in fields(ProcessorSettings)}
    assert {contract.MAX_ENTRIES, contract.PROBE} <= read


def test_terraform_gives_the_container_the_name_that_overrides_refer_to():
    text = (ROOT / "terraform" / "ecs.tf").read_text(encoding="utf-8")
    assert re.search(rf'^\s+name\s+= "{contract.CONTAINER}"$', text, re.MULTILINE)


# Words in the tables


def test_the_views_know_each_outcome_and_no_other():
    assert compared("outcome", VIEWS) == set(AttemptOutcome)


def test_the_poller_records_deaths_and_resets_in_words_of_the_audit_trail():
    (died,) = re.findall(r"IFF\((.*)\) AS outcome", STATEMENTS["record_deaths"])
    assert words(died) == {AttemptOutcome.CRASHED, AttemptOutcome.INTERRUPTED}
    assert AttemptOutcome.RESET in words(STATEMENTS["record_resets"])


def test_what_is_asked_about_processors_is_what_they_record():
    assert compared("event", VIEWS) == {ProcessorEvent.ENDED}
    assert compared("event", STATEMENTS["recent_take"]) == {ProcessorEvent.ENDED}


def test_the_tables_name_the_words_of_their_columns():
    *first, last = AttemptOutcome
    assert f"COMMENT '{', '.join(first)} or {last}'" in TABLES
    (comment,) = re.findall(r"^    event .*COMMENT '(.*)'", TABLES, re.MULTILINE)
    assert set(ProcessorEvent) <= set(re.findall(r"\w+", comment))
    *first, last = HoldKind
    assert f"COMMENT 'Who placed it: {', '.join(first)} or {last}'" in TABLES


def test_the_statements_know_the_kinds_of_holds():
    assert compared("kind", STATEMENTS["pulse"]) == {HoldKind.FENCE}
    assert HoldKind.CREDENTIALS in words(STATEMENTS["place_hold"])
    assert "kind <> 'fence'" in STATEMENTS["lift_ended_holds"]


@pytest.mark.parametrize("word", [*AttemptOutcome, *HoldKind, *ProcessorEvent])
def test_each_word_fits_its_column(word):
    assert len(word) <= 20


# The answer of a tick


def test_the_answer_of_a_tick_names_the_tasks_and_their_processors():
    arn = f"arn:aws:ecs:eu-west-1:1:task/cluster/{TASK}"
    hold = contract.HoldAnswer(reason="maintenance", until=None)
    answer = contract.tick_answer(
        environment="dev",
        pending=9,
        ready=None,
        reason="a hold stands",
        hold=hold,
        next_due_at=datetime.fromisoformat("2026-11-20T12:00:30.999"),
        stale_reset=2,
        rescued=3,
        started=[arn],
    )
    assert answer == {
        "pendingEntries": 9,
        "readyEntries": None,
        "reason": "a hold stands",
        "hold": {"reason": "maintenance", "until": None},
        "nextDueAt": "2026-11-20T12:00:30Z",
        "staleEntriesReset": 2,
        "entriesRescued": 3,
        "containersLaunched": 1,
        "tasks": [{"taskArn": arn, "processorId": f"dev-{TASK}"}],
    }
