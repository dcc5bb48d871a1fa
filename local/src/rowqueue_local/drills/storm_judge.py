"""From what a storm left behind to its figures: a pure function.

The tables say what the system believes, the partner's log says what was delivered, and ECS says which tasks lived when.

The page of outcomes is written here a second time, and nothing of the product is used: a judge that asked the product
which attempts count would agree with every mistake of it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_SUCCEEDED = "succeeded"
_PERMANENT = "permanent"
_RESET = "reset"
_COMPLETED, _FAILED = "completed", "failed"
_BY_POLLER = frozenset({"crashed", "interrupted", _RESET})
_ACCEPTED = frozenset(range(200, 300))
_REPEATED = frozenset({408, 425, 429, *range(500, 600)})
_REFUSED = frozenset(range(300, 500)) - _REPEATED
_COUNTED = {"transient": _REPEATED, _PERMANENT: _REFUSED}
"""The outcomes that are counted, and the statuses that have this outcome."""
_COUNTED_EXIT = 6
"""The processor could not use Snowflake. So it may have delivered entries without recording it, again and again. After
every other end, such as 137 (SIGKILL) or 143 (SIGTERM), an entry that was in hand is released uncounted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalRow:
    """A row of PROCESSING_QUEUE at the end.

    Attributes:
        limit: attempts that may be counted.
    """

    id: int
    key: str
    status: str
    retry_count: int
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedAttempt:
    """A row of PROCESSING_ATTEMPTS.

    Attributes:
        recorded_at: seconds since the epoch.
    """

    entry_id: int
    claim_token: str
    processor_id: str
    outcome: str
    response_status: int | None
    recorded_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedDelivery:
    """A delivery in the partner's log.

    Attributes:
        began_at: seconds since the epoch.
        status: of the answer; None if there was none.
    """

    key: str
    began_at: float
    status: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskLife:
    """A task as ECS saw it.

    Attributes:
        began_at: when RunTask answered, seconds since the epoch.
        ended_at: when it was STOPPED; None if it is not.
        exit_code: None if it never ran, or still runs.
    """

    processor_id: str
    began_at: float
    ended_at: float | None
    exit_code: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Aftermath:
    """What a storm left behind.

    Attributes:
        keys: idempotency keys of the inserted entries.
        taken_away_at: when a statement was sent that takes claims away from workers, seconds since the epoch.
        max_containers: the setting.
    """

    keys: Sequence[str]
    rows: Sequence[FinalRow]
    attempts: Sequence[RecordedAttempt]
    deliveries: Sequence[LoggedDelivery]
    tasks: Sequence[TaskLife]
    taken_away_at: Sequence[float]
    max_containers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """What a storm must not do: every number should be 0.

    Attributes:
        lost: entries that have vanished, have not ended, failed without a reason, or are completed although the
            partner never answered 2xx.
        recorded_twice: entries with two successes on record.
        succeeded_then_failed: entries with a success on record that are not completed.
        redelivered_after_recorded_success: entries that were delivered again although a success was on record before
            the claim was taken away.
        retries_wrongly_spent: counted attempts for which there is no reason.
        cap_exceeded: launches at which more tasks were alive than ``MAX_CONTAINERS``.
    """

    lost: int = 0
    recorded_twice: int = 0
    succeeded_then_failed: int = 0
    redelivered_after_recorded_success: int = 0
    retries_wrongly_spent: int = 0
    cap_exceeded: int = 0

    @property
    def is_none(self) -> bool:
        """Whether nothing happened that should not."""
        return not any(asdict(self).values())


def judge(after: Aftermath) -> Damage:
    """Compute the figures."""
    return Damage(**{figure: len(found) for figure, found in damaged(after).items()})


def damaged(after: Aftermath) -> dict[str, list[str]]:
    """What each figure counts: keys of entries, and for the cap the tasks that were launched beyond it."""
    trail = trails(after.attempts)
    answers = Counter((delivery.key, delivery.status) for delivery in after.deliveries)
    without_snowflake = {task.processor_id for task in after.tasks if task.exit_code == _COUNTED_EXIT}
    reasons = {row.id: _reasons(row.key, trail[row.id], answers, without_snowflake) for row in after.rows}
    successes = {row.id: [a for a in trail[row.id] if a.outcome == _SUCCEEDED] for row in after.rows}
    latest = {delivery.key: delivery.began_at for delivery in sorted(after.deliveries, key=lambda d: d.began_at)}

    def is_repeated(row: FinalRow) -> bool:
        return any(
            latest.get(row.key, 0.0) > success.recorded_at
            and not _was_late(success, trail[row.id], after.taken_away_at)
            for success in successes[row.id]
        )

    return {
        "lost": _lost(after, trail, answers, reasons),
        "recorded_twice": [row.key for row in after.rows if len(successes[row.id]) > 1],
        "succeeded_then_failed": [row.key for row in after.rows if row.status != _COMPLETED and successes[row.id]],
        "redelivered_after_recorded_success": [row.key for row in after.rows if is_repeated(row)],
        "retries_wrongly_spent": [row.key for row in after.rows for _ in range(reasons[row.id], row.retry_count)],
        "cap_exceeded": _beyond_the_cap(after.tasks, after.max_containers),
    }


def trails(attempts: Iterable[RecordedAttempt]) -> dict[int, list[RecordedAttempt]]:
    """The attempts of each entry, by its id, in the order in which they were recorded."""
    trail: dict[int, list[RecordedAttempt]] = defaultdict(list)
    for attempt in sorted(attempts, key=lambda a: a.recorded_at):
        trail[attempt.entry_id].append(attempt)
    return trail


def _reasons(
    key: str, trail: Iterable[RecordedAttempt], answers: Counter[tuple[str, int | None]], without_snowflake: set[str]
) -> int:
    """The number of attempts that may be counted: at most one for each claim.

    A kill, a Spot interruption and a StopTask are no reason. An answer is one if the partner gave it. No answer is one,
    because a worker cannot know whose fault it is. A stale reset, and the end of a worker without Snowflake, count too.
    """
    claims: dict[str, bool] = {}
    for attempt in trail:
        reason = (
            (attempt.outcome in _COUNTED and _is_true(key, attempt, answers))
            or attempt.outcome == _RESET
            or (attempt.outcome != _SUCCEEDED and attempt.processor_id in without_snowflake)
        )
        claims[attempt.claim_token] = claims.get(attempt.claim_token, False) or reason
    return sum(claims.values())


def _is_true(key: str, attempt: RecordedAttempt, answers: Counter[tuple[str, int | None]]) -> bool:
    """Whether the partner gave this answer, and the page of outcomes has this outcome for it."""
    status = attempt.response_status
    return status is None or (status in _COUNTED[attempt.outcome] and answers[key, status] > 0)


def _lost(
    after: Aftermath,
    trail: dict[int, list[RecordedAttempt]],
    answers: Counter[tuple[str, int | None]],
    reasons: dict[int, int],
) -> list[str]:
    accepted = {key for key, status in answers if status in _ACCEPTED}

    def has_ended(row: FinalRow) -> bool:
        refused = any(a.outcome == _PERMANENT and _is_true(row.key, a, answers) for a in trail[row.id])
        used_up = row.retry_count >= row.limit and reasons[row.id] >= row.limit
        if row.status == _COMPLETED:
            return row.key in accepted
        return row.status == _FAILED and (refused or used_up)

    ended = Counter(row.key for row in after.rows if has_ended(row))
    return [key for key in after.keys if not ended[key]]


def _was_late(success: RecordedAttempt, trail: Iterable[RecordedAttempt], taken_away_at: Iterable[float]) -> bool:
    """Whether the claim had been taken away before the success was on record.

    Then the poller has written an attempt for the same claim, because there was none, and after that it sent the
    statement that takes claims away.
    """
    noted = [a.recorded_at for a in trail if a.claim_token == success.claim_token and a.outcome in _BY_POLLER]
    return any(min(noted) <= at <= success.recorded_at for at in taken_away_at) if noted else False


def _beyond_the_cap(tasks: Iterable[TaskLife], cap: int) -> list[str]:
    """Go through the beginnings and ends in order; at the same moment an end comes first."""
    changes = [(task.began_at, 1, task.processor_id) for task in tasks]
    changes += [(task.ended_at, -1, task.processor_id) for task in tasks if task.ended_at is not None]
    alive, beyond = 0, []
    for _, change, task in sorted(changes):
        alive += change
        if change > 0 and alive > cap:
            beyond.append(task)
    return beyond
