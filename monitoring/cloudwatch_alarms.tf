# The description of each alarm says what to look at first. The alarms use the metrics that poller and processors write to
# their logs (src/rowqueue/observability.py) and AWS's own metrics.

locals {
  sources = {
    ours   = { namespace = "SnowflakeProcessor", dimensions = { Environment = var.environment } }
    lambda = { namespace = "AWS/Lambda", dimensions = { FunctionName = var.function_name } }
    queue  = { namespace = "AWS/SQS", dimensions = { QueueName = var.dead_letter_queue_name } }
  }

  comparisons = {
    "<"  = "LessThanThreshold"
    ">"  = "GreaterThanThreshold"
    ">=" = "GreaterThanOrEqualToThreshold"
  }

  # One metric each. An alarm goes off when `breaching` of the last `of` periods breach the threshold. A tick sends its metrics
  # once, so their period is that of the schedule. Missing data counts as good unless `missing` says otherwise, because many
  # metrics are sent only when something happens. The heartbeat notices when no metric arrives at all.
  simple_alarms = {
    heartbeat = {
      source = "ours", metric = "TicksCompleted", statistic = "Sum", period = var.tick_seconds
      is     = "<", than = 1, breaching = 5, of = 5, missing = "breaching"
      says   = "No tick of the poller has succeeded in five periods of its schedule, so nothing is launched. Look for tick_failed in its log, and check that the schedule is enabled."
    }
    oldest-ready = {
      source = "ours", metric = "OldestReadySeconds", statistic = "Maximum", period = var.tick_seconds
      is     = ">", than = var.oldest_ready_seconds, breaching = 3, of = 5
      says   = "A ready entry has waited for too long. Read the reason in the poller's last tick: a hold, max_containers, or launches that fail. Otherwise look at how the tasks end."
    }
    hold = {
      # When a hold ends and its probe is refused, a new hold follows. One or two ticks in between see no hold.
      source = "ours", metric = "Holds", statistic = "Minimum", period = var.tick_seconds
      is     = ">=", than = 1, breaching = 3, of = 5
      says   = "A hold stands, or is renewed each time it ends, so nothing is claimed. The service refuses our certificate, we do not trust its certificate, or a person placed the hold. SELECT * FROM PROCESSING_HOLDS shows the scope, the reason and the end. CALL LIFT_HOLD('default', 'go on') ends that of a credentials stop; for another one, give the scope that the row shows."
    }
    fence = {
      source = "ours", metric = "FenceSeconds", statistic = "Maximum", period = var.tick_seconds
      is     = ">", than = 900, breaching = 1, of = 1
      says   = "A migration was broken off and its fence still stands, so nothing is claimed. Run it again: rowqueue migrate."
    }
    credentials-stop = {
      source = "ours", metric = "CredentialsStops", statistic = "Sum", period = 300
      is     = ">=", than = 1, breaching = 1, of = 1
      says   = "A processor stopped because mutual TLS or authorization failed. credentials_stop in the processors' log has the reason."
    }
    certificate = {
      # Sent when a task starts. While the queue is empty none is sent, and the alarm keeps its state.
      source = "ours", metric = "CertificateDaysLeft", statistic = "Minimum", period = 3600
      is     = "<", than = var.certificate_days_left, breaching = 1, of = 1, missing = "ignore"
      says   = "A certificate that the processors use expires soon. Upload the new one under the same name; the next task reads it."
    }
    launch-failures = {
      source = "ours", metric = "LaunchFailures", statistic = "Sum", period = var.tick_seconds
      is     = ">=", than = 1, breaching = 3, of = 5
      says   = "ECS does not start tasks that the poller requests. launch_failures in its ticks has the reason, often the quota of Fargate vCPUs or missing Spot capacity."
    }
    boot-failures = {
      source = "ours", metric = "BootFailures", statistic = "Maximum", period = var.tick_seconds
      is     = ">=", than = 3, breaching = 3, of = 3
      says   = "Tasks of several launches died before their first claim. boot_failure in the poller's ticks has the reason: an image that cannot be pulled, a setting, a secret or a certificate."
    }
    tasks-hung = {
      source = "ours", metric = "TasksHung", statistic = "Sum", period = var.tick_seconds
      is     = ">=", than = 1, breaching = 3, of = 5
      says   = "Tasks run but never claim, and the poller stops them. Look at their logs: often their subnets have no route to Snowflake."
    }
    tasks-died = {
      source = "ours", metric = "TasksDied", statistic = "Sum", period = 300
      is     = ">=", than = 3, breaching = 2, of = 3
      says   = "Tasks did not end by their own decision. task_stopped in the poller's log has the reason: out of memory, an error, or a Spot interruption."
    }
    poisoned = {
      source = "ours", metric = "EntriesPoisoned", statistic = "Sum", period = var.tick_seconds
      is     = ">=", than = 1, breaching = 1, of = 1
      says   = "An entry has failed because workers died while they had only this entry in hand. Look at its data before you requeue it: FAILED_ENTRIES_ANALYSIS."
    }
    unknown-status = {
      source = "ours", metric = "EntriesUnknownStatus", statistic = "Maximum", period = var.tick_seconds
      is     = ">=", than = 1, breaching = 3, of = 3
      says   = "Rows have an unknown status, so no program will ever process them. A person or another program wrote it."
    }
    poller-errors = {
      source = "lambda", metric = "Errors", statistic = "Sum", period = var.tick_seconds
      is     = ">=", than = 1, breaching = 3, of = 5
      says   = "The poller fails repeatedly. tick_failed in its log has the reason."
    }
    poller-duration = {
      source = "lambda", metric = "Duration", statistic = "Maximum", period = var.tick_seconds
      is     = ">", than = 800 * var.function_timeout_seconds, breaching = 3, of = 5
      says   = "The poller uses more than four fifths of its time-out. Look at Snowflake: statements that wait for a lock, or a warehouse that is overloaded."
    }
    poller-throttled = {
      source = "lambda", metric = "Throttles", statistic = "Sum", period = var.tick_seconds
      is     = ">=", than = 1, breaching = 5, of = 5
      says   = "Lambda does not run the poller: the account's concurrency is used up, or the poller's reserved concurrency is too small."
    }
    dead-letters = {
      source = "queue", metric = "ApproximateNumberOfMessagesVisible", statistic = "Maximum", period = 300
      is     = ">=", than = 1, breaching = 1, of = 1
      says   = "Events were not delivered to the poller, or it failed on them three times. Find the cause, then purge the queue. Nothing has to be sent again."
    }
  }

  insights = var.container_insights ? {
    cpu    = { used = "CpuUtilized", reserved = "CpuReserved" }
    memory = { used = "MemoryUtilized", reserved = "MemoryReserved" }
  } : {}
}

resource "aws_cloudwatch_metric_alarm" "simple" {
  for_each = local.simple_alarms

  alarm_name          = "${var.environment}-snowflake-${each.key}"
  alarm_description   = each.value.says
  namespace           = local.sources[each.value.source].namespace
  dimensions          = local.sources[each.value.source].dimensions
  metric_name         = each.value.metric
  statistic           = each.value.statistic
  period              = each.value.period
  comparison_operator = local.comparisons[each.value.is]
  threshold           = each.value.than
  datapoints_to_alarm = each.value.breaching
  evaluation_periods  = each.value.of
  treat_missing_data  = lookup(each.value, "missing", "notBreaching")
  alarm_actions       = [aws_sns_topic.alerts.arn]
  ok_actions          = [aws_sns_topic.alerts.arn]
}

# With few entries a single failure is a large share, so at least twenty entries in five minutes are needed. The poller fails
# entries too; without a processor the metric of completed entries is missing, hence FILL.
resource "aws_cloudwatch_metric_alarm" "failure_ratio" {
  alarm_name          = "${var.environment}-snowflake-failure-ratio"
  alarm_description   = "Too many entries fail. SELECT * FROM FAILED_ENTRIES_ANALYSIS shows the reasons, and PROCESSING_ATTEMPTS has the partner's status for each attempt."
  comparison_operator = "GreaterThanThreshold"
  threshold           = var.failure_ratio
  evaluation_periods  = 3
  datapoints_to_alarm = 2
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alerts.arn]
  ok_actions          = [aws_sns_topic.alerts.arn]

  metric_query {
    id          = "ratio"
    label       = "share of failed entries"
    expression  = "IF(FILL(completed, 0) + failed >= 20, failed / (FILL(completed, 0) + failed), 0)"
    return_data = true
  }

  dynamic "metric_query" {
    for_each = { completed = "EntriesCompleted", failed = "EntriesFailed" }

    content {
      id = metric_query.key

      metric {
        namespace   = local.sources.ours.namespace
        metric_name = metric_query.value
        dimensions  = local.sources.ours.dimensions
        stat        = "Sum"
        period      = 300
      }
    }
  }
}

# The namespace AWS/ECS has no metrics of tasks without an ECS service. Container Insights measures what they use and reserve.
resource "aws_cloudwatch_metric_alarm" "insights" {
  for_each = local.insights

  alarm_name          = "${var.environment}-snowflake-task-${each.key}"
  alarm_description   = "Tasks use more than nine tenths of their ${each.key}. Increase task_cpu or task_memory, or reduce MAX_CONCURRENT_DELIVERIES."
  comparison_operator = "GreaterThanThreshold"
  threshold           = 90
  evaluation_periods  = 5
  datapoints_to_alarm = 3
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alerts.arn]
  ok_actions          = [aws_sns_topic.alerts.arn]

  metric_query {
    id          = "percent"
    label       = "percent of ${each.key}"
    expression  = "100 * used / reserved"
    return_data = true
  }

  dynamic "metric_query" {
    for_each = each.value

    content {
      id = metric_query.key

      metric {
        namespace   = "ECS/ContainerInsights"
        metric_name = metric_query.value
        dimensions  = { ClusterName = var.cluster_name, TaskDefinitionFamily = var.task_family }
        stat        = "Average"
        period      = 60
      }
    }
  }
}

# One alarm to page on: entries are not being delivered. The alarms in its rule say why.
resource "aws_cloudwatch_composite_alarm" "not_delivering" {
  count = var.enable_composite_alarms ? 1 : 0

  alarm_name        = "${var.environment}-snowflake-not-delivering"
  alarm_description = "Entries are not being delivered. The alarms in its rule say why."
  alarm_rule = join(" OR ", [for key in ["heartbeat", "oldest-ready", "hold"] :
    "ALARM(\"${aws_cloudwatch_metric_alarm.simple[key].alarm_name}\")"
  ])
  alarm_actions = [aws_sns_topic.alerts.arn]
  ok_actions    = [aws_sns_topic.alerts.arn]
}
