"""The client certificate: downloaded from S3, checked, and loaded into an SSLContext."""

from __future__ import annotations

import os
import ssl
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from rowqueue import aws
from rowqueue.errors import CertificateError, CertificateUnreadable
from rowqueue.observability import Event, Metric, embedded, log, log_problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rowqueue.environment import Secret

CLIENT, KEY, CA = "client.pem", "client-key.pem", "ca-cert.pem"
# Without s3:ListBucket, S3 answers AccessDenied also for an object that does not exist (Amazon S3, GetObject).
_WHY_UNREADABLE = {
    "NoSuchKey": "is missing",
    "AccessDenied": "is missing, or this task's role may not read it",
}
WARN_DAYS = 30
"""A certificate that expires sooner is logged as a problem."""


def download(bucket: str, environment: str) -> dict[str, bytes]:
    """The three objects ``<environment>/client.pem``, ``client-key.pem`` and ``ca-cert.pem``, by their file names.

    Raises:
        CertificateError: an object is missing, not granted or empty; the message names it.
        CertificateUnreadable: S3 failed or did not answer.
    """
    client = aws.client("s3")
    objects = {}
    for name in (CLIENT, KEY, CA):
        where = f"s3://{bucket}/{environment}/{name}"
        try:
            objects[name] = client.get_object(Bucket=bucket, Key=f"{environment}/{name}")["Body"].read()
        except aws.ERRORS as error:
            kind = CertificateError if aws.has_answered(error) else CertificateUnreadable
            why = _WHY_UNREADABLE.get(aws.code_of(error), "cannot be read")
            raise kind(f"{where}: {why}: {error}") from error
        if not objects[name].strip():
            raise CertificateError(f"{where}: expected a PEM file, got an empty object")
    return objects


def ssl_context(
    objects: Mapping[str, bytes], *, now: datetime, passphrase: Secret | None = None, where: str = ""
) -> ssl.SSLContext:
    """A context that presents the client certificate and trusts only the CA.

    ``SSLContext`` loads a key only from a file. So certificate and key are on disk while they are loaded, readable by
    this user alone.

    Args:
        objects: as from :func:`download`; ``client.pem`` may contain intermediates after the certificate,
            ``ca-cert.pem`` several CAs.
        now: UTC, aware.
        passphrase: of the key, if it is encrypted.
        where: prefix of object names in messages; ends with a slash.

    Raises:
        CertificateError: expired, not yet valid, not PEM, or certificate and key are not a pair.
    """
    client, authorities = (_parsed(objects[name], where + name) for name in (CLIENT, CA))
    _check_dates(client, where + CLIENT, now)
    valid = [certificate for certificate in authorities if certificate.not_valid_after_utc >= now]
    if not valid:
        _check_dates(authorities, where + CA, now)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cadata="".join(c.public_bytes(Encoding.PEM).decode() for c in valid))
    with tempfile.TemporaryDirectory(prefix="certificates-") as folder:  # mode 0700
        certificate, key = (_private_file(Path(folder), name, objects[name]) for name in (CLIENT, KEY))
        try:
            context.load_cert_chain(certificate, key, password=lambda: _revealed(passphrase, where))
        except ssl.SSLError as error:
            expected = f"{where}{CLIENT} and {where}{KEY}: expected a certificate and its key"
            raise CertificateError(f"{expected}, got: {_reason(error, passphrase)}") from error
    _log_days_left(client, where + CLIENT, now)
    return context


def _parsed(pem: bytes, name: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise CertificateError(f"{name}: expected a PEM certificate: {error}") from error


def _check_dates(certificates: list[x509.Certificate], name: str, now: datetime) -> None:
    for certificate in certificates:
        subject = certificate.subject.rfc4514_string()
        if certificate.not_valid_after_utc < now:
            raise CertificateError(f"{name}: {subject} expired on {certificate.not_valid_after_utc:%Y-%m-%d}")
        if certificate.not_valid_before_utc > now:
            raise CertificateError(f"{name}: {subject} is not valid before {certificate.not_valid_before_utc:%Y-%m-%d}")


def _log_days_left(certificates: list[x509.Certificate], name: str, now: datetime) -> None:
    days = min((certificate.not_valid_after_utc - now).days for certificate in certificates)
    write = log_problem if days < WARN_DAYS else log
    write(Event.CERTIFICATE_CHECKED, certificate=name, **embedded({Metric.CERTIFICATE_DAYS_LEFT: days}))


def _private_file(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    with open(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:  # noqa: PTH123 -- a mode from the start
        file.write(content)
    return path


def _revealed(passphrase: Secret | None, where: str) -> str:
    """OpenSSL calls this only for an encrypted key. Without the callback it would ask a terminal."""
    if passphrase is None:
        raise CertificateError(f"{where}{KEY}: has a passphrase, so CLIENT_KEY_PASSPHRASE is needed")
    return passphrase.reveal()


def _reason(error: ssl.SSLError, passphrase: Secret | None) -> str:
    if error.reason is None and passphrase is not None:
        return "a key that the passphrase does not decrypt"
    return (error.reason or str(error)).replace("_", " ").lower()


def load(bucket: str, environment: str, *, passphrase: Secret | None) -> ssl.SSLContext:
    """Download the objects and load them.

    Raises:
        CertificateError: see :func:`download` and :func:`ssl_context`.
    """
    objects = download(bucket, environment)
    where = f"s3://{bucket}/{environment}/"
    return ssl_context(objects, now=datetime.now(UTC), passphrase=passphrase, where=where)
