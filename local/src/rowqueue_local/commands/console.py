"""Where the commands write for people."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.console import Console

FOLDER = click.Path(file_okay=False, path_type=Path)


def console(*, stderr: bool = False) -> Console:
    """As wide as the terminal; elsewhere wide enough that one line stays one line."""
    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(stderr=stderr, highlight=False, width=None if terminal else 120)
