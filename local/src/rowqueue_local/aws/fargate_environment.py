"""The environment variables of a task's process, from the task definition, its secrets and the overrides."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rowqueue_local.aws.fargate_tasks import TaskLaunch

_SECRET_ARN = re.compile(r"(?P<arn>arn:aws[\w-]*:secretsmanager:(?P<region>[^:]+):\d+:secret:[^:]+):?(?P<which>.*)")


class StartError(Exception):
    """A task cannot start; the text is its stoppedReason in Fargate's words."""


def in_words(error: Exception) -> str:
    """An error in the form of AWS's own programs, which do not name the operation as boto3 does."""
    if isinstance(error, ClientError):
        return f"{error.response['Error']['Code']}: {error.response['Error']['Message']}"
    return str(error)


def deployed_environment(launch: TaskLaunch, client: Callable[[str, str], Any]) -> dict[str, str]:
    """The variables of the task definition and of the overrides, and the values of the secrets.

    Args:
        launch: the task definition and the overrides.
        client: returns a boto3 client for a service and a region.

    Raises:
        StartError: a secret cannot be read; the text names it.
    """
    return {
        **{pair["name"]: pair["value"] for pair in launch.container.get("environment", ())},
        **{
            secret["name"]: _read_secret(secret["valueFrom"], launch.region, client)
            for secret in launch.container.get("secrets", ())
        },
        **{pair["name"]: pair["value"] for pair in launch.container_override.get("environment", ())},
    }


def _read_secret(value_from: str, region: str, client: Callable[[str, str], Any]) -> str:
    """Read one secret. As on ECS, anything but the ARN of a secret is the ARN or the name of an SSM parameter."""
    secret = _SECRET_ARN.fullmatch(value_from)
    try:
        if secret:
            return _read_from_secrets_manager(secret, client("secretsmanager", secret["region"]))
        answer = client("ssm", region).get_parameter(Name=value_from, WithDecryption=True)
        return str(answer["Parameter"]["Value"])
    except (BotoCoreError, ClientError, LookupError) as error:
        store = "secret from asm" if secret else "secrets from ssm"
        raise StartError(
            "ResourceInitializationError: unable to pull secrets or registry auth: "
            f"execution resource retrieval failed: unable to retrieve {store}: "
            f"service call has been retried 1 time(s): failed to fetch {value_from}: {in_words(error)}"
        ) from None


def _read_from_secrets_manager(secret: re.Match[str], client: Any) -> str:
    """Read a secret or one key of it; the ARN may end with ``:json-key:version-stage:version-id``."""
    json_key, stage, version_id = [*secret["which"].split(":"), "", "", ""][:3]
    which = {"SecretId": secret["arn"], "VersionStage": stage, "VersionId": version_id}
    text: str = client.get_secret_value(**{name: value for name, value in which.items() if value})["SecretString"]
    return _value_in(text, json_key) if json_key else text


def _value_in(text: str, json_key: str) -> str:
    # The errors must not quote the text, because stoppedReason is visible to everybody.
    try:
        values = json.loads(text)
    except ValueError:
        raise LookupError("the secret is not JSON") from None
    if not isinstance(values, dict) or json_key not in values:
        raise LookupError(f"retrieved secret from Secrets Manager did not contain json key {json_key}")
    value = values[json_key]
    return value if isinstance(value, str) else json.dumps(value)
