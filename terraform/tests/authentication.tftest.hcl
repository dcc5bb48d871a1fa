# The three ways to log in: what the secret holds, and what the tasks are given of it.

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

run "key_pair" {
  command = plan

  assert {
    condition = jsondecode(aws_ecs_task_definition.processor.container_definitions)[0].secrets == [
      { name = "SNOWFLAKE_PRIVATE_KEY", valueFrom = "arn:aws:secretsmanager:us-east-1:111122223333:secret:mock-AbCdEf:private_key::" },
      { name = "SNOWFLAKE_USER", valueFrom = "arn:aws:secretsmanager:us-east-1:111122223333:secret:mock-AbCdEf:username::" },
    ]
    error_message = "The task is given the user name and the private key."
  }

  assert {
    condition     = aws_lambda_function.poller.environment[0].variables.SNOWFLAKE_AUTHENTICATION == "key_pair"
    error_message = "The poller logs in by key pair."
  }
}

run "a_key_with_a_passphrase" {
  command = plan

  variables {
    snowflake_private_key_encrypted  = true
    snowflake_private_key_passphrase = "not a passphrase"
  }

  assert {
    condition = { for s in jsondecode(aws_ecs_task_definition.processor.container_definitions)[0].secrets : s.name => split(":", s.valueFrom)[7] } == {
      SNOWFLAKE_USER                   = "username"
      SNOWFLAKE_PRIVATE_KEY            = "private_key"
      SNOWFLAKE_PRIVATE_KEY_PASSPHRASE = "private_key_passphrase"
    }
    error_message = "The task is given the passphrase too."
  }
}

run "password" {
  command = plan

  variables {
    snowflake_authentication = "password"
    snowflake_password       = "not a password"
  }

  assert {
    condition = { for s in jsondecode(aws_ecs_task_definition.processor.container_definitions)[0].secrets : s.name => split(":", s.valueFrom)[7] } == {
      SNOWFLAKE_USER     = "username"
      SNOWFLAKE_PASSWORD = "password"
    }
    error_message = "The task is given the user name and the password."
  }
}

run "workload_identity" {
  command = plan

  variables {
    snowflake_authentication = "workload_identity"
    snowflake_user           = null
    snowflake_private_key    = null
  }

  assert {
    condition     = length(aws_secretsmanager_secret.snowflake) + length(aws_secretsmanager_secret_version.snowflake) + length(jsondecode(aws_ecs_task_definition.processor.container_definitions)[0].secrets) == 0
    error_message = "There is no secret."
  }

  assert {
    condition     = !strcontains(join("", [aws_iam_role_policy.poller.policy, aws_iam_role_policy.execution.policy]), "secretsmanager")
    error_message = "Nobody may read a secret."
  }

  assert {
    condition     = strcontains(output.snowflake_workload_identity_sql, "ALTER USER QUEUE_DB_POLLER SET WORKLOAD_IDENTITY = (TYPE = AWS ARN = '${aws_iam_role.poller.arn}');")
    error_message = "The output says what to run in Snowflake."
  }
}
