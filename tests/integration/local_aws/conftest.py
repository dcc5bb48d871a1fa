"""The AWS stand-in as its own process, used through boto3."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import boto3
import psutil
import pytest
from botocore.config import Config

REGION = "eu-west-1"
NETWORK = {"awsvpcConfiguration": {"subnets": ["subnet-1"], "securityGroups": ["sg-1"]}}
QUICKLY = {"Delay": 0.05, "MaxAttempts": 400}

# Replaces a container's entry point; the command chooses the behaviour.
WORKER = """
import json, os, signal, subprocess, sys, urllib.request

def end_on_sigterm(*_):
    print("got SIGTERM", flush=True)
    sys.exit(0)

match sys.argv[1:]:
    case ["say", *lines]:
        print(*lines, sep="\\n")
    case ["exit", code]:
        sys.exit(int(code))
    case ["environment"]:
        print(json.dumps(dict(os.environ)))
    case ["metadata", path]:
        print(urllib.request.urlopen(os.environ["ECS_CONTAINER_METADATA_URI_V4"] + path).read().decode())
    case ["wait", how]:
        if how == "politely":
            signal.signal(signal.SIGTERM, end_on_sigterm)
        elif how == "deaf":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        elif how == "with-a-child":
            child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
            print(child.pid, flush=True)
        print("waiting", flush=True)
        open("at-work", "w").close()
        while True:
            signal.pause()
"""

# Appends each event to the file named in its environment.
RECORDING = """
import json, os
def handler(event, context):
    with open(os.environ["FILE"], "a") as file:
        print(json.dumps(event), file=file)
"""


def eventually(probe, *, within=10.0):
    """The first truthy answer of the probe; fails the test if there is none in time."""
    deadline = time.monotonic() + within
    while not (answer := probe()):
        assert time.monotonic() < deadline, f"not within {within} seconds"
        time.sleep(0.02)
    return answer


def have_ended(processes):
    """Whether none of them runs. A zombie does not run: its new parent, PID 1, may reap it later."""

    def runs(process):
        with contextlib.suppress(psutil.NoSuchProcess):
            return process.status() != psutil.STATUS_ZOMBIE
        return False

    return not any(runs(process) for process in processes)


def zipped(code):
    """A zip of a module ``index`` or of the files given, by name."""
    files = {"index.py": code} if isinstance(code, str) else code
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        for name, text in files.items():
            packed.writestr(name, text)
    return archive.getvalue()


class AwsProcess:
    """A running stand-in."""

    network = NETWORK
    eventually = staticmethod(eventually)
    have_ended = staticmethod(have_ended)
    zipped = staticmethod(zipped)

    def __init__(self, state, *arguments, environ=None):
        self.state = state
        state.mkdir(parents=True, exist_ok=True)
        self.errors = state / "stderr"
        with self.errors.open("ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "rowqueue_local.aws", "--port", "0", "--state-dir", str(state), *arguments],
                stdout=subprocess.PIPE,
                stderr=errors,
                env=os.environ | (environ or {}),
            )
        self.url = json.loads(self.process.stdout.readline())["ready"]
        self._clients = {}
        self._numbers = itertools.count(1)

    def client(self, service):
        """A boto3 client that tries once."""
        if service not in self._clients:
            self._clients[service] = boto3.client(
                service,
                region_name=REGION,
                endpoint_url=self.url,
                aws_access_key_id="testing",
                aws_secret_access_key="testing",
                config=Config(retries={"total_max_attempts": 1}),
            )
        return self._clients[service]

    @property
    def environ(self):
        """The environment variables for another program."""
        credentials = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
        regions = {"AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION}
        return os.environ | credentials | regions | {"AWS_ENDPOINT_URL": self.url}

    @property
    def children(self):
        """Its living child processes."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def name(self, what="thing"):
        """A unique name."""
        return f"{what}-{next(self._numbers)}"

    def logged(self, group, stream=None):
        """The messages of a log group or of one of its streams, in order."""
        which = {"logStreamNames": [stream]} if stream else {}
        return [
            event["message"] for event in self.client("logs").filter_log_events(logGroupName=group, **which)["events"]
        ]

    def register(self, *command, family=None, tags=(), **container):
        """Register a task definition whose container runs the worker; answers its family."""
        family = family or self.name("family")
        image = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/worker:v1@sha256:0123"
        definition = {"name": "worker", "image": image, "command": list(command), **container}
        self.client("ecs").register_task_definition(
            family=family,
            requiresCompatibilities=["FARGATE"],
            networkMode="awsvpc",
            cpu="256",
            memory="512",
            containerDefinitions=[definition],
            tags=list(tags),
        )
        return family

    def run(self, family, **request):
        """RunTask; answers its tasks."""
        request = {"cluster": "main", "launchType": "FARGATE", "networkConfiguration": NETWORK, **request}
        if "capacityProviderStrategy" in request:
            del request["launchType"]
        return self.client("ecs").run_task(taskDefinition=family, **request)["tasks"]

    def run_to_the_end(self, family, **request):
        """RunTask for one task; answers the task when it has stopped."""
        [task] = self.run(family, **request)
        return self.stopped(task)

    def described(self, task):
        """The task as it is now."""
        return self.client("ecs").describe_tasks(cluster="main", tasks=[task["taskArn"]])["tasks"][0]

    def running(self, task):
        """Wait until it runs."""
        self.client("ecs").get_waiter("tasks_running").wait(
            cluster="main", tasks=[task["taskArn"]], WaiterConfig=QUICKLY
        )
        return self.described(task)

    def scratch(self, task):
        """Where the task's files are."""
        return self.state / "scratch" / task["taskArn"].rpartition("/")[2]

    def at_work(self, task):
        """Wait until its program has installed its signal handler, which is later than RUNNING."""
        eventually((self.scratch(task) / "at-work").exists)
        return self.described(task)

    def stopped(self, task):
        """Wait until it has stopped."""
        self.client("ecs").get_waiter("tasks_stopped").wait(
            cluster="main", tasks=[task["taskArn"]], WaiterConfig=QUICKLY
        )
        return self.described(task)

    def create_function(self, code, *, name=None, **configuration):
        """Create a function of one module, ``index``, or of the files given; answers its name."""
        name = name or self.name("function")
        self.client("lambda").create_function(
            **{
                "FunctionName": name,
                "Runtime": "python3.13",
                "Role": self.role(),
                "Handler": "index.handler",
                "Code": {"ZipFile": zipped(code)},
                **configuration,
            }
        )
        return name

    def create_recorder(self, file):
        """Create a function that writes each event to the file, a line each; answers its ARN."""
        name = self.create_function(RECORDING, Environment={"Variables": {"FILE": str(file)}})
        return self.client("lambda").get_function(FunctionName=name)["Configuration"]["FunctionArn"]

    def role(self):
        """The ARN of a role."""
        trust = {
            "Version": "2012-10-17",
            "Statement": [
                {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "lambda.amazonaws.com"}}
            ],
        }
        created = self.client("iam").create_role(RoleName=self.name("role"), AssumeRolePolicyDocument=json.dumps(trust))
        return created["Role"]["Arn"]

    def invoke(self, name, event=None, **request):
        """Invoke a function; answers the reply, its payload parsed."""
        reply = self.client("lambda").invoke(FunctionName=name, Payload=json.dumps(event or {}), **request)
        text = reply["Payload"].read()
        return reply | {"Payload": json.loads(text) if text else None}

    def local(self, path, body=None):
        """Send a request below ``/_local/``; returns the status and the answer."""
        data = None if body is None else json.dumps(body).encode()
        try:
            with urllib.request.urlopen(f"{self.url}/_local/{path}", data=data, timeout=10) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def end(self):
        """SIGTERM; answers the exit code and the seconds that it took."""
        begun = time.monotonic()
        self.process.terminate()
        code = self.process.wait(timeout=15)
        self.process.stdout.close()
        return code, time.monotonic() - begun


@contextlib.contextmanager
def _started(state, *arguments, environ=None):
    """A stand-in with the worker's image and a cluster; afterwards checks that no process is left."""
    worker = Path(state) / "worker.py"
    worker.parent.mkdir(parents=True, exist_ok=True)
    worker.write_text(WORKER)
    image = f"team/worker={json.dumps([sys.executable, str(worker)])}"
    stand_in = AwsProcess(Path(state), "--image", image, *arguments, environ=environ)
    try:
        stand_in.client("ecs").create_cluster(clusterName="main", capacityProviders=["FARGATE", "FARGATE_SPOT"])
        yield stand_in
    finally:
        left = stand_in.children if stand_in.process.poll() is None else []
        stand_in.end()
        assert have_ended(left)


@pytest.fixture(scope="session")
def started():
    """Starts a stand-in with the worker's image and a cluster, as a context."""
    return _started


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory):
    """One for all the tests of a module; they use unique names."""
    inject = ("--inject", "PLATFORM=injected", "--inject", "DEPLOYED=injected")
    with _started(tmp_path_factory.mktemp("aws"), "--task-start-seconds", "0.1", *inject) as running:
        yield running


@pytest.fixture
def start(tmp_path):
    """Starts stand-ins for a single test."""
    with contextlib.ExitStack() as cleanup:
        yield lambda *arguments, environ=None: cleanup.enter_context(
            _started(tmp_path / "aws", *arguments, environ=environ)
        )
