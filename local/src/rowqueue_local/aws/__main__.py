"""The AWS stand-in: moto's server, with functions, Fargate tasks and schedules that run as local processes.

``python -m rowqueue_local.aws --port 0 --state-dir DIR`` prints one line of JSON, ``{"ready": URL}``, once it listens.
boto3, the AWS CLI and Terraform use it if ``AWS_ENDPOINT_URL`` is that URL. It keeps its state in memory.
``controls`` is the interface for drills: faults, signals to tasks, a timeline.

It has no permissions (every call is allowed, and a rule, a topic or a schedule invokes a function without a check of
its resource policy), no networks, capacity, quotas, image pulls, alarms, dead-letter queues, destinations or function
URLs, and no events of services other than ECS. A rule invokes only functions, with the complete event or a constant
Input; other targets and rules with a schedule are not run. Messages of SNS are not signed.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rowqueue_local.aws import inside_moto
from rowqueue_local.aws.controls import Controls
from rowqueue_local.aws.errors import ApiError
from rowqueue_local.aws.event_bus import EventBus
from rowqueue_local.aws.fargate import TaskOperations
from rowqueue_local.aws.fargate_processes import Platform
from rowqueue_local.aws.faults import Faults
from rowqueue_local.aws.gateway import Gateway
from rowqueue_local.aws.host import Host
from rowqueue_local.aws.injected import Injected
from rowqueue_local.aws.lambda_functions import Functions
from rowqueue_local.aws.lambda_model import Invocation
from rowqueue_local.aws.lambda_pool import EnvironmentPool
from rowqueue_local.aws.logs import LogShipper
from rowqueue_local.aws.notifications import sns_event
from rowqueue_local.aws.s3_writes import OneS3WriteAtATime
from rowqueue_local.aws.scheduler import Scheduler

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rowqueue_local.aws.notifications import Notification

_log = logging.getLogger(__name__)

_GRACE_SECONDS = 1.0  # from SIGTERM to SIGKILL of the tasks when the stand-in itself ends


class AwsStandIn:
    """All parts, wired together.

    Args:
        options: the parsed command line.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self._server = inside_moto.new_server(options.host, options.port)
        self.url = f"http://{options.host}:{self._server.port}"
        # The children are on this machine, and one cannot connect to 0.0.0.0.
        own_url = self.url.replace("//0.0.0.0:", "//127.0.0.1:")
        self._host = Host(endpoint_url=own_url, state_dir=options.state_dir, injected=dict(options.inject))
        self._logs = LogShipper(self._host.client)
        start = (options.task_start_seconds, options.task_start_seconds)
        injected = Injected(Faults(task_start_seconds=start), random.uniform)
        self._functions = Functions(inside_moto.find_function, EnvironmentPool(self._host, self._logs), injected)
        self._bus = EventBus(rules=inside_moto.rules_of, invoke=self._invoke_for, waits=injected.event_waits)
        platform = Platform(host=self._host, logs=self._logs, images=dict(options.image), injected=injected)
        self._fargate = TaskOperations(platform, self._bus.put)
        self._scheduler = Scheduler(inside_moto.enabled_schedules, self._invoke_later, options.tick)
        inside_moto.hand_over(put=self._bus.put, notify=self._notify)
        controls = Controls(injected, self._fargate)
        self._server.app = Gateway(
            OneS3WriteAtATime(self._server.app),
            fargate=self._fargate,
            functions=self._functions,
            controls=controls,
            is_away=injected.is_away,
            not_found=injected.not_found,
        )
        # The poll interval affects only the shutdown; requests do not wait for it.
        self._serving = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="server", daemon=True)

    def start(self) -> None:
        """Begin to answer. Connections are accepted since the server was made."""
        self._serving.start()
        self._bus.start()
        self._scheduler.start()

    def close(self) -> None:
        """Stop everything. Tasks may still call the stand-in until they have ended."""
        self._scheduler.close()
        self._bus.close()
        self._functions.close()
        self._fargate.close(_GRACE_SECONDS)
        self._logs.close()
        self._server.shutdown()
        self._server.server_close()
        self._host.close()

    def _invoke_later(self, region: str, function: str, event: str) -> None:
        self._functions.invoke_later(Invocation(region=region, function=function, payload=event.encode()))

    def _invoke_for(self, sender: str, function: str, event: str) -> None:
        """Invoke a function by its ARN for a rule or a topic; a refusal is only logged."""
        try:
            self._invoke_later(function.split(":")[3], function, event)
        except ApiError as error:
            _log.warning("%s: %s: %s", sender, error.code, error)

    def _notify(self, function: str, notification: Notification) -> None:
        self._invoke_for(notification.topic_arn, function, json.dumps(sns_event(notification, time.time())))


def main(argv: Sequence[str] | None = None) -> None:
    """Serve until SIGTERM or SIGINT."""
    options = _parse(argv)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    ready_line, sys.stdout = sys.stdout, sys.stderr  # moto prints sometimes, and only one line may go to stdout
    logging.basicConfig(format="%(name)s: %(message)s")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    _forget_own_aws_settings()
    inside_moto.configure()
    stand_in = AwsStandIn(options)
    stand_in.start()
    ready_line.write(json.dumps({"ready": stand_in.url}) + "\n")
    ready_line.flush()
    ended.wait()
    stand_in.close()
    # Skip the interpreter's teardown, which takes seconds on a busy machine because of moto's many objects.
    os._exit(0)


def _forget_own_aws_settings() -> None:
    """Ignore the developer's profile, region and endpoints, which could break the stand-in."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m rowqueue_local.aws", description=__doc__.partition("\n")[0])
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen at")
    parser.add_argument("--port", type=int, default=0, help="the port to listen at; 0 takes a free one")
    parser.add_argument("--state-dir", type=Path, required=True, help="the folder for everything that is written")
    parser.add_argument(
        "--image",
        type=_image,
        action="append",
        default=[],
        metavar="NAME=ARGV",
        help="an image's repository, without registry and tag, and the argv (JSON) that replaces its entry point",
    )
    parser.add_argument(
        "--inject",
        type=_variable,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an environment variable for every function and task that is not deployed with its own value",
    )
    parser.add_argument("--task-start-seconds", type=float, default=0.3, help="from RunTask to RUNNING")
    parser.add_argument("--tick", type=float, help="seconds; replaces the rate of every schedule")
    return parser.parse_args(argv)


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, got {text!r}")
    return name, value


def _image(text: str) -> tuple[str, list[str]]:
    name, argv_json = _variable(text)
    try:
        argv = json.loads(argv_json)
    except ValueError:
        argv = None
    if not isinstance(argv, list) or not argv or not all(isinstance(word, str) for word in argv):
        raise argparse.ArgumentTypeError(f"expected the argv of {name} as a JSON list of strings, got {argv_json}")
    if shutil.which(argv[0]) is None:
        raise argparse.ArgumentTypeError(f"{argv[0]}, which stands for {name}, is no program on this machine")
    return name, argv


if __name__ == "__main__":
    main()
