"""The account that the contract is run on: the stand-in always, a real one when the environment names it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import urllib.request
import uuid
from pathlib import Path

import pytest
import snowflake.connector
from role_grants import run_script
from snowflake_rules import findings

from rowqueue import credentials
from rowqueue.poller.queue import PollerQueue
from rowqueue.processor.store import ProcessorStore
from rowqueue.settings import SnowflakeSettings
from rowqueue.warehouse import SnowflakeWarehouse
from rowqueue_local.authority import service_key

ROOT = Path(__file__).parents[2]
LONGEST_KEPT = 20_000  # the stand-in keeps the beginning of longer texts, and half a statement does not parse
REAL = {name: value for name, value in os.environ.items() if name.startswith("CONTRACT_SNOWFLAKE_")}


def _sent_to(url):
    with urllib.request.urlopen(f"{url}/_local/statements", timeout=10) as answer:
        return [statement["text"] for statement in json.load(answer)]


@pytest.fixture(scope="session")
def stand_in():
    """Address of a Snowflake stand-in that ends with the tests; real Snowflake would have taken all that they sent."""
    process = subprocess.Popen(
        [sys.executable, "-m", "rowqueue_local.snowflake", "--port", "0", "--lock-timeout", "10"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        url = json.loads(process.stdout.readline())["ready"]
        yield url
        sent = _sent_to(url)
        refused = {text: [str(finding) for finding in findings(text)] for text in sent}
        assert not {text: found for text, found in refused.items() if found}, "Snowflake would refuse what was sent"
        assert not [text[:100] for text in sent if len(text) >= LONGEST_KEPT], "too long to be checked"
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


@pytest.fixture(scope="session", params=["stand-in", "real account"] if REAL else ["stand-in"])
def account(request):
    """Settings and login, without a schema."""
    if request.param == "real account":
        return {name.removeprefix("CONTRACT_"): value for name, value in REAL.items()}
    host, port = request.getfixturevalue("stand_in").removeprefix("http://").split(":")
    return {
        "SNOWFLAKE_ACCOUNT": "local",
        "SNOWFLAKE_USER": "tester",
        "SNOWFLAKE_PASSWORD": "tester",
        "SNOWFLAKE_WAREHOUSE": "WH",
        "SNOWFLAKE_DATABASE": "CONTRACT",
        "SNOWFLAKE_HOST": host,
        "SNOWFLAKE_PORT": port,
        "SNOWFLAKE_PROTOCOL": "http",
    }


@pytest.fixture(scope="session")
def programs(account):
    """The variables with which both programs log in, by key pair, after 00_roles.sql; SNOWFLAKE_ROLE is not here."""
    key = service_key()
    user = f"{account['SNOWFLAKE_DATABASE']}_SERVICE"
    with connection(account | {"SNOWFLAKE_SCHEMA": "PUBLIC"}) as admin:
        run_script(admin, account | {"SNOWFLAKE_SCHEMA": "PUBLIC"}, "00_roles.sql")
        admin.cursor().execute("USE ROLE ACCOUNTADMIN")
        admin.cursor().execute(f"ALTER USER {user} SET RSA_PUBLIC_KEY = '{key.public}'")
    return {
        "SNOWFLAKE_AUTHENTICATION": "key_pair",
        "SNOWFLAKE_USER": user,
        "SNOWFLAKE_PRIVATE_KEY": key.private,
        "SNOWFLAKE_PASSWORD": "",
    }


def about(*roles):
    """Whether a statement of 04_grants.sql is about one of these roles. Few tests need those of people."""
    return lambda text: text.startswith("SET ") or any(f"${role})" in text for role in roles)


SCRIPTS = ("01_create_table.sql", "03_actions.sql", "03_monitoring_views.sql")
TABLES = (
    *("PROCESSING_QUEUE", "PROCESSING_ATTEMPTS", "PROCESSORS", "PROCESSING_HOLDS"),
    *("PROCESSING_ACTIONS", "PROCESSING_ACTION_ENTRIES"),
)


@contextlib.contextmanager
def schema_of(account):
    """A schema with our tables, views and procedures, and the grants of the programs, the viewer and the operator."""
    schema = f"T_{uuid.uuid4().hex[:12].upper()}"
    given = account | {"SNOWFLAKE_SCHEMA": schema}
    with connection(given | {"SNOWFLAKE_SCHEMA": "PUBLIC"}) as admin:
        admin.cursor().execute(f"CREATE SCHEMA {schema}")
        admin.cursor().execute(f"USE SCHEMA {schema}")
        for script in SCRIPTS:
            run_script(admin, given, script)
        run_script(admin, given, "04_grants.sql", about("poller", "processor", "viewer", "operator"))
        yield given, admin
        admin.cursor().execute(f"DROP SCHEMA {schema} CASCADE")


@pytest.fixture(scope="session")
def shared_schema(account, programs):
    """A schema for all tests that change rows only. Making one takes a second, and emptying its tables a tenth."""
    with schema_of(account) as made:
        yield made


@pytest.fixture
def environ(shared_schema):
    """The settings of a schema whose tables are empty. Ids go on from those of the tests before."""
    given, admin = shared_schema
    for table in TABLES:
        admin.cursor().execute(f"DELETE FROM {table}")
    admin.cursor().execute("DELETE FROM SCHEMA_VERSION WHERE version > 1")
    return given


@pytest.fixture
def fresh_schema(account, programs):
    """The same of a schema of its own, for a test that changes more than rows."""
    with schema_of(account) as (given, _):
        yield given


@pytest.fixture(name="connection", scope="session")
def connecting():
    """Opens a session of a test's own."""
    return connection


def connection(environ):
    optional = {
        key: environ[f"SNOWFLAKE_{key.upper()}"]
        for key in ("host", "protocol", "role")
        if f"SNOWFLAKE_{key.upper()}" in environ
    }
    return snowflake.connector.connect(
        account=environ["SNOWFLAKE_ACCOUNT"],
        user=environ["SNOWFLAKE_USER"],
        password=environ["SNOWFLAKE_PASSWORD"],
        warehouse=environ["SNOWFLAKE_WAREHOUSE"],
        database=environ["SNOWFLAKE_DATABASE"],
        schema=environ["SNOWFLAKE_SCHEMA"],
        port=int(environ.get("SNOWFLAKE_PORT", "443")),
        paramstyle="qmark",
        platform_detection_timeout_seconds=0.0,
        **optional,
    )


@pytest.fixture
def sql(environ):
    """Runs one statement of the test's own and returns its rows."""
    with connection(environ) as session:

        def run(text, *values):
            with session.cursor() as cursor:
                cursor.execute(text, values)
                return cursor.fetchall()

        yield run


@pytest.fixture(name="run_script")
def running_scripts(environ):
    """Runs a script of the folder snowflake/."""

    def run(name):
        with connection(environ) as admin:
            run_script(admin, environ, name)

    return run


@pytest.fixture
def warehouses(environ, programs):
    """Makes warehouses, each with a session of its own: as a program logs in, or as a person does."""
    opened = []

    def make(program="processor"):
        role = f"{environ['SNOWFLAKE_DATABASE']}_{program.upper()}"
        proof = programs if program in {"poller", "processor"} else {"SNOWFLAKE_AUTHENTICATION": "password"}
        settings = SnowflakeSettings.from_env(environ | proof | {"SNOWFLAKE_ROLE": role})
        login = credentials.login(settings, environment="contract")
        opened.append(SnowflakeWarehouse(settings, login, query_tag="contract"))
        return opened[-1]

    yield make
    for warehouse in opened:
        warehouse.close()


@pytest.fixture
def poller(environ, warehouses):
    """The queue as the poller uses it."""
    return PollerQueue(warehouses("poller"), queue=SnowflakeSettings.from_env(environ).table, max_retries=3)


@pytest.fixture
def workers(environ, warehouses):
    """Makes the stores of processors, which share one session."""
    table, warehouse = SnowflakeSettings.from_env(environ).table, warehouses()
    return lambda name="dev-1": ProcessorStore(warehouse, queue=table, processor_id=name, max_retries=3)
