"""Sends log lines of functions and tasks to CloudWatch Logs."""

from __future__ import annotations

import operator
import threading
import time
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from collections.abc import Callable

FLUSH_SECONDS = 1.0  # how long a line may wait, so that there is one call per stream and interval, not one per line
_BATCH = 1_000  # PutLogEvents takes up to 10,000 events and 1 MiB; moto checks only the number of events


class LogStream:
    """An existing log stream; safe to use from several threads."""

    def __init__(self, client: Any, group: str, stream: str) -> None:
        self._client = client
        self._target = {"logGroupName": group, "logStreamName": stream}
        self._pending: list[dict[str, Any]] = []
        self._pending_lock = threading.Lock()
        self._flush_lock = threading.Lock()

    def write(self, line: str) -> None:
        """Add a line. Empty lines are dropped, as the awslogs driver does, because an event needs a message."""
        if line:
            with self._pending_lock:
                self._pending.append({"timestamp": int(time.time() * 1000), "message": line})

    def flush(self) -> None:
        """Send the pending lines. If that fails (the group was deleted meanwhile), they are lost, as on AWS."""
        with self._flush_lock:
            with self._pending_lock:
                pending, self._pending = self._pending, []
            pending.sort(key=operator.itemgetter("timestamp"))  # the clock may have been set back
            for start in range(0, len(pending), _BATCH):
                self._send(pending[start : start + _BATCH])

    def _send(self, batch: list[dict[str, Any]]) -> None:
        try:
            self._client.put_log_events(**self._target, logEvents=batch)
        except (BotoCoreError, ClientError):
            return


class LogShipper:
    """Sends the pending lines of the open streams every ``FLUSH_SECONDS``.

    Args:
        client: returns a boto3 client for a service and a region.
    """

    def __init__(self, client: Callable[[str, str], Any]) -> None:
        self._client = client
        self._streams: set[LogStream] = set()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log-shipper", daemon=True)
        self._thread.start()

    def open(self, region: str, group: str, stream: str, *, create_group: bool) -> LogStream:
        """Make a log stream, and its group if that is requested and needed.

        Raises:
            ClientError: the group does not exist.
        """
        client = self._client("logs", region)
        if create_group:
            _unless_there(client, client.create_log_group, logGroupName=group)
        _unless_there(client, client.create_log_stream, logGroupName=group, logStreamName=stream)
        opened = LogStream(client, group, stream)
        with self._lock:
            self._streams.add(opened)
        return opened

    def close_stream(self, stream: LogStream) -> None:
        """Send the remaining lines of a stream, and close it."""
        with self._lock:
            self._streams.discard(stream)
        stream.flush()

    def close(self) -> None:
        """Send the remaining lines of all streams."""
        self._closing.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closing.wait(FLUSH_SECONDS):
            self._flush_all()
        self._flush_all()

    def _flush_all(self) -> None:
        with self._lock:
            streams = list(self._streams)
        for stream in streams:
            stream.flush()


def _unless_there(client: Any, create: Callable[..., Any], **names: str) -> None:
    try:
        create(**names)
    except client.exceptions.ResourceAlreadyExistsException:
        return
