"""The lease: one tick at a time launches, and it knows what the ticks before it have launched.

It is an S3 object that is written only over the version that was read (``If-Match``), or only where there is none
(``If-None-Match``). Its body names the tick that has it, and the tasks that were launched and are not known to have
stopped. ListTasks may not show a task for some seconds after its launch, and does not show one that is stopping as
live; the body has both. It also has the last RunTask if no answer arrived, so that the next tick repeats it first. Each
body names the tick that wrote it, so no two versions have the same ETag.

A tick that dies leaves the lease behind. It expires :data:`LEASE_S` seconds after it was written. Both times are S3's
own, from one answer, so no clocks of two machines are compared. An object that cannot be read as a lease counts as
taken until it expires, and is then replaced.
"""

from __future__ import annotations

import functools
import json
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from rowqueue import aws
from rowqueue.errors import LaunchError
from rowqueue.poller.fleet import LARGEST_LAUNCH, TaskRequest
from rowqueue.settings import LEASE_S
from rowqueue.time_limit import within

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mypy_boto3_s3 import S3Client

    from rowqueue.settings import PollerSettings

GIVE_BACK_S = 4.5
"""How long after its deadline a tick may give the lease back. Its last step may end a second late, and an attempt takes
up to three. Half a second later Lambda ends the function (terraform/lambda.tf: ``timeout``)."""
_LARGEST = 2_000_000
"""Bytes of the object that are read at most. The lease of 5000 tasks, the largest MAX_CONTAINERS, has a million. A
larger object is no lease."""
_UNREADABLE = "unreadable"
_NOT_THERE = 404
_DENIED = 403
# The object was changed, is being changed, or was deleted since it was read (AWS, PutObject).
_LOST = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey"})


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierLaunches:
    """What one tick writes down for the next.

    Attributes:
        launched: ARNs of the tasks that were launched and may be live, each with the time of its launch.
        unanswered: a RunTask that may have started tasks that nobody knows of.
        asked_at: when it was sent first.
    """

    launched: Mapping[str, datetime] = field(default_factory=dict)
    unanswered: TaskRequest | None = None
    asked_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """This tick has the lease.

    Attributes:
        etag: of the version that says so.
        earlier: what the tick before wrote.
    """

    etag: str
    earlier: EarlierLaunches = field(default_factory=EarlierLaunches)


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenElsewhere:
    """Another tick has the lease.

    Attributes:
        until: UTC, aware; it expires then at the latest. ``None`` if it was taken while this tick tried to.
    """

    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """The object as it was read."""

    etag: str
    body: bytes
    written_at: datetime
    read_at: datetime
    owner: str | None
    earlier: EarlierLaunches

    @property
    def until(self) -> datetime:
        return self.written_at + timedelta(seconds=LEASE_S)

    @property
    def is_free(self) -> bool:
        return self.owner is None or self.read_at >= self.until


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The lease, as one tick uses it.

    Attributes:
        client: connects to S3; called when a tick wants to launch, so that no other tick pays for it.
        bucket: of the object.
        key: of the object.
        tick: a name that no other tick has.
        seconds_left: until the tick has to give up.
    """

    client: Callable[[], S3Client]
    bucket: str
    key: str
    tick: str
    seconds_left: Callable[[], float]

    def take(self) -> Taken | TakenElsewhere:
        """Take the lease if it is free.

        Raises:
            LaunchError: S3 refuses or does not answer.
        """
        try:
            return within(self.seconds_left(), self._take)
        except TimeoutError as error:
            raise LaunchError(f"the lease {self._name} cannot be taken: {error}") from error

    def _take(self) -> Taken | TakenElsewhere:
        client = self.client()
        found = self._read(client)
        if found is not None and not found.is_free:
            return TakenElsewhere(until=found.until)
        earlier = found.earlier if found else EarlierLaunches()
        etag = self._write(client, _body(self.tick, self.tick, earlier), over=found.etag if found else None)
        return TakenElsewhere() if etag is None else Taken(etag=etag, earlier=earlier)

    def give_back(self, taken: Taken, earlier: EarlierLaunches) -> LaunchError | None:
        """Give the lease back, for the next tick to take.

        Args:
            taken: what :meth:`take` returned.
            earlier: for the next tick.

        Returns:
            Why it could not be given back, if so. Then it expires.
        """
        try:
            etag = within(
                self.seconds_left() + GIVE_BACK_S,
                lambda: self._write(self.client(), _body(None, self.tick, earlier), over=taken.etag),
            )
        except LaunchError as error:
            return error
        except TimeoutError as error:
            return LaunchError(f"the lease {self._name} cannot be given back: {error}")
        return LaunchError(f"the lease {self._name} was changed while this tick had it") if etag is None else None

    @property
    def _name(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    def _read(self, client: S3Client, *, exists: bool = False) -> _Found | None:
        """The object; ``None`` if there is none. Without ListBucket S3 says 403 then, and the write finds out."""
        try:
            answer = client.get_object(Bucket=self.bucket, Key=self.key)
            body = answer["Body"].read(_LARGEST)
        except aws.ERRORS as error:
            status = aws.status_of(error)
            if status == _NOT_THERE or (status == _DENIED and not exists):
                return None
            raise LaunchError(f"the lease {self._name} cannot be read: {error}") from error
        owner, earlier = _parsed(body)
        return _Found(
            etag=answer["ETag"],
            body=body,
            written_at=answer["LastModified"],
            read_at=parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"]),
            owner=owner,
            earlier=earlier,
        )

    def _write(self, client: S3Client, body: bytes, *, over: str | None) -> str | None:
        """Write over the version with this ETag, or where there is none.

        Returns:
            The new ETag; ``None`` if another version is there.
        """
        condition: Any = {"IfNoneMatch": "*"} if over is None else {"IfMatch": over}
        try:
            answer = client.put_object(
                Bucket=self.bucket, Key=self.key, Body=body, ContentType="application/json", **condition
            )
        except aws.ERRORS as error:
            if aws.code_of(error) not in _LOST:
                raise LaunchError(f"the lease {self._name} cannot be written: {error}") from error
        else:
            return answer["ETag"]
        # boto3 repeats a request whose answer was lost. So the write that was refused may be the repetition of ours.
        found = self._read(client, exists=True)
        return found.etag if found is not None and found.body == body else None


def for_tick(settings: PollerSettings, *, tick: str, seconds_left: Callable[[], float]) -> Lease:
    """The lease of the environment.

    Args:
        settings: the poller's.
        tick: a name that no other tick has.
        seconds_left: until the tick has to give up.
    """

    @functools.cache
    def client() -> S3Client:
        return aws.client("s3", seconds_left=lambda: seconds_left() + GIVE_BACK_S)

    key = f"{settings.environment}/launch-lease.json"
    return Lease(client=client, bucket=settings.lease_bucket, key=key, tick=tick, seconds_left=seconds_left)


def _body(owner: str | None, writer: str, earlier: EarlierLaunches) -> bytes:
    members = {
        "owner": owner,
        "written_by": writer,
        "launched": {arn: at.isoformat() for arn, at in earlier.launched.items()},
        "unanswered": earlier.unanswered and asdict(earlier.unanswered),
        "asked_at": earlier.asked_at and earlier.asked_at.isoformat(),
    }
    return json.dumps(members, indent=1).encode()


def _parsed(body: bytes) -> tuple[str | None, EarlierLaunches]:
    """The owner of a body, and what it says about earlier launches."""
    try:
        members = json.loads(body)
        owner, request, asked_at = members["owner"], members["unanswered"], members["asked_at"]
        earlier = EarlierLaunches(
            launched={arn: _time(at) for arn, at in members["launched"].items()},
            unanswered=None if request is None else _request(**request),
            asked_at=None if request is None else _time(asked_at),
        )
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return _UNREADABLE, EarlierLaunches()
    return (owner, earlier) if isinstance(owner, str | None) else (_UNREADABLE, EarlierLaunches())


def _request(*, token: Any, count: Any, probe: Any, on_demand: Any) -> TaskRequest:
    if not (isinstance(token, str) and isinstance(count, int) and 1 <= count <= LARGEST_LAUNCH):
        raise ValueError(f"{count} tasks with the token {token} are no request")
    return TaskRequest(token=token, count=count, probe=bool(probe), on_demand=bool(on_demand))


def _time(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(f"{text} has no time zone")
    return at
