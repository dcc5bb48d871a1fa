"""Who we are to Snowflake: the credentials secret, from Secrets Manager when the environment does not carry it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from rowqueue import aws
from rowqueue.errors import CredentialsError

if TYPE_CHECKING:
    from rowqueue.settings import SnowflakeSettings


def login(settings: SnowflakeSettings, *, environment: str) -> dict[str, object]:
    """The driver's arguments that say who we are.

    The environment's ``SNOWFLAKE_USER`` and ``SNOWFLAKE_PASSWORD`` (ECS puts the secret there) come first; without them
    the secret ``<environment>-snowflake-credentials`` is read.

    Raises:
        CredentialsError: the secret can not be read, or lacks a key.
    """
    if settings.user and settings.password:
        return {"user": settings.user, "password": settings.password.reveal()}
    name = f"{environment}-snowflake-credentials"
    secret = _read(name)
    missing = [key for key in ("username", "password") if not isinstance(secret.get(key), str)]
    if missing:
        raise CredentialsError(f"secret {name}: expected a JSON object with username and password, {missing} missing")
    return {"user": settings.user or secret["username"], "password": secret["password"]}


def _read(name: str) -> dict[str, str]:
    try:
        answer = aws.client("secretsmanager").get_secret_value(SecretId=name)
    except aws.ERRORS as error:
        raise CredentialsError(f"secret {name}: can not be read: {error}") from error
    try:
        secret = json.loads(answer.get("SecretString", ""))
    except ValueError:
        secret = None
    if not isinstance(secret, dict):
        raise CredentialsError(f"secret {name}: expected a JSON object with username and password")
    return secret
