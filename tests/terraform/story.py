"""Seven entries and what the deployed system does with them."""

from __future__ import annotations

import json
from dataclasses import dataclass

from terraform.deployed import POLLER, processes, wait_until

_NOISE = {"_aws", "timestamp", "event", "level", "Environment", "service"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """Seven entries, from their INSERT to their end.

    Attributes:
        entries: when all have ended.
        launch: the log line of the tick that launched the tasks.
        tasks: as ECS describes them, with their tags.
        environs: the environment variables of each task's process, by task.
        poller: the environment variables of the function's process.
    """

    entries: list
    launch: dict
    tasks: dict
    environs: dict
    poller: dict


SLOW = {"delay_ms": 1500}  # gives the test time to look at the tasks
ORDERS = (SLOW, SLOW, SLOW, SLOW, SLOW, {"status": 400}, {"status": 503})


def play(environment, *, insert, entries):
    """Insert the entries and wait until each has ended."""
    before, environs = len(logged(environment, "tick")), {}
    insert("story", *ORDERS)

    def ended():
        for environ in processes(environment.running, "container/processor.py").values():
            environs[environ["ECS_CONTAINER_METADATA_URI_V4"].rpartition("/")[2]] = environ
        found = entries("story")
        return found if {entry["status"] for entry in found} <= {"completed", "failed"} else None

    def stopped():
        cluster = environment.outputs["cluster_name"]
        tasks = environment.client("ecs").describe_tasks(cluster=cluster, tasks=list(environs), include=["TAGS"])[
            "tasks"
        ]
        return tasks if {task["lastStatus"] for task in tasks} == {"STOPPED"} else None

    found = wait_until(ended, instead=environment.complaints)
    tasks = wait_until(stopped)
    return Story(
        entries=found,
        launch=next(line for line in logged(environment, "tick")[before:] if line["TasksLaunched"]),
        tasks={task["taskArn"].rpartition("/")[2]: task for task in tasks},
        environs=environs,
        poller=_of_the_function(environment),
    )


def _of_the_function(environment):
    environs = processes(environment.running, "lambda_bootstrap.py").values()
    return next(environ for environ in environs if environ["AWS_LAMBDA_FUNCTION_NAME"] == POLLER)


def logged(environment, kind):
    """The poller's log lines of one event."""
    return [line for line in environment.logged(environment.outputs["poller_log_group"]) if line["event"] == kind]


def tell(environment, story):
    """The log lines of the story, in order."""
    lines = [story.launch, *environment.logged(environment.outputs["processor_log_group"])]
    for line in sorted(lines, key=lambda line: line["timestamp"]):
        rest = {name: value for name, value in line.items() if name not in _NOISE and value}
        yield f"{line['timestamp']} {line['service']} {line['event']} {json.dumps(rest)}"
    yield from (f"in the end: {json.dumps(entry)}" for entry in story.entries)
