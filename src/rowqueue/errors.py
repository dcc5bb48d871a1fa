"""What can go wrong, as a tree.

    RowqueueError
    ├── SettingsError             an environment variable is missing, malformed, or contradicts another
    ├── CredentialsError          the Snowflake secret is missing, unreadable or malformed
    ├── CertificateError          a client certificate, its key or the CA is missing, expired or unfit
    │   └── CertificateUnreadable S3 could not be asked: the next task may fare better
    ├── CredentialsStop           the service would not have us, or we it; nothing more is claimed until a hold ends
    ├── ServiceUnreachable        not one delivery got an answer
    ├── DeliveryFault             a delivery met a fault of this program
    ├── EventError                the Lambda got an event that is none of those it knows
    ├── TickOverdue               the tick gave up, for the next one is due
    ├── LaunchError               ECS refused, or could not be asked
    └── WarehouseError            Snowflake, as the driver tells it
        ├── LoginRefused          the credentials are wrong; never repeated
        ├── StatementRefused      the SQL or an object in it is wrong; never repeated
        ├── ValueRefused          a value is wrong; never repeated
        ├── LockContention        the statement did not run: others hold or await the lock; repeat with jitter
        └── WarehouseUnavailable  the connection failed; a statement that was sent may have run, or may yet

Every class carries a message that can be shown to a person as it stands. None holds a secret.
"""

from __future__ import annotations


class RowqueueError(Exception):
    """The root: whatever the program itself has found out and can explain."""


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
    """S3 could not be asked. Nothing is known of the certificate, and the next task may fare better."""


class CredentialsStop(RowqueueError):  # noqa: N818 -- reads as what happened
    """The service refused our credentials, or its certificate is not trusted. What was held is released."""


class ServiceUnreachable(RowqueueError):  # noqa: N818
    """Not one delivery of this task got an answer. Each entry was given its retry; the task says what they share."""


class DeliveryFault(RowqueueError):  # noqa: N818
    """A delivery met a fault of this program. Its entry was given a retry, its neighbours were not touched."""


class EventError(RowqueueError):
    """The Lambda was invoked with something that it does not know."""


class TickOverdue(RowqueueError):  # noqa: N818 -- reads as what happened
    """The tick has used up its time; what it has not done, the next one does."""


class LaunchError(RowqueueError):
    """ECS refused a request, or could not be asked."""


class WarehouseError(RowqueueError):
    """Snowflake refused or failed, as the driver tells it.

    Args:
        message: what the driver said.
        errno: Snowflake's error number, where there is one.
    """

    def __init__(self, message: str, *, errno: int | None = None) -> None:
        self.errno = errno
        super().__init__(message)


class LoginRefused(WarehouseError):  # noqa: N818 -- reads as what happened
    """The credentials, the role or the network policy do not let us in."""


class StatementRefused(WarehouseError):  # noqa: N818
    """The statement does not compile, or names an object that is not there or not granted."""


class ValueRefused(WarehouseError):  # noqa: N818
    """A value in the statement can not be stored."""


class LockContention(WarehouseError):  # noqa: N818
    """The statement did not run: too many statements wait for the table's lock, or it was not free in time."""


class WarehouseUnavailable(WarehouseError):  # noqa: N818
    """The connection failed. A statement that had been sent may have run, or may yet run."""
