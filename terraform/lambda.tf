# Created before the function. Otherwise the function creates a group without retention, and then Terraform fails.
resource "aws_cloudwatch_log_group" "poller" {
  name              = "/aws/lambda/${local.poller}"
  retention_in_days = var.log_retention_days
}

locals {
  poller_environment = merge(
    local.shared_environment,
    {
      ECS_CLUSTER           = aws_ecs_cluster.main.name
      ECS_TASK_DEFINITION   = aws_ecs_task_definition.processor.arn
      ECS_SUBNETS           = jsonencode(local.private_subnets)
      ECS_SECURITY_GROUP    = aws_security_group.processor.id
      LEASE_BUCKET          = aws_s3_bucket.lease.id
      ENTRIES_PER_CONTAINER = tostring(var.entries_per_container)
      MAX_CONTAINERS        = tostring(var.max_containers)
      SPOT_PERCENT          = tostring(var.spot_share)
      BOOT_DEADLINE_SECONDS = tostring(var.boot_deadline_seconds)
      MAX_CRASHES           = tostring(var.max_crashes)
      TICK_SECONDS          = tostring(local.tick_seconds)
    },
    { for role in [local.snowflake_roles.poller] : "SNOWFLAKE_ROLE" => role if role != null },
  )

  poller_names_twice = setintersection(keys(var.poller_environment), keys(local.poller_environment))
}

resource "aws_lambda_function" "poller" {
  function_name    = local.poller
  description      = "Reads the queue and starts as many processors as the ready entries need"
  filename         = var.lambda_zip
  source_code_hash = fileexists(var.lambda_zip) ? filebase64sha256(var.lambda_zip) : null
  handler          = "index.handler"
  runtime          = "python3.13"
  architectures    = [{ ARM64 = "arm64", X86_64 = "x86_64" }[var.architecture]]
  memory_size      = 512
  timeout          = 55 # a tick gives up after 50 s, the next one is due after 60 s, and its lease is valid for 90 s
  role             = aws_iam_role.poller.arn

  reserved_concurrent_executions = coalesce(var.reserved_concurrent_executions, -1)

  environment {
    variables = merge(var.poller_environment, local.poller_environment)
  }

  dynamic "vpc_config" {
    for_each = var.poller_in_vpc ? [1] : []

    content {
      subnet_ids         = local.private_subnets
      security_group_ids = [aws_security_group.processor.id]
    }
  }

  lifecycle {
    precondition {
      condition     = fileexists(var.lambda_zip)
      error_message = "lambda_zip: ${var.lambda_zip} does not exist; scripts/build_lambda.sh builds it."
    }
    precondition {
      condition     = length(local.poller_names_twice) == 0
      error_message = "poller_environment: ${join(", ", local.poller_names_twice)}: another variable sets it."
    }
  }

  # The first tick runs as soon as the schedule exists, and it needs these permissions.
  depends_on = [
    aws_cloudwatch_log_group.poller,
    aws_iam_role_policy.poller,
    aws_iam_role_policy_attachment.poller_in_vpc,
  ]
}

# The schedule, the rule and the topic invoke the function asynchronously, so Lambda retries as configured here. Two retries,
# after one and two minutes, let a stop event outlast a short fault of Snowflake. Events expire after five minutes, so that
# throttling delays at most five ticks and not those of six hours, the default.
resource "aws_lambda_function_event_invoke_config" "poller" {
  function_name                = aws_lambda_function.poller.function_name
  maximum_retry_attempts       = 2
  maximum_event_age_in_seconds = 300

  destination_config {
    on_failure {
      destination = aws_sqs_queue.dead_letters.arn
    }
  }
}

resource "aws_lambda_function_url" "poller" {
  count = var.function_url ? 1 : 0

  function_name      = aws_lambda_function.poller.function_name
  authorization_type = "AWS_IAM"
}
