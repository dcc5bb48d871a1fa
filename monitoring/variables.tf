# Called by terraform/main.tf, whose variables carry the validations.

variable "environment" {
  description = "Name of the deployment: the dimension of every metric of ours, and the first part of every name."
  type        = string
}

variable "aws_region" {
  description = "Region of the metrics."
  type        = string
}

variable "alarm_arns_of" {
  description = "What the ARNs of this account's alarms begin with, up to alarm."
  type        = string
}

variable "alert_email" {
  description = "Where alarms are mailed to, or null."
  type        = string
}

variable "function_name" {
  description = "The poller."
  type        = string
}

variable "function_timeout_seconds" {
  description = "The poller's time-out."
  type        = number
}

variable "cluster_name" {
  description = "Cluster of the processors."
  type        = string
}

variable "task_family" {
  description = "Family of the processors' task definition."
  type        = string
}

variable "dead_letter_queue_name" {
  description = "Queue of the events that the poller failed on."
  type        = string
}

variable "schedule_group_name" {
  description = "Group of the poller's schedule."
  type        = string
}

variable "poller_log_group_name" {
  description = "The poller's log."
  type        = string
}

variable "processor_log_group_name" {
  description = "The processors' log."
  type        = string
}

variable "tick_seconds" {
  description = "Seconds between two ticks, whole minutes: how often the poller's metrics come."
  type        = number
}

variable "container_insights" {
  description = "Whether Container Insights measures the cluster, so that there can be alarms on CPU and memory."
  type        = bool
}

variable "enable_composite_alarms" {
  description = "Whether there is one alarm over those that mean that entries are not being delivered."
  type        = bool
}

variable "enable_saved_queries" {
  description = "Whether queries are saved in Logs Insights."
  type        = bool
}

variable "oldest_ready_seconds" {
  description = "An entry that has been ready for longer is an alarm."
  type        = number
}

variable "failure_ratio" {
  description = "A larger share of failed among settled entries is an alarm."
  type        = number
}

variable "certificate_days_left" {
  description = "A certificate that expires within fewer days is an alarm."
  type        = number
}
