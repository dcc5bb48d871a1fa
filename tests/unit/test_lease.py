"""The lease: at most one tick at a time has it, and it remembers what was launched."""

from __future__ import annotations

import contextlib
import json
import re
import threading
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import botocore.endpoint
import pytest
from botocore.exceptions import EndpointConnectionError, ReadTimeoutError
from poller_played import ECS, ENVIRON, NAIVE, NOW, S3, PlayedWarehouse, dead, error, lease, pulse, ready, task, tick

from rowqueue import observability
from rowqueue.aws import ATTEMPT_S
from rowqueue.errors import LaunchError
from rowqueue.poller.fleet import TaskRequest
from rowqueue.poller.lease import GIVE_BACK_S, EarlierLaunches, Taken, TakenElsewhere, for_tick
from rowqueue.settings import LEASE_S, TICK_DEADLINE_S, PollerSettings

ROOT = Path(__file__).parents[2]
DENIED = error("AccessDenied", "GetObject", status=403)
AWAY = EndpointConnectionError(endpoint_url="https://s3")


@pytest.fixture(autouse=True)
def _structured():
    observability.configure("poller", environment="dev")


class ClockedS3(S3):
    """An S3 whose clock the test moves."""

    def __init__(self, **given):
        super().__init__(now=lambda: NOW + timedelta(seconds=self.passed_s), **given)
        self.passed_s = 0


REQUEST = {"token": "t-0", "count": 1, "probe": False, "on_demand": False}


def arn(name):
    return task(name)["taskArn"]


# Taking it


def test_one_tick_has_the_lease_until_it_gives_it_back():
    s3 = S3()
    first = lease(s3).take()
    assert isinstance(first, Taken)
    assert lease(s3).take() == TakenElsewhere(until=NOW + timedelta(seconds=LEASE_S))
    lease_ = lease(s3)
    assert lease(s3).give_back(first, EarlierLaunches(launched={arn("a"): NOW})) is None
    second = lease_.take()
    assert second.earlier.launched == {arn("a"): NOW}


@pytest.mark.parametrize(("passed_s", "free"), [(89, False), (90, True)])
def test_the_lease_of_a_tick_that_died_expires_by_the_clock_of_s3(passed_s, free):
    s3 = ClockedS3()
    assert isinstance(lease(s3).take(), Taken)
    s3.passed_s = passed_s
    assert isinstance(lease(s3).take(), Taken) is free


def test_what_the_dead_tick_knew_of_earlier_launches_is_kept():
    s3 = ClockedS3()
    lease(s3).give_back(lease(s3).take(), EarlierLaunches(launched={arn("a"): NOW}))
    lease(s3).take()
    s3.passed_s = LEASE_S
    assert lease(s3).take().earlier.launched == {arn("a"): NOW}


@pytest.mark.parametrize("code", ["PreconditionFailed", "ConditionalRequestConflict"])
@pytest.mark.parametrize("exists", [True, False])
def test_of_two_ticks_that_read_before_either_writes_one_has_the_lease(code, exists):
    s3 = S3()
    if exists:
        lease(s3).give_back(lease(s3).take(), EarlierLaunches())
    write = s3.put_object

    def overtaken(**request):
        s3.put_object = write
        assert isinstance(lease(s3).take(), Taken)
        status = 412 if code == "PreconditionFailed" else 409
        raise error(code, "PutObject", status=status)

    s3.put_object = overtaken
    assert lease(s3).take() == TakenElsewhere()


def test_a_lease_that_was_taken_and_given_back_since_it_was_read_is_not_taken():
    s3 = S3()
    lease(s3).give_back(lease(s3).take(), EarlierLaunches())
    read = s3.get_object

    def overtaken(**asked):
        answer = read(**asked)
        s3.get_object = read
        lease(s3).give_back(lease(s3).take(), EarlierLaunches())
        return answer

    s3.get_object = overtaken
    assert lease(s3).take() == TakenElsewhere()


def test_a_write_whose_answer_was_lost_and_that_boto3_repeated_counts():
    s3 = S3()
    write = s3.put_object

    def repeated(**request):
        write(**request)
        return write(**request)

    s3.put_object = repeated
    taken = lease(s3, tick="me").take()
    assert taken == Taken(etag=s3.object["ETag"])
    assert lease(s3, tick="me").give_back(taken, EarlierLaunches()) is None


def test_a_lease_that_was_deleted_since_it_was_read_is_not_taken():
    s3 = S3()
    lease(s3).give_back(lease(s3).take(), EarlierLaunches())
    read = s3.get_object

    def deleted(**asked):
        answer = read(**asked)
        s3.get_object, s3.object = read, None
        return answer

    s3.get_object = deleted
    assert lease(s3).take() == TakenElsewhere()


# What S3 refuses


def test_without_the_right_to_list_a_missing_object_is_denied_and_the_write_finds_out():
    s3 = S3(refusals={"GetObject": DENIED})
    assert isinstance(lease(s3).take(), Taken)


def test_an_object_that_may_not_be_read_is_an_error():
    s3 = S3()
    lease(s3).take()
    s3.refusals = {"GetObject": DENIED}
    with pytest.raises(LaunchError, match=r"s3://dev-lease/dev/launch-lease.json cannot be read: .*AccessDenied"):
        lease(s3).take()


@pytest.mark.parametrize("refusal", [DENIED, AWAY, error("NoSuchBucket", "PutObject", status=404)])
def test_an_object_that_cannot_be_written_is_an_error(refusal):
    with pytest.raises(LaunchError, match="cannot be written"):
        lease(S3(refusals={"PutObject": refusal})).take()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"owner": null}',
        b"[" * 100_000,
        b'{"owner": ' + b"9" * 5000 + b"}",
        *(
            json.dumps({"owner": None, "launched": {}, "unanswered": None, "asked_at": None} | wrong).encode()
            for wrong in (
                {"owner": 7},
                {"launched": ["a"]},
                {"launched": {"a": "yesterday"}},
                {"launched": {"a": "2026-11-20T12:00:00"}},
                {"launched": {"a": 7}},
                {"unanswered": 7},
                {"unanswered": {"tokens": 1}},
                {"unanswered": {"token": "t", "count": 1}},
                *(
                    {"unanswered": REQUEST | wrong, "asked_at": NOW.isoformat()}
                    for wrong in ({"token": 7}, {"count": "x"}, {"count": -1}, {"count": 0}, {"count": 11})
                ),
            )
        ),
    ],
)
def test_an_object_that_is_no_lease_counts_as_taken_until_it_expires_and_is_then_replaced(body):
    s3 = ClockedS3()
    lease(s3).take()
    s3.object["Body"] = body
    assert lease(s3).take() == TakenElsewhere(until=NOW + timedelta(seconds=LEASE_S))
    s3.passed_s = LEASE_S
    assert lease(s3).take() == Taken(etag=s3.object["ETag"])


def test_the_lease_of_an_environment_is_one_object_and_is_asked_for_only_in_time(monkeypatch):
    for name in ("AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "us-east-1")
    settings = PollerSettings.from_env(ENVIRON)
    left = [0.0]
    late = for_tick(settings, tick="t", seconds_left=lambda: left[0])
    assert (late.bucket, late.key, late.tick) == ("dev-lease", "dev/launch-lease.json", "t")
    assert late.client() is late.client()
    sent = []

    class SilentS3:
        def send(self, request):
            sent.append(left[0])
            left[0] -= 1
            raise ReadTimeoutError(endpoint_url=request.url)

    late.client()._endpoint.http_session = SilentS3()
    monkeypatch.setattr(botocore.endpoint.time, "sleep", lambda _: None)
    left[0] = -0.5  # three seconds of an attempt end four and a half after the deadline
    assert "no time is left" in str(late.give_back(Taken(etag='"e"'), EarlierLaunches()))
    assert sent == [-0.5, -1.5]


@pytest.mark.parametrize("operation", ["get_object", "put_object"])
def test_a_lease_that_s3_does_not_answer_for_is_left_when_the_tick_is_over(operation):
    s3, never = S3(), threading.Event()
    setattr(s3, operation, lambda **_: never.wait())
    with pytest.raises(LaunchError, match="cannot be taken: no answer within"):
        lease(s3, seconds_left=lambda: 0.01).take()
    never.set()


def test_a_body_that_arrives_in_small_pieces_is_left_when_the_tick_is_over():
    s3, never = S3(), threading.Event()
    s3.get_object = lambda **_: {"Body": SimpleNamespace(read=lambda _: never.wait())}
    with pytest.raises(LaunchError, match="cannot be taken: no answer within"):
        lease(s3, seconds_left=lambda: 0.01).take()
    never.set()


@pytest.mark.parametrize(("left", "given_back"), [(-GIVE_BACK_S + 0.01, False), (-GIVE_BACK_S - 9, False), (-2, True)])
def test_a_lease_is_given_back_until_some_seconds_after_the_deadline(left, given_back):
    s3, slow = S3(), threading.Event()
    taken, write = lease(s3, tick="t").take(), s3.put_object

    def put_object(**request):
        slow.wait(0.2)
        return write(**request)

    s3.put_object = put_object
    problem = lease(s3, tick="t", seconds_left=lambda: left).give_back(taken, EarlierLaunches())
    assert (problem is None) == given_back
    assert given_back or "cannot be given back: no answer within" in str(problem)


def test_an_object_that_is_too_large_is_no_lease_and_is_not_read_whole():
    s3 = ClockedS3()
    lease(s3).take()
    arns = {f"arn:aws:ecs:us-east-1:1:task/dev-snowflake-processor/{n:032}": NOW for n in range(20_000)}
    free = json.loads(s3.object["Body"]) | {"owner": None}
    s3.object["Body"] = json.dumps(free | {"launched": {arn: at.isoformat() for arn, at in arns.items()}}).encode()
    assert len(s3.object["Body"]) > 2_000_000
    assert lease(s3).take() == TakenElsewhere(until=NOW + timedelta(seconds=LEASE_S))


def test_the_lease_of_the_largest_fleet_can_be_read():
    s3 = ClockedS3()
    name = f"arn:aws:ecs:ap-southeast-2:123456789012:task/{'e' * 30}-snowflake-processor/"
    launched = {name + f"{n:032}": NOW.replace(microsecond=123456) for n in range(5000)}
    lease(s3, tick="t").give_back(lease(s3, tick="t").take(), EarlierLaunches(launched=launched))
    assert lease(s3).take().earlier.launched == launched


def test_the_lease_is_valid_for_longer_than_the_function_lives():
    terraform = (ROOT / "terraform/lambda.tf").read_text(encoding="utf-8")
    (timeout,) = re.findall(r"^  timeout +=\s*(\d+)", terraform, re.MULTILINE)
    # A request that the function sent in its last moment arrives within seconds; the rest is for ECS to list its tasks.
    assert TICK_DEADLINE_S < int(timeout) <= LEASE_S - 30


# A tick


def test_a_tick_that_launches_nothing_does_not_ask_for_the_lease():
    s3 = S3(refusals={"GetObject": AWAY, "PutObject": AWAY})
    tick(PlayedWarehouse(pulse=pulse()), ECS(), s3=s3)
    tick(ready(8), ECS([task("a")]), s3=s3)


def test_a_tick_launches_under_the_lease_and_gives_it_back_with_what_it_launched():
    s3, ecs = S3(), ECS()
    taken_while = []

    def run(request):
        taken_while.append(lease(s3).take())
        return ecs._start(request)

    ecs.run = run
    report = tick(ready(80), ecs, s3=s3)
    assert taken_while == [TakenElsewhere(until=NOW + timedelta(seconds=LEASE_S))]
    assert [body["owner"] is None for body in s3.written] == [False, True]
    assert set(s3.written[-1]["launched"]) == set(report.launched.started)


def test_a_tick_without_the_lease_launches_nothing_and_says_so(capsys):
    s3, ecs = S3(), ECS()
    lease(s3).take()
    report = tick(ready(80), ecs, s3=s3)
    assert ecs.requests == []
    assert report.decision.reason == "another tick has the lease; it expires at 12:02:00 UTC"
    line = json.loads(capsys.readouterr().out)
    assert (line["planned"], line["reason"], line["problem"]) == (0, report.decision.reason, None)
    assert line["TicksCompleted"] == 1


@pytest.mark.parametrize("operation", ["GetObject", "PutObject"])
def test_if_s3_is_away_nothing_is_launched_and_it_is_raised_after_the_line(operation, capsys):
    ecs = ECS()
    with pytest.raises(LaunchError, match=r"the lease s3://dev-lease/dev/launch-lease\.json cannot be"):
        tick(ready(80), ecs, s3=S3(refusals={operation: AWAY}))
    assert ecs.requests == []
    line = json.loads(capsys.readouterr().out)
    assert (line["planned"], line["reason"]) == (0, "nothing is launched without the lease")
    assert "TicksCompleted" not in line


def test_a_lease_that_cannot_be_given_back_is_raised_after_the_line_and_expires(capsys):
    s3, ecs = ClockedS3(), ECS()

    def run(request):
        s3.refusals = {"PutObject": AWAY}
        return ecs._start(request)

    ecs.run = run
    with pytest.raises(LaunchError, match="cannot be written"):
        tick(ready(80), ecs, s3=s3)
    assert json.loads(capsys.readouterr().out)["TasksLaunched"] == 10
    s3.refusals, s3.passed_s = {}, LEASE_S
    assert isinstance(lease(s3).take(), Taken)


def test_if_the_launch_is_refused_and_the_lease_cannot_be_given_back_the_refusal_is_raised():
    s3, ecs = S3(), ECS()

    def run(request):
        s3.refusals = {"PutObject": AWAY}
        raise error("AccessDeniedException", "RunTask")

    ecs.run = run
    with pytest.raises(LaunchError, match="AccessDenied"):
        tick(ready(80), ecs, s3=s3)


def test_an_error_before_the_launch_gives_the_lease_back():
    s3, ecs = S3(), ECS()
    write = s3.put_object

    def put_object(**request):
        ecs.listing = error("ThrottlingException", "ListTasks")
        return write(**request)

    s3.put_object = put_object
    with pytest.raises(LaunchError, match="cannot be counted"):
        tick(ready(80), ecs, s3=s3)
    assert s3.written[-1]["owner"] is None


def test_a_tick_whose_time_is_used_up_gives_the_lease_back_with_what_it_launched():
    s3, ecs, left = S3(), ECS(), [50.0]

    def run(request):
        left[0] = ATTEMPT_S - 0.1  # no further request is sent
        return ecs._start(request)

    ecs.run = run
    report = tick(ready(200), ecs, s3=s3, seconds_left=lambda: left[0])
    assert (len(report.launched.started), report.launched.left) == (10, 15)
    assert (s3.written[-1]["owner"], len(s3.written[-1]["launched"])) == (None, 10)


def test_a_fault_of_this_program_during_the_launch_keeps_the_lease_until_it_expires():
    def run(request):
        raise ZeroDivisionError

    s3 = S3()
    with pytest.raises(ZeroDivisionError):
        tick(ready(80), ECS(run=run), s3=s3)
    assert isinstance(lease(s3).take(), TakenElsewhere)


# What is live


def launched_before(s3, *names, age_s=5):
    """Make the lease remember launches."""
    lease(s3).give_back(
        lease(s3).take(), EarlierLaunches(launched={arn(name): NOW - timedelta(seconds=age_s) for name in names})
    )


@pytest.mark.parametrize(("age_s", "counts"), [(299, True), (300, False)])
def test_a_launched_task_that_ecs_does_not_know_counts_for_five_minutes(age_s, counts):
    s3, ecs = S3(), ECS()
    launched_before(s3, "a", age_s=age_s)
    report = tick(ready(80), ecs, s3=s3, MAX_CONTAINERS="4")
    assert len(report.launched.started) == (3 if counts else 4)
    assert (arn("a") in s3.written[-1]["launched"]) is counts


def test_a_launched_task_that_has_stopped_does_not_count():
    s3, ecs = S3(), ECS([dead("a", exit_code=0)])
    launched_before(s3, "a")
    assert len(tick(ready(80), ecs, s3=s3, MAX_CONTAINERS="4").launched.started) == 4
    assert arn("a") not in s3.written[-1]["launched"]


def test_what_is_no_task_of_our_cluster_is_dropped_because_ecs_would_refuse_to_describe_it():
    s3, ecs = S3(), ECS()
    others = ["arn:aws:ecs:us-east-1:1:task/old-cluster/abc", "dev-snowflake-processor", "", arn("a/b"), arn("a") + " "]
    lease(s3).give_back(lease(s3).take(), EarlierLaunches(launched=dict.fromkeys([*others, arn("a")], NOW)))
    describe = ecs.describe_tasks

    def describe_tasks(*, cluster, tasks):
        assert tasks == [arn("a")]
        return describe(cluster=cluster, tasks=tasks)

    ecs.describe_tasks = describe_tasks
    assert len(tick(ready(80), ecs, s3=s3, MAX_CONTAINERS="4").launched.started) == 3
    assert not set(others) & set(s3.written[-1]["launched"])


def test_a_launch_time_in_the_future_counts_as_now():
    s3, ecs = S3(), ECS()
    launched_before(s3, "a", age_s=-1e9)
    assert len(tick(ready(80), ecs, s3=s3, MAX_CONTAINERS="4").launched.started) == 3
    assert s3.written[-1]["launched"][arn("a")] == NOW.isoformat()


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_a_time_at_the_end_of_the_calendar_is_no_error(at):
    s3, ecs = S3(), ECS()
    launched_before(s3, "a")
    body = s3.written[-1] | {"launched": {arn("a"): at}, "unanswered": REQUEST, "asked_at": at}
    s3.object["Body"] = json.dumps(body).encode()
    tick(ready(80), ecs, s3=s3)
    assert len(ecs.tasks) >= 9


@pytest.mark.parametrize("remembered", [True, False])
def test_a_task_that_is_stopping_counts_for_the_cap_and_not_as_starting(remembered):
    s3, ecs = S3(), ECS([dead("a", exit_code=0) | {"lastStatus": "DEPROVISIONING"}])
    if remembered:
        launched_before(s3, "a", age_s=4000)
    assert len(tick(ready(80), ecs, s3=s3, MAX_CONTAINERS="4").launched.started) == 3
    ecs.tasks = ecs.tasks[:1]
    assert len(tick(ready(16), ecs, s3=S3()).launched.started) == 2, "what it leaves needs two tasks"


def test_a_task_that_began_to_stop_during_the_tick_counts_once():
    s3, ecs = S3(), ECS([task("a")])
    launched_before(s3, "a")
    warehouse = ready(80, seen=["dev-a"])
    count = warehouse.rows

    def rows(statement, values):
        if statement.name == "count_ready":
            ecs.tasks = [dead("a", exit_code=0) | {"lastStatus": "STOPPING"}]
        return count(statement, values)

    warehouse.rows = rows
    assert len(tick(warehouse, ecs, s3=s3, MAX_CONTAINERS="4").launched.started) == 3


@pytest.mark.parametrize(("cap", "launch"), [("1", 0), ("2", 1)])
def test_a_probe_does_not_wait_for_a_task_that_is_stopping_unless_the_cap_is_reached(cap, launch):
    ecs = ECS([dead("a", exit_code=0) | {"lastStatus": "STOPPING"}])
    warehouse = PlayedWarehouse(
        pulse=pulse(pending=8, available=NAIVE, holds=1, held_until=NAIVE - timedelta(seconds=1)),
        count_ready=[(8, 0)],
        processors_seen=[],
    )
    report = tick(warehouse, ecs, MAX_CONTAINERS=cap)
    assert (len(report.launched.started), report.decision.launch) == (launch, launch)


def test_the_trial_of_a_back_off_that_ecs_does_not_list_yet_is_not_repeated():
    s3 = S3()
    ecs = ECS([dead("old", age_s=200, exit_code=1)])
    launched_before(s3, "trial")
    report = tick(ready(80), ecs, s3=s3)
    assert report.launched.started == ()
    assert report.decision.reason.endswith("the task that tries again is still starting")


# A launch that was not answered


SERVER = error("ServerException", "RunTask", status=500)


class SilentECS(ECS):
    """The first RunTask starts its tasks, and its answer is lost; ListTasks does not show them."""

    def __init__(self, *, lost=1, failing=SERVER):
        super().__init__()
        self.run = self._lose
        self.lost, self.failing, self.hidden = lost, failing, []

    def _lose(self, request):
        answer = self._start(request)
        if len(self.requests) > self.lost:
            return answer
        self.hidden += [one for one in self.tasks if one not in self.hidden]
        self.tasks = []
        raise self.failing

    @property
    def tokens(self):
        return [request["clientToken"] for request in self.requests]


@pytest.mark.parametrize("failing", [SERVER, AWAY], ids=["server fault", "no answer"])
def test_a_launch_that_was_not_answered_is_repeated_before_anything_else_is_launched(failing):
    s3, ecs = S3(), SilentECS(failing=failing)
    first = tick(ready(24), ecs, s3=s3, MAX_CONTAINERS="4")
    assert (first.launched.started, sum(first.launched.failures.values())) == ((), 3)
    second = tick(ready(80), ecs, s3=s3, MAX_CONTAINERS="4")
    assert ecs.tokens[0] == ecs.tokens[1] != ecs.tokens[2]
    named = [one["taskArn"] for one in ecs.hidden]
    assert second.launched.started[:3] == tuple(named), "no tick has reported them"
    assert len(second.launched.started) == 4, "three of four were there"
    assert second.decision.reason.endswith("; 3 tasks are of an earlier launch that was not answered")
    assert set(s3.written[-1]["launched"]) == set(second.launched.started)
    assert s3.written[-1]["unanswered"] is None


@pytest.mark.parametrize("again", [SERVER, error("ThrottlingException", "RunTask")], ids=["no answer", "throttled"])
def test_as_long_as_it_is_not_answered_nothing_else_is_launched(again):
    s3, ecs = S3(), SilentECS(lost=2)
    tick(ready(24), ecs, s3=s3)
    ecs.failing = again
    report = tick(ready(80), ecs, s3=s3)
    assert (report.decision.launch, report.decision.reason) == (0, "an earlier launch has not been answered yet")
    assert ecs.tokens[0] == ecs.tokens[1]
    assert len(tick(ready(80), ecs, s3=s3).launched.started) == 10
    assert len(ecs.requests) == 4, "three of ten were there"
    assert ecs.requests[-1]["count"] == 7


def test_a_repetition_that_is_refused_for_good_is_raised():
    s3, ecs = S3(), SilentECS(lost=2)
    tick(ready(24), ecs, s3=s3)
    ecs.failing = error("AccessDeniedException", "RunTask")
    with pytest.raises(LaunchError, match="AccessDenied"):
        tick(ready(80), ecs, s3=s3)
    assert s3.written[-1]["unanswered"]["token"] == ecs.tokens[0]


def test_a_repetition_with_other_settings_is_a_conflict_that_names_the_tasks():
    s3, ecs = S3(), SilentECS(lost=2)
    tick(ready(24), ecs, s3=s3)
    named = [one["taskArn"] for one in ecs.hidden]
    ecs.failing = error("ConflictException", "RunTask", resourceIds=named)
    assert len(tick(ready(80), ecs, s3=s3).launched.started) == 10
    assert ecs.requests[-1]["count"] == 7
    assert set(named) < set(s3.written[-1]["launched"])


def test_what_the_repetition_names_was_launched_when_it_was_asked_for_first():
    s3, ecs = S3(), SilentECS()
    tick(ready(24), ecs, s3=s3)
    later = NOW + timedelta(minutes=4)
    started = tick(ready(80), ecs, s3=s3, now=later).launched.started
    times = [s3.written[-1]["launched"][arn] for arn in started]
    assert times == [NOW.isoformat()] * 3 + [later.isoformat()] * 7


class DeafECS(ECS):
    """The first RunTask does not arrive."""

    def __init__(self):
        super().__init__()
        self.run = self._ignore

    def _ignore(self, request):
        self.run = self._start
        raise AWAY


ENDED_HOLD = {"holds": 1, "held_until": NAIVE - timedelta(seconds=1)}
CAP_1 = {"MAX_CONTAINERS": "1"}
DIED = [dead("d", age_s=90, exit_code=1)]


@pytest.mark.parametrize(
    ("environ", "hold", "died", "why"),
    [
        (CAP_1, {}, [], "bounded by MAX_CONTAINERS"),
        ({}, ENDED_HOLD, [], "a hold has ended, one task probes"),
        ({}, {}, DIED, "the last 1 launches failed"),
    ],
    ids=["a lower cap", "a probe", "a back-off"],
)
def test_a_launch_that_is_not_allowed_any_more_is_not_repeated_and_its_tasks_count_as_live(environ, hold, died, why):
    s3, ecs = S3(), DeafECS()
    tick(ready(80), ecs, s3=s3)
    ecs.tasks = list(died)
    warehouse = ready(80)
    warehouse.answers["pulse"] = pulse(pending=80, available=NAIVE - timedelta(seconds=9), **hold)
    for minutes in (1, 4.9):
        report = tick(warehouse, ecs, s3=s3, now=NOW + timedelta(minutes=minutes), **environ)
        assert (report.decision.launch, report.launched.started, len(ecs.requests)) == (0, (), 1)
        assert report.decision.reason.startswith(why)
        assert "an earlier launch of 10 tasks was not answered and is not repeated" in report.decision.reason
    assert len(tick(warehouse, ecs, s3=s3, now=NOW + timedelta(minutes=5), **environ).launched.started) == 1
    assert ecs.requests[0]["clientToken"] != ecs.requests[1]["clientToken"]


def test_a_launch_of_one_task_is_repeated_as_it_was_also_when_a_probe_is_due():
    s3, ecs, warehouse = S3(), DeafECS(), ready(8)
    tick(warehouse, ecs, s3=s3)
    warehouse.answers["pulse"] = pulse(pending=8, available=NAIVE, **ENDED_HOLD)
    report = tick(warehouse, ecs, s3=s3)
    assert len(report.launched.started) == len(ecs.tasks) == 1
    assert ecs.requests[0] == ecs.requests[1]
    assert report.decision.reason.startswith("a hold has ended, its probe waits until no task is left")


def test_if_the_lease_cannot_be_given_back_while_a_launch_has_no_answer_it_is_raised():
    s3, ecs = S3(), DeafECS()
    tick(ready(80), ecs, s3=s3)
    write = s3.put_object

    def put_object(**request):
        s3.refusals = {"PutObject": AWAY} if json.loads(request["Body"])["owner"] is None else {}
        return write(**request)

    s3.put_object = put_object
    with pytest.raises(LaunchError, match="cannot be written"):
        tick(ready(80), ecs, s3=s3, **CAP_1)


def test_a_request_of_the_future_was_sent_now():
    s3, ecs = S3(), DeafECS()
    tick(ready(80), ecs, s3=s3, now=NOW + timedelta(days=1))
    tick(ready(80), ecs, s3=s3, **CAP_1)
    assert s3.written[-1]["asked_at"] == NOW.isoformat()


@pytest.mark.parametrize("again", [ENDED_HOLD, {}], ids=["probe", "hold lifted"])
def test_a_probe_that_was_not_answered_is_repeated_as_a_probe(again):
    s3, ecs = S3(), DeafECS()
    warehouse = ready(8)
    for hold in (ENDED_HOLD, again):
        warehouse.answers["pulse"] = pulse(pending=8, available=NAIVE, **hold)
        report = tick(warehouse, ecs, s3=s3)
    assert (len(report.launched.started), len(ecs.tasks)) == (1, 1)
    first, second = ecs.requests
    assert first == second


def test_a_launch_that_started_nothing_is_repeated_and_reported_once():
    s3, ecs = S3(), DeafECS()
    reports = [tick(ready(80), ecs, s3=s3, now=NOW + timedelta(minutes=n)) for n in range(3)]
    assert [len(report.launched.started) for report in reports] == [0, 10, 0]
    assert len(ecs.tasks) == 10


def test_after_five_minutes_ecs_lists_what_it_started_and_nothing_is_repeated():
    s3, ecs = S3(), SilentECS()
    tick(ready(24), ecs, s3=s3)
    ecs.tasks = list(ecs.hidden)
    report = tick(ready(80), ecs, s3=s3, now=NOW + timedelta(minutes=5), BOOT_DEADLINE_SECONDS="3600")
    assert len(set(ecs.tokens)) == len(ecs.tokens)
    assert len(report.launched.started) == 7


@pytest.mark.parametrize(
    "refusal", [error("ThrottlingException", "RunTask"), error("AccessDeniedException", "RunTask")]
)
def test_a_launch_that_was_refused_is_not_repeated(refusal):
    def run(request):
        raise refusal

    s3 = S3()
    with contextlib.suppress(LaunchError):
        tick(ready(24), ECS(run=run), s3=s3)
    assert s3.written[-1]["unanswered"] is None


def test_the_request_comes_back_as_it_was():
    s3 = S3()
    request = TaskRequest(token="t-0", count=1, probe=True, on_demand=True)
    earlier = EarlierLaunches(launched={arn("a"): NOW}, unanswered=request, asked_at=NOW)
    lease(s3).give_back(lease(s3).take(), earlier)
    assert lease(s3).take().earlier == earlier
