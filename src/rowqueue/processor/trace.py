"""Which trace the deliveries of an entry belong to, as in W3C Trace Context."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from rowqueue.lifecycle import Entry

_PARENT = re.compile(
    r"(?!ff)(?P<version>[0-9a-f]{2})-(?!0{32})(?P<trace_id>[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-(?P<flags>[0-9a-f]{2})"
    r"(?P<more>-.*)?"
)
"""W3C Trace Context, 3.2.2. A later version than 00 may append fields."""
_SAMPLED = 1


class Trace(NamedTuple):
    """A trace.

    Attributes:
        trace_id: 32 hexadecimal digits, the same for every delivery of the entry.
        flags: whether it is sampled; no other flag is passed on.
    """

    trace_id: str
    flags: int

    def parent(self, span: int) -> str:
        """The header ``traceparent`` of one span of this trace: 64 bits, not all 0."""
        return f"00-{self.trace_id}-{span:016x}-{self.flags:02x}"


def trace_of(entry: Entry) -> Trace:
    """The producer's trace, or else one that follows from the idempotency key.

    A text that is no ``traceparent`` is ignored: it must not keep an entry from being delivered.
    """
    found = _PARENT.fullmatch(entry.traceparent or "")
    if found is None or (found["version"] == "00" and found["more"]):
        return Trace(hashlib.sha256(entry.idempotency_key.encode(errors="replace")).hexdigest()[:32], _SAMPLED)
    return Trace(found["trace_id"], int(found["flags"], 16) & _SAMPLED)
