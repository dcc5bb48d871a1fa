"""Copies of the deployed function and of the deployed task definition, to be changed and run: the originals stay."""

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
        told: why it stopped, by ECS, and its log.
    """

    exit_code: int | None
    told: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Copies:
    """What can be changed.

    Attributes:
        environment: where the originals are.
        variables: the function's.
        container: the task's only container.
        overrides: given to each task besides, as RunTask can.
    """

    environment: Deployed
    variables: dict[str, str]
    container: dict
    overrides: dict[str, str]

    def invoke(self, variables, *, handler="index.handler"):
        """Invoke the function with other variables; what it answers, or the error that Lambda tells."""
        functions = self.environment.client("lambda")
        functions.update_function_configuration(
            FunctionName=FUNCTION, Handler=handler, Environment={"Variables": variables}
        )
        return json.loads(functions.invoke(FunctionName=FUNCTION, Payload=b"{}")["Payload"].read())

    def register(self, container):
        """A task definition with another container; returns its ARN."""
        original = self.environment.task_definition()
        kept = {name: original[name] for name in _KEPT}
        ecs = self.environment.client("ecs")
        registered = ecs.register_task_definition(family=FAMILY, containerDefinitions=[container], **kept)
        return registered["taskDefinition"]["taskDefinitionArn"]

    def run(self, container):
        """Run a task with another container to its end."""
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
            told="\n".join([ended["stoppedReason"], *self._log(task["taskArn"].rpartition("/")[2])]),
        )

    def _log(self, task_id):
        group, stream = self.environment.outputs["processor_log_group"], f"ecs/processor/{task_id}"
        logs = self.environment.client("logs")
        if not logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=stream)["logStreams"]:
            return []
        return [event["message"] for event in logs.get_log_events(logGroupName=group, logStreamName=stream)["events"]]


def pairs(variables):
    """Variables as a container definition has them."""
    return [{"name": name, "value": value} for name, value in variables.items()]


def without(container, *names):
    """A container without some of its variables and secrets."""
    return container | {
        kind: [pair for pair in container[kind] if pair["name"] not in names] for kind in ("environment", "secrets")
    }


@contextmanager
def copied(environment):
    """Lend copies of what is deployed; they are gone afterwards."""
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
    """Answers as AWS Secrets Manager does to whom it does not let in."""

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps({"__type": "AccessDeniedException", "Message": "no policy allows it"}).encode()
        self.send_response(400)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Quietly."""


@contextmanager
def _refusing_what_the_role_may_not(environment):
    """The stand-in enforces no policy, so a task without its secrets would just read them; on AWS its role decides."""
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
