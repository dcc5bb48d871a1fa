"""What a migration plans, and that it goes on after a break at each of its statements."""

from __future__ import annotations

import contextlib
import re
from dataclasses import replace

import pytest
from click.testing import CliRunner

from rowqueue import contract
from rowqueue.cli import agreement
from rowqueue.errors import SchemaError, StatementRefused, WarehouseUnavailable
from rowqueue.migrate import adoption, runner, scripts
from rowqueue.migrate.plan import FoundTables, plan_of
from rowqueue.settings import STATEMENT_TIMEOUT_S

SKETCH = dict.fromkeys(("DATA", "STATUS", "PROCESSOR_ID", "ERROR_MESSAGE"), "TEXT") | {
    "ID": "NUMBER",
    "RETRY_COUNT": "NUMBER",
    **dict.fromkeys(("CREATED_AT", "CLAIMED_AT", "COMPLETED_AT", "FAILED_AT"), "TIMESTAMP_NTZ"),
}
NEXT = """-- fence: why
ALTER TABLE PROCESSING_QUEUE ADD COLUMN IF NOT EXISTS shade VARCHAR;
ALTER TABLE PROCESSING_QUEUE ADD COLUMN colour VARCHAR NOT NULL DEFAULT 'red';
INSERT INTO SCHEMA_VERSION (version, oldest_program, applied_by) SELECT 2, 2, CURRENT_USER();
"""


class PlayedSchema:
    """A schema: the columns and the rows of each table, and what the statements of a migration do to them.

    A row is a text. Each copy of it gets a stroke.
    """

    def __init__(self, tables=()):
        self.columns = {name: dict(columns) for name, columns in dict(tables).items()}
        self.rows_of = dict.fromkeys(self.columns, ("row 1", "row 2"))
        self.versions, self.fences, self.changes = [1] * ("SCHEMA_VERSION" in self.columns), {}, []
        self.statuses = {"pending": 2}
        self.broken_rows, self.queue, self.oldest_program = {}, None, None
        self.before_change = {}
        self.breaks_off_at = None
        self.answer_is_lost = False

    def rows(self, statement, values):
        version = max(self.versions, default=0)
        answers = {
            "place": [("DB", "SCHEMA")],
            "columns": [(table, *column) for table, columns in self.columns.items() for column in columns.items()],
            "version": [(version, version if self.oldest_program is None else self.oldest_program)],
            "queue_on_record": [(self.queue,)],
            "fences": [(by, 10) for by in self.fences],
            "statuses": list(self.statuses.items()),
            "broken_rows": [self.broken_rows.get(statement.text.partition("WHERE ")[2], (0, None))],
            "largest_id": [(4711,)],
        }
        return answers[statement.name]

    def change(self, statement, values):
        if another := self.before_change.pop(len(self.changes), None):
            another()
        breaks_off = self.breaks_off_at == len(self.changes)
        if not breaks_off or self.answer_is_lost:
            self.changes.append(statement.name)
            self._change(statement, values)
        if breaks_off:
            self.breaks_off_at = None
            raise WarehouseUnavailable("broken off")
        return 0

    def _change(self, statement, values):
        text = statement.text
        match statement.name:
            case "place_fence":
                self.fences.setdefault(values["created_by"], values["reason"])
            case "lift_fence":
                if max(self.versions, default=0) >= values["version"]:
                    self.fences.pop(values["created_by"], None)
            case "fill" | "fill_late":
                to, source = re.match(r"INSERT INTO (\w+) .*?\n  FROM (\w+)", text, re.DOTALL).groups()
                if not {to, source} <= set(self.columns):
                    raise StatementRefused(f"{to} or {source} does not exist")
                copied = tuple(f"{row}'" for row in self.rows_of[source])
                late = statement.name == "fill_late"
                self.rows_of[to] += tuple(row for row in copied if not late or row not in self.rows_of[to])
            case "keep" | "take_place":
                first, second = re.match(r"ALTER TABLE (\w+) RENAME TO (\w+)$", text).groups()
                if first not in self.columns or second in self.columns:
                    raise StatementRefused(f"{first} does not exist, or {second} does")
                for kept in (self.columns, self.rows_of):
                    kept[second] = kept.pop(first)
            case "drop":
                name = text.removeprefix("DROP TABLE IF EXISTS ")
                self.columns.pop(name, None)
                self.rows_of.pop(name, None)
            case _:
                self._run_script(text)

    def _run_script(self, text):
        if created := re.match(r"CREATE TRANSIENT TABLE (IF NOT EXISTS )?(\w+) ", text):
            if created[2] in self.columns and not created[1]:
                raise StatementRefused(f"{created[2]} exists")
            if created[2] not in self.columns:
                self.columns[created[2]] = dict.fromkeys(re.findall(r"(?m)^    (\w+)", text.upper()), "TEXT") | {
                    "ID": "NUMBER"
                }
                self.rows_of[created[2]] = ()
                self.start = re.search(r"START (\d+)", text)
        elif inserted := re.match(r"INSERT INTO SCHEMA_VERSION .*?SELECT (\d+)", text, re.DOTALL):
            self.versions.append(int(inserted[1]))
            if name := re.search(r"CURRENT_USER\(\), '(\w+)'", text):
                self.queue = self.queue or name[1]
        elif added := re.match(r"ALTER TABLE (\w+) ADD COLUMN (IF NOT EXISTS )?(\w+)", text):
            assert added[2] or added[3].upper() not in self.columns[added[1]], "the column exists"
            self.columns[added[1]][added[3].upper()] = "TEXT"


def migrate(schema, *, later=None, brought=None, **options):
    slept = []
    report = runner.migrate(
        schema,
        brought or scripts.read(later=later),
        queue="PROCESSING_QUEUE",
        tell=lambda line: None,
        sleep=slept.append,
        **options,
    )
    return report, slept


@pytest.fixture
def later(tmp_path):
    (tmp_path / "0002_colour.sql").write_text(NEXT)
    return tmp_path


FIRST = {
    table: dict.fromkeys(scripts.columns(create), "TEXT") | {"ID": "NUMBER"}
    for table, create in scripts.read().tables.items()
}
EARLY = {
    table: {column: kind for column, kind in columns.items() if column not in {"TRACEPARENT", "KIND"}}
    for table, columns in FIRST.items()
    if table != "PROCESSING_ACTIONS"
}
"""Tables of version 1 that were made before the first release was finished."""
BEFORE = {
    "version 1 without some columns and a table": EARLY,
    "sketch": {"PROCESSING_QUEUE": SKETCH},
    "two older tables": {"PROCESSING_QUEUE": SKETCH, "PROCESSING_HOLDS": {"SCOPE": "TEXT", "REASON": "TEXT"}},
    "nothing": {},
}


@pytest.mark.parametrize("answer_is_lost", [False, True])
@pytest.mark.parametrize("name", BEFORE)
def test_a_run_goes_on_after_a_break_at_each_statement_in_turn(name, answer_is_lost, later):
    whole = PlayedSchema(BEFORE[name])
    migrate(whole, later=later)
    assert len(whole.changes) > 15
    for broken_at in range(len(whole.changes)):
        schema = PlayedSchema(BEFORE[name])
        schema.breaks_off_at, schema.answer_is_lost = broken_at, answer_is_lost
        with pytest.raises(WarehouseUnavailable):
            migrate(schema, later=later)
        migrate(schema, later=later)
        assert (schema.columns, schema.rows_of, max(schema.versions)) == (whole.columns, whole.rows_of, 2), broken_at
        assert schema.fences == {}
        assert migrate(schema, later=later)[0].as_json() == {"from": 2, "to": 2, "applied": [], "pending": []}


def test_tables_of_version_1_that_lack_something_are_made_complete_and_complete_ones_are_left_alone():
    schema = PlayedSchema(EARLY)
    report, _ = migrate(schema)
    assert report.as_json() == {
        "from": 1,
        "to": 1,
        "applied": [
            *(f"adopt {name}" for name in ("PROCESSING_QUEUE", "PROCESSING_HOLDS")),
            "0001_create_table",
        ],
        "pending": [],
    }
    assert {table: set(columns) for table, columns in schema.columns.items() if table in FIRST} == {
        table: set(columns) for table, columns in FIRST.items()
    }
    assert migrate(PlayedSchema(FIRST))[0].applied == []


def test_tables_of_a_later_version_are_not_compared_with_the_first(later):
    found = FoundTables(tables=EARLY, version=2, fences={})
    assert plan_of(found, scripts.read(later=later), queue="PROCESSING_QUEUE").names == []


def test_the_first_new_id_is_far_above_the_largest_old_one():
    schema = PlayedSchema(BEFORE["sketch"])
    schema.breaks_off_at = 1
    with pytest.raises(WarehouseUnavailable):
        migrate(schema)
    assert int(schema.start[1]) >= 4711 + 1_000_000


def test_a_fence_stands_from_before_the_first_statement_until_the_version_is_on_record(later):
    schema = PlayedSchema()
    _, slept = migrate(schema, later=later)
    assert schema.changes.index("place_fence") < schema.changes.index("0002_colour.sql, statement 1")
    assert schema.changes.index("0002_colour.sql, statement 3") + 1 == schema.changes.index("lift_fence")
    assert slept == [runner.FENCE_S]


def test_a_run_after_a_break_waits_only_for_the_rest_of_the_fences_time(later):
    schema = PlayedSchema()
    migrate(schema)
    schema.fences["migration 0002"] = "why"  # for 10 seconds
    assert migrate(schema, later=later)[1] == [runner.FENCE_S - 10]


def test_a_fence_that_was_left_behind_is_lifted_when_nothing_is_to_do():
    schema = PlayedSchema()
    migrate(schema)
    schema.fences |= {"migration 0001": "done", "migration 0002": "of a newer program"}
    lifted = ["lift the fence of migration 0001"]
    assert migrate(schema, dry_run=True)[0].pending == lifted
    assert migrate(schema)[0].applied == lifted
    assert list(schema.fences) == ["migration 0002"]


def test_a_fence_of_a_migration_that_this_program_does_not_know_is_named():
    schema = PlayedSchema()
    migrate(schema)
    schema.fences["migration 0002"] = "of a newer program"
    for dry_run in (False, True):
        report, _ = migrate(schema, dry_run=dry_run)
        assert [line.startswith("the fence of migration 0002 stands") for line in report.warnings] == [True]
        assert "nothing to do" not in report.in_one_line()


def test_a_fence_stays_as_long_as_older_programs_may_claim(later):
    schema = PlayedSchema()
    migrate(schema, later=later)
    schema.fences["migration 0002"] = "why"
    schema.oldest_program = 1
    report, _ = migrate(schema, later=later)
    assert list(schema.fences) == ["migration 0002"]
    assert report.warnings


@pytest.mark.parametrize(
    ("last", "said"),
    [
        ("SELECT 2, 1, CURRENT_USER()", "raises oldest_program to 2, got 1"),
        ("SELECT 3, 2, CURRENT_USER()", "inserts 2 as the version"),
        ("SELECT 2, 2, CURRENT_USER(); DELETE FROM PROCESSORS", "inserts 2 as the version"),
    ],
)
def test_a_migration_that_does_not_record_what_it_has_to_is_refused_before_anything_runs(tmp_path, last, said):
    (tmp_path / "0002_colour.sql").write_text(NEXT.replace("SELECT 2, 2, CURRENT_USER()", last))
    with pytest.raises(SchemaError, match=said):
        scripts.read(later=tmp_path)
    unfenced = NEXT.replace("SELECT 2, 2,", "SELECT 2, 1,").partition("\n")[2]
    (tmp_path / "0002_colour.sql").write_text(unfenced)
    assert scripts.read(later=tmp_path).newest == 2


def test_the_fence_stands_for_longer_than_any_statement_of_a_program():
    assert runner.FENCE_S > STATEMENT_TIMEOUT_S


def adopted_once(schema):
    """The old rows are in the queue, each copied once, and in the table that was kept."""
    assert schema.rows_of["PROCESSING_QUEUE"] == ("row 1'", "row 2'")
    assert schema.rows_of["PROCESSING_QUEUE_BEFORE_1"] == ("row 1", "row 2")
    assert not [name for name in schema.columns if "ADOPTING" in name or name.endswith("_BEFORE_1_2")]


def test_nothing_is_done_if_another_run_has_migrated_while_the_question_stood():
    schema = PlayedSchema(BEFORE["sketch"])

    def agree(lines):
        migrate(schema)
        schema.changes.clear()
        return True

    with pytest.raises(SchemaError, match="have changed since"):
        migrate(schema, agree=agree)
    assert schema.changes == []
    adopted_once(schema)


@pytest.mark.parametrize("first_breaks_off", [False, True])
@pytest.mark.parametrize("name", ["sketch", "two older tables"])
def test_of_two_runs_at_once_one_adopts_wherever_the_other_begins_or_stops(name, first_breaks_off):
    brought = replace(scripts.read(), repeated=())
    whole = PlayedSchema(BEFORE[name])
    migrate(whole, brought=brought)
    count = whole.changes.index("01_create_table.sql, statement 2")
    for begins_at in range(count):
        for stops_after in (*range(count), None):
            schema = PlayedSchema(BEFORE[name])

            def another(schema=schema, begins_at=begins_at, stops_after=stops_after):
                if stops_after is not None:
                    schema.breaks_off_at = begins_at + stops_after
                with contextlib.suppress(SchemaError, WarehouseUnavailable):
                    migrate(schema, brought=brought)
                schema.breaks_off_at = len(schema.changes) if first_breaks_off else None

            schema.before_change[begins_at] = another
            with contextlib.suppress(SchemaError, StatementRefused, WarehouseUnavailable):
                migrate(schema, brought=brought)
            schema.breaks_off_at = None
            migrate(schema, brought=brought)
            adopted_once(schema)
            assert schema.columns == whole.columns
            assert migrate(schema, brought=brought)[0].applied == []


def test_a_run_stops_if_another_one_has_adopted_the_table_and_the_old_one_is_dropped_already():
    schema = PlayedSchema(BEFORE["sketch"])

    def another():
        migrate(schema)
        for kept in (schema.columns, schema.rows_of):
            del kept["PROCESSING_QUEUE_BEFORE_1"]

    schema.before_change[0] = another
    with pytest.raises(SchemaError, match="another run works on it"):
        migrate(schema)
    assert schema.rows_of["PROCESSING_QUEUE"] == ("row 1'", "row 2'")


def test_a_migration_that_another_run_applied_during_the_wait_is_not_repeated(later):
    schema = PlayedSchema()
    migrate(schema)
    changes = schema.changes

    def sleep(_):
        runner.migrate(
            schema,
            scripts.read(later=later),
            queue="PROCESSING_QUEUE",
            tell=lambda line: None,
            sleep=lambda _: changes.clear(),
        )
        changes.clear()

    runner.migrate(schema, scripts.read(later=later), queue="PROCESSING_QUEUE", tell=lambda line: None, sleep=sleep)
    assert not [change for change in changes if change.startswith("0002")]
    assert schema.fences == {}


def test_a_copy_that_was_left_behind_is_named_and_dropped_also_with_a_version_on_record():
    schema = PlayedSchema()
    migrate(schema)
    schema.columns["PROCESSING_QUEUE_ADOPTING"] = dict(schema.columns["PROCESSING_QUEUE"])
    schema.columns["PROCESSING_QUEUE_ADOPTING_2"] = SKETCH  # of somebody else
    assert migrate(schema, dry_run=True)[0].pending == ["drop PROCESSING_QUEUE_ADOPTING"]
    assert migrate(schema)[0].applied == ["drop PROCESSING_QUEUE_ADOPTING"]
    assert "PROCESSING_QUEUE_ADOPTING" not in schema.columns
    assert "PROCESSING_QUEUE_ADOPTING_2" in schema.columns


def test_a_second_queue_in_a_schema_is_refused_with_both_names():
    schema = PlayedSchema()
    migrate(schema)
    assert schema.queue == "PROCESSING_QUEUE"
    found = FoundTables(tables=schema.columns, version=1, fences={}, oldest_program=1, queue="ORDERS")
    with pytest.raises(SchemaError, match="is ORDERS, and SNOWFLAKE_TABLE is PROCESSING_QUEUE"):
        plan_of(found, scripts.read(), queue="PROCESSING_QUEUE")
    plan_of(found, scripts.read(queue="orders"), queue="orders")


@pytest.mark.parametrize(
    ("types", "condition", "found", "said"),
    [
        ({}, "ID IS NULL", (1, None), "ID: expected an id in each row, got NULL (1 rows)"),
        ({}, "LENGTH(STATUS) > 20", (3, "waiting_for_the_partner"), "STATUS: expected at most 20 characters, got 'wai"),
        (
            {"PRIORITY": "TEXT"},
            "PRIORITY IS NOT NULL AND TRY_TO_NUMBER(PRIORITY) IS NULL",
            (1, "high"),
            "PRIORITY: expected a number, got 'high'",
        ),
    ],
)
def test_rows_that_cannot_be_copied_are_named_before_anything_is_done(types, condition, found, said):
    schema = PlayedSchema({"PROCESSING_QUEUE": SKETCH | types})
    schema.broken_rows[condition] = found
    for dry_run in (True, False):
        with pytest.raises(SchemaError, match=re.escape(said)):
            migrate(schema, dry_run=dry_run)
    assert schema.changes == []


def test_statuses_that_no_program_knows_are_announced_with_their_number():
    schema = PlayedSchema(BEFORE["sketch"])
    schema.statuses = {"PENDING": 4, "Waiting": 3, None: 2}
    asked = []
    migrate(schema, agree=lambda lines: asked.extend(lines) or True)
    assert "These statuses are kept, and no program touches such rows: Waiting (3 rows), unknown (2 rows)." in asked


def test_the_announcement_says_what_stays_with_the_old_table_and_that_a_copy_takes_time():
    schema = PlayedSchema(BEFORE["sketch"])
    asked = []
    migrate(schema, agree=lambda lines: asked.extend(lines) or True)
    assert "the warehouse must permit it long enough" in asked[-1]
    assert "Privileges and streams stay with the old table" in asked[-1]


def test_the_names_that_the_queue_may_not_have_are_those_of_all_other_tables_views_and_streams():
    created = re.compile(r"(?m)^CREATE (?:OR REPLACE )?(?:\w+ )?(?:TABLE|VIEW|STREAM) (?:IF NOT EXISTS )?(\w+)")
    names = {name for path in scripts.folder().glob("*.sql") for name in created.findall(path.read_text())}
    assert names - {scripts.QUEUE} == contract.OTHER_NAMES


def test_a_migration_without_a_fence_neither_places_one_nor_waits(tmp_path):
    (tmp_path / "0002_colour.sql").write_text(NEXT.partition("\n")[2])
    schema = PlayedSchema()
    assert migrate(schema, later=tmp_path)[1] == []
    assert "place_fence" not in schema.changes


@pytest.mark.parametrize("name", ["0003_too_far.sql", "0001_again.sql", "two.sql"])
def test_migrations_have_the_next_numbers(tmp_path, name):
    (tmp_path / name).write_text(NEXT)
    with pytest.raises(SchemaError, match="expected"):
        scripts.read(later=tmp_path)


def test_a_newer_schema_is_refused_with_both_numbers():
    with pytest.raises(SchemaError, match="the tables have version 2, and this program knows 1"):
        plan_of(FoundTables(tables={}, version=2, fences={}), scripts.read(), queue="PROCESSING_QUEUE")


def test_the_programs_number_is_that_of_the_newest_migration():
    assert scripts.read().newest == contract.SCHEMA_VERSION


def test_columns_that_the_new_table_does_not_have_are_named_before():
    schema = PlayedSchema({"PROCESSING_QUEUE": SKETCH | {"COLOUR": "TEXT"}})
    asked = []
    migrate(schema, agree=lambda lines: asked.extend(lines) or True)
    assert "These columns stay in PROCESSING_QUEUE_BEFORE_1 only: COLOUR." in asked


def test_a_session_without_a_schema_is_refused():
    schema = PlayedSchema()
    schema.rows = lambda statement, values: [("DB", None)]
    with pytest.raises(SchemaError, match="run scripts/setup_database"):
        migrate(schema)


@pytest.mark.parametrize(
    ("column", "kind", "read"),
    [
        ("DATA", "VARIANT", "COALESCE(TO_JSON(DATA), 'null')"),
        ("DATA", "TEXT", "COALESCE(DATA, 'null')"),
        ("CREATED_AT", "TIMESTAMP_TZ", "COALESCE(CONVERT_TIMEZONE('UTC', CREATED_AT)::TIMESTAMP_NTZ, SYSDATE())"),
        ("CLAIMED_AT", "TIMESTAMP_NTZ", "CLAIMED_AT"),
        ("ERROR_MESSAGE", "TEXT", "LEFT(ERROR_MESSAGE, 1000)"),
        ("RETRY_COUNT", "NUMBER", "COALESCE(RETRY_COUNT, 0)"),
    ],
)
def test_a_column_is_read_by_its_old_type(column, kind, read):
    tables = {"Q": SKETCH | {column: kind}}
    rebuild = adoption.rebuild_of("Q", tables=tables, wanted=frozenset({column, "NEW"}), is_queue=True)
    assert rebuild.values == (read,)


def test_the_old_table_gets_a_name_that_is_free():
    tables = {"Q": SKETCH, "Q_BEFORE_1": {}, "Q_BEFORE_1_2": {}}
    rebuild = adoption.rebuild_of("Q", tables=tables, wanted=frozenset({"NEW"}), is_queue=True)
    assert rebuild.kept == "Q_BEFORE_1_3"


@pytest.mark.parametrize(
    ("script", "statements"),
    [
        ("-- a;\nSELECT 1; -- b\n/* c; */ SELECT 2;\n-- end", ["SELECT 1", "SELECT 2"]),
        ("SELECT ';', 'it''s', \"a;b\"; SELECT '\\';'", ["SELECT ';', 'it''s', \"a;b\"", "SELECT '\\';'"]),
        (
            "CREATE PROCEDURE p() AS $$\nBEGIN\n  a := 1;\nEND\n$$;\nSELECT -- no end; here\n 1",
            ["CREATE PROCEDURE p() AS $$\nBEGIN\n  a := 1;\nEND\n$$", "SELECT -- no end; here\n 1"],
        ),
        ("-- nothing", []),
    ],
)
def test_a_script_is_cut_at_semicolons_that_end_a_statement(script, statements):
    assert list(scripts.split(script)) == statements


def test_the_names_of_the_queue_and_of_roles_are_put_in_as_words():
    assert scripts.named("PROCESSING_QUEUE", queue="QUEUE_DB_TASKS", database="sales") == "QUEUE_DB_TASKS"
    text = "PROCESSING_QUEUE PROCESSING_QUEUE_INSERTS 'QUEUE_DB_PAYLOAD' QUEUE_DB"
    assert scripts.named(text, queue="orders", database="sales") == (
        "ORDERS PROCESSING_QUEUE_INSERTS 'SALES_PAYLOAD' QUEUE_DB"
    )


@pytest.mark.parametrize(
    ("yes", "at_terminal", "answer", "agreed"),
    [(False, True, "n", False), (False, True, "y", True), (True, True, "n", True), (False, False, "n", True)],
)
def test_only_a_person_at_a_terminal_is_asked(yes, at_terminal, answer, agreed):
    with CliRunner().isolation(input=f"{answer}\n") as (_, said, _):
        assert agreement(yes=yes, at_terminal=at_terminal)(["what it means"]) is agreed
    assert said.getvalue().decode().startswith("what it means\n")
