"""boto3 clients with short time-outs: a tick has 50 seconds, and a task that cannot start should report it soon."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, overload

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal

    from mypy_boto3_ecs import ECSClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_secretsmanager import SecretsManagerClient

ERRORS = (BotoCoreError, ClientError)
"""What a client raises when AWS refuses a request or does not answer."""

# boto3's defaults are a minute for a connection and one for a read, up to five times.
_CONFIG = Config(connect_timeout=5, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 3})
_IN_A_TICK = {"ecs": (2, 6), "secretsmanager": (2, 6), "s3": (1, 2)}
"""Seconds for a connection and for a read. S3's are short, because the lease is given back after the deadline."""
ATTEMPT_S = 8.0
"""How long an attempt of a tick takes that gets no answer. None starts with less time left. It takes longer if several
addresses of AWS do not answer, or if an answer arrives in small pieces: the limits count for each."""


class TimeIsUp(BotoCoreError):  # noqa: N818 -- reads as what happened
    """The tick has no time left for another attempt."""

    fmt = "no time is left in this tick for another attempt"


def has_answered(error: Exception) -> bool:
    """Whether AWS answered that something does not exist or is not allowed, so that asking again would not help."""
    return status_of(error) in {403, 404}


def status_of(error: Exception) -> int:
    """The HTTP status of AWS's answer; 0 if AWS has not answered."""
    if not isinstance(error, ClientError):
        return 0
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)


def has_refused(error: Exception) -> bool:
    """Whether AWS answered that it did nothing. After a server error, or without an answer, it may have done it."""
    return 0 < status_of(error) < _SERVER_ERROR


def code_of(error: Exception) -> str:
    """The error code in AWS's answer, or nothing if there was no answer."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


def resources_of(error: Exception) -> tuple[str, ...]:
    """The ARNs that a ConflictException of ECS names."""
    named: Any = error.response.get("resourceIds") if isinstance(error, ClientError) else None
    return tuple(named or ())


_PASSING_CODES = frozenset(
    {"ThrottlingException", "Throttling", "TooManyRequestsException", "RequestLimitExceeded", "ServerException"}
)
# ECS reports downstream throttling as "InvalidParameterException: Error retrieving security group information ...:
# Request limit exceeded" (dask-cloudprovider issue 56, dagster issue 33439).
_THROTTLE = re.compile(r"limit exceeded|rate exceeded|errorcode: throttling|capacity is unavailable", re.IGNORECASE)
_SERVER_ERROR = 500


def is_passing(error: Exception) -> bool:
    """Whether an error may be gone at the next tick: throttling, no capacity, a server error, no connection."""
    if not isinstance(error, ClientError):
        return isinstance(error, BotoCoreError)
    code, message = (str(error.response.get("Error", {}).get(key, "")) for key in ("Code", "Message"))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return code in _PASSING_CODES or bool(_THROTTLE.search(message)) or status >= _SERVER_ERROR


@overload
def client(service: Literal["ecs"], *, seconds_left: Callable[[], float] | None = None) -> ECSClient: ...
@overload
def client(service: Literal["s3"], *, seconds_left: Callable[[], float] | None = None) -> S3Client: ...
@overload
def client(
    service: Literal["secretsmanager"], *, seconds_left: Callable[[], float] | None = None
) -> SecretsManagerClient: ...
def client(
    service: Literal["ecs", "s3", "secretsmanager"], *, seconds_left: Callable[[], float] | None = None
) -> ECSClient | S3Client | SecretsManagerClient:
    """A client of the service; it raises :data:`ERRORS`.

    Args:
        service: its name.
        seconds_left: until the tick has to give up. It is asked before each attempt and each page; none starts that
            would not end in time if AWS does not answer. ``None`` outside a tick.
    """
    if seconds_left is None:
        return boto3.client(service, config=_CONFIG)
    connect_s, read_s = _IN_A_TICK[service]
    config = Config(
        connect_timeout=connect_s,
        read_timeout=read_s,
        retries={"mode": "standard", "total_max_attempts": 3},
        max_pool_connections=20,  # as many as the poller's threads use at once, and more
    )
    made = boto3.client(service, config=config)

    def in_time(**_: object) -> None:
        if seconds_left() < connect_s + read_s:
            raise TimeIsUp

    made.meta.events.register("before-send", in_time)
    return made
