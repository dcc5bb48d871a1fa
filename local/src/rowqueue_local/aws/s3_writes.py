"""Makes S3's conditional writes atomic: moto checks the condition and stores the object in two steps."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

_OF_S3 = re.compile(r"Credential=[^/]+/\d+/[^/]+/s3/")


class OneS3WriteAtATime:
    """A WSGI application in front of moto's, which answers in several threads.

    Args:
        moto: has stored an object when it returns its answer.
    """

    def __init__(self, moto: WSGIApplication) -> None:
        self._moto = moto
        self._writing = threading.Lock()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        if not _is_write(environ):
            return self._moto(environ, start_response)
        with self._writing:
            return self._moto(environ, start_response)


def _is_write(environ: WSGIEnvironment) -> bool:
    signed = _OF_S3.search(environ.get("HTTP_AUTHORIZATION", ""))
    return signed is not None and environ["REQUEST_METHOD"] not in {"GET", "HEAD"}
