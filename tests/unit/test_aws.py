"""What an error of AWS's library says about asking again."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from rowqueue import aws


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
