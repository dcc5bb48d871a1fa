"""Users, roles and grants of the Snowflake stand-in, with the real connector."""

from __future__ import annotations

import base64
import contextlib
import json
import subprocess
import sys
import uuid

import pytest
import snowflake.connector
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from snowflake.connector.errors import DatabaseError

NOT_THERE = (2003, "42S02")
INSUFFICIENT = (3001, "42501")


@pytest.fixture(scope="module")
def stand_in():
    """The port of a stand-in."""
    process = subprocess.Popen(
        [sys.executable, "-m", "rowqueue_local.snowflake", "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    yield int(json.loads(process.stdout.readline())["ready"].rpartition(":")[2])
    process.terminate()
    process.wait(10)
    process.stdout.close()


class GuardedDatabase:
    """A database with a table, a view of it, and a role of its own. Its roles and users have names of their own."""

    def __init__(self, port, opened):
        self.port = port
        self.opened = opened
        self.name = f"D{uuid.uuid4().hex[:10]}".upper()
        self.role = f"{self.name}_ROLE"
        self.owner = self.session(user="somebody")
        self.run("CREATE TABLE t (a INT)", "CREATE VIEW v AS SELECT a FROM t", f"CREATE ROLE {self.role}")

    def run(self, *texts, by=None):
        """Run statements; the rows of the last one."""
        cursor = (by or self.owner).cursor()
        for text in texts:
            cursor.execute(text)
        return cursor.fetchall()

    def session(self, **options):
        given = {"password": "anything", "database": self.name, "schema": "S", "warehouse": "WH"} | options
        return self.opened.enter_context(
            contextlib.closing(
                snowflake.connector.connect(
                    account="local",
                    host="127.0.0.1",
                    port=self.port,
                    protocol="http",
                    platform_detection_timeout_seconds=0.0,
                    login_timeout=5,
                    **given,
                )
            )
        )

    def granted(self, *privileges):
        """A session of the role after these grants, and USAGE of what contains the table."""
        usage = [f"USAGE ON DATABASE {self.name}", f"USAGE ON SCHEMA {self.name}.S", "USAGE ON WAREHOUSE WH"]
        self.run(*[f"GRANT {privilege} TO ROLE {self.role}" for privilege in (*usage, *privileges)])
        return self.session(user="somebody", role=self.role)

    def refused(self, text, by):
        with pytest.raises(DatabaseError) as caught:
            self.run(text, by=by)
        return caught.value.errno, caught.value.sqlstate


@pytest.fixture
def database(stand_in):
    with contextlib.ExitStack() as opened:
        yield GuardedDatabase(stand_in, opened)


CHANGES = {
    "INSERT": "INSERT INTO t VALUES (1)",
    "UPDATE": "UPDATE t SET a = 2",
    "DELETE": "DELETE FROM t",
    "TRUNCATE": "TRUNCATE TABLE t",
}


def test_without_a_privilege_a_table_seems_not_to_exist_and_with_another_one_the_statement_is_refused(database):
    session = database.granted()
    for text in ("SELECT * FROM t", *CHANGES.values(), "SELECT * FROM v"):
        assert database.refused(text, session) == NOT_THERE
    database.run(f"GRANT REFERENCES ON TABLE t TO ROLE {database.role}")
    for text in ("SELECT * FROM t", *CHANGES.values()):
        assert database.refused(text, session) == INSUFFICIENT


@pytest.mark.parametrize("privilege", CHANGES)
def test_each_change_needs_its_own_privilege(database, privilege):
    session = database.granted(f"{privilege} ON TABLE t")
    database.run(CHANGES[privilege], by=session)
    for other, text in CHANGES.items():
        if other != privilege:
            assert database.refused(text, session) == INSUFFICIENT


@pytest.mark.parametrize(
    "text", ["UPDATE t SET a = a + 1", "DELETE FROM t WHERE a = 1", "INSERT INTO t SELECT a FROM t"]
)
def test_a_change_that_reads_a_column_needs_select_too(database, text):
    session = database.granted("INSERT, UPDATE, DELETE ON TABLE t")
    assert database.refused(text, session) == INSUFFICIENT
    database.run(f"GRANT SELECT ON t TO ROLE {database.role}".replace("ON t", "ON TABLE t"))
    database.run(text, by=session)


def test_a_view_reads_with_the_rights_of_its_owner(database):
    session = database.granted("SELECT ON VIEW v")
    database.run("INSERT INTO t VALUES (7)")
    assert database.run("SELECT a FROM v", by=session) == [(7,)]
    assert database.refused("SELECT a FROM t", session) == NOT_THERE


def test_a_view_of_a_role_reads_what_that_role_may_read(database):
    maker = database.granted("SELECT ON TABLE t", f"CREATE VIEW ON SCHEMA {database.name}.S")
    database.run("CREATE VIEW mine AS SELECT a FROM t", by=maker)
    assert database.run("SELECT a FROM mine", by=maker) == []
    database.run(f"REVOKE SELECT ON TABLE t FROM ROLE {database.role}")
    assert database.refused("SELECT a FROM mine", maker) == NOT_THERE


def test_a_replaced_view_keeps_its_grants_only_with_copy_grants(database):
    session = database.granted("SELECT ON VIEW v")
    database.run("CREATE OR REPLACE VIEW v COPY GRANTS COMMENT = 'as before' AS SELECT a FROM t")
    assert database.run("SELECT a FROM v", by=session) == []
    database.run("CREATE OR REPLACE VIEW v AS SELECT a FROM t")
    assert database.refused("SELECT a FROM v", session) == NOT_THERE


def test_grants_stay_with_a_table_that_is_renamed_and_go_with_one_that_is_dropped(database):
    session = database.granted("SELECT ON TABLE t")
    database.run("ALTER TABLE t RENAME TO old", "CREATE TABLE t (a INT)")
    assert database.refused("SELECT * FROM t", session) == NOT_THERE
    database.run("SELECT * FROM old", by=session)
    database.run("DROP TABLE old", "CREATE TABLE old (a INT)")
    assert database.refused("SELECT * FROM old", session) == NOT_THERE


@pytest.mark.parametrize(
    ("missing", "error"),
    [("DATABASE {}", (90105, "22000")), ("SCHEMA {}.S", (90106, "22000")), ("WAREHOUSE WH", (606, "57P03"))],
)
def test_what_contains_a_table_and_the_warehouse_need_usage(database, missing, error):
    database.granted("SELECT ON TABLE t")
    database.run(f"REVOKE USAGE ON {missing.format(database.name)} FROM ROLE {database.role}")
    session = database.session(user="somebody", role=database.role)
    assert database.refused("SELECT * FROM t", session) == error
    if missing != "WAREHOUSE WH":
        assert database.refused(f"SELECT * FROM {database.name}.S.t", session) == (2003, "02000")
    assert database.run("SELECT 1", by=session) == [(1,)]


def test_a_role_has_what_is_granted_to_the_roles_it_was_granted(database):
    database.granted("SELECT ON TABLE t")
    database.run(f"CREATE ROLE {database.name}_TOP", f"GRANT ROLE {database.role} TO ROLE {database.name}_TOP")
    session = database.session(user="somebody", role=f"{database.name}_TOP")
    database.run("SELECT * FROM t", by=session)
    assert database.run(
        f"SELECT CURRENT_ROLE(), IS_ROLE_IN_SESSION('{database.role}'), IS_ROLE_IN_SESSION('OTHER'), CURRENT_USER()",
        by=session,
    ) == [(f"{database.name}_TOP", True, False, "SOMEBODY")]
    database.run(f"REVOKE ROLE {database.role} FROM ROLE {database.name}_TOP")
    assert database.refused("SELECT * FROM t", session) == (2003, "02000")
    assert database.run(f"SELECT IS_ROLE_IN_SESSION('{database.role}')", by=session) == [(False,)]


def test_a_view_that_asks_for_a_role_answers_for_the_session_that_reads_it(database):
    database.run(f"CREATE SECURE VIEW gated AS SELECT IFF(IS_ROLE_IN_SESSION('{database.role}'), a, NULL) AS a FROM t")
    database.run("INSERT INTO t VALUES (7)")
    with_role = database.granted("SELECT ON VIEW gated")
    other = f"{database.name}_OTHER"
    database.run(f"CREATE ROLE {other}", f"GRANT ROLE {database.role} TO ROLE {other}")
    assert database.run("SELECT a FROM gated") == [(None,)]
    assert database.run("SELECT a FROM gated", by=with_role) == [(7,)]
    assert database.run("SELECT a FROM gated", by=database.session(user="somebody", role=other)) == [(7,)]


def test_a_user_takes_only_its_own_roles(database):
    name, other = f"{database.name}_USER", f"{database.name}_OTHER"
    database.run(
        f"CREATE ROLE {other}",
        f"CREATE USER {name} PASSWORD = 'secret' DEFAULT_ROLE = {database.role} DEFAULT_SECONDARY_ROLES = ()",
        f"GRANT ROLE {database.role} TO USER {name}",
    )
    session = database.session(user=name, password="secret")
    assert database.run("SELECT CURRENT_ROLE(), CURRENT_USER()", by=session) == [(database.role, name)]
    assert database.refused(f"USE ROLE {other}", session) == (3013, "42501")
    assert database.refused(f"GRANT ROLE {other} TO USER {name}", session) == INSUFFICIENT
    with pytest.raises(DatabaseError, match="not granted to this user"):
        database.session(user=name, password="secret", role=other)
    with pytest.raises(DatabaseError, match="Incorrect username or password"):
        database.session(user=name, password="guessed")
    database.run(f"GRANT ROLE {other} TO USER {name}")
    database.run(f"USE ROLE {other}", by=session)
    assert database.run("SELECT CURRENT_ROLE()", by=session) == [(other,)]


def test_without_an_empty_list_of_secondary_roles_a_session_has_all_roles_of_its_user(database):
    database.granted("SELECT ON TABLE t")
    for number, secondary in enumerate(("", "DEFAULT_SECONDARY_ROLES = ()")):
        name, role = f"{database.name}_U{number}", f"{database.name}_R{number}"
        database.run(f"CREATE ROLE {role}", f"CREATE USER {name} PASSWORD = 'x' DEFAULT_ROLE = '{role}' {secondary}")
        database.run(f"GRANT ROLE {role} TO USER {name}", f"GRANT ROLE {database.role} TO USER {name}")
    database.run("SELECT * FROM t", by=database.session(user=f"{database.name}_U0", password="x"))
    with pytest.raises(DatabaseError):
        database.run("SELECT * FROM t", by=database.session(user=f"{database.name}_U1", password="x"))


def encoded(key):
    public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(public).decode()


def der(key):
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@pytest.mark.parametrize(
    "make",
    [lambda: rsa.generate_private_key(65537, 2048), lambda: ec.generate_private_key(ec.SECP256R1())],
    ids=["RSA", "EC"],
)
def test_a_key_pair_is_verified_and_a_service_has_no_password(database, make):
    key, next_key, wrong = make(), make(), make()
    name = f"{database.name}_SERVICE"

    def log_in(key, user=name):
        return database.session(user=user, authenticator="SNOWFLAKE_JWT", private_key=der(key), password=None)

    database.run(
        f"CREATE USER {name} TYPE = SERVICE DEFAULT_ROLE = {database.role}",
        f"GRANT ROLE {database.role} TO USER {name}",
    )
    with pytest.raises(DatabaseError, match="JWT token is invalid"):
        log_in(key)
    database.run(f"ALTER USER {name} SET RSA_PUBLIC_KEY = '{encoded(key)}'")
    assert database.run("SELECT CURRENT_ROLE()", by=log_in(key)) == [(database.role,)]
    for refused, user in ((wrong, name), (key, "nobody")):
        with pytest.raises(DatabaseError, match="JWT token is invalid"):
            log_in(refused, user)
    database.run(
        f"ALTER USER {name} SET RSA_PUBLIC_KEY_2 = '{encoded(next_key)}'", f"ALTER USER {name} UNSET RSA_PUBLIC_KEY"
    )
    log_in(next_key)
    with pytest.raises(DatabaseError, match="JWT token is invalid"):
        log_in(key)
    with pytest.raises(DatabaseError, match="Incorrect username or password"):
        database.session(user=name)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("GRANT SELECT ON TABLE missing TO ROLE {}", (2003, "42S02")),
        ("GRANT SELECT ON TABLE v TO ROLE {}", (2003, "42S02")),
        ("GRANT SELECT ON TABLE t TO ROLE missing", (2003, "02000")),
        ("GRANT INSERT ON VIEW v TO ROLE {}", (1003, "42000")),
        ("GRANT SELCT ON TABLE t TO ROLE {}", (1003, "42000")),
        ("GRANT USAGE ON SCHEMA missing TO ROLE {}", (2003, "02000")),
        ("ALTER USER missing SET RSA_PUBLIC_KEY = 'x'", (2003, "02000")),
        ("CREATE ROLE {}", (2002, "42710")),
        ("USE ROLE missing", (3013, "42501")),
    ],
)
def test_a_grant_that_makes_no_sense_is_refused(database, text, error):
    assert database.refused(text.format(database.role), database.owner) == error


def test_who_creates_a_table_owns_it_and_needs_the_privilege_to_create_it(database):
    session = database.granted()
    assert database.refused("CREATE TABLE mine (a INT)", session) == INSUFFICIENT
    database.run(f"GRANT CREATE TABLE ON SCHEMA {database.name}.S TO ROLE {database.role}")
    database.run(
        "CREATE TABLE mine (a INT)", "INSERT INTO mine VALUES (1)", "ALTER TABLE mine ADD COLUMN b INT", by=session
    )
    database.run("CREATE TABLE IF NOT EXISTS t (a INT)", by=session)
    for text in ("SELECT * FROM t", "DROP TABLE t", "ALTER TABLE t ADD COLUMN b INT"):
        assert database.refused(text, session) == NOT_THERE
    assert database.refused("CREATE OR REPLACE TABLE t (a INT)", session) == INSUFFICIENT
    database.run("DROP TABLE mine", by=session)


def test_a_statement_of_unknown_privileges_is_refused_for_a_role(database):
    session = database.granted()
    assert database.refused("PRAGMA version", session)[0] == 390999
    assert database.refused("GRANT SELECT ON TABLE t TO ROLE PUBLIC", session) == INSUFFICIENT


READS_OF_T = [
    "SELECT * FROM IDENTIFIER('T')",
    "SELECT * FROM IDENTIFIER('S.T')",
    "SELECT * FROM IDENTIFIER('\"T\"')",
    "SELECT * FROM 'T'",
    "SELECT * FROM 'T.csv'",
    "SELECT * FROM TABLE('T')",
    "SELECT * FROM query_table('T')",
    "SELECT * FROM query('FROM T')",
    "SELECT * FROM read_csv('/etc/hostname')",
    "SELECT * FROM own, LATERAL read_text('/etc/hostname')",
    "SELECT * FROM duckdb_tables()",
    "SELECT * FROM sqlite_scan('a', 'b')",
    "SELECT * FROM pragma_table_info('T')",
    "SELECT * FROM json_execute_serialized_sql('x')",
    "WITH t AS (SELECT * FROM t) SELECT * FROM t",
    "WITH RECURSIVE t AS (SELECT * FROM t) SELECT * FROM t",
    "WITH RECURSIVE t AS (SELECT a FROM t UNION ALL SELECT a FROM t WHERE a < 3) SELECT * FROM t",
    "WITH x AS (SELECT * FROM t), t AS (SELECT 1 AS a) SELECT * FROM x",
    "SELECT * FROM (WITH t AS (SELECT 1 AS a) SELECT * FROM t) AS x, t",
    "SELECT (WITH t AS (SELECT 1 AS a) SELECT MAX(a) FROM t), (SELECT MAX(a) FROM t)",
    "SELECT * FROM own UNION ALL SELECT * FROM t",
    "SELECT * FROM own, LATERAL (SELECT a FROM t) AS x",
    "SELECT * FROM own, LATERAL FLATTEN(input => (SELECT ARRAY_AGG(a) FROM t)) AS x",
    "SELECT * FROM t PIVOT (MAX(a) FOR a IN (1, 2))",
    "SELECT 7 IN t",
    "VALUES ((SELECT MAX(a) FROM t))",
    "SELECT * FROM (VALUES ((SELECT MAX(a) FROM t)))",
    "SET x = (SELECT MAX(a) FROM t)",
    "SET VARIABLE rowqueue_session_roles = ['OTHER']",
    "CREATE TEMPORARY TABLE mine AS SELECT * FROM t",
    "CREATE TEMPORARY TABLE mine AS SELECT * FROM IDENTIFIER('T')",
    "CREATE TEMPORARY TABLE mine AS WITH t AS (SELECT * FROM t) SELECT * FROM t",
    "CREATE TEMPORARY TABLE mine CLONE t",
    "INSERT INTO own SELECT a FROM t",
    "INSERT INTO own VALUES ((SELECT MAX(a) FROM t))",
    "INSERT INTO IDENTIFIER('T') VALUES (1)",
    "UPDATE IDENTIFIER('T') SET a = 1",
    "UPDATE own SET a = 1 FROM t",
    "DELETE FROM IDENTIFIER('T')",
    "DELETE FROM own USING t WHERE own.a < t.a",
    "DELETE FROM own RETURNING *",
    "TRUNCATE TABLE IDENTIFIER('T')",
    "TRUNCATE TABLE own, t",
    "DROP TABLE IDENTIFIER('T')",
    "ALTER TABLE own SWAP WITH t",
    "MERGE INTO own USING t ON own.a = t.a WHEN MATCHED THEN DELETE",
    "COPY INTO @~/x FROM (SELECT * FROM t)",
    "COPY INTO @~/x FROM t",
    "COPY INTO own FROM @%t",
    "EXECUTE IMMEDIATE 'SELECT * FROM t'",
    "EXPLAIN SELECT * FROM t",
    "DESCRIBE SELECT * FROM t",
    "SHOW GRANTS LIKE '\\'; FROM T --'",
    "SUMMARIZE t",
    "FROM t",
    "PIVOT t ON a",
    "CREATE VIEW mine AS SELECT * FROM IDENTIFIER('T')",
    "CREATE PROCEDURE mine() RETURNS VARCHAR LANGUAGE SQL AS $$ BEGIN RETURN (SELECT MAX(a) FROM t); END $$",
    "CALL given((SELECT MAX(a) FROM t))",
    "CALL given(a FROM t)",
    "CALL given((SELECT MAX(a) FROM IDENTIFIER('T')))",
    "SELECT * FROM own; SELECT * FROM t",
]
"""Ways to a table that a role may not read, which needs no privilege but those that the test grants."""


def test_no_statement_reads_a_table_without_the_privilege(database):
    database.run(
        "INSERT INTO t VALUES (4711)",
        "CREATE PROCEDURE given(x VARCHAR) RETURNS VARCHAR LANGUAGE SQL AS $$ BEGIN RETURN :x; END $$",
    )
    schema = f"{database.name}.S"
    session = database.granted(
        f"CREATE TABLE ON SCHEMA {schema}",
        f"CREATE VIEW ON SCHEMA {schema}",
        f"CREATE PROCEDURE ON SCHEMA {schema}",
        "USAGE ON PROCEDURE given(VARCHAR)",
    )
    database.run("CREATE TABLE own (a INT)", "INSERT INTO own VALUES (1)", by=session)
    ran = []
    for text in READS_OF_T:
        with contextlib.suppress(DatabaseError):
            ran.append((text, database.run(text, by=session)))
    assert ran == []
    assert database.run("SELECT a FROM t") == [(4711,)]


def test_what_a_role_may_read_it_may_read_in_every_way(database):
    database.run("INSERT INTO t VALUES (7)")
    session = database.granted("SELECT ON TABLE t")
    database.run("SET name = 'T'", "CREATE TEMPORARY TABLE own (a INT)", by=session)
    for text in (
        "SELECT a FROM IDENTIFIER('T')",
        "SELECT a FROM IDENTIFIER($name)",
        "WITH x AS (SELECT a FROM t), y AS (SELECT a FROM x) SELECT a FROM y",
        "WITH x AS (SELECT a FROM t) SELECT a FROM (WITH y AS (SELECT a FROM x) SELECT a FROM y)",
        "WITH t AS (SELECT a FROM t) SELECT a FROM t",
        "WITH RECURSIVE x AS (SELECT 7 AS a UNION ALL SELECT a + 1 AS a FROM x WHERE a < 7) SELECT a FROM x",
        "SELECT f.value::INT FROM t, LATERAL FLATTEN(input => ARRAY_CONSTRUCT(a)) f",
        "SELECT f.value::INT FROM TABLE(FLATTEN(input => ARRAY_CONSTRUCT(7))) f",
        "SELECT * FROM (VALUES (7))",
    ):
        assert database.run(text, by=session) == [(7,)], text
    for text in ("SHOW TABLES", "DESCRIBE TABLE t", "UNSET name", "SELECT table_name FROM INFORMATION_SCHEMA.TABLES"):
        database.run(text, by=session)
    assert database.run("INSERT INTO own SELECT a FROM t", "SELECT a FROM own", by=session) == [(7,)]


def test_a_variable_that_changes_is_looked_at_again(database):
    database.run("INSERT INTO t VALUES (7)", "CREATE VIEW other AS SELECT 1 AS a")
    session = database.granted("SELECT ON VIEW other")
    database.run("SET name = 'OTHER'", by=session)
    assert database.run("SELECT a FROM IDENTIFIER($name)", by=session) == [(1,)]
    database.run("SET name = 'T'", by=session)
    assert database.refused("SELECT a FROM IDENTIFIER($name)", session) == NOT_THERE


def test_only_the_user_who_ran_a_query_gets_its_result_later(database):
    database.run("INSERT INTO t VALUES (7)")
    cursor = database.owner.cursor()
    cursor.execute("SELECT a FROM t")
    for other in (database.session(user="other"), database.session(user="other", role=database.role)):
        with pytest.raises(DatabaseError):
            other.cursor().query_result(cursor.sfqid)
        with pytest.raises(DatabaseError):
            other.cursor().execute(f"SELECT * FROM TABLE(RESULT_SCAN('{cursor.sfqid}'))")
    again = database.session(user="somebody").cursor()
    assert again.execute(f"SELECT * FROM TABLE(RESULT_SCAN('{cursor.sfqid}'))").fetchall() == [(7,)]
    again.get_results_from_sfqid(cursor.sfqid)
    assert again.fetchall() == [(7,)]
