"""The statements of ``queries.sql`` and ``operator.sql``, and the rows that are sent to them as JSON arrays.

The statements are code: they are versioned, tested and shipped with the Python that binds their values. So they live in
the package. The folder ``snowflake/`` has the scripts that a person runs with other rights.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from rowqueue.contract import DEFAULT_DESTINATION, SCHEMA_VERSION, valid_destination, why_too_new, why_too_old
from rowqueue.errors import ObjectMissing, SchemaError, WarehouseUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

_HEADER = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)
_COMMENT = re.compile(r"^--.*\n", re.MULTILINE)
_PARAMETER = re.compile(r"%\((\w+)\)s")
_PLACEHOLDER = re.compile(r"\{[^{}]*\}")


class ClaimedKey(NamedTuple):
    """What names a claimed entry in a statement, as a JSON array.

    The id alone does not: no key is enforced, and a copy of a row has its id.
    """

    entry_id: int
    claim_token: str
    idempotency_key: str


class SettlementRow(NamedTuple):
    """What the statement ``settle_bound`` reads for one entry, as a JSON array.

    The order of the fields is the order in the array. ``queries.sql`` names a field, as ``{settlement.status}``, and
    the loader puts its position there.
    """

    entry_id: int
    claim_token: str
    idempotency_key: str
    status: str
    counted: int
    released: int
    doubted: int
    delay_ms: int
    response_status: int | None
    result: str | None
    error_message: str | None


class Attempt(NamedTuple):
    """One delivery that was started, and what becomes of its entry, as the statement ``insert_attempts`` reads it.

    See :class:`SettlementRow`. Fields that have the same value in most rows come first, side by side: the driver then
    compresses the rows in half the time.

    Attributes:
        attempt: its number, from 1.
        outcome: a :class:`~rowqueue.contract.AttemptOutcome`. It says whether the attempt is counted, and whether the
            entry is released.
        response_status: the HTTP status, if there was an answer.
        status: what the entry becomes.
        delay_ms: milliseconds until a retry is ready; ``None`` if the entry keeps its time.
        error_message: why it failed, if it did.
        started_ms_ago: milliseconds since it was started.
        finished_ms_ago: milliseconds since it ended.
        trace_id: of the delivery, 32 hexadecimal digits.
        result: the answer, cut to a limit, if there was one.
    """

    claim_token: str
    attempt: int
    outcome: str
    response_status: int | None
    status: str
    delay_ms: int | None
    error_message: str | None
    entry_id: int
    started_ms_ago: int
    finished_ms_ago: int
    idempotency_key: str
    trace_id: str | None
    result: str | None

    @property
    def key(self) -> ClaimedKey:
        """The claimed entry."""
        return ClaimedKey(self.entry_id, self.claim_token, self.idempotency_key)


_FIELDS = {"settlement": SettlementRow._fields, "attempt": Attempt._fields, "claimed": ClaimedKey._fields}
_POSITIONS = {
    f"{{{row}.{name}}}": str(position) for row, fields in _FIELDS.items() for position, name in enumerate(fields)
}


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


class Warehouse(Protocol):
    """What runs statements."""

    def rows(self, statement: Statement, values: Mapping[str, object]) -> list[tuple[Any, ...]]:
        """Run a query."""
        ...

    def change(self, statement: Statement, values: Mapping[str, object]) -> int:
        """Run a statement that changes rows; returns how many."""
        ...


def load(
    source: str, *, queue: str, max_retries: int = 3, destination: str = DEFAULT_DESTINATION
) -> dict[str, Statement]:
    """Parse the text of a statement file.

    Args:
        source: the text.
        queue: the queue table's name. It becomes part of the text, so it must have been validated.
        max_retries: becomes part of the text where a bound value would keep the result cache from answering.
        destination: whose entries are claimed and counted; becomes part of the text for the same reason.

    Raises:
        ValueError: a placeholder is unknown, or the name is none of a destination.
    """
    known = _POSITIONS | {
        "{queue}": queue,
        "{max_retries}": str(max_retries),
        "{destination}": f"'{valid_destination(destination)}'",
        "{program}": str(int(SCHEMA_VERSION)),
    }

    def value_of(placeholder: re.Match[str]) -> str:
        try:
            return known[placeholder[0]]
        except KeyError:
            raise ValueError(f"{placeholder[0]}: expected one of {', '.join(sorted(known))}") from None

    parts = _HEADER.split(source)[1:]
    statements = {}
    for name, body in zip(parts[::2], parts[1::2], strict=True):
        text = _PLACEHOLDER.sub(value_of, _COMMENT.sub("", body).strip())
        statements[name] = Statement(
            name=name, text=_PARAMETER.sub("?", text), parameters=tuple(_PARAMETER.findall(text))
        )
    return statements


def statements(
    *, queue: str, max_retries: int = 3, destination: str = DEFAULT_DESTINATION, file: str = "queries.sql"
) -> dict[str, Statement]:
    """Every statement of a file, for this queue table, limit of counted attempts and destination."""
    source = resources.files(__name__).joinpath(file).read_text(encoding="utf-8")
    return load(source, queue=queue, max_retries=max_retries, destination=destination)


class Sender:
    """Sends the statements of one program, by their names.

    Every method may raise a :class:`~rowqueue.errors.WarehouseError`.

    Args:
        warehouse: runs the statements.
        queue: the queue table's name, validated.
        max_retries: counted attempts, unless the entry has its own limit.
        destination: whose entries are claimed and counted.
        file: the statements.
    """

    def __init__(
        self,
        warehouse: Warehouse,
        *,
        queue: str,
        max_retries: int,
        destination: str = DEFAULT_DESTINATION,
        file: str = "queries.sql",
    ) -> None:
        self._warehouse = warehouse
        self._statements = statements(queue=queue, max_retries=max_retries, destination=destination, file=file)
        self._max_retries = max_retries
        self._destination = destination

    def require_schema(self) -> None:
        """Look whether the tables and this program fit each other.

        Raises:
            SchemaError: they do not. The message has both versions.
        """
        try:
            version, oldest_program = self._row("schema_version", columns=2)
        except ObjectMissing as error:
            raise SchemaError(f"{why_too_new(None)}: {error}") from error
        if reason := why_too_new(version):
            raise SchemaError(f"{reason}: run: rowqueue migrate")
        if reason := why_too_old(oldest_program):
            raise SchemaError(f"{reason}: deploy the release that migrated them")

    def _rows(self, name: str, *, columns: int, **values: object) -> list[tuple[Any, ...]]:
        """The rows of a query. A proxy may answer in Snowflake's place, in a form that the driver accepts.

        Raises:
            WarehouseUnavailable: a row has another number of columns.
        """
        statement = self._statements[name]
        rows = self._warehouse.rows(statement, values)
        if others := sorted({len(row) for row in rows} - {columns}):
            raise WarehouseUnavailable(f"Snowflake: {name}: expected rows of {columns} columns, got some of {others}")
        return rows

    def _row(self, name: str, *, columns: int, **values: object) -> tuple[Any, ...]:
        """The row of a query that has exactly one."""
        rows = self._rows(name, columns=columns, **values)
        if len(rows) != 1:
            raise WarehouseUnavailable(f"Snowflake: {name}: expected one row, got {len(rows)}")
        return rows[0]

    def _change(self, name: str, **values: object) -> int:
        return self._warehouse.change(self._statements[name], values)
