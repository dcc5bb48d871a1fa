"""What the driver's errors mean, and when the session is opened and closed, with a fake driver."""

from __future__ import annotations

import json
import threading
import types

import pytest
import snowflake.connector
import tenacity
from snowflake.connector import errors as driver

from rowqueue import settings, warehouse
from rowqueue.errors import (
    LockContention,
    LoginRefused,
    ObjectMissing,
    StatementRefused,
    ValueRefused,
    WarehouseUnavailable,
)
from rowqueue.observability import configure
from rowqueue.settings import SnowflakeSettings
from rowqueue.sql import Statement
from rowqueue.warehouse import SnowflakeWarehouse

WHERE = {
    "SNOWFLAKE_ACCOUNT": "myorg-account",
    "SNOWFLAKE_WAREHOUSE": "WH",
    "SNOWFLAKE_DATABASE": "DB",
    "SNOWFLAKE_SCHEMA": "PUBLIC",
}
STATEMENT = Statement(name="look", text="SELECT ?", parameters=("value",))


class Driver:
    """Stands where the driver's connect() does: a script of errors, then one row for each statement."""

    def __init__(self, *errors, at_connect=None):
        self.errors = list(errors)
        self.at_connect = at_connect
        self.rowcount = 3
        self.fails_to_close = None
        self.calls = []
        self.limits = []
        self.arguments = []

    def connect(self, **arguments):
        self.arguments.append(arguments)
        self.calls.append("connect")
        if self.at_connect:
            raise self.at_connect
        return self

    def cursor(self):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def execute(self, text, values, **limits):
        self.calls.append((text, values))
        self.limits.append(limits)
        if self.errors:
            raise self.errors.pop(0)

    def fetchall(self):
        return [["a", 1], ["b", 2]]

    def close(self):
        self.calls.append("close")
        if self.fails_to_close:
            raise self.fails_to_close


@pytest.fixture
def opened(monkeypatch):
    def open_(played, *, patience_s=0.0, seconds_left=None, advice=None, **environ):
        monkeypatch.setattr(snowflake.connector, "connect", played.connect)
        where = SnowflakeSettings.from_env(WHERE | environ)
        return SnowflakeWarehouse(
            where,
            {"user": "me"},
            query_tag="tag",
            lock_patience_s=patience_s,
            seconds_left=seconds_left,
            advice=advice,
        )

    return open_


def refusal(opened, error, kind):
    with pytest.raises(kind) as caught:
        opened(Driver(error)).rows(STATEMENT, {"value": 7})
    assert type(caught.value) is kind
    return caught.value


def programming(errno):
    return driver.ProgrammingError(msg="it says why\nand more", errno=errno)


# What an error means


@pytest.mark.parametrize(
    ("errnos", "kind"),
    [
        ([625], LockContention),
        ([390100, 390101, 390102, 390103, 390144, 390186, 390189, 390201, 394300, 394306], LoginRefused),
        ([251008, 251017, 251018, 251021], LoginRefused),
        ([390111, 390112, 390114, 390115], WarehouseUnavailable),
        ([250001, 250003, 250006, 251005, 290503, 580503], WarehouseUnavailable),
        ([603, 604, 630], WarehouseUnavailable),
        ([100_000, 100_078, 100_089, 100_091, 100_999], ValueRefused),
        ([904, 2003, 2043], ObjectMissing),
        ([1, 624, 626, 99_999, 100_090, 101_000], StatementRefused),
        ([390099, 390104, 390110, 390113, 390116, 390143, 390145, 390185, 390202], StatementRefused),
        ([394299, 394307, 251007, 251016, 251019, 251022, 602, 605, 629, 631], StatementRefused),
    ],
    ids=[
        "lock",
        "login",
        "login impossible",
        "session gone",
        "unavailable",
        "cancelled",
        "value",
        "object missing",
        "SQL",
        "near",
        "near too",
    ],
)
def test_an_error_number_decides_before_the_class_of_the_error(opened, errnos, kind):
    for errno in errnos:
        assert refusal(opened, programming(errno), kind).errno == errno


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (driver.IntegrityError(msg="x", errno=200_001), ValueRefused),
        (driver.NotSupportedError(msg="x", errno=200_001), StatementRefused),
        (driver.ProgrammingError(msg="x", errno=200_001), StatementRefused),
        (driver.OperationalError(msg="x", errno=200_001), WarehouseUnavailable),
        (driver.DatabaseError(msg="x", errno=200_001), WarehouseUnavailable),
        (ConnectionResetError("cut"), WarehouseUnavailable),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_without_a_known_number_the_class_of_the_error_decides(opened, error, kind):
    refusal(opened, error, kind)


SURPRISES = [KeyError("data"), TypeError("'NoneType' object is not iterable"), AttributeError("get"), ValueError("x")]


@pytest.mark.parametrize("surprise", SURPRISES, ids=lambda error: type(error).__name__)
def test_whatever_the_driver_raises_means_that_snowflake_could_not_be_used(opened, surprise):
    error = refusal(opened, surprise, WarehouseUnavailable)
    assert str(error) == f"Snowflake could not be used; the driver raised {type(surprise).__name__}: {surprise}"
    with pytest.raises(WarehouseUnavailable, match="could not be used"):
        opened(Driver(at_connect=surprise)).connect()


def test_an_answer_that_the_driver_cannot_read_means_the_same_and_the_session_is_opened_again(opened):
    played = Driver()
    played.fetchall = lambda: None
    session = opened(played)
    with pytest.raises(WarehouseUnavailable, match="the driver raised TypeError"):
        session.rows(STATEMENT, {"value": 7})
    played.fetchall = list
    assert session.rows(STATEMENT, {"value": 7}) == []
    assert played.calls.count("connect") == 2


def test_what_the_driver_raises_is_cut_to_a_readable_length(opened):
    assert len(str(refusal(opened, KeyError("x" * 9000), WarehouseUnavailable))) < 400


@pytest.mark.parametrize("errno", [-1, 0, None])
def test_an_error_without_a_number_of_snowflake_has_none(opened, errno):
    error = driver.OperationalError(msg="x")
    error.errno = errno
    assert refusal(opened, error, WarehouseUnavailable).errno is None


def test_errno_1_is_an_error_number(opened):
    assert refusal(opened, programming(1), StatementRefused).errno == 1


@pytest.mark.parametrize(
    ("errno", "hinted"),
    [
        *((errno, True) for errno in (606, 904, 2003, 2043, 3001, 90105, 90106)),
        *((errno, False) for errno in (903, 1003)),
    ],
)
def test_what_is_missing_or_not_granted_comes_with_a_hint(opened, errno, hinted):
    message = str(refusal(opened, programming(errno), ObjectMissing if hinted else StatementRefused))
    assert message.startswith("Snowflake: ")
    assert "it says why" in message
    assert "and more" not in message
    assert message.endswith("run: rowqueue migrate; or grant the role what it needs") == hinted


def test_a_sentence_of_snowflake_loses_its_full_stop_before_the_advice_of_the_caller(opened):
    said = "SQL compilation error:\nObject 'SCHEMA_VERSION' does not exist or not authorized."
    missing = driver.ProgrammingError(msg=said, errno=2003)
    for advice in (None, "use the role that owns the tables"):
        with pytest.raises(ObjectMissing) as caught:
            opened(Driver(missing), advice=advice).rows(STATEMENT, {"value": 7})
        expected = advice or "run: rowqueue migrate; or grant the role what it needs"
        assert str(caught.value).endswith(f"'SCHEMA_VERSION' does not exist or not authorized; {expected}")


# The session


def test_the_session_is_opened_once_when_it_is_first_needed(opened):
    played = Driver()
    session = opened(played)
    assert played.calls == []
    session.connect()
    session.connect()
    assert session.rows(STATEMENT, {"value": 7}) == [("a", 1), ("b", 2)]
    assert session.change(STATEMENT, {"value": 8}) == 3
    assert played.calls == ["connect", ("SELECT ?", (7,)), ("SELECT ?", (8,))]


def test_a_change_of_which_the_driver_gives_no_count_changed_nothing(opened):
    played = Driver()
    played.rowcount = None
    assert opened(played).change(STATEMENT, {"value": 8}) == 0


def test_a_session_whose_connection_failed_is_opened_again(opened):
    played = Driver(ConnectionResetError("cut"))
    session = opened(played)
    with pytest.raises(WarehouseUnavailable, match="cut"):
        session.rows(STATEMENT, {"value": 7})
    session.rows(STATEMENT, {"value": 7})
    assert played.calls == ["connect", ("SELECT ?", (7,)), "close", "connect", ("SELECT ?", (7,))]


def test_a_session_whose_statement_was_refused_is_kept(opened):
    played = Driver(programming(2003))
    session = opened(played)
    with pytest.raises(StatementRefused):
        session.rows(STATEMENT, {"value": 7})
    session.rows(STATEMENT, {"value": 7})
    assert played.calls.count("connect") == 1


@pytest.mark.parametrize("error", [None, OSError("gone"), driver.OperationalError(msg="gone"), KeyError("data")])
def test_a_session_is_closed_once_and_an_error_meanwhile_is_ignored(opened, error):
    played = Driver()
    played.fails_to_close = error
    session = opened(played)
    session.close()
    session.connect()
    session.close()
    session.close()
    assert played.calls == ["connect", "close"]


@pytest.mark.parametrize(
    ("error", "kind"), [(programming(390100), LoginRefused), (OSError("no route"), WarehouseUnavailable)]
)
def test_a_login_that_fails_says_how(opened, error, kind):
    with pytest.raises(kind):
        opened(Driver(at_connect=error)).connect()


# At the lock


@pytest.fixture
def waits(monkeypatch):
    """The seconds that tenacity waits, which it does not spend."""
    waits = []
    monkeypatch.setattr(tenacity.nap, "time", types.SimpleNamespace(sleep=waits.append))
    return waits


def test_a_statement_that_was_refused_at_the_lock_is_sent_again_after_a_random_wait(opened, waits):
    played = Driver(programming(625), programming(625))
    assert opened(played, patience_s=60).change(STATEMENT, {"value": 7}) == 3
    assert played.calls == ["connect"] + 3 * [("SELECT ?", (7,))]
    assert len(waits) == 2
    assert all(0 <= seconds <= 3 for seconds in waits)


def test_the_bound_of_the_wait_at_the_lock_doubles_up_to_three_seconds(opened, waits, monkeypatch, capsys):
    monkeypatch.setattr(tenacity.wait.random, "uniform", lambda low, high: low + high)
    configure("processor")
    opened(Driver(*[programming(625)] * 7), patience_s=60).change(STATEMENT, {"value": 7})
    assert waits == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3, 3])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["attempt"] for line in lines] == [1, 2, 3, 4, 5, 6, 7]
    assert all(line["error"].startswith("Snowflake: ") and "it says why" in line["error"] for line in lines)


def test_a_statement_that_stays_refused_at_the_lock_is_raised_after_its_patience(opened, waits):
    with pytest.raises(LockContention):
        opened(Driver(programming(625)), patience_s=0).change(STATEMENT, {"value": 7})
    assert waits == []


def test_nothing_else_is_sent_again(opened, waits):
    played = Driver(programming(604))
    with pytest.raises(WarehouseUnavailable):
        opened(played, patience_s=60).change(STATEMENT, {"value": 7})
    assert waits == []


# The arguments of the login


def test_the_driver_gets_limits_and_session_parameters_and_the_login(opened):
    played = Driver()
    opened(played).connect()
    assert played.arguments == [
        {
            "account": "myorg-account",
            "warehouse": "WH",
            "database": "DB",
            "schema": "PUBLIC",
            "port": 443,
            "protocol": "https",
            "paramstyle": "qmark",
            "login_timeout": 15,
            "network_timeout": 45,
            "client_session_keep_alive": False,
            "platform_detection_timeout_seconds": 0.0,
            "session_parameters": {
                "ABORT_DETACHED_QUERY": True,
                "AUTOCOMMIT": True,
                "ERROR_ON_NONDETERMINISTIC_UPDATE": True,
                "LOCK_TIMEOUT": settings.LOCK_TIMEOUT_S,
                "QUERY_TAG": "tag",
                "STATEMENT_TIMEOUT_IN_SECONDS": settings.STATEMENT_TIMEOUT_S,
                "TIMEZONE": "UTC",
                "USE_CACHED_RESULT": True,
            },
            "user": "me",
        }
    ]


def test_a_role_and_a_host_are_passed_on_when_they_are_set(opened):
    played = Driver()
    opened(played, SNOWFLAKE_ROLE="QUEUE", SNOWFLAKE_HOST="localhost").connect()
    assert (played.arguments[0]["role"], played.arguments[0]["host"]) == ("QUEUE", "localhost")


def test_the_driver_repeats_a_request_for_longer_than_a_statement_may_take():
    assert warehouse.NETWORK_TIMEOUT_S > settings.STATEMENT_TIMEOUT_S


# In a tick


def limits_of(played):
    """What the driver may take for the login and for a request, seconds."""
    (arguments,) = played.arguments
    return [arguments[name] for name in ("login_timeout", "network_timeout", "socket_timeout")]


@pytest.mark.parametrize(("left", "limit"), [(50.0, 10), (10.0, 10), (9.7, 10), (4.2, 4), (1.0, 1)])
def test_in_a_tick_no_login_and_no_statement_outlasts_a_step_or_what_is_left(opened, left, limit):
    played = Driver()
    opened(played, seconds_left=lambda: left).rows(STATEMENT, {"value": 7})
    assert limits_of(played) == [limit] * 3
    assert played.limits == [{"timeout": max(1, limit - 1)}], "the driver cancels it before it stops to wait"


def test_in_a_tick_snowflake_itself_ends_a_statement_after_a_step(opened):
    played = Driver()
    opened(played, seconds_left=lambda: 50.0).connect()
    parameters = played.arguments[0]["session_parameters"]
    assert (parameters["STATEMENT_TIMEOUT_IN_SECONDS"], parameters["LOCK_TIMEOUT"]) == (10, 10)


def test_outside_a_tick_a_statement_has_no_limit_of_its_own(opened):
    played = Driver()
    opened(played).rows(STATEMENT, {"value": 7})
    assert played.limits == [{"timeout": None}]


def test_in_a_tick_without_time_nothing_is_sent(opened):
    played = Driver()
    with pytest.raises(WarehouseUnavailable, match="no time is left in this tick for the statement look"):
        opened(played, seconds_left=lambda: 0.9).rows(STATEMENT, {"value": 7})
    assert played.calls == []


class Ticking(Driver):
    """Each statement takes some time of the tick before it is answered."""

    def __init__(self, *errors, each_s):
        super().__init__(*errors)
        self.left, self.each_s = 50.0, each_s

    def execute(self, text, values, **limits):
        self.left -= self.each_s
        super().execute(text, values, **limits)


def test_in_a_tick_the_waits_at_the_lock_and_the_repetitions_end_within_one_step(opened, waits):
    played = Ticking(*[programming(625)] * 100, each_s=3)
    with pytest.raises(LockContention):
        opened(played, seconds_left=lambda: played.left).change(STATEMENT, {"value": 7})
    assert 50.0 - played.left <= 10
    assert [limit["timeout"] for limit in played.limits] == [9, 6, 3]


def test_in_a_tick_a_lock_that_is_free_again_in_time_is_taken(opened, waits):
    played = Ticking(programming(625), each_s=1)
    assert opened(played, seconds_left=lambda: played.left).change(STATEMENT, {"value": 7}) == 3


def test_each_statement_of_a_tick_has_a_step_of_its_own(opened):
    played = Ticking(each_s=8)
    session = opened(played, seconds_left=lambda: played.left)
    session.rows(STATEMENT, {"value": 7})
    session.rows(STATEMENT, {"value": 7})
    assert [limit["timeout"] for limit in played.limits] == [9, 9]


def test_a_tick_whose_time_is_used_up_does_not_wait_for_the_end_of_the_session(opened):
    played, never = Driver(), threading.Event()
    played.close = never.wait
    session = opened(played, seconds_left=lambda: -1.0)
    session.connect()
    session.close()
    never.set()


# What is bound


def test_values_are_bound_in_the_order_of_the_question_marks(opened):
    played = Driver()
    opened(played).rows(Statement(name="x", text="SELECT ?, ?, ?", parameters=("b", "a", "b")), {"a": 1, "b": 2})
    assert ("SELECT ?, ?, ?", (2, 1, 2)) in played.calls


@pytest.mark.parametrize("values", [{}, {"a": 1}, {"a": 1, "b": 2, "c": 3}])
def test_a_value_too_few_or_too_many_is_refused_before_anything_is_sent(opened, values):
    played = Driver()
    with pytest.raises(TypeError, match="x: expected values for"):
        opened(played).rows(Statement(name="x", text="SELECT ?, ?", parameters=("a", "b")), values)
    assert played.calls == []


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (
            "002003 (42S02): SQL compilation error:\nObject 'Q' does not exist or not authorized.",
            "002003 (42S02): SQL compilation error: Object 'Q' does not exist or not authorized.",
        ),
        ("000606 (57P03): No active warehouse selected.\nMore", "000606 (57P03): No active warehouse selected."),
        ("an error:", "an error:"),
    ],
)
def test_the_reason_in_the_second_line_of_a_message_is_shown(opened, said, shown):
    error = driver.ProgrammingError(msg=said, errno=200_001)
    error.msg = said
    assert str(refusal(opened, error, StatementRefused)) == f"Snowflake: {shown}"
