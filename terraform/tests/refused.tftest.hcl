# Values that are refused before any call to AWS.

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

run "invalid_values" {
  command = plan

  variables {
    environment              = "Dev"
    aws_region               = "Virginia"
    snowflake_account        = "myorg-myaccount.snowflakecomputing.com"
    snowflake_table          = "my table"
    snowflake_role_poller    = "DROP ROLE;"
    snowflake_authentication = "oauth"
    snowflake_user           = ""
    image_uri                = "111122223333.dkr.ecr.us-east-1.amazonaws.com/dev-snowflake-processor:latest"
    architecture             = "arm64"
    external_service_url     = "http://partner.example.com/process"
    certificate_bucket       = "Certs"
    lease_bucket             = "Lease"
    entries_per_container    = 0
    max_containers           = -1
    service_timeout_seconds  = 0
    max_retries              = 1.5
    spot_share               = 101
    task_cpu                 = 300
    secret_recovery_days     = 3
    snowflake_push_user_arn  = "snowflake"
    vpc_id                   = "default"
    vpc_cidr                 = "10.40.0.0/28"
    alert_email              = "oncall"
    log_retention_days       = 31
    container_insights       = "on"
    alarm_failure_ratio      = 10
  }

  expect_failures = [
    var.environment, var.aws_region, var.snowflake_account, var.snowflake_table, var.snowflake_role_poller,
    var.snowflake_authentication, var.image_uri, var.architecture, var.external_service_url,
    var.certificate_bucket, var.lease_bucket, var.entries_per_container, var.max_containers, var.service_timeout_seconds, var.max_retries,
    var.spot_share, var.task_cpu, var.secret_recovery_days, var.snowflake_push_user_arn,
    var.vpc_id, var.vpc_cidr, var.alert_email,
    var.log_retention_days, var.container_insights, var.alarm_failure_ratio,
  ]
}

run "values_that_contradict_each_other" {
  command = plan

  variables {
    stale_threshold_minutes    = 6 # a task may live for 360 s
    task_memory                = 4096
    private_subnet_ids         = ["subnet-1"]
    alarm_oldest_ready_seconds = 30
    snowflake_push_external_id = "SFC_1"
    snowflake_user             = null
  }

  expect_failures = [
    var.stale_threshold_minutes, var.task_memory, var.private_subnet_ids, var.alarm_oldest_ready_seconds,
    var.snowflake_push_external_id, var.snowflake_user,
  ]
}

run "an_image_without_a_tag_and_a_schedule_with_a_wrong_plural" {
  command = plan

  variables {
    image_uri           = "111122223333.dkr.ecr.us-east-1.amazonaws.com/dev-snowflake-processor"
    schedule_expression = "rate(1 minutes)"
  }

  expect_failures = [var.image_uri, var.schedule_expression]
}

run "a_missing_zip_and_a_setting_of_the_poller_that_another_variable_sets" {
  command = plan

  variables {
    lambda_zip         = "nowhere.zip"
    poller_environment = { TICK_SECONDS = "1" }
  }

  expect_failures = [aws_lambda_function.poller]
}

run "a_setting_of_the_processor_that_another_variable_sets" {
  command = plan

  variables {
    processor_environment = { SNOWFLAKE_USER = "somebody" }
  }

  expect_failures = [aws_ecs_task_definition.processor]
}

run "secrets_among_the_settings_of_the_poller" {
  command = plan

  variables {
    poller_environment = { SNOWFLAKE_PASSWORD = "in clear" }
  }

  expect_failures = [var.poller_environment]
}

run "secrets_among_the_settings_of_the_processors" {
  command = plan

  variables {
    processor_environment = { CLIENT_KEY_PASSPHRASE = "in clear" }
  }

  expect_failures = [var.processor_environment]
}

run "a_port_zero" {
  command = plan

  variables {
    external_service_url      = "https://partner.example.com:0/process"
    client_key_secret_version = 0
  }

  expect_failures = [var.external_service_url, var.client_key_secret_version]
}

run "a_port_that_is_too_high" {
  command = plan

  variables {
    external_service_url = "https://partner.example.com:65536/process"
  }

  expect_failures = [var.external_service_url]
}
