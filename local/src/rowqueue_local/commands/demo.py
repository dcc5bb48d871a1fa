"""``rowqueue demo``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from rowqueue.lifecycle import Status
from rowqueue_local import demo
from rowqueue_local.commands.console import FOLDER, console

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from rowqueue_local.demo import Look, Result


@click.command("demo")
@click.option("--entries", type=click.IntRange(1, 100_000), default=200, show_default=True, help="How many to insert.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as one JSON object on the last line.")
@click.option("--state-dir", type=FOLDER, default=Path(".local/demo"), show_default=True)
def demo_command(entries: int, state_dir: Path, *, as_json: bool) -> None:
    """Run the whole system on this machine, from INSERT to the end of each entry.

    The demo suits a laptop: at most 4 tasks, larger blocks than the defaults, a tick every second.
    """
    terminal = console(stderr=as_json)
    terminal.print(
        f"Starting the embedded stack, deploying into it, inserting {entries} entries; "
        f"at most {demo.MAX_CONTAINERS} tasks, a tick every {demo.TICK_S:g} s ..."
    )
    with _watching(terminal, entries) as watch:
        result = demo.play(state_dir.resolve(), entries, watch=watch)
    _summarise(terminal, result)
    if as_json:
        click.echo(result.as_json())
    if not result.kept:
        raise click.ClickException("the promise was not kept: see the figures above")


class _watching:  # noqa: N801 -- used like a function
    """Draws a progress bar on a terminal; elsewhere prints a line every few seconds."""

    _QUIET_EVERY_S = 5.0

    def __init__(self, terminal: Console, entries: int) -> None:
        self._terminal = terminal
        self._entries = entries
        self._printed_at = -self._QUIET_EVERY_S
        self._progress = Progress(
            TextColumn("{task.completed}/{task.total} done"),
            BarColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=terminal,
            disable=not terminal.is_terminal,
        )
        self._bar = self._progress.add_task("", total=entries)

    def __enter__(self) -> Callable[[Look], None]:
        self._progress.start()
        return self._look

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def _look(self, look: Look) -> None:
        done = look.of(Status.COMPLETED, Status.FAILED)
        described = (
            f"{look.of(Status.PENDING)} pending, {look.of(Status.PROCESSING)} processing, "
            f"{look.of(Status.FAILED)} failed, {look.live} tasks of {look.launched} alive"
        )
        self._progress.update(self._bar, completed=done, description=described)
        if not self._terminal.is_terminal and look.seconds - self._printed_at >= self._QUIET_EVERY_S:
            self._printed_at = look.seconds
            self._terminal.print(f"{look.seconds:5.1f} s  {done}/{self._entries} done, {described}")


def _summarise(terminal: Console, result: Result) -> None:
    table = Table(title=f"{result.entries} entries in {result.seconds:g} s", title_justify="left", show_header=False)
    table.add_row("completed", str(result.completed))
    table.add_row("failed", str(result.failed))
    for reason, count in result.reasons:
        table.add_row("", f"{count} x {reason}")
    table.add_row("pending, processing", f"{result.pending}, {result.processing}")
    table.add_row("deliveries", f"{result.attempts} attempts, at most {result.in_flight} at once")
    table.add_row("", ", ".join(f"{count} x {answer}" for answer, count in sorted(result.answers.items())))
    table.add_row("delivered again after a success", str(result.duplicate_deliveries))
    table.add_row("tasks launched", f"{result.tasks_launched}, at most {result.most_tasks} at once")
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(result.statements.items()))
    table.add_row("statements to Snowflake", f"{sum(result.statements.values())} ({kinds})")
    table.add_row("entries/s", f"{result.entries / result.seconds:.1f}, the start of the tasks included")
    terminal.print(table)
