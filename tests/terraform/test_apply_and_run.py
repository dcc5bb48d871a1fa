"""Deploy with Terraform and run what was deployed.

deploy.sh applies the configuration to the embedded stack once. The stack's Scheduler, Lambda and Fargate then run what
was deployed. A missing variable, a wrong key of the secret or a wrong handler name fails a test here. The stand-in of
AWS enforces no policy, has no network and pulls no image.

The tests share the deployment, and the last one removes it. ``pytest -s`` prints the log of the entries.
"""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from operator import attrgetter
from types import SimpleNamespace

import pytest
from terraform import deployed as deployment
from terraform import inventory, story
from terraform.copies import allowed, copied, without
from terraform.deployed import ENVIRONMENT, PATIENCE_S, POLLER, REGION, SETTINGS, wait_until
from terraform.variables import (
    EQUAL_TO_THE_DEFAULT,
    NEEDED_BY_THE_FUNCTION,
    NEEDED_BY_THE_TASK,
    NEEDED_FOR_THE_CERTIFICATES,
    OF_THE_LIBRARIES,
    OPTIONAL_FOR_THE_FUNCTION,
    OPTIONAL_FOR_THE_TASK,
)
from terraform.workbench import PATIENT

from rowqueue.settings import PollerSettings, ProcessorSettings
from rowqueue_local.aws.fargate_environment import deployed_environment

pytestmark = PATIENT

TABLE = SETTINGS["snowflake_table"]
KILLED = 128 + 9

# A second plan should find nothing to change. Exceptions, because the stand-in does not return a value, go here.
KNOWN_FALSE_DRIFTS = {}


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """The deployed environment."""
    with deployment.deployed(tmp_path_factory.mktemp("deployed")) as found:
        yield found


@pytest.fixture(scope="module")
def sql(environment):
    """A function that runs one statement and returns its rows."""
    with environment.session() as session:

        def run(text, *values):
            with session.cursor() as cursor:
                cursor.execute(text, values)
                return [tuple(row) for row in cursor.fetchall()]

        yield run


@pytest.fixture(scope="module")
def insert(sql):
    """A function that inserts entries with one statement; each says how the partner answers. Returns the reference."""

    def run(reference, *answers, table=TABLE):
        data = json.dumps([json.dumps({"type": "order", "number": n, "partner": do}) for n, do in enumerate(answers)])
        rows = "SELECT e.value::VARCHAR, ? FROM TABLE(FLATTEN(PARSE_JSON(?))) AS e"
        sql(f"INSERT INTO {table} (data, reference) {rows}", reference, data)
        return reference

    return run


@pytest.fixture(scope="module")
def entries(sql):
    """A function that returns the entries of a reference as dictionaries."""
    columns = ("id", "status", "retry_count", "response_status", "processor_id", "error_message")

    def run(reference, table=TABLE):
        query = f"SELECT {', '.join(columns)} FROM {table} WHERE reference = ? ORDER BY id"
        return [dict(zip(columns, row, strict=True)) for row in sql(query, reference)]

    return run


@pytest.fixture(scope="module")
def until(environment, entries):
    """A function that waits until all entries of a reference have one of the statuses and returns the entries."""

    def run(reference, *statuses, **where):
        def reached():
            found = entries(reference, **where)
            return found if {entry["status"] for entry in found} <= set(statuses) else None

        return wait_until(reached, instead=environment.complaints)

    return run


# The story


@pytest.fixture(scope="module")
def played(environment, insert, entries):
    """The entries and tasks of the story, which runs once. Only the deployed schedule invokes the poller."""
    return story.play(environment, insert=insert, entries=entries)


def test_with_the_deployed_schedule_alone_every_entry_ends(environment, played):
    print(*story.tell(environment, played), sep="\n")
    *orders, refused, unavailable = played.entries
    assert [(order["status"], order["response_status"]) for order in orders] == [("completed", 200)] * 5
    assert (refused["status"], refused["response_status"], refused["retry_count"]) == ("failed", 400, 1)
    assert (unavailable["status"], unavailable["retry_count"]) == ("failed", SETTINGS["max_retries"])
    assert f"after {SETTINGS['max_retries']} of {SETTINGS['max_retries']} attempts" in unavailable["error_message"]
    workers = {f"{ENVIRONMENT}-{task}" for task in played.tasks}
    assert {entry["processor_id"] for entry in played.entries} <= workers


def test_the_deployed_numbers_decide_how_many_tasks_are_launched(played):
    assert (played.launch["by"], played.launch["EntriesReady"]) == ("schedule", 7)
    assert played.launch["entries_per_container"] == SETTINGS["entries_per_container"]
    assert (played.launch["need"], played.launch["planned"]) == (3, SETTINGS["max_containers"])
    first_two = sorted(played.tasks.values(), key=lambda task: task["createdAt"])[:2]
    providers = {task["capacityProviderName"] for task in first_two}
    assert (SETTINGS["spot_share"], providers) == (50, {"FARGATE", "FARGATE_SPOT"})


def test_the_tasks_run_from_the_deployed_definition_and_no_other(environment, played):
    definition = environment.task_definition()
    for name, task in played.tasks.items():
        assert task["taskDefinitionArn"] == definition["taskDefinitionArn"]
        assert task["containers"][0]["image"] == deployment.IMAGE
        assert task["attachments"][0]["details"][0]["value"] in environment.outputs["private_subnet_ids"]
        assert {"key": "Project", "value": "snowflake-processor"} in task["tags"]
        container = definition["containerDefinitions"][0]
        assert {pair["name"]: pair["value"] for pair in container["environment"]}.items() <= played.environs[
            name
        ].items()


def test_the_tasks_get_each_secret_from_its_key(environment, played):
    for environ in played.environs.values():
        assert environ["SNOWFLAKE_USER"] == SETTINGS["snowflake_user"]
        assert environ["SNOWFLAKE_PRIVATE_KEY"] == environment.environ["SERVICE_PRIVATE_KEY"]
        passphrase = environment.environ["SERVICE_PRIVATE_KEY_PASSPHRASE"]
        assert environ["SNOWFLAKE_PRIVATE_KEY_PASSPHRASE"] == passphrase
        assert environ["CLIENT_KEY_PASSPHRASE"] == environment.environ["CLIENT_KEY_PASSPHRASE"]


def test_each_part_runs_with_its_own_role(environment):
    definition = environment.task_definition()
    schedule = environment.client("scheduler").get_schedule(
        GroupName=environment.outputs["schedule_group_name"], Name=environment.outputs["schedule_name"]
    )
    roles = {
        environment.function()["Role"]: ("lambda", "ecs:RunTask"),
        definition["taskRoleArn"]: ("ecs-tasks", "s3:GetObject"),
        definition["executionRoleArn"]: ("ecs-tasks", "secretsmanager:GetSecretValue"),
        schedule["Target"]["RoleArn"]: ("scheduler", "lambda:InvokeFunction"),
    }
    assert len(roles) == 4
    for arn, (service, action) in roles.items():
        trust = environment.client("iam").get_role(RoleName=arn.rpartition("/")[2])["Role"]["AssumeRolePolicyDocument"]
        assert [said["Principal"] for said in trust["Statement"]] == [{"Service": f"{service}.amazonaws.com"}]
        assert action in allowed(environment, arn)


# The settings

BOTH = {
    "snowflake_account": "snowflake.account",
    "snowflake_warehouse": "snowflake.warehouse",
    "snowflake_database": "snowflake.database",
    "snowflake_schema": "snowflake.schema",
    "snowflake_table": "snowflake.table",
    "snowflake_authentication": "snowflake.authentication",
    "stale_threshold_minutes": "stale_threshold_minutes",
    "max_retries": "max_retries",
    "container_timeout_seconds": "budget_s",
    "service_timeout_seconds": "service_timeout_s",
}
OF_THE_POLLER = BOTH | {
    "snowflake_role_poller": "snowflake.role",
    "entries_per_container": "entries_per_container",
    "max_containers": "max_containers",
    "boot_deadline_seconds": "boot_deadline_s",
    "max_crashes": "max_crashes",
    "spot_share": "spot_percent",
    "lease_bucket": "lease_bucket",
}
OF_THE_PROCESSOR = BOTH | {
    "snowflake_role_processor": "snowflake.role",
    "certificate_bucket": "cert_bucket",
    "snowflake_user": "snowflake.user",
}


def as_set(names):
    return {name: SETTINGS[name] for name in names}


def read(names, settings):
    return {name: attrgetter(attribute)(settings) for name, attribute in names.items()}


def test_the_poller_uses_the_deployed_settings(played):
    settings = PollerSettings.from_env(played.poller)
    assert read(OF_THE_POLLER, settings) == as_set(OF_THE_POLLER)
    assert (settings.tick_s, settings.task_deadline_s) == (120, 900)


def test_the_processors_use_the_deployed_settings(environment, played):
    for environ in played.environs.values():
        settings = ProcessorSettings.from_env(environ)
        assert read(OF_THE_PROCESSOR, settings) == as_set(OF_THE_PROCESSOR)
        assert (settings.concurrency, settings.backoff_s) == (6, 0.2)
        assert settings.entries_per_container == SETTINGS["entries_per_container"]  # from the launch's override
        assert settings.service_url == environment.running.partner
    lines = environment.logged(environment.outputs["processor_log_group"])
    (started,) = {(line["concurrency"], line["budget_s"]) for line in lines if line["event"] == "processor_started"}
    assert started == (6, SETTINGS["container_timeout_seconds"])


# What else invokes the poller


@contextmanager
def no_schedule(environment):
    """Disable the schedule, so that only other triggers run the poller."""
    scheduler = environment.client("scheduler")
    names = {"GroupName": environment.outputs["schedule_group_name"], "Name": environment.outputs["schedule_name"]}
    found = scheduler.get_schedule(**names)
    kept = ("Description", "ScheduleExpression", "FlexibleTimeWindow", "Target")
    same = names | {name: found[name] for name in kept}
    scheduler.update_schedule(**same, State="DISABLED")
    try:
        yield
    finally:
        scheduler.update_schedule(**same, State="ENABLED")


def tick_by(environment, trigger):
    """The log line of the one tick that this trigger caused."""
    (tick,) = wait_until(lambda: [tick for tick in story.logged(environment, "tick") if tick["by"] == trigger])
    return tick


def test_the_deployed_rule_reports_a_killed_task_to_the_poller(environment, insert, until):
    with no_schedule(environment):
        insert("killed", {"delay_ms": 10_000, "first": 1})
        environment.client("lambda").invoke(FunctionName=POLLER, Payload=b"{}")
        (entry,) = until("killed", "processing")
        wait_until(lambda: environment.running.partner_stats()["in_flight"])
        task = entry["processor_id"].removeprefix(f"{ENVIRONMENT}-")
        environment.running.signal(task, "SIGKILL")
        (entry,) = until("killed", "completed")
        tick = tick_by(environment, "task_stopped")
    assert (tick["EntriesRescued"], tick["TasksLaunched"]) == (1, 1)
    (stop,) = [line for line in story.logged(environment, "task_stopped") if line["task"].endswith(task)]
    assert (stop["exit_code"], stop["entries_in_hand"]) == (KILLED, 1)
    assert entry["retry_count"] == 0
    assert entry["processor_id"] != f"{ENVIRONMENT}-{task}"


def test_a_message_from_snowflake_makes_the_poller_tick(environment, insert, until):
    with no_schedule(environment):
        insert("pushed", {})
        environment.client("sns").publish(TopicArn=environment.outputs["push_topic_arn"], Message="rows were inserted")
        until("pushed", "completed")
        assert tick_by(environment, "push")["TasksLaunched"] == 1


def test_test_system_follows_an_entry_to_its_end(environment):
    done = environment.script("test_system.sh", ENVIRONMENT, REGION, "--within", f"{PATIENCE_S:g}")
    assert done.returncode == 0, done.stderr
    assert "completed, the service answered 200" in done.stdout


# What is missing


def names_in(container):
    return {pair["name"] for kind in ("environment", "secrets") for pair in container[kind]}


@pytest.fixture(scope="class")
def copies(environment):
    """Copies of the function and the task definition, for one class of tests."""
    with copied(environment) as found:
        yield found


class TestWithoutOneOfTheVariables:
    """Each test runs a copy without one variable or one secret."""

    def test_every_deployed_variable_is_tried(self, copies):
        needed = {*NEEDED_BY_THE_FUNCTION, *EQUAL_TO_THE_DEFAULT}
        assert copies.variables.keys() == needed | OPTIONAL_FOR_THE_FUNCTION.keys()
        needed = {*NEEDED_BY_THE_TASK, NEEDED_FOR_THE_CERTIFICATES, *EQUAL_TO_THE_DEFAULT, *OF_THE_LIBRARIES}
        assert names_in(copies.container) == needed | OPTIONAL_FOR_THE_TASK.keys()

    def test_with_all_variables_the_function_and_the_task_run(self, copies):
        assert copies.invoke(copies.variables)["statusCode"] == 200
        assert copies.run(copies.container).exit_code == 0

    @pytest.mark.parametrize("name", NEEDED_BY_THE_FUNCTION)
    def test_the_function_fails_and_names_the_missing_variable(self, copies, name):
        error = copies.invoke({other: value for other, value in copies.variables.items() if other != name})
        assert error["errorType"] in {"SettingsError", "CredentialsError"}
        assert name in error["errorMessage"]

    @pytest.mark.parametrize("name", NEEDED_BY_THE_TASK)
    def test_the_task_fails_and_names_the_missing_variable(self, copies, name):
        ended = copies.run(without(copies.container, name))
        assert ended.exit_code == 2
        assert name in ended.output

    def test_without_its_passphrase_the_client_key_cannot_be_read_and_a_hold_is_placed(self, copies, sql):
        ended = copies.run(without(copies.container, NEEDED_FOR_THE_CERTIFICATES))
        assert ended.exit_code == 3
        assert f"client-key.pem: has a passphrase, so {NEEDED_FOR_THE_CERTIFICATES} is needed" in ended.output
        assert sql("SELECT COUNT(*) FROM PROCESSING_HOLDS") == [(1,)]
        sql("DELETE FROM PROCESSING_HOLDS")

    @pytest.mark.parametrize("name", OPTIONAL_FOR_THE_FUNCTION)
    def test_without_the_variable_the_function_uses_its_default(self, copies, name):
        rest = {other: value for other, value in copies.variables.items() if other != name}
        taken_over(PollerSettings, copies.variables, rest, *OPTIONAL_FOR_THE_FUNCTION[name])

    @pytest.mark.parametrize("name", OPTIONAL_FOR_THE_TASK)
    def test_without_the_variable_the_task_uses_its_default(self, environment, copies, name):
        whole, rest = (
            resolved(environment, container) for container in (copies.container, without(copies.container, name))
        )
        taken_over(ProcessorSettings, whole, rest, *OPTIONAL_FOR_THE_TASK[name])

    @pytest.mark.parametrize("name", EQUAL_TO_THE_DEFAULT)
    def test_the_default_is_the_deployed_value(self, environment, copies, name):
        container = resolved(environment, copies.container)
        for settings, whole in ((PollerSettings, copies.variables), (ProcessorSettings, container)):
            rest = {other: value for other, value in whole.items() if other != name}
            assert len(rest) == len(whole) - 1
            assert settings.from_env(rest).snowflake.authentication == SETTINGS[name.lower()]

    def test_without_all_optional_variables_an_entry_still_completes(self, copies, insert, until):
        container = without(copies.container, *OPTIONAL_FOR_THE_TASK, *EQUAL_TO_THE_DEFAULT, *OF_THE_LIBRARIES)
        variables = {name: copies.variables[name] for name in NEEDED_BY_THE_FUNCTION}
        variables["ECS_TASK_DEFINITION"] = copies.register(container)
        insert("bare", {}, table="PROCESSING_QUEUE")
        answer = copies.invoke(variables)
        assert json.loads(answer["body"])["containersLaunched"] == 1
        (entry,) = until("bare", "completed", table="PROCESSING_QUEUE")
        assert entry["response_status"] == 200

    def test_a_wrong_key_of_the_secret_keeps_the_task_from_starting_and_is_named(self, copies):
        wrong = [
            secret | {"valueFrom": secret["valueFrom"].replace(":username:", ":user:")}
            for secret in copies.container["secrets"]
        ]
        ended = copies.run(copies.container | {"secrets": wrong})
        assert ended.exit_code is None
        assert "did not contain json key user" in ended.output

    def test_a_wrong_handler_fails_and_is_named(self, copies):
        error = copies.invoke(copies.variables, handler="index.handle")
        assert "'handle' missing on module 'index'" in error["errorMessage"]


def taken_over(settings, whole, rest, attribute, default):
    """With the variable the setting has the deployed value, without it the default. The two differ."""
    effective = attrgetter(attribute)
    assert effective(settings.from_env(whole)) != default
    assert effective(settings.from_env(rest)) == default


def resolved(environment, container):
    """The environment of a task with this container, as the stand-in's Fargate resolves it."""

    launch = SimpleNamespace(region=REGION, container=container, container_override={})
    return deployed_environment(launch, lambda service, _: environment.client(service))


# In the end


def test_setup_monitoring_changes_only_the_monitoring(environment):
    settings = environment.folder / "terraform" / f"{ENVIRONMENT}.tfvars"
    command, deployed_ones = ("setup_monitoring.sh", ENVIRONMENT, REGION, "--auto-approve"), settings.read_text()

    def ratio():
        answer = environment.client("cloudwatch").describe_alarms(AlarmNamePrefix=f"{ENVIRONMENT}-snowflake-failure")
        return answer["MetricAlarms"][0]["Threshold"]

    before, definition = ratio(), environment.task_definition()
    settings.write_text(f"{deployed_ones}alarm_failure_ratio = 0.5\ntask_cpu = 512\n")
    done = environment.script(*command)
    assert done.returncode == 1, done.stderr
    assert "more than the monitoring (" in done.stderr
    assert "aws_ecs_task_definition.processor" in done.stderr.splitlines()[-1]
    assert (ratio(), environment.task_definition()) == (before, definition)

    settings.write_text(f"{deployed_ones}alarm_failure_ratio = 0.5\n")
    done = environment.script(*command)
    assert done.returncode == 0, done.stderr
    assert ratio() != before
    assert environment.task_definition() == definition


def test_a_second_plan_finds_nothing_to_change(environment):
    """It plans with the settings of the last deployment, or of the last run of setup_monitoring.sh."""
    arguments = {
        "environment": ENVIRONMENT,
        "aws_region": REGION,
        "lambda_zip": "../build/snowflake-poller-arm64.zip",
        "image_uri": deployment.IMAGE,
    }
    given = [f"-var={name}={value}" for name, value in arguments.items()]
    out = environment.folder / "second.tfplan"
    done = environment.terraform("plan", "-input=false", f"-var-file={ENVIRONMENT}.tfvars", *given, f"-out={out}")
    assert done.returncode == 0, done.stderr
    shown = json.loads(environment.terraform("show", "-json", str(out)).stdout)
    changes = {change["address"] for change in shown["resource_changes"] if change["change"]["actions"] != ["no-op"]}
    assert changes == KNOWN_FALSE_DRIFTS.keys(), done.stdout


def test_cleanup_in_another_region_changes_nothing(environment):
    made = inventory.taken(environment.running)
    done = environment.script("cleanup.sh", ENVIRONMENT, "eu-west-1", "--confirm", ENVIRONMENT)
    assert done.returncode == 1, done.stderr
    assert re.search(r"in account (\d+), region us-east-1, and this is account \1, region eu-west-1;", done.stderr)
    assert inventory.taken(environment.running) == made


def test_cleanup_lets_the_tasks_finish_and_removes_everything_except_snowflake(environment, insert, entries, until):
    made = inventory.taken(environment.running)
    assert [kind for kind, names in made.items() if names == environment.before[kind]] == []
    insert("last", {"delay_ms": 4000})
    until("last", "processing")
    done = environment.script("cleanup.sh", ENVIRONMENT, REGION, "--confirm", ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    assert [entry["status"] for entry in entries("last")] == ["completed"]
    assert inventory.taken(environment.running) == environment.before
    assert "Snowflake: tables, roles, users and warehouse" in done.stderr
