# Queries on the logs. src/rowqueue/observability.py has the names of the events.

locals {
  queries = {
    "why the poller launched what it launched" = {
      groups = [var.poller_log_group_name]
      query  = <<-EOT
        fields @timestamp, EntriesReady, TasksLive, TasksStarting, need, planned, TasksLaunched, reason, hold, seconds
        | filter event = "tick"
        | sort @timestamp desc
        | limit 100
      EOT
    }
    "ticks that failed" = {
      groups = [var.poller_log_group_name]
      query  = <<-EOT
        filter event = "tick_failed"
        | stats count(*) as ticks, latest(@timestamp) as last by kind, error
        | sort ticks desc
      EOT
    }
    "how tasks died" = {
      groups = [var.poller_log_group_name]
      query  = <<-EOT
        filter event = "task_stopped" and confirmed
        | stats count(*) as tasks, sum(entries_in_hand) as entries, latest(task) as one_of_them by stop_code, exit_code, reason
        | sort tasks desc
      EOT
    }
    "how tasks ended" = {
      groups = [var.processor_log_group_name]
      query  = <<-EOT
        filter event in ["processor_ended", "processor_failed", "credentials_stop"]
        | fields @timestamp, processor_id, event, coalesce(reason, error) as why, seconds
        | sort @timestamp desc
        | limit 200
      EOT
    }
    "what went wrong in the processors" = {
      groups = [var.processor_log_group_name]
      query  = <<-EOT
        filter level in ["warning", "error"]
        | stats count(*) as lines, latest(@timestamp) as last by event, error
        | sort lines desc
      EOT
    }
  }
}

resource "aws_cloudwatch_query_definition" "saved" {
  for_each = var.enable_saved_queries ? local.queries : {}

  name            = "${var.environment}-snowflake/${each.key}"
  log_group_names = each.value.groups
  query_string    = each.value.query
}
