"""``rowqueue``: the command line.

The product has the command migrate. Other distributions add commands by entry points of the group
``rowqueue.commands``. The lab, ``local/`` in the repository, adds demo, drill, bench and local.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from contextlib import closing
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

import click

from rowqueue import __version__
from rowqueue.errors import CredentialsError, RowqueueError, SchemaError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rowqueue.settings import SnowflakeSettings
    from rowqueue.warehouse import SnowflakeWarehouse

_LONGEST_STATEMENT_S = 4 * 3600
"""A migration copies a large table in one statement."""
_OWNER = "use the role that owns the tables"
_LAB = ("bench", "demo", "drill", "local")
_NOT_INSTALLED = "not installed; in a checkout of the repository, run: make setup"


class _Commands(click.Group):
    """The installed commands. Shows an expected error as one line, without a stack trace."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *_LAB, *entry_points(group="rowqueue.commands").names})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if own := super().get_command(ctx, cmd_name):
            return own
        for entry in entry_points(group="rowqueue.commands", name=cmd_name):
            try:
                command: click.Command = entry.load()
            except ModuleNotFoundError as error:
                return _missing(cmd_name, because=f" ({error.name} is missing)")
            return command
        return _missing(cmd_name) if cmd_name in _LAB else None

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except (RowqueueError, OSError) as error:
            refused = isinstance(error, SettingsError | CredentialsError | SchemaError)
            raise (_Refused if refused else click.ClickException)(str(error)) from error


class _Refused(click.ClickException):
    """The settings, the login or the tables do not permit it, and nothing was done."""

    exit_code = 2


def _missing(name: str, because: str = "") -> click.Command:
    def refuse() -> None:
        raise click.ClickException(f"{name} is {_NOT_INSTALLED}{because}")

    anything = {"ignore_unknown_options": True, "allow_extra_args": True}
    return click.Command(name, callback=refuse, help=f"Is {_NOT_INSTALLED}", context_settings=anything)


@click.group(cls=_Commands, context_settings={"max_content_width": 100})
@click.version_option(__version__, prog_name="rowqueue")
def main() -> None:
    """Rows in a Snowflake table, delivered to an HTTPS service over mutual TLS."""
    # SIGTERM ends the program as Ctrl-C does: what it started is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


@main.command("migrate")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object: from, to, applied, pending.")
@click.option("--yes", is_flag=True, help="Do not ask before a table of an older shape is built again.")
def migrate_command(*, dry_run: bool, as_json: bool, yes: bool) -> None:
    """Bring the tables to the version of this program. Safe to run again, also after a break.

    The variables SNOWFLAKE_... say where the queue is and how to log in. Use the role that owns the tables.

    \b
    Exit codes: 0 done, or nothing to do; 1 Snowflake failed, run it again;
    2 the settings, the login or the tables do not permit it.
    """  # noqa: D301 -- click reads the character \b
    # Here, because the other commands do without the driver.
    from rowqueue import credentials  # noqa: PLC0415
    from rowqueue.migrate import runner, scripts  # noqa: PLC0415

    settings = credentials.settings_of_a_person(os.environ)
    with closing(session_of_a_person(settings, os.environ, tag="rowqueue-migrate", is_owner=True)) as session:
        report = runner.migrate(
            session,
            scripts.read(queue=settings.table, database=settings.database),
            queue=settings.table,
            tell=lambda line: click.echo(line, err=True) if sys.stderr.isatty() else None,
            sleep=time.sleep,
            agree=agreement(yes=yes, at_terminal=sys.stderr.isatty()),
            dry_run=dry_run,
        )
    for line in report.warnings:
        click.echo(line, err=True)
    click.echo(json.dumps(report.as_json()) if as_json else report.in_one_line())


def session_of_a_person(
    settings: SnowflakeSettings,
    environ: Mapping[str, str],
    *,
    tag: str,
    is_placed: bool = True,
    is_owner: bool = False,
) -> SnowflakeWarehouse:
    """A session for a person's commands, where a statement may take long.

    Args:
        settings: where the queue is.
        environ: the person's login.
        tag: appears in Snowflake's query history.
        is_placed: whether warehouse, database and schema exist already.
        is_owner: whether the person changes the tables, so that a missing object means a wrong role.

    Raises:
        CredentialsError: the environment has no complete login.
    """
    from rowqueue import credentials  # noqa: PLC0415
    from rowqueue.warehouse import SnowflakeWarehouse  # noqa: PLC0415

    return SnowflakeWarehouse(
        settings,
        credentials.login_of_a_person(settings, environ)
        | ({} if is_placed else dict.fromkeys(("warehouse", "database", "schema"))),
        query_tag=tag,
        statement_s=_LONGEST_STATEMENT_S,
        network_patience_s=_LONGEST_STATEMENT_S + 5,
        login_timeout_s=120,  # a person may have to confirm the login
        advice=_OWNER if is_owner else None,
    )


def agreement(*, yes: bool, at_terminal: bool) -> Callable[[list[str]], bool]:
    """Says what will be done, and asks a person who sits at a terminal.

    Args:
        yes: do not ask.
        at_terminal: whether a person sits there.
    """

    def agree(lines: list[str]) -> bool:
        for line in lines:
            click.echo(line, err=True)
        return yes or not at_terminal or click.confirm("Go on?", err=True)

    return agree


if __name__ == "__main__":
    main()
