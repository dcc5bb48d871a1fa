"""The statements of access control in the Snowflake stand-in: roles, users, grants, and who owns what was created."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rowqueue_local.snowflake import statements
from rowqueue_local.snowflake.failures import UNSUPPORTED, Failure, impossible, insufficient, not_there
from rowqueue_local.snowflake.identity import require_public_key
from rowqueue_local.snowflake.roles import ADMINISTRATORS, OWNERSHIP, Securable, User
from rowqueue_local.snowflake.words import Words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from rowqueue_local.snowflake.identity import Identity
    from rowqueue_local.snowflake.roles import Roles

_KINDS: Final = {
    "TABLE": "SELECT INSERT UPDATE DELETE TRUNCATE REFERENCES",
    "VIEW": "SELECT REFERENCES",
    "SCHEMA": "USAGE MODIFY MONITOR",
    "DATABASE": "USAGE MODIFY MONITOR",
    "WAREHOUSE": "USAGE MODIFY MONITOR OPERATE",
    "INTEGRATION": "USAGE",
    "PROCEDURE": "USAGE",
    "FUNCTION": "USAGE",
    "STAGE": "USAGE READ WRITE",
    "SEQUENCE": "USAGE",
    "STREAM": "SELECT",
    "TASK": "MONITOR OPERATE",
}
_IN_A_SCHEMA: Final = frozenset(_KINDS) - {"SCHEMA", "DATABASE", "WAREHOUSE", "INTEGRATION"}
_ADJECTIVES: Final = frozenset(
    {"TEMPORARY", "TEMP", "TRANSIENT", "VOLATILE", "LOCAL", "GLOBAL", "SECURE", "RECURSIVE", "EXTERNAL"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Where a session is, and what there is.

    Attributes:
        schema: database and schema in use.
        variable: the value of a session variable.
        relations: the tables and views of a schema, each with ``TABLE`` or ``VIEW``.
        kind_of: ``TABLE`` or ``VIEW``, or the kind of another object; None if there is no such object.
    """

    schema: tuple[str, str]
    variable: Callable[[str], str]
    relations: Callable[[str, str], Mapping[str, str]]
    kind_of: Callable[[Securable], str | None]

    def full(self, kind: str, name: tuple[str, ...]) -> tuple[str, ...]:
        """A name with the database and the schema in use in front, where it lacks them."""
        length = 3 if kind in _IN_A_SCHEMA else 2 if kind == "SCHEMA" else len(name) or (1 if kind == "DATABASE" else 0)
        return (*self.schema[: max(0, length - len(name))], *name)

    def securable(self, kind: str, name: tuple[str, ...]) -> Securable:
        """The object of a name. A table and a view cannot have the same name, so both count as tables."""
        return Securable("TABLE" if kind == "VIEW" else kind, self.full(kind, name))


def perform(text: str, roles: Roles, identity: Identity, place: Surroundings) -> None:
    """Run a statement that changes users, roles, grants, or what the session uses. Others have no effect.

    Raises:
        Failure: it is malformed, or names what does not exist, or the session may not do it.
    """
    words = Words(list(statements.words_of(text)), place.variable)
    control = _Control(words, roles, identity, place)
    match words.next:
        case "USE":
            control.use()
        case "GRANT" | "REVOKE":
            control.grant()
        case "CREATE" | "ALTER" | "DROP":
            control.define()
        case _:
            pass


def note(text: str, roles: Roles, identity: Identity, place: Surroundings, *, existed: bool) -> None:
    """Keep grants and owners right after the engine has run DDL.

    Args:
        text: the statement.
        roles: the account's.
        identity: who ran it.
        place: where.
        existed: whether the object was there before.
    """
    target = defined(text, place)
    if target is None:
        return
    words, on = target.words, target.on
    if target.verb == "DROP":
        roles.forget(on)
    elif target.verb == "ALTER":
        if words.take("RENAME", "TO"):
            roles.rename(on, place.securable(on.kind, words.name()))
        elif words.take("SWAP", "WITH"):
            roles.swap(on, place.securable(on.kind, words.name()))
    elif target.replaces or not existed:
        words.until("AS", "COPY")
        if not words.take("COPY", "GRANTS"):
            roles.forget(on)
        roles.own(on, identity.role)


@dataclass(frozen=True, slots=True, kw_only=True)
class Defined:
    """What a DDL statement is about.

    Attributes:
        verb: CREATE, ALTER or DROP.
        replaces: whether it is CREATE OR REPLACE.
        kind: TABLE, VIEW and so on.
        on: the object.
        words: what follows its name.
    """

    verb: str
    kind: str
    replaces: bool
    on: Securable
    words: Words


def defined(text: str, place: Surroundings) -> Defined | None:
    """Read DDL; None if it is about what has no grants here."""
    words = Words(list(statements.words_of(text)), place.variable)
    verb = words.next
    if verb not in {"CREATE", "ALTER", "DROP"}:
        return None
    words.expect(verb)
    replaces = words.take("OR", "REPLACE")
    words.take_any(_ADJECTIVES)
    kind = words.next
    if kind not in _KINDS or kind == "WAREHOUSE":
        return None
    words.expect(kind)
    _skip_condition(words)
    return Defined(verb=verb, kind=kind, replaces=replaces, on=place.securable(kind, words.name()), words=words)


def called(text: str, place: Surroundings) -> Securable:
    """The procedure that a CALL names."""
    words = Words(list(statements.words_of(text)), place.variable)
    words.expect("CALL")
    return place.securable("PROCEDURE", words.name())


def _skip_condition(words: Words) -> bool:
    return words.take("IF", "NOT", "EXISTS") or words.take("IF", "EXISTS")


class _Control:
    """One statement of access control."""

    def __init__(self, words: Words, roles: Roles, identity: Identity, place: Surroundings) -> None:
        self._words = words
        self._roles = roles
        self._identity = identity
        self._place = place

    def use(self) -> None:
        """USE ROLE, USE WAREHOUSE and USE SECONDARY ROLES."""
        words, identity = self._words, self._identity
        words.expect("USE")
        if words.take("ROLE"):
            role = words.only_name()
            if not self._roles.exists(role) or not self._may_take(role):
                why = (
                    f"Requested role '{role}' is not assigned to the executing user. Specify another role to activate."
                )
                raise Failure(3013, "42501", f"SQL access control error:\n{why}")
            identity.role = role
        elif words.take("SECONDARY", "ROLES"):
            user = self._roles.users.get(identity.user)
            identity.more_roles = frozenset(user.roles) if words.take("ALL") and user else frozenset()
        elif words.take("WAREHOUSE"):
            warehouse = words.only_name()
            if not self._may("USAGE", Securable("WAREHOUSE", (warehouse,))):
                raise impossible()
            identity.warehouse = warehouse

    def define(self) -> None:
        """CREATE, ALTER and DROP of a role or a user."""
        words = self._words
        verb = words.until("ROLE", "USER", "WAREHOUSE", "RESOURCE", "NETWORK", "AUTHENTICATION", "SESSION", "TABLE")
        if not words.take("ROLE") and words.next != "USER":
            return
        self._require_administrator()
        if words.take("USER"):
            self._define_user(verb)
            return
        exists_is_no_error = _skip_condition(words)
        role = words.only_name()
        if verb[0] == "CREATE":
            if self._roles.exists(role) and not exists_is_no_error and "REPLACE" not in verb:
                raise Failure(2002, "42710", f"SQL compilation error:\nObject '{role}' already exists.")
            self._roles.create(role)
        elif not self._roles.exists(role):
            if not exists_is_no_error:
                raise not_there("Role", role)
        elif verb[0] == "DROP":
            self._roles.drop(role)

    def grant(self) -> None:
        """GRANT and REVOKE."""
        words, roles = self._words, self._roles
        is_grant = words.take("GRANT")
        if not is_grant:
            words.expect("REVOKE")
            words.take("GRANT", "OPTION", "FOR")
        if words.take("ROLE"):
            self._grant_role(is_grant=is_grant)
            return
        privileges = self._privileges()
        targets = list(self._targets(privileges))
        words.expect("TO" if is_grant else "FROM")
        words.take("ROLE")
        role = self._role()
        for on in targets:
            if not self._may(OWNERSHIP, on):
                raise insufficient(on.kind.lower(), ".".join(on.name))
            if privileges == [OWNERSHIP]:
                roles.own(on, role)
            elif is_grant:
                roles.grant(privileges, on, role)
            else:
                roles.revoke(privileges, on, role)

    def _grant_role(self, *, is_grant: bool) -> None:
        words, roles = self._words, self._roles
        self._require_administrator()
        role = self._role()
        words.expect("TO" if is_grant else "FROM")
        if words.take("USER"):
            name = words.only_name()
            if name not in roles.users:
                raise not_there("User", name)
            granted = roles.users[name].roles
            (granted.add if is_grant else granted.discard)(role)
            roles.version += 1
            return
        words.take("ROLE")
        (roles.grant_role if is_grant else roles.revoke_role)(role, self._role())

    def _privileges(self) -> list[str]:
        """The privileges up to ON; each may have several words."""
        found = [[]]  # type: list[list[str]]
        for word in self._words.until("ON"):
            if word == ",":
                found.append([])
            else:
                found[-1].append(word)
        return ["ALL" if words[:1] == ["ALL"] else " ".join(words) for words in found]

    def _targets(self, privileges: list[str]) -> Iterator[Securable]:
        words, place = self._words, self._place
        words.expect("ON")
        if words.take("ACCOUNT"):
            yield Securable("ACCOUNT", ())
            return
        if words.take("ALL"):
            kind = words.until("IN")[-1].removesuffix("S")
            words.expect("IN")
            words.expect("SCHEMA")
            database, schema = place.full("SCHEMA", words.name())
            for name, what in place.relations(database, schema).items():
                if what == kind:
                    yield Securable("TABLE", (database, schema, name))
            return
        if words.next == "FUTURE":
            raise Failure(UNSUPPORTED, "58000", "[local stand-in] grants on future objects are not supported")
        kind = words.next
        if kind not in _KINDS:
            raise words.unexpected()
        words.expect(kind)
        on = place.securable(kind, words.name())
        words.value() if words.next == "(" else None
        self._require_sense(privileges, kind, on)
        yield on

    def _require_sense(self, privileges: list[str], kind: str, on: Securable) -> None:
        """The object is there, is of that kind, and has such privileges."""
        if self._place.kind_of(on) != kind:
            raise not_there(kind.capitalize(), ".".join(on.name))
        for privilege in privileges:
            if privilege in {OWNERSHIP, "ALL"} or privilege in _KINDS[kind].split():
                continue
            if kind not in {"SCHEMA", "DATABASE"} or not privilege.startswith("CREATE "):
                raise Failure(
                    1003, "42000", f"SQL compilation error:\nInvalid object type '{kind}' for privilege '{privilege}'."
                )

    def _role(self) -> str:
        role = self._words.only_name()
        if not self._roles.exists(role):
            raise not_there("Role", role)
        return role

    def _define_user(self, verb: list[str]) -> None:
        words, users = self._words, self._roles.users
        exists_is_no_error = _skip_condition(words)
        name = words.only_name()
        if verb[0] == "CREATE":
            if name in users and "REPLACE" not in verb:
                if exists_is_no_error:
                    return
                raise Failure(2002, "42710", f"SQL compilation error:\nObject '{name}' already exists.")
            users[name] = User(name=name, properties=self._properties())
        elif name not in users:
            if not exists_is_no_error:
                raise not_there("User", name)
        elif verb[0] == "DROP":
            del users[name]
        elif words.take("SET"):
            users[name].properties |= self._properties()
        elif words.take("UNSET"):
            for unset in words.until():
                users[name].properties.pop(unset, None)
        self._roles.version += 1

    def _properties(self) -> dict[str, object]:
        words = self._words
        properties: dict[str, object] = {}
        while words.next:
            name = words.only_name()
            words.expect("=")
            properties[name] = words.value()
            words.take(",")
            if name.startswith("RSA_PUBLIC_KEY"):
                require_public_key(str(properties[name]))
        return properties

    def _may_take(self, role: str) -> bool:
        user = self._roles.users.get(self._identity.user)
        return user is None or role in self._roles.roles_of(user.roles)

    def _may(self, privilege: str, on: Securable) -> bool:
        return self._roles.may(self._roles.roles_of(self._identity.roles), privilege, on)

    def _require_administrator(self) -> None:
        if not self._roles.roles_of(self._identity.roles) & ADMINISTRATORS:
            raise insufficient("account", "")
