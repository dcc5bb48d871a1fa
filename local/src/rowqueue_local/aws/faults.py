"""Faults that a drill or a test injects while the stand-in runs."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from rowqueue_local.aws.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Range = tuple[float, float]  # minimum and maximum of a uniform random value

_LONGEST = 3_600.0  # seconds; the longest delay of a fault
_MOST = 100_000
_REFUSABLE = ("RunTask", "StopTask", "ListTasks", "DescribeTasks")
_SERVICES = ("s3", "secretsmanager")
_STATUS = {"ServerException": 500}  # ECS answers all other errors with 400, also throttling


@dataclass(frozen=True, kw_only=True)
class EventFaults:
    """Faults of the delivery of events from the event bus to a function.

    Attributes:
        suppressed: whether no event arrives.
        copies: how often each event arrives. EventBridge promises at least once.
        delay_seconds: the delay of each copy; with different delays, copies arrive in another order.
    """

    suppressed: bool = False
    copies: int = 1
    delay_seconds: Range = (0.0, 0.0)


@dataclass(frozen=True, kw_only=True)
class InjectedRefusal:
    """An error that an operation of ECS answers, usually without doing anything.

    Attributes:
        code: its name, such as ``ThrottlingException``.
        message: its text.
        status: the HTTP status.
        times: number of requests that get it, including the retries of boto3; None for all.
        done: whether the operation is done nevertheless, and only its answer is lost.
    """

    code: str
    message: str
    status: int = 400
    times: int | None = None
    done: bool = False


@dataclass(frozen=True, kw_only=True)
class Unplaced:
    """Tasks that RunTask does not place: it answers 200 and lists them in ``failures[]``.

    Attributes:
        reason: such as ``Capacity is unavailable at this time``.
        detail: more about the reason, if anything.
        tasks: number of tasks of each call; None for all.
        times: number of calls with this fault; None for all.
        provider: the capacity provider whose tasks it concerns, such as ``FARGATE_SPOT``; None for all.
    """

    reason: str
    detail: str | None = None
    tasks: int | None = None
    times: int | None = None
    provider: str | None = None

    def concerns(self, provider: str | None) -> bool:
        """Whether tasks of a capacity provider are not placed; None is the plain launch type."""
        return self.provider in {None, provider}

    def failures(self, count: int) -> list[dict[str, str]]:
        """The items of ``failures[]`` for a call of ``count`` tasks."""
        given = {"reason": self.reason} | ({"detail": self.detail} if self.detail else {})
        return [dict(given) for _ in range(count if self.tasks is None else min(self.tasks, count))]


@dataclass(frozen=True, kw_only=True)
class Faults:
    """All faults in force.

    Attributes:
        task_start_seconds: time from RunTask to RUNNING of tasks that are launched from now on.
        events: faults of the delivery of events.
        refuse: errors by the name of the ECS operation.
        unplaced: tasks that RunTask does not place.
        hang_every: N: one of N tasks is frozen as soon as its program runs.
        list_lag_seconds: time from RunTask until ListTasks lists a task.
        throttled: whether every invocation of a function is throttled.
        invocation_seconds: replaces the time limit of every invocation that begins.
        away: services, such as ``s3``, of which every request is answered with 503.
    """

    task_start_seconds: Range
    events: EventFaults = field(default_factory=EventFaults)
    refuse: Mapping[str, InjectedRefusal] = field(default_factory=dict)
    unplaced: Unplaced | None = None
    hang_every: int | None = None
    list_lag_seconds: float = 0.0
    throttled: bool = False
    invocation_seconds: float | None = None
    away: tuple[str, ...] = ()


def changed(faults: Faults, body: bytes, *, initial: Faults) -> Faults:
    """Read a change of the faults.

    Args:
        faults: those in force.
        body: a JSON object. The value of each key replaces that fault; null resets it; other faults stay.
        initial: the values for null.

    Raises:
        ApiError: it names the key, the expected and the given value.
    """
    try:
        given = json.loads(body or b"null")
    except ValueError:
        raise _expected("the request", "JSON", body.decode(errors="replace")) from None
    values = {
        name: getattr(initial, name) if value is None else _READERS[name](value, name)
        for name, value in _object(given, "the request", _READERS).items()
    }
    return replace(faults, **values)


_Limited = TypeVar("_Limited", InjectedRefusal, Unplaced)


def once_less(fault: _Limited) -> _Limited | None:
    """The fault for the requests that follow one more request with it; ``None`` if it has ended."""
    if fault.times is None:
        return fault
    return replace(fault, times=fault.times - 1) if fault.times > 1 else None


def waits(events: EventFaults, draw: Callable[[float, float], float]) -> list[float]:
    """The delay of each copy of an event, seconds; empty if events are suppressed.

    Args:
        events: the faults of the delivery.
        draw: returns a random number between two, such as ``random.uniform``.
    """
    return [] if events.suppressed else [draw(*events.delay_seconds) for _ in range(events.copies)]


def _events(value: Any, key: str) -> EventFaults:
    readers = {"suppressed": _truth, "copies": _whole, "delay_seconds": _seconds}
    return EventFaults(**_read(value, key, readers))


def _refuse(value: Any, key: str) -> dict[str, InjectedRefusal]:
    return _read(value, key, dict.fromkeys(_REFUSABLE, _refusal))


def _refusal(value: Any, key: str) -> InjectedRefusal:
    given = _read(value, key, _REFUSAL, required=("code",))
    code = given["code"]
    return InjectedRefusal(**{"message": f"{code}, injected", "status": _STATUS.get(code, 400), **given})


def _unplaced(value: Any, key: str) -> Unplaced:
    readers = {"reason": _text, "detail": _text, "tasks": _whole, "times": _whole, "provider": _text}
    return Unplaced(**_read(value, key, readers, required=("reason",)))


def _read(
    value: Any, key: str, readers: Mapping[str, Callable[[Any, str], Any]], *, required: tuple[str, ...] = ()
) -> dict[str, Any]:
    given = _object(value, key, readers)
    for name in required:
        if name not in given:
            raise _expected(key, f"an object with {name}", value)
    return {name: readers[name](member, f"{key}.{name}") for name, member in given.items()}


def _object(value: Any, key: str, known: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _expected(key, "an object", value)
    for name in value:
        if name not in known:
            raise _expected(f"a key of {key}", f"one of {', '.join(known)}", name)
    return value


def _seconds(value: Any, key: str) -> Range:
    low, high = value if isinstance(value, list) and len(value) == 2 else (value, value)  # noqa: PLR2004 -- a pair
    for bound in (low, high):
        if isinstance(bound, bool) or not isinstance(bound, int | float) or not 0 <= bound <= _LONGEST:
            raise _expected(key, f"seconds from 0 to {_LONGEST:.0f}, or [least, most]", value)
    if low > high:
        raise _expected(key, "[least, most]", value)
    return float(low), float(high)


def _duration(value: Any, key: str) -> float:
    return _seconds(value, key)[1]


def _services(value: Any, key: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(name in _SERVICES for name in value):
        raise _expected(key, f"a list of {', '.join(_SERVICES)}", value)
    return tuple(value)


def _whole(value: Any, key: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MOST:
        raise _expected(key, f"a whole number from 1 to {_MOST}", value)
    return value


def _truth(value: Any, key: str) -> bool:
    if not isinstance(value, bool):
        raise _expected(key, "true or false", value)
    return value


def _text(value: Any, key: str) -> str:
    if not isinstance(value, str) or not value:
        raise _expected(key, "a text", value)
    return value


def _expected(key: str, what: str, got: Any) -> ApiError:
    return ApiError("ValidationException", f"{key}: expected {what}, got {json.dumps(got)}")


_REFUSAL = {"code": _text, "message": _text, "status": _whole, "times": _whole, "done": _truth}
_READERS: dict[str, Callable[[Any, str], Any]] = {
    "task_start_seconds": _seconds,
    "events": _events,
    "refuse": _refuse,
    "unplaced": _unplaced,
    "hang_every": _whole,
    "list_lag_seconds": _duration,
    "throttled": _truth,
    "invocation_seconds": _duration,
    "away": _services,
}
