# The three ways to log in: the content of the secret, the parts of it that the tasks get, and their roles. Then the secret of
# the client key.

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
    error_message = "The task gets the user name and the private key."
  }

  assert {
    condition     = aws_lambda_function.poller.environment[0].variables.SNOWFLAKE_AUTHENTICATION == "key_pair"
    error_message = "The poller logs in by key pair."
  }

  assert {
    condition     = length(aws_secretsmanager_secret.client_key) + length(aws_secretsmanager_secret_version.client_key) == 0
    error_message = "A client key without a passphrase needs no secret."
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
    error_message = "The task gets the passphrase too."
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
    error_message = "The task gets the user name and the password."
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
    error_message = "The output has the SQL to run in Snowflake."
  }
}

run "a_client_key_with_a_passphrase" {
  command = plan

  variables {
    snowflake_authentication = "workload_identity"
    snowflake_user           = null
    snowflake_private_key    = null
    client_key_encrypted     = true
    client_key_passphrase    = "not a passphrase"
  }

  assert {
    condition = jsondecode(aws_ecs_task_definition.processor.container_definitions)[0].secrets == [
      { name = "CLIENT_KEY_PASSPHRASE", valueFrom = "arn:aws:secretsmanager:us-east-1:111122223333:secret:mock-AbCdEf" },
    ]
    error_message = "The task gets the passphrase, which is the whole secret, and no other secret."
  }

  assert {
    condition     = length(aws_secretsmanager_secret.snowflake) == 0 && aws_secretsmanager_secret.client_key[0].name == "dev-snowflake-client-key-passphrase" && output.client_key_secret_name == "dev-snowflake-client-key-passphrase"
    error_message = "Workload identity needs a secret for the client key only."
  }

  assert {
    condition     = one([for s in jsondecode(aws_iam_role_policy.execution.policy).Statement : s if s.Sid == "ReadTheClientKeysPassphrase"]) == { Sid = "ReadTheClientKeysPassphrase", Effect = "Allow", Action = "secretsmanager:GetSecretValue", Resource = aws_secretsmanager_secret.client_key[0].arn }
    error_message = "ECS may read it for the task."
  }

  assert {
    condition     = !strcontains(aws_iam_role_policy.poller.policy, "secretsmanager") && !strcontains(aws_iam_role_policy.processor.policy, "secretsmanager")
    error_message = "Nobody else may read it."
  }
}

run "a_client_key_with_a_passphrase_and_a_key_pair" {
  command = plan

  variables {
    client_key_encrypted      = true
    client_key_passphrase     = "not a passphrase"
    client_key_secret_version = 2
  }

  assert {
    condition     = toset([for s in jsondecode(aws_ecs_task_definition.processor.container_definitions)[0].secrets : s.name]) == toset(["SNOWFLAKE_USER", "SNOWFLAKE_PRIVATE_KEY", "CLIENT_KEY_PASSPHRASE"])
    error_message = "The task gets both secrets."
  }

  assert {
    condition     = aws_secretsmanager_secret_version.client_key[0].secret_string_wo_version == 2
    error_message = "A higher version writes the passphrase again."
  }

  assert {
    condition     = length([for s in jsondecode(aws_iam_role_policy.poller.policy).Statement : s if strcontains(s.Sid, "Passphrase")]) == 0
    error_message = "The poller may not read the passphrase."
  }
}
