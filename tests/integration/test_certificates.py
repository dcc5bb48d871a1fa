"""The client certificate, from bytes to a context, and the errors about an unfit one."""

from __future__ import annotations

import json
import ssl
import tempfile
from datetime import UTC, datetime, timedelta

import boto3
import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from moto import mock_aws

from rowqueue.environment import Secret
from rowqueue.errors import CertificateError
from rowqueue.observability import configure
from rowqueue.processor import certificates
from rowqueue_local import authority

NOW = datetime.now(UTC)


@pytest.fixture
def objects(tmp_path):
    files = authority.issue(tmp_path)
    return {path.name: path.read_bytes() for path in (files.client, files.client_key, files.ca)}


def message(objects, *, now=NOW):
    with pytest.raises(CertificateError) as caught:
        certificates.ssl_context(objects, now=now)
    return str(caught.value)


def test_the_context_checks_the_host_demands_a_chain_and_speaks_tls_1_2_at_least(objects):
    context = certificates.ssl_context(objects, now=NOW)
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert len(context.get_ca_certs()) == 1, "only the partner's CA is trusted"


def test_no_file_is_left_on_the_disk(objects, tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    certificates.ssl_context(objects, now=NOW)
    assert list(scratch.iterdir()) == []


def test_an_expired_certificate_is_refused_with_its_date(tmp_path):
    yesterday = NOW - timedelta(days=1)
    files = authority.issue(tmp_path, client_expires=yesterday)
    shown = message({path.name: path.read_bytes() for path in (files.client, files.client_key, files.ca)})
    assert shown.startswith("client.pem: ")
    assert shown.endswith(f"expired on {yesterday:%Y-%m-%d}")


def test_a_certificate_that_is_not_yet_valid_is_refused(objects):
    assert "client.pem" in message(objects, now=NOW - timedelta(days=40_000))


def test_a_key_of_another_certificate_is_refused(objects, tmp_path):
    other = authority.issue(tmp_path / "other")
    shown = message(objects | {"client-key.pem": other.client_key.read_bytes()})
    assert shown == "client.pem and client-key.pem: expected a certificate and its key, got: key values mismatch"


@pytest.mark.parametrize("name", ["client.pem", "ca-cert.pem"])
def test_an_object_that_is_no_certificate_is_named(objects, name):
    assert message(objects | {name: b"-----BEGIN NOTHING-----"}).startswith(f"{name}: expected a PEM certificate")


def locked(objects, passphrase):
    key = serialization.load_pem_private_key(objects["client-key.pem"], None)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(passphrase),
    )
    return objects | {"client-key.pem": pem}


def test_an_encrypted_key_without_a_passphrase_names_the_setting_and_never_asks_a_terminal(objects):
    shown = message(locked(objects, b"sesame"))
    assert shown == "client-key.pem: has a passphrase, so CLIENT_KEY_PASSPHRASE is needed"


def test_an_encrypted_key_is_loaded_with_its_passphrase(objects):
    assert certificates.ssl_context(locked(objects, b"sesame"), now=NOW, passphrase=Secret("sesame"))


def test_a_wrong_passphrase_is_refused_and_not_shown(objects):
    with pytest.raises(CertificateError) as caught:
        certificates.ssl_context(locked(objects, b"sesame"), now=NOW, passphrase=Secret("canary-41"))
    assert str(caught.value).endswith(", got: a key that the passphrase does not decrypt")
    assert "canary-41" not in str(caught.value)


def test_every_ca_of_a_bundle_is_trusted(objects):
    old = trustme.CA()
    subject = x509.load_pem_x509_certificate(old.cert_pem.bytes())
    assert subject.not_valid_after_utc > NOW
    both = objects | {"ca-cert.pem": old.cert_pem.bytes() + objects["ca-cert.pem"]}
    assert len(certificates.ssl_context(both, now=NOW).get_ca_certs()) == 2


def test_the_days_left_are_a_metric_and_a_warning_when_they_are_few(tmp_path, capsys):
    configure("processor")
    for name, days in (("long", 400), ("short", 12)):
        files = authority.issue(tmp_path / name, client_expires=NOW + timedelta(days=days, hours=1))
        certificates.ssl_context(
            {path.name: path.read_bytes() for path in (files.client, files.client_key, files.ca)}, now=NOW
        )
    long, short = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (long["CertificateDaysLeft"], long["level"]) == (400, "info")
    assert (short["CertificateDaysLeft"], short["level"]) == (12, "warning")
    assert short["_aws"]["CloudWatchMetrics"][0]["Metrics"] == [{"Name": "CertificateDaysLeft", "Unit": "Count"}]


def test_a_certificate_may_have_its_intermediate_in_the_same_file(objects, tmp_path):
    root = trustme.CA()
    intermediate = root.create_child_ca()
    leaf = intermediate.issue_cert("dev-processor@example.com")
    chain = b"".join(pem.bytes() for pem in leaf.cert_chain_pems)
    assert chain.count(b"BEGIN CERTIFICATE") == 2
    bundle = {"client.pem": chain, "client-key.pem": leaf.private_key_pem.bytes(), "ca-cert.pem": root.cert_pem.bytes()}
    assert certificates.ssl_context(bundle, now=NOW)


@mock_aws
def test_an_object_that_is_missing_or_empty_is_named(monkeypatch, objects):
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket="certs")
    s3.put_object(Bucket="certs", Key="dev/client.pem", Body=objects["client.pem"])
    s3.put_object(Bucket="certs", Key="dev/ca-cert.pem", Body=b"")
    with pytest.raises(CertificateError, match=r"s3://certs/dev/client-key\.pem: is missing: "):
        certificates.download("certs", "dev")
    s3.put_object(Bucket="certs", Key="dev/client-key.pem", Body=objects["client-key.pem"])
    with pytest.raises(
        CertificateError, match=r"s3://certs/dev/ca-cert\.pem: expected a PEM file, got an empty object"
    ):
        certificates.download("certs", "dev")
    s3.put_object(Bucket="certs", Key="dev/ca-cert.pem", Body=objects["ca-cert.pem"])
    assert certificates.download("certs", "dev") == objects
