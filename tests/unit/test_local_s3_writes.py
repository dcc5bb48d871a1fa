"""The AWS stand-in lets one write to S3 at a time through to moto."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from rowqueue_local.aws.s3_writes import OneS3WriteAtATime


def request(method="PUT", service="s3"):
    signature = f"AWS4-HMAC-SHA256 Credential=testing/20261120/us-east-1/{service}/aws4_request, SignedHeaders=host"
    return {"REQUEST_METHOD": method, "HTTP_AUTHORIZATION": signature}


class Moto:
    """Each request waits until another one is being answered too, or for a moment."""

    def __init__(self):
        self.together = 0
        self._meeting = threading.Barrier(2)

    def __call__(self, environ, start_response):
        try:
            self._meeting.wait(0.1)
        except threading.BrokenBarrierError:
            self._meeting.reset()
        else:
            self.together += 1
        return [b""]


@pytest.mark.parametrize(
    ("requests", "together"),
    [
        ([request(), request()], 0),
        ([request(), request("DELETE")], 0),
        ([request(), request("GET")], 2),
        ([request("GET"), request("GET")], 2),
        ([request(), request("POST", "ecs")], 2),
        ([{"REQUEST_METHOD": "POST"}, {"REQUEST_METHOD": "POST"}], 2),
    ],
    ids=["two writes", "a write and a deletion", "a write and a read", "two reads", "another service", "not signed"],
)
def test_two_writes_to_s3_are_answered_one_after_the_other_and_nothing_else_waits(requests, together):
    moto = Moto()
    gateway = OneS3WriteAtATime(moto)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda environ: gateway(environ, None), requests))
    assert moto.together == together
