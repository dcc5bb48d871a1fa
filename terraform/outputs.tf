output "certificate_bucket" {
  description = "Bucket for the client certificate."
  value       = aws_s3_bucket.certificates.id
}

output "certificate_prefix" {
  description = "Destination of client.pem, client-key.pem and ca-cert.pem: aws s3 cp client.pem <this>"
  value       = "s3://${aws_s3_bucket.certificates.id}/${var.environment}/"
}

output "ecr_repository_url" {
  description = "Repository of the processor's image."
  value       = aws_ecr_repository.processor.repository_url
}

output "lambda_function_name" {
  description = "Name of the poller's function."
  value       = aws_lambda_function.poller.function_name
}

output "cluster_name" {
  description = "ECS cluster of the processors."
  value       = aws_ecs_cluster.main.name
}

output "task_family" {
  description = "Family of the processors' task definition."
  value       = aws_ecs_task_definition.processor.family
}

output "schedule_name" {
  description = "Schedule that runs the poller."
  value       = aws_scheduler_schedule.poller.name
}

output "schedule_group_name" {
  description = "Group of the schedule."
  value       = aws_scheduler_schedule_group.poller.name
}

output "secret_name" {
  description = "Secret with the Snowflake login. null with workload identity."
  value       = one(aws_secretsmanager_secret.snowflake[*].name)
}

output "client_key_secret_name" {
  description = "Secret with the passphrase of client-key.pem. null without client_key_encrypted."
  value       = one(aws_secretsmanager_secret.client_key[*].name)
}

output "poller_log_group" {
  description = "Log group of the poller: aws logs tail <this> --follow"
  value       = aws_cloudwatch_log_group.poller.name
}

output "processor_log_group" {
  description = "Log group of the processors."
  value       = aws_cloudwatch_log_group.processor.name
}

output "dead_letter_queue_url" {
  description = "Dead-letter queue of events that the poller failed on. When the cause is fixed: aws sqs purge-queue --queue-url <this>"
  value       = aws_sqs_queue.dead_letters.url
}

output "dashboard_url" {
  description = "URL of the dashboard."
  value       = "https://${var.aws_region}.console.aws.amazon.com/cloudwatch/home?region=${var.aws_region}#dashboards:name=${module.monitoring.dashboard_name}"
}

output "alarm_names" {
  description = "Names of all alarms."
  value       = module.monitoring.alarm_names
}

output "alerts_topic_arn" {
  description = "Topic that alarms are published to."
  value       = module.monitoring.alerts_topic_arn
}

output "push_topic_arn" {
  description = "Topic that Snowflake publishes to. null without push_topic."
  value       = one(aws_sns_topic.push[*].arn)
}

output "push_role_arn" {
  description = "Role with which Snowflake publishes: the integration's AWS_SNS_ROLE_ARN. null without push_topic."
  value       = var.push_topic ? "arn:${local.partition}:iam::${local.account}:role/${local.push_role}" : null
}

output "function_url" {
  description = "The poller's URL. null without function_url."
  value       = one(aws_lambda_function_url.poller[*].function_url)
}

output "vpc_id" {
  description = "VPC of the tasks."
  value       = local.vpc_id
}

output "private_subnet_ids" {
  description = "Subnets of the tasks."
  value       = local.private_subnets
}

output "nat_addresses" {
  description = "Addresses that the tasks connect from, for a Snowflake network policy or the partner's firewall. Empty in an existing VPC."
  value       = aws_eip.nat[*].public_ip
}

output "poller_role_arn" {
  description = "The poller's IAM role."
  value       = aws_iam_role.poller.arn
}

output "processor_role_arn" {
  description = "The processors' IAM role."
  value       = aws_iam_role.processor.arn
}

output "snowflake_workload_identity_sql" {
  description = "SQL for workload identity: it lets the two IAM roles log in as the users of snowflake/00_roles.sql."
  value = join("\n", [for user, arn in {
    PROCESSOR = aws_iam_role.processor.arn
    POLLER    = aws_iam_role.poller.arn
  } : "ALTER USER ${upper(var.snowflake_database)}_${user} SET WORKLOAD_IDENTITY = (TYPE = AWS ARN = '${arn}');"])
}
