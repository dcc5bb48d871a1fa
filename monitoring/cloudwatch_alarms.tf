# Each alarm says in its description what to look at first. They go by the metrics that poller and processors write into
# their logs (src/rowqueue/observability.py), and by AWS's own.

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

  # One metric each: it alarms when `breaching` of the last `of` periods are so. The metrics of a tick come once a tick,
  # so their periods are as long as that. Missing data is fine but where it says otherwise: what is not sent while all
  # is well, or while the queue is empty, is not missed, and silence is the heartbeat's to notice.
  simple_alarms = {
    heartbeat = {
      source = "ours", metric = "TicksCompleted", statistic = "Sum", period = var.tick_seconds
      is     = "<", than = 1, breaching = 5, of = 5, missing = "breaching"
      says   = "No tick of the poller has succeeded in five periods of its schedule, so nothing is launched. Look at its log for tick_failed, and whether the schedule is enabled."
    }
    oldest-ready = {
      source = "ours", metric = "OldestReadySeconds", statistic = "Maximum", period = var.tick_seconds
      is     = ">", than = var.oldest_ready_seconds, breaching = 3, of = 5
      says   = "An entry waits for too long. Look at the reason in the poller's last tick: a hold, max_containers, launches that fail; else at how the tasks end."
    }
    hold = {
      # A hold that ends is renewed when its probe is refused, so a tick or two in between see none.
      source = "ours", metric = "Holds", statistic = "Minimum", period = var.tick_seconds
      is     = ">=", than = 1, breaching = 3, of = 5
      says   = "A hold stands, or a new one each time that it ends, so nothing is claimed: the service refuses our certificate, we refuse its, or a person wants it so. SELECT * FROM PROCESSING_HOLDS says why and until when."
    }
    credentials-stop = {
      source = "ours", metric = "CredentialsStops", statistic = "Sum", period = 300
      is     = ">=", than = 1, breaching = 1, of = 1
      says   = "A processor stopped since the service would not have us, or we it. credentials_stop in the processors' log says which."
    }
    certificate = {
      # Sent when a task starts, so an idle queue sends none; the alarm then stays as it is.
      source = "ours", metric = "CertificateDaysLeft", statistic = "Minimum", period = 3600
      is     = "<", than = var.certificate_days_left, breaching = 1, of = 1, missing = "ignore"
      says   = "A certificate that the processors use expires soon. Upload its successor in its place; the next task takes it."
    }
    launch-failures = {
      source = "ours", metric = "LaunchFailures", statistic = "Sum", period = var.tick_seconds
      is     = ">=", than = 1, breaching = 3, of = 5
      says   = "ECS does not start what the poller asks for. launch_failures in its ticks says why: often the quota of Fargate vCPUs, or no Spot capacity."
    }
    boot-failures = {
      source = "ours", metric = "BootFailures", statistic = "Maximum", period = var.tick_seconds
      is     = ">=", than = 3, breaching = 3, of = 3
      says   = "Tasks die before they claim anything, one launch after the other. boot_failure in the poller's ticks says how: an image that can not be pulled, a setting, a secret, a certificate."
    }
    tasks-hung = {
      source = "ours", metric = "TasksHung", statistic = "Sum", period = var.tick_seconds
      is     = ">=", than = 1, breaching = 3, of = 5
      says   = "Tasks run and never claim; the poller stops them. Look at their logs: often Snowflake can not be reached from their subnets."
    }
    tasks-died = {
      source = "ours", metric = "TasksDied", statistic = "Sum", period = 300
      is     = ">=", than = 3, breaching = 2, of = 3
      says   = "Tasks end otherwise than by themselves. task_stopped in the poller's log says how: out of memory, an error, an interruption of Spot."
    }
    poisoned = {
      source = "ours", metric = "EntriesPoisoned", statistic = "Sum", period = var.tick_seconds
      is     = ">=", than = 1, breaching = 1, of = 1
      says   = "An entry has failed because workers died holding it and nothing else. Look at its data before you requeue it: FAILED_ENTRIES_ANALYSIS."
    }
    unknown-status = {
      source = "ours", metric = "EntriesUnknownStatus", statistic = "Maximum", period = var.tick_seconds
      is     = ">=", than = 1, breaching = 3, of = 3
      says   = "Rows have a status that is none of the five, so nobody will ever touch them. Somebody wrote it by hand."
    }
    poller-errors = {
      source = "lambda", metric = "Errors", statistic = "Sum", period = var.tick_seconds
      is     = ">=", than = 1, breaching = 3, of = 5
      says   = "The poller fails again and again. tick_failed in its log says why."
    }
    poller-duration = {
      source = "lambda", metric = "Duration", statistic = "Maximum", period = var.tick_seconds
      is     = ">", than = 800 * var.function_timeout_seconds, breaching = 3, of = 5
      says   = "The poller takes more than four fifths of its time-out. Look at Snowflake: a lock that is waited for, a warehouse with a queue."
    }
    poller-throttled = {
      source = "lambda", metric = "Throttles", statistic = "Sum", period = var.tick_seconds
      is     = ">=", than = 1, breaching = 5, of = 5
      says   = "Lambda does not run the poller: the account's concurrency is used up, or what is reserved for the poller is too little."
    }
    dead-letters = {
      source = "queue", metric = "ApproximateNumberOfMessagesVisible", statistic = "Maximum", period = 300
      is     = ">=", than = 1, breaching = 1, of = 1
      says   = "Events were not delivered to the poller, or it failed on them three times. Nothing has to be sent again; read why, then purge the queue."
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

# Of few entries a single failure is a large share, so it takes twenty in five minutes. The poller counts what it fails
# itself; with no processor there is no number of completed entries beside it.
resource "aws_cloudwatch_metric_alarm" "failure_ratio" {
  alarm_name          = "${var.environment}-snowflake-failure-ratio"
  alarm_description   = "Too many entries fail. SELECT * FROM FAILED_ENTRIES_ANALYSIS says why; what the partner answers is in PROCESSING_ATTEMPTS."
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

# Tasks that no service owns have no metric in AWS/ECS; Container Insights has what they use and what they reserve.
resource "aws_cloudwatch_metric_alarm" "insights" {
  for_each = local.insights

  alarm_name          = "${var.environment}-snowflake-task-${each.key}"
  alarm_description   = "Tasks use more than nine tenths of their ${each.key}. Give them more (task_cpu, task_memory), or fewer deliveries at once (MAX_CONCURRENT_DELIVERIES)."
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

# One alarm to page on: it says that entries are not being delivered, and those it is made of say why.
resource "aws_cloudwatch_composite_alarm" "not_delivering" {
  count = var.enable_composite_alarms ? 1 : 0

  alarm_name        = "${var.environment}-snowflake-not-delivering"
  alarm_description = "Entries are not being delivered. The alarms it is made of say why."
  alarm_rule = join(" OR ", [for key in ["heartbeat", "oldest-ready", "hold"] :
    "ALARM(\"${aws_cloudwatch_metric_alarm.simple[key].alarm_name}\")"
  ])
  alarm_actions = [aws_sns_topic.alerts.arn]
  ok_actions    = [aws_sns_topic.alerts.arn]
}
