"""Error answers of the AWS stand-in."""

from __future__ import annotations

from typing import Any


class ApiError(Exception):
    """An error answer; boto3 raises it as its exception of the same name.

    Args:
        code: AWS's name of the error.
        message: its text.
        status: the HTTP status.
        members: further members of the modelled error, such as ``resourceIds``.
    """

    def __init__(self, code: str, message: str, *, status: int = 400, **members: Any) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.members = members


def invalid_parameter(message: str) -> ApiError:
    """The error that ECS answers for nearly every refused request."""
    return ApiError("InvalidParameterException", message)
