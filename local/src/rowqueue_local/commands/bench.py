"""``rowqueue bench``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from rowqueue_local.bench import cases, figures, ground, memory, rows, runs, settles, tables
from rowqueue_local.commands.console import FOLDER, console


@click.command("bench")
@click.option("--only", multiple=True, type=click.Choice(list(cases.GROUPS)), help="Run this part; may be repeated.")
@click.option("--quick", is_flag=True, help="Run the promised parts, slow ones once: four minutes instead of eleven.")
@click.option("--smoke", is_flag=True, help="Check in seconds that it works. Too small to judge promises.")
@click.option("--repetitions", type=click.IntRange(1, 50), default=None, help="Runs of each case.")
@click.option(
    "--table-rows", type=click.IntRange(1, 10_000_000), help="Instead, measure statements beside finished entries."
)
@click.option(
    "--pending-rows", type=click.IntRange(1, 10_000_000), help="Instead, measure statements beside ready entries."
)
@click.option(
    "--characters", type=click.IntRange(1, 1_000_000), default=1000, show_default=True, help="Data of each such entry."
)
@click.option(
    "--attempts",
    type=click.IntRange(1, 50_000_000),
    help="Instead, measure statements with an audit trail of this size.",
)
@click.option("--answers", is_flag=True, help="Instead, measure settled entries/s, by the length of answers.")
@click.option("--memory", "large", is_flag=True, help="Instead, measure the memory that large entries take.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as one JSON object on the last line.")
@click.option("--state-dir", type=FOLDER, default=Path(".local/bench"), show_default=True)
def bench_command(
    *,
    only: tuple[str, ...],
    repetitions: int | None,
    table_rows: int | None,
    pending_rows: int | None,
    characters: int,
    attempts: int | None,
    state_dir: Path,
    quick: bool,
    smoke: bool,
    answers: bool,
    large: bool,
    as_json: bool,
) -> None:
    """Compare the throughput with a plain loop and a simple program. Exit code 0 if promises are kept.

    The plain loop, the "limit", has no queue. The simple program, the "sketch", updates each entry by itself.

    With --answers, "joined" is the settle as it ships, and "bound" the form before it.

    On a busy machine, ratios are still meaningful; entries/s are not.
    """
    terminal = console(stderr=as_json)
    with ground.prepared(state_dir.resolve()) as prepared:
        if table_rows or pending_rows or attempts:
            fill = rows.Fill(
                finished=table_rows or 0, pending=pending_rows or 0, characters=characters, attempts=attempts or 0
            )
            times = rows.measure(prepared, fill, repetitions=repetitions or (1 if smoke else 0), watch=terminal.print)
            output, table = {"table": times}, tables.of_times(times)
            promises = [] if smoke else rows.promises(times, fill)
        elif answers:
            settled = settles.measure(
                prepared, shrink=20 if smoke else 1, repetitions=repetitions or 1, watch=terminal.print
            )
            output, table = {"settled": settled}, tables.of_settles(settled)
            promises = [] if smoke else settles.promises(settled)
        elif large:
            taken = memory.measure(prepared, memory.SMALL if smoke else memory.HEAVY, watch=terminal.print)
            output, table = {"memory": taken}, tables.of_memory(taken)
            promises = [] if smoke else memory.promises(taken)
        else:
            form = cases.form(groups=only, quick=quick, smoke=smoke, repetitions=repetitions or 0)
            measured = figures.rows_of(runs.play(prepared, form, watch=lambda run: terminal.print(str(run))))
            output = {"runs": [row.as_json() for row in measured]}
            promises, table = figures.promises(measured) if form.judged else [], tables.of_rows(measured)
    click.echo(f"\n{table}\n", err=as_json)
    if promises:
        click.echo(f"{tables.of_promises(promises)}\n", err=as_json)
    if as_json:
        click.echo(json.dumps(output))
    if not all(promise.kept for promise in promises):
        raise click.ClickException("a promise was not kept: see above, and check whether the machine was busy")
