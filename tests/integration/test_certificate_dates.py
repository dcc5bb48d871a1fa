"""The boundaries of a certificate's validity, to the second, and what it means when S3 does not answer."""

from __future__ import annotations

import json
import stat
from datetime import UTC, datetime, timedelta

import boto3
import pytest
import trustme
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from moto import mock_aws

from rowqueue.environment import Secret
from rowqueue.errors import CertificateError, CertificateUnreadable
from rowqueue.observability import configure
from rowqueue.processor import certificates
from rowqueue_local.drills.servers import serving

BEGINS, ENDS = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC)
SECOND, DAY = timedelta(seconds=1), timedelta(days=1)


def certificate(name, *, begins=BEGINS, ends=ENDS):
    """A self-signed certificate and its key, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number(), begins, ends)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    pem = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    return pem, key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


CLIENT, KEY = certificate("client")
CA, _ = certificate("ca", begins=BEGINS - 365 * DAY, ends=ENDS + 365 * DAY)
OLD_CA, _ = certificate("old ca", begins=BEGINS - 365 * DAY, ends=ENDS)


def context(now, **objects):
    given = {"client.pem": CLIENT, "client-key.pem": KEY, "ca-cert.pem": CA}
    given |= {name.replace("__", "-").replace("_pem", ".pem"): pem for name, pem in objects.items()}
    return certificates.ssl_context(given, now=now, where="s3://certs/dev/")


@pytest.mark.parametrize("now", [BEGINS, BEGINS + DAY, ENDS])
def test_a_certificate_is_valid_from_its_first_second_to_its_last(now):
    assert context(now)


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (BEGINS - SECOND, "s3://certs/dev/client.pem: CN=client is not valid before 2026-01-01"),
        (ENDS + SECOND, "s3://certs/dev/client.pem: CN=client expired on 2026-07-01"),
    ],
)
def test_a_certificate_is_refused_a_second_before_and_after_its_validity(now, expected):
    with pytest.raises(CertificateError) as caught:
        context(now)
    assert str(caught.value) == expected


def test_each_certificate_of_the_chain_is_checked():
    later, _ = certificate("intermediate", begins=BEGINS + 2 * DAY)
    with pytest.raises(CertificateError, match="CN=intermediate is not valid before 2026-01-03"):
        context(BEGINS + DAY, client_pem=CLIENT + later)


def test_of_several_cas_the_expired_are_left_out_and_one_in_its_last_second_is_not():
    both = OLD_CA + CA
    young, key = certificate("client", ends=ENDS + DAY)
    changes = {"ca__cert_pem": both, "client_pem": young, "client__key_pem": key}
    assert len(context(ENDS, **changes).get_ca_certs()) == 2
    (left,) = context(ENDS + SECOND, **changes).get_ca_certs()
    assert left["subject"] == ((("commonName", "ca"),),)


def test_when_every_ca_has_expired_the_message_names_the_bundle():
    young, key = certificate("client", ends=ENDS + DAY)
    with pytest.raises(CertificateError) as caught:
        context(ENDS + SECOND, ca__cert_pem=OLD_CA, client_pem=young, client__key_pem=key)
    assert str(caught.value) == "s3://certs/dev/ca-cert.pem: CN=old ca expired on 2026-07-01"


@pytest.mark.parametrize(
    ("left", "days", "level"),
    [
        (31 * DAY, 31, "info"),
        (30 * DAY, 30, "info"),
        (30 * DAY - SECOND, 29, "warning"),
        (DAY, 1, "warning"),
        (SECOND, 0, "warning"),
    ],
)
def test_fewer_than_thirty_days_left_are_a_warning(capsys, left, days, level):
    configure("processor")
    context(ENDS - left)
    line = json.loads(capsys.readouterr().out)
    assert (line["CertificateDaysLeft"], line["level"]) == (days, level)
    assert line["certificate"] == "s3://certs/dev/client.pem"


def test_the_days_left_are_those_of_the_certificate_of_the_chain_that_expires_first(capsys):
    configure("processor")
    short, _ = certificate("intermediate", ends=BEGINS + 10 * DAY)
    context(BEGINS, client_pem=CLIENT + short)
    assert json.loads(capsys.readouterr().out)["CertificateDaysLeft"] == 10


def test_a_private_file_is_new_and_only_this_user_can_read_it(tmp_path):
    path = certificates._private_file(tmp_path, "key.pem", b"key")
    assert path.read_bytes() == b"key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        certificates._private_file(tmp_path, "key.pem", b"other")


@pytest.mark.parametrize("passphrase", [None, Secret("canary")], ids=["no passphrase", "a passphrase"])
def test_a_key_of_another_certificate_is_named_with_the_place_it_came_from(passphrase):
    _, other = certificate("other")
    objects = {"client.pem": CLIENT, "client-key.pem": other, "ca-cert.pem": CA}
    with pytest.raises(CertificateError) as caught:
        certificates.ssl_context(objects, now=BEGINS, passphrase=passphrase, where="s3://certs/dev/")
    pair = "s3://certs/dev/client.pem and s3://certs/dev/client-key.pem: expected a certificate and its key"
    assert str(caught.value) == f"{pair}, got: key values mismatch"


def test_load_downloads_and_names_where_the_objects_came_from(monkeypatch):
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        s3 = boto3.client("s3")
        s3.create_bucket(Bucket="certs")
        ca = trustme.CA()
        leaf = ca.issue_cert("client@example.com")
        pems = {
            "client.pem": leaf.cert_chain_pems[0].bytes(),
            "client-key.pem": leaf.private_key_pem.bytes(),
            "ca-cert.pem": ca.cert_pem.bytes(),
        }
        for name, body in pems.items():
            s3.put_object(Bucket="certs", Key=f"dev/{name}", Body=body)
        assert certificates.load("certs", "dev", passphrase=None).get_ca_certs()
        s3.put_object(Bucket="certs", Key="dev/client.pem", Body=b"nothing")
        with pytest.raises(CertificateError, match=r"^s3://certs/dev/client\.pem: expected a PEM certificate"):
            certificates.load("certs", "dev", passphrase=None)
        s3.delete_object(Bucket="certs", Key="dev/client.pem")
        with pytest.raises(CertificateError) as caught:
            certificates.load("certs", "dev", passphrase=None)
        assert type(caught.value) is CertificateError, "S3 has answered"


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (404, "NoSuchKey", "is missing: "),
        (403, "AccessDenied", "is missing, or this task's role may not read it: "),
        (404, "NoSuchBucket", "cannot be read: "),
        (403, "SignatureDoesNotMatch", "cannot be read: "),
    ],
)
def test_a_certificate_that_s3_does_not_have_is_called_missing_with_or_without_list_bucket(
    monkeypatch, status, code, said
):
    async def refuse(_request):
        text = f"<Error><Code>{code}</Code><Message>No</Message></Error>"
        return web.Response(status=status, text=text, content_type="application/xml")

    app = web.Application()
    app.router.add_get("/{path:.*}", refuse)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with serving(app, None) as port:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{port}")
        with pytest.raises(CertificateError) as caught:
            certificates.download("certs", "dev")
    assert type(caught.value) is CertificateError, "S3 has answered"
    assert str(caught.value).startswith(f"s3://certs/dev/client.pem: {said}")


def test_when_s3_does_not_answer_nothing_is_known_about_the_certificate(monkeypatch, unused_tcp_port):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{unused_tcp_port}")
    with pytest.raises(CertificateUnreadable, match=r"^s3://certs/dev/client\.pem: cannot be read"):
        certificates.download("certs", "dev")
