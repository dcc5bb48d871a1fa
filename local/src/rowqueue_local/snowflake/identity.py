"""Who logs in to the Snowflake stand-in, and with which role. The proof of a user that was created is verified."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import jwt
from cryptography.hazmat.primitives import serialization

from rowqueue_local.snowflake.failures import UNSUPPORTED, Failure
from rowqueue_local.snowflake.roles import ADMINISTRATORS, PUBLIC

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rowqueue_local.snowflake.roles import Roles, User

_ALGORITHMS: Final = ("RS256", "ES256", "ES384", "ES512")
_KEYS: Final = ("RSA_PUBLIC_KEY", "RSA_PUBLIC_KEY_2")
OWNER_ROLE: Final = "ACCOUNTADMIN"
"""The role of a user whom nobody created. It may do everything."""


@dataclass(slots=True, kw_only=True)
class Identity:
    """Who uses a session.

    Attributes:
        user: the name, in upper case.
        role: the primary role.
        more_roles: the secondary roles.
        warehouse: the one in use; None if there is none.
        allowed: statements that these roles may run, by text and place; see :mod:`rowqueue_local.snowflake.access`.
    """

    user: str
    role: str = OWNER_ROLE
    more_roles: frozenset[str] = frozenset()
    warehouse: str | None = None
    allowed: set[tuple[str, ...]] = field(default_factory=set)

    @property
    def is_administrator(self) -> bool:
        """Whether it may do everything."""
        return self.role in ADMINISTRATORS

    @property
    def roles(self) -> frozenset[str]:
        """The roles that are active, without those that were granted to them."""
        return self.more_roles | {self.role}


def logged_in(roles: Roles, data: Mapping[str, Any], query: Mapping[str, str]) -> Identity:
    """The identity of a login.

    A user whom nobody created may log in with any password and take any role, as an administrator could.

    Args:
        roles: the account's users and roles.
        data: the body of the driver's request.
        query: the parameters of its URL.

    Raises:
        Failure: the proof is wrong, or the role is not the user's.
    """
    name = str(data.get("LOGIN_NAME") or "").upper()
    user = roles.users.get(name)
    if data.get("AUTHENTICATOR") == "SNOWFLAKE_JWT":
        _verify_token(str(data.get("TOKEN", "")), name, user)
    elif user is not None:
        _verify_password(user, data.get("PASSWORD"))
    asked = query.get("roleName", "").strip('"').upper() or None
    warehouse = query.get("warehouse", "").strip('"').upper() or None
    if asked is not None and not roles.exists(asked):
        raise _role_refused(asked, "does not exist or not authorized")
    if user is None:
        return Identity(user=name, role=asked or OWNER_ROLE, warehouse=warehouse)
    if asked is not None and asked not in roles.roles_of(user.roles):
        raise _role_refused(asked, "is not granted to this user")
    default = user.text("DEFAULT_ROLE")
    usual = default.upper() if default and default.upper() in roles.roles_of(user.roles) else PUBLIC
    return Identity(
        user=name,
        role=asked or usual,
        more_roles=frozenset(user.roles) if user.has_secondary_roles else frozenset(),
        warehouse=warehouse or (user.text("DEFAULT_WAREHOUSE") or "").upper() or None,
    )


def require_public_key(text: str) -> None:
    """Raise ``Failure`` if the text is no public key: base64 without header and footer."""
    try:
        serialization.load_der_public_key(base64.b64decode(text, validate=True))
    except ValueError:
        why = "[local stand-in] RSA_PUBLIC_KEY: expected a public key as base64 in one line"
        raise Failure(UNSUPPORTED, "22023", why) from None


def _verify_token(token: str, name: str, user: User | None) -> None:
    refused = Failure(390144, "08001", "JWT token is invalid.")
    if user is None:
        raise refused
    for der in (base64.b64decode(text) for text in map(user.text, _KEYS) if text):
        fingerprint = base64.b64encode(hashlib.sha256(der).digest()).decode()
        try:
            # mypy: the library's own types of keys
            key: Any = serialization.load_der_public_key(der)
            claims = jwt.decode(token, key, algorithms=_ALGORITHMS, options={"require": ["iss", "sub", "iat", "exp"]})
        except (jwt.InvalidTokenError, TypeError):
            continue
        subject = str(claims["sub"])
        if subject.rpartition(".")[2] == name and claims["iss"] == f"{subject}.SHA256:{fingerprint}":
            return
    raise refused


def _verify_password(user: User, given: object) -> None:
    if user.is_service or user.text("PASSWORD") is None or given != user.text("PASSWORD"):
        raise Failure(390100, "08001", "Incorrect username or password was specified.")


def _role_refused(role: str, why: str) -> Failure:
    advice = "Contact your local system administrator, or attempt to login with another role, e.g. PUBLIC."
    return Failure(390189, "08001", f"Role '{role}' specified in the connect string {why}. {advice}")
