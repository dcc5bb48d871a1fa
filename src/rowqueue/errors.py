"""The errors of this program, as a tree.

    RowqueueError
    ├── SettingsError             an environment variable is missing, malformed, or contradicts another
    ├── CredentialsError          the Snowflake secret is missing, unreadable or malformed
    ├── CertificateError          a client certificate, its key or the CA is missing, expired or unfit
    │   └── CertificateUnreadable S3 failed or did not answer; the next task may succeed
    ├── CredentialsStop           mutual TLS or authorization failed; nothing more is claimed until a hold ends
    ├── ServiceUnreachable        no delivery got an answer
    ├── DeliveryFault             a delivery met a fault of this program
    ├── EventError                the Lambda got an unknown event
    ├── TickOverdue               the tick ran out of time
    ├── LaunchError               ECS, or S3 for the lease, refused a request or did not answer
    ├── SchemaError               the tables have a version or a shape that this program does not know
    └── WarehouseError            Snowflake refused or failed
        ├── LoginRefused          the credentials are wrong; never repeated
        ├── StatementRefused      the SQL or an object in it is wrong; never repeated
        │   └── ObjectMissing     a table, a view or a column is missing, or not granted
        ├── ValueRefused          a value is wrong; never repeated
        ├── LockContention        the statement did not run, because the lock was taken; repeat with jitter
        └── WarehouseUnavailable  the connection failed; a statement that was sent may have run, or may still run

Each message can be shown to a person as it is. No message contains a secret.
"""

from __future__ import annotations


class RowqueueError(Exception):
    """The root of all errors that this program explains."""


class SettingsError(RowqueueError):
    """One or more environment variables are not usable.

    Args:
        problems: one line each, ``NAME: expected ..., got ...``.
    """

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


class CredentialsError(RowqueueError):
    """The secret with the Snowflake credentials is missing, unreadable or malformed."""


class CertificateError(RowqueueError):
    """A certificate object is missing, expired, or does not fit its key. The message names the object."""


class CertificateUnreadable(CertificateError):  # noqa: N818
    """S3 failed or did not answer. Nothing is known about the certificate, and the next task may succeed."""


class CredentialsStop(RowqueueError):  # noqa: N818 -- reads as what happened
    """Mutual TLS or authorization failed. All entries in hand were released."""


class ServiceUnreachable(RowqueueError):  # noqa: N818
    """No delivery of this task got an answer. Each entry gets a retry."""


class DeliveryFault(RowqueueError):  # noqa: N818
    """A delivery met a fault of this program. Its entry gets a retry; other entries are not affected."""


class EventError(RowqueueError):
    """The Lambda was invoked with an unknown event."""


class TickOverdue(RowqueueError):  # noqa: N818 -- reads as what happened
    """The tick ran out of time. The next one does the rest."""


class LaunchError(RowqueueError):
    """ECS, or S3 for the lease, refused a request or did not answer."""


class SchemaError(RowqueueError):
    """The tables have a version or a shape that this program does not know."""


class WarehouseError(RowqueueError):
    """Snowflake refused or failed, as the driver reports it.

    Args:
        message: what the driver said.
        errno: Snowflake's error number, where there is one.
    """

    def __init__(self, message: str, *, errno: int | None = None) -> None:
        self.errno = errno
        super().__init__(message)


class LoginRefused(WarehouseError):  # noqa: N818 -- reads as what happened
    """The credentials, the role or the network policy do not permit the login."""


class StatementRefused(WarehouseError):  # noqa: N818
    """The statement does not compile, or names an object that does not exist or is not granted."""


class ObjectMissing(StatementRefused):
    """A table, a view or a column that the statement names does not exist, or is not granted."""


class ValueRefused(WarehouseError):  # noqa: N818
    """A value in the statement cannot be stored."""


class LockContention(WarehouseError):  # noqa: N818
    """The statement did not run: too many statements wait for the table's lock, or it was not free in time."""


class WarehouseUnavailable(WarehouseError):  # noqa: N818
    """The connection failed. A statement that had been sent may have run, or may still run."""
