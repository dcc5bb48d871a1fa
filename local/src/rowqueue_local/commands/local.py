"""``rowqueue local``."""

from __future__ import annotations

import json
import shlex
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table

from rowqueue_local import deployment, stack
from rowqueue_local.commands.console import FOLDER, console

if TYPE_CHECKING:
    from rich.console import Console


@click.group("local")
def local_group() -> None:
    """Run the embedded stack."""


@local_group.command("up")
@click.option(
    "--tick",
    "tick_s",
    type=click.FloatRange(0.2, 3600),
    help="Seconds between ticks, instead of the schedule's minute.",
)
@click.option(
    "--task-start-seconds",
    type=click.FloatRange(0, 600),
    default=0.3,
    show_default=True,
    help="Time from RunTask to the task's start.",
)
@click.option("--state-dir", type=FOLDER, default=Path(".local/up"), show_default=True)
@click.option(
    "--env-file",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path(".local/env"),
    show_default=True,
    help="File for the exports while the stack runs.",
)
def up(tick_s: float | None, task_start_seconds: float, state_dir: Path, env_file: Path) -> None:
    """Start the stack, deploy into it, and run it until Ctrl-C or SIGTERM.

    After `source` of the env file, the AWS CLI, boto3 and Snowflake connectors reach the stack.
    """
    # A shell that starts this in the background makes it ignore SIGINT. SIGTERM would leave the children behind.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    terminal = console()
    poller = {"TICK_SECONDS": str(tick_s)} if tick_s is not None else {}
    options = stack.Options(state=state_dir.resolve(), tick_s=tick_s, task_start_s=task_start_seconds, poller=poller)
    with stack.running(options) as running:
        deployment.deploy(running)
        env = env_file.resolve()
        env.parent.mkdir(parents=True, exist_ok=True)
        env.touch(mode=0o600)
        env.write_text("".join(f"export {name}={shlex.quote(value)}\n" for name, value in running.environ.items()))
        _show_addresses(terminal, running, env)
        try:
            while not threading.Event().wait(1):
                running.check()
        except KeyboardInterrupt:
            terminal.print("Stopping ...")
        finally:
            env.unlink(missing_ok=True)


def _show_addresses(terminal: Console, running: stack.Stack, env: Path) -> None:
    if not terminal.is_terminal:
        click.echo(json.dumps({"ready": True, "env": str(env)}))
        return
    table = Table.grid(padding=(0, 2))
    table.add_row("AWS", running.aws)
    table.add_row("Snowflake", running.snowflake)
    table.add_row("Partner", running.partner)
    terminal.print(table)
    terminal.print(f"\nIn another shell:  [bold]source {env}[/bold]\nCtrl-C ends it.")
