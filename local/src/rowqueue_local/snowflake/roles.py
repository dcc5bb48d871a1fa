"""The users, roles and privileges of the Snowflake stand-in: who has what. It knows no SQL.

A role has a privilege if it was granted to it, to a role that was granted to it, or to PUBLIC, or if one of these owns
the object. The roles that Snowflake itself has, except PUBLIC, may do everything here. A user whom nobody created has
one of these.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

PUBLIC: Final = "PUBLIC"
ADMINISTRATORS: Final = frozenset({"ACCOUNTADMIN", "SECURITYADMIN", "SYSADMIN", "USERADMIN", "ORGADMIN"})
OWNERSHIP: Final = "OWNERSHIP"
EVERYTHING: Final = "ALL"


class Securable(NamedTuple):
    """What privileges are granted on.

    Attributes:
        kind: ``TABLE`` (also a view), ``SCHEMA``, ``WAREHOUSE`` and so on.
        name: its full name in parts.
    """

    kind: str
    name: tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class User:
    """A user that CREATE USER made.

    Attributes:
        name: in upper case.
        properties: what CREATE USER and ALTER USER set, by name.
        roles: the roles that were granted to it.
    """

    name: str
    properties: dict[str, object]
    roles: set[str] = field(default_factory=set)

    @property
    def is_service(self) -> bool:
        """Whether it may not log in with a password."""
        return str(self.properties.get("TYPE", "")).upper() == "SERVICE"

    @property
    def has_secondary_roles(self) -> bool:
        """Whether a session has all roles of the user at once. It has, unless DEFAULT_SECONDARY_ROLES is ()."""
        return self.properties.get("DEFAULT_SECONDARY_ROLES", ("ALL",)) != ()

    def text(self, name: str) -> str | None:
        """A property; None if it is not set."""
        value = self.properties.get(name)
        return str(value) if value else None


class Roles:
    """All users, roles and privileges.

    Attributes:
        users: by name.
        version: changes with every change, so that what was derived from it can be kept.
    """

    def __init__(self) -> None:
        self.users: dict[str, User] = {}
        self.version = 0
        self._members: dict[str, set[str]] = {
            PUBLIC: set(),
            "ORGADMIN": set(),
            "USERADMIN": set(),
            "SYSADMIN": set(),
            "SECURITYADMIN": {"USERADMIN"},
            "ACCOUNTADMIN": {"SECURITYADMIN", "SYSADMIN"},
        }
        self._granted: dict[str, dict[Securable, set[str]]] = defaultdict(lambda: defaultdict(set))

    def exists(self, role: str) -> bool:
        """Whether there is such a role."""
        return role in self._members

    def create(self, role: str) -> None:
        """Add a role without privileges, if there is none of that name."""
        self._members.setdefault(role, set())
        self.version += 1

    def drop(self, role: str) -> None:
        """Remove a role and all that was granted to it."""
        self._members.pop(role, None)
        self._granted.pop(role, None)
        for members in self._members.values():
            members.discard(role)
        for user in self.users.values():
            user.roles.discard(role)
        self.version += 1

    def grant_role(self, role: str, to_role: str) -> None:
        """Give a role all that another one has."""
        self._members[to_role].add(role)
        self.version += 1

    def revoke_role(self, role: str, from_role: str) -> None:
        """Undo :meth:`grant_role`."""
        self._members[from_role].discard(role)
        self.version += 1

    def grant(self, privileges: Iterable[str], on: Securable, role: str) -> None:
        """Give a role privileges."""
        self._granted[role][on].update(privileges)
        self.version += 1

    def revoke(self, privileges: Iterable[str], on: Securable, role: str) -> None:
        """Take privileges away from a role; ``ALL`` are all but the ownership."""
        given = self._granted[role][on]
        gone = set(privileges)
        given -= (given - {OWNERSHIP}) if EVERYTHING in gone else gone
        self.version += 1

    def own(self, on: Securable, role: str) -> None:
        """Make a role the owner, and nobody else."""
        for grants in self._granted.values():
            grants.get(on, set()).discard(OWNERSHIP)
        if role not in ADMINISTRATORS:
            self._granted[role][on].add(OWNERSHIP)
        self.version += 1

    def owner(self, on: Securable) -> str | None:
        """The role that owns it; None if it is an administrator's."""
        return next((role for role, grants in self._granted.items() if OWNERSHIP in grants.get(on, ())), None)

    def forget(self, gone: Securable) -> None:
        """Remove all grants on an object that was dropped or replaced, and on what was in it."""
        self._rename(gone, None)

    def rename(self, old: Securable, new: Securable) -> None:
        """Grants stay with an object that gets another name."""
        self._rename(old, new)

    def swap(self, one: Securable, other: Securable) -> None:
        """Two tables exchange their names; each keeps its grants, so these change places too."""
        between = Securable(one.kind, (*one.name, "while they are swapped"))
        self._rename(one, between)
        self._rename(other, one)
        self._rename(between, other)

    def roles_of(self, roles: Iterable[str]) -> frozenset[str]:
        """These roles, all that were granted to them, and PUBLIC."""
        found, left = {PUBLIC}, list(roles)
        while left:
            role = left.pop()
            if role not in found:
                found.add(role)
                left.extend(self._members.get(role, ()))
        return frozenset(found)

    def may(self, roles: frozenset[str], privilege: str, on: Securable) -> bool:
        """Whether one of the roles has a privilege; all of :meth:`roles_of` have to be given."""
        if roles & ADMINISTRATORS:
            return True
        return any(given & {privilege, OWNERSHIP, EVERYTHING} for given in self._privileges(roles, on))

    def sees(self, roles: frozenset[str], on: Securable) -> bool:
        """Whether one of the roles has any privilege on it."""
        return bool(roles & ADMINISTRATORS) or any(self._privileges(roles, on))

    def _privileges(self, roles: frozenset[str], on: Securable) -> list[set[str]]:
        return [self._granted[role][on] for role in roles if role in self._granted and on in self._granted[role]]

    def _rename(self, old: Securable, new: Securable | None) -> None:
        for grants in self._granted.values():
            for on in [on for on in grants if _is_in(on, old)]:
                given = grants.pop(on)
                if new is not None:
                    kind = new.kind if on == old else on.kind
                    grants[Securable(kind, (*new.name, *on.name[len(old.name) :]))] = given
        self.version += 1


def _is_in(on: Securable, container: Securable) -> bool:
    if on == container:
        return True
    return container.kind in {"SCHEMA", "DATABASE"} and on.name[: len(container.name)] == container.name != on.name
