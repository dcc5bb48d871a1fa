"""What an error of AWS's library says about asking again."""

from __future__ import annotations

import re
from pathlib import Path

import botocore.endpoint
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, ReadTimeoutError

from rowqueue import aws
from rowqueue.poller.lease import GIVE_BACK_S
from rowqueue.settings import TICK_DEADLINE_S

ROOT = Path(__file__).parents[2]


def refused(status):
    answer = {"Error": {"Code": "NoSuchKey", "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "GetObject")


@pytest.mark.parametrize(
    ("status", "answered"), [(403, True), (404, True), (400, False), (405, False), (500, False), (503, False)]
)
def test_only_an_object_that_is_missing_or_forbidden_is_an_answer(status, answered):
    assert aws.has_answered(refused(status)) == answered


@pytest.mark.parametrize(
    "error",
    [
        EndpointConnectionError(endpoint_url="https://s3"),
        ClientError({"Error": {"Code": "NoSuchKey"}}, "GetObject"),  # no status at all
        ValueError("ours"),
    ],
)
def test_an_error_without_a_status_is_no_answer(error):
    assert not aws.has_answered(error)


@pytest.mark.parametrize(("status", "passes"), [(499, False), (500, True), (503, True)])
def test_an_error_passes_from_status_500_on(status, passes):
    assert aws.is_passing(refused(status)) == passes


@pytest.mark.parametrize(
    "code", ["ThrottlingException", "Throttling", "TooManyRequestsException", "RequestLimitExceeded", "ServerException"]
)
def test_each_code_of_a_throttle_passes(code):
    assert aws.is_passing(ClientError({"Error": {"Code": code}}, "RunTask"))


# In a tick


class Silent:
    """Where botocore sends a request: nothing answers, and each attempt takes some time of the tick."""

    def __init__(self, *, each_s, left):
        self.each_s, self.left, self.attempts = each_s, left, 0

    def send(self, request):
        self.attempts += 1
        self.left -= self.each_s
        raise ReadTimeoutError(endpoint_url=request.url)


@pytest.fixture
def ecs(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setattr(botocore.endpoint.time, "sleep", lambda _: None)

    def client_of(silent, **options):
        client = aws.client("ecs", **options)
        client._endpoint.http_session = silent
        return client

    return client_of


def test_outside_a_tick_a_request_is_repeated_as_often_as_the_library_likes(ecs):
    silent = Silent(each_s=15, left=50)
    with pytest.raises(ReadTimeoutError):
        ecs(silent).list_tasks(cluster="c")
    assert silent.attempts == 3


@pytest.mark.parametrize(("left", "attempts"), [(50, 3), (16, 2), (15.9, 1), (8, 1), (7.9, 0)])
def test_in_a_tick_no_attempt_starts_that_could_outlast_it(ecs, left, attempts):
    silent = Silent(each_s=8, left=left)
    with pytest.raises(aws.ERRORS) as caught:
        ecs(silent, seconds_left=lambda: silent.left).list_tasks(cluster="c")
    assert silent.attempts == attempts
    assert isinstance(caught.value, aws.TimeIsUp) == (attempts < 3)
    assert aws.is_passing(caught.value)


@pytest.mark.parametrize(("service", "longest_s"), [("ecs", aws.ATTEMPT_S), ("secretsmanager", 8), ("s3", 3)])
def test_in_a_tick_an_attempt_that_gets_no_answer_ends_with_what_is_left(ecs, service, longest_s):
    config = aws.client(service, seconds_left=lambda: 50).meta.config
    assert config.connect_timeout + config.read_timeout == longest_s


def test_a_lease_is_given_back_before_lambda_ends_the_function():
    (lambda_s,) = re.findall(r"^  timeout += (\d+)", (ROOT / "terraform/lambda.tf").read_text(), re.MULTILINE)
    assert int(lambda_s) - 0.5 >= TICK_DEADLINE_S + GIVE_BACK_S
