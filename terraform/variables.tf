# Where

variable "aws_region" {
  description = "Region that everything is made in. Snowflake in the same region saves time and transfer."
  type        = string

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.aws_region))
    error_message = "aws_region: expected a region like us-east-1."
  }
}

variable "environment" {
  description = "Name of this deployment; the first part of the name of every resource."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,23}$", var.environment))
    error_message = "environment: expected a short name like dev, staging or prod: at most 24 of a-z, 0-9 and -, a letter first."
  }
}

variable "tags" {
  description = "Further tags for everything."
  type        = map(string)
  default     = {}
}

# Snowflake

variable "snowflake_account" {
  description = "Account identifier, like myorg-myaccount."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9_.-]*$", var.snowflake_account)) && !strcontains(lower(var.snowflake_account), "snowflakecomputing")
    error_message = "snowflake_account: expected an identifier like myorg-myaccount, without https:// and .snowflakecomputing.com."
  }
}

variable "snowflake_warehouse" {
  description = "Warehouse that runs the statements; XSMALL with AUTO_SUSPEND = 60 does."
  type        = string
  default     = "QUEUE_WH"

  validation {
    condition     = can(regex("^[A-Za-z_][A-Za-z0-9_$]{0,254}$", var.snowflake_warehouse))
    error_message = "snowflake_warehouse: expected an unquoted Snowflake identifier: letters, digits, _ and $, not a digit first."
  }
}

variable "snowflake_database" {
  description = "Database of the queue."
  type        = string
  default     = "QUEUE_DB"

  validation {
    condition     = can(regex("^[A-Za-z_][A-Za-z0-9_$]{0,254}$", var.snowflake_database))
    error_message = "snowflake_database: expected an unquoted Snowflake identifier: letters, digits, _ and $, not a digit first."
  }
}

variable "snowflake_schema" {
  description = "Schema of the queue; one queue a schema."
  type        = string
  default     = "PUBLIC"

  validation {
    condition     = can(regex("^[A-Za-z_][A-Za-z0-9_$]{0,254}$", var.snowflake_schema))
    error_message = "snowflake_schema: expected an unquoted Snowflake identifier: letters, digits, _ and $, not a digit first."
  }
}

variable "snowflake_table" {
  description = "The queue table."
  type        = string
  default     = "PROCESSING_QUEUE"

  validation {
    condition     = can(regex("^[A-Za-z_][A-Za-z0-9_$]{0,254}$", var.snowflake_table))
    error_message = "snowflake_table: expected an unquoted Snowflake identifier: letters, digits, _ and $, not a digit first."
  }
}

variable "snowflake_role_poller" {
  description = "Role of the poller's session; null takes <database>_POLLER, which snowflake/00_roles.sql makes, and with workload_identity the default role of the user."
  type        = string
  default     = null

  validation {
    condition     = var.snowflake_role_poller == null ? true : can(regex("^[A-Za-z_][A-Za-z0-9_$]{0,254}$", var.snowflake_role_poller))
    error_message = "snowflake_role_poller: expected an unquoted Snowflake identifier, or null."
  }
}

variable "snowflake_role_processor" {
  description = "Role of the processors' sessions; null takes <database>_PROCESSOR, which snowflake/00_roles.sql makes, and with workload_identity the default role of the user."
  type        = string
  default     = null

  validation {
    condition     = var.snowflake_role_processor == null ? true : can(regex("^[A-Za-z_][A-Za-z0-9_$]{0,254}$", var.snowflake_role_processor))
    error_message = "snowflake_role_processor: expected an unquoted Snowflake identifier, or null."
  }
}

variable "snowflake_authentication" {
  description = "How poller and processors log in: key_pair and password through the secret, workload_identity by their IAM roles, without any secret. Snowflake refuses a service user that has only a password, so password is for older accounts and the embedded stack."
  type        = string
  default     = "key_pair"

  validation {
    condition     = contains(["key_pair", "workload_identity", "password"], var.snowflake_authentication)
    error_message = "snowflake_authentication: expected key_pair, workload_identity or password."
  }
}

variable "snowflake_user" {
  description = "User name, kept in the secret as username. Not needed with workload_identity: Snowflake finds the user by the IAM role."
  type        = string
  default     = null

  validation {
    condition     = var.snowflake_authentication == "workload_identity" || try(length(var.snowflake_user) > 0, false)
    error_message = "snowflake_user: key_pair and password need a user name; snowflake/00_roles.sql makes <database>_SERVICE."
  }
}

variable "snowflake_private_key" {
  description = "Private key of that user, PKCS#8 in PEM; with key_pair. Written to the secret and kept nowhere else: pass it as TF_VAR_snowflake_private_key."
  type        = string
  default     = null
  sensitive   = true
  ephemeral   = true
}

variable "snowflake_private_key_passphrase" {
  description = "Passphrase of the private key, if it has one; with snowflake_private_key_encrypted. Pass it as TF_VAR_snowflake_private_key_passphrase."
  type        = string
  default     = null
  sensitive   = true
  ephemeral   = true
}

variable "snowflake_private_key_encrypted" {
  description = "Whether the private key has a passphrase, so that the tasks are given it. To be said here, for no decision may hang on a value that is kept nowhere."
  type        = bool
  default     = false
}

variable "snowflake_password" {
  description = "Password of that user; with password. Pass it as TF_VAR_snowflake_password."
  type        = string
  default     = null
  sensitive   = true
  ephemeral   = true
}

variable "snowflake_secret_version" {
  description = "Raise it to have a new key or password written to the secret: Terraform keeps none, so it can not see that one has changed."
  type        = number
  default     = 1

  validation {
    condition     = var.snowflake_secret_version >= 1 && floor(var.snowflake_secret_version) == var.snowflake_secret_version
    error_message = "snowflake_secret_version: expected a whole number from 1."
  }
}

variable "secret_recovery_days" {
  description = "Days for which a deleted secret can be restored, and its name can not be used again. 0 deletes at once."
  type        = number
  default     = 7

  validation {
    condition     = var.secret_recovery_days == 0 || (var.secret_recovery_days >= 7 && var.secret_recovery_days <= 30)
    error_message = "secret_recovery_days: expected 0, or 7 to 30."
  }
}

# The client certificate's key

variable "client_key_encrypted" {
  description = "Whether client-key.pem has a passphrase, so that the tasks are given it, from a secret that is made for it. To be said here, for no decision may hang on a value that is kept nowhere."
  type        = bool
  default     = false
}

variable "client_key_passphrase" {
  description = "Passphrase of client-key.pem, if it has one; with client_key_encrypted. Written to the secret and kept nowhere else: pass it as TF_VAR_client_key_passphrase."
  type        = string
  default     = null
  sensitive   = true
  ephemeral   = true
}

variable "client_key_secret_version" {
  description = "Raise it to have a new passphrase written to the secret: Terraform keeps none, so it can not see that it has changed."
  type        = number
  default     = 1

  validation {
    condition     = var.client_key_secret_version >= 1 && floor(var.client_key_secret_version) == var.client_key_secret_version
    error_message = "client_key_secret_version: expected a whole number from 1."
  }
}

# What is deployed

variable "image_uri" {
  description = "The processor's image, by digest or by a tag that never moves: what a running revision starts must not change under it. Beside a digest a tag is only for people."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][A-Za-z0-9._:-]*(/[a-z0-9._-]+)+((:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?@sha256:[0-9a-f]{64}|:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})$", var.image_uri)) && !endswith(var.image_uri, ":latest")
    error_message = "image_uri: expected REGISTRY/REPOSITORY@sha256:<digest> or REGISTRY/REPOSITORY:<tag>, and never the tag latest without a digest."
  }
}

variable "lambda_zip" {
  description = "Path of the poller's zip, as scripts/build_lambda.sh has made it for the same architecture."
  type        = string
}

variable "architecture" {
  description = "Processor architecture of image and zip: ARM64, which is a fifth cheaper, or X86_64."
  type        = string
  default     = "ARM64"

  validation {
    condition     = contains(["ARM64", "X86_64"], var.architecture)
    error_message = "architecture: expected ARM64 or X86_64."
  }
}

variable "external_service_url" {
  description = "Where entries are delivered."
  type        = string

  validation {
    condition     = can(regex("^https://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[^\\s@]*)?(\\?[^\\s@]*)?$", var.external_service_url))
    error_message = "external_service_url: expected a URL like https://api.example.com/process, without a user in it."
  }

  validation {
    condition     = alltrue([for port in regexall("^https://[^/:?]+:([0-9]+)", var.external_service_url) : tonumber(port[0]) >= 1 && tonumber(port[0]) <= 65535])
    error_message = "external_service_url: expected a port from 1 to 65535."
  }
}

variable "certificate_bucket" {
  description = "Name of the bucket for the client certificate; null takes <environment>-snowflake-processor-certs. Bucket names are global, so that one may be taken."
  type        = string
  default     = null

  validation {
    condition     = var.certificate_bucket == null ? true : can(regex("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", var.certificate_bucket))
    error_message = "certificate_bucket: expected 3 to 63 of a-z, 0-9 and -, or null."
  }
}

# How much

variable "entries_per_container" {
  description = "Ready entries for which one task is started."
  type        = number
  default     = 8

  validation {
    condition     = var.entries_per_container >= 1 && var.entries_per_container <= 10000 && floor(var.entries_per_container) == var.entries_per_container
    error_message = "entries_per_container: expected a whole number from 1 to 10000."
  }
}

variable "max_containers" {
  description = "Most tasks alive at once; 0 pauses. 6 vCPU, what AWS gives a new account, are 24 tasks of 256 CPU units: see docs/limits-and-tuning.md."
  type        = number
  default     = 25

  validation {
    condition     = var.max_containers >= 0 && var.max_containers <= 5000 && floor(var.max_containers) == var.max_containers
    error_message = "max_containers: expected a whole number from 0 to 5000."
  }
}

variable "stale_threshold_minutes" {
  description = "After this long a claim is taken away."
  type        = number
  default     = 30

  # The same sum as longest_life_s() in src/rowqueue/settings.py, where its terms are explained; a test compares them.
  validation {
    condition     = var.stale_threshold_minutes <= 1440 && var.stale_threshold_minutes * 60 > var.container_timeout_seconds + var.service_timeout_seconds + 270
    error_message = "stale_threshold_minutes: expected at most 1440, and more than container_timeout_seconds + service_timeout_seconds + 270 s, which is how long a task may live; a working task would lose its claims."
  }
}

variable "container_timeout_seconds" {
  description = "A task claims no more after this long."
  type        = number
  default     = 60

  validation {
    condition     = var.container_timeout_seconds >= 1 && var.container_timeout_seconds <= 86400
    error_message = "container_timeout_seconds: expected 1 to 86400."
  }
}

variable "service_timeout_seconds" {
  description = "A delivery takes no longer."
  type        = number
  default     = 30

  validation {
    condition     = var.service_timeout_seconds >= 0.1 && var.service_timeout_seconds <= 900
    error_message = "service_timeout_seconds: expected 0.1 to 900."
  }
}

variable "max_retries" {
  description = "Counted attempts, unless an entry has its own limit."
  type        = number
  default     = 3

  validation {
    condition     = var.max_retries >= 1 && var.max_retries <= 1000 && floor(var.max_retries) == var.max_retries
    error_message = "max_retries: expected a whole number from 1 to 1000."
  }
}

variable "boot_deadline_seconds" {
  description = "A task that has not claimed by then hangs, and is stopped."
  type        = number
  default     = 180

  validation {
    condition     = var.boot_deadline_seconds >= 1 && var.boot_deadline_seconds <= 3600
    error_message = "boot_deadline_seconds: expected 1 to 3600."
  }
}

variable "max_crashes" {
  description = "So often a worker may die holding nothing but one entry, before that is failed as poison."
  type        = number
  default     = 2

  validation {
    condition     = var.max_crashes >= 1 && var.max_crashes <= 100 && floor(var.max_crashes) == var.max_crashes
    error_message = "max_crashes: expected a whole number from 1 to 100."
  }
}

variable "spot_share" {
  description = "Share of the tasks that run on Fargate Spot, percent. An interrupted task gives its entries back within two minutes, no retry counted."
  type        = number
  default     = 0

  validation {
    condition     = var.spot_share >= 0 && var.spot_share <= 100 && floor(var.spot_share) == var.spot_share
    error_message = "spot_share: expected a whole number from 0 to 100."
  }
}

variable "task_cpu" {
  description = "CPU units of a task; 1024 are one vCPU."
  type        = number
  default     = 256

  validation {
    condition     = contains([256, 512, 1024, 2048, 4096], var.task_cpu)
    error_message = "task_cpu: expected 256, 512, 1024, 2048 or 4096."
  }
}

variable "task_memory" {
  description = "Memory of a task, MiB."
  type        = number
  default     = 512

  validation {
    condition = contains(lookup({
      256  = [512, 1024, 2048]
      512  = range(1024, 4097, 1024)
      1024 = range(2048, 8193, 1024)
      2048 = range(4096, 16385, 1024)
      4096 = range(8192, 30721, 1024)
    }, var.task_cpu, []), var.task_memory)
    error_message = "task_memory: Fargate has 512, 1024 or 2048 MiB for 256 CPU units, 1 to 4 GiB for 512, 2 to 8 for 1024, 4 to 16 for 2048, 8 to 30 for 4096."
  }
}

variable "poller_environment" {
  description = "Further settings of the poller; docs/settings.md lists them. No secrets."
  type        = map(string)
  default     = {}

  validation {
    condition     = length(setintersection(keys(var.poller_environment), keys(local.variables_of_secrets))) == 0
    error_message = "poller_environment: whoever may see the function would read a secret there; instead of ${join(", ", [for name, variable in local.variables_of_secrets : "${name} set ${variable}" if contains(keys(var.poller_environment), name)])}."
  }
}

variable "processor_environment" {
  description = "Further settings of the processors; docs/settings.md lists them. No secrets."
  type        = map(string)
  default     = {}

  validation {
    condition     = length(setintersection(keys(var.processor_environment), keys(local.variables_of_secrets))) == 0
    error_message = "processor_environment: whoever may see the task definition would read a secret there; instead of ${join(", ", [for name, variable in local.variables_of_secrets : "${name} set ${variable}" if contains(keys(var.processor_environment), name)])}."
  }
}

# When

variable "schedule_expression" {
  description = "How often the poller looks: rate(1 minute) up to rate(60 minutes). With the push topic, every 5 to 15 minutes do."
  type        = string
  default     = "rate(1 minute)"

  validation {
    condition     = can(regex("^rate\\((1 minute|([2-9]|[1-5][0-9]|60) minutes)\\)$", var.schedule_expression))
    error_message = "schedule_expression: expected rate(1 minute), or rate(2 minutes) up to rate(60 minutes)."
  }
}

variable "reserved_concurrent_executions" {
  description = "1 keeps two ticks from running at once. They do no harm, so null, no reservation, is fine; and AWS refuses a reservation that leaves less than 100 of the account's concurrency, of which a new account has 10."
  type        = number
  default     = null

  validation {
    condition     = var.reserved_concurrent_executions == null ? true : var.reserved_concurrent_executions >= 0
    error_message = "reserved_concurrent_executions: expected a whole number from 0 (which stops the poller), or null."
  }
}

variable "push_topic" {
  description = "Whether there is an SNS topic that Snowflake may publish to when rows are inserted: see snowflake/optional_push.sql."
  type        = bool
  default     = false
}

variable "snowflake_push_user_arn" {
  description = "SF_AWS_IAM_USER_ARN of the notification integration, which is then let publish; null until it exists."
  type        = string
  default     = null

  validation {
    condition     = var.snowflake_push_user_arn == null ? true : can(regex("^arn:[a-z-]+:iam::[0-9]{12}:(user|role)/.+$", var.snowflake_push_user_arn))
    error_message = "snowflake_push_user_arn: expected the ARN that DESCRIBE INTEGRATION shows as SF_AWS_IAM_USER_ARN."
  }
}

variable "snowflake_push_external_id" {
  description = "SF_AWS_EXTERNAL_ID of the notification integration."
  type        = string
  default     = null

  validation {
    condition     = (var.snowflake_push_external_id == null) == (var.snowflake_push_user_arn == null)
    error_message = "snowflake_push_external_id: DESCRIBE INTEGRATION shows both SF_AWS_IAM_USER_ARN and SF_AWS_EXTERNAL_ID; give both or neither."
  }
}

variable "function_url" {
  description = "Whether the poller has a URL, at which a POST /trigger signed with IAM credentials is a tick."
  type        = bool
  default     = false
}

# Network

variable "vpc_id" {
  description = "An existing VPC, with its way to the Internet; null makes one."
  type        = string
  default     = null

  validation {
    condition     = var.vpc_id == null ? true : can(regex("^vpc-[0-9a-f]{8,17}$", var.vpc_id))
    error_message = "vpc_id: expected an id like vpc-0123456789abcdef0, or null."
  }
}

variable "private_subnet_ids" {
  description = "Subnets of that VPC in which the tasks run; several, in different zones, since Fargate's capacity is by zone. Each task takes an address."
  type        = list(string)
  default     = []

  validation {
    condition     = var.vpc_id == null ? length(var.private_subnet_ids) == 0 : length(var.private_subnet_ids) > 0
    error_message = "private_subnet_ids: expected at least one subnet with vpc_id, and none without it."
  }
}

variable "vpc_cidr" {
  description = "Addresses of the VPC that is made, /16 to /24; each subnet gets a sixteenth."
  type        = string
  default     = "10.40.0.0/16"

  validation {
    condition     = can(cidrhost(var.vpc_cidr, 0)) && can(regex("/(1[6-9]|2[0-4])$", var.vpc_cidr))
    error_message = "vpc_cidr: expected an IPv4 range like 10.40.0.0/16, between /16 and /24."
  }
}

variable "availability_zone_count" {
  description = "Zones in which the VPC that is made has subnets."
  type        = number
  default     = 2

  validation {
    condition     = contains([1, 2, 3, 4], var.availability_zone_count)
    error_message = "availability_zone_count: expected 1 to 4."
  }
}

variable "nat_per_az" {
  description = "A NAT gateway in each zone rather than one in all. One costs about 36 USD a month and stops the tasks when its zone fails; the entries wait."
  type        = bool
  default     = false
}

variable "poller_in_vpc" {
  description = "Whether the poller goes out through the NAT gateway too, for a Snowflake network policy that admits its addresses only. Outside it costs less and starts sooner."
  type        = bool
  default     = false
}

# Watching

variable "alert_email" {
  description = "Where alarms are mailed to; AWS asks that address to confirm. null: nowhere, but the topic is there."
  type        = string
  default     = null

  validation {
    condition     = var.alert_email == null ? true : can(regex("^[^@\\s]+@[^@\\s]+\\.[^@\\s]+$", var.alert_email))
    error_message = "alert_email: expected an address like oncall@example.com, or null."
  }
}

variable "log_retention_days" {
  description = "Days for which logs are kept."
  type        = number
  default     = 30

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "log_retention_days: expected one of CloudWatch's figures: 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288 or 3653."
  }
}

variable "container_insights" {
  description = "Container Insights of the cluster: disabled, enabled or enhanced. CPU and memory of Fargate tasks are measured by nothing else, so without it these two alarms are left out."
  type        = string
  default     = "enabled"

  validation {
    condition     = contains(["disabled", "enabled", "enhanced"], var.container_insights)
    error_message = "container_insights: expected disabled, enabled or enhanced."
  }
}

variable "enable_composite_alarms" {
  description = "Whether there is one alarm over those that mean that entries are not being delivered."
  type        = bool
  default     = true
}

variable "enable_saved_queries" {
  description = "Whether the queries of monitoring/saved_queries.tf are saved in Logs Insights."
  type        = bool
  default     = true
}

variable "alarm_oldest_ready_seconds" {
  description = "An entry that has been ready for longer is an alarm."
  type        = number
  default     = 900

  validation {
    condition     = var.alarm_oldest_ready_seconds > local.tick_seconds
    error_message = "alarm_oldest_ready_seconds: expected more seconds than lie between two ticks."
  }
}

variable "alarm_failure_ratio" {
  description = "A larger share of failed among settled entries is an alarm, once there are 20 in five minutes."
  type        = number
  default     = 0.1

  validation {
    condition     = var.alarm_failure_ratio > 0 && var.alarm_failure_ratio < 1
    error_message = "alarm_failure_ratio: expected a number between 0 and 1."
  }
}

variable "alarm_certificate_days" {
  description = "A client certificate that expires within fewer days is an alarm."
  type        = number
  default     = 30

  validation {
    condition     = var.alarm_certificate_days >= 1
    error_message = "alarm_certificate_days: expected 1 or more."
  }
}
