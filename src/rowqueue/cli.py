"""``rowqueue``: the command line.

Other distributions add commands by entry points of the group ``rowqueue.commands``. The lab, ``local/`` in the
repository, adds demo, drill, bench and local.
"""

from __future__ import annotations

import signal
import sys
from importlib.metadata import entry_points

import click

from rowqueue import __version__
from rowqueue.errors import RowqueueError

_LAB = ("bench", "demo", "drill", "local")
_NOT_INSTALLED = "not installed; in a checkout of the repository, run: make setup"


class _Commands(click.Group):
    """The installed commands. Shows an expected error as one line, without a stack trace."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 -- click's signature
        return sorted({*_LAB, *entry_points(group="rowqueue.commands").names})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
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
            raise click.ClickException(str(error)) from error


def _missing(name: str, because: str = "") -> click.Command:
    def refuse() -> None:
        raise click.ClickException(f"{name} is {_NOT_INSTALLED}{because}")

    anything = {"ignore_unknown_options": True, "allow_extra_args": True}
    return click.Command(name, callback=refuse, help=f"Is {_NOT_INSTALLED}", context_settings=anything)


@click.group(cls=_Commands)
@click.version_option(__version__, prog_name="rowqueue")
def main() -> None:
    """Rows in a Snowflake table, delivered to an HTTPS service over mutual TLS."""
    # SIGTERM ends the program as Ctrl-C does: what it started is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


if __name__ == "__main__":
    main()
