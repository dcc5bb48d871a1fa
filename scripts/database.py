"""Run SQL in Snowflake for setup_database.sh and test_system.sh.

``setup`` runs the scripts in snowflake/, and the migration between them, in one session. ``insert`` adds one entry to
the queue. ``follow`` prints each change of an entry until it ends. The variables SNOWFLAKE_... say how to log in, as
for the poller and the processor.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rowqueue import credentials
from rowqueue.cli import agreement, session_of_a_person
from rowqueue.contract import DEFAULT_DESTINATION, HoldKind
from rowqueue.errors import RowqueueError, StatementRefused
from rowqueue.migrate import runner, scripts
from rowqueue.sql import Statement

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rowqueue.settings import SnowflakeSettings
    from rowqueue.warehouse import SnowflakeWarehouse

SCRIPTS = Path(__file__).resolve().parent.parent / "snowflake"
ROLES, SAMPLE_DATA, GRANTS = "00_roles.sql", "02_sample_data.sql", "04_grants.sql"

COMPLETED, NOT_COMPLETED, OUT_OF_TIME = 0, 1, 3
LOOK_EVERY_S = 2.0
LIFT = "CALL LIFT_HOLD('{scope}', 'the cause is gone');"
LONGEST_HOLD_S = 3600.0
"""A hold that lasts longer is named, but not waited for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A row of PROCESSING_HOLDS that stands.

    Attributes:
        scope: the destination that is not claimed; ``*`` is everything.
        kind: a :class:`~rowqueue.contract.HoldKind`.
        reason: why nothing is claimed.
        until: its end, UTC; None if a person has to end it.
        left_s: seconds until then; None as above.
    """

    scope: str
    kind: str
    reason: str
    until: str | None
    left_s: float | None


def chosen(*, sample_data: bool, roles: bool) -> tuple[list[str], list[str]]:
    """The scripts to run before the migration, and those after it."""
    return ([ROLES] if roles else []), ([SAMPLE_DATA] if sample_data else []) + ([GRANTS] if roles else [])


def names(settings: SnowflakeSettings) -> str:
    """The statements that set the names of warehouse, database and schema for the scripts."""
    values = {"warehouse": settings.warehouse, "database": settings.database, "schema": settings.schema}
    return "\n".join(f"SET queue_{name} = '{value.upper()}';" for name, value in values.items())


def place(settings: SnowflakeSettings) -> str:
    """The statements that select warehouse, database and schema, which 00_roles.sql does too."""
    return f"USE WAREHOUSE {settings.warehouse};\nUSE DATABASE {settings.database};\nUSE SCHEMA {settings.schema};"


def insert(session: SnowflakeWarehouse, table: str, *, reference: str, data: str) -> None:
    """Add one entry to the queue."""
    text = f"INSERT INTO {table} (data, reference) VALUES (?, ?)"  # noqa: S608 -- an identifier
    statement = Statement(name="insert", text=text, parameters=("data", "reference"))
    session.change(statement, {"data": data, "reference": reference})


def follow(
    look: Callable[[], tuple[Any, ...] | None],
    tell: Callable[[str], None],
    *,
    within_s: float,
    hold: Callable[[], Hold | None] = lambda: None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Print each change of an entry until it has ended or the time is up; returns the exit code.

    While a hold stands nothing is claimed. The first one that ends within an hour is waited for: then the time starts
    again. A second one means that the probe met the same fault.

    Args:
        look: returns status, retry_count, response_status, error_message and result, or None if there is no such entry.
        tell: receives one line per change.
        within_s: seconds to wait.
        hold: returns the hold that stands, if one does.
        clock: returns seconds since any fixed point.
        sleep: waits for the given seconds.
    """
    began, last, named = clock(), None, ""
    ends, waited_for = began + within_s, False
    while True:
        entry = look()
        if entry is None:
            tell("there is no such entry")
            return NOT_COMPLETED
        if entry != last:
            tell(f"{clock() - began:6.1f} s  {described(entry)}")
            last = entry
        if entry[0] in {"completed", "failed", "cancelled"}:
            return COMPLETED if entry[0] == "completed" else NOT_COMPLETED
        standing = hold()
        if standing is not None and described_hold(standing) != named:
            named = described_hold(standing)
            tell(f"{clock() - began:6.1f} s  {named}")
            if standing.left_s is not None and standing.left_s <= LONGEST_HOLD_S and not waited_for:
                ends, waited_for = clock() + standing.left_s + within_s, True
        if clock() >= ends:
            tell(f"still {entry[0]} after {clock() - began:.0f} s")
            return OUT_OF_TIME
        sleep(LOOK_EVERY_S)


def described_hold(hold: Hold) -> str:
    """A hold in one line, with what ends it."""
    if hold.kind == HoldKind.FENCE:
        ends, advice = "its migration ends", "if no migration runs: rowqueue migrate"
    else:
        ends = "a person ends it" if hold.until is None else f"{hold.until} UTC"
        advice = f"when the cause is gone: {LIFT.format(scope=hold.scope)}"
    return f"a hold stands until {ends}, and nothing is claimed: {hold.reason}; {advice}"


def described(entry: Sequence[Any]) -> str:
    """An entry in one line."""
    status, retry_count, response_status, error, result = entry
    parts = [str(status)]
    parts += [f"{retry_count} attempts failed"] if retry_count else []
    parts += [f"the service answered {response_status}"] if response_status else []
    parts += [str(error)] if error else []
    parts += [f"result: {str(result)[:200]}"] if result else []
    return ", ".join(parts)


def _watch(session: SnowflakeWarehouse, table: str, *, reference: str, within_s: float) -> int:
    text = f"SELECT status, retry_count, response_status, error_message, result FROM {table} WHERE reference = ?"  # noqa: S608
    statement = Statement(name="follow", text=text, parameters=("reference",))

    def look() -> tuple[Any, ...] | None:
        return next(iter(session.rows(statement, {"reference": reference})), None)

    return follow(look, print, within_s=within_s, hold=lambda: _standing_hold(session))


def _standing_hold(session: SnowflakeWarehouse) -> Hold | None:
    """The hold that ends last; None also if this user may not read the holds."""
    text = """
        SELECT scope, kind, reason, until_at, DATEDIFF('second', SYSDATE(), until_at)
          FROM PROCESSING_HOLDS
         WHERE scope IN ('*', ?) AND (until_at IS NULL OR until_at > SYSDATE())
         ORDER BY until_at DESC NULLS FIRST
         LIMIT 1"""
    try:
        statement = Statement(name="hold", text=text, parameters=("destination",))
        rows = session.rows(statement, {"destination": DEFAULT_DESTINATION})
    except StatementRefused:
        return None
    if not rows:
        return None
    scope, kind, reason, until, left_s = rows[0]
    return Hold(
        scope=scope,
        kind=kind,
        reason=reason,
        until=None if until is None else f"{until:%Y-%m-%d %H:%M:%S}",
        left_s=None if until is None else float(left_s),
    )


def _setup(options: argparse.Namespace, settings: SnowflakeSettings) -> int:
    brought = scripts.read(queue=settings.table, database=settings.database)
    before, after = (
        [scripts.script(SCRIPTS / name, queue=settings.table, database=settings.database) for name in part]
        for part in chosen(sample_data=options.sample_data, roles=options.roles)
    )
    preface = names(settings) + ("" if options.roles else f"\n{place(settings)}")
    if options.dry_run:
        steps = [(step.name, step.statements) for step in before]
        steps += [(step.name, step.statements) for step in brought.migrations]
        steps += [(step.name, step.statements) for step in (*brought.repeated, *after)]
        texts = [f"-- {name}\n" + "\n\n".join(f"{statement.text};" for statement in done) for name, done in steps]
        print("\n\n".join([f"-- names\n{preface}", *texts]), flush=True)
        return 0

    def say(line: str) -> None:
        print(line, file=sys.stderr)

    with closing(
        session_of_a_person(settings, os.environ, tag="rowqueue-scripts", is_placed=False, is_owner=True)
    ) as session:
        runner.run(session, scripts.statements(preface, name="names"))
        for script in before:
            runner.run(session, script.statements)
            say(f"{script.name}: {len(script.statements)} statements")
        report = runner.migrate(
            session,
            brought,
            queue=settings.table,
            tell=say,
            sleep=time.sleep,
            agree=agreement(yes=options.yes, at_terminal=sys.stderr.isatty()),
        )
        for line in (*report.warnings, report.in_one_line()):
            say(line)
        for script in after:
            runner.run(session, script.statements)
            say(f"{script.name}: {len(script.statements)} statements")
    return 0


def _in_the_queue(options: argparse.Namespace, settings: SnowflakeSettings) -> int:
    with closing(session_of_a_person(settings, os.environ, tag="rowqueue-scripts")) as session:
        if options.command == "insert":
            insert(session, settings.table, reference=options.reference, data=options.data)
            return 0
        return _watch(session, settings.table, reference=options.reference, within_s=options.within)


def _json(text: str) -> str:
    try:
        json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected JSON: {error}") from error
    return text


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    setup = commands.add_parser("setup")
    setup.add_argument("--sample-data", action="store_true")
    setup.add_argument("--skip-roles", dest="roles", action="store_false")
    setup.add_argument("--dry-run", action="store_true")
    setup.add_argument("--yes", action="store_true")
    put = commands.add_parser("insert")
    put.add_argument("reference")
    put.add_argument("--data", type=_json, required=True)
    watch = commands.add_parser("follow")
    watch.add_argument("reference")
    watch.add_argument("--within", type=float, default=300)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; an error is one line on standard error and exit code 2."""
    options = _options(argv)
    try:
        settings = credentials.settings_of_a_person(os.environ)
        return _setup(options, settings) if options.command == "setup" else _in_the_queue(options, settings)
    except BrokenPipeError:  # the reader, such as head, has read enough; at its end Python would write again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (RowqueueError, OSError) as error:
        print(error, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
