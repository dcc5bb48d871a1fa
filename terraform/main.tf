# What the other files share. There is one file per subject: vpc, ecs, lambda, eventbridge, sns, iam, secrets, s3.

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

locals {
  processor = "${var.environment}-snowflake-processor"
  poller    = "${var.environment}-snowflake-poller"

  account   = data.aws_caller_identity.current.account_id
  partition = data.aws_partition.current.partition

  tags = merge({
    Project     = "snowflake-processor"
    Environment = var.environment
    ManagedBy   = "terraform"
  }, var.tags)

  # The validation of schedule_expression admits only minutes.
  tick_seconds = 60 * tonumber(regex("[0-9]+", var.schedule_expression))

  # The place of the queue, and the way to log in.
  snowflake_environment = {
    SNOWFLAKE_ACCOUNT        = var.snowflake_account
    SNOWFLAKE_WAREHOUSE      = var.snowflake_warehouse
    SNOWFLAKE_DATABASE       = var.snowflake_database
    SNOWFLAKE_SCHEMA         = var.snowflake_schema
    SNOWFLAKE_TABLE          = var.snowflake_table
    SNOWFLAKE_AUTHENTICATION = var.snowflake_authentication
  }

  # With a key or a password, one user has both roles, so each session names its role. With workload identity, each IAM
  # role is a user of its own with a default role.
  snowflake_roles = { for program, role in {
    poller    = var.snowflake_role_poller
    processor = var.snowflake_role_processor
    } : program => role != null || var.snowflake_authentication == "workload_identity" ? role :
    upper("${var.snowflake_database}_${program}")
  }

  # Limits that both read. The poller needs the longest life of a task, the processor the age of a stale claim.
  shared_environment = merge(local.snowflake_environment, {
    ENVIRONMENT               = var.environment
    CONTAINER_TIMEOUT_SECONDS = tostring(var.container_timeout_seconds)
    SERVICE_TIMEOUT_SECONDS   = tostring(var.service_timeout_seconds)
    STALE_THRESHOLD_MINUTES   = tostring(var.stale_threshold_minutes)
    MAX_RETRIES               = tostring(var.max_retries)
  })
}

module "monitoring" {
  source = "../monitoring"

  environment   = var.environment
  aws_region    = var.aws_region
  alarm_arns_of = "arn:${local.partition}:cloudwatch:${var.aws_region}:${local.account}:alarm"
  alert_email   = var.alert_email

  function_name            = aws_lambda_function.poller.function_name
  function_timeout_seconds = aws_lambda_function.poller.timeout
  cluster_name             = aws_ecs_cluster.main.name
  task_family              = aws_ecs_task_definition.processor.family
  dead_letter_queue_name   = aws_sqs_queue.dead_letters.name
  schedule_group_name      = aws_scheduler_schedule_group.poller.name
  poller_log_group_name    = aws_cloudwatch_log_group.poller.name
  processor_log_group_name = aws_cloudwatch_log_group.processor.name

  tick_seconds            = local.tick_seconds
  container_insights      = var.container_insights != "disabled"
  enable_composite_alarms = var.enable_composite_alarms
  enable_saved_queries    = var.enable_saved_queries
  oldest_ready_seconds    = var.alarm_oldest_ready_seconds
  failure_ratio           = var.alarm_failure_ratio
  certificate_days_left   = var.alarm_certificate_days
}
