"""Fargate tasks that run, seen through boto3."""

from __future__ import annotations

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest


@pytest.fixture(scope="module")
def ecs(stand_in):
    return stand_in.client("ecs")


@pytest.fixture(scope="module")
def log_group(stand_in):
    stand_in.client("logs").create_log_group(logGroupName="/ecs/worker")
    return "/ecs/worker"


@pytest.fixture
def logging_to(log_group):
    """The log configuration of a container."""
    options = {"awslogs-group": log_group, "awslogs-region": "eu-west-1", "awslogs-stream-prefix": "ecs"}
    return {"logDriver": "awslogs", "options": options}


def stream_of(task):
    return f"ecs/worker/{task['taskArn'].rpartition('/')[2]}"


# The life of a task.


def test_a_task_goes_from_provisioning_to_stopped_and_has_an_exit_code_only_then(stand_in):
    family = stand_in.register("exit", "3")
    [task] = stand_in.run(family)
    assert (task["lastStatus"], task["desiredStatus"], task["version"]) == ("PROVISIONING", "RUNNING", 1)
    assert "exitCode" not in task["containers"][0]
    assert "startedAt" not in task
    ended = stand_in.stopped(task)
    assert (ended["desiredStatus"], ended["stopCode"]) == ("STOPPED", "EssentialContainerExited")
    assert ended["stoppedReason"] == "Essential container in task exited"
    assert (ended["containers"][0]["exitCode"], ended["containers"][0]["lastStatus"]) == (3, "STOPPED")
    assert ended["version"] > task["version"]
    moments = ("createdAt", "pullStartedAt", "startedAt", "executionStoppedAt", "stoppedAt")
    assert sorted(moments, key=lambda moment: ended[moment]) == list(moments)


def test_a_task_is_described_by_what_it_was_launched_with(stand_in):
    family = stand_in.register("exit", "0", tags=[{"key": "team", "value": "data"}, {"key": "kept", "value": "yes"}])
    tags = [{"key": "team", "value": "platform"}]
    [task] = stand_in.run(family, startedBy="poller", tags=tags, propagateTags="TASK_DEFINITION")
    assert task["group"] == f"family:{family}"
    assert task["startedBy"] == "poller"
    assert task["taskDefinitionArn"].endswith(f":task-definition/{family}:1")
    assert (task["launchType"], task["platformVersion"]) == ("FARGATE", "1.4.0")
    assert (task["cpu"], task["memory"]) == ("256", "512")
    assert {tag["key"]: tag["value"] for tag in task["tags"]} == {"team": "platform", "kept": "yes"}
    assert task["attachments"][0]["details"] == [{"name": "subnetId", "value": "subnet-1"}]


def test_the_newest_active_revision_of_a_family_is_run(stand_in, ecs):
    family = stand_in.register("exit", "1")
    for code in ("2", "3"):
        stand_in.register("exit", code, family=family)
    ecs.deregister_task_definition(taskDefinition=f"{family}:3")
    assert stand_in.run_to_the_end(family)["containers"][0]["exitCode"] == 2
    assert stand_in.run_to_the_end(f"{family}:1")["containers"][0]["exitCode"] == 1


def test_a_container_definition_needs_no_memory_of_its_own(stand_in, ecs):
    family = stand_in.register("exit", "0")
    described = ecs.describe_task_definition(taskDefinition=family)["taskDefinition"]
    assert "memory" not in described["containerDefinitions"][0]
    assert stand_in.run_to_the_end(family)["containers"][0]["exitCode"] == 0


# The environment of its process.


def test_the_process_gets_what_was_deployed_and_what_the_platform_provides_and_nothing_else(
    stand_in, logging_to, monkeypatch
):
    secrets = stand_in.client("secretsmanager")
    login = secrets.create_secret(Name=stand_in.name("login"), SecretString='{"user": "worker", "port": 7}')["ARN"]
    plain = secrets.create_secret(Name=stand_in.name("plain"), SecretString="first")["ARN"]
    secrets.put_secret_value(SecretId=plain, SecretString="second")
    stand_in.client("ssm").put_parameter(Name="/team/key", Value="from-ssm", Type="SecureString")
    family = stand_in.register(
        "environment",
        environment=[{"name": "DEPLOYED", "value": "deployed"}, {"name": "REPLACED", "value": "deployed"}],
        secrets=[
            {"name": "LOGIN_USER", "valueFrom": f"{login}:user::"},
            {"name": "LOGIN_PORT", "valueFrom": f"{login}:port:AWSCURRENT:"},
            {"name": "PLAIN", "valueFrom": plain},
            {"name": "PLAIN_BEFORE", "valueFrom": f"{plain}::AWSPREVIOUS:"},
            {"name": "KEY_BY_NAME", "valueFrom": "/team/key"},
            {"name": "KEY_BY_ARN", "valueFrom": "arn:aws:ssm:eu-west-1:123456789012:parameter/team/key"},
        ],
        logConfiguration=logging_to,
    )
    override = {"name": "worker", "environment": [{"name": "REPLACED", "value": "at launch"}]}
    task = stand_in.run_to_the_end(family, overrides={"containerOverrides": [override]})
    [line] = stand_in.logged("/ecs/worker", stream_of(task))
    environment = json.loads(line)
    for name in ("HOME", "TMPDIR"):
        assert environment.pop(name).startswith(str(stand_in.state)), "below the state directory"
    task_id = task["taskArn"].rpartition("/")[2]
    assert environment == {
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
        "AWS_ENDPOINT_URL": stand_in.url,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_EXECUTION_ENV": "AWS_ECS_FARGATE",
        "ECS_CONTAINER_METADATA_URI_V4": f"{stand_in.url}/v4/{task_id}",
        "PLATFORM": "injected",
        "DEPLOYED": "deployed",
        "REPLACED": "at launch",
        "LOGIN_USER": "worker",
        "LOGIN_PORT": "7",
        "PLAIN": "second",
        "PLAIN_BEFORE": "first",
        "KEY_BY_NAME": "from-ssm",
        "KEY_BY_ARN": "from-ssm",
    }


def test_the_metadata_endpoint_describes_the_task(stand_in, logging_to):
    family = stand_in.register("metadata", "/task", logConfiguration=logging_to)
    about_task = stand_in.run_to_the_end(family)
    answer = json.loads(stand_in.logged("/ecs/worker", stream_of(about_task))[0])
    assert answer["TaskARN"] == about_task["taskArn"]
    assert (answer["Family"], answer["Revision"]) == (family, "1")
    assert answer["Cluster"] == about_task["clusterArn"]
    command = {"containerOverrides": [{"name": "worker", "command": ["metadata", ""]}]}
    about_container = stand_in.run_to_the_end(family, overrides=command)
    answer = json.loads(stand_in.logged("/ecs/worker", stream_of(about_container))[0])
    assert answer["Name"] == "worker"
    assert answer["Labels"]["com.amazonaws.ecs.task-arn"] == about_container["taskArn"]


def test_the_files_of_a_task_are_removed(stand_in):
    [task] = stand_in.run(stand_in.register("wait", "politely"))
    stand_in.at_work(task)
    assert stand_in.scratch(task).exists()
    stand_in.client("ecs").stop_task(cluster="main", task=task["taskArn"])
    stand_in.stopped(task)
    assert not stand_in.scratch(task).exists()


# Its output.


def test_output_is_in_the_log_while_the_task_runs(stand_in, ecs, logging_to):
    [task] = stand_in.run(stand_in.register("wait", "politely", logConfiguration=logging_to))
    assert stand_in.at_work(task)["lastStatus"] == "RUNNING"
    stand_in.eventually(lambda: stand_in.logged("/ecs/worker", stream_of(task)), within=5)
    ecs.stop_task(cluster="main", task=task["taskArn"])
    stand_in.stopped(task)
    assert stand_in.logged("/ecs/worker", stream_of(task)) == ["waiting", "got SIGTERM"]


def test_a_log_group_is_made_on_request(stand_in, logging_to):
    logging_to["options"] |= {"awslogs-group": "/ecs/made", "awslogs-create-group": "true"}
    stand_in.run_to_the_end(stand_in.register("say", "one", "", "two", logConfiguration=logging_to))
    assert stand_in.logged("/ecs/made") == ["one", "two"], "an empty line is no event"


# Stopping it.


def test_stop_task_sends_sigterm_and_the_worker_chooses_its_exit_code(stand_in, ecs):
    [task] = stand_in.run(stand_in.register("wait", "politely"))
    stand_in.at_work(task)
    answer = ecs.stop_task(cluster="main", task=task["taskArn"], reason="hung")["task"]
    assert (answer["desiredStatus"], answer["stopCode"], answer["stoppedReason"]) == (
        "STOPPED",
        "UserInitiated",
        "hung",
    )
    ended = stand_in.stopped(task)
    assert (ended["stopCode"], ended["stoppedReason"]) == ("UserInitiated", "hung")
    assert ended["containers"][0]["exitCode"] == 0


@pytest.mark.parametrize(("how", "code"), [("carelessly", 143), ("deaf", 137)])
def test_the_exit_code_shows_the_signal_that_killed_a_worker(stand_in, ecs, how, code):
    [task] = stand_in.run(stand_in.register("wait", how, stopTimeout=1))
    stand_in.at_work(task)
    ecs.stop_task(cluster="main", task=task["taskArn"])
    ended = stand_in.stopped(task)
    assert ended["containers"][0]["exitCode"] == code
    assert ended["stoppedReason"] == "Task stopped by user"
    assert (ended["stoppedAt"] - ended["stoppingAt"]).total_seconds() < 10


def test_a_task_that_is_stopped_while_it_starts_never_runs(start):
    slow = start("--task-start-seconds", "60")
    [task] = slow.run(slow.register("say", "too late"))
    slow.client("ecs").stop_task(cluster="main", task=task["taskArn"])
    ended = slow.stopped(task)
    assert "exitCode" not in ended["containers"][0]
    assert "startedAt" not in ended
    assert ended["stopCode"] == "UserInitiated"


def test_stopping_a_stopped_task_changes_nothing(stand_in, ecs):
    ended = stand_in.run_to_the_end(stand_in.register("exit", "0"))
    ecs.stop_task(cluster="main", task=ended["taskArn"], reason="too late")
    assert stand_in.described(ended) == ended


def test_the_children_of_a_process_end_with_it(stand_in, logging_to):
    [task] = stand_in.run(stand_in.register("wait", "with-a-child", logConfiguration=logging_to))
    stand_in.at_work(task)
    lines = stand_in.eventually(lambda: stand_in.logged("/ecs/worker", stream_of(task)))
    grandchild = psutil.Process(int(lines[0]))
    grandchild.parent().send_signal(signal.SIGKILL)
    assert stand_in.stopped(task)["containers"][0]["exitCode"] == 137
    assert stand_in.have_ended([grandchild])


# Tasks that never start.


def never_started(stand_in, **container):
    ended = stand_in.run_to_the_end(stand_in.register("say", "never", **container))
    assert ended["stopCode"] == "TaskFailedToStart"
    assert "exitCode" not in ended["containers"][0]
    assert "startedAt" not in ended
    return ended["stoppedReason"]


def test_an_unknown_image_cannot_be_pulled(stand_in):
    reason = never_started(stand_in, image="public.ecr.aws/somebody/else:latest")
    assert reason.startswith("CannotPullContainerError: ")
    assert "public.ecr.aws/somebody/else:latest" in reason


def test_a_secret_that_is_not_there_is_named(stand_in):
    arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:nowhere-AbCdEf"
    reason = never_started(stand_in, secrets=[{"name": "S", "valueFrom": f"{arn}:key::"}])
    assert reason.startswith("ResourceInitializationError: unable to pull secrets or registry auth: ")
    assert arn in reason
    assert "ResourceNotFoundException" in reason


def test_a_parameter_that_is_not_there_is_named(stand_in):
    reason = never_started(stand_in, secrets=[{"name": "S", "valueFrom": "/no/parameter"}])
    assert reason.startswith("ResourceInitializationError: ")
    assert "/no/parameter" in reason


@pytest.mark.parametrize("secret", ['{"user": "hush"}', '["hush"]', "hush: not JSON"])
def test_a_missing_key_is_named_without_the_secret(stand_in, secret):
    made = stand_in.client("secretsmanager").create_secret(Name=stand_in.name("secret"), SecretString=secret)
    reason = never_started(stand_in, secrets=[{"name": "S", "valueFrom": f"{made['ARN']}:password::"}])
    assert f"{made['ARN']}:password::" in reason
    assert "hush" not in reason


def test_a_log_group_that_is_not_there_stops_the_task(stand_in, logging_to):
    logging_to["options"]["awslogs-group"] = "/ecs/nowhere"
    reason = never_started(stand_in, logConfiguration=logging_to)
    assert reason.startswith("ResourceInitializationError: failed to validate logger args: ")
    assert "The specified log group does not exist" in reason


# Launching.


def test_the_same_client_token_answers_the_same_tasks_also_when_they_have_stopped(stand_in):
    family = stand_in.register("exit", "0")
    first = stand_in.run(family, count=2, clientToken="tick-1")
    for task in first:
        stand_in.stopped(task)
    again = stand_in.run(family, count=2, clientToken="tick-1")
    assert [task["taskArn"] for task in again] == [task["taskArn"] for task in first]
    assert {task["lastStatus"] for task in again} == {"STOPPED"}


def test_the_same_client_token_with_other_parameters_is_a_conflict_that_names_the_tasks(stand_in, ecs):
    family = stand_in.register("exit", "0")
    [task] = stand_in.run(family, clientToken="tick-2")
    with pytest.raises(ecs.exceptions.ConflictException) as caught:
        stand_in.run(family, count=2, clientToken="tick-2")
    assert caught.value.response["resourceIds"] == [task["taskArn"]]


def test_two_ticks_at_once_with_the_same_client_token_launch_once(stand_in, ecs):
    family = stand_in.register("wait", "carelessly")
    with ThreadPoolExecutor() as ticks:
        launched = list(ticks.map(lambda _: stand_in.run(family, count=3, clientToken="tick-3"), range(4)))
    arns = {task["taskArn"] for tasks in launched for task in tasks}
    assert len(arns) == 3
    assert set(ecs.list_tasks(cluster="main", family=family)["taskArns"]) == arns
    for arn in arns:
        ecs.stop_task(cluster="main", task=arn)


def test_a_capacity_provider_strategy_spreads_tasks_by_base_and_weight(stand_in):
    strategy = [
        {"capacityProvider": "FARGATE", "base": 2, "weight": 1},
        {"capacityProvider": "FARGATE_SPOT", "weight": 3},
    ]
    tasks = stand_in.run(stand_in.register("exit", "0"), count=6, capacityProviderStrategy=strategy)
    providers = [task["capacityProviderName"] for task in tasks]
    assert (providers.count("FARGATE"), providers.count("FARGATE_SPOT")) == (3, 3)
    assert {task["launchType"] for task in tasks} == {"FARGATE"}


FARGATE = [{"capacityProvider": "FARGATE", "weight": 1}]


@pytest.mark.parametrize(
    ("request_", "error", "message"),
    [
        ({"count": 11}, "InvalidParameterException", "Count must be between 1 and 10"),
        ({"count": 0}, "InvalidParameterException", "Count must be between 1 and 10"),
        ({"startedBy": "p" * 129}, "InvalidParameterException", "128"),
        (
            {"overrides": {"containerOverrides": [{"name": "sidecar"}]}},
            "InvalidParameterException",
            "Override for container named sidecar is not a container in the TaskDefinition.",
        ),
        (
            {"overrides": {"containerOverrides": [{"name": "worker", "command": ["x" * 8192]}]}},
            "InvalidParameterException",
            "Container Overrides length must be at most 8192",
        ),
        ({"networkConfiguration": {}}, "InvalidParameterException", "Network Configuration must be provided"),
        (
            {"networkConfiguration": {"awsvpcConfiguration": {"subnets": []}}},
            "InvalidParameterException",
            "subnets cannot be empty.",
        ),
        ({"launchType": "EC2"}, "InvalidParameterException", "No Container Instances were found in your cluster."),
        (
            {"capacityProviderStrategy": [{"capacityProvider": "MINE"}]},
            "InvalidParameterException",
            "The specified capacity provider 'MINE' was not found.",
        ),
        ({"cluster": "nowhere"}, "ClusterNotFoundException", "Cluster not found."),
        ({"taskDefinition": "nothing"}, "ClientException", "TaskDefinition not found."),
        ({"taskDefinition": "nothing:7"}, "ClientException", "TaskDefinition not found."),
    ],
)
def test_ecs_refuses(stand_in, ecs, request_, error, message):
    family = stand_in.register("exit", "0")
    request = {"taskDefinition": family, **request_}
    with pytest.raises(getattr(ecs.exceptions, error)) as caught:
        stand_in.run(request.pop("taskDefinition"), **request)
    assert message in str(caught.value)
    assert ecs.list_tasks(cluster="main", family=family)["taskArns"] == []


def test_a_launch_type_and_a_strategy_exclude_each_other(stand_in, ecs):
    family = stand_in.register("exit", "0")
    with pytest.raises(ecs.exceptions.InvalidParameterException, match="Specifying both a launch type and capacity"):
        ecs.run_task(
            cluster="main",
            taskDefinition=family,
            launchType="FARGATE",
            capacityProviderStrategy=FARGATE,
            networkConfiguration=stand_in.network,
        )


def test_a_deregistered_revision_is_not_run(stand_in, ecs):
    family = stand_in.register("exit", "0")
    ecs.deregister_task_definition(taskDefinition=f"{family}:1")
    with pytest.raises(ecs.exceptions.InvalidParameterException, match="TaskDefinition is inactive"):
        stand_in.run(f"{family}:1")
    with pytest.raises(ecs.exceptions.ClientException, match=r"TaskDefinition not found\."):
        stand_in.run(family)


def test_unsupported_task_definitions_are_refused(stand_in, ecs):
    family = stand_in.register("exit", "0", entryPoint=["/bin/other"])
    with pytest.raises(ecs.exceptions.UnsupportedFeatureException, match="entryPoint"):
        stand_in.run(family)


# Looking at tasks.


def test_list_tasks_lists_running_tasks_by_default(stand_in, ecs):
    family = stand_in.register("wait", "politely")
    starting, stopping = stand_in.run(family, count=2, startedBy=family)
    running = stand_in.running(stopping)
    ecs.stop_task(cluster="main", task=running["taskArn"])

    def listed(**which):
        return ecs.list_tasks(cluster="main", **which)["taskArns"]

    assert listed(family=family) == [starting["taskArn"]], "also those that have not started yet"
    assert listed(family=family, desiredStatus="STOPPED") == [stopping["taskArn"]]
    assert listed(family=family, desiredStatus="PENDING") == []
    assert listed(startedBy=family) == [starting["taskArn"]]
    assert listed(family="another") == []
    with pytest.raises(ecs.exceptions.InvalidParameterException, match="cannot specify startedBy with other arguments"):
        listed(startedBy=family, family=family)
    ecs.stop_task(cluster="main", task=starting["taskArn"])
    stand_in.stopped(starting)
    assert listed(family=family, desiredStatus="STOPPED") == [starting["taskArn"], stopping["taskArn"]]


def test_list_tasks_answers_in_pages(stand_in, ecs):
    family = stand_in.register("exit", "0")
    launched = [task["taskArn"] for task in stand_in.run(family, count=5)]
    for arn in launched:
        stand_in.stopped({"taskArn": arn})
    pages = ecs.get_paginator("list_tasks").paginate(
        cluster="main", family=family, desiredStatus="STOPPED", PaginationConfig={"PageSize": 2}
    )
    assert [page["taskArns"] for page in pages] == [launched[:2], launched[2:4], launched[4:]]
    for size in (0, 101):
        with pytest.raises(ecs.exceptions.InvalidParameterException, match="maxResults"):
            ecs.list_tasks(cluster="main", maxResults=size)


def test_describe_tasks_names_the_tasks_it_does_not_know(stand_in, ecs):
    ended = stand_in.run_to_the_end(stand_in.register("exit", "0"), tags=[{"key": "team", "value": "data"}])
    unknown = f"arn:aws:ecs:eu-west-1:123456789012:task/main/{'0' * 32}"
    answer = ecs.describe_tasks(cluster="main", tasks=[unknown, ended["taskArn"].rpartition("/")[2]])
    assert [task["taskArn"] for task in answer["tasks"]] == [ended["taskArn"]]
    assert answer["tasks"][0]["tags"] == []
    assert answer["failures"] == [{"arn": unknown, "reason": "MISSING"}]
    tagged = ecs.describe_tasks(cluster="main", tasks=[ended["taskArn"]], include=["TAGS"])["tasks"][0]
    assert tagged["tags"] == [{"key": "team", "value": "data"}]


def test_describe_tasks_takes_a_hundred(ecs):
    with pytest.raises(ecs.exceptions.InvalidParameterException, match="at most 100"):
        ecs.describe_tasks(cluster="main", tasks=["0" * 32] * 101)
    with pytest.raises(ecs.exceptions.InvalidParameterException, match="cannot be empty"):
        ecs.describe_tasks(cluster="main", tasks=[])


def test_an_unknown_task_cannot_be_stopped(ecs):
    with pytest.raises(ecs.exceptions.InvalidParameterException, match="The referenced task was not found"):
        ecs.stop_task(cluster="main", task="0" * 32)


def test_clusters_and_regions_keep_their_tasks_apart(stand_in, ecs):
    ecs.create_cluster(clusterName="other")
    ended = stand_in.run_to_the_end(stand_in.register("exit", "0"))
    answer = ecs.describe_tasks(cluster="other", tasks=[ended["taskArn"]])
    assert answer["tasks"] == []
    assert len(answer["failures"]) == 1
