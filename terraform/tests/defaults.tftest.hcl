# What is deployed with the required variables only. The provider is mocked: its schema is real, and no account is used.

mock_provider "aws" {
  source          = "./tests/mocks"
  override_during = plan
}

variables {
  environment           = "dev"
  aws_region            = "us-east-1"
  snowflake_account     = "myorg-myaccount"
  snowflake_user        = "QUEUE_DB_SERVICE"
  snowflake_private_key = "not a key"
  external_service_url  = "https://partner.example.com/process"
  image_uri             = "111122223333.dkr.ecr.us-east-1.amazonaws.com/dev-snowflake-processor:sha-0123456789abcdef"
  lambda_zip            = "versions.tf" # any file: the mock uploads nothing
}

run "defaults" {
  command = plan

  assert {
    condition     = aws_ecs_cluster.main.name == "dev-snowflake-processor" && aws_ecs_task_definition.processor.family == "dev-snowflake-processor"
    error_message = "Cluster and task family are named after the environment."
  }

  assert {
    condition = [
      aws_lambda_function.poller.function_name, aws_scheduler_schedule.poller.name, aws_scheduler_schedule.poller.group_name,
      aws_s3_bucket.certificates.bucket, aws_s3_bucket.lease.bucket, aws_secretsmanager_secret.snowflake[0].name, aws_ecr_repository.processor.name,
      aws_cloudwatch_log_group.poller.name, aws_cloudwatch_log_group.processor.name, aws_sqs_queue.dead_letters.name,
      aws_cloudwatch_event_rule.task_stopped.name,
      ] == [
      "dev-snowflake-poller", "dev-snowflake-poller-schedule", "dev-snowflake-poller",
      "dev-snowflake-processor-certs", "dev-snowflake-poller-lease", "dev-snowflake-credentials", "dev-snowflake-processor",
      "/aws/lambda/dev-snowflake-poller", "/ecs/dev-snowflake-processor", "dev-snowflake-poller-dlq",
      "dev-snowflake-task-stopped",
    ]
    error_message = "The names are those that the documentation and the scripts use."
  }

  assert {
    condition     = aws_lambda_function.poller.handler == "index.handler" && aws_lambda_function.poller.runtime == "python3.13" && aws_lambda_function.poller.architectures[0] == "arm64"
    error_message = "The function runs index.handler on Python 3.13 and ARM64, as scripts/build_lambda.sh builds it."
  }

  assert {
    condition     = aws_lambda_function.poller.timeout == 55 && aws_lambda_function.poller.reserved_concurrent_executions == -1
    error_message = "A tick ends before the next one is due, and no concurrency is reserved by default."
  }

  assert {
    condition     = aws_scheduler_schedule.poller.schedule_expression == "rate(1 minute)" && aws_scheduler_schedule.poller.target[0].input == "{}" && aws_scheduler_schedule.poller.flexible_time_window[0].mode == "OFF"
    error_message = "The schedule runs the poller each minute, with the empty event that means a tick."
  }

  assert {
    condition     = aws_scheduler_schedule.poller.target[0].retry_policy[0].maximum_retry_attempts == 0 && length(aws_scheduler_schedule.poller.target[0].dead_letter_config) == 1
    error_message = "A tick that could not be handed over is not repeated, and goes to the dead-letter queue."
  }

  assert {
    condition     = aws_lambda_function_event_invoke_config.poller.maximum_retry_attempts == 2 && aws_lambda_function_event_invoke_config.poller.maximum_event_age_in_seconds == 300
    error_message = "A stop event is tried three times, and throttled ticks do not pile up for longer than five minutes."
  }

  assert {
    condition     = alltrue([for key in ["block_public_acls", "block_public_policy", "ignore_public_acls", "restrict_public_buckets"] : aws_s3_bucket_public_access_block.certificates[key] && aws_s3_bucket_public_access_block.lease[key]])
    error_message = "The buckets are closed to the public."
  }

  assert {
    condition     = alltrue([for bucket in [aws_s3_bucket_policy.certificates, aws_s3_bucket_policy.lease] : jsondecode(bucket.policy).Statement[0].Effect == "Deny" && jsondecode(bucket.policy).Statement[0].Condition.Bool["aws:SecureTransport"] == "false"])
    error_message = "The buckets refuse requests without TLS."
  }

  assert {
    condition     = aws_ecr_repository.processor.image_tag_mutability == "IMMUTABLE"
    error_message = "A tag never moves."
  }

  assert {
    condition     = aws_cloudwatch_log_group.poller.retention_in_days == 30 && aws_cloudwatch_log_group.processor.retention_in_days == 30
    error_message = "Logs are kept for 30 days."
  }

  assert {
    condition     = length(aws_sns_topic.push) + length(aws_lambda_function_url.poller) + length(aws_iam_role.push) + length(aws_iam_role_policy_attachment.poller_in_vpc) == 0
    error_message = "Optional resources do not exist by default."
  }

  # The provider silently drops unknown keys from container_definitions. This assertion reads the configuration's own text.
  assert {
    condition = keys(jsondecode(aws_ecs_task_definition.processor.container_definitions)[0]) == [
      "environment", "essential", "image", "logConfiguration", "mountPoints", "name", "readonlyRootFilesystem", "secrets",
      "stopTimeout",
    ]
    error_message = "The container definition has exactly the intended keys."
  }

  assert {
    condition     = jsondecode(aws_ecs_task_definition.processor.container_definitions)[0].name == "processor" && length(jsondecode(aws_ecs_task_definition.processor.container_definitions)) == 1
    error_message = "The poller overrides the container by the name processor."
  }

  assert {
    condition     = jsondecode(aws_ecs_task_definition.processor.container_definitions)[0].readonlyRootFilesystem && jsondecode(aws_ecs_task_definition.processor.container_definitions)[0].mountPoints[0].containerPath == "/tmp"
    error_message = "The root file system is read-only, and /tmp is a volume."
  }

  assert {
    condition     = one([for volume in aws_ecs_task_definition.processor.volume : volume.name]) == jsondecode(aws_ecs_task_definition.processor.container_definitions)[0].mountPoints[0].sourceVolume
    error_message = "The container mounts the task's volume."
  }

  assert {
    condition     = jsondecode(aws_ecs_task_definition.processor.container_definitions)[0].stopTimeout == 120
    error_message = "The time between SIGTERM and SIGKILL is Fargate's maximum."
  }

  assert {
    condition     = one(aws_ecs_task_definition.processor.runtime_platform[*].cpu_architecture) == "ARM64"
    error_message = "Tasks run on ARM64."
  }

  # Compared key by key, because a pattern that never matches raises no error.
  assert {
    condition = jsondecode(aws_cloudwatch_event_rule.task_stopped.event_pattern) == {
      source      = ["aws.ecs"]
      detail-type = ["ECS Task State Change"]
      detail = {
        clusterArn = ["arn:aws:ecs:us-east-1:111122223333:cluster/mock"]
        group      = ["family:dev-snowflake-processor"]
        lastStatus = ["STOPPED"]
        "$or" = [
          { stopCode = ["TaskFailedToStart", "SpotInterruption", "TerminationNotice", "InfrastructureHealth"] },
          { containers = { exitCode = [{ anything-but = 0 }] } },
        ]
      }
    }
    error_message = "The rule matches tasks of this family on this cluster that did not end with exit code 0."
  }

  assert {
    condition     = aws_lambda_permission.task_stopped.principal == "events.amazonaws.com" && aws_lambda_permission.task_stopped.source_arn == aws_cloudwatch_event_rule.task_stopped.arn
    error_message = "EventBridge may invoke the poller, for this rule only."
  }
}

run "spot_and_x86" {
  command = plan

  variables {
    spot_share   = 70
    architecture = "X86_64"
  }

  assert {
    condition     = aws_lambda_function.poller.environment[0].variables.SPOT_PERCENT == "70" && toset(aws_ecs_cluster_capacity_providers.main.capacity_providers) == toset(["FARGATE", "FARGATE_SPOT"])
    error_message = "The poller gets the share of Spot, and the cluster has both capacity providers."
  }

  assert {
    condition     = aws_lambda_function.poller.architectures[0] == "x86_64" && one(aws_ecs_task_definition.processor.runtime_platform[*].cpu_architecture) == "X86_64"
    error_message = "Function and task have the same architecture."
  }
}

run "a_push_and_a_url" {
  command = plan

  variables {
    push_topic                 = true
    function_url               = true
    snowflake_push_user_arn    = "arn:aws:iam::444455556666:user/snowflake"
    snowflake_push_external_id = "SFC_1"
  }

  assert {
    condition     = aws_sns_topic.push[0].name == "dev-snowflake-push" && aws_sns_topic_subscription.push[0].protocol == "lambda" && aws_lambda_permission.push[0].source_arn == aws_sns_topic.push[0].arn
    error_message = "The topic invokes the poller and is allowed to."
  }

  assert {
    condition     = aws_lambda_function_url.poller[0].authorization_type == "AWS_IAM"
    error_message = "The URL accepts only signed requests."
  }

  assert {
    condition     = jsondecode(aws_iam_role.push[0].assume_role_policy).Statement[0].Condition.StringEquals["sts:ExternalId"] == "SFC_1"
    error_message = "Snowflake assumes the role with the integration's external id."
  }

  assert {
    condition     = output.push_role_arn == "arn:aws:iam::111122223333:role/${aws_iam_role.push[0].name}"
    error_message = "The output for the integration is the role's ARN."
  }
}

run "a_role_for_the_push_before_snowflake_has_said_who_it_is" {
  command = plan

  variables {
    push_topic = true
  }

  assert {
    condition     = length(aws_iam_role.push) == 0 && output.push_role_arn == "arn:aws:iam::111122223333:role/dev-snowflake-push"
    error_message = "The role does not exist yet, and the integration can be created with its ARN."
  }
}

# No value is a default, so a value that is not passed on is noticed: tests/terraform reads them with the settings classes.
run "other_values" {
  command = plan

  variables {
    snowflake_warehouse       = "OTHER_WH"
    snowflake_database        = "OTHER_DB"
    snowflake_schema          = "OTHER"
    snowflake_table           = "OTHER_QUEUE"
    snowflake_role_poller     = "OTHER_POLLER"
    snowflake_role_processor  = "OTHER_PROCESSOR"
    certificate_bucket        = "other-certs"
    lease_bucket              = "other-lease"
    entries_per_container     = 9
    max_containers            = 26
    stale_threshold_minutes   = 31
    container_timeout_seconds = 61
    service_timeout_seconds   = 31
    max_retries               = 4
    boot_deadline_seconds     = 181
    max_crashes               = 3
    spot_share                = 50
    schedule_expression       = "rate(2 minutes)"
    poller_environment        = { ENTRIES_PER_CONTAINER_ADAPTIVE = "1" }
    processor_environment     = { MAX_CONCURRENT_DELIVERIES = "33" }
  }

  assert {
    condition     = aws_s3_bucket.certificates.bucket == "other-certs" && aws_s3_bucket.lease.bucket == "other-lease"
    error_message = "The names of the buckets can be chosen."
  }
}
