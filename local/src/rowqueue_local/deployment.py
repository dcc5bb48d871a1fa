"""Deploys into the embedded stack what Terraform deploys to AWS and ``setup_database.sh`` to Snowflake."""

from __future__ import annotations

import io
import json
import zipfile
from typing import TYPE_CHECKING, Any

import boto3
import snowflake.connector

from rowqueue_local.stack import ENVIRONMENT, REGION, REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rowqueue_local.stack import Stack

PROCESSOR = f"{ENVIRONMENT}-snowflake-processor"
POLLER = f"{ENVIRONMENT}-snowflake-poller"
BUCKET = f"{PROCESSOR}-certs"
LEASE_BUCKET = f"{POLLER}-lease"
SECRET = f"{ENVIRONMENT}-snowflake-credentials"
PUSH = f"{ENVIRONMENT}-snowflake-push"
_SCRIPTS = ("00_roles.sql", "01_create_table.sql", "03_actions.sql", "03_monitoring_views.sql", "04_grants.sql")


def client(stack: Stack, service: Any) -> Any:
    """A boto3 client of the AWS stand-in, by the service's name."""
    environ = stack.environ
    return boto3.client(
        service,
        region_name=REGION,
        endpoint_url=stack.aws,
        aws_access_key_id=environ["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environ["AWS_SECRET_ACCESS_KEY"],
    )


def session(stack: Stack, **place: str) -> snowflake.connector.SnowflakeConnection:
    """A connection to the Snowflake stand-in, to insert and look; the system under test makes its own.

    Args:
        stack: the running stack.
        place: warehouse, database and schema, where they are not the stack's own.
    """
    environ = stack.environ
    here = {name: environ[f"SNOWFLAKE_{name.upper()}"] for name in ("warehouse", "database", "schema")}
    return snowflake.connector.connect(
        account=environ["SNOWFLAKE_ACCOUNT"],
        user=environ["SNOWFLAKE_USER"],
        password=environ["SNOWFLAKE_PASSWORD"],
        host=environ["SNOWFLAKE_HOST"],
        port=int(environ["SNOWFLAKE_PORT"]),
        protocol=environ["SNOWFLAKE_PROTOCOL"],
        **here | place,
        paramstyle="qmark",
        network_timeout=60,
        platform_detection_timeout_seconds=0.0,
    )


def deploy(stack: Stack) -> None:
    """Create tables, views, certificates, secret, cluster, task definition, function, and what invokes it."""
    create_tables(stack)
    _upload_certificates(stack)
    client(stack, "s3").create_bucket(Bucket=LEASE_BUCKET)
    secret_arn = _store_secret(stack)
    task_definition = _register_task(stack, secret_arn)
    function = _create_function(stack, task_definition)
    _schedule(stack, function)
    _watch_tasks(stack, function)
    _open_push(stack, function)


def create_tables(stack: Stack) -> None:
    """Run the SQL scripts of ``snowflake/`` unchanged, and give the programs' user its public key."""
    with session(stack) as connection:
        for name in ("warehouse", "database", "schema"):
            connection.cursor().execute(f"SET queue_{name} = '{stack.environ[f'SNOWFLAKE_{name.upper()}']}'")
        for script in _SCRIPTS:
            connection.execute_string((REPOSITORY / "snowflake" / script).read_text(encoding="utf-8"))
        connection.cursor().execute("USE ROLE ACCOUNTADMIN")
        connection.cursor().execute(f"ALTER USER QUEUE_DB_SERVICE SET RSA_PUBLIC_KEY = '{stack.service_key.public}'")


def _upload_certificates(stack: Stack) -> None:
    s3 = client(stack, "s3")
    s3.create_bucket(Bucket=BUCKET)
    for path in (stack.certificates.client, stack.certificates.client_key, stack.certificates.ca):
        s3.put_object(Bucket=BUCKET, Key=f"{ENVIRONMENT}/{path.name}", Body=path.read_bytes())


def _store_secret(stack: Stack) -> str:
    environ = stack.environ_of("processor")
    secret = {"username": environ["SNOWFLAKE_USER"], "private_key": environ["SNOWFLAKE_PRIVATE_KEY"]}
    answer = client(stack, "secretsmanager").create_secret(Name=SECRET, SecretString=json.dumps(secret))
    return str(answer["ARN"])


def _snowflake_variables(stack: Stack, program: str) -> dict[str, str]:
    """Where the queue is, and how the program logs in. The AWS stand-in injects host, port and protocol."""
    names = ("ACCOUNT", "WAREHOUSE", "DATABASE", "SCHEMA", "TABLE", "AUTHENTICATION", "ROLE")
    environ = stack.environ_of(program)
    return {f"SNOWFLAKE_{name}": environ[f"SNOWFLAKE_{name}"] for name in names}


def _register_task(stack: Stack, secret_arn: str) -> str:
    ecs = client(stack, "ecs")
    ecs.create_cluster(clusterName=PROCESSOR)
    client(stack, "logs").create_log_group(logGroupName=f"/ecs/{PROCESSOR}")
    environment = {
        "ENVIRONMENT": ENVIRONMENT,
        "AWS_DEFAULT_REGION": REGION,
        "CERT_BUCKET": BUCKET,
        "EXTERNAL_SERVICE_URL": stack.partner,
        **_snowflake_variables(stack, "processor"),
        **stack.options.processor,
    }
    container = {
        "name": "processor",
        "image": f"123456789012.dkr.ecr.{REGION}.amazonaws.com/{PROCESSOR}:local",
        "essential": True,
        "stopTimeout": stack.options.stop_timeout_s,
        "environment": _pairs(environment),
        "secrets": [
            {"name": "SNOWFLAKE_USER", "valueFrom": f"{secret_arn}:username::"},
            {"name": "SNOWFLAKE_PRIVATE_KEY", "valueFrom": f"{secret_arn}:private_key::"},
        ],
        "logConfiguration": {
            "logDriver": "awslogs",
            "options": {
                "awslogs-group": f"/ecs/{PROCESSOR}",
                "awslogs-region": REGION,
                "awslogs-stream-prefix": "ecs",
            },
        },
    }
    answer = ecs.register_task_definition(
        family=PROCESSOR,
        networkMode="awsvpc",
        requiresCompatibilities=["FARGATE"],
        cpu="256",
        memory="512",
        containerDefinitions=[container],
    )
    return str(answer["taskDefinition"]["taskDefinitionArn"])


def _create_function(stack: Stack, task_definition: str) -> str:
    environment = {
        "ENVIRONMENT": ENVIRONMENT,
        "ECS_CLUSTER": PROCESSOR,
        "ECS_TASK_DEFINITION": task_definition,
        "ECS_SUBNETS": json.dumps(["subnet-local"]),
        "ECS_SECURITY_GROUP": "sg-local",
        "LEASE_BUCKET": LEASE_BUCKET,
        **_snowflake_variables(stack, "poller"),
        **stack.options.poller,
    }
    functions = client(stack, "lambda")
    answer = functions.create_function(
        FunctionName=POLLER,
        Runtime="python3.13",
        Role=_role(stack, POLLER, "lambda.amazonaws.com"),
        Handler="index.handler",
        Code={"ZipFile": function_zip()},
        Timeout=55,
        MemorySize=512,
        Environment={"Variables": environment},
    )
    # A failed stop event is retried for five minutes; after that the ticks have done its work. Failed ticks are retried
    # too, which is harmless because each tick observes before it acts.
    limits = {"MaximumRetryAttempts": 2, "MaximumEventAgeInSeconds": 300}
    functions.put_function_event_invoke_config(FunctionName=POLLER, **limits)
    return str(answer["FunctionArn"])


def stop_pattern(cluster_arn: str) -> dict[str, Any]:
    """The events of processors that may have left claims or ready entries behind.

    A processor that ended with 0 has released all its entries, so its event must not wake the warehouse. The exception
    is a Spot interruption: then entries are left. A processor that was killed after a stop request has exit code 137.
    """
    codes = ["TaskFailedToStart", "SpotInterruption", "TerminationNotice", "InfrastructureHealth"]  # of TaskStopCode
    return {
        "source": ["aws.ecs"],
        "detail-type": ["ECS Task State Change"],
        "detail": {
            "clusterArn": [cluster_arn],
            "group": [f"family:{PROCESSOR}"],
            "lastStatus": ["STOPPED"],
            "$or": [{"stopCode": codes}, {"containers": {"exitCode": [{"anything-but": 0}]}}],
        },
    }


def _watch_tasks(stack: Stack, function_arn: str) -> None:
    name = f"{ENVIRONMENT}-snowflake-task-stopped"
    events = client(stack, "events")
    (cluster,) = client(stack, "ecs").describe_clusters(clusters=[PROCESSOR])["clusters"]
    rule = events.put_rule(Name=name, EventPattern=json.dumps(stop_pattern(cluster["clusterArn"])))
    _permit(stack, "events.amazonaws.com", rule["RuleArn"])
    events.put_targets(Rule=name, Targets=[{"Id": "poller", "Arn": function_arn}])


def _open_push(stack: Stack, function_arn: str) -> None:
    sns = client(stack, "sns")
    topic = sns.create_topic(Name=PUSH)["TopicArn"]
    _permit(stack, "sns.amazonaws.com", topic)
    sns.subscribe(TopicArn=topic, Protocol="lambda", Endpoint=function_arn)


def _permit(stack: Stack, service: str, source_arn: str) -> None:
    client(stack, "lambda").add_permission(
        FunctionName=POLLER,
        StatementId=service.partition(".")[0],
        Action="lambda:InvokeFunction",
        Principal=service,
        SourceArn=source_arn,
    )


def _schedule(stack: Stack, function_arn: str) -> None:
    client(stack, "scheduler").create_schedule(
        Name=f"{POLLER}-schedule",
        ScheduleExpression="rate(1 minute)",
        FlexibleTimeWindow={"Mode": "OFF"},
        Target={
            "Arn": function_arn,
            "RoleArn": _role(stack, f"{POLLER}-schedule", "scheduler.amazonaws.com"),
            "Input": "{}",
        },
    )


def _role(stack: Stack, name: str, service: str) -> str:
    statement = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": service}}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    answer = client(stack, "iam").create_role(RoleName=name, AssumeRolePolicyDocument=policy)
    return str(answer["Role"]["Arn"])


def function_zip() -> bytes:
    """The zip of the function's code: the entry point and the package without the processor and the command line.

    The dependencies come from the virtual environment that the stack runs in.
    """
    package = REPOSITORY / "src" / "rowqueue"
    left_out = {"processor", "migrate", "cli.py", "__pycache__"}
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.write(REPOSITORY / "lambda_poller" / "index.py", "index.py")
        for path in sorted(package.rglob("*")):
            inside = path.relative_to(package)
            if path.is_file() and not left_out & set(inside.parts):
                file.write(path, f"rowqueue/{inside}")
    return archive.getvalue()


def _pairs(variables: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in variables.items()]
