# terraform/main.tf passes these. The validations are in terraform/variables.tf.

variable "environment" {
  description = "Name of the deployment. It is the dimension of our metrics, and every name begins with it."
  type        = string
}

variable "aws_region" {
  description = "Region of the metrics."
  type        = string
}

variable "alarm_arns_of" {
  description = "Prefix of the ARNs of this account's alarms, up to and including alarm."
  type        = string
}

variable "alert_email" {
  description = "Address that gets the alarms by e-mail, or null."
  type        = string
}

variable "function_name" {
  description = "Name of the poller's function."
  type        = string
}

variable "function_timeout_seconds" {
  description = "Time-out of the poller in seconds."
  type        = number
}

variable "cluster_name" {
  description = "ECS cluster of the processors."
  type        = string
}

variable "task_family" {
  description = "Family of the processors' task definition."
  type        = string
}

variable "dead_letter_queue_name" {
  description = "Dead-letter queue of the poller."
  type        = string
}

variable "schedule_group_name" {
  description = "Group of the poller's schedule."
  type        = string
}

variable "poller_log_group_name" {
  description = "Log group of the poller."
  type        = string
}

variable "processor_log_group_name" {
  description = "Log group of the processors."
  type        = string
}

variable "tick_seconds" {
  description = "Seconds between two ticks, whole minutes. The poller sends its metrics once per tick."
  type        = number
}

variable "container_insights" {
  description = "Whether Container Insights measures the cluster. The alarms on CPU and memory need it."
  type        = bool
}

variable "enable_composite_alarms" {
  description = "Whether to create one alarm that combines the alarms which mean that entries are not being delivered."
  type        = bool
}

variable "enable_saved_queries" {
  description = "Whether to save the queries in Logs Insights."
  type        = bool
}

variable "oldest_ready_seconds" {
  description = "Age in seconds from which a ready entry raises an alarm."
  type        = number
}

variable "failure_ratio" {
  description = "Share of failed among settled entries above which there is an alarm."
  type        = number
}

variable "certificate_days_left" {
  description = "Number of days before a certificate expires at which there is an alarm."
  type        = number
}
