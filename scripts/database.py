"""Run SQL in Snowflake for setup_database.sh and test_system.sh, with the project's own driver.

``setup`` runs the scripts in snowflake/. ``insert`` adds one entry to the queue. ``follow`` prints each change of an
entry until it ends. The variables SNOWFLAKE_... say how to log in, as for the poller and the processor.
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

import snowflake.connector

from rowqueue import credentials
from rowqueue.errors import CredentialsError, RowqueueError, StatementRefused
from rowqueue.settings import SnowflakeSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

SCRIPTS = Path(__file__).resolve().parent.parent / "snowflake"
DEFAULTS = {"SNOWFLAKE_WAREHOUSE": "QUEUE_WH", "SNOWFLAKE_DATABASE": "QUEUE_DB", "SNOWFLAKE_SCHEMA": "PUBLIC"}
SAMPLE_DATA = "02_sample_data.sql"
OF_AN_ADMINISTRATOR = ("00_roles.sql", "04_grants.sql")

COMPLETED, NOT_COMPLETED, OUT_OF_TIME = 0, 1, 3
LOOK_EVERY_S = 2.0
END_HOLDS = "DELETE FROM PROCESSING_HOLDS WHERE kind <> 'fence'"
LONGEST_HOLD_S = 3600.0
"""A hold that lasts longer is named, but not waited for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A row of PROCESSING_HOLDS that stands.

    Attributes:
        reason: why nothing is claimed.
        until: its end, UTC; None if a person has to end it.
        left_s: seconds until then; None as above.
    """

    reason: str
    until: str | None
    left_s: float | None


def chosen(*, sample_data: bool, roles: bool) -> list[Path]:
    """The scripts to run, in the order of their numbers."""
    left_out = {*(() if sample_data else (SAMPLE_DATA,)), *(() if roles else OF_AN_ADMINISTRATOR)}
    return [path for path in sorted(SCRIPTS.glob("[0-9]*.sql")) if path.name not in left_out]


def names(settings: SnowflakeSettings) -> str:
    """The statements that set the names of warehouse, database and schema for the scripts."""
    values = {"warehouse": settings.warehouse, "database": settings.database, "schema": settings.schema}
    return "\n".join(f"SET queue_{name} = '{value.upper()}';" for name, value in values.items())


def place(settings: SnowflakeSettings) -> str:
    """The statements that select warehouse, database and schema, which 00_roles.sql does too."""
    return f"USE WAREHOUSE {settings.warehouse};\nUSE DATABASE {settings.database};\nUSE SCHEMA {settings.schema};"


def connect(settings: SnowflakeSettings, environ: Mapping[str, str], **more: object) -> Any:
    """Log in as the person who runs this script.

    ``SNOWFLAKE_AUTHENTICATOR`` (externalbrowser, username_password_mfa) is for people, who need a second factor.

    Raises:
        CredentialsError: the environment has no complete login.
    """
    arguments: dict[str, object] = {
        "account": settings.account,
        "host": settings.host,
        "port": settings.port,
        "protocol": settings.protocol,
        "role": settings.role,
        "login_timeout": 120,
        "network_timeout": 300,
        "paramstyle": "qmark",
        "platform_detection_timeout_seconds": 0.0,
        "session_parameters": {"QUERY_TAG": "rowqueue-scripts", "TIMEZONE": "UTC"},
        **_identity(settings, environ),
        **more,
    }
    return snowflake.connector.connect(**{name: value for name, value in arguments.items() if value is not None})


def _identity(settings: SnowflakeSettings, environ: Mapping[str, str]) -> dict[str, object]:
    if authenticator := environ.get("SNOWFLAKE_AUTHENTICATOR"):
        password = settings.password and settings.password.reveal()
        passcode = environ.get("SNOWFLAKE_PASSCODE") or None
        return {"user": settings.user, "authenticator": authenticator, "password": password, "passcode": passcode}
    proof = settings.password if settings.authentication == "password" else settings.private_key
    if settings.authentication != "workload_identity" and not (settings.user and proof):
        raise CredentialsError(
            "expected SNOWFLAKE_USER with SNOWFLAKE_PASSWORD; or with SNOWFLAKE_PRIVATE_KEY and "
            "SNOWFLAKE_AUTHENTICATION=key_pair; or with SNOWFLAKE_AUTHENTICATOR=externalbrowser"
        )
    return credentials.login(settings, environment="")


def run_scripts(session: Any, texts: Iterable[tuple[str, str]], tell: Callable[[str], None]) -> None:
    """Run each script, statement by statement, in one session.

    Args:
        session: a connection.
        texts: pairs of a name for messages and SQL.
        tell: receives one line per script.

    Raises:
        StatementRefused: Snowflake refused a statement; the statements before it have run.
    """
    for name, text in texts:
        try:
            done = session.execute_string(text, remove_comments=True, return_cursors=True)
        except snowflake.connector.errors.ProgrammingError as error:
            raise StatementRefused(f"{name}: {in_one_line(error)}") from error
        tell(f"{name}: {len(list(done))} statements")


def in_one_line(error: Exception) -> str:
    """The driver's message in one line; if a statement does not compile, its second line has the reason."""
    return f"Snowflake: {' '.join(str(error).split())}"


def insert(session: Any, table: str, *, reference: str, data: str) -> None:
    """Add one entry to the queue."""
    session.cursor().execute(f"INSERT INTO {table} (data, reference) VALUES (?, ?)", (data, reference))  # noqa: S608 -- an identifier


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
    """A hold in one line, with the statement that ends it."""
    ends = "a person ends it" if hold.until is None else f"{hold.until} UTC"
    return f"a hold stands until {ends}, and nothing is claimed: {hold.reason}; when the cause is gone: {END_HOLDS};"


def described(entry: Sequence[Any]) -> str:
    """An entry in one line."""
    status, retry_count, response_status, error, result = entry
    parts = [str(status)]
    parts += [f"{retry_count} attempts failed"] if retry_count else []
    parts += [f"the service answered {response_status}"] if response_status else []
    parts += [str(error)] if error else []
    parts += [f"result: {str(result)[:200]}"] if result else []
    return ", ".join(parts)


def _watch(session: Any, table: str, *, reference: str, within_s: float) -> int:
    query = f"SELECT status, retry_count, response_status, error_message, result FROM {table} WHERE reference = ?"  # noqa: S608

    def look() -> tuple[Any, ...] | None:
        row = session.cursor().execute(query, (reference,)).fetchone()
        return None if row is None else tuple(row)

    return follow(look, print, within_s=within_s, hold=lambda: _standing_hold(session))


def _standing_hold(session: Any) -> Hold | None:
    """The hold that ends last; None also if this user may not read the holds."""
    query = """
        SELECT reason, until_at, DATEDIFF('second', SYSDATE(), until_at)
          FROM PROCESSING_HOLDS
         WHERE scope IN ('*', 'default') AND (until_at IS NULL OR until_at > SYSDATE())
         ORDER BY until_at DESC NULLS FIRST
         LIMIT 1"""
    try:
        row = session.cursor().execute(query).fetchone()
    except snowflake.connector.errors.ProgrammingError:
        return None
    if row is None:
        return None
    reason, until, left_s = row
    if until is None:
        return Hold(reason=reason, until=None, left_s=None)
    return Hold(reason=reason, until=f"{until:%Y-%m-%d %H:%M:%S}", left_s=float(left_s))


def _setup(options: argparse.Namespace, settings: SnowflakeSettings) -> int:
    preface = names(settings) + ("" if options.roles else f"\n{place(settings)}")
    texts = [("names", preface)]
    texts += [
        (path.name, path.read_text(encoding="utf-8"))
        for path in chosen(sample_data=options.sample_data, roles=options.roles)
    ]
    if options.dry_run:
        print("\n".join(f"-- {name}\n{text}" for name, text in texts))
        return 0
    with closing(connect(settings, os.environ)) as session:
        run_scripts(session, texts, lambda line: print(line, file=sys.stderr))
    return 0


def _in_the_queue(options: argparse.Namespace, settings: SnowflakeSettings) -> int:
    where = {"warehouse": settings.warehouse, "database": settings.database, "schema": settings.schema}
    with closing(connect(settings, os.environ, **where)) as session:
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
    put = commands.add_parser("insert")
    put.add_argument("reference")
    put.add_argument("--data", type=_json, required=True)
    watch = commands.add_parser("follow")
    watch.add_argument("reference")
    watch.add_argument("--within", type=float, default=300)
    return parser.parse_args(argv)


def _with_defaults(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    yield from DEFAULTS.items()
    if environ.get("SNOWFLAKE_PASSWORD"):  # a person may have one, a service may not
        yield "SNOWFLAKE_AUTHENTICATION", "password"
    yield from ((name, value) for name, value in environ.items() if value)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; an error is one line on standard error and exit code 2."""
    options = _options(argv)
    try:
        settings = SnowflakeSettings.from_env(dict(_with_defaults(os.environ)))
        return _setup(options, settings) if options.command == "setup" else _in_the_queue(options, settings)
    except RowqueueError as error:
        print(error, file=sys.stderr)
    except (snowflake.connector.errors.Error, OSError) as error:
        print(in_one_line(error), file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
