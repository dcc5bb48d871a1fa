# The template is valid JSON: every placeholder is inside a string.
resource "aws_cloudwatch_dashboard" "main" {
  dashboard_name = "${var.environment}-snowflake-processor"

  dashboard_body = templatefile("${path.module}/cloudwatch_dashboard.json", {
    environment            = var.environment
    region                 = var.aws_region
    alarm                  = "${var.alarm_arns_of}:${var.environment}-snowflake"
    function_name          = var.function_name
    cluster_name           = var.cluster_name
    task_family            = var.task_family
    dead_letter_queue_name = var.dead_letter_queue_name
    schedule_group_name    = var.schedule_group_name
    poller_log_group       = var.poller_log_group_name
    processor_log_group    = var.processor_log_group_name
  })
}
