"""The client certificate: from S3 through a private folder into an SSLContext, and off the disk again."""

from __future__ import annotations

import os
import ssl
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.exceptions import BotoCoreError, ClientError
from cryptography import x509

from rowqueue.errors import CertificateError

if TYPE_CHECKING:
    from collections.abc import Mapping

CLIENT, KEY, CA = "client.pem", "client-key.pem", "ca-cert.pem"


def download(bucket: str, environment: str) -> dict[str, bytes]:
    """The three objects ``<environment>/client.pem``, ``client-key.pem`` and ``ca-cert.pem``, by their file names.

    Raises:
        CertificateError: one can not be read; the message names it.
    """
    client = boto3.client("s3")
    objects = {}
    for name in (CLIENT, KEY, CA):
        where = f"s3://{bucket}/{environment}/{name}"
        try:
            objects[name] = client.get_object(Bucket=bucket, Key=f"{environment}/{name}")["Body"].read()
        except (BotoCoreError, ClientError) as error:
            raise CertificateError(f"{where}: can not be read: {error}") from error
        if not objects[name].strip():
            raise CertificateError(f"{where}: expected a PEM file, got an empty object")
    return objects


def ssl_context(objects: Mapping[str, bytes], *, now: datetime) -> ssl.SSLContext:
    """A context that presents the client certificate and trusts nothing but the CA.

    ``SSLContext`` loads a key only from a file, so the objects stand on disk, readable by this user alone, for as long
    as that takes.

    Args:
        objects: as from :func:`download`.
        now: UTC, aware.

    Raises:
        CertificateError: expired, not yet valid, not PEM, or certificate and key are not a pair.
    """
    _check_dates(objects[CLIENT], CLIENT, now)
    _check_dates(objects[CA], CA, now)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cadata=objects[CA].decode("ascii"))
    with tempfile.TemporaryDirectory(prefix="certificates-") as folder:  # mode 0700
        certificate, key = (_private_file(Path(folder), name, objects[name]) for name in (CLIENT, KEY))
        try:
            context.load_cert_chain(certificate, key, password=_no_passphrase)
        except ssl.SSLError as error:
            expected = f"{CLIENT} and {KEY}: expected a certificate and its key"
            raise CertificateError(f"{expected}, got: {_reason(error)}") from error
    return context


def _check_dates(pem: bytes, name: str, now: datetime) -> None:
    try:
        certificates = x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise CertificateError(f"{name}: expected a PEM certificate: {error}") from error
    for certificate in certificates:
        subject = certificate.subject.rfc4514_string()
        if certificate.not_valid_after_utc < now:
            raise CertificateError(f"{name}: {subject} expired on {certificate.not_valid_after_utc:%Y-%m-%d}")
        if certificate.not_valid_before_utc > now:
            raise CertificateError(f"{name}: {subject} is not valid before {certificate.not_valid_before_utc:%Y-%m-%d}")


def _private_file(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    with open(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:  # noqa: PTH123 -- a mode from the start
        file.write(content)
    return path


def _no_passphrase() -> str:
    """Without this, OpenSSL would ask a terminal that is not there."""
    raise CertificateError(f"{KEY}: expected a key without a passphrase")


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).replace("_", " ").lower()


def load(bucket: str, environment: str) -> ssl.SSLContext:
    """Download and load, as of now.

    Raises:
        CertificateError: see :func:`download` and :func:`ssl_context`.
    """
    return ssl_context(download(bucket, environment), now=datetime.now(UTC))
