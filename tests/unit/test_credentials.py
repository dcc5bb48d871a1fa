"""Each way to log in gives the driver its arguments. Errors name what is wrong and show no secret."""

from __future__ import annotations

import base64
import json
import threading

import boto3
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from moto import mock_aws

from rowqueue import credentials
from rowqueue.errors import CredentialsError, SettingsError
from rowqueue.settings import SnowflakeSettings

SECRET = "dev-snowflake-credentials"
BY_PASSWORD = "read because SNOWFLAKE_AUTHENTICATION is password, and SNOWFLAKE_USER and SNOWFLAKE_PASSWORD are not set"
WHERE = {
    "SNOWFLAKE_ACCOUNT": "myorg-account",
    "SNOWFLAKE_WAREHOUSE": "WH",
    "SNOWFLAKE_DATABASE": "DB",
    "SNOWFLAKE_SCHEMA": "PUBLIC",
}
PASSPHRASE = "canary-passphrase"


def pem(key, passphrase=None, container=serialization.PrivateFormat.PKCS8):
    protection = serialization.NoEncryption()
    if passphrase:
        protection = serialization.BestAvailableEncryption(passphrase.encode())
    return key.private_bytes(serialization.Encoding.PEM, container, protection).decode()


RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PLAIN, LOCKED = pem(RSA), pem(RSA, PASSPHRASE)


def login(**environ):
    return credentials.login(SnowflakeSettings.from_env(WHERE | environ), environment="dev")


def refusal(**environ):
    with pytest.raises(CredentialsError) as caught:
        login(**environ)
    assert caught.value.__cause__ is None or "secret" in str(caught.value)
    return str(caught.value)


@pytest.fixture
def secrets_manager(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():

        def put(content):
            text = content if isinstance(content, str) else json.dumps(content)
            boto3.client("secretsmanager").create_secret(Name=SECRET, SecretString=text)

        yield put


def opened(der):
    return serialization.load_der_private_key(der, None)


# By password


def by_password(**environ):
    return login(SNOWFLAKE_AUTHENTICATION="password", **environ)


def test_a_user_and_a_password_of_the_environment_need_no_secret():
    assert by_password(SNOWFLAKE_USER="me", SNOWFLAKE_PASSWORD="pw") == {"user": "me", "password": "pw"}


def test_without_them_both_come_from_the_secret(secrets_manager):
    secrets_manager({"username": "service", "password": "pw"})
    assert by_password() == {"user": "service", "password": "pw"}


@pytest.mark.parametrize("seconds_left", [7.9, 0.0, -1.0])
def test_a_tick_without_time_does_not_ask_for_the_secret(secrets_manager, seconds_left):
    secrets_manager({"username": "service", "password": "pw"})
    settings = SnowflakeSettings.from_env(WHERE | {"SNOWFLAKE_AUTHENTICATION": "password"})
    with pytest.raises(CredentialsError, match="cannot be read: no"):
        credentials.login(settings, environment="dev", seconds_left=lambda: seconds_left)


def test_a_secret_that_arrives_too_slowly_is_left_when_the_tick_is_over(secrets_manager):
    secrets_manager({"username": "service", "password": "pw"})
    settings = SnowflakeSettings.from_env(WHERE | {"SNOWFLAKE_AUTHENTICATION": "password"})
    released = threading.Event()
    answers = iter([0.01])

    def seconds_left():
        """Little time for the whole; then, on the thread that asks for the secret, no end before the test has ended."""
        if (seconds := next(answers, None)) is not None:
            return seconds
        released.wait()
        return 50

    with pytest.raises(CredentialsError, match="cannot be read: no answer within 0 s"):
        credentials.login(settings, environment="dev", seconds_left=seconds_left)
    released.set()


def test_in_a_tick_with_time_the_secret_is_read(secrets_manager):
    secrets_manager({"username": "service", "password": "pw"})
    settings = SnowflakeSettings.from_env(WHERE | {"SNOWFLAKE_AUTHENTICATION": "password"})
    login = credentials.login(settings, environment="dev", seconds_left=lambda: 50)
    assert login == {"user": "service", "password": "pw"}


def test_a_user_in_the_environment_overrides_the_one_in_the_secret(secrets_manager):
    secrets_manager({"username": "service", "password": "pw"})
    assert by_password(SNOWFLAKE_USER="me") == {"user": "me", "password": "pw"}


@pytest.mark.parametrize("way", ["password", "key_pair"])
def test_a_missing_secret_is_named(secrets_manager, way):
    assert refusal(SNOWFLAKE_AUTHENTICATION=way).startswith(f"secret {SECRET}: cannot be read: ")


@pytest.mark.parametrize("content", ["canary", "[]", '"canary"', ""])
def test_a_secret_that_is_no_json_object_is_refused_and_not_shown(secrets_manager, content):
    secrets_manager(content or " ")
    assert (
        refusal(SNOWFLAKE_AUTHENTICATION="password")
        == f"secret {SECRET}: expected a JSON object with username and password ({BY_PASSWORD})"
    )


@pytest.mark.parametrize(
    ("content", "missing"),
    [
        ({}, ["username", "password"]),
        ({"username": "u"}, ["password"]),
        ({"username": "u", "password": ""}, ["password"]),
        ({"username": "u", "password": 7}, ["password"]),
        ({"user": "u", "password": "canary"}, ["username"]),
    ],
)
def test_a_key_that_the_secret_lacks_is_named(secrets_manager, content, missing):
    secrets_manager(content)
    expected = f"secret {SECRET}: expected a JSON object with username and password, {missing} missing"
    assert refusal(SNOWFLAKE_AUTHENTICATION="password") == f"{expected} ({BY_PASSWORD})"


@pytest.mark.parametrize(
    ("given", "unset"),
    [
        ({"SNOWFLAKE_USER": "me"}, "SNOWFLAKE_PRIVATE_KEY is"),
        ({"SNOWFLAKE_PRIVATE_KEY": "key"}, "SNOWFLAKE_USER is"),
        ({"SNOWFLAKE_PASSWORD": "pw"}, "SNOWFLAKE_USER and SNOWFLAKE_PRIVATE_KEY are"),
    ],
)
def test_the_error_about_an_unreadable_secret_names_the_variables_that_are_not_set(secrets_manager, given, unset):
    why = f"(read because SNOWFLAKE_AUTHENTICATION is key_pair, and {unset} not set)"
    assert refusal(SNOWFLAKE_AUTHENTICATION="key_pair", **given).endswith(why)


# By key pair


@pytest.mark.parametrize(
    "key",
    [
        RSA,
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP384R1()),
        ec.generate_private_key(ec.SECP521R1()),
    ],
    ids=["RSA", "P-256", "P-384", "P-521"],
)
def test_a_private_key_in_the_environment_is_given_to_the_driver_as_der(key):
    given = login(SNOWFLAKE_AUTHENTICATION="key_pair", SNOWFLAKE_USER="me", SNOWFLAKE_PRIVATE_KEY=pem(key))
    assert opened(given.pop("private_key")).public_key() == key.public_key()
    assert given == {"user": "me", "authenticator": "SNOWFLAKE_JWT"}


def test_a_passphrase_opens_the_key():
    given = login(
        SNOWFLAKE_AUTHENTICATION="key_pair",
        SNOWFLAKE_USER="me",
        SNOWFLAKE_PRIVATE_KEY=LOCKED,
        SNOWFLAKE_PRIVATE_KEY_PASSPHRASE=PASSPHRASE,
    )
    assert opened(given["private_key"]).public_key() == RSA.public_key()


@pytest.mark.parametrize(
    "content", [{"private_key": PLAIN}, {"private_key": LOCKED, "private_key_passphrase": PASSPHRASE}]
)
def test_the_key_may_come_from_the_secret(secrets_manager, content):
    secrets_manager({"username": "service"} | content)
    given = login(SNOWFLAKE_AUTHENTICATION="key_pair")
    assert opened(given["private_key"]).public_key() == RSA.public_key()
    assert given["user"] == "service"


def test_a_password_beside_the_key_is_not_sent():
    given = login(
        SNOWFLAKE_AUTHENTICATION="key_pair",
        SNOWFLAKE_USER="me",
        SNOWFLAKE_PASSWORD="pw",
        SNOWFLAKE_PRIVATE_KEY=PLAIN,
    )
    assert "password" not in given


def test_a_secret_without_a_private_key_says_so(secrets_manager):
    secrets_manager({"username": "service", "password": "canary"})
    expected = f"secret {SECRET}: expected a JSON object with username and private_key, ['private_key'] missing"
    assert refusal(SNOWFLAKE_AUTHENTICATION="key_pair").startswith(expected)


def on_an_unknown_curve():
    """A key in PEM whose curve the library does not know: the last byte of P-256's identifier is another."""
    key = ec.generate_private_key(ec.SECP256R1())
    der = key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    p_256, unknown = bytes.fromhex("06082a8648ce3d030107"), bytes.fromhex("06082a8648ce3d030106")
    body = base64.encodebytes(der.replace(p_256, unknown)).decode()
    return f"-----BEGIN PRIVATE KEY-----\n{body}-----END PRIVATE KEY-----\n"


BODY = "".join(PLAIN.splitlines()[1:-1])
UNFIT = {
    "no PEM at all": (BODY, None, "SNOWFLAKE_PRIVATE_KEY: expected a PKCS#8 private key in PEM"),
    "cut off": (PLAIN[:-400], None, "SNOWFLAKE_PRIVATE_KEY: expected a PKCS#8 private key in PEM"),
    "a public key": (
        RSA.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode(),
        None,
        "SNOWFLAKE_PRIVATE_KEY: expected a PKCS#8 private key in PEM",
    ),
    "an unknown curve": (
        on_an_unknown_curve(),
        None,
        "SNOWFLAKE_PRIVATE_KEY: expected a PKCS#8 private key in PEM",
    ),
    "the wrong passphrase": (LOCKED, "wrong-canary", "which SNOWFLAKE_PRIVATE_KEY_PASSPHRASE decrypts"),
    "no passphrase": (
        LOCKED,
        None,
        "SNOWFLAKE_PRIVATE_KEY_PASSPHRASE: expected the passphrase of SNOWFLAKE_PRIVATE_KEY",
    ),
    "a passphrase too many": (
        PLAIN,
        PASSPHRASE,
        "SNOWFLAKE_PRIVATE_KEY_PASSPHRASE: expected no value, because SNOWFLAKE_PRIVATE_KEY is not encrypted",
    ),
    "RSA, too short": (
        pem(rsa.generate_private_key(public_exponent=65537, key_size=1024)),
        None,
        "SNOWFLAKE_PRIVATE_KEY: expected an RSA key of at least 2048 bits, or one on P-256, P-384 or P-521",
    ),
    "another curve": (
        pem(ec.generate_private_key(ec.SECP256K1())),
        None,
        "SNOWFLAKE_PRIVATE_KEY: expected an RSA key of at least 2048 bits",
    ),
    "DSA": (pem(dsa.generate_private_key(key_size=2048)), None, "SNOWFLAKE_PRIVATE_KEY: expected an RSA key"),
}


@pytest.mark.parametrize(("key", "passphrase", "expected"), UNFIT.values(), ids=UNFIT)
def test_a_key_that_is_not_usable_is_named_and_never_shown(key, passphrase, expected):
    environ = {"SNOWFLAKE_PRIVATE_KEY": key} | ({"SNOWFLAKE_PRIVATE_KEY_PASSPHRASE": passphrase} if passphrase else {})
    message = refusal(SNOWFLAKE_AUTHENTICATION="key_pair", SNOWFLAKE_USER="me", **environ)
    assert expected in message
    assert "canary" not in message
    assert not [line for line in key.splitlines() if line in message]


def test_an_unusable_key_in_the_secret_is_named_with_the_secret(secrets_manager):
    secrets_manager({"username": "service", "private_key": "canary"})
    message = refusal(SNOWFLAKE_AUTHENTICATION="key_pair")
    assert message.startswith(f"secret {SECRET}: private_key: expected a PKCS#8 private key in PEM")
    assert "canary" not in message


def test_no_formatting_of_the_settings_shows_the_key_or_its_passphrase():
    settings = SnowflakeSettings.from_env(
        WHERE | {"SNOWFLAKE_PRIVATE_KEY": LOCKED, "SNOWFLAKE_PRIVATE_KEY_PASSPHRASE": PASSPHRASE}
    )
    shown = f"{settings} {settings!r}"
    assert PASSPHRASE not in shown
    assert "BEGIN" not in shown


# By workload identity, and by an unknown way


def test_a_workload_identity_reads_no_secret_and_names_no_user():
    given = login(SNOWFLAKE_AUTHENTICATION="workload_identity", SNOWFLAKE_USER="me", SNOWFLAKE_PASSWORD="pw")
    assert given == {"authenticator": "WORKLOAD_IDENTITY", "workload_identity_provider": "AWS"}


def test_another_way_to_log_in_is_refused_by_name():
    with pytest.raises(SettingsError) as caught:
        login(SNOWFLAKE_AUTHENTICATION="oauth")
    assert caught.value.problems == [
        "SNOWFLAKE_AUTHENTICATION: expected password, key_pair or workload_identity, got 'oauth'"
    ]


# A person, who sets up, migrates and looks

PERSON = {"SNOWFLAKE_ACCOUNT": "local", "SNOWFLAKE_USER": "me"}


def login_of_a_person(**environ):
    environ = PERSON | environ
    return credentials.login_of_a_person(credentials.settings_of_a_person(environ), environ)


def test_a_person_with_a_password_logs_in_with_it_and_with_a_second_factor_if_asked():
    assert login_of_a_person(SNOWFLAKE_PASSWORD="canary") == {"user": "me", "password": "canary"}
    assert login_of_a_person(
        SNOWFLAKE_PASSWORD="canary", SNOWFLAKE_AUTHENTICATOR="username_password_mfa", SNOWFLAKE_PASSCODE="123456"
    ) == {"user": "me", "password": "canary", "authenticator": "username_password_mfa", "passcode": "123456"}


def test_a_person_with_a_browser_needs_no_password():
    assert login_of_a_person(SNOWFLAKE_AUTHENTICATOR="externalbrowser") == {
        "user": "me",
        "authenticator": "externalbrowser",
    }


@pytest.mark.parametrize("environ", [{}, {"SNOWFLAKE_AUTHENTICATION": "password"}, {"SNOWFLAKE_PASSWORD": ""}])
def test_a_person_without_a_proof_is_not_looked_up_in_aws(environ):
    with pytest.raises(CredentialsError, match="expected SNOWFLAKE_USER with SNOWFLAKE_PASSWORD"):
        login_of_a_person(**environ)


def test_the_place_of_the_queue_has_defaults_for_a_person():
    settings = credentials.settings_of_a_person(PERSON | {"SNOWFLAKE_SCHEMA": "work", "SNOWFLAKE_DATABASE": ""})
    assert (settings.warehouse, settings.database, settings.schema) == ("QUEUE_WH", "QUEUE_DB", "work")
