"""``rowqueue drill``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.markup import escape
from rich.table import Table

from rowqueue_local.commands.console import FOLDER, console
from rowqueue_local.drills import all as drills
from rowqueue_local.drills import cancel, storm

if TYPE_CHECKING:
    from rich.console import Console

    from rowqueue_local.drills import Verdict


@click.command("drill")
@click.argument("name", required=False, type=click.Choice(sorted(drills.ALL)))
@click.option("--list", "listed", is_flag=True, help="List the drills and their promises.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as one JSON object on the last line.")
@click.option(
    "--seed", type=click.IntRange(min=0), help="Of storm only: repeat the plan of this seed. Default: random."
)
@click.option(
    "--minutes",
    type=click.FloatRange(min=0.05, max=1440),
    help=f"Of storm only: how long faults happen. Default: {storm.MINUTES:g}.",
)
@click.option(
    "--entries",
    type=click.IntRange(min=500, max=10_000),
    help=f"Of cancel only: entries in hand, and as many pending. Default: {cancel.ENTRIES}.",
)
@click.option("--state-dir", type=FOLDER, default=Path(".local/drill"), show_default=True)
def drill_command(
    name: str | None,
    state_dir: Path,
    *,
    seed: int | None,
    minutes: float | None,
    entries: int | None,
    listed: bool,
    as_json: bool,
) -> None:
    """Cause a fault, or with storm many, on a fresh embedded stack. Exit code 0 only if the promise was kept."""
    if listed or name is None:
        for drill in drills.ALL.values():
            click.echo(f"{drill.name:<12} {drill.promise}")
        return
    terminal, drill = console(stderr=as_json), drills.ALL[name]
    if drill is storm.DRILL:
        drill = storm.drill(seed=seed, minutes=storm.MINUTES if minutes is None else minutes)
    elif seed is not None or minutes is not None:
        raise click.UsageError(f"--seed and --minutes are options of the drill storm, not of {name}")
    if drill is cancel.DRILL:
        drill = cancel.drill(entries=cancel.ENTRIES if entries is None else entries)
    elif entries is not None:
        raise click.UsageError(f"--entries is an option of the drill cancel, not of {name}")
    terminal.print(f"[bold]{drill.name}[/bold]  {drill.promise}")
    verdict = drill.play(state_dir.resolve(), lambda line: terminal.print(f"  {line}", markup=False))
    _show(terminal, verdict)
    if as_json:
        click.echo(json.dumps(verdict.as_json(drill.name)))
    if not verdict.kept:
        raise click.ClickException("the promise was not kept")


def _show(terminal: Console, verdict: Verdict) -> None:
    if verdict.table:
        heading, *rows = verdict.table
        table = Table(*heading)
        for row in rows:
            table.add_row(*(escape(cell) for cell in row))
        terminal.print(table)
    for figure, value in verdict.figures.items():
        terminal.print(f"{figure:<36} {value}", markup=False)
    for name, value in verdict.compressed.items():
        terminal.print(f"compressed: {name} {value}", markup=False)
    terminal.print("[bold green]kept[/bold green]" if verdict.kept else "[bold red]NOT kept[/bold red]")
