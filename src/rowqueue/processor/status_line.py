"""The status of an answer, read from its first bytes: an HTTP library refuses some answers that have one.

A service that has answered 2xx has done its work, also if the rest of its answer is no HTTP or never comes. So the
status line counts as soon as TLS has decrypted it, whatever the library says of what follows.

Bytes between an answer and the next request belong to no request. The library would take them for the next answer.
"""

from __future__ import annotations

import re
import ssl
from typing import Any

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([2-5][0-9]{2})[ \r\n]")
_BYTES = 13
"""Length of ``HTTP/1.1 200`` and the byte after it, which shows that the number is complete."""


class FirstBytesKept(ssl.SSLObject):
    """A TLS connection that keeps the first bytes that were read since :meth:`forget`.

    For ``SSLContext.sslobject_class``. A connection carries one request at a time. If it forgets before each of them,
    it keeps the beginning of the answer.

    Attributes:
        idle: it carries no request, and has carried one.
        surplus: bytes were read while it was idle.
    """

    idle = False
    surplus = False
    _first = b""

    def read(self, len: int = 1024, buffer: Any = None) -> bytes:  # noqa: A002 -- the name in ssl.SSLObject
        """Read decrypted bytes, and keep the first ones."""
        read = super().read(len, buffer)
        self.surplus |= self.idle
        if buffer is None and not self._first[_BYTES - 1 :]:  # asyncio reads without a buffer
            self._first += read[:_BYTES]
        return read

    def forget(self) -> None:
        """A request begins: what was read before is no answer to it."""
        self._first = b""
        self.idle = False

    def rest(self) -> None:
        """The request has its answer: what is read from now on is no answer to it."""
        self.idle = True

    @property
    def status(self) -> int | None:
        """The status in the first bytes; ``None`` if they are not, or not yet, the line of a final status."""
        line = _STATUS_LINE.match(self._first)
        return int(line[1]) if line else None
