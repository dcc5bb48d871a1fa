"""What the real driver sends when it logs in with our arguments. The server here refuses every login."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from rowqueue import credentials
from rowqueue.errors import LoginRefused, WarehouseUnavailable
from rowqueue.settings import SnowflakeSettings
from rowqueue.warehouse import LOGIN_TIMEOUT_S, SnowflakeWarehouse

JWT_INVALID = 390144


class Doorkeeper(BaseHTTPRequestHandler):
    """Records what a login sends and refuses it."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            raw = gzip.decompress(raw)
        self.server.logins.append(json.loads(raw)["data"])
        body = {"data": None, "code": str(JWT_INVALID), "message": "JWT token is invalid.", "success": False}
        answer = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args):
        pass


@pytest.fixture
def door():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Doorkeeper)
    server.logins = []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@contextmanager
def warehouse(port, *, login_timeout_s=LOGIN_TIMEOUT_S, **environ):
    settings = SnowflakeSettings.from_env(
        {
            "SNOWFLAKE_ACCOUNT": "myorg-account",
            "SNOWFLAKE_WAREHOUSE": "WH",
            "SNOWFLAKE_DATABASE": "DB",
            "SNOWFLAKE_SCHEMA": "PUBLIC",
            "SNOWFLAKE_HOST": "127.0.0.1",
            "SNOWFLAKE_PORT": str(port),
            "SNOWFLAKE_PROTOCOL": "http",
        }
        | environ
    )
    login = credentials.login(settings, environment="dev")
    session = SnowflakeWarehouse(
        settings, login, query_tag="test", network_patience_s=5, login_timeout_s=login_timeout_s
    )
    yield session
    session.close()


def key_pair(key):
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    return {"SNOWFLAKE_AUTHENTICATION": "key_pair", "SNOWFLAKE_USER": "queue_service", "SNOWFLAKE_PRIVATE_KEY": pem}


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (rsa.generate_private_key(public_exponent=65537, key_size=2048), "RS256"),
        (ec.generate_private_key(ec.SECP256R1()), "ES256"),
    ],
    ids=["RSA", "P-256"],
)
def test_a_key_pair_login_carries_a_token_that_the_public_key_verifies(door, key, algorithm):
    with warehouse(door.server_port, **key_pair(key)) as session, pytest.raises(LoginRefused, match="JWT token"):
        session.connect()
    sent = door.logins[0]
    assert (sent["AUTHENTICATOR"], sent["LOGIN_NAME"]) == ("SNOWFLAKE_JWT", "queue_service")
    claims = jwt.decode(sent["TOKEN"], key.public_key(), algorithms=[algorithm])
    public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    fingerprint = base64.b64encode(hashlib.sha256(public).digest()).decode()
    assert claims["sub"] == "MYORG-ACCOUNT.QUEUE_SERVICE"
    assert claims["iss"] == f"{claims['sub']}.SHA256:{fingerprint}"
    assert abs(claims["iat"] - time.time()) < 60
    assert 0 < claims["exp"] - claims["iat"] <= 60
    assert "PASSWORD" not in sent


def test_a_key_pair_login_without_a_server_ends_within_its_limits(unused_tcp_port):
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    began = time.monotonic()
    with warehouse(unused_tcp_port, login_timeout_s=2, **key_pair(key)) as session, pytest.raises(WarehouseUnavailable):
        session.connect()
    assert time.monotonic() - began < 40, "the driver alone would repeat it ten times"


@pytest.fixture
def role(monkeypatch):
    """Credentials as ECS and Lambda give them to the SDK."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-secret-key")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "session-token")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")


def test_a_workload_identity_login_carries_a_signed_request_for_our_identity_and_no_secret(door, role, monkeypatch):
    # The driver sends the proof of identity only to hosts of Snowflake, unless this variable names others.
    monkeypatch.setenv("SNOWFLAKE_WIF_ALLOWED_HOST_SUFFIXES", "localhost")
    identity = {"SNOWFLAKE_AUTHENTICATION": "workload_identity", "SNOWFLAKE_HOST": "localhost"}
    with warehouse(door.server_port, **identity) as session, pytest.raises(LoginRefused):
        session.connect()
    sent = door.logins[0]
    assert (sent["AUTHENTICATOR"], sent["PROVIDER"]) == ("WORKLOAD_IDENTITY", "AWS")
    question = json.loads(base64.b64decode(sent["TOKEN"]))
    headers = {name.lower(): value for name, value in question["headers"].items()}
    assert question["method"] == "POST"
    assert question["url"] == "https://sts.eu-central-1.amazonaws.com/?Action=GetCallerIdentity&Version=2011-06-15"
    assert headers["x-snowflake-audience"] == "snowflakecomputing.com"
    assert "Credential=AKIDEXAMPLE/" in headers["authorization"]
    assert headers["x-amz-security-token"] == "session-token"
    assert "canary-secret-key" not in json.dumps(sent)
    assert "PASSWORD" not in sent


def test_a_host_that_is_not_snowflakes_gets_no_proof_of_identity(door, role):
    identity = {"SNOWFLAKE_AUTHENTICATION": "workload_identity"}
    with warehouse(door.server_port, **identity) as session, pytest.raises(LoginRefused, match="recognized Snowflake"):
        session.connect()
    assert door.logins == []


def test_a_workload_identity_without_aws_credentials_is_refused_with_the_reason(door, monkeypatch, tmp_path):
    monkeypatch.setenv("SNOWFLAKE_WIF_ALLOWED_HOST_SUFFIXES", "localhost")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    identity = {"SNOWFLAKE_AUTHENTICATION": "workload_identity", "SNOWFLAKE_HOST": "localhost"}
    with warehouse(door.server_port, **identity) as session, pytest.raises(LoginRefused, match="AWS credentials"):
        session.connect()
    assert door.logins == []
