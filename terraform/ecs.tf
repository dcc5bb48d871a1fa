resource "aws_ecr_repository" "processor" {
  name                 = local.processor
  image_tag_mutability = "IMMUTABLE"
  force_delete         = true # images can be rebuilt from the sources

  image_scanning_configuration {
    scan_on_push = true
  }
}

resource "aws_ecr_lifecycle_policy" "processor" {
  repository = aws_ecr_repository.processor.name

  policy = jsonencode({
    rules = [{
      rulePriority = 1
      description  = "Keep the last 20 images for a rollback"
      selection    = { tagStatus = "any", countType = "imageCountMoreThan", countNumber = 20 }
      action       = { type = "expire" }
    }]
  })
}

resource "aws_cloudwatch_log_group" "processor" {
  name              = "/ecs/${local.processor}"
  retention_in_days = var.log_retention_days
}

resource "aws_ecs_cluster" "main" {
  name = local.processor

  setting {
    name  = "containerInsights"
    value = var.container_insights
  }
}

resource "aws_ecs_cluster_capacity_providers" "main" {
  cluster_name       = aws_ecs_cluster.main.name
  capacity_providers = ["FARGATE", "FARGATE_SPOT"]
}

locals {
  processor_environment = merge(
    local.shared_environment,
    # Fargate has no instance metadata with the region. Both boto3 and the Snowflake driver read this variable.
    {
      AWS_DEFAULT_REGION   = var.aws_region
      CERT_BUCKET          = aws_s3_bucket.certificates.id
      EXTERNAL_SERVICE_URL = var.external_service_url
      TASK_MEMORY_MIB      = tostring(var.task_memory)
    },
    { for role in [local.snowflake_roles.processor] : "SNOWFLAKE_ROLE" => role if role != null },
  )

  # Environment variable -> key of the JSON object in the secret with the Snowflake login.
  login_secrets = {
    workload_identity = {}
    password          = { SNOWFLAKE_USER = "username", SNOWFLAKE_PASSWORD = "password" }
    key_pair = merge(
      { SNOWFLAKE_USER = "username", SNOWFLAKE_PRIVATE_KEY = "private_key" },
      var.snowflake_private_key_encrypted ? { SNOWFLAKE_PRIVATE_KEY_PASSPHRASE = "private_key_passphrase" } : {},
    )
  }[var.snowflake_authentication]

  # Environment variable -> ARN from which ECS reads its value.
  processor_secrets = merge(
    { for name, key in local.login_secrets : name => "${one(aws_secretsmanager_secret.snowflake[*].arn)}:${key}::" },
    { for arn in aws_secretsmanager_secret.client_key[*].arn : "CLIENT_KEY_PASSPHRASE" => arn },
  )

  processor_names       = concat(keys(local.processor_environment), keys(local.processor_secrets))
  processor_names_twice = setintersection(keys(var.processor_environment), local.processor_names)
}

resource "aws_ecs_task_definition" "processor" {
  family                   = local.processor
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = var.task_cpu
  memory                   = var.task_memory
  execution_role_arn       = aws_iam_role.execution.arn
  task_role_arn            = aws_iam_role.processor.arn

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = var.architecture
  }

  # Python writes temporary files to /tmp. The image declares /tmp as a volume, so this volume gets the permissions of the
  # image's /tmp (AWS, "Bind mounts"), and the processor's user can write to it.
  volume {
    name = "scratch"
  }

  container_definitions = jsonencode([{
    name                   = "processor"
    image                  = var.image_uri
    essential              = true
    readonlyRootFilesystem = true
    stopTimeout            = 120 # the maximum of Fargate; settings.py says how it is used
    mountPoints            = [{ sourceVolume = "scratch", containerPath = "/tmp", readOnly = false }]
    environment = [for name, value in merge(var.processor_environment, local.processor_environment) :
      { name = name, value = value }
    ]
    secrets = [for name, from in local.processor_secrets : { name = name, valueFrom = from }]
    logConfiguration = {
      logDriver = "awslogs"
      options = {
        awslogs-group         = aws_cloudwatch_log_group.processor.name
        awslogs-region        = var.aws_region
        awslogs-stream-prefix = "ecs"
        # A task that cannot write its log goes on delivering. A blocking write would stop it.
        mode            = "non-blocking"
        max-buffer-size = "4m"
      }
    }
  }])

  # The poller launches a revision by its ARN. So the new revision is created before the function changes, and the old
  # one is removed after that.
  lifecycle {
    create_before_destroy = true

    precondition {
      condition     = length(local.processor_names_twice) == 0
      error_message = "processor_environment: ${join(", ", local.processor_names_twice)}: another variable sets it."
    }
  }
}
