"""The statements of ``queries.sql``, by name.

They are code: they version, test and ship with the Python that names their parameters, so they live in the package and
not in the folder ``snowflake/``, whose scripts a person runs with other rights.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_HEADER = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)
_COMMENT = re.compile(r"^--.*\n", re.MULTILINE)
_PARAMETER = re.compile(r"%\((\w+)\)s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One named statement.

    Attributes:
        name: as in ``queries.sql``.
        text: as it is sent, with ``?`` for each bound value.
        parameters: the names of the values, in the order of the question marks.
    """

    name: str
    text: str
    parameters: tuple[str, ...]

    def bind(self, values: Mapping[str, object]) -> tuple[object, ...]:
        """The values in the order of the question marks.

        Raises:
            TypeError: a name is missing, or one is not in the statement.
        """
        if set(values) != set(self.parameters):
            raise TypeError(f"{self.name}: expected values for {sorted(set(self.parameters))}, got {sorted(values)}")
        return tuple(values[name] for name in self.parameters)


def load(source: str, *, queue: str, max_retries: int = 3) -> dict[str, Statement]:
    """Parse the text of a statement file.

    Args:
        source: the text.
        queue: the queue table's name, already validated: it is put into the text.
        max_retries: put into the text where a bind would keep the result cache from answering.
    """
    parts = _HEADER.split(source)[1:]
    statements = {}
    for name, body in zip(parts[::2], parts[1::2], strict=True):
        text = _COMMENT.sub("", body).strip().replace("{queue}", queue).replace("{max_retries}", str(max_retries))
        statements[name] = Statement(
            name=name, text=_PARAMETER.sub("?", text), parameters=tuple(_PARAMETER.findall(text))
        )
    return statements


def statements(*, queue: str, max_retries: int = 3) -> dict[str, Statement]:
    """Every statement that the program sends, for this queue table and this limit of counted attempts."""
    source = resources.files(__name__).joinpath("queries.sql").read_text(encoding="utf-8")
    return load(source, queue=queue, max_retries=max_retries)
