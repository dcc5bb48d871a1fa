"""Copies of the deployed function and task definition. Tests change and run the copies, not the originals."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from terraform.deployed import POLLER, PROCESSOR, wait_until

if TYPE_CHECKING:
    from terraform.deployed import Deployed

FUNCTION, FAMILY = f"{POLLER}-copy", f"{PROCESSOR}-copy"
_KEPT = (
    "taskRoleArn",
    "executionRoleArn",
    "networkMode",
    "volumes",
    "requiresCompatibilities",
    "cpu",
    "memory",
    "runtimePlatform",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a task ended.

    Attributes:
        exit_code: None, if it never started.
        output: the stop reason of ECS, and the log.
    """

    exit_code: int | None
    output: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Copies:
    """Copies that a test can change.

    Attributes:
        environment: the deployed environment with the originals.
        variables: the variables of the function.
        container: the only container of the task.
        overrides: additional variables of each task, as RunTask sets them.
    """

    environment: Deployed
    variables: dict[str, str]
    container: dict
    overrides: dict[str, str]

    def invoke(self, variables, *, handler="index.handler"):
        """Invoke the function with other variables; returns its answer, or the error that Lambda reports."""
        functions = self.environment.client("lambda")
        functions.update_function_configuration(
            FunctionName=FUNCTION, Handler=handler, Environment={"Variables": variables}
        )
        return json.loads(functions.invoke(FunctionName=FUNCTION, Payload=b"{}")["Payload"].read())

    def register(self, container):
        """Register a task definition with another container; returns its ARN."""
        original = self.environment.task_definition()
        kept = {name: original[name] for name in _KEPT}
        ecs = self.environment.client("ecs")
        registered = ecs.register_task_definition(family=FAMILY, containerDefinitions=[container], **kept)
        return registered["taskDefinition"]["taskDefinitionArn"]

    def run(self, container):
        """Run a task with another container until it ends."""
        ecs, cluster = self.environment.client("ecs"), self.environment.outputs["cluster_name"]
        override = {"name": container["name"], "environment": pairs(self.overrides)}
        subnets = self.environment.outputs["private_subnet_ids"]
        (task,) = ecs.run_task(
            cluster=cluster,
            taskDefinition=self.register(container),
            launchType="FARGATE",
            networkConfiguration={"awsvpcConfiguration": {"subnets": subnets}},
            overrides={"containerOverrides": [override]},
        )["tasks"]

        def stopped():
            (now,) = ecs.describe_tasks(cluster=cluster, tasks=[task["taskArn"]])["tasks"]
            return now if now["lastStatus"] == "STOPPED" else None

        ended = wait_until(stopped)
        return Ended(
            exit_code=ended["containers"][0].get("exitCode"),
            output="\n".join([ended["stoppedReason"], *self._log(task["taskArn"].rpartition("/")[2])]),
        )

    def _log(self, task_id):
        group, stream = self.environment.outputs["processor_log_group"], f"ecs/processor/{task_id}"
        logs = self.environment.client("logs")
        if not logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=stream)["logStreams"]:
            return []
        return [event["message"] for event in logs.get_log_events(logGroupName=group, logStreamName=stream)["events"]]


def pairs(variables):
    """Variables in the form of a container definition."""
    return [{"name": name, "value": value} for name, value in variables.items()]


def without(container, *names):
    """A container without some of its variables and secrets."""
    return container | {
        kind: [pair for pair in container[kind] if pair["name"] not in names] for kind in ("environment", "secrets")
    }


@contextmanager
def copied(environment):
    """Copies of the deployed function and task definition; they are deleted at the end."""
    function, container = environment.function(), environment.task_definition()["containerDefinitions"][0]
    functions, ecs = environment.client("lambda"), environment.client("ecs")
    functions.create_function(
        FunctionName=FUNCTION,
        Code={"ZipFile": environment.zip.read_bytes()},
        **{name: function[name] for name in ("Runtime", "Role", "Handler", "Timeout", "MemorySize")},
    )
    try:
        with _refusing_what_the_role_may_not(environment) as overrides:
            yield Copies(
                environment=environment,
                variables=function["Environment"]["Variables"],
                container=container,
                overrides=overrides,
            )
    finally:
        functions.delete_function(FunctionName=FUNCTION)
        environment.client("logs").delete_log_group(logGroupName=f"/aws/lambda/{FUNCTION}")
        for arn in ecs.list_task_definitions(familyPrefix=FAMILY)["taskDefinitionArns"]:
            ecs.deregister_task_definition(taskDefinition=arn)


def allowed(environment, role_arn):
    """The actions that the policies of a deployed role allow."""
    iam, role = environment.client("iam"), role_arn.rpartition("/")[2]
    names = iam.list_role_policies(RoleName=role)["PolicyNames"]
    policies = [iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"] for name in names]
    actions = [statement["Action"] for policy in policies for statement in policy["Statement"]]
    return {action for some in actions for action in ([some] if isinstance(some, str) else some)}


class _AccessDenied(BaseHTTPRequestHandler):
    """Answers as AWS Secrets Manager does to a role without permission."""

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps({"__type": "AccessDeniedException", "Message": "no policy allows it"}).encode()
        self.send_response(400)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Log nothing."""


@contextmanager
def _refusing_what_the_role_may_not(environment):
    """Refuse secrets that the role may not read. The stand-in enforces no policy, so the task could read them."""
    if "secretsmanager:GetSecretValue" in allowed(environment, environment.outputs["processor_role_arn"]):
        yield {}
        return
    with ThreadingHTTPServer(("127.0.0.1", 0), _AccessDenied) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield {"AWS_ENDPOINT_URL_SECRETS_MANAGER": f"http://127.0.0.1:{server.server_port}"}
        finally:
            server.shutdown()
            thread.join()
