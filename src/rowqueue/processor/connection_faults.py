"""What an exception of aiohttp or TLS means for the delivery that it ended, where there is no answer."""

from __future__ import annotations

import ssl
from enum import StrEnum
from typing import TYPE_CHECKING

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Iterator


class ConnectionFault(StrEnum):
    """What an exception says about the delivery."""

    CERTIFICATE = "certificate"
    """A certificate, ours or theirs. No entry can cause it."""
    DOUBTFUL = "doubtful"
    """Closed without an answer, or TLS failed in another way: the server refuses our certificate, or it restarts, or
    something on the way is broken."""
    TRANSIENT = "transient"
    PERMANENT = "permanent"


FAULTS: tuple[tuple[type[BaseException], ConnectionFault, str], ...] = (
    (aiohttp.ClientConnectorCertificateError, ConnectionFault.CERTIFICATE, "the service's certificate is not trusted"),
    (
        aiohttp.ServerFingerprintMismatch,
        ConnectionFault.CERTIFICATE,
        "the service's certificate is not the expected one",
    ),
    (ssl.SSLCertVerificationError, ConnectionFault.CERTIFICATE, "the service's certificate is not trusted"),
    (ssl.SSLEOFError, ConnectionFault.DOUBTFUL, "the service closed the connection"),
    (ssl.SSLZeroReturnError, ConnectionFault.DOUBTFUL, "the service closed the connection"),
    (ssl.SSLSyscallError, ConnectionFault.DOUBTFUL, "the service closed the connection"),
    (ssl.SSLError, ConnectionFault.DOUBTFUL, "TLS failed"),
    (aiohttp.ClientSSLError, ConnectionFault.DOUBTFUL, "TLS failed"),
    (TimeoutError, ConnectionFault.TRANSIENT, "no answer in time"),
    (aiohttp.InvalidURL, ConnectionFault.PERMANENT, "the service's URL is not usable"),
    (aiohttp.NonHttpUrlClientError, ConnectionFault.PERMANENT, "the service's URL is not usable"),
    (aiohttp.RedirectClientError, ConnectionFault.PERMANENT, "the service redirects to no usable URL"),
    (aiohttp.TooManyRedirects, ConnectionFault.PERMANENT, "the service redirects"),
    (aiohttp.ClientProxyConnectionError, ConnectionFault.TRANSIENT, "no connection to the proxy"),
    (aiohttp.ClientConnectorError, ConnectionFault.TRANSIENT, "no connection"),
    (aiohttp.ServerDisconnectedError, ConnectionFault.DOUBTFUL, "the service closed the connection"),
    (ConnectionError, ConnectionFault.DOUBTFUL, "the service closed the connection"),
    (aiohttp.ServerConnectionError, ConnectionFault.TRANSIENT, "the connection failed"),
    (aiohttp.ClientOSError, ConnectionFault.DOUBTFUL, "the connection failed"),
    (aiohttp.ClientConnectionError, ConnectionFault.TRANSIENT, "the connection failed"),
    (aiohttp.ClientPayloadError, ConnectionFault.TRANSIENT, "the answer was cut off"),
    (aiohttp.UploadAbortedError, ConnectionFault.TRANSIENT, "the request was cut off"),
    (aiohttp.ClientResponseError, ConnectionFault.TRANSIENT, "the answer is not HTTP"),
    (aiohttp.ClientError, ConnectionFault.TRANSIENT, "the request failed"),
    (OSError, ConnectionFault.TRANSIENT, "the connection failed"),
)
"""From specific to general; the first match decides. aiohttp's tree is not what its names suggest: a certificate error
*is* a ClientConnectionError, and a total time-out is no ClientError."""


ALERTS_ABOUT_CERTIFICATES = frozenset(
    {
        "SSLV3_ALERT_BAD_CERTIFICATE",
        "SSLV3_ALERT_CERTIFICATE_EXPIRED",
        "SSLV3_ALERT_CERTIFICATE_REVOKED",
        "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
        "SSLV3_ALERT_NO_CERTIFICATE",
        "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE",
        "TLSV1_ALERT_ACCESS_DENIED",
        "TLSV1_ALERT_UNKNOWN_CA",
        "TLSV1_BAD_CERTIFICATE_HASH_VALUE",
        "TLSV1_BAD_CERTIFICATE_STATUS_RESPONSE",
        "TLSV1_CERTIFICATE_UNOBTAINABLE",
        "TLSV13_ALERT_CERTIFICATE_REQUIRED",
    }
)
"""The alerts by which a server says what is wrong with a certificate (RFC 8446, 6.2; RFC 5246, 7.2.2; RFC 6066, 9), by
OpenSSL's names, which Python has in ``SSLError.reason``. Any other failure of TLS may have another cause:
SSLV3_ALERT_HANDSHAKE_FAILURE is also sent if no cipher fits, and WRONG_VERSION_NUMBER means plain text in place of a
record."""


_DECISIVE = (ssl.SSLError, ConnectionResetError, ConnectionAbortedError, BrokenPipeError)


def fault_of(error: BaseException) -> tuple[ConnectionFault, str]:
    """What an exception means, and its name for people.

    The exceptions that it was raised from come first. A server that refuses our certificate sends a TLS alert. Under
    TLS 1.3 the alert arrives only with the first read (RFC 8446, 4.4.2.4), and aiohttp wraps it. Or the server resets
    the connection, which under TLS 1.2 looks as if no connection could be made (measured with OpenSSL 3 on both sides).

    Raises:
        KeyError: no delivery can end with this exception.
    """
    chain = list(_chain(error))
    if any(getattr(one, "reason", None) in ALERTS_ABOUT_CERTIFICATES for one in chain):
        # aiohttp's errors of TLS are ssl.SSLErrors too, but have no reason of their own.
        return ConnectionFault.CERTIFICATE, "the service does not accept our certificate"
    error = next((one for one in chain if isinstance(one, _DECISIVE)), error)
    for kind, fault, description in FAULTS:
        if isinstance(error, kind):
            return fault, description
    raise KeyError(type(error))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An exception, and those that it was raised from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
