# What each role may do, and that no permission covers all resources.

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

run "roles" {
  command = plan

  variables {
    push_topic                 = true
    snowflake_push_user_arn    = "arn:aws:iam::444455556666:user/snowflake"
    snowflake_push_external_id = "SFC_1"
  }

  assert {
    condition = jsondecode(aws_iam_role_policy.processor.policy).Statement == [{
      Sid      = "ReadTheCertificates"
      Effect   = "Allow"
      Action   = "s3:GetObject"
      Resource = "arn:aws:s3:::mock-certs/dev/*"
    }]
    error_message = "The processor may read the certificates of its environment, and nothing else."
  }

  assert {
    condition = { for s in jsondecode(aws_iam_role_policy.execution.policy).Statement : s.Sid => s.Resource } == {
      WriteTheLog        = "arn:aws:logs:us-east-1:111122223333:log-group:mock:*"
      PullTheImage       = "arn:aws:ecr:us-east-1:111122223333:repository/dev-snowflake-processor"
      LogInToTheRegistry = "*"
      ReadTheCredentials = "arn:aws:secretsmanager:us-east-1:111122223333:secret:mock-AbCdEf"
    }
    error_message = "ECS may pull this image, write this log and read this secret."
  }

  assert {
    condition = { for s in jsondecode(aws_iam_role_policy.poller.policy).Statement : s.Sid => s.Action } == {
      LaunchProcessors         = "ecs:RunTask"
      TagWhatIsLaunched        = "ecs:TagResource"
      ListTasks                = "ecs:ListTasks"
      SeeAndStopTasks          = ["ecs:DescribeTasks", "ecs:StopTask"]
      PassTheRolesOfTheTask    = "iam:PassRole"
      TakeTheLease             = ["s3:GetObject", "s3:PutObject"]
      WriteTheLog              = ["logs:CreateLogStream", "logs:PutLogEvents"]
      SendToTheDeadLetterQueue = "sqs:SendMessage"
      ReadTheCredentials       = "secretsmanager:GetSecretValue"
    }
    error_message = "The poller has the permissions that a tick needs, and no others."
  }

  assert {
    condition     = alltrue([for s in jsondecode(aws_iam_role_policy.poller.policy).Statement : s.Condition.ArnEquals["ecs:cluster"] == "arn:aws:ecs:us-east-1:111122223333:cluster/mock" if contains(["LaunchProcessors", "ListTasks", "SeeAndStopTasks"], s.Sid)])
    error_message = "The poller's permissions on tasks are limited to this cluster."
  }

  assert {
    condition     = one([for s in jsondecode(aws_iam_role_policy.poller.policy).Statement : s.Resource if s.Sid == "TakeTheLease"]) == "arn:aws:s3:::mock-certs/dev/launch-lease.json"
    error_message = "The poller may read and write its lease, and no other object."
  }

  assert {
    condition     = one([for s in jsondecode(aws_iam_role_policy.poller.policy).Statement : s.Resource if s.Sid == "LaunchProcessors"]) == "arn:aws:ecs:us-east-1:111122223333:task-definition/dev-snowflake-processor:*"
    error_message = "The poller may start this family only."
  }

  assert {
    condition     = one([for s in jsondecode(aws_iam_role_policy.poller.policy).Statement : s.Resource if s.Sid == "SeeAndStopTasks"]) == "arn:aws:ecs:us-east-1:111122223333:task/dev-snowflake-processor/*"
    error_message = "The poller may see and stop the tasks of this cluster only."
  }

  assert {
    condition     = one([for s in jsondecode(aws_iam_role_policy.poller.policy).Statement : s.Condition.StringEquals["ecs:CreateAction"] if s.Sid == "TagWhatIsLaunched"]) == "RunTask"
    error_message = "The poller may tag only what it launches."
  }

  assert {
    condition     = one([for s in jsondecode(aws_iam_role_policy.poller.policy).Statement : s if s.Sid == "PassTheRolesOfTheTask"]).Condition.StringEquals["iam:PassedToService"] == "ecs-tasks.amazonaws.com" && length(one([for s in jsondecode(aws_iam_role_policy.poller.policy).Statement : s if s.Sid == "PassTheRolesOfTheTask"]).Resource) == 2
    error_message = "The poller passes two roles, to ECS tasks only."
  }

  assert {
    condition     = jsondecode(aws_iam_role.scheduler.assume_role_policy).Statement[0].Condition.StringEquals["aws:SourceArn"] == aws_scheduler_schedule_group.poller.arn
    error_message = "Only this schedule group may use the schedule's role."
  }

  assert {
    condition     = alltrue([for role in [aws_iam_role.processor, aws_iam_role.execution] : jsondecode(role.assume_role_policy).Statement[0].Condition.StringEquals["aws:SourceAccount"] == "111122223333"])
    error_message = "Tasks of other accounts cannot use our roles."
  }

  assert {
    condition = { for s in jsondecode(aws_iam_role_policy.scheduler.policy).Statement : s.Action => s.Resource } == {
      "lambda:InvokeFunction" = aws_lambda_function.poller.arn
      "sqs:SendMessage"       = aws_sqs_queue.dead_letters.arn
    }
    error_message = "The schedule may invoke the poller and use the dead-letter queue."
  }

  assert {
    condition     = jsondecode(aws_iam_role_policy.push[0].policy).Statement[0].Action == "sns:Publish" && jsondecode(aws_iam_role_policy.push[0].policy).Statement[0].Resource == aws_sns_topic.push[0].arn
    error_message = "Snowflake may publish to this topic."
  }

  # ListTasks and GetAuthorizationToken have no resource to name.
  assert {
    condition = toset(flatten([
      for policy in [
        aws_iam_role_policy.processor.policy, aws_iam_role_policy.execution.policy, aws_iam_role_policy.poller.policy,
        aws_iam_role_policy.scheduler.policy, aws_iam_role_policy.push[0].policy,
      ] : [for s in jsondecode(policy).Statement : s.Action if contains(flatten([s.Resource]), "*")]
    ])) == toset(["ecs:ListTasks", "ecr:GetAuthorizationToken"])
    error_message = "Only actions without resources are allowed on all resources."
  }

  assert {
    condition = length([
      for policy in [
        aws_iam_role_policy.processor.policy, aws_iam_role_policy.execution.policy, aws_iam_role_policy.poller.policy,
        aws_iam_role_policy.scheduler.policy, aws_iam_role_policy.push[0].policy,
      ] : policy if anytrue([for s in jsondecode(policy).Statement : anytrue([for a in flatten([s.Action]) : strcontains(a, "*")])])
    ]) == 0
    error_message = "No action contains a wildcard."
  }
}

run "an_image_from_another_account" {
  command = plan

  variables {
    image_uri = "999988887777.dkr.ecr.eu-west-1.amazonaws.com/shared/processor@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
  }

  assert {
    condition     = one([for s in jsondecode(aws_iam_role_policy.execution.policy).Statement : s.Resource if s.Sid == "PullTheImage"]) == "arn:aws:ecr:eu-west-1:999988887777:repository/shared/processor"
    error_message = "ECS may pull the image from another account and region."
  }
}

run "an_image_by_tag_and_digest" {
  command = plan

  variables {
    image_uri = "999988887777.dkr.ecr.eu-west-1.amazonaws.com/shared/processor:1.2@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
  }

  assert {
    condition     = one([for s in jsondecode(aws_iam_role_policy.execution.policy).Statement : s.Resource if s.Sid == "PullTheImage"]) == "arn:aws:ecr:eu-west-1:999988887777:repository/shared/processor"
    error_message = "The repository's name ends where the tag begins."
  }
}

run "an_image_that_is_not_in_ecr" {
  command = plan

  variables {
    image_uri = "ghcr.io/myorg/processor@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
  }

  assert {
    condition     = length([for s in jsondecode(aws_iam_role_policy.execution.policy).Statement : s if strcontains(s.Sid, "Image")]) == 0
    error_message = "An image outside ECR needs no permission of ECR."
  }
}
