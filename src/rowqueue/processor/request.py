"""What is sent for an entry: the body, byte for byte, and the headers that let a service be effectively-once."""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from datetime import datetime

    from rowqueue.lifecycle import Entry

_HEADER_VALUE = re.compile(r"[\x21-\x7e]{1,255}")


def body(entry: Entry, *, processor_id: str, now: datetime, max_characters: int) -> bytes:
    """The envelope with ``data`` spliced in as it stands: what passes the check goes out byte for byte.

    Raises:
        ValueError: ``data`` is not JSON, or longer than ``max_characters``; the message says so.
    """
    if len(entry.data) > max_characters:
        raise ValueError(f"data has {len(entry.data)} characters, MAX_DATA_CHARACTERS is {max_characters}")
    try:
        _CHECK.decode(entry.data)
        by = f'"processor_id": {json.dumps(processor_id)}, "timestamp": "{now.isoformat()}"'
        return f'{{"entry_id": {entry.id}, {by}, "data": {entry.data}}}'.encode()
    except (ValueError, RecursionError) as error:
        raise ValueError(f"data is not JSON: {error}") from error


def headers(entry: Entry, *, span: int) -> dict[str, str]:
    """``Idempotency-Key`` and trace id are the same for every delivery of the entry; the rest is this one's.

    Args:
        entry: as it was claimed.
        span: 64 bits that no other delivery of the entry has, not all of them 0.

    Raises:
        ValueError: a producer has set an ``idempotency_key`` that no header takes.
    """
    if not _HEADER_VALUE.fullmatch(entry.idempotency_key):
        raise ValueError("idempotency_key: expected 1 to 255 visible ASCII characters")
    trace = hashlib.sha256(entry.idempotency_key.encode()).hexdigest()[:32]
    return {
        "Accept-Encoding": "identity",
        "Content-Type": "application/json",
        "Idempotency-Key": entry.idempotency_key,
        "X-Attempt": str(entry.attempt),
        "traceparent": f"00-{trace}-{span:016x}-01",  # W3C Trace Context, version 00, sampled
    }


def _refuse_constant(constant: str) -> NoReturn:
    """NaN and Infinity: Python's parser takes them, JSON does not."""
    raise ValueError(f"{constant} is not a JSON value")


# Numbers go out as they are written; converting a very long one costs time, and past 4,300 digits an error.
_CHECK = json.JSONDecoder(parse_constant=_refuse_constant, parse_int=len, parse_float=len)
