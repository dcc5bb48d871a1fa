output "certificate_bucket" {
  description = "Bucket of the client certificate."
  value       = aws_s3_bucket.certificates.id
}

output "certificate_prefix" {
  description = "Where client.pem, client-key.pem and ca-cert.pem go: aws s3 cp client.pem <this>"
  value       = "s3://${aws_s3_bucket.certificates.id}/${var.environment}/"
}

output "ecr_repository_url" {
  description = "Where the processor's image is pushed to."
  value       = aws_ecr_repository.processor.repository_url
}

output "lambda_function_name" {
  description = "The poller."
  value       = aws_lambda_function.poller.function_name
}

output "cluster_name" {
  description = "Cluster of the processors."
  value       = aws_ecs_cluster.main.name
}

output "task_family" {
  description = "Family of the processors' task definition."
  value       = aws_ecs_task_definition.processor.family
}

output "schedule_name" {
  description = "What ticks the poller."
  value       = aws_scheduler_schedule.poller.name
}

output "schedule_group_name" {
  description = "The schedule's group."
  value       = aws_scheduler_schedule_group.poller.name
}

output "secret_name" {
  description = "Secret with the Snowflake login; null with workload identity."
  value       = one(aws_secretsmanager_secret.snowflake[*].name)
}

output "client_key_secret_name" {
  description = "Secret with the passphrase of client-key.pem; null without client_key_encrypted."
  value       = one(aws_secretsmanager_secret.client_key[*].name)
}

output "poller_log_group" {
  description = "The poller's log: aws logs tail <this> --follow"
  value       = aws_cloudwatch_log_group.poller.name
}

output "processor_log_group" {
  description = "The processors' log."
  value       = aws_cloudwatch_log_group.processor.name
}

output "dead_letter_queue_url" {
  description = "Events that the poller failed on; aws sqs purge-queue --queue-url <this> when they are understood."
  value       = aws_sqs_queue.dead_letters.url
}

output "dashboard_url" {
  description = "The dashboard."
  value       = "https://${var.aws_region}.console.aws.amazon.com/cloudwatch/home?region=${var.aws_region}#dashboards:name=${module.monitoring.dashboard_name}"
}

output "alarm_names" {
  description = "All alarms."
  value       = module.monitoring.alarm_names
}

output "alerts_topic_arn" {
  description = "Topic that alarms are published to."
  value       = module.monitoring.alerts_topic_arn
}

output "push_topic_arn" {
  description = "Topic that Snowflake publishes to; null without push_topic."
  value       = one(aws_sns_topic.push[*].arn)
}

output "push_role_arn" {
  description = "Role with which Snowflake publishes, for AWS_SNS_ROLE_ARN of the integration; null without push_topic."
  value       = var.push_topic ? "arn:${local.partition}:iam::${local.account}:role/${local.push_role}" : null
}

output "function_url" {
  description = "The poller's URL; null without function_url."
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
  description = "Addresses from which the tasks call, for a Snowflake network policy or the partner's firewall; empty in an existing VPC."
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
  description = "With workload identity, the statements that let the two roles log in as the users of snowflake/00_roles.sql."
  value = join("\n", [for user, arn in {
    PROCESSOR = aws_iam_role.processor.arn
    POLLER    = aws_iam_role.poller.arn
  } : "ALTER USER ${upper(var.snowflake_database)}_${user} SET WORKLOAD_IDENTITY = (TYPE = AWS ARN = '${arn}');"])
}
