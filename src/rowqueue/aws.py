"""boto3 clients with short time-outs: a tick has 50 seconds, and a task that cannot start should report it soon."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, overload

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from typing import Literal

    from mypy_boto3_ecs import ECSClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_secretsmanager import SecretsManagerClient

ERRORS = (BotoCoreError, ClientError)
"""What a client raises when AWS refuses a request or does not answer."""

# boto3's defaults are a minute for a connection and one for a read, up to five times.
_CONFIG = Config(connect_timeout=5, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 3})


def has_answered(error: Exception) -> bool:
    """Whether AWS answered that something does not exist or is not allowed, so that asking again would not help."""
    return status_of(error) in {403, 404}


def status_of(error: Exception) -> int:
    """The HTTP status of AWS's answer; 0 if AWS has not answered."""
    if not isinstance(error, ClientError):
        return 0
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)


def code_of(error: Exception) -> str:
    """The error code in AWS's answer, or nothing if there was no answer."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


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
def client(service: Literal["ecs"]) -> ECSClient: ...
@overload
def client(service: Literal["s3"]) -> S3Client: ...
@overload
def client(service: Literal["secretsmanager"]) -> SecretsManagerClient: ...
def client(service: Literal["ecs", "s3", "secretsmanager"]) -> ECSClient | S3Client | SecretsManagerClient:
    """A client of the service; it raises :data:`ERRORS`."""
    return boto3.client(service, config=_CONFIG)
