"""Reads settings from environment variables, checks them together, and reports all problems at once.

Each field of a settings class has the variable's name, its parser and a sentence. docs/settings.md is made from them.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import MISSING, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import urlsplit

from rowqueue.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

T = TypeVar("T")


class Secret:
    """A text that is shown only by :meth:`reveal`. It is not a ``str``, so formatting does not show it by mistake."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def __repr__(self) -> str:
        return "Secret(***)"

    def reveal(self) -> str:
        """The secret itself."""
        return self._value


@dataclass(frozen=True, slots=True)
class Problem(Exception):  # noqa: N818 -- raised by parsers, caught by from_env, never seen outside
    """What a parser expected instead."""

    expected: str


def setting(
    name: str, parse: Callable[[str], T], about: str, *, default: T | None = None, required: bool = True
) -> Any:
    """A settings field, read from the environment variable ``name``."""
    metadata = {"name": name, "parse": parse, "about": about}
    if default is None and required:
        return field(metadata=metadata)
    return field(default=default, metadata=metadata)


def text(value: str) -> str:
    """Any text that is not empty."""
    return value


def secret(value: str) -> Secret:
    """A text that no message shows."""
    return Secret(value)


def matching(pattern: str, expected: str) -> Callable[[str], str]:
    """A parser for texts that match ``pattern`` as a whole."""

    def parse(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise Problem(expected)
        return value

    return parse


def number(minimum: float, maximum: float = math.inf) -> Callable[[str], float]:
    """A parser for numbers in ``minimum..maximum``."""
    expected = f"a number from {minimum:g}" + (f" to {maximum:g}" if maximum < math.inf else "")

    def parse(value: str) -> float:
        try:
            parsed = float(value)
        except ValueError:
            raise Problem(expected) from None
        if not minimum <= parsed <= maximum or math.isinf(parsed):
            raise Problem(expected)
        return parsed

    return parse


def whole_number(minimum: int, maximum: int) -> Callable[[str], int]:
    """A parser for whole numbers in ``minimum..maximum``."""
    expected = f"a whole number from {minimum} to {maximum}"

    def parse(value: str) -> int:
        if not re.fullmatch(r"\d{1,12}", value) or not minimum <= int(value) <= maximum:
            raise Problem(expected)
        return int(value)

    return parse


def flag(value: str) -> bool:
    """A parser for 0 and 1."""
    if value not in {"0", "1"}:
        raise Problem("0 or 1")
    return value == "1"


def https_url(value: str) -> str:
    """A parser for https URLs."""
    try:
        parts = urlsplit(value)
        no_user = parts.username is None and parts.password is None
        usable = parts.scheme == "https" and parts.hostname and no_user and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise Problem("a URL like https://api.example.com/process, without a user in it")
    return value


def string_list(value: str) -> tuple[str, ...]:
    """A parser for a JSON array of strings."""
    expected = 'a JSON array of strings like ["subnet-1", "subnet-2"]'
    try:
        parsed = json.loads(value)
    except ValueError:
        raise Problem(expected) from None
    if not isinstance(parsed, list) or not parsed or not all(isinstance(item, str) and item for item in parsed):
        raise Problem(expected)
    return tuple(parsed)


class FromEnvironment:
    """Base of the settings classes."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Read and check every setting.

        Raises:
            SettingsError: with one line for each problem.
        """
        values, problems = cls._read(environ)
        if problems:
            raise SettingsError(problems)
        settings = cls(**values)
        if contradictions := list(settings.contradictions()):
            raise SettingsError(contradictions)
        return settings

    @classmethod
    def _read(cls, environ: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
        values: dict[str, Any] = {}
        problems: list[str] = []
        for item in fields(cls):  # type: ignore[arg-type]  # every subclass is a dataclass
            if nested := item.metadata.get("nested"):
                inner, inner_problems = nested._read(environ)  # noqa: SLF001 -- of this very class
                problems += inner_problems
                if not inner_problems:
                    values[item.name] = nested(**inner)
                continue
            name = item.metadata["name"]
            given = environ.get(name, "").strip()
            if not given:
                if item.default is MISSING:
                    problems.append(f"{name}: expected a value ({item.metadata['about'].rstrip('.')}), got nothing")
                continue
            try:
                values[item.name] = item.metadata["parse"](given)
            except Problem as problem:
                hidden = item.metadata["parse"] is secret or "@" in given  # a URL may carry a password
                shown = "a value that is not shown" if hidden else repr(given[:100])
                problems.append(f"{name}: expected {problem.expected}, got {shown}")
        return values, problems

    def contradictions(self) -> Iterator[str]:
        """Settings that are valid alone but contradict each other, as ``NAME: expected ..., got ...``."""
        yield from ()
