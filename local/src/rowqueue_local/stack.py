"""The embedded stack: starts its services and stops them."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import math
import secrets
import shutil
import ssl
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from rowqueue_local import authority, processes
from rowqueue_local.services import StackError, ask, log_tail, ready, start, stop_all

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from rowqueue_local.authority import Certificates, ServiceKey

__all__ = ["ENVIRONMENT", "REGION", "REPOSITORY", "Options", "Stack", "StackError", "running"]

REPOSITORY = Path(__file__).resolve().parents[3]
REGION = "us-east-1"
ENVIRONMENT = "dev"
_LOCK = "stack.lock"
_OURS = ("aws", "certificates", "logs", "tmp")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Options of a stack.

    Attributes:
        state: the folder for everything that the stack writes.
        tick_s: replaces the schedule's rate, seconds.
        task_start_s: time from the request of a task to its start, seconds (30 to 60 on Fargate).
        stop_timeout_s: time from SIGTERM to SIGKILL of a task, seconds.
        poller: environment variables of the function, in addition to the deployed ones.
        processor: environment variables of the tasks, in addition to the deployed ones.
        snowflake_proxy: starts a proxy, given the URL of the Snowflake stand-in; the functions and tasks get its URL.
        checked_updates: whether the Snowflake stand-in refuses ambiguous updates; the check takes time.
    """

    state: Path
    tick_s: float | None = None
    task_start_s: float = 0.3
    stop_timeout_s: int = 120
    poller: Mapping[str, str] = field(default_factory=dict)
    processor: Mapping[str, str] = field(default_factory=dict)
    snowflake_proxy: Callable[[str], AbstractContextManager[str]] = contextlib.nullcontext
    checked_updates: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A running stack.

    Attributes:
        aws: endpoint of the AWS stand-in.
        snowflake: http URL of the Snowflake stand-in.
        partner: https URL of the partner service.
        certificates: those that the partner requires.
        password: of the Snowflake user that owns the tables.
        service_key: the key pair of the Snowflake user of the programs.
        services: the processes by name.
    """

    options: Options
    aws: str
    snowflake: str
    partner: str
    certificates: Certificates
    password: str = field(repr=False)
    service_key: ServiceKey = field(repr=False)
    services: Mapping[str, subprocess.Popen[bytes]] = field(repr=False)

    @property
    def environ(self) -> dict[str, str]:
        """The environment variables with which another program reaches the stack, as the owner of the tables."""
        address = urlsplit(self.snowflake)
        return {
            "AWS_ENDPOINT_URL": self.aws,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "SNOWFLAKE_ACCOUNT": "local",
            "SNOWFLAKE_AUTHENTICATION": "password",
            "SNOWFLAKE_USER": "owner",
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

    def environ_of(self, program: str) -> dict[str, str]:
        """The same for the poller or the processor: the variables of its own login, which is not the owner's."""
        login = {
            "SNOWFLAKE_AUTHENTICATION": "key_pair",
            "SNOWFLAKE_USER": "QUEUE_DB_SERVICE",
            "SNOWFLAKE_PRIVATE_KEY": self.service_key.private,
            "SNOWFLAKE_ROLE": f"QUEUE_DB_{program.upper()}",
        }
        return {name: value for name, value in self.environ.items() if name != "SNOWFLAKE_PASSWORD"} | login

    def partner_stats(self) -> dict[str, Any]:
        """What the partner received: see :class:`rowqueue_local.partner.Ledger`."""
        return self._ask_partner("/_local/stats")

    def deliveries(self) -> list[dict[str, Any]]:
        """Each delivery that the partner received: see :class:`rowqueue_local.partner.ReceivedDelivery`."""
        deliveries: list[dict[str, Any]] = self._ask_partner("/_local/deliveries")["deliveries"]
        return deliveries

    def snowflake_stats(self) -> dict[str, Any]:
        """What the Snowflake stand-in received."""
        return ask(f"{self.snowflake}/_local/stats")

    def inject(self, **faults: Any) -> dict[str, Any]:
        """Inject faults into the AWS stand-in; returns all faults in force.

        Args:
            faults: the attributes of :class:`rowqueue_local.aws.faults.Faults`; None removes one.

        Raises:
            StackError: a fault is unknown or has a wrong value.
        """
        return ask(f"{self.aws}/_local/faults", faults)

    def met(self) -> dict[str, int]:
        """How often each injected fault of the AWS stand-in has had an effect."""
        return ask(f"{self.aws}/_local/met")

    def signal(self, task: str, name: str) -> None:
        """Send a signal to the program of a task, without ECS knowing.

        Args:
            task: its id or its ARN.
            name: SIGKILL, SIGSTOP, SIGCONT or SIGTERM.

        Raises:
            StackError: there is no such task, or it is not running.
        """
        ask(f"{self.aws}/_local/tasks/{task.rpartition('/')[2]}/signal", {"signal": name})

    def interrupt(self, task: str) -> None:
        """Stop a task as a Spot interruption does, given its id or its ARN.

        Raises:
            StackError: there is no such task, or it is stopping already.
        """
        ask(f"{self.aws}/_local/tasks/{task.rpartition('/')[2]}/interrupt", {})

    def launches(self) -> dict[str, Any]:
        """Each RunTask and the state changes of each task: see :mod:`rowqueue_local.aws.timeline`."""
        return ask(f"{self.aws}/_local/launches")

    def _ask_partner(self, path: str) -> dict[str, Any]:
        context = ssl.create_default_context(cafile=self.certificates.ca)
        context.load_cert_chain(self.certificates.client, self.certificates.client_key)
        return ask(self.partner.replace("/process", path), context=context)

    def most_tasks(self) -> int:
        """The largest number of tasks at one time, from their request until they had stopped."""
        return most_at_once((task["created_at"], task["stopped_at"]) for task in self.launches()["tasks"])

    def check(self) -> None:
        """Check that every service still runs.

        Raises:
            StackError: a service has ended; with the last lines of its log.
        """
        for name, service in self.services.items():
            if service.poll() is not None:
                tail = log_tail(self.options.state, name)
                raise StackError(f"{name} ended by itself ({service.returncode}):\n{tail}")


def most_at_once(spans: Iterable[tuple[float, float | None]]) -> int:
    """The largest number of spans that overlap.

    Args:
        spans: the start of each, and its end or None.
    """
    changes = [change for start, end in spans for change in ((start, 1), (math.inf if end is None else end, -1))]
    # At equal times the ends come first: a task may start in the moment in which another one has stopped.
    return max(itertools.accumulate((number for _, number in sorted(changes)), initial=0))


@contextlib.contextmanager
def running(options: Options) -> Iterator[Stack]:
    """Start the services. They end with the block, and also if this process is killed.

    Raises:
        StackError: another stack uses the same state folder, or a service does not start.
    """
    if not (REPOSITORY / "container" / "processor.py").exists():
        raise StackError("the embedded stack runs container/processor.py, so it needs a checkout of the repository")
    with _alone(options.state), contextlib.ExitStack() as cleanup:
        services: dict[str, subprocess.Popen[bytes]] = {}
        cleanup.callback(_kill_leftovers, options.state)
        cleanup.callback(stop_all, services)
        certificates = authority.issue(options.state / "certificates")
        password = secrets.token_urlsafe(12)
        for name, arguments in _independent(options, certificates).items():
            services[name] = start(name, arguments, options.state)
        snowflake, partner = (ready(services[name], name, options.state) for name in ("snowflake", "partner"))
        seen_by_programs = cleanup.enter_context(options.snowflake_proxy(snowflake))
        services["aws"] = start("aws", _aws(options, seen_by_programs), options.state)
        yield Stack(
            options=options,
            aws=ready(services["aws"], "aws", options.state),
            snowflake=snowflake,
            partner=f"{partner}/process",
            certificates=certificates,
            password=password,
            service_key=authority.service_key(),
            services=services,
        )


def _independent(options: Options, certificates: Certificates) -> dict[str, list[str]]:
    return {
        "snowflake": [] if options.checked_updates else ["--unchecked-updates"],
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


def _kill_leftovers(state: Path) -> None:
    """Kill the children of an AWS stand-in that was killed; on Linux the kernel has done it."""
    for registry in (state / "pids", *(state / "aws").rglob("pids")):
        processes.sweep(registry)


@contextlib.contextmanager
def _alone(state: Path) -> Iterator[None]:
    """Lock the state folder, and remove the files and processes that an earlier stack left there.

    Raises:
        StackError: the folder is in use, or has files that no stack made.
    """
    state.mkdir(parents=True, exist_ok=True)
    if not (state / _LOCK).exists() and any(state.iterdir()):
        raise StackError(f"{state} is not empty and was not made by a stack: use another folder")
    with (state / _LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StackError(
                f"a stack with its state in {state} is already running: stop it, or use another folder"
            ) from None
        _kill_leftovers(state)
        for name in _OURS:
            shutil.rmtree(state / name, ignore_errors=True)
            (state / name).mkdir()
        yield
