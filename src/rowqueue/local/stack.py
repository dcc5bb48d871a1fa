"""The embedded stack as a whole: starts its services, deploys into them, and takes them down again."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import selectors
import shutil
import ssl
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from rowqueue.errors import RowqueueError
from rowqueue.local import authority, processes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rowqueue.local.authority import Certificates

REPOSITORY = Path(__file__).resolve().parents[3]
REGION = "us-east-1"
ENVIRONMENT = "dev"
_READY_WITHIN_S = 60.0
_STOP_WITHIN_S = 10.0
_LOCK = "stack.lock"
_OURS = ("aws", "certificates", "logs", "tmp")


class StackError(RowqueueError):
    """The embedded stack can not be started, or a part of it ended by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How the stack is started.

    Attributes:
        state: everything it writes is below this folder.
        tick_s: overrides the schedule's rate, seconds.
        task_start_s: how long a task takes from its request to its start, seconds (30 to 60 on real Fargate).
        poller: environment of the function, over the defaults.
        processor: environment of the task, over the defaults.
    """

    state: Path
    tick_s: float | None = None
    task_start_s: float = 0.3
    poller: Mapping[str, str] = field(default_factory=dict)
    processor: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A running stack, by its addresses.

    Attributes:
        options: how it was started.
        aws: endpoint of the AWS stand-in.
        snowflake: address of the Snowflake stand-in, http.
        partner: URL of the partner service, https.
        certificates: what the partner asks for.
        password: the Snowflake user's.
        services: the processes.
    """

    options: Options
    aws: str
    snowflake: str
    partner: str
    certificates: Certificates
    password: str = field(repr=False)
    services: Mapping[str, subprocess.Popen[bytes]] = field(repr=False)

    @property
    def environ(self) -> dict[str, str]:
        """What another program needs in its environment to reach the stack."""
        address = urlsplit(self.snowflake)
        return {
            "AWS_ENDPOINT_URL": self.aws,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "SNOWFLAKE_ACCOUNT": "local",
            "SNOWFLAKE_USER": "processor",
            "SNOWFLAKE_PASSWORD": self.password,
            "SNOWFLAKE_WAREHOUSE": "QUEUE_WH",
            "SNOWFLAKE_DATABASE": "QUEUE_DB",
            "SNOWFLAKE_SCHEMA": "PUBLIC",
            "SNOWFLAKE_TABLE": "PROCESSING_QUEUE",
            "SNOWFLAKE_HOST": str(address.hostname),
            "SNOWFLAKE_PORT": str(address.port),
            "SNOWFLAKE_PROTOCOL": "http",
            "EXTERNAL_SERVICE_URL": self.partner,
            "PARTNER_CA": str(self.certificates.ca),
            "PARTNER_CLIENT_CERTIFICATE": str(self.certificates.client),
            "PARTNER_CLIENT_KEY": str(self.certificates.client_key),
        }

    def partner_stats(self) -> dict[str, Any]:
        """What the partner saw: see :class:`rowqueue.local.partner.Ledger`."""
        context = ssl.create_default_context(cafile=self.certificates.ca)
        context.load_cert_chain(self.certificates.client, self.certificates.client_key)
        return _told(self.partner.replace("/process", "/_local/stats"), context)

    def snowflake_stats(self) -> dict[str, Any]:
        """What the Snowflake stand-in was sent."""
        return _told(f"{self.snowflake}/_local/stats")

    def check(self) -> None:
        """Make sure that every service still runs.

        Raises:
            StackError: with the last lines of the log of the one that does not.
        """
        for name, service in self.services.items():
            if service.poll() is not None:
                raise StackError(
                    f"{name} ended by itself ({service.returncode}):\n{_tail(_log(self.options.state, name))}"
                )


def _told(url: str, context: ssl.SSLContext | None = None) -> dict[str, Any]:
    with urllib.request.urlopen(url, context=context, timeout=10) as answer:  # noqa: S310 -- ours
        return dict(json.load(answer))


@contextlib.contextmanager
def running(options: Options) -> Iterator[Stack]:
    """Start the services; they end with the block, and with this process whatever ends it.

    Raises:
        StackError: another stack runs with the same state folder, or a service does not start.
    """
    if not (REPOSITORY / "container" / "processor.py").exists():
        raise StackError("the embedded stack runs container/processor.py, so it needs a checkout of the repository")
    with _alone(options.state), contextlib.ExitStack() as cleanup:
        services: dict[str, subprocess.Popen[bytes]] = {}
        cleanup.callback(_stop_all, services)
        certificates = authority.issue(options.state / "certificates")
        password = secrets.token_urlsafe(12)
        for name, arguments in _independent(certificates).items():
            services[name] = _start(name, arguments, options.state)
        snowflake, partner = (_ready(services[name], name, options.state) for name in ("snowflake", "partner"))
        services["aws"] = _start("aws", _aws(options, snowflake), options.state)
        yield Stack(
            options=options,
            aws=_ready(services["aws"], "aws", options.state),
            snowflake=snowflake,
            partner=f"{partner}/process",
            certificates=certificates,
            password=password,
            services=services,
        )


def _independent(certificates: Certificates) -> dict[str, list[str]]:
    return {
        "snowflake": [],
        "partner": ["--certificate", str(certificates.server), "--ca", str(certificates.ca)],
    }


def _aws(options: Options, snowflake: str) -> list[str]:
    address = urlsplit(snowflake)
    processor = [sys.executable, str(REPOSITORY / "container" / "processor.py")]
    arguments = [
        "--state-dir",
        str(options.state / "aws"),
        "--image",
        f"{ENVIRONMENT}-snowflake-processor={json.dumps(processor)}",
        "--task-start-seconds",
        str(options.task_start_s),
    ]
    for name, value in (("HOST", address.hostname), ("PORT", address.port), ("PROTOCOL", "http")):
        arguments += ["--inject", f"SNOWFLAKE_{name}={value}"]
    return arguments + (["--tick", str(options.tick_s)] if options.tick_s is not None else [])


@contextlib.contextmanager
def _alone(state: Path) -> Iterator[None]:
    """Hold the state folder, rid of what an earlier run of ours left, processes included, and of nothing else.

    Raises:
        StackError: the folder is in use, or holds what is not ours.
    """
    state.mkdir(parents=True, exist_ok=True)
    if not (state / _LOCK).exists() and any(state.iterdir()):
        raise StackError(f"{state} is not empty, and was not made by a stack: name another folder")
    with (state / _LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StackError(
                f"a stack is running already with its state in {state}; stop it, or use another folder"
            ) from None
        for registry in (state / "pids", *(state / "aws").rglob("pids")):
            processes.sweep(registry)
        for name in _OURS:
            shutil.rmtree(state / name, ignore_errors=True)
            (state / name).mkdir()
        yield


def _start(name: str, arguments: Sequence[str], state: Path) -> subprocess.Popen[bytes]:
    with _log(state, name).open("wb") as log:
        return processes.spawn(
            [sys.executable, "-m", f"rowqueue.local.{name}", "--port", "0", *arguments],
            registry=state / "pids",
            env=_plain_environment(state),
            stdout=subprocess.PIPE,
            stderr=log,
        )


def _plain_environment(state: Path) -> dict[str, str]:
    """The caller's, without what would lead a service to a real account, and with temporary files below ``state``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SNOWFLAKE_"))}
    return kept | {"TMPDIR": str(state / "tmp"), "PYTHONUNBUFFERED": "1"}


def _ready(service: subprocess.Popen[bytes], name: str, state: Path) -> str:
    """The address that a service tells once it listens."""
    assert service.stdout is not None
    deadline = time.monotonic() + _READY_WITHIN_S
    with selectors.DefaultSelector() as selector:
        selector.register(service.stdout, selectors.EVENT_READ)
        while time.monotonic() < deadline and service.poll() is None:
            if selector.select(timeout=0.2):
                if line := service.stdout.readline():
                    return str(json.loads(line)["ready"])
                break
    raise StackError(f"{name} did not start:\n{_tail(_log(state, name))}")


def _stop_all(services: Mapping[str, subprocess.Popen[bytes]]) -> None:
    """The last started first: its tasks still reach the others while they drain."""
    for service in reversed(list(services.values())):
        processes.stop(service, grace_seconds=_STOP_WITHIN_S)
        if service.stdout is not None:
            service.stdout.close()


def _log(state: Path, name: str) -> Path:
    return state / "logs" / f"{name}.log"


def _tail(log: Path, lines: int = 15) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
