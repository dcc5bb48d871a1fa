"""From what a storm left behind to its figures: a pure function.

The tables say what the system believes, the partner's log says what was delivered, and ECS says which tasks lived when.

The page of outcomes is written here a second time, and nothing of the product is used: a judge that asked the product
which attempts count would agree with every mistake of it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from rowqueue_local.drills.storm_plan import BY_A_PERSON

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_SUCCEEDED = "succeeded"
_TRANSIENT, _PERMANENT, _DOUBTFUL = "transient", "permanent", "doubtful"
_RESET, _CRASHED = "reset", "crashed"
_COMPLETED, _FAILED = "completed", "failed"
_BY_POLLER = frozenset({_CRASHED, "interrupted", _RESET})
_ACCEPTED = frozenset(range(200, 300))
_REPEATED: frozenset[int | None] = frozenset({408, 425, 429, *range(500, 600)})
_REFUSED: frozenset[int | None] = frozenset(range(300, 500)) - _REPEATED
_COUNTED: Mapping[str, frozenset[int | None]] = {_TRANSIENT: _REPEATED | {None}, _PERMANENT: _REFUSED}
"""The outcomes that are counted, and the statuses that have this outcome; None is no answer."""
_COUNTED_EXIT = 6
"""The processor could not use Snowflake. So it may have delivered entries without recording it, again and again. After
every other end, such as 137 (SIGKILL) or 143 (SIGTERM), an entry that was in hand is released uncounted."""
_ORDERLY_EXITS = frozenset({0, 2, 3, 4, 5, 6})
"""A processor decided to end. After any other code, its end may have been caused by an entry."""
_BY_ITSELF, _BY_STOP_TASK = "EssentialContainerExited", "UserInitiated"
_LATE_RECORD_S = 10.0
"""An attempt that is recorded late, because Snowflake was away, seems to have started later than it did."""


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
        started_at: seconds since the epoch; the time of the claim if the poller wrote it.
        recorded_at: seconds since the epoch.
    """

    entry_id: int
    claim_token: str
    processor_id: str
    outcome: str
    response_status: int | None
    started_at: float
    recorded_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedDelivery:
    """A delivery in the partner's log.

    Attributes:
        began_at: seconds since the epoch.
        status: of the answer; None if there was none.
        seconds: until the answer; None if there was none.
    """

    key: str
    began_at: float
    status: int | None
    seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskLife:
    """A task as ECS saw it.

    Attributes:
        began_at: when RunTask answered, seconds since the epoch.
        ended_at: when it was STOPPED; None if it is not.
        exit_code: None if it never ran, or still runs.
        stop_code: why it ended, in a word of ECS.
        stopped_reason: the same as a sentence, for StopTask the caller's.
    """

    processor_id: str
    began_at: float
    ended_at: float | None
    exit_code: int | None
    stop_code: str | None
    stopped_reason: str | None

    @property
    def has_crashed(self) -> bool:
        """Whether it died by itself, or the poller stopped it because it hung.

        A Spot interruption and a StopTask by a person are no crash. Only the poller and the storm stop tasks.
        """
        if self.stop_code == _BY_ITSELF:
            return self.exit_code is not None and self.exit_code not in _ORDERLY_EXITS
        return self.stop_code == _BY_STOP_TASK and self.stopped_reason != BY_A_PERSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Freeze:
    """A task that the storm froze.

    Attributes:
        began_at: seconds since the epoch.
        ended_at: the same; None if it was frozen until its end.
    """

    processor_id: str
    began_at: float
    ended_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Taking:
    """A statement that took claims away from workers and that Snowflake ran.

    Attributes:
        at: when it was sent, seconds since the epoch.
        workers: whose claims it took; None for every stale claim.
    """

    at: float
    workers: Sequence[str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Aftermath:
    """What a storm left behind.

    Attributes:
        keys: idempotency keys of the inserted entries.
        takings: statements that took claims away from workers. One that did not reach Snowflake is none.
        freezes: tasks that the storm froze: their deliveries may run out of time.
        late_after_s: a partner's answer that takes longer may come too late for the worker.
        stale_after_s: the age from which a claim is stale.
        max_crashes: the setting.
        max_containers: the setting.
    """

    keys: Sequence[str]
    rows: Sequence[FinalRow]
    attempts: Sequence[RecordedAttempt]
    deliveries: Sequence[LoggedDelivery]
    tasks: Sequence[TaskLife]
    takings: Sequence[Taking]
    freezes: Sequence[Freeze]
    late_after_s: float
    stale_after_s: float
    max_crashes: int
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
    answers = _answers(after)
    reasons = {row.id: _reasons(trail[row.id], answers[row.key], after) for row in after.rows}
    successes = {row.id: [a for a in trail[row.id] if a.outcome == _SUCCEEDED] for row in after.rows}
    latest = {delivery.key: delivery.began_at for delivery in sorted(after.deliveries, key=lambda d: d.began_at)}

    def is_repeated(row: FinalRow) -> bool:
        return any(
            latest.get(row.key, 0.0) > success.recorded_at and not _was_late(success, trail[row.id], after.takings)
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


def _answers(after: Aftermath) -> dict[str, Counter[int | None]]:
    """How often the partner gave each answer to an entry; None is no answer, or one that came too late."""
    answers: dict[str, Counter[int | None]] = defaultdict(Counter)
    for delivery in after.deliveries:
        answers[delivery.key][delivery.status] += 1
        if delivery.seconds is not None and delivery.seconds > after.late_after_s:
            answers[delivery.key][None] += 1
    return answers


def _reasons(trail: Iterable[RecordedAttempt], answers: Counter[int | None], after: Aftermath) -> int:
    """The number of attempts that may be counted: at most one for each claim, and one for each answer of the partner.

    A kill, a Spot interruption and a StopTask are no reason. An answer is one if the partner gave it. No answer is one
    if the partner gave none, or if the storm had frozen the worker. The end of a worker without Snowflake is one. A
    reset is one only if the claim was stale, which no claim is while its task lives.
    """
    without_snowflake = {task.processor_id for task in after.tasks if task.exit_code == _COUNTED_EXIT}
    left, claims = Counter(answers), set[str]()
    for attempt in trail:
        if attempt.claim_token in claims:
            continue
        if attempt.outcome in _COUNTED and _is_true(attempt, left):
            left[attempt.response_status] -= 1
            claims.add(attempt.claim_token)
        elif (
            (attempt.outcome == _TRANSIENT and attempt.response_status is None and _was_frozen(attempt, after.freezes))
            or (attempt.outcome == _RESET and attempt.recorded_at - attempt.started_at >= after.stale_after_s)
            or (attempt.outcome != _SUCCEEDED and attempt.processor_id in without_snowflake)
        ):
            claims.add(attempt.claim_token)
        elif attempt.outcome == _DOUBTFUL and left[attempt.response_status]:
            left[attempt.response_status] -= 1  # this answer is no reason for another attempt
    return len(claims)


def _is_true(attempt: RecordedAttempt, answers: Counter[int | None]) -> bool:
    """Whether the partner gave this answer, and the page of outcomes has this outcome for it."""
    return attempt.response_status in _COUNTED[attempt.outcome] and answers[attempt.response_status] > 0


def _was_frozen(attempt: RecordedAttempt, freezes: Iterable[Freeze]) -> bool:
    return any(
        freeze.processor_id == attempt.processor_id
        and freeze.began_at <= attempt.recorded_at
        and (freeze.ended_at is None or attempt.started_at <= freeze.ended_at + _LATE_RECORD_S)
        for freeze in freezes
    )


def _lost(
    after: Aftermath,
    trail: dict[int, list[RecordedAttempt]],
    answers: dict[str, Counter[int | None]],
    reasons: dict[int, int],
) -> list[str]:
    crashed = {task.processor_id for task in after.tasks if task.has_crashed}
    died_on: dict[str, set[int]] = defaultdict(set)
    for attempt in after.attempts:
        if attempt.outcome == _CRASHED:
            died_on[attempt.processor_id].add(attempt.entry_id)

    def is_poison(row: FinalRow) -> bool:
        """Whether enough workers died on it, and the last one had nothing else in hand."""
        deaths = [a for a in trail[row.id] if a.outcome == _CRASHED and a.processor_id in crashed]
        return len({a.claim_token for a in deaths}) > after.max_crashes and len(died_on[deaths[-1].processor_id]) == 1

    def has_ended(row: FinalRow) -> bool:
        refused = any(a.outcome == _PERMANENT and _is_true(a, answers[row.key]) for a in trail[row.id])
        used_up = row.retry_count >= row.limit and reasons[row.id] >= row.limit
        if row.status == _COMPLETED:
            return any(answers[row.key][status] for status in _ACCEPTED)
        return row.status == _FAILED and (refused or used_up or is_poison(row))

    ended = Counter(row.key for row in after.rows if has_ended(row))
    return [key for key in after.keys if not ended[key]]


def _was_late(success: RecordedAttempt, trail: Iterable[RecordedAttempt], takings: Iterable[Taking]) -> bool:
    """Whether the claim had been taken away before the success was on record.

    Then the poller has written an attempt for the same claim, because there was none, and after that Snowflake ran a
    statement that took this worker's claims away.
    """
    noted = [a for a in trail if a.claim_token == success.claim_token and a.outcome in _BY_POLLER]
    return any(
        note.recorded_at <= taking.at <= success.recorded_at
        and (note.outcome == _RESET if taking.workers is None else note.processor_id in taking.workers)
        for note in noted
        for taking in takings
    )


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
