"""The definition of each alarm, written a second time, so that nobody changes one by accident.

These tests do not show how CloudWatch evaluates the alarms.
"""

from __future__ import annotations

from terraform.workbench import PATIENT

pytestmark = PATIENT

# Each line: statistic, metric and period; threshold; breaching periods of all periods; the meaning of missing data.
# {tick} is the period of the schedule. The others are variables.
ALARMS = {
    "heartbeat": "Sum of SnowflakeProcessor TicksCompleted in {tick} s < 1, 5 of 5, breaching",
    "oldest-ready": "Maximum of SnowflakeProcessor OldestReadySeconds in {tick} s > {oldest}, 3 of 5, notBreaching",
    "hold": "Minimum of SnowflakeProcessor Holds in {tick} s >= 1, 3 of 5, notBreaching",
    "fence": "Maximum of SnowflakeProcessor FenceSeconds in {tick} s > 900, 1 of 1, notBreaching",
    "credentials-stop": "Sum of SnowflakeProcessor CredentialsStops in 300 s >= 1, 1 of 1, notBreaching",
    "certificate": "Minimum of SnowflakeProcessor CertificateDaysLeft in 3600 s < {certificate_days}, 1 of 1, ignore",
    "launch-failures": "Sum of SnowflakeProcessor LaunchFailures in {tick} s >= 1, 3 of 5, notBreaching",
    "boot-failures": "Maximum of SnowflakeProcessor BootFailures in {tick} s >= 3, 3 of 3, notBreaching",
    "tasks-hung": "Sum of SnowflakeProcessor TasksHung in {tick} s >= 1, 3 of 5, notBreaching",
    "tasks-died": "Sum of SnowflakeProcessor TasksDied in 300 s >= 3, 2 of 3, notBreaching",
    "poisoned": "Sum of SnowflakeProcessor EntriesPoisoned in {tick} s >= 1, 1 of 1, notBreaching",
    "unknown-status": "Maximum of SnowflakeProcessor EntriesUnknownStatus in {tick} s >= 1, 3 of 3, notBreaching",
    "poller-errors": "Sum of AWS/Lambda Errors in {tick} s >= 1, 3 of 5, notBreaching",
    "poller-duration": "Maximum of AWS/Lambda Duration in {tick} s > 44000, 3 of 5, notBreaching",
    "poller-throttled": "Sum of AWS/Lambda Throttles in {tick} s >= 1, 5 of 5, notBreaching",
    "dead-letters": "Maximum of AWS/SQS ApproximateNumberOfMessagesVisible in 300 s >= 1, 1 of 1, notBreaching",
    "failure-ratio": (
        "ratio = IF(FILL(completed, 0) + failed >= 20, failed / (FILL(completed, 0) + failed), 0) where "
        "completed = Sum of SnowflakeProcessor EntriesCompleted in 300 s; "
        "failed = Sum of SnowflakeProcessor EntriesFailed in 300 s > {failure_ratio}, 2 of 3, notBreaching"
    ),
}
OF_CONTAINER_INSIGHTS = {
    "task-cpu": (
        "percent = 100 * used / reserved where "
        "reserved = Average of ECS/ContainerInsights CpuReserved in 60 s; "
        "used = Average of ECS/ContainerInsights CpuUtilized in 60 s > 90, 3 of 5, notBreaching"
    ),
    "task-memory": (
        "percent = 100 * used / reserved where "
        "reserved = Average of ECS/ContainerInsights MemoryReserved in 60 s; "
        "used = Average of ECS/ContainerInsights MemoryUtilized in 60 s > 90, 3 of 5, notBreaching"
    ),
}
SIGNS = {"LessThanThreshold": "<", "GreaterThanThreshold": ">", "GreaterThanOrEqualToThreshold": ">="}


def test_each_alarm_has_its_definition(tested):
    values = {"tick": 60, "oldest": 900, "certificate_days": 30, "failure_ratio": 0.1}
    assert described(tested.plans["by_default"]) == filled_in(ALARMS | OF_CONTAINER_INSIGHTS, values)


def test_the_alarms_follow_the_variables_and_the_schedule(tested):
    values = {"tick": 900, "oldest": 3600, "certificate_days": 14, "failure_ratio": 0.2}
    assert described(tested.plans["less"]) == filled_in(ALARMS, values)


def filled_in(table, values):
    return {name: words.format(**values) for name, words in table.items()}


def described(plan):
    """The planned alarms in the words of the table."""
    alarms = plan.of("aws_cloudwatch_metric_alarm").values()
    return {alarm["alarm_name"].removeprefix("dev-snowflake-"): in_words(alarm) for alarm in alarms}


def in_words(alarm):
    return (
        f"{by(alarm)} {SIGNS[alarm['comparison_operator']]} {alarm['threshold']:g}, "
        f"{alarm['datapoints_to_alarm']} of {alarm['evaluation_periods']}, {alarm['treat_missing_data']}"
    )


def by(alarm):
    if not alarm["metric_query"]:
        return measured(alarm, alarm["statistic"])
    (result,) = (query for query in alarm["metric_query"] if query["return_data"])
    lines = [
        f"{query['id']} = {measured(metric, metric['stat'])}"
        for query in alarm["metric_query"]
        for metric in query["metric"]
    ]
    assert len(lines) == len(alarm["metric_query"]) - 1
    return f"{result['id']} = {result['expression']} where {'; '.join(sorted(lines))}"


def measured(metric, statistic):
    return f"{statistic} of {metric['namespace']} {metric['metric_name']} in {metric['period']} s"


def test_the_composite_alarm_combines_the_alarms_that_mean_that_nothing_is_delivered(tested):
    (composite,) = tested.plans["by_default"].of("aws_cloudwatch_composite_alarm").values()
    assert composite["alarm_name"] == "dev-snowflake-not-delivering"
    assert composite["alarm_rule"] == " OR ".join(
        f'ALARM("dev-snowflake-{name}")' for name in ("heartbeat", "oldest-ready", "hold")
    )
    topic = tested.plans["by_default"].resources["module.monitoring.aws_sns_topic.alerts"]["arn"]
    assert composite["alarm_actions"] == composite["ok_actions"] == [topic]


def test_the_actions_of_every_alarm_are_enabled(tested):
    for kind in ("aws_cloudwatch_metric_alarm", "aws_cloudwatch_composite_alarm"):
        alarms = tested.plans["by_default"].of(kind).values()
        assert alarms
        assert False not in {alarm["actions_enabled"] for alarm in alarms}  # None is AWS's default: enabled
