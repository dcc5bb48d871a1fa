"""Reads the scripts in ``snowflake/``, which are ``rowqueue/sql/ddl`` in the wheel, and cuts them into statements."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rowqueue import sql
from rowqueue.errors import SchemaError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

QUEUE = "PROCESSING_QUEUE"
"""The queue table in the scripts. SNOWFLAKE_TABLE takes its place."""
FIRST = "01_create_table.sql"
"""The first migration. Each later one is a file in ``migrations/``."""

_TOKEN = re.compile(
    r"""--[^\n]* | /\*.*?\*/ | '(?:[^'\\]|''|\\.)*' | "(?:[^"]|"")*" | \$\$.*?\$\$ | ;""", re.DOTALL | re.VERBOSE
)
_COMMENTS_BEFORE = re.compile(r"(?:\s+|--[^\n]*(?:\n|$)|/\*.*?\*/)+", re.DOTALL)
_NUMBERED = re.compile(r"(\d{4})_\w+\.sql")
_FENCE = re.compile(r"^-- fence: (.+)$", re.MULTILINE)
_CREATED = re.compile(r"CREATE \w+ TABLE IF NOT EXISTS (\w+) \(\n(.*?)\n\)", re.DOTALL)
_COLUMN = re.compile(r"^    (\w+)\s+(\w+)[^\n]*?(?:NOT NULL DEFAULT (\S+))?(?=\s*(?:COMMENT|,?$))", re.MULTILINE)
_RECORDS = re.compile(r"INSERT\s+INTO\s+SCHEMA_VERSION \(version, oldest_program\b[^)]*\)\s+SELECT (\d+), (\d+),")


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """One file.

    Attributes:
        name: the file's.
        statements: in their order.
    """

    name: str
    statements: tuple[sql.Statement, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """A script that makes the tables of one version from those of the version before.

    Each statement may run again, but for ADD COLUMN with a default, which is left out if the column is there. The last
    statement inserts the row of SCHEMA_VERSION.

    Attributes:
        number: the version that it makes.
        name: ``0002_what_it_does``.
        fence: why nothing may be claimed while it runs; ``None`` if programs of the release before may go on.
        statements: in their order.
    """

    number: int
    name: str
    fence: str | None
    statements: tuple[sql.Statement, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scripts:
    """What a program brings along.

    Attributes:
        migrations: the numbers 1, 2 and so on.
        repeated: what runs after them, every time.
        tables: the CREATE statement of each table of version 1, by the table's name.
    """

    migrations: tuple[Migration, ...]
    repeated: tuple[Script, ...]
    tables: dict[str, sql.Statement]

    @property
    def newest(self) -> int:
        """The version that the program knows."""
        return len(self.migrations)


def folder() -> Path:
    """Where the scripts are: in the wheel, or in a checkout of the repository."""
    package = Path(sql.__file__).parent
    inside = package / "ddl"
    return inside if inside.is_dir() else package.parents[2] / "snowflake"


def read(*, queue: str = QUEUE, database: str = "QUEUE_DB", later: Path | None = None) -> Scripts:
    """Read the scripts.

    Args:
        queue: the name of the queue table, validated.
        database: the name of the database, validated. The names of roles begin with it.
        later: a folder with further migrations, for tests and drills.

    Raises:
        SchemaError: the migrations are not numbered 0002, 0003 and so on, or one does not record what it has to.
    """
    scripts = folder()
    files = [*_numbered(scripts / "migrations"), *(_numbered(later) if later else [])]
    first = Migration(
        number=1,
        name="0001_create_table",
        fence=None,
        statements=script(scripts / FIRST, queue=queue, database=database).statements,
    )
    migrations = [first]
    for expected, (number, path) in enumerate(files, 2):
        if number != expected:
            raise SchemaError(f"{path.name}: expected the number {expected:04}")
        reason = _FENCE.search(path.read_text(encoding="utf-8"))
        migrations.append(
            Migration(
                number=number,
                name=path.stem,
                fence=reason and reason[1].strip(),
                statements=script(path, queue=queue, database=database).statements,
            )
        )
    for migration in migrations:
        _require_its_record(migration)
    return Scripts(
        migrations=tuple(migrations),
        repeated=tuple(script(path, queue=queue, database=database) for path in sorted(scripts.glob("03_*.sql"))),
        tables={created[1]: statement for statement in first.statements if (created := _CREATED.match(statement.text))},
    )


def script(path: Path, *, queue: str, database: str) -> Script:
    """One file, with the names of this queue; see :func:`read`."""
    text = named(path.read_text(encoding="utf-8"), queue=queue, database=database)
    return Script(name=path.name, statements=statements(text, name=path.name))


def statements(text: str, *, name: str) -> tuple[sql.Statement, ...]:
    """The statements of a text, each with a name for messages."""
    return tuple(
        sql.Statement(name=f"{name}, statement {number}", text=statement, parameters=())
        for number, statement in enumerate(split(text), 1)
    )


def columns(create: sql.Statement) -> frozenset[str]:
    """The columns of a CREATE statement of ``01_create_table.sql``, in upper case as Snowflake keeps them."""
    return frozenset(name.upper() for name, _, _ in _columns(create))


def numbers(create: sql.Statement) -> frozenset[str]:
    """Those of them that are numbers."""
    return frozenset(name.upper() for name, kind, _ in _columns(create) if kind == "NUMBER")


def defaults(create: sql.Statement) -> dict[str, str]:
    """The defaults of those that refuse NULL."""
    return {name.upper(): default for name, _, default in _columns(create) if default}


def _columns(create: sql.Statement) -> list[tuple[str, str, str]]:
    created = _CREATED.match(create.text)
    return _COLUMN.findall(created[2]) if created else []


def named(text: str, *, queue: str, database: str) -> str:
    """A script's text with the names of this queue: the words PROCESSING_QUEUE and QUEUE_DB_... are replaced."""
    # In one pass, because a queue may be called QUEUE_DB_TASKS.
    return re.sub(
        rf"\b(?:({QUEUE})\b|QUEUE_DB_(?=[A-Z]+\b))",
        lambda word: queue.upper() if word[1] else f"{database.upper()}_",
        text,
    )


def split(text: str) -> Iterator[str]:
    """The statements of a script, without the comments before each. A semicolon in a text or in ``$$`` ends nothing."""
    begin = 0
    for token in _TOKEN.finditer(text):
        if token[0] == ";":
            yield from _statement(text[begin : token.start()])
            begin = token.end()
    yield from _statement(text[begin:])


def _statement(text: str) -> Iterator[str]:
    comments = _COMMENTS_BEFORE.match(text)
    statement = text[comments.end() if comments else 0 :].rstrip()
    if statement:
        yield statement


def _require_its_record(migration: Migration) -> None:
    """Require that the last statement records the version, and behind a fence also raises ``oldest_program``."""
    records = _RECORDS.match(migration.statements[-1].text) if migration.statements else None
    if records is None or int(records[1]) != migration.number:
        raise SchemaError(f"{migration.name}: expected a last statement that inserts {migration.number} as the version")
    if migration.fence is not None and int(records[2]) != migration.number:
        raise SchemaError(
            f"{migration.name}: expected a last statement that raises oldest_program to {migration.number}, got "
            f"{records[2]}: without it older programs would claim after the fence"
        )


def _numbered(folder: Path) -> Iterable[tuple[int, Path]]:
    for path in sorted(folder.glob("*.sql")):
        number = _NUMBERED.fullmatch(path.name)
        if number is None:
            raise SchemaError(f"{path.name}: expected a name like 0002_what_it_does.sql")
        yield int(number[1]), path
