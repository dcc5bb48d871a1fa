"""The two forms in which Snowflake sends rows: Arrow, and text for drivers that do not read Arrow."""

from __future__ import annotations

import base64
import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def as_texts(answer: bytes) -> bytes:
    """The same answer with its rows as texts, as Snowflake sends them to drivers that do not read Arrow.

    The driver for Node reads ``rowset`` whatever the answer says about its format.
    """
    reply = json.loads(answer)
    data = reply["data"]
    if not reply["success"] or not data or "rowtype" not in data:
        return answer
    if data.get("queryResultFormat") == "arrow":
        data["rowset"] = _rows(data.pop("rowsetBase64"), data["rowtype"])
        data["queryResultFormat"] = "json"
    data |= {"returned": len(data["rowset"]), "version": 1}
    return json.dumps(reply).encode()


def _rows(encoded: str, columns: list[dict[str, Any]]) -> list[list[str | None]]:
    if not encoded:
        return []
    with pa.ipc.open_stream(base64.b64decode(encoded)) as stream:
        table = stream.read_all()
    texts = []
    for values, column in zip(table.columns, columns, strict=True):
        text_of = _TEXT_OF.get(column["type"], str)
        # A date as the number of days: Arrow would give an object, and Snowflake sends the number.
        numbers = values.cast(pa.int32()) if pa.types.is_date32(values.type) else values
        texts.append([None if value is None else text_of(value) for value in numbers.to_pylist()])
    return [list(row) for row in zip(*texts, strict=True)]


def _seconds(value: Mapping[str, int]) -> str:
    return f"{Decimal(value['epoch']) + Decimal(value['fraction']).scaleb(-9):.9f}"


_TEXT_OF: dict[str, Callable[[Any], str]] = {
    "boolean": lambda value: "1" if value else "0",
    "real": repr,
    "binary": lambda value: value.hex().upper(),
    "time": lambda nanoseconds: f"{Decimal(nanoseconds).scaleb(-9):.9f}",
    "timestamp_ntz": _seconds,
    "timestamp_ltz": _seconds,
    "timestamp_tz": lambda value: f"{_seconds(value)} {value['timezone']}",
}
