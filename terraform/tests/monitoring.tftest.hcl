# What the root module passes to the monitoring module. tests/terraform compares every metric and every name. No test shows
# how CloudWatch evaluates the alarms.

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

run "by_default" {
  command = plan

  assert {
    condition     = contains(output.alarm_names, "dev-snowflake-heartbeat") && contains(output.alarm_names, "dev-snowflake-task-memory") && contains(output.alarm_names, "dev-snowflake-not-delivering")
    error_message = "All alarms exist, including those that need Container Insights."
  }
}

run "less" {
  command = plan

  variables {
    container_insights         = "disabled"
    enable_composite_alarms    = false
    enable_saved_queries       = false
    schedule_expression        = "rate(15 minutes)"
    alarm_oldest_ready_seconds = 3600
    alarm_failure_ratio        = 0.2
    alarm_certificate_days     = 14
  }

  assert {
    condition     = length([for name in output.alarm_names : name if strcontains(name, "-task-") || strcontains(name, "not-delivering")]) == 0
    error_message = "There is no alarm on a metric that is not measured."
  }

  assert {
    condition     = aws_lambda_function.poller.environment[0].variables.TICK_SECONDS == "900"
    error_message = "The poller gets the schedule's period."
  }
}
