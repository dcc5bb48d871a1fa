"""What each role may do: the roles of 00_roles.sql, the grants of 04_grants.sql, and what Snowflake then allows."""

from __future__ import annotations

import contextlib
import re

import pytest
from role_grants import GRANTS, ROOT, SENT, STATEMENTS, granted, needed, run_script
from snowflake.connector.errors import DatabaseError

from rowqueue import sql
from rowqueue.migrate import scripts

PEOPLE = ("viewer", "operator", "producer", "payload")
ROLES = ("poller", "processor", *PEOPLE)
REFUSED = {606, 2003, 2141, 3001, 90105, 90106}
"""No warehouse, not there or not authorized, not allowed, no database, no schema."""


def created(kind):
    """The views or procedures of the scripts that a migration repeats."""
    texts = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "snowflake").glob("03_*.sql"))]
    return [name for text in texts for name in re.findall(rf"CREATE OR REPLACE (?:SECURE )?{kind} (\w+)", text)]


VIEWS = created("VIEW")
INSERT = "INSERT INTO PROCESSING_QUEUE (data, reference) VALUES ('{}', 'mine')"
ACTS = {
    name: statement.text for name, statement in sql.statements(queue="PROCESSING_QUEUE", file="operator.sql").items()
}
READABLE = ("PROCESSING_HOLDS", "PROCESSING_ACTIONS", "PROCESSING_ACTION_ENTRIES")
"""Tables that have no payload."""

SEES = {f"the view {view}": f"SELECT * FROM {view}" for view in VIEWS}
LOOKS = {f"the table {table}": f"SELECT * FROM {table}" for table in READABLE}
TEXTS = {name: statement.text for name, statement in sql.statements(queue="PROCESSING_QUEUE").items()}
ALL = TEXTS | SEES | ACTS | LOOKS | {"an INSERT": INSERT}


def by_grants(role):
    """The statements of the programs for which the grants of a role on tables suffice."""
    tables = granted(role)
    return {
        name
        for name in STATEMENTS
        if all(privileges <= tables.get(table, set()) for table, privileges in needed([name]).items())
    }


MAY = {
    "poller": {*by_grants("poller"), "the table PROCESSING_HOLDS"},
    "processor": {*by_grants("processor"), "the table PROCESSING_HOLDS"},
    "viewer": set(SEES),
    "operator": {*by_grants("operator"), *SEES, *ACTS, *LOOKS},
    "producer": {*by_grants("producer"), "an INSERT"},
    "payload": set(),
}
"""What each role may do, of all statements. The first two follow from the grants on tables; people's are a decision."""


@pytest.fixture(scope="module")
def ground(account, programs, connection):
    """A schema with all grants, an administrator's session, and one for each role."""
    given = account | {"SNOWFLAKE_SCHEMA": "GRANTS_OF_ALL_ROLES"}
    with contextlib.ExitStack() as opened:
        admin = opened.enter_context(connection(account | {"SNOWFLAKE_SCHEMA": "PUBLIC"}))
        admin.cursor().execute(f"CREATE SCHEMA {given['SNOWFLAKE_SCHEMA']}")
        opened.callback(lambda: admin.cursor().execute(f"DROP SCHEMA {given['SNOWFLAKE_SCHEMA']} CASCADE"))
        admin.cursor().execute(f"USE SCHEMA {given['SNOWFLAKE_SCHEMA']}")
        for path in sorted((ROOT / "snowflake").glob("0[1345]_*.sql")):
            run_script(admin, given, path.name)
        roles = {role: f"{given['SNOWFLAKE_DATABASE']}_{role.upper()}" for role in ROLES}
        yield (
            admin,
            {role: opened.enter_context(connection(given | {"SNOWFLAKE_ROLE": name})) for role, name in roles.items()},
        )


def is_refused(session, name):
    """Whether a statement is refused for want of a privilege. It is not run, only described."""
    cursor = session.cursor()
    try:
        cursor.describe(ALL[name])
    except DatabaseError as error:
        return error.errno in REFUSED
    return False


@pytest.mark.parametrize("role", ROLES)
def test_a_role_may_run_what_its_grants_give_and_nothing_else(ground, role):
    _, sessions = ground
    allowed = {name for name in ALL if not is_refused(sessions[role], name)}
    assert allowed == MAY[role]


@pytest.mark.parametrize("role", SENT)
def test_a_program_may_run_what_it_sends(role):
    assert SENT[role] <= MAY[role]


@pytest.mark.parametrize("grant", GRANTS, ids=lambda text: re.sub(r"\W+", " ", text))
def test_without_a_grant_its_role_is_refused_something(ground, grant):
    admin, sessions = ground
    role = re.search(r"TO ROLE IDENTIFIER\(\$(\w+)\)", grant)[1]
    of_role = sorted((SENT.get(role, set()) or MAY[role]) & ALL.keys())
    for privileges in re.match(r"GRANT (.+?) ON ", grant)[1].split(", "):
        revoke = re.sub(r"GRANT .+? ON ", f"REVOKE {privileges} ON ", grant).replace(" TO ROLE ", " FROM ROLE ")
        admin.cursor().execute(revoke)
        try:
            assert any(is_refused(sessions[role], name) for name in of_role), f"nothing needs {privileges}"
        finally:
            admin.cursor().execute(grant)


def test_every_role_is_granted_to_the_administrator_and_payload_to_nobody_else(ground):
    admin, sessions = ground
    for role in ROLES:
        admin.cursor().execute("USE ROLE SYSADMIN")
        name = f"CONTRACT_{role.upper()}"
        assert admin.cursor().execute(f"SELECT IS_ROLE_IN_SESSION('{name}')").fetchone() == (True,)
        if role != "payload":
            with_payload = sessions[role].cursor().execute("SELECT IS_ROLE_IN_SESSION('CONTRACT_PAYLOAD')").fetchone()
            assert with_payload == (False,)


@pytest.mark.parametrize("program", SENT)
def test_the_service_user_takes_one_role_at_a_time(environ, warehouses, program):
    """00_roles.sql gives it both roles and no secondary ones, so each program has the privileges of its own."""
    warehouse = warehouses(program)
    statement = scripts.statements(
        "SELECT CURRENT_ROLE(), IS_ROLE_IN_SESSION('CONTRACT_POLLER'), IS_ROLE_IN_SESSION('CONTRACT_PROCESSOR')",
        name="roles",
    )[0]
    assert warehouse.rows(statement, {}) == [
        (f"CONTRACT_{program.upper()}", program == "poller", program == "processor")
    ]
