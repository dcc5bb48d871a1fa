# One role for each service, with only the permissions that it needs. The documents are written with jsonencode instead of
# aws_iam_policy_document, so that terraform test can read them.

locals {
  task_definitions = "arn:${local.partition}:ecs:${var.aws_region}:${local.account}:task-definition/${local.processor}:*"
  tasks            = "arn:${local.partition}:ecs:${var.aws_region}:${local.account}:task/${local.processor}/*"

  # The repository that image_uri names, if it is in ECR; it may belong to another account.
  image_repository_arns = [
    for ecr in regexall("^(?P<account>[0-9]{12})\\.dkr\\.ecr\\.(?P<region>[a-z0-9-]+)\\.amazonaws\\.com(?:\\.cn)?/(?P<name>[^:@]+)[:@]", var.image_uri) :
    "arn:${local.partition}:ecr:${ecr.region}:${ecr.account}:repository/${ecr.name}"
  ]

  may_read_the_secret = [for arn in aws_secretsmanager_secret.snowflake[*].arn : {
    Sid      = "ReadTheCredentials"
    Effect   = "Allow"
    Action   = "secretsmanager:GetSecretValue"
    Resource = arn
  }]

  may_read_the_passphrase = [for arn in aws_secretsmanager_secret.client_key[*].arn : {
    Sid      = "ReadTheClientKeysPassphrase"
    Effect   = "Allow"
    Action   = "secretsmanager:GetSecretValue"
    Resource = arn
  }]

  trust = { for service in ["ecs-tasks", "lambda", "scheduler"] : service => {
    Effect    = "Allow"
    Principal = { Service = "${service}.amazonaws.com" }
    Action    = "sts:AssumeRole"
  } }

  # Another account cannot make the AWS service use these roles (AWS, "The confused deputy problem").
  of_our_account = { StringEquals = { "aws:SourceAccount" = local.account } }
}

# The processor may read its certificates and nothing else. With workload identity it logs in to Snowflake as this role.

resource "aws_iam_role" "processor" {
  name = "${local.processor}-task"

  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [merge(local.trust["ecs-tasks"], { Condition = local.of_our_account })]
  })
}

resource "aws_iam_role_policy" "processor" {
  name = "processor"
  role = aws_iam_role.processor.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid      = "ReadTheCertificates"
      Effect   = "Allow"
      Action   = "s3:GetObject"
      Resource = "${aws_s3_bucket.certificates.arn}/${var.environment}/*"
    }]
  })
}

# What ECS does before the processor starts: pull the image, create the log stream, read the secrets.

resource "aws_iam_role" "execution" {
  name = "${local.processor}-execution"

  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [merge(local.trust["ecs-tasks"], { Condition = local.of_our_account })]
  })
}

resource "aws_iam_role_policy" "execution" {
  name = "execution"
  role = aws_iam_role.execution.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [{
        Sid      = "WriteTheLog"
        Effect   = "Allow"
        Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
        Resource = "${aws_cloudwatch_log_group.processor.arn}:*"
      }],
      [for arn in local.image_repository_arns : {
        Sid      = "PullTheImage"
        Effect   = "Allow"
        Action   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
        Resource = arn
      }],
      [for _ in local.image_repository_arns : {
        Sid      = "LogInToTheRegistry"
        Effect   = "Allow"
        Action   = "ecr:GetAuthorizationToken"
        Resource = "*" # this action has no resource
      }],
      local.may_read_the_secret,
      local.may_read_the_passphrase,
    )
  })
}

# The poller may launch tasks of this family on this cluster with these two roles.

resource "aws_iam_role" "poller" {
  name = local.poller

  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [local.trust["lambda"]]
  })
}

resource "aws_iam_role_policy" "poller" {
  name = "poller"
  role = aws_iam_role.poller.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [
        {
          Sid       = "LaunchProcessors"
          Effect    = "Allow"
          Action    = "ecs:RunTask"
          Resource  = local.task_definitions
          Condition = { ArnEquals = { "ecs:cluster" = aws_ecs_cluster.main.arn } }
        },
        {
          # RunTask with propagateTags tags the new tasks. Nothing else may be tagged.
          Sid       = "TagWhatIsLaunched"
          Effect    = "Allow"
          Action    = "ecs:TagResource"
          Resource  = local.tasks
          Condition = { StringEquals = { "ecs:CreateAction" = "RunTask" } }
        },
        {
          # The only resource of this action is a container instance, and Fargate has none.
          Sid       = "ListTasks"
          Effect    = "Allow"
          Action    = "ecs:ListTasks"
          Resource  = "*"
          Condition = { ArnEquals = { "ecs:cluster" = aws_ecs_cluster.main.arn } }
        },
        {
          Sid       = "SeeAndStopTasks"
          Effect    = "Allow"
          Action    = ["ecs:DescribeTasks", "ecs:StopTask"]
          Resource  = local.tasks
          Condition = { ArnEquals = { "ecs:cluster" = aws_ecs_cluster.main.arn } }
        },
        {
          Sid       = "PassTheRolesOfTheTask"
          Effect    = "Allow"
          Action    = "iam:PassRole"
          Resource  = [aws_iam_role.processor.arn, aws_iam_role.execution.arn]
          Condition = { StringEquals = { "iam:PassedToService" = "ecs-tasks.amazonaws.com" } }
        },
        {
          # A write over a known version (If-Match) needs both (AWS, "How to prevent object overwrites with conditional writes").
          Sid      = "TakeTheLease"
          Effect   = "Allow"
          Action   = ["s3:GetObject", "s3:PutObject"]
          Resource = "${aws_s3_bucket.lease.arn}/${var.environment}/launch-lease.json"
        },
        {
          Sid      = "WriteTheLog"
          Effect   = "Allow"
          Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
          Resource = "${aws_cloudwatch_log_group.poller.arn}:*"
        },
        {
          Sid      = "SendToTheDeadLetterQueue"
          Effect   = "Allow"
          Action   = "sqs:SendMessage"
          Resource = aws_sqs_queue.dead_letters.arn
        },
      ],
      local.may_read_the_secret,
    )
  })
}

# Lambda creates a function's network interfaces with the function's role. AWS's own policy for that allows all resources,
# because the interfaces are not known in advance.
resource "aws_iam_role_policy_attachment" "poller_in_vpc" {
  count = var.poller_in_vpc ? 1 : 0

  role       = aws_iam_role.poller.name
  policy_arn = "arn:${local.partition}:iam::aws:policy/service-role/AWSLambdaVPCAccessExecutionRole"
}

# The schedule.

resource "aws_iam_role" "scheduler" {
  name = "${local.poller}-schedule"

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [merge(local.trust["scheduler"], { Condition = {
      StringEquals = {
        "aws:SourceAccount" = local.account
        "aws:SourceArn"     = aws_scheduler_schedule_group.poller.arn
      }
    } })]
  })
}

resource "aws_iam_role_policy" "scheduler" {
  name = "scheduler"
  role = aws_iam_role.scheduler.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "Tick"
        Effect   = "Allow"
        Action   = "lambda:InvokeFunction"
        Resource = aws_lambda_function.poller.arn
      },
      {
        Sid      = "SendToTheDeadLetterQueue"
        Effect   = "Allow"
        Action   = "sqs:SendMessage"
        Resource = aws_sqs_queue.dead_letters.arn
      },
    ]
  })
}

# Snowflake's notification integration assumes this role for a push. The integration needs the role's ARN before it shows
# which user the role has to trust, so the ARN is an output even before the role exists.

resource "aws_iam_role" "push" {
  count = var.push_topic && var.snowflake_push_user_arn != null ? 1 : 0

  name = local.push_role

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { AWS = var.snowflake_push_user_arn }
      Action    = "sts:AssumeRole"
      Condition = { StringEquals = { "sts:ExternalId" = var.snowflake_push_external_id } }
    }]
  })
}

resource "aws_iam_role_policy" "push" {
  count = length(aws_iam_role.push)

  name = "push"
  role = aws_iam_role.push[0].id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid      = "Push"
      Effect   = "Allow"
      Action   = "sns:Publish"
      Resource = aws_sns_topic.push[0].arn
    }]
  })
}
