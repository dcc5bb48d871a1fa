"""Keeps the statements and the DDL of this release in ``tests/released/<version>/``: ``make freeze``.

Tests and drills run them beside those of later releases. Until the release is made they follow every change; after it
they never change again.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rowqueue import __version__, sql
from rowqueue.migrate import scripts

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
RELEASED = ROOT / "tests" / "released"


def frozen() -> dict[str, str]:
    """The text of each file, by its path in the folder of the release."""
    ddl = [scripts.folder() / scripts.FIRST, *sorted(scripts.folder().glob("0[34]_*.sql"))]
    migrations = sorted((scripts.folder() / "migrations").glob("*.sql"))
    return (
        {name: _rendered(sql.statements(queue=scripts.QUEUE, file=name)) for name in ("queries.sql", "operator.sql")}
        | {path.name: path.read_text(encoding="utf-8") for path in ddl}
        | {f"migrations/{path.name}": path.read_text(encoding="utf-8") for path in migrations}
    )


def is_released(version: str) -> bool:
    """Whether the changelog has a section of this version."""
    return f"\n## [{version}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def _rendered(statements: dict[str, sql.Statement]) -> str:
    """A statement file in which only the bound values are left open. ``sql.load`` reads it."""
    return "\n".join(f"-- name: {name}\n{_with_names(statement)}\n" for name, statement in statements.items())


def _with_names(statement: sql.Statement) -> str:
    parts = statement.text.split("?")
    values: Iterator[str] = (f"%({name})s" for name in statement.parameters)
    return "".join(part + next(values, "") for part in parts)


def main() -> int:
    """Write the folder, unless the release is made."""
    folder = RELEASED / __version__
    if is_released(__version__):
        print(f"{__version__} is released, so {folder.relative_to(ROOT)} does not change any more", file=sys.stderr)
        return 1
    for old in folder.rglob("*.sql"):
        old.unlink()
    for name, text in frozen().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
