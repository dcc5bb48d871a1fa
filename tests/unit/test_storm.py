"""The drill storm without a stack: its plan follows from the seed, and its judge can find each kind of damage."""

from __future__ import annotations

import ast
import inspect
import json
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest

from rowqueue.contract import AttemptOutcome, ExitCode
from rowqueue.lifecycle import Status
from rowqueue.processor.exchange import Meaning, meaning_of
from rowqueue.sql import statements
from rowqueue_local.drills import storm_faults, storm_judge
from rowqueue_local.drills.storm import are_enough, examples, verdict
from rowqueue_local.drills.storm_faults import StormFaults, Watcher, effect_of, injections
from rowqueue_local.drills.storm_judge import (
    Aftermath,
    Damage,
    FinalRow,
    Freeze,
    LoggedDelivery,
    RecordedAttempt,
    Taking,
    TaskLife,
    judge,
)
from rowqueue_local.drills.storm_plan import BY_A_PERSON, FaultKind, plan
from rowqueue_local.snowflake.proxy import Proxy, Sent

WORKER, OTHER = "dev-" + "a" * 32, "dev-" + "b" * 32

# The plan.


def test_the_plan_is_a_function_of_the_seed_and_the_minutes():
    assert plan(7, 2.0) == plan(7, 2.0)
    assert plan(7, 2.0) != plan(8, 2.0)
    assert plan(7, 2.0).faults != plan(8, 2.0).faults
    behaviours = [[entry.behaviour for batch in plan(seed, 0.1).batches for entry in batch.entries] for seed in (7, 8)]
    assert behaviours[0] != behaviours[1]


def test_ten_minutes_have_all_kinds_and_more_than_twice_the_faults_that_are_asked_for():
    planned = plan(3, 10.0)
    kinds = Counter(fault.kind for fault in planned.faults)
    assert set(kinds) == set(FaultKind)
    assert len(planned.faults) > 300
    assert max(kinds.values()) - min(kinds.values()) <= 1, "rounds, so that no kind is rare"


@pytest.mark.parametrize(("minutes", "least", "most"), [(1.0, 5_000, 5_000), (10.0, 10_000, 10_000), (0.1, 400, 600)])
def test_a_storm_has_at_least_5000_entries_from_a_minute_on(minutes, least, most):
    planned = plan(5, minutes)
    assert least <= planned.entries <= most
    keys = [entry.key for batch in planned.batches for entry in batch.entries]
    assert len(set(keys)) == len(keys) == planned.entries


@pytest.mark.parametrize("seed", range(5))
def test_nothing_is_planned_after_the_end_and_no_fault_lasts_longer_than_the_storm(seed):
    planned = plan(seed, 0.5)
    assert all(fault.at_s > 0 and fault.at_s + fault.lasts_s <= 30.0 for fault in planned.faults)
    assert all(batch.at_s < 30.0 for batch in planned.batches)
    assert [fault.at_s for fault in planned.faults] == sorted(fault.at_s for fault in planned.faults)


def test_entries_differ_in_priority_in_time_and_in_what_the_partner_does():
    entries = [entry for batch in plan(1, 1.0).batches for entry in batch.entries]
    assert len({entry.priority for entry in entries}) > 2
    assert 0.05 < sum(entry.after_s > 0 for entry in entries) / len(entries) < 0.15
    answered_200 = sum(not {"status", "hang_up"} & entry.behaviour.keys() for entry in entries)
    assert answered_200 / len(entries) > 0.8


# The faults.


def test_every_kind_of_fault_can_be_caused():
    named = set(storm_faults._INJECTED) | set(storm_faults._CUTS) | set(storm_faults._ON_A_TASK)
    others = {
        FaultKind.NEW_REVISION,
        FaultKind.PUSH_DOUBLED,
        FaultKind.CERTIFICATE_AWAY,
        FaultKind.SNOWFLAKE_AWAY,
        FaultKind.SESSIONS_LOST,
        FaultKind.LOGIN_REFUSED,
    }
    assert named | others == set(FaultKind)
    assert not named & others


def test_the_statements_that_faults_name_exist():
    named = storm_faults.CLAIM | storm_faults.ATTEMPTS | storm_faults.SETTLE | storm_faults.RESCUE
    assert named <= statements(queue="Q").keys()


def test_two_refusals_are_in_force_together_and_a_fault_that_ended_is_reset():
    both = injections([FaultKind.RUN_TASK_THROTTLED, FaultKind.LIST_TASKS_REFUSED])
    assert set(both["refuse"]) == {"RunTask", "ListTasks"}
    assert both["unplaced"] is None
    assert set(injections([]).values()) == {None}


def test_an_effect_has_the_name_that_the_stand_in_counts():
    assert effect_of(FaultKind.RUN_TASK_THROTTLED) == "refuse.RunTask"
    assert effect_of(FaultKind.EVENTS_LATE) == "events.delay_seconds"
    assert effect_of(FaultKind.S3_AWAY) == "away"


def test_the_watcher_knows_which_task_uses_a_session_and_when_claims_were_taken_away():
    texts = {name: statement.text for name, statement in statements(queue="PROCESSING_QUEUE").items()}
    watcher = Watcher()
    watcher.observe(Sent(path="/q", text=texts["claim"], values=("5", WORKER), session="s1"))
    watcher.observe(Sent(path="/q", text=texts["pulse"], session="s2"))
    watcher.observe(Sent(path="/q", text=texts["record_deaths"], session="s2"))
    assert watcher.workers == {"s1": "a" * 32, "s2": ""}
    release = Sent(path="/q", text=texts["release_dead"], values=("5", json.dumps([{"processor_id": WORKER}])))
    watcher.observe(release)
    assert watcher.takings == [], "it may be cut before Snowflake"
    watcher.ran(release, 7.0)
    watcher.ran(Sent(path="/q", text=texts["fail_poison"], values=("[]",)), 8.0)
    watcher.ran(Sent(path="/q", text=texts["reset_stale"], values=("5", "1800")), 9.0)
    assert watcher.takings == [Taking(at=7.0, workers=[WORKER]), Taking(at=9.0, workers=None)]


@pytest.mark.parametrize(
    ("faults", "minutes", "enough"),
    [
        ({"kill": 2}, 0.2, False),
        ({"kill": 1, "freeze": 1}, 0.2, True),
        ({f"kind {n}": 9 for n in range(11)}, 9.0, False),
        ({f"kind {n}": 9 for n in range(12)}, 10.0, True),
        ({f"kind {n}": 8 for n in range(12)}, 10.0, False),
    ],
)
def test_a_storm_needs_ten_faults_a_minute_of_twelve_kinds(faults, minutes, enough):
    assert are_enough(faults, minutes) is enough


def test_the_promise_is_kept_only_without_damage_and_with_enough_faults():
    planned, quiet, damaged = plan(1, 0.2), aftermath(), aftermath(rows=[])
    enough, few = Counter({FaultKind.KILL: 1, FaultKind.FREEZE: 1}), Counter({FaultKind.KILL: 2})
    assert verdict(planned, quiet, enough).kept
    assert not verdict(planned, quiet, few).kept
    assert not verdict(planned, damaged, enough).kept
    assert not verdict(planned, damaged, few).kept
    figures = verdict(planned, damaged, enough).figures
    assert (figures["lost"], figures["faults_total"], figures["faults"]) == (1, 2, {"freeze": 1, "kill": 1})


def causing(**stage):
    """The faults of a storm on a stage of which only this much exists."""
    return StormFaults(SimpleNamespace(**stage), Proxy(), Watcher())


def test_a_new_revision_counts_only_if_a_task_of_it_was_launched():
    tasks = [{"id": "1", "status": "STOPPED", "task_definition": "processor:2"}]
    faults = causing(stack=SimpleNamespace(launches=lambda: {"tasks": tasks}))
    faults._revisions.extend(["processor:2", "processor:3"])
    faults.finish()
    assert faults.counts == {FaultKind.NEW_REVISION: 1}


def test_a_doubled_push_counts_only_if_both_notifications_caused_a_tick():
    ticks = [{"by": "push"}, {"by": "schedule"}]
    were_two = causing(ticks=lambda: ticks)._counter_of_pushes()
    ticks += [{"by": "push"}, {"by": "schedule"}]
    assert not were_two()
    ticks.append({"by": "push"})
    assert were_two()


def test_a_fault_of_the_stand_in_counts_only_if_it_was_met_since_it_began():
    met = {"not_found:/b/k": 1}
    was_met = causing(stack=SimpleNamespace(met=lambda: met))._counter_of("not_found:/b/k")
    assert not was_met()
    met["not_found:/b/k"] = 2
    assert was_met()


# The judge.


def row(**changed):
    return replace(FinalRow(id=1, key="k1", status="completed", retry_count=0, limit=5), **changed)


def attempt(outcome, *, entry=1, token="t1", started=8.5, at=10.0, worker=WORKER, status=None):
    return RecordedAttempt(
        entry_id=entry,
        claim_token=token,
        processor_id=worker,
        outcome=outcome,
        response_status=status,
        started_at=started,
        recorded_at=at,
    )


def delivery(*, at=9.0, status=200, seconds=0.1):
    return LoggedDelivery(key="k1", began_at=at, status=status, seconds=None if status is None else seconds)


def life(worker=WORKER, *, began=0.0, ended=100.0, code=0, stop="EssentialContainerExited", why=None):
    return TaskLife(
        processor_id=worker, began_at=began, ended_at=ended, exit_code=code, stop_code=stop, stopped_reason=why
    )


def aftermath(**left):
    """What a storm with one entry left, which was completed at once unless something else is given."""
    quiet = {
        "keys": ["k1"],
        "rows": [row()],
        "attempts": [attempt(AttemptOutcome.SUCCEEDED, status=200)],
        "deliveries": [delivery()],
        "tasks": [life()],
        "takings": [],
        "freezes": [],
        "late_after_s": 4.0,
        "stale_after_s": 1_800.0,
        "max_crashes": 2,
        "max_containers": 1,
    }
    return Aftermath(**{**quiet, **left})


def taking(at, worker=WORKER):
    return Taking(at=at, workers=[worker])


def damage(**left):
    return judge(aftermath(**left))


def failed(*attempts, status=503, deliveries=5, **changed):
    answered = [delivery(at=float(n), status=status) for n in range(deliveries)]
    return damage(rows=[row(status="failed", **changed)], attempts=list(attempts), deliveries=answered)


def transient(number):
    return attempt(AttemptOutcome.TRANSIENT, token=f"t{number}", status=503)


def test_no_damage():
    assert damage() == Damage()
    assert damage().is_none


def test_a_row_that_vanished_or_has_not_ended_is_lost():
    assert damage(rows=[], attempts=[]) == Damage(lost=1)
    for status in ("pending", "processing"):
        assert damage(rows=[row(status=status)], attempts=[]) == Damage(lost=1)


def test_a_failed_row_is_lost_unless_the_partner_refused_it_or_its_attempts_are_used_up():
    assert failed().lost == 1
    assert failed(attempt(AttemptOutcome.PERMANENT, status=400), status=400).lost == 0
    assert failed(attempt(AttemptOutcome.PERMANENT, status=400), status=200).lost == 1, "the partner never said so"
    assert failed(*map(transient, range(5)), retry_count=5).lost == 0
    assert failed(*map(transient, range(4)), retry_count=5).lost == 1, "one of five has no reason"
    assert failed(*map(transient, range(4)), retry_count=4).lost == 1, "one was left"


def test_a_completed_row_is_lost_if_the_partner_never_accepted_it():
    assert damage(deliveries=[delivery(status=503), delivery(status=None)]) == Damage(lost=1)
    assert damage(deliveries=[]) == Damage(lost=1)
    assert damage(deliveries=[delivery(status=204)]) == Damage()
    assert damage(deliveries=[delivery(status=302)]) == Damage(lost=1)


def test_two_successes_on_record():
    twice = [attempt(AttemptOutcome.SUCCEEDED), attempt(AttemptOutcome.SUCCEEDED, token="t2", at=20.0)]
    assert damage(attempts=twice) == Damage(recorded_twice=1)


def test_a_success_on_record_of_a_row_that_is_not_completed():
    assert damage(rows=[row(status="failed")]) == Damage(lost=1, succeeded_then_failed=1)
    assert damage(rows=[row(status="cancelled")]).succeeded_then_failed == 1


def test_a_delivery_after_the_success_was_on_record():
    again = [delivery(), delivery(at=11.0)]
    assert damage(deliveries=again) == Damage(redelivered_after_recorded_success=1)
    assert damage(deliveries=[delivery(), delivery(at=9.9)]) == Damage(), "it was not on record yet"


@pytest.mark.parametrize(
    ("outcome", "takings", "redelivered"),
    [
        (AttemptOutcome.CRASHED, [taking(9.0)], 0),  # taken away, then the success came
        (AttemptOutcome.CRASHED, [taking(12.0)], 1),  # the success came between the poller's two statements
        (AttemptOutcome.CRASHED, [taking(7.0)], 1),  # the statement was about other claims
        (AttemptOutcome.CRASHED, [taking(9.0, OTHER)], 1),  # it took the claims of another worker
        (AttemptOutcome.CRASHED, [Taking(at=9.0, workers=None)], 1),  # it took stale claims, and this one was none
        (AttemptOutcome.RESET, [Taking(at=9.0, workers=None)], 0),
        (AttemptOutcome.CRASHED, [], 1),
    ],
)
def test_a_success_that_came_after_its_claim_was_taken_away_is_no_fault(outcome, takings, redelivered):
    trail = [attempt(AttemptOutcome.SUCCEEDED), attempt(outcome, at=8.0)]
    found = damage(attempts=trail, deliveries=[delivery(), delivery(at=11.0)], takings=takings)
    assert found.redelivered_after_recorded_success == redelivered


def test_the_note_about_another_claim_does_not_excuse_a_redelivery():
    trail = [attempt(AttemptOutcome.SUCCEEDED), attempt(AttemptOutcome.CRASHED, token="t0", at=3.0)]
    found = damage(attempts=trail, deliveries=[delivery(), delivery(at=11.0)], takings=[taking(4.0)])
    assert found.redelivered_after_recorded_success == 1


@pytest.mark.parametrize(
    ("outcome", "status", "code", "wrong"),
    [
        (AttemptOutcome.TRANSIENT, 503, 0, 0),
        (AttemptOutcome.TRANSIENT, 500, 0, 1),  # the partner answered 503, never 500
        (AttemptOutcome.INTERRUPTED, None, 0, 1),
        (AttemptOutcome.CRASHED, None, 137, 1),
        (AttemptOutcome.CRASHED, None, 139, 1),
        (AttemptOutcome.CRASHED, None, 143, 1),
        (AttemptOutcome.PERMANENT, 503, 0, 1),  # 503 is transient
        (AttemptOutcome.INTERRUPTED, None, 6, 0),
        (AttemptOutcome.SUCCEEDED, 200, 6, 1),
    ],
)
def test_an_attempt_that_was_counted_needs_a_reason(outcome, status, code, wrong):
    trail = [attempt(outcome, status=status), attempt(AttemptOutcome.SUCCEEDED, token="t2", worker=OTHER)]
    found = damage(
        rows=[row(retry_count=1)], attempts=trail, deliveries=[delivery(status=503)], tasks=[life(code=code)]
    )
    assert found.retries_wrongly_spent == wrong


def test_the_judge_uses_nothing_of_the_product():
    imported = [
        name
        for node in ast.walk(ast.parse(inspect.getsource(storm_judge)))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
    ]
    assert imported
    assert not [name for name in imported if name.partition(".")[0] == "rowqueue"]


def test_the_judge_has_the_words_and_the_number_of_the_product():
    assert set(storm_judge._COUNTED) | storm_judge._BY_POLLER | {"succeeded", "doubtful"} == set(AttemptOutcome)
    assert [code for code in ExitCode if ExitCode.counts_as_retry(code)] == [storm_judge._COUNTED_EXIT]
    assert {storm_judge._COMPLETED, storm_judge._FAILED} < set(Status)


def test_the_judge_and_the_product_have_the_same_page_of_outcomes():
    refused = {Meaning.PERMANENT, Meaning.CREDENTIALS, Meaning.CERTIFICATE}  # permanent once credentials were accepted
    meanings = {status: meaning_of(status) for status in range(200, 600)}
    assert {
        "transient": {None} | {status for status, meaning in meanings.items() if meaning is Meaning.TRANSIENT},
        "permanent": {status for status, meaning in meanings.items() if meaning in refused},
    } == storm_judge._COUNTED


def test_an_attempt_that_was_counted_twice_is_wrongly_spent_once():
    answered = [delivery(at=1.0, status=503), delivery()]
    found = damage(rows=[row(retry_count=2)], attempts=[transient(1)], deliveries=answered)
    assert found == Damage(retries_wrongly_spent=1)


@pytest.mark.parametrize(
    ("delivered", "frozen", "wrong"),
    [
        (delivery(), [], 1),  # the partner answered 200 in time: an interruption was counted
        (delivery(status=None), [], 0),
        (delivery(seconds=4.5), [], 0),
        (delivery(), [Freeze(processor_id=WORKER, began_at=9.0, ended_at=9.5)], 0),
        (delivery(), [Freeze(processor_id=WORKER, began_at=9.0, ended_at=None)], 0),
        (delivery(), [Freeze(processor_id=OTHER, began_at=9.0, ended_at=9.5)], 1),
        (delivery(), [Freeze(processor_id=WORKER, began_at=10.5, ended_at=11.0)], 1),
        (delivery(), [Freeze(processor_id=WORKER, began_at=-9.0, ended_at=-8.0)], 1),
    ],
)
def test_no_answer_counts_only_if_the_partner_gave_none_or_the_worker_was_frozen(delivered, frozen, wrong):
    trail = [attempt(AttemptOutcome.TRANSIENT), attempt(AttemptOutcome.SUCCEEDED, token="t2", at=20.0)]
    found = damage(rows=[row(retry_count=1)], attempts=trail, deliveries=[delivered, delivery(at=15.0)], freezes=frozen)
    assert found == Damage(retries_wrongly_spent=wrong)


def test_one_delivery_without_an_answer_is_a_reason_once():
    answered = [delivery(status=None), delivery(at=15.0)]
    twice = [attempt(AttemptOutcome.TRANSIENT, token=token) for token in ("t1", "t2")]
    assert damage(rows=[row(retry_count=2)], attempts=twice, deliveries=answered).retries_wrongly_spent == 1
    doubted = [attempt(AttemptOutcome.DOUBTFUL), attempt(AttemptOutcome.TRANSIENT, token="t2", at=11.0)]
    assert damage(rows=[row(retry_count=1)], attempts=doubted, deliveries=answered).retries_wrongly_spent == 1


@pytest.mark.parametrize(("claimed", "wrong"), [(5_000.0, 1), (3_201.0, 1), (3_200.0, 0)])
def test_a_reset_of_a_claim_that_was_not_stale_is_wrongly_spent(claimed, wrong):
    trail = [attempt(AttemptOutcome.RESET, started=claimed, at=5_000.0)]
    assert damage(rows=[row(retry_count=1)], attempts=trail).retries_wrongly_spent == wrong


def test_a_live_worker_that_is_robbed_three_times_is_seen():
    resets = [attempt(AttemptOutcome.RESET, token=f"t{at}", started=at - 9.0, at=at) for at in (10.0, 20.0, 30.0)]
    trail = [*resets, attempt(AttemptOutcome.SUCCEEDED, token="t4", at=40.0, status=200)]
    assert damage(rows=[row(retry_count=3)], attempts=trail) == Damage(retries_wrongly_spent=3)


def crashes(number, *, code=137, stop="EssentialContainerExited", why=None, other_entries=0):
    """What is left of a failed entry that workers died on; the last one had other entries in hand, too, if any."""
    workers = [f"dev-{n:032x}" for n in range(number)]
    trail = [
        attempt(AttemptOutcome.CRASHED, token=f"t{n}", at=10.0 + n, worker=worker) for n, worker in enumerate(workers)
    ]
    trail += [attempt(AttemptOutcome.CRASHED, entry=2 + n, worker=workers[-1]) for n in range(other_entries)]
    lives = [life(worker, began=n, ended=n + 1, code=code, stop=stop, why=why) for n, worker in enumerate(workers)]
    return damage(rows=[row(status="failed")], attempts=trail, tasks=lives)


def test_an_entry_fails_as_poison_only_after_three_crashes_and_the_last_one_alone():
    assert crashes(3) == Damage()
    assert crashes(4) == Damage()
    assert crashes(3, code=1) == Damage(), "a fault of the program is a crash"
    assert crashes(2).lost == 1
    assert crashes(3, other_entries=1).lost == 1, "the last worker may have died on another entry"


@pytest.mark.parametrize("code", [0, 2, 3, 4, 5, 6, None])
def test_a_worker_that_decided_to_end_or_never_ran_makes_no_poison(code):
    assert crashes(3, code=code).lost == 1


def test_a_stop_by_a_person_or_by_spot_makes_no_poison_and_one_by_the_poller_does():
    assert crashes(3, stop="UserInitiated", why=BY_A_PERSON).lost == 1
    assert crashes(3, stop="SpotInterruption", why="Your Spot Task was interrupted.").lost == 1
    assert crashes(3, stop="UserInitiated", why="it has made no claim for 20 s") == Damage()


def test_a_claim_that_died_once_and_is_noted_three_times_makes_no_poison():
    trail = [attempt(AttemptOutcome.CRASHED, at=at) for at in (10.0, 11.0, 12.0)]
    assert damage(rows=[row(status="failed")], attempts=trail, tasks=[life(code=137)]).lost == 1


def test_a_success_on_record_is_never_poison():
    trail = [attempt(AttemptOutcome.CRASHED, token=f"t{n}", at=10.0 + n) for n in range(3)]
    trail.append(attempt(AttemptOutcome.SUCCEEDED, token="t2", at=11.5, status=200))
    found = damage(rows=[row(status="failed")], attempts=trail, tasks=[life(code=137)])
    assert found == Damage(succeeded_then_failed=1)


def test_a_claim_is_counted_once_even_if_two_attempts_of_it_are_on_record():
    trail = [attempt(AttemptOutcome.TRANSIENT, status=503), attempt(AttemptOutcome.RESET, started=-2_000.0, at=11.0)]
    answered = [delivery(status=503), delivery()]
    assert damage(rows=[row(retry_count=2)], attempts=trail, deliveries=answered).retries_wrongly_spent == 1


def test_the_reason_of_a_claim_stays_a_reason_when_the_poller_adds_an_attempt():
    trail = [attempt(AttemptOutcome.TRANSIENT, status=503), attempt(AttemptOutcome.CRASHED, at=11.0)]
    answered = [delivery(status=503), delivery()]
    assert damage(rows=[row(retry_count=1)], attempts=trail, deliveries=answered) == Damage()


def test_an_example_tells_what_happened_to_the_entry_in_order():
    trail = [attempt(AttemptOutcome.SUCCEEDED, status=200, at=20.0), attempt(AttemptOutcome.CRASHED, token="t0")]
    left = aftermath(rows=[row(status="failed")], attempts=trail, tasks=[])
    heading, lost, _ = examples(left)
    assert lost == ("lost", "k1", "failed, 0 counted: crashed  by aaaaaa, succeeded 200 by aaaaaa")
    assert len(heading) == len(lost)
    assert examples(aftermath()) == []
    assert examples(aftermath(rows=[])) == [heading, ("lost", "k1", "")]


def test_the_cap_counts_launches_beyond_it_until_the_task_is_stopped():
    assert damage(tasks=[life(began=0, ended=5), life(OTHER, began=5, ended=9)]) == Damage(), "at the same moment"
    assert damage(tasks=[life(began=0, ended=6), life(OTHER, began=5, ended=9)]).cap_exceeded == 1
    assert damage(tasks=[life(began=0, ended=None), life(OTHER, began=5), life("c", began=6)]).cap_exceeded == 2
    assert damage(tasks=[life(began=0, ended=5, code=None), life(OTHER, began=6)]) == Damage(), "it never ran"
