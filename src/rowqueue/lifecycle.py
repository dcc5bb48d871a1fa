"""What happens to an entry, decided without SQL, HTTP, AWS or a clock.

A delivery ends in an :data:`Outcome`; :func:`settlement_for` turns it into the :class:`Settlement` that is written
back. That function is the whole retry policy.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, assert_never

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_ERROR_MESSAGE_CHARACTERS = 1000
"""The width of ``error_message`` in the table."""

MAX_FREE_DOUBTS = 20
"""How often an entry is released because of a doubt. From then on a doubt costs it an attempt: an entry that always
provokes the fault by itself would otherwise be delivered without end."""

_MAX_BACKOFF_DOUBLINGS = 32  # beyond any cap; keeps 2**n a small number whatever an entry's own limit is


class Status(StrEnum):
    """The five statuses of an entry. The pulse counts rows with any other status; nothing changes them."""

    PENDING = "pending"
    """Not claimed. Ready from ``available_at`` on."""
    PROCESSING = "processing"
    """Claimed by a worker, under a claim token."""
    COMPLETED = "completed"
    """The service answered with 2xx."""
    FAILED = "failed"
    """Given up. The reason is in ``error_message``; a person can requeue it."""
    CANCELLED = "cancelled"
    """Cancelled by a person before its delivery began or instead of another attempt, or discarded after it failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One claimed row of the queue.

    Attributes:
        id: unique in the table. It does not give the order of the inserts.
        data: the text to deliver. It should be JSON, but its producer decides.
        idempotency_key: the same for every delivery of this entry.
        claim_token: of the claim that took it; guards every write.
        retry_count: attempts counted so far.
        max_retries: this entry's own limit of counted attempts; ``None``: the setting's limit.
        crash_count: workers that died with it in hand.
        doubts: deliveries that ended in doubt, for which it was released without a counted attempt.
        age_s: seconds from its INSERT to its claim.
        characters: the length of ``data`` in the table, if that is known. What is too long is left out of a claim.
        earlier_attempts: attempts counted before a person last requeued it.
        traceparent: the producer's own trace, as the producer wrote it.
    """

    id: int
    data: str
    idempotency_key: str
    claim_token: str
    retry_count: int = 0
    max_retries: int | None = None
    crash_count: int = 0
    doubts: int = 0
    age_s: float = 0.0
    characters: int = 0
    earlier_attempts: int = 0
    traceparent: str | None = None

    @property
    def is_suspect(self) -> bool:
        """Whether a worker has died on it. It is claimed only by a worker with nothing in hand."""
        return self.crash_count > 0

    @property
    def attempt(self) -> int:
        """The number of the attempt that this claim makes, from 1. A requeue does not begin again."""
        return self.earlier_attempts + self.attempt_since_requeue

    @property
    def attempt_since_requeue(self) -> int:
        """The same since the last requeue. It is compared with the limit."""
        return self.retry_count + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Succeeded:
    """The service answered with 2xx: it has done its work, whatever the body says."""

    response_status: int
    result: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Transient:
    """A later attempt may succeed.

    Attributes:
        reason: for ``error_message``.
        response_status: the HTTP status, if there was an answer.
        retry_after_s: seconds that the service asked us to wait, if it did.
        result: the answer, cut to a limit, if there was one.
    """

    reason: str
    response_status: int | None = None
    retry_after_s: float | None = None
    result: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Permanent:
    """No attempt will succeed with this entry as it is."""

    reason: str
    response_status: int | None = None
    result: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Interrupted:
    """Never started, cut short by our own stop, or ended by a certificate fault. Released; no attempt is counted."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubted:
    """A fault of credentials that the entry may not have caused. It is released; its doubt is counted, no attempt."""

    reason: str
    response_status: int | None = None
    result: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialsFault:
    """Mutual TLS or authorization failed. Most likely every other entry would meet the same fault.

    Attributes:
        reason: for the hold.
        certain: whether a certificate is the cause, by a TLS alert or by our own check. No entry can cause that. The
            entry itself may be the cause of any other fault: 401, 403, a page about our certificate, a connection
            closed without an answer, any other failure of TLS.
        response_status: the HTTP status, if there was an answer.
        result: the answer, cut to a limit, if there was one.
    """

    reason: str
    certain: bool
    response_status: int | None = None
    result: str | None = None


Outcome = Succeeded | Transient | Permanent | Interrupted | Doubted
Verdict = Succeeded | Transient | Permanent | CredentialsFault
"""How a delivery ended. What a fault of credentials means for the entry may be decided later."""


def outcome_of(fault: CredentialsFault, *, trusted: bool, doubts: int) -> Outcome:
    """What a fault of credentials means for the entry that met it.

    Args:
        fault: what it met.
        trusted: whether the service has answered 2xx to this task, so that our credentials are good.
        doubts: how often the entry was released because of a doubt.
    """
    if fault.certain:
        return Interrupted(reason=fault.reason)
    if not trusted and doubts < MAX_FREE_DOUBTS:
        return Doubted(reason=fault.reason, response_status=fault.response_status, result=fault.result)
    if trusted and fault.response_status is not None:
        return Permanent(reason=fault.reason, response_status=fault.response_status, result=fault.result)
    return Transient(reason=fault.reason, response_status=fault.response_status, result=fault.result)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and how soon.

    Attributes:
        max_retries: counted attempts before an entry is failed, unless the entry has its own limit.
        backoff_s: upper bound of the wait after the first failed attempt; it doubles with each further one.
        backoff_cap_s: longest wait, also when the service asks for more.
        deadline_s: age of an entry after which no retry is scheduled; ``None``: no limit.
    """

    max_retries: int = 3
    backoff_s: float = 10.0
    backoff_cap_s: float = 900.0
    deadline_s: float | None = None

    def limit_of(self, entry: Entry) -> int:
        """The largest number of counted attempts for ``entry``."""
        return self.max_retries if entry.max_retries is None else entry.max_retries

    def delay_s(self, *, failures: int, retry_after_s: float | None, random: Callable[[], float]) -> float:
        """Seconds to wait after the ``failures``-th counted failure (from 1).

        Exponential back-off with full jitter, which spreads a burst of failures best (Brooker, "Exponential Backoff
        And Jitter", AWS Architecture Blog, 2015). What the service asked for is a lower bound, up to the cap.
        """
        bound = min(self.backoff_cap_s, self.backoff_s * 2 ** float(min(failures - 1, _MAX_BACKOFF_DOUBLINGS)))
        asked = min(self.backoff_cap_s, max(0.0, retry_after_s or 0.0))
        return max(asked, bound * random())


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What is written back for one entry.

    Attributes:
        claim_token: the write changes nothing if the row has another one.
        idempotency_key: tells two rows with the same id apart.
        status: the new status.
        counted: whether the attempt is added to ``retry_count``.
        released: whether the entry is given back unchanged.
        doubted: whether it is released because of a doubt, which is added to ``doubts``.
        delay_s: seconds until it is ready again, if it goes back to pending.
        response_status: the HTTP status, if there was an answer.
        result: the answer, cut to a limit.
        error_message: why the attempt failed; ``None`` clears it.
    """

    entry_id: int
    claim_token: str
    idempotency_key: str
    status: Status
    counted: bool = False
    released: bool = False
    doubted: bool = False
    delay_s: float = 0.0
    response_status: int | None = None
    result: str | None = None
    error_message: str | None = None


def settlement_for(entry: Entry, outcome: Outcome, policy: RetryPolicy, *, random: Callable[[], float]) -> Settlement:
    """Decide what becomes of ``entry`` after ``outcome``.

    Args:
        entry: as it was claimed.
        outcome: how its delivery ended.
        policy: how often and how soon to retry.
        random: a number in [0, 1), for the jitter.
    """
    match outcome:
        case Succeeded(response_status=status, result=result):
            return Settlement(
                entry_id=entry.id,
                claim_token=entry.claim_token,
                idempotency_key=entry.idempotency_key,
                status=Status.COMPLETED,
                response_status=status,
                result=result,
            )
        case Interrupted() | Doubted():
            return Settlement(
                entry_id=entry.id,
                claim_token=entry.claim_token,
                idempotency_key=entry.idempotency_key,
                status=Status.PENDING,
                released=True,
                doubted=isinstance(outcome, Doubted),
            )
        case Permanent():
            return _failed(entry, outcome, outcome.reason)
        case Transient():
            limit = policy.limit_of(entry)
            failures = entry.attempt_since_requeue
            if failures >= limit:
                return _failed(entry, outcome, f"gave up after {failures} of {limit} attempts: {outcome.reason}")
            delay_s = policy.delay_s(failures=failures, retry_after_s=outcome.retry_after_s, random=random)
            if policy.deadline_s is not None and entry.age_s + delay_s > policy.deadline_s:
                return _failed(entry, outcome, f"gave up at its deadline, {policy.deadline_s:g} s: {outcome.reason}")
            return Settlement(
                entry_id=entry.id,
                claim_token=entry.claim_token,
                idempotency_key=entry.idempotency_key,
                status=Status.PENDING,
                counted=True,
                delay_s=delay_s,
                response_status=outcome.response_status,
                result=outcome.result,
                error_message=_bounded(outcome.reason),
            )
        case _:
            assert_never(outcome)


def _failed(entry: Entry, outcome: Transient | Permanent, reason: str) -> Settlement:
    return Settlement(
        entry_id=entry.id,
        claim_token=entry.claim_token,
        idempotency_key=entry.idempotency_key,
        status=Status.FAILED,
        counted=True,
        response_status=outcome.response_status,
        result=outcome.result,
        error_message=_bounded(reason),
    )


def _bounded(message: str) -> str:
    return message[:MAX_ERROR_MESSAGE_CHARACTERS]


def storable(value: str | None) -> str | None:
    """Replace by U+FFFD what no VARCHAR takes and a service may send: NUL and lone surrogates."""
    if value is None or (value.isascii() and "\0" not in value):
        return value
    return value.replace("\0", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
