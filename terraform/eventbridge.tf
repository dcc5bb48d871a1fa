# What invokes the poller: the schedule, and each task that stopped for another reason than its own decision.

resource "aws_scheduler_schedule_group" "poller" {
  name = local.poller
}

resource "aws_scheduler_schedule" "poller" {
  name                = "${local.poller}-schedule"
  group_name          = aws_scheduler_schedule_group.poller.name
  description         = "Runs ${local.poller}"
  schedule_expression = var.schedule_expression

  flexible_time_window {
    mode = "OFF"
  }

  target {
    arn      = aws_lambda_function.poller.arn
    role_arn = aws_iam_role.scheduler.arn
    input    = "{}"

    # No retry: the next tick does the same work.
    retry_policy {
      maximum_retry_attempts       = 0
      maximum_event_age_in_seconds = 60
    }

    dead_letter_config {
      arn = aws_sqs_queue.dead_letters.arn
    }
  }

  # The first tick runs at once and may start tasks at once. So everything they need is created before; a NAT gateway
  # takes minutes. On destroy, the schedule is removed first.
  depends_on = [
    aws_cloudwatch_log_group.processor,
    aws_ecs_cluster_capacity_providers.main,
    aws_iam_role_policy.execution,
    aws_iam_role_policy.processor,
    aws_iam_role_policy.scheduler,
    aws_lambda_function_event_invoke_config.poller,
    aws_route.internet,
    aws_route.nat,
    aws_route_table_association.private,
    aws_route_table_association.public,
    aws_secretsmanager_secret_version.client_key,
    aws_secretsmanager_secret_version.snowflake,
    aws_vpc_security_group_egress_rule.https,
  ]
}

# A task that ended with 0 has no entries in hand, so its event would wake the warehouse for nothing.
resource "aws_cloudwatch_event_rule" "task_stopped" {
  name        = "${var.environment}-snowflake-task-stopped"
  description = "A processor was interrupted, died, or never started"

  event_pattern = jsonencode({
    source      = ["aws.ecs"]
    detail-type = ["ECS Task State Change"]
    detail = {
      clusterArn = [aws_ecs_cluster.main.arn]
      group      = ["family:${local.processor}"]
      lastStatus = ["STOPPED"]
      "$or" = [
        # Spot sends SpotInterruption; older AWS documents say TerminationNotice. A task that never ran has no exit code.
        { stopCode = ["TaskFailedToStart", "SpotInterruption", "TerminationNotice", "InfrastructureHealth"] },
        { containers = { exitCode = [{ anything-but = 0 }] } },
      ]
    }
  })
}

resource "aws_cloudwatch_event_target" "task_stopped" {
  rule = aws_cloudwatch_event_rule.task_stopped.name
  arn  = aws_lambda_function.poller.arn

  # Retries of the hand-over to Lambda. After an hour the poller has released the claims of the task anyway.
  retry_policy {
    maximum_retry_attempts       = 185
    maximum_event_age_in_seconds = 3600
  }

  dead_letter_config {
    arn = aws_sqs_queue.dead_letters.arn
  }
}

resource "aws_lambda_permission" "task_stopped" {
  statement_id  = "TaskStopped"
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.poller.function_name
  principal     = "events.amazonaws.com"
  source_arn    = aws_cloudwatch_event_rule.task_stopped.arn
}

# Events that could not be delivered, or that the poller failed on three times. Nothing has to be sent again, because the
# next tick does the same work. A message means that something has been broken for minutes.
resource "aws_sqs_queue" "dead_letters" {
  name                      = "${local.poller}-dlq"
  message_retention_seconds = 14 * 24 * 3600
  sqs_managed_sse_enabled   = true
}

resource "aws_sqs_queue_policy" "dead_letters" {
  queue_url = aws_sqs_queue.dead_letters.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "UndeliveredTaskStopped" # Scheduler and Lambda send with their own roles
      Effect    = "Allow"
      Principal = { Service = "events.amazonaws.com" }
      Action    = "sqs:SendMessage"
      Resource  = aws_sqs_queue.dead_letters.arn
      Condition = { ArnEquals = { "aws:SourceArn" = aws_cloudwatch_event_rule.task_stopped.arn } }
    }]
  })
}
