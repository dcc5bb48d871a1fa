output "dashboard_name" {
  description = "Name of the dashboard."
  value       = aws_cloudwatch_dashboard.main.dashboard_name
}

output "alerts_topic_arn" {
  description = "Topic that alarms are published to."
  value       = aws_sns_topic.alerts.arn
}

output "alarm_names" {
  description = "Names of all alarms."
  value = sort(concat(
    values(aws_cloudwatch_metric_alarm.simple)[*].alarm_name,
    values(aws_cloudwatch_metric_alarm.insights)[*].alarm_name,
    [aws_cloudwatch_metric_alarm.failure_ratio.alarm_name],
    aws_cloudwatch_composite_alarm.not_delivering[*].alarm_name,
  ))
}
