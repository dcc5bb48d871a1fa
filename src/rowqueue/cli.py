"""``rowqueue``: the command line for people. Needs the extra ``local``."""

from __future__ import annotations

import json
import shlex
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

try:
    import click
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Table

    from rowqueue.local import demo, deployment, stack
    from rowqueue.local.bench import cases, figures, ground, rows, runs, tables
    from rowqueue.local.drills import all as drills
except ModuleNotFoundError as error:
    sys.exit(f"rowqueue: {error.name} is missing; the command line needs: pip install 'rowqueue[local]'")

from rowqueue import __version__
from rowqueue.errors import RowqueueError
from rowqueue.lifecycle import Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from rowqueue.local.demo import Look, Result
    from rowqueue.local.drills import Verdict


_FOLDER = click.Path(file_okay=False, path_type=Path)


class _Group(click.Group):
    """Our own errors are messages; a stack trace is for faults of the program."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except (RowqueueError, OSError) as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Group)
@click.version_option(__version__, prog_name="rowqueue")
def main() -> None:
    """Rows in a Snowflake table, delivered to an HTTPS service over mutual TLS."""
    # SIGTERM ends the program as Ctrl-C does: with the stack taken down.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


@main.command("demo")
@click.option("--entries", type=click.IntRange(1, 100_000), default=200, show_default=True, help="How many to insert.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as one JSON object on the last line.")
@click.option("--state-dir", type=_FOLDER, default=Path(".local/demo"), show_default=True)
def demo_command(entries: int, state_dir: Path, *, as_json: bool) -> None:
    """Run the whole system on this machine, from INSERT to completed, on an embedded stack.

    The fleet is sized for a laptop: at most 4 tasks, each with larger blocks than the defaults, a tick each second.
    """
    console = _console(stderr=as_json)
    console.print(
        f"Starting the embedded stack, deploying into it, inserting {entries} entries; "
        f"the fleet is a laptop's: at most {demo.MAX_CONTAINERS} tasks, a tick each {demo.TICK_S:g} s ..."
    )
    with _watching(console, entries) as watch:
        result = demo.play(state_dir.resolve(), entries, watch=watch)
    _summarise(console, result)
    if as_json:
        click.echo(result.as_json())
    if not result.held:
        raise click.ClickException("the promise did not hold: see the figures above")


@main.command("drill")
@click.argument("name", required=False, type=click.Choice(sorted(drills.ALL)))
@click.option("--list", "listed", is_flag=True, help="Name the drills and what each promises.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as one JSON object on the last line.")
@click.option("--state-dir", type=_FOLDER, default=Path(".local/drill"), show_default=True)
def drill_command(name: str | None, state_dir: Path, *, listed: bool, as_json: bool) -> None:
    """Play one fault on a fresh embedded stack; exit code 0 only if the promise held."""
    if listed or name is None:
        for drill in drills.ALL.values():
            click.echo(f"{drill.name:<12} {drill.promise}")
        return
    console, drill = _console(stderr=as_json), drills.ALL[name]
    console.print(f"[bold]{drill.name}[/bold]  {drill.promise}")
    verdict = drill.play(state_dir.resolve(), lambda line: console.print(f"  {line}", markup=False))
    _show(console, verdict)
    if as_json:
        click.echo(json.dumps(verdict.as_json(drill.name)))
    if not verdict.held:
        raise click.ClickException("the promise did not hold")


def _show(console: Console, verdict: Verdict) -> None:
    if verdict.table:
        heading, *rows = verdict.table
        table = Table(*heading)
        for row in rows:
            table.add_row(*(escape(cell) for cell in row))
        console.print(table)
    for figure, value in verdict.figures.items():
        console.print(f"{figure:<32} {value}", markup=False)
    for name, value in verdict.compressed.items():
        console.print(f"compressed: {name} {value}", markup=False)
    console.print("[bold green]held[/bold green]" if verdict.held else "[bold red]NOT held[/bold red]")


@main.command("bench")
@click.option("--only", multiple=True, type=click.Choice(list(cases.GROUPS)), help="This part; may be repeated.")
@click.option("--quick", is_flag=True, help="The promised parts, slow ones once: four minutes instead of eleven.")
@click.option("--smoke", is_flag=True, help="Seconds: does it work? Too small to judge by.")
@click.option("--repetitions", type=click.IntRange(1, 50), default=None, help="Of each case.")
@click.option("--table-rows", type=click.IntRange(1, 10_000_000), help="Instead: statements on a table this full.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as one JSON object on the last line.")
@click.option("--state-dir", type=_FOLDER, default=Path(".local/bench"), show_default=True)
def bench_command(
    only: tuple[str, ...],
    repetitions: int | None,
    table_rows: int | None,
    state_dir: Path,
    *,
    quick: bool,
    smoke: bool,
    as_json: bool,
) -> None:
    """Measure beside a raw loop (the limit) and the way of the first sketch; exit code 0 only if the promises hold.

    Ratios of one run mean something also on a busy machine; entries/s do not.
    """
    console = _console(stderr=as_json)
    with ground.prepared(state_dir.resolve()) as prepared:
        if table_rows:
            times = rows.measure(prepared, finished=table_rows, watch=console.print)
            told, promises, table = {"table": times}, rows.promises(times), tables.of_times(times)
        else:
            form = cases.form(groups=only, quick=quick, smoke=smoke, repetitions=repetitions or 0)
            measured = figures.rows_of(runs.play(prepared, form, watch=lambda run: console.print(str(run))))
            told = {"runs": [row.as_json() for row in measured]}
            promises, table = figures.promises(measured) if form.judged else [], tables.of_rows(measured)
    click.echo(f"\n{table}\n", err=as_json)
    if promises:
        click.echo(f"{tables.of_promises(promises)}\n", err=as_json)
    if as_json:
        click.echo(json.dumps(told))
    if not all(promise.held for promise in promises):
        raise click.ClickException("a promise did not hold: see above, and whether the machine was busy")


@main.group("local")
def local_group() -> None:
    """The embedded stack."""


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
    help="From RunTask to the task's start.",
)
@click.option("--state-dir", type=_FOLDER, default=Path(".local/up"), show_default=True)
@click.option(
    "--env-file",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path(".local/env"),
    show_default=True,
    help="Where the exports are written while the stack runs.",
)
def up(tick_s: float | None, task_start_seconds: float, state_dir: Path, env_file: Path) -> None:
    """Start the stack, deploy into it, and keep it running until Ctrl-C.

    `source` the env file, and the AWS CLI, boto3 and any Snowflake connector reach the stack.
    """
    console = _console()
    poller = {"TICK_SECONDS": str(tick_s)} if tick_s is not None else {}
    options = stack.Options(state=state_dir.resolve(), tick_s=tick_s, task_start_s=task_start_seconds, poller=poller)
    with stack.running(options) as running:
        deployment.deploy(running)
        env = env_file.resolve()
        env.parent.mkdir(parents=True, exist_ok=True)
        env.touch(mode=0o600)
        env.write_text("".join(f"export {name}={shlex.quote(value)}\n" for name, value in running.environ.items()))
        _tell(console, running, env)
        try:
            while not threading.Event().wait(1):
                running.check()
        except KeyboardInterrupt:
            console.print("Stopping ...")
        finally:
            env.unlink(missing_ok=True)


def _tell(console: Console, running: stack.Stack, env: Path) -> None:
    if not console.is_terminal:
        click.echo(json.dumps({"ready": True, "env": str(env)}))
        return
    table = Table.grid(padding=(0, 2))
    table.add_row("AWS", running.aws)
    table.add_row("Snowflake", running.snowflake)
    table.add_row("Partner", running.partner)
    console.print(table)
    console.print(f"\nIn another shell:  [bold]source {env}[/bold]\nCtrl-C ends it.")


def _console(*, stderr: bool = False) -> Console:
    """Drawn to fit a terminal; elsewhere one line stays one line."""
    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(stderr=stderr, highlight=False, width=None if terminal else 120)


class _watching:  # noqa: N801 -- reads as what it does
    """Draws the looks on a terminal; elsewhere writes one line now and then."""

    _QUIET_EVERY_S = 5.0

    def __init__(self, console: Console, entries: int) -> None:
        self._console = console
        self._entries = entries
        self._told_at = -self._QUIET_EVERY_S
        self._progress = Progress(
            TextColumn("{task.completed}/{task.total} done"),
            BarColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
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
        if not self._console.is_terminal and look.seconds - self._told_at >= self._QUIET_EVERY_S:
            self._told_at = look.seconds
            self._console.print(f"{look.seconds:5.1f} s  {done}/{self._entries} done, {described}")


def _summarise(console: Console, result: Result) -> None:
    table = Table(title=f"{result.entries} entries in {result.seconds:g} s", title_justify="left", show_header=False)
    table.add_row("completed", str(result.completed))
    table.add_row("failed", str(result.failed))
    for reason, count in result.reasons:
        table.add_row("", f"{count} x {reason}")
    table.add_row("pending, processing", f"{result.pending}, {result.processing}")
    table.add_row("deliveries", f"{result.attempts} attempts, at most {result.in_flight} at once")
    table.add_row("", ", ".join(f"{count} x {answer}" for answer, count in sorted(result.answers.items())))
    table.add_row("delivered again after a success", str(result.duplicate_deliveries))
    table.add_row("tasks launched", str(result.tasks_launched))
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(result.statements.items()))
    table.add_row("statements to Snowflake", f"{sum(result.statements.values())} ({kinds})")
    table.add_row("entries/s", f"{result.entries / result.seconds:.1f}, the start of the tasks included")
    console.print(table)


if __name__ == "__main__":
    main()
