"""The embedded stack's own certificate authority, and the key pair with which its programs log in to Snowflake."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trustme
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificates:
    """Paths of the PEM files.

    Attributes:
        ca: the CA that both sides trust.
        ca_key: its key, to issue more.
        client: the processors' certificate.
        client_key: its key.
        server: the partner's certificate and key in one file.
    """

    ca: Path
    ca_key: Path
    client: Path
    client_key: Path
    server: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceKey:
    """A key pair for Snowflake.

    Attributes:
        private: PEM, not encrypted.
        public: for RSA_PUBLIC_KEY: base64 in one line.
    """

    private: str = field(repr=False)
    public: str


def service_key() -> ServiceKey:
    """Make a key pair."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return ServiceKey(private=private.decode(), public=base64.b64encode(public).decode())


def located(folder: Path) -> Certificates:
    """The paths in a folder. The names are those that the certificate bucket expects."""
    return Certificates(
        ca=folder / "ca-cert.pem",
        ca_key=folder / "ca-key.pem",
        client=folder / "client.pem",
        client_key=folder / "client-key.pem",
        server=folder / "server.pem",
    )


def issue(folder: Path, *, host: str = "127.0.0.1", client_expires: datetime | None = None) -> Certificates:
    """Make a CA, a client certificate and a server certificate.

    Args:
        folder: where the files go; it is created.
        host: the partner's address, in its certificate.
        client_expires: when the client certificate expires; far in the future by default.
    """
    folder.mkdir(parents=True, exist_ok=True)
    authority = trustme.CA(organization_name="embedded stack")
    client = authority.issue_cert("dev-processor@example.com", common_name="dev-processor", not_after=client_expires)
    server = authority.issue_cert(host, "localhost", common_name="partner")
    files = located(folder)
    authority.cert_pem.write_to_path(str(files.ca))
    client.cert_chain_pems[0].write_to_path(str(files.client))
    for key in (files.ca_key, files.client_key, files.server):
        key.touch(mode=0o600)
    authority.private_key_pem.write_to_path(str(files.ca_key))
    client.private_key_pem.write_to_path(str(files.client_key))
    server.private_key_and_cert_chain_pem.write_to_path(str(files.server))
    return files


def issue_server(files: Certificates, path: Path, *, host: str, expires: datetime | None = None) -> Path:
    """Issue another server certificate by the CA of ``files``.

    Args:
        files: the CA's.
        path: the file for the certificate and its key.
        host: the address in the certificate.
        expires: when it expires; far in the future by default.
    """
    authority = trustme.CA.from_pem(files.ca.read_bytes(), files.ca_key.read_bytes())
    server = authority.issue_cert(host, common_name="partner", not_after=expires)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    server.private_key_and_cert_chain_pem.write_to_path(str(path))
    return path
