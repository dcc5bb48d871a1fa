"""Which refusals of ECS pass by themselves."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError

from rowqueue import aws
from rowqueue.poller import launching


@pytest.mark.parametrize(
    ("reason", "passes"),
    [
        ("Capacity is unavailable at this time. Please try again later or in a different availability zone", True),
        ("You've reached the limit on the number of vCPUs you can run concurrently", True),
        ("You've reached the limit on the number of tasks you can run concurrently", True),
        ("RESOURCE:ENI", True),
        ("Rate exceeded", True),
        ("The requested CPU configuration is above your limit", False),
        ("ATTRIBUTE", False),
        ("MISSING", False),
        ("a reason that is not known yet", False),
    ],
)
def test_a_failure_passes_if_its_cause_is_capacity_a_quota_or_a_throttle(reason, passes):
    assert launching.is_passing(reason) == passes


def refused(code, message="", status=400):
    return ClientError(
        {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}, "x"
    )


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (refused("ThrottlingException", "Rate exceeded"), True),
        (refused("InvalidParameterException", "Error retrieving security group: Request limit exceeded."), True),
        (refused("InvalidParameterException", "Rate exceeded (ErrorCode: Throttling)"), True),
        (refused("ServerException", status=500), True),
        (refused("InternalFailure", status=503), True),
        (ConnectTimeoutError(endpoint_url="https://ecs"), True),
        (refused("InvalidParameterException", "Security group not found"), False),
        (refused("AccessDeniedException"), False),
        (refused("ClusterNotFoundException"), False),
        (refused("BlockedException"), False),
        (ValueError("ours"), False),
    ],
)
def test_an_error_passes_if_it_is_a_throttle_in_any_form_or_a_fault_of_aws(error, passes):
    assert aws.is_passing(error) == passes
