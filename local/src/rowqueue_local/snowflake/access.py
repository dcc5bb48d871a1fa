"""Whether a session of the Snowflake stand-in may run a statement, with Snowflake's errors if it may not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rowqueue_local.snowflake import grants
from rowqueue_local.snowflake.failures import UNSUPPORTED, Failure, impossible, insufficient, not_there, nothing_in_use
from rowqueue_local.snowflake.needs import RESULT, NeededPrivilege, Unknown, needs_of, results_of
from rowqueue_local.snowflake.procedures import called
from rowqueue_local.snowflake.roles import OWNERSHIP, Roles, Securable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlglot import exp

    from rowqueue_local.snowflake.engine import Engine
    from rowqueue_local.snowflake.identity import Identity
    from rowqueue_local.snowflake.results import ResultOwners
    from rowqueue_local.snowflake.session import Session
    from rowqueue_local.snowflake.statements import StatementFacts

_KEPT: Final = 500
_OF_ACCESS_CONTROL: Final = frozenset({"grant", "revoke", "use", "create", "alter", "drop"})
_DEFINES: Final = frozenset({"create", "alter", "drop"})
_SETS_VARIABLES: Final = frozenset({"set", "unset"})
_NO_WAREHOUSE: Final = (
    "No active warehouse selected in the current session.  "
    "Select an active warehouse with the 'use warehouse' command.\n"
)


class Access:
    """The access control of an account.

    An administrator's statement is not looked at. What another role may run is decided once for each text, and again
    after a change of any grant.

    Args:
        engine: parses statements, and knows which objects there are.
        results: whose results there are.

    Attributes:
        roles: the account's users, roles and grants.
    """

    def __init__(self, engine: Engine, results: ResultOwners) -> None:
        self.roles = Roles()
        self._results = results
        self._engine = engine
        self._views: dict[Securable, tuple[str, list[NeededPrivilege]]] = {}
        self._kinds: dict[Securable, str] = {}

    def places(self, identity: Identity, database: str | None, schema: str | None) -> tuple[str | None, str | None]:
        """The database and the schema that a login asks for, as far as its roles may use them.

        Snowflake accepts the login without them. The first statement that needs them is refused.
        """
        if identity.is_administrator:
            return database, schema
        roles, name = self.roles.roles_of(identity.roles), (database or "").strip('"').upper()
        if not self.roles.may(roles, "USAGE", Securable("DATABASE", (name,))):
            return None, None
        inside = Securable("SCHEMA", (name, (schema or "").strip('"').upper()))
        return database, schema if self.roles.may(roles, "USAGE", inside) else None

    def authorize(self, session: Session, statement: StatementFacts, text: str) -> None:
        """Check that the session has the privileges that a statement needs, and that its roles are known to the engine.

        Raises:
            Failure: it has not, in Snowflake's words.
        """
        identity = session.identity
        self._tell_engine(session)
        if not statement.for_engine:
            return
        if identity.is_administrator:
            self._require_own_results(session, text)
            return
        if statement.kind in _SETS_VARIABLES:
            identity.allowed.clear()  # the same text may mean another statement now
        if statement.defines_procedure:
            raise _not_supported("a procedure that is not an administrator's")
        key = (text, *self._engine.current_schema(session.token), identity.warehouse or "")
        if key in identity.allowed:
            return
        for need in self._needs(session, statement, text):
            self._require(session, need)
        if len(identity.allowed) >= _KEPT:
            identity.allowed.clear()
        identity.allowed.add(key)

    def perform(self, session: Session, statement: StatementFacts, text: str) -> None:
        """Run a statement that the engine does not see, if it is about access control.

        Raises:
            Failure: it is refused.
        """
        if statement.kind in _OF_ACCESS_CONTROL:
            grants.perform(text, self.roles, session.identity, self._place(session))
            self._tell_engine(session, changed=True)

    def exists(self, session: Session, statement: StatementFacts, text: str) -> bool:
        """Whether the object that CREATE is about is there already. For an administrator it makes no difference."""
        if statement.kind != "create" or session.identity.is_administrator:
            return True
        place = self._place(session)
        target = grants.defined(text, place)
        return target is not None and place.kind_of(target.on) is not None

    def note(self, session: Session, statement: StatementFacts, text: str, *, existed: bool) -> None:
        """Keep owners and grants right after the engine has run DDL."""
        if statement.kind not in _DEFINES:
            return
        place = self._place(session)
        grants.note(text, self.roles, session.identity, place, existed=existed)
        target = grants.defined(text, place)
        if target is None:
            return
        if target.verb != "CREATE":
            self._kinds.clear()
            return
        self._kinds[target.on] = target.kind
        if not session.identity.is_administrator:
            reads = [need for need in self._needs(session, statement, text) if need.privilege == "SELECT"]
            where = [
                NeededPrivilege(privilege="SELECT", kind="TABLE", name=place.full("TABLE", need.name)) for need in reads
            ]
            self._views[target.on] = (session.identity.role, where)

    def _tell_engine(self, session: Session, *, changed: bool = False) -> None:
        """What CURRENT_ROLE() and the like answer; and forget what was decided, if a grant has changed."""
        if session.roles_version == self.roles.version and not changed:
            return
        session.roles_version = self.roles.version
        identity = session.identity
        identity.allowed.clear()
        self._engine.set_identity(
            session.token, user=identity.user, role=identity.role, roles=sorted(self.roles.roles_of(identity.roles))
        )
        self._engine.set_answer(session.token, "warehouse", identity.warehouse)

    def _needs(self, session: Session, statement: StatementFacts, text: str) -> list[NeededPrivilege]:
        needed, kind = [], statement.kind
        if kind == "call":
            target = grants.called(text, self._place(session))
            needed.append(NeededPrivilege(privilege="USAGE", kind="PROCEDURE", name=target.name))
            kind, text = "select", called(text).query
        tree: exp.Expr | None = self._engine.parsed(session.token, text)
        if tree is None:
            if needed:
                raise _not_supported("a CALL with arguments that cannot be parsed")
            return []  # the engine says what is wrong with it
        try:
            return [*needed, *needs_of(kind, tree)]
        except Unknown:
            raise _not_supported("a statement for which it is not known which privileges it needs") from None

    def _require_own_results(self, session: Session, text: str) -> None:
        """Not even an administrator reads the result of another user's query."""
        tree = self._engine.parsed(session.token, text) if "RESULT_SCAN" in text.upper() else None
        for query_id in results_of(tree) if tree is not None else ():
            self._results.require(session.identity.user, query_id)

    def _require(self, session: Session, need: NeededPrivilege) -> None:
        if need.kind == RESULT:
            self._results.require(session.identity.user, need.name[0])
            return
        roles = self.roles.roles_of(session.identity.roles)
        place = self._place(session)
        on = place.securable(need.kind, need.name)
        if missing := [number for number, part in enumerate(on.name) if not part]:
            raise nothing_in_use(need.privilege, ("database", "schema")[missing[0]])
        if need.kind == "ACCOUNT":
            if not self.roles.may(roles, need.privilege, on):
                raise insufficient("account", "")
            return
        if need.privilege == "USAGE" and not self.roles.may(roles, "USAGE", on) and need.kind != "PROCEDURE":
            raise impossible()
        self._require_usage(roles, on.name)
        if need.privilege == "OWNERSHIP of what is replaced":
            if place.kind_of(on) is not None and not self.roles.may(roles, OWNERSHIP, on):
                raise insufficient("table", on.name[-1])
            return
        if need.computes:
            warehouse = session.identity.warehouse
            if warehouse is None or not self.roles.may(roles, "USAGE", Securable("WAREHOUSE", (warehouse,))):
                raise Failure(606, "57P03", _NO_WAREHOUSE)
        self._require_privilege(roles, need, on)

    def _require_privilege(self, roles: frozenset[str], need: NeededPrivilege, on: Securable) -> None:
        name = ".".join(on.name)
        if not self.roles.sees(roles, on):
            if on.kind == "PROCEDURE":
                raise Failure(2141, "42601", f"SQL compilation error:\nUnknown user-defined function {name}")
            raise not_there("Object" if on.kind == "TABLE" else on.kind.capitalize(), name)
        if need.privilege != "any" and not self.roles.may(roles, need.privilege, on):
            raise insufficient(on.kind.lower(), on.name[-1])
        if need.privilege == "SELECT" and on in self._views and self.roles.owner(on):
            self._require_of_owner(*self._views[on])

    def _require_of_owner(self, owner: str, reads: Iterable[NeededPrivilege]) -> None:
        """A view reads with the rights of its owner. An administrator's view may read everything."""
        for need in reads:
            on = Securable(need.kind, need.name)
            self._require_usage(self.roles.roles_of([owner]), on.name)
            self._require_privilege(self.roles.roles_of([owner]), need, on)

    def _require_usage(self, roles: frozenset[str], name: tuple[str, ...]) -> None:
        """USAGE of the database and the schema of an object."""
        for kind, length in (("DATABASE", 1), ("SCHEMA", 2)):
            container = Securable(kind, name[:length])
            if len(name) > length and not self.roles.may(roles, "USAGE", container):
                raise not_there(kind.capitalize(), ".".join(container.name))

    def _place(self, session: Session) -> grants.Surroundings:
        engine, token = self._engine, session.token
        return grants.Surroundings(
            schema=engine.current_schema(token),
            variable=lambda name: engine.variable(token, name),
            relations=lambda database, schema: engine.relations(token, database, schema),
            kind_of=lambda on: self._kind_of(token, on),
        )

    def _kind_of(self, token: str, on: Securable) -> str | None:
        """What an object is. The engine takes milliseconds to find it, so it is asked once."""
        if on not in self._kinds:
            match on:
                case ("TABLE", (database, schema, name)):
                    found = self._engine.relations(token, database, schema).get(name)
                case ("SCHEMA", (database, schema)):
                    found = "SCHEMA" if schema in self._engine.schemas(token, database) else None
                case ("DATABASE", (database,)):
                    found = "DATABASE" if self._engine.schemas(token, database) else None
                case _:
                    found = on.kind  # the engine knows no warehouses
            if found is None:
                return None
            self._kinds[on] = found
        return self._kinds[on]


def _not_supported(what: str) -> Failure:
    return Failure(UNSUPPORTED, "58000", f"[local stand-in] {what} is not supported for this role")
