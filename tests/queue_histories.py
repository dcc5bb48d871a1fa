"""Random histories of a queue: several workers, a poller, people and a clock that jumps, against a model in Python.

The rules are what the programs and people do with the tables. After each step the tables must be as the model says.
tests/unit/test_memory_histories.py plays them in memory, tests/contract/test_histories.py on Snowflake. With
``HISTORIES=2000`` they play that many, with new random numbers each time, instead of the short form.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from itertools import takewhile

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from rowqueue.contract import DEFAULT_DESTINATION, AttemptOutcome, HoldKind
from rowqueue.lifecycle import (
    Doubted,
    Interrupted,
    Permanent,
    RetryPolicy,
    Status,
    Succeeded,
    Transient,
    settlement_for,
)
from rowqueue.poller.records import Death
from rowqueue.processor.attempts import Delivery, attempts_of
from rowqueue.processor.queue import ClaimRequest

LIMIT = 3
MOST_CRASHES = 1
POLICY = RetryPolicy(max_retries=LIMIT, backoff_s=100.0)
MOST_PENDING = 6
STALE_S = 1750
HOLD_S = 450
STEP_S = 0.01
"""Between two steps of a history, on the model's clock. All other times are so far apart that a real clock, which runs
on while Snowflake is asked, changes no order."""

OUTCOMES = {
    "succeeded": Succeeded(response_status=200, result="done"),
    "transient": Transient(reason="the service answered 503", response_status=503),
    "permanent": Permanent(reason="the service answered 400", response_status=400),
    "interrupted": Interrupted(reason="stopped"),
    "doubtful": Doubted(reason="the service answered 401", response_status=401),
}
LONG = int(os.environ.get("HISTORIES", "0"))


HOME, ELSEWHERE = DEFAULT_DESTINATION, "acme"


def destination_of(worker):
    """Two of the three workers are of the default destination, as the poller is."""
    return ELSEWHERE if worker.startswith("dev-c-") else HOME


class Killed(BaseException):
    """The worker was killed between two of its statements."""


def play(ground, *, histories, steps, shrink):
    """Play random histories on the tables of ``ground``.

    Args:
        ground: the tables under test.
        histories: how many, in the short form.
        steps: the most of one history, in the short form.
        shrink: whether to look for a shorter history that fails. It takes hundreds of them.
    """
    short = settings(max_examples=histories, stateful_step_count=steps, derandomize=True, database=None)
    form = settings(max_examples=LONG, stateful_step_count=60) if LONG else short
    phases = [Phase.reuse, Phase.generate, *([Phase.shrink] if shrink else [])]
    quiet = settings(form, suppress_health_check=list(HealthCheck), phases=phases)
    run_state_machine_as_test(lambda: QueueHistories(ground), settings=quiet)


@dataclass
class ModelEntry:
    """What a row of the queue must be. Times are seconds on the model's clock."""

    number: int
    available_at: float
    destination: str = HOME
    priority: int = 0
    limit: int = LIMIT
    status: Status = Status.PENDING
    retry_count: int = 0
    earlier_attempts: int = 0
    crash_count: int = 0
    doubts: int = 0
    cancel_requested: bool = False
    token: str | None = None
    worker: str | None = None
    claimed_at: float | None = None
    tried_at: float = -1.0

    @property
    def exhausted(self):
        return self.is_claimable and self.destination == HOME and self.retry_count >= self.limit

    @property
    def attempt(self):
        """The number of the attempt that its claim makes."""
        return self.earlier_attempts + self.retry_count + 1

    @property
    def is_claimable(self):
        return self.status is Status.PENDING and not self.cancel_requested

    def columns(self, now):
        ready_in = round((self.available_at - now) / 100)
        counts = (self.retry_count, self.earlier_attempts, self.crash_count, self.doubts)
        rest = (self.token, self.worker, self.cancel_requested, ready_in)
        return (str(self.number), self.status.value, *counts, *rest)

    def take_away(self):
        self.token = self.worker = self.claimed_at = None

    def count(self):
        """Count an attempt; the last one fails the entry."""
        self.retry_count += 1
        self.give_back()
        if self.retry_count >= self.limit:
            self.end(Status.FAILED)

    def end(self, status):
        """It is completed or failed. A cancel came too late."""
        self.status, self.cancel_requested = status, False

    def give_back(self):
        """What a person has cancelled does not become pending."""
        self.status = Status.CANCELLED if self.cancel_requested else Status.PENDING


@dataclass(frozen=True)
class ModelHold:
    """A hold. Without an end it stands until it is deleted."""

    scope: str
    kind: HoldKind
    until: float | None = None

    def stands(self, now):
        return self.until is None or self.until > now


@dataclass
class ModelClaim:
    """One claim, also after it was lost."""

    token: str
    worker: str
    entries: list
    delivered: dict = field(default_factory=dict)


class QueueHistories(RuleBasedStateMachine):
    """The rules, and the model.

    Args:
        ground: the tables under test.
    """

    def __init__(self, ground):
        super().__init__()
        ground.clear()
        self.ground = ground
        self.now = 0.0
        self.entries = {}
        self.recorded = {}
        self.noted = {}
        self.claims = []
        self.workers = {name: f"dev-{name}-0" for name in "abc"}
        self.dead = {}
        self.killed = set()
        self.holds = []
        self.numbers = {}
        self.births = 0
        self.final = {}
        self.promised = set()

    def teardown(self):
        self.ground.end()

    # What producers and people do.

    @initialize(entries=st.integers(3, 5), max_retries=st.sampled_from([None, 1, 2]))
    def begin(self, entries, max_retries):
        self._insert(entries, max_retries=max_retries)

    @precondition(lambda self: len(self._in(Status.PENDING)) < MOST_PENDING)
    @rule(
        priority=st.sampled_from([0, 0, 1]),
        ready_in_s=st.sampled_from([0, 0, 200]),
        max_retries=st.sampled_from([None, 1, 5]),
        destination=st.sampled_from([HOME, HOME, ELSEWHERE]),
    )
    def insert(self, priority, ready_in_s, max_retries, destination):
        self._pass_time()
        self._insert(2, priority=priority, ready_in_s=ready_in_s, max_retries=max_retries, destination=destination)

    @precondition(lambda self: self._in(Status.FAILED) or self._in(Status.CANCELLED))
    @rule(pick=st.integers(0, 9), reset=st.sampled_from([True, True, False]))
    def requeue(self, pick, reset):
        """The action, or an UPDATE by hand that leaves the count, and a cancel that was requested."""
        self._pass_time()
        entry = self._pick(self._in(Status.FAILED) + self._in(Status.CANCELLED), pick)
        self.ground.requeue(str(entry.number), reset=reset)
        self.final.pop(entry.number, None)
        entry.status, entry.available_at = Status.PENDING, self.now
        if reset:
            entry.earlier_attempts += entry.retry_count
            entry.retry_count, entry.cancel_requested = 0, False

    @precondition(lambda self: len(self.claims) > 3)
    @rule(scope=st.sampled_from(["*", HOME, ELSEWHERE]), kind=st.sampled_from([HoldKind.PERSON, HoldKind.FENCE]))
    def place_or_delete_a_hold_by_hand(self, scope, kind):
        self._pass_time()
        if any(hold.until is None for hold in self.holds):
            self.ground.delete_holds_without_end()
            self.holds = [hold for hold in self.holds if hold.until is not None]
        else:
            self.ground.hold(scope, kind)
            self.holds.append(ModelHold(scope=scope, kind=kind))

    @precondition(lambda self: self._in(Status.PROCESSING) or len(self._in(Status.PENDING)) > 2)
    @rule(pick=st.integers(0, 9))
    def cancel(self, pick):
        """What is pending becomes cancelled; for what is processing it is requested."""
        self._pass_time()
        entry = self._pick(self._in(Status.PENDING) + self._in(Status.PROCESSING), pick)
        self.ground.cancel(str(entry.number))
        if entry.status is Status.PENDING:
            entry.status = Status.CANCELLED
        else:
            entry.cancel_requested = True

    # What workers do.

    @precondition(lambda self: self._in(Status.PENDING))
    @rule(
        name=st.sampled_from("abc"),
        entries=st.integers(1, 4),
        suspects=st.integers(1, 2),
        characters=st.sampled_from([1, 2, 1000]),
        probe=st.sampled_from([False, False, True]),
        alone=st.booleans(),
    )
    def claim(self, name, entries, suspects, characters, probe, alone):
        self._pass_time()
        worker = self.workers[name]
        request = ClaimRequest(
            token=f"token-{len(self.claims)}",
            entries=1 if probe else entries,
            characters=characters,
            suspects=suspects,
            nothing_in_hand=alone and not any(entry.worker == worker for entry in self._in(Status.PROCESSING)),
            probe=probe,
        )
        expected = self._block(request, destination_of(worker))
        taken = self.ground.store(worker).claim(request)
        again = {int(entry.data) for entry in taken} & self.promised
        assert not again, f"claimed again after a success on record: {again}"
        assert [entry.data for entry in taken] == [str(entry.number) for entry in expected]
        for entry in expected:
            entry.status, entry.token, entry.worker = Status.PROCESSING, request.token, worker
            entry.claimed_at = entry.tried_at = self.now
            self.numbers[entry.number, request.token] = entry.attempt
        self.claims.append(ModelClaim(token=request.token, worker=worker, entries=taken))

    @precondition(lambda self: self._busy())
    @rule(pick=st.integers(0, 2))
    def look(self, pick):
        self._pass_time()
        worker = self._pick(self._busy(), pick)
        mine = [entry for entry in self._in(Status.PROCESSING) if entry.worker == worker]
        seen = self.ground.store(worker).look(sorted({entry.token for entry in mine}))
        assert seen.hold == any(hold.stands(self.now) for hold in self._obeyed(destination_of(worker)))
        numbers = {entry.id: int(entry.data) for claim in self.claims for entry in claim.entries}
        found = sorted((numbers[key.entry_id], key.claim_token) for key in seen.cancelled)
        assert found == [(entry.number, entry.token) for entry in mine if entry.cancel_requested]

    @precondition(lambda self: self._of_the_living())
    @rule(
        pick=st.integers(0, 9),
        ends=st.lists(st.sampled_from([*OUTCOMES, "succeeded", "never started"]), min_size=1, max_size=4),
        twice=st.booleans(),
    )
    def settle(self, pick, ends, twice):
        """Settle some entries of a claim, also of one that was lost meanwhile, or whose worker ECS calls stopped."""
        self._pass_time()
        claim = self._pick(self._of_the_living(), pick)
        deliveries = self._deliveries(claim, ends)
        lost = {d.entry.id for d in deliveries if not self._is_ours(d)}
        for _ in range(1 + twice):
            assert self._settled(claim, deliveries) == lost
        self._record(claim, deliveries)
        for delivery in deliveries:
            self._end(delivery)

    @precondition(lambda self: self._of_the_living())
    @rule(pick=st.integers(0, 9), ends=st.lists(st.sampled_from([*OUTCOMES, "succeeded"]), min_size=1, max_size=4))
    def die_between_attempts_and_settle(self, pick, ends):
        """The worker writes what it did to the audit trail, and is killed before it settles."""
        self._pass_time()
        claim = self._pick(self._of_the_living(), pick)
        deliveries = self._deliveries(claim, ends)
        with self.ground.killed_after("insert_attempts"):
            self._settled(claim, deliveries)
        self._record(claim, deliveries)
        self._die(claim.worker, crashed=True)
        self.killed.add(claim.worker)

    @precondition(lambda self: self._busy())
    @rule(pick=st.integers(0, 2), how=st.sampled_from([{"crashed": True}, {"counted": True}, {}]))
    def crash(self, pick, how):
        self._die(self._pick(self._busy(), pick), **how)

    @precondition(lambda self: self.holds or len(self.claims) > 3)
    @rule(name=st.sampled_from("aac"))
    def place_or_lift_holds(self, name):
        self._pass_time()
        worker = self.workers[name]
        store, obeyed = self.ground.store(worker), self._obeyed(destination_of(worker))
        if obeyed:
            store.lift_ended_holds()
            self.holds = [hold for hold in self.holds if hold not in obeyed or hold.stands(self.now)]
        else:
            store.place_hold(reason="refused", seconds=HOLD_S)
            scope, until = destination_of(worker), self.now + HOLD_S
            self.holds.append(ModelHold(scope=scope, kind=HoldKind.CREDENTIALS, until=until))

    # What the poller does, and the clock.

    @precondition(lambda self: self._in(Status.PROCESSING) or self._nobody_takes())
    @rule(statements=st.sampled_from([1, 2, 3, 4, 5, 6, 6, 6, 6]))
    def tick(self, statements):
        """A tick ends what no claim would take, frees what dead workers have in hand, and resets stale claims.

        It may end after each of its statements.
        """
        self._pass_time()
        deaths = self._deaths()
        duties = (
            self._fail_exhausted,
            lambda: self._record_deaths(deaths),
            lambda: self._fail_poison(deaths),
            lambda: self._release_dead(deaths),
            self._reset_stale,
            self._end_cancelled,
        )
        for duty in duties[:statements]:
            duty()

    @precondition(lambda self: self._in(Status.PROCESSING) or self._in(Status.PENDING))
    @rule(seconds=st.sampled_from([300, 300, 3000]))
    def jump(self, seconds):
        """The clock jumps: a warehouse that was suspended, a night, a tick that was late."""
        self.ground.jump(seconds)
        self.now += seconds

    # What must be true after each step.

    @invariant()
    def the_tables_are_as_the_model_says(self):
        assert self.ground.rows() == [entry.columns(self.now) for entry in self.entries.values()]

    @invariant()
    def the_trail_has_each_delivery_once(self):
        recorded = [(key, outcome, False) for key, (outcome, _) in self.recorded.items()]
        noted = [(key, word, True) for key, word in self.noted.items()]
        expected = [(str(key[0]), key[1], self.numbers[key], word, by) for key, word, by in recorded + noted]
        assert sorted(self.ground.trail()) == sorted(expected)

    @invariant()
    def the_holds_are_those_that_were_placed_and_not_removed(self):
        assert sorted(self.ground.holds()) == sorted((hold.scope, hold.kind.value) for hold in self.holds)

    @invariant()
    def what_has_ended_never_changes(self):
        for number, status in self.final.items():
            assert self.entries[number].status is status
        for entry in self.entries.values():
            if entry.status in {Status.COMPLETED, Status.CANCELLED}:
                self.final[entry.number] = entry.status

    @invariant()
    def a_success_on_record_never_fails(self):
        failed = [number for number in self.promised if self.entries[number].status is Status.FAILED]
        assert not failed

    # The poller's duties.

    def _deaths(self):
        """The dead that have entries in hand, with these entries."""
        deaths = []
        since = self.ground.claimed_since() if self.dead else {}
        for worker, death in self.dead.items():
            if in_hand := [entry for entry in self._in(Status.PROCESSING) if entry.worker == worker]:
                alone = death.crashed and len(in_hand) == 1
                deaths.append((replace(death, alone=alone, claimed_since=since.get(worker)), in_hand))
        return deaths

    def _fail_exhausted(self):
        exhausted = [entry for entry in self.entries.values() if entry.exhausted]
        if exhausted:
            assert self.ground.poller.fail_exhausted() == len(exhausted)
        for entry in exhausted:
            entry.end(Status.FAILED)

    def _record_deaths(self, deaths):
        if deaths:
            self.ground.poller.record_deaths([death for death, _ in deaths])
        for death, in_hand in deaths:
            for entry in in_hand:
                word = AttemptOutcome.CRASHED if death.crashed else AttemptOutcome.INTERRUPTED
                self._note(entry, word)

    def _fail_poison(self, deaths):
        self.ground.poller.fail_poison([death for death, _ in deaths if death.alone], max_crashes=MOST_CRASHES)
        for death, in_hand in deaths:
            for entry in in_hand:
                kept = (entry.number, entry.token) in self.recorded
                if death.alone and entry.crash_count >= MOST_CRASHES and not kept:
                    entry.end(Status.FAILED)
                    entry.crash_count += 1

    def _release_dead(self, deaths):
        if deaths:
            self.ground.poller.release_dead([death for death, _ in deaths])
        for death, in_hand in deaths:
            for entry in in_hand:
                if entry.status is Status.PROCESSING and not self._settled_by_trail(entry):
                    entry.crash_count += death.crashed
                    entry.give_back()
                    if death.counted:
                        entry.count()
                    entry.take_away()

    def _reset_stale(self):
        stale = [entry for entry in self._in(Status.PROCESSING) if entry.claimed_at < self.now - STALE_S]
        assert self.ground.poller.reset_stale(stale_threshold_s=STALE_S) == len(stale)
        for entry in stale:
            self._note(entry, AttemptOutcome.RESET)
            if not self._settled_by_trail(entry):
                entry.count()
                entry.take_away()

    def _end_cancelled(self):
        cancelled = [entry for entry in self._in(Status.PENDING) if entry.cancel_requested]
        if cancelled:
            assert self.ground.poller.end_cancelled() == len(cancelled)
        for entry in cancelled:
            entry.status = Status.CANCELLED

    # The model.

    def _nobody_takes(self):
        """Pending entries that no claim takes."""
        return [entry for entry in self._in(Status.PENDING) if entry.exhausted or entry.cancel_requested]

    def _obeyed(self, destination):
        """The holds that stop the workers of a destination."""
        return [hold for hold in self.holds if hold.scope in {"*", destination}]

    def _insert(self, entries, *, priority=0, ready_in_s=0, max_retries=None, destination=HOME):
        first = len(self.entries) + 1
        numbers = range(first, first + entries)
        columns = {"priority": priority, "max_retries": max_retries, "destination": destination}
        self.ground.insert([str(number) for number in numbers], ready_in_s=ready_in_s, **columns)
        for number in numbers:
            self.entries[number] = ModelEntry(
                number=number,
                available_at=self.now + ready_in_s,
                destination=destination,
                priority=priority,
                limit=LIMIT if max_retries is None else max_retries,
            )

    def _pass_time(self):
        self.now += STEP_S
        self.ground.at(self.now)

    def _in(self, status):
        return [entry for entry in self.entries.values() if entry.status is status]

    @staticmethod
    def _pick(choices, number):
        """One of the latest: histories of the same entry find more than entries that are soon forgotten."""
        return choices[-1 - number % len(choices)]

    def _block(self, request, destination):
        """What a claim must take: the best ready entries of one kind."""
        if any(not request.probe or hold.stands(self.now) for hold in self._obeyed(destination)):
            return []
        ready = [
            entry
            for entry in self._in(Status.PENDING)
            if entry.is_claimable
            and entry.destination == destination
            and entry.available_at <= self.now
            and entry.retry_count < entry.limit
            and (request.nothing_in_hand or not entry.crash_count)
        ]
        ready.sort(key=lambda entry: (-entry.priority, entry.available_at, entry.number))
        if request.probe:
            ready.sort(key=lambda entry: entry.tried_at)
        if not ready:
            return []
        kind = min(ready[0].crash_count, 2)
        most = (request.entries, request.suspects, 1)[kind]
        same = list(takewhile(lambda entry: min(entry.crash_count, 2) == kind, ready))[:most]
        lengths = [sum(len(str(entry.number)) for entry in same[:number]) for number in range(len(same))]
        return [entry for entry, before in zip(same, lengths, strict=True) if before < request.characters]

    @staticmethod
    def _deliveries(claim, ends):
        """How the first entries of a claim ended. A worker delivers each once, and does not change its mind."""
        for entry, end in zip(claim.entries, ends, strict=False):
            outcome = OUTCOMES.get(end, OUTCOMES["interrupted"])
            began = None if end == "never started" else 1.0
            claim.delivered.setdefault(entry.id, Delivery(entry=entry, outcome=outcome, began=began, ended=2.0))
        return [claim.delivered[entry.id] for entry in claim.entries[: len(ends)]]

    def _settled(self, claim, deliveries):
        settlements = [settlement_for(d.entry, d.outcome, POLICY, random=lambda: 1.0) for d in deliveries]
        return self.ground.store(claim.worker).settle(settlements, attempts_of(deliveries, settlements, now=3.0))

    def _is_ours(self, delivery):
        """Whether the row is still, or was last, of this claim, and has or gets the status that is settled."""
        entry = self.entries[int(delivery.entry.data)]
        if entry.token != delivery.entry.claim_token:
            return False
        settlement = settlement_for(delivery.entry, delivery.outcome, POLICY, random=lambda: 1.0)
        cancelled = {Status.CANCELLED} if settlement.status is Status.PENDING else set()
        return entry.status in {Status.PROCESSING, settlement.status, *cancelled}

    def _record(self, claim, deliveries):
        """The audit trail gets the attempts that were made, also where the poller has noted how the claim ended."""
        for delivery in deliveries:
            if delivery.began is None:
                continue
            outcome = next(word for word, value in OUTCOMES.items() if value == delivery.outcome)
            entry = self.entries[int(delivery.entry.data)]
            self.recorded.setdefault((entry.number, claim.token), (outcome, self.now))
            if outcome == "succeeded" and entry.status is Status.PROCESSING and entry.token == claim.token:
                self.promised.add(entry.number)

    def _note(self, entry, word):
        """The poller notes how a claim ended, unless an attempt of it is on record."""
        if (entry.number, entry.token) not in self.recorded:
            self.noted.setdefault((entry.number, entry.token), word.value)

    def _end(self, delivery):
        """A settle changes what the claim still has in hand."""
        entry = self.entries[int(delivery.entry.data)]
        if entry.token == delivery.entry.claim_token and entry.status is Status.PROCESSING:
            self._settle_entry(entry, delivery.outcome, at=self.now)

    @staticmethod
    def _settle_entry(entry, outcome, *, at):
        """The page of outcomes."""
        match outcome:
            case Succeeded():
                entry.end(Status.COMPLETED)
            case Permanent():
                entry.end(Status.FAILED)
                entry.retry_count += 1
            case Transient():
                delay_s = 100 * 2**entry.retry_count
                entry.count()
                if entry.status is not Status.FAILED:
                    entry.available_at = at + delay_s
            case Interrupted() | Doubted():
                entry.doubts += isinstance(outcome, Doubted)
                entry.give_back()
                entry.worker = entry.claimed_at = None

    def _settled_by_trail(self, entry):
        """Whoever takes a claim away settles what its worker has recorded."""
        if (entry.number, entry.token) not in self.recorded:
            return False
        outcome, at = self.recorded[entry.number, entry.token]
        self._settle_entry(entry, OUTCOMES[outcome], at=at)
        if entry.worker is None:
            entry.take_away()
        return True

    def _of_the_living(self):
        """The claims whose workers may still write."""
        return [claim for claim in self.claims if claim.entries and claim.worker not in self.killed]

    def _busy(self):
        """The living workers that have entries in hand."""
        in_hand = {entry.worker for entry in self._in(Status.PROCESSING)}
        return [worker for worker in self.workers.values() if worker in in_hand]

    def _die(self, worker, *, crashed=False, counted=False):
        death = Death(processor_id=worker, reason="the task has stopped", crashed=crashed, counted=counted)
        self.dead.setdefault(worker, death)
        name = worker.split("-")[1]
        if self.workers[name] == worker:
            self.births += 1
            self.workers[name] = f"dev-{name}-{self.births}"
