"""The driver's arguments for the login to Snowflake, from the environment or from AWS Secrets Manager.

``SNOWFLAKE_AUTHENTICATION`` selects one of three ways. With *workload_identity* the driver proves the IAM role of the
function or the task to Snowflake, and there is no secret. With *key_pair* it signs a token with a private key.
*password* is for the embedded stack, and for accounts that still accept a service with a password alone.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1, SECP521R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from rowqueue import aws
from rowqueue.errors import CredentialsError
from rowqueue.settings import SnowflakeSettings
from rowqueue.time_limit import within

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mypy_boto3_secretsmanager.type_defs import GetSecretValueResponseTypeDef

    from rowqueue.environment import Secret

_SMALLEST_RSA_KEY = 2048  # bits; Snowflake, "Key-pair authentication and key-pair rotation"
_CURVES = (SECP256R1, SECP384R1, SECP521R1)  # the curves that the driver supports (4.8.1, auth/keypair.py)

PLACE_OF_A_PERSON = {"SNOWFLAKE_WAREHOUSE": "QUEUE_WH", "SNOWFLAKE_DATABASE": "QUEUE_DB", "SNOWFLAKE_SCHEMA": "PUBLIC"}
"""Where the queue is, unless a person who sets it up says otherwise."""


def settings_of_a_person(environ: Mapping[str, str]) -> SnowflakeSettings:
    """The settings of a person who sets up, migrates or looks. With a password it is the way to log in.

    Raises:
        SettingsError: a variable is missing or malformed.
    """
    given = {name: value for name, value in environ.items() if value}
    way = {"SNOWFLAKE_AUTHENTICATION": "password"} if "SNOWFLAKE_PASSWORD" in given else {}
    return SnowflakeSettings.from_env(PLACE_OF_A_PERSON | way | given)


def login_of_a_person(settings: SnowflakeSettings, environ: Mapping[str, str]) -> dict[str, object]:
    """The driver's arguments for the login of a person, who has no secret in AWS.

    ``SNOWFLAKE_AUTHENTICATOR`` (externalbrowser, username_password_mfa) is for people, who need a second factor.

    Raises:
        CredentialsError: the environment has no complete login.
    """
    if authenticator := environ.get("SNOWFLAKE_AUTHENTICATOR"):
        given = {
            "user": settings.user,
            "authenticator": authenticator,
            "password": _revealed(settings.password),
            "passcode": environ.get("SNOWFLAKE_PASSCODE") or None,
        }
        return {name: value for name, value in given.items() if value is not None}
    proof = settings.password if settings.authentication == "password" else settings.private_key
    if settings.authentication != "workload_identity" and not (settings.user and proof):
        raise CredentialsError(
            "expected SNOWFLAKE_USER with SNOWFLAKE_PASSWORD; or with SNOWFLAKE_PRIVATE_KEY and "
            "SNOWFLAKE_AUTHENTICATION=key_pair; or with SNOWFLAKE_AUTHENTICATOR=externalbrowser"
        )
    return login(settings, environment="")


def login(
    settings: SnowflakeSettings, *, environment: str, seconds_left: Callable[[], float] | None = None
) -> dict[str, object]:
    """The driver's arguments for the login.

    Values in the environment come first; ECS puts the secret there. Otherwise the secret
    ``<environment>-snowflake-credentials`` is read: a JSON object with ``username`` and what the login needs.

    Args:
        settings: how to log in.
        environment: part of the secret's name.
        seconds_left: until the tick has to give up; the secret is awaited until then. ``None`` outside a tick.

    Raises:
        CredentialsError: the secret cannot be read or lacks a key, or the private key is not usable.
    """
    name = f"{environment}-snowflake-credentials"
    match settings.authentication:
        case "workload_identity":
            # No user is sent: Snowflake finds the user whose WORKLOAD_IDENTITY names our role.
            return {"authenticator": "WORKLOAD_IDENTITY", "workload_identity_provider": "AWS"}
        case "key_pair":
            return _key_pair(settings, name, seconds_left)
        case "password":
            return _password(settings, name, seconds_left)


def _password(settings: SnowflakeSettings, name: str, seconds_left: Callable[[], float] | None) -> dict[str, object]:
    if settings.user and settings.password:
        return {"user": settings.user, "password": settings.password.reveal()}
    because = _incomplete(settings, SNOWFLAKE_PASSWORD=settings.password)
    secret = _read(name, seconds_left, "username", "password", because=because)
    return {"user": settings.user or secret["username"], "password": secret["password"]}


def _key_pair(settings: SnowflakeSettings, name: str, seconds_left: Callable[[], float] | None) -> dict[str, object]:
    given = _revealed(settings.private_key_passphrase)
    if settings.user and settings.private_key:
        key = _der(settings.private_key.reveal(), given, "SNOWFLAKE_PRIVATE_KEY", "SNOWFLAKE_PRIVATE_KEY_PASSPHRASE")
        return {"user": settings.user, "authenticator": "SNOWFLAKE_JWT", "private_key": key}
    because = _incomplete(settings, SNOWFLAKE_PRIVATE_KEY=settings.private_key)
    secret = _read(name, seconds_left, "username", "private_key", because=because)
    passphrase = secret.get("private_key_passphrase") or given
    where = f"secret {name}: "
    key = _der(secret["private_key"], passphrase, f"{where}private_key", f"{where}private_key_passphrase")
    return {"user": settings.user or secret["username"], "authenticator": "SNOWFLAKE_JWT", "private_key": key}


def _incomplete(settings: SnowflakeSettings, **proof: Secret | None) -> str:
    """Why the secret is read: which variables are not set. It is part of the message if the secret cannot be read."""
    given = {"SNOWFLAKE_USER": settings.user, **proof}
    names = [name for name, value in given.items() if not value]
    unset = f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} not set"
    return f"read because SNOWFLAKE_AUTHENTICATION is {settings.authentication}, and {unset}"


def _revealed(secret: Secret | None) -> str | None:
    return None if secret is None else secret.reveal()


def _der(pem: str, passphrase: str | None, key_name: str, passphrase_name: str) -> bytes:
    """Convert a PEM key to what the driver takes: DER, without a passphrase.

    No error is chained, because the library's message could repeat a part of the key.
    """
    try:
        key = serialization.load_pem_private_key(pem.encode(), passphrase.encode() if passphrase else None)
    except TypeError:  # what the library raises for a passphrase that is missing or not needed
        if passphrase is None:
            raise CredentialsError(f"{passphrase_name}: expected the passphrase of {key_name}") from None
        raise CredentialsError(f"{passphrase_name}: expected no value, because {key_name} is not encrypted") from None
    except (ValueError, UnsupportedAlgorithm):
        expected = "a PKCS#8 private key in PEM, from -----BEGIN to the last line" + (
            f", which {passphrase_name} decrypts" if passphrase else ""
        )
        raise CredentialsError(f"{key_name}: expected {expected}; got a value that is not shown") from None
    strong = isinstance(key, RSAPrivateKey) and key.key_size >= _SMALLEST_RSA_KEY
    if strong or (isinstance(key, EllipticCurvePrivateKey) and isinstance(key.curve, _CURVES)):
        return key.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    raise CredentialsError(
        f"{key_name}: expected an RSA key of at least {_SMALLEST_RSA_KEY} bits, or one on P-256, P-384 or P-521"
    )


def _read(name: str, seconds_left: Callable[[], float] | None, *needed: str, because: str) -> Mapping[str, str]:
    """The texts in a secret, after a check that those in ``needed`` are there."""
    expected = f"expected a JSON object with {' and '.join(needed)}"

    def ask() -> GetSecretValueResponseTypeDef:
        return aws.client("secretsmanager", seconds_left=seconds_left).get_secret_value(SecretId=name)

    try:
        answer = ask() if seconds_left is None else within(seconds_left(), ask)
    except (*aws.ERRORS, TimeoutError) as error:
        raise CredentialsError(f"secret {name}: cannot be read: {error} ({because})") from error
    try:
        content = json.loads(answer.get("SecretString", ""))
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise CredentialsError(f"secret {name}: {expected} ({because})")
    texts = {key: value for key, value in content.items() if isinstance(value, str) and value}
    if missing := [key for key in needed if key not in texts]:
        raise CredentialsError(f"secret {name}: {expected}, {missing} missing ({because})")
    return texts
