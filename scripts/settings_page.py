"""Writes ``docs/settings.md`` from the fields of the settings classes: ``make docs``."""

from __future__ import annotations

import sys
from dataclasses import MISSING, Field, dataclass, fields
from typing import TYPE_CHECKING, Any

from rowqueue.environment import Problem, secret
from rowqueue.settings import PollerSettings, ProcessorSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rowqueue.environment import FromEnvironment

_READERS: tuple[tuple[str, type[FromEnvironment]], ...] = (("poller", PollerSettings), ("processor", ProcessorSettings))

_PREFACE = """\
# Settings

`make docs` writes this page from `src/rowqueue/settings.py`, and `make check` compares the two.

Settings are environment variables. A program reads them once, at the start, and checks them together. It reports all
problems before it connects to anything, one per line: `NAME: expected ..., got ...`. An empty variable counts as not
set. Settings that are valid alone but contradict each other, such as a stale threshold shorter than a task's life, are
problems too.

`SNOWFLAKE_AUTHENTICATION` says how to log in. With `workload_identity` there is no secret: the driver proves the IAM
role of the function or the task. `key_pair` needs `SNOWFLAKE_USER` and `SNOWFLAKE_PRIVATE_KEY`; `password` needs
`SNOWFLAKE_USER` and `SNOWFLAKE_PASSWORD`. Where these are not set, the program reads the secret
`<environment>-snowflake-credentials` from AWS Secrets Manager. It is a JSON object with `username` and `private_key`
(and `private_key_passphrase`, if the key is encrypted), or with `username` and `password`.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One environment variable, as one reader declares it."""

    name: str
    about: str
    accepts: str
    default: str


def render() -> str:
    """The whole page."""
    declared = {reader: list(_settings(settings)) for reader, settings in _READERS}
    names = {reader: {setting.name for setting in found} for reader, found in declared.items()}
    shared = names["poller"] & names["processor"]
    sections = [
        _section("Both", _merged(declared, shared)),
        _section("The poller", [s for s in declared["poller"] if s.name not in shared]),
        _section("The processor", [s for s in declared["processor"] if s.name not in shared]),
    ]
    return "\n".join([_PREFACE, *sections])


def _settings(settings: type[FromEnvironment]) -> Iterator[Setting]:
    for item in fields(settings):  # type: ignore[arg-type]  # every subclass is a dataclass
        if nested := item.metadata.get("nested"):
            yield from _settings(nested)
        else:
            metadata = item.metadata
            yield Setting(
                name=metadata["name"],
                about=metadata["about"],
                accepts=_accepts(metadata["parse"]),
                default=_default(item),
            )


def _merged(declared: dict[str, list[Setting]], shared: set[str]) -> list[Setting]:
    """The shared settings, with the poller's sentences: it is the one that resets stale claims."""
    return [setting for setting in declared["poller"] if setting.name in shared]


def _accepts(parse: Any) -> str:
    """What a parser expects. No parser accepts an empty text, so its refusal says it."""
    if parse is secret:
        return "text, never shown"
    try:
        parse("")
    except Problem as problem:
        return problem.expected
    return "any text"


def _default(item: Field[Any]) -> str:
    if item.default is MISSING:
        return "required"
    if item.default is None:
        return ""
    if isinstance(item.default, bool):
        return f"`{int(item.default)}`"
    return f"`{item.default:g}`" if isinstance(item.default, float) else f"`{item.default}`"


def _section(title: str, settings: list[Setting]) -> str:
    rows = [f"| `{s.name}` | {s.default} | {_cell(s.about)} | {_cell(s.accepts)} |" for s in settings]
    return "\n".join(
        [f"## {title}", "", "| name | default | meaning | accepts |", "| --- | --- | --- | --- |", *rows, ""]
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    sys.stdout.write(render())
