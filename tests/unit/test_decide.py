"""What a tick decides from what it has observed."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from poller_played import ENVIRON, NAIVE, NOW

from rowqueue.poller.backoff import Backoff
from rowqueue.poller.decide import Decision, HoldState, Need, Observation, decide
from rowqueue.poller.fleet import Fleet, Task
from rowqueue.poller.records import Pulse
from rowqueue.settings import LARGEST_BLOCK, PollerSettings

SETTINGS = PollerSettings.from_env(ENVIRON)  # 8 entries per container, at most 25 containers
PULSE = Pulse(
    pending=9,
    exhausted=0,
    earliest_available_at=NAIVE - timedelta(seconds=9),
    processing=0,
    earliest_claimed_at=None,
    unknown=0,
)
LATER = replace(PULSE, earliest_available_at=NAIVE + timedelta(minutes=5))
STANDING = replace(PULSE, holds=1, held_until=NAIVE + timedelta(minutes=4))
ENDED = replace(PULSE, holds=1, held_until=NAIVE - timedelta(seconds=1))
GOOD = Backoff()
BACKING_OFF = Backoff(failures=3, until=NOW + timedelta(seconds=1), reason="exit code 1")
BACKED_OFF = replace(BACKING_OFF, until=NOW)


def observation(pulse=PULSE, *, live=0, starting=0, **more):
    return Observation(now=NOW, pulse=pulse, fleet=Fleet(live=live, starting=starting), **more)


def decided(seen, **settings):
    decision = decide(seen, replace(SETTINGS, **settings))
    assert isinstance(decision, Decision), decision
    return decision


def counted(ready, live, starting, *, per=8, cap=25, pulse=PULSE, **more):
    seen = observation(pulse, live=live, starting=starting, ready=ready, backoff=GOOD, **more)
    return decided(seen, entries_per_container=per, max_containers=cap)


def launched(*counts, **limits):
    return counted(*counts, **limits).launch


def late(number):
    return tuple(Task(arn=f"late-{n}") for n in range(number))


# What has to be observed first


@pytest.mark.parametrize(
    ("about", "seen", "settings", "need"),
    [
        ("An idle queue needs nothing.", observation(LATER), {}, None),
        ("With no live tasks, recent launches may have failed.", observation(), {}, Need.BACKOFF),
        ("After good launches the entries are counted.", observation(backoff=GOOD), {}, Need.COUNT),
        ("After failed launches and the wait, too.", observation(backoff=BACKED_OFF), {}, Need.COUNT),
        ("While launches back off nothing is counted.", observation(backoff=BACKING_OFF), {}, None),
        ("A live task that has claimed shows that launches go well.", observation(live=2, starting=1), {}, Need.COUNT),
        (
            "Where all live tasks are starting, recent launches may have failed.",
            observation(live=1, starting=1),
            {},
            Need.BACKOFF,
        ),
        (
            "While a task tries again nothing is counted.",
            observation(live=1, starting=1, backoff=BACKED_OFF),
            {},
            None,
        ),
        ("While a hold stands nothing is counted.", observation(STANDING, live=1), {}, None),
        ("For a probe the entries are counted.", observation(ENDED, backoff=GOOD), {}, Need.COUNT),
        ("With a cap of 0 nothing is counted.", observation(live=1), {"max_containers": 0}, None),
        ("Freed entries are counted.", observation(LATER, live=1, freed=True), {}, Need.COUNT),
        ("One count is enough.", observation(live=1, ready=0), {}, None),
        ("A fixed target needs no further observation.", observation(live=1, ready=9), {}, None),
        (
            "An adaptive target needs the recent take.",
            observation(live=1, ready=9),
            {"adaptive": True},
            Need.RECENT_TAKE,
        ),
        ("The entries of one task need no target.", observation(live=1, ready=8), {"adaptive": True}, None),
        ("The recent take is read once.", observation(live=1, ready=9, recent_take=0.0), {"adaptive": True}, None),
    ],
)
def test_a_decision_names_what_it_needs(about, seen, settings, need):
    answer = decide(seen, replace(SETTINGS, **settings))
    assert answer is need if need else isinstance(answer, Decision), about


@pytest.mark.parametrize(("ahead_s", "need"), [(5, Need.COUNT), (5.000001, None)])
def test_entries_that_are_ready_within_the_clock_skew_are_counted(ahead_s, need):
    ready_at = NAIVE + timedelta(seconds=ahead_s)
    answer = decide(observation(replace(PULSE, earliest_available_at=ready_at), live=1), SETTINGS)
    assert answer is need if need else isinstance(answer, Decision)


# What is decided


@pytest.mark.parametrize(
    ("about", "seen", "settings", "expected"),
    [
        (
            "Nothing is ready: nothing to do.",
            observation(LATER),
            {},
            {"launch": 0, "need": 0, "ready": 0}
            | {"reason": "nothing is ready; the next entry is due at 2026-11-20 12:05:30 UTC"},
        ),
        (
            "Twenty entries need three tasks.",
            observation(backoff=GOOD, ready=20),
            {},
            {"launch": 3, "need": 3, "ready": 20, "reason": "one task for each ENTRIES_PER_CONTAINER ready entries, "}
            | {"probe": False, "entries_per_container": 8},
        ),
        (
            "One of them is starting already.",
            observation(live=2, starting=1, ready=20),
            {},
            {"launch": 2, "need": 2},
        ),
        (
            "Another tick launched them after this one listed the tasks.",
            observation(backoff=GOOD, ready=20, late=late(3)),
            {},
            {"launch": 0, "need": 0, "reason": "the tasks that are starting are enough"},
        ),
        (
            "The cap is lower than the need.",
            observation(live=20, ready=1000),
            {},
            {"launch": 5, "need": 125, "reason": "bounded by MAX_CONTAINERS"},
        ),
        (
            "Tasks of another tick count against the cap.",
            observation(live=20, ready=1000, late=late(3)),
            {},
            {"launch": 2, "need": 122},
        ),
        (
            "A cap of 0 launches nothing, and nothing was counted.",
            observation(live=1),
            {"max_containers": 0},
            {"launch": 0, "ready": None, "reason": "MAX_CONTAINERS is 0"},
        ),
        (
            "A hold stands.",
            observation(STANDING, live=1),
            {},
            {"launch": 0, "need": 0, "ready": None, "reason": "a hold stands"},
        ),
        (
            "A hold has ended: one task probes, whatever is ready.",
            observation(ENDED, backoff=GOOD, ready=500),
            {},
            {"launch": 1, "need": 1, "probe": True, "reason": "a hold has ended, one task probes"},
        ),
        (
            "The probe waits for the tasks from before the hold.",
            observation(ENDED, live=1, ready=500),
            {},
            {
                "launch": 0,
                "need": 1,
                "probe": False,
                "reason": "a hold has ended, its probe waits until no task is left",
            },
        ),
        (
            "The probe of another tick is enough.",
            observation(ENDED, backoff=GOOD, ready=500, late=late(1)),
            {},
            {"launch": 0, "need": 1},
        ),
        (
            "A hold has ended on an empty queue.",
            observation(replace(ENDED, earliest_available_at=None)),
            {},
            {"launch": 0, "need": 0, "ready": 0, "reason": "a hold has ended, nothing is ready to probe with"},
        ),
        (
            "Recent launches failed: nothing until the wait is over.",
            observation(backoff=BACKING_OFF),
            {},
            {"launch": 0, "ready": None}
            | {"reason": "the last 3 launches failed (exit code 1); the next try is at 12:00:31 UTC"},
        ),
        (
            "The wait is over: one task tries, and the need is still reported.",
            observation(backoff=BACKED_OFF, ready=80),
            {},
            {"launch": 1, "need": 10, "reason": "the last 3 launches failed (exit code 1); one task tries again"},
        ),
        (
            "The wait is over, and the task that tries again is starting: nothing more until it has claimed or died.",
            observation(backoff=BACKED_OFF, ready=80, live=1, starting=1),
            {},
            {
                "launch": 0,
                "need": 9,
                "reason": "the last 3 launches failed (exit code 1); the task that tries again is still starting",
            },
        ),
        (
            "A task that tries again and that only the second listing shows counts too.",
            observation(backoff=BACKED_OFF, ready=80, late=late(1)),
            {},
            {"launch": 0},
        ),
        (
            "A task that tries again and hangs counts until ECS says that it stops.",
            replace(
                observation(backoff=BACKED_OFF, ready=80),
                fleet=Fleet(live=1, hung=(Task(arn="hung"),)),
            ),
            {},
            {"launch": 0},
        ),
        (
            "Tasks that died are not replaced before their round is judged.",
            observation(backoff=Backoff(unjudged=4), ready=80, live=3, starting=3),
            {},
            {"launch": 3, "need": 3},
        ),
        (
            "After the wait a probe is still a probe.",
            observation(ENDED, backoff=BACKED_OFF, ready=80),
            {},
            {"launch": 1, "probe": True},
        ),
        (
            "After the wait a decision to launch nothing stays.",
            observation(backoff=BACKED_OFF, ready=0),
            {},
            {"launch": 0, "reason": "nothing is ready"},
        ),
        (
            "Failed launches that are seen right before a launch stop it.",
            observation(live=1, ready=80, backoff=BACKING_OFF),
            {},
            {"launch": 0, "need": 10, "ready": 80},
        ),
        (
            "The target rises to what recent processors took.",
            observation(live=1, ready=100, recent_take=50.9),
            {"adaptive": True},
            {"launch": 2, "entries_per_container": 50},
        ),
        (
            "The target does not fall below the setting.",
            observation(live=1, ready=100, recent_take=7.0),
            {"adaptive": True},
            {"entries_per_container": 8},
        ),
        (
            "The target does not rise above the largest block.",
            observation(live=1, ready=10**6, recent_take=10.0**6),
            {"adaptive": True},
            {"entries_per_container": LARGEST_BLOCK},
        ),
    ],
)
def test_an_observation_leads_to_one_decision(about, seen, settings, expected):
    decision = decided(seen, **settings)
    for name, value in expected.items():
        actual = getattr(decision, name)
        assert actual.startswith(value) if name == "reason" else actual == value, (about, name, actual)


@pytest.mark.parametrize(("offset_s", "state"), [(1, HoldState.STANDING), (0, HoldState.ENDED), (-1, HoldState.ENDED)])
def test_a_hold_ends_at_its_time(offset_s, state):
    pulse = replace(PULSE, holds=1, held_until=NAIVE + timedelta(seconds=offset_s))
    assert observation(pulse).hold is state
    assert observation(PULSE).hold is HoldState.NONE


# How many tasks are launched


@pytest.mark.parametrize(
    ("ready", "live", "starting", "expected"),
    [
        (0, 0, 0, 0),
        (1, 0, 0, 1),
        (8, 0, 0, 1),
        (9, 0, 0, 2),
        (80, 0, 0, 10),
        (80, 10, 10, 0),  # the next tick, while the tasks still boot
        (80, 10, 4, 6),  # six have claimed; what they took is no longer ready
        (80, 10, 0, 10),
        (8, 3, 3, 0),  # more are starting than are needed
        (1000, 0, 0, 25),
        (1000, 20, 0, 5),
        (1000, 24, 0, 1),
        (1000, 25, 0, 0),
        (1000, 30, 0, 0),  # the cap was lowered below the number of live tasks
    ],
)
def test_a_launch_is_what_is_ready_less_what_is_starting_within_the_cap(ready, live, starting, expected):
    assert launched(ready, live, starting) == expected


COUNTS = st.integers(0, 10_000)


@given(ready=COUNTS, live=COUNTS, starting=COUNTS, per=st.integers(1, 100), cap=st.integers(0, 500))
def test_a_launch_is_never_negative_and_never_passes_the_cap(ready, live, starting, per, cap):
    launch = launched(ready, live, starting, per=per, cap=cap)
    assert launch >= 0
    assert launch == 0 or live + launch <= cap


@given(ready=COUNTS, live=COUNTS, starting=COUNTS)
def test_more_ready_entries_never_start_fewer_tasks(ready, live, starting):
    assert launched(ready, live, starting) <= launched(ready + 1, live, starting)


@given(ready=COUNTS)
def test_a_second_tick_that_sees_the_first_ones_tasks_starts_none(ready):
    first = launched(ready, 0, 0)
    assert launched(ready, first, first) == 0
    assert launched(ready, 0, 0, late=late(first)) == 0


@pytest.mark.parametrize(
    ("counts", "need", "reason"),
    [
        ((0, 0, 0), 0, "nothing is ready"),
        ((8, 1, 1), 0, "the tasks that are starting are enough"),
        ((8, 2, 2), -1, "the tasks that are starting are enough"),
        ((9, 1, 1), 1, "one task for each ENTRIES_PER_CONTAINER ready entries, less those starting"),
        ((200, 0, 0), 25, "one task for each ENTRIES_PER_CONTAINER ready entries, less those starting"),
        ((201, 0, 0), 26, "bounded by MAX_CONTAINERS"),
        ((1000, 25, 0), 125, "bounded by MAX_CONTAINERS"),
    ],
)
def test_the_reason_says_what_bounded_the_launch(counts, need, reason):
    decision = counted(*counts)
    assert (decision.need, decision.reason) == (need, reason)


def test_while_a_hold_stands_the_reason_is_the_hold():
    assert counted(8, 0, 0, pulse=STANDING).reason == "a hold stands"


@pytest.mark.parametrize(
    ("ready", "live", "cap", "expected"), [(500, 0, 25, 1), (1, 0, 25, 1), (0, 0, 25, 0), (500, 1, 25, 0), (5, 0, 0, 0)]
)
def test_after_a_hold_one_task_probes_once_all_others_are_gone(ready, live, cap, expected):
    decision = counted(ready, live, 0, cap=cap, pulse=ENDED)
    assert decision.launch == expected
    assert decision.probe or not decision.launch


# After launches that failed


@pytest.mark.parametrize(("before", "launch"), [(timedelta(microseconds=1), 0), (timedelta(), 1)])
def test_the_wait_after_failed_launches_ends_at_its_time(before, launch):
    seen = observation(ready=80, backoff=replace(BACKING_OFF, until=NOW + before))
    assert decided(seen).launch == launch


def test_a_single_failed_launch_is_enough_to_try_with_one_task():
    assert decided(observation(ready=80, backoff=replace(BACKED_OFF, failures=1))).launch == 1
    assert decided(observation(ready=80, backoff=GOOD)).launch == 10


# What was seen


def test_a_task_that_stopped_after_it_was_listed_is_known_once_as_stopped():
    live, stopped = Task(arn="a"), Task(arn="a", last_status="STOPPED", desired_status="STOPPED")
    seen = Observation(now=NOW, pulse=PULSE, live=(live, Task(arn="b")), stopped=(stopped,), late=(Task(arn="c"),))
    assert seen.known == (stopped, Task(arn="b"), Task(arn="c"))


def test_the_age_of_the_oldest_ready_entry_is_never_negative():
    assert observation().oldest_ready_s == 9
    assert observation(LATER).oldest_ready_s == 0
    assert observation(replace(PULSE, earliest_available_at=None)).oldest_ready_s == 0
