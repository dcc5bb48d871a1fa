"""The name under which a processor claims."""

from __future__ import annotations

import json
import os
import socket
import urllib.request
from typing import TYPE_CHECKING

from rowqueue import contract
from rowqueue.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rowqueue.settings import ProcessorSettings

# A proxy in the environment is for other hosts. The endpoint has a link-local address, which only this task reaches.
_WITHOUT_PROXIES = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_METADATA = "ECS_CONTAINER_METADATA_URI_V4"  # AWS, "Task metadata endpoint version 4"


def processor_id(settings: ProcessorSettings, environ: Mapping[str, str]) -> str:
    """On ECS ``<environment>-<task id>``, so that a row leads to its task's log; elsewhere ``PROCESSOR_ID``.

    On ECS the setting is ignored, because all tasks of a task definition would have the same one.

    Raises:
        SettingsError: the metadata endpoint does not answer.
    """
    if uri := environ.get(_METADATA):
        return contract.processor_id(settings.environment, _task_arn(uri))
    return settings.processor_id or f"{settings.environment}-{socket.gethostname()}-{os.getpid()}"


def _task_arn(uri: str) -> str:
    try:
        with _WITHOUT_PROXIES.open(f"{uri}/task", timeout=5) as answer:
            return str(json.load(answer)["TaskARN"])
    except (OSError, ValueError, KeyError) as error:
        raise SettingsError([f"{_METADATA}: expected the task metadata endpoint, got {error!r}"]) from error
