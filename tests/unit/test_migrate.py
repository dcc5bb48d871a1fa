"""What a migration plans, and that it goes on after a break at each of its statements."""

from __future__ import annotations

import re

import pytest

from rowqueue import contract
from rowqueue.errors import SchemaError, WarehouseUnavailable
from rowqueue.migrate import adoption, runner, scripts
from rowqueue.migrate.plan import FoundTables, plan_of

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
    """A schema: the columns and the number of rows of each table, and what the statements of a migration do to them."""

    def __init__(self, tables=()):
        self.columns = {name: dict(columns) for name, columns in dict(tables).items()}
        self.rows_of = dict.fromkeys(self.columns, 100)
        self.versions, self.fences, self.changes = [1] * ("SCHEMA_VERSION" in self.columns), {}, []
        self.breaks_off_at = None
        self.answer_is_lost = False

    def rows(self, statement, values):
        match statement.name:
            case "place":
                return [("DB", "SCHEMA")]
            case "columns":
                return [
                    (table, name, kind) for table, columns in self.columns.items() for name, kind in columns.items()
                ]
            case "version":
                return [(max(self.versions, default=0),)]
            case "fences":
                return [(by, 10) for by in self.fences]
            case "largest_id":
                return [(4711,)]

    def change(self, statement, values):
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
            case "fill":
                to, source = re.match(r"INSERT INTO (\w+) .*FROM (\w+)$", text, re.DOTALL).groups()
                self.rows_of[to] += self.rows_of[source]
            case "swap" | "keep":
                first, second = re.match(r"ALTER TABLE (\w+) (?:SWAP WITH|RENAME TO) (\w+)$", text).groups()
                if statement.name == "keep":
                    assert second not in self.columns
                for kept in (self.columns, self.rows_of):
                    one, other = kept.pop(first), kept.pop(second, None)
                    kept.update({second: one} | ({} if other is None else {first: other}))
            case _:
                self._run_script(text)

    def _run_script(self, text):
        if created := re.match(r"CREATE (OR REPLACE )?TRANSIENT TABLE (?:IF NOT EXISTS )?(\w+) ", text):
            if created[1] or created[2] not in self.columns:
                self.columns[created[2]] = dict.fromkeys(re.findall(r"(?m)^    (\w+)", text.upper()), "TEXT") | {
                    "ID": "NUMBER"
                }
                self.rows_of[created[2]] = 0
                self.start = re.search(r"START (\d+)", text)
        elif inserted := re.match(r"INSERT INTO SCHEMA_VERSION .*?SELECT (\d+)", text, re.DOTALL):
            self.versions.append(int(inserted[1]))
        elif added := re.match(r"ALTER TABLE (\w+) ADD COLUMN (IF NOT EXISTS )?(\w+)", text):
            assert added[2] or added[3].upper() not in self.columns[added[1]], "the column exists"
            self.columns[added[1]][added[3].upper()] = "TEXT"


def migrate(schema, **options):
    slept = []
    report = runner.migrate(
        schema,
        scripts.read(**{name: options.pop(name) for name in ("later",) if name in options}),
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
    assert schema.start[1] == str(4711 + runner.IDS_LEFT_FREE)


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
    assert migrate(schema)[0].applied == []
    assert list(schema.fences) == ["migration 0002"]


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
    text = "PROCESSING_QUEUE PROCESSING_QUEUE_INSERTS 'QUEUE_DB_PAYLOAD' QUEUE_DB"
    assert scripts.named(text, queue="orders", database="sales") == (
        "ORDERS PROCESSING_QUEUE_INSERTS 'SALES_PAYLOAD' QUEUE_DB"
    )
