# Place

variable "aws_region" {
  description = "AWS region of all resources. The region of the Snowflake account saves time and transfer costs."
  type        = string

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.aws_region))
    error_message = "aws_region: expected a region like us-east-1."
  }
}

variable "environment" {
  description = "Name of this deployment. The name of every resource begins with it."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,23}$", var.environment))
    error_message = "environment: expected a short name like dev, staging or prod: at most 24 characters of a-z, 0-9 and -, starting with a letter."
  }
}

variable "tags" {
  description = "Additional tags for all resources."
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
  description = "Warehouse that runs the statements. XSMALL with AUTO_SUSPEND = 60 is enough."
  type        = string
  default     = "QUEUE_WH"

  validation {
    condition     = can(regex("^[A-Za-z_][A-Za-z0-9_$]{0,254}$", var.snowflake_warehouse))
    error_message = "snowflake_warehouse: expected an unquoted Snowflake identifier: letters, digits, _ and $, not starting with a digit."
  }
}

variable "snowflake_database" {
  description = "Database of the queue."
  type        = string
  default     = "QUEUE_DB"

  validation {
    condition     = can(regex("^[A-Za-z_][A-Za-z0-9_$]{0,254}$", var.snowflake_database))
    error_message = "snowflake_database: expected an unquoted Snowflake identifier: letters, digits, _ and $, not starting with a digit."
  }
}

variable "snowflake_schema" {
  description = "Schema of the queue. A schema contains one queue."
  type        = string
  default     = "PUBLIC"

  validation {
    condition     = can(regex("^[A-Za-z_][A-Za-z0-9_$]{0,254}$", var.snowflake_schema))
    error_message = "snowflake_schema: expected an unquoted Snowflake identifier: letters, digits, _ and $, not starting with a digit."
  }
}

variable "snowflake_table" {
  description = "The queue table."
  type        = string
  default     = "PROCESSING_QUEUE"

  validation {
    condition     = can(regex("^[A-Za-z_][A-Za-z0-9_$]{0,254}$", var.snowflake_table))
    error_message = "snowflake_table: expected an unquoted Snowflake identifier: letters, digits, _ and $, not starting with a digit."
  }
}

variable "snowflake_role_poller" {
  description = "Role of the poller's session. null: <database>_POLLER, which snowflake/00_roles.sql creates; with workload_identity the user's default role."
  type        = string
  default     = null

  validation {
    condition     = var.snowflake_role_poller == null ? true : can(regex("^[A-Za-z_][A-Za-z0-9_$]{0,254}$", var.snowflake_role_poller))
    error_message = "snowflake_role_poller: expected an unquoted Snowflake identifier, or null."
  }
}

variable "snowflake_role_processor" {
  description = "Role of the processors' sessions. null: <database>_PROCESSOR, which snowflake/00_roles.sql creates; with workload_identity the user's default role."
  type        = string
  default     = null

  validation {
    condition     = var.snowflake_role_processor == null ? true : can(regex("^[A-Za-z_][A-Za-z0-9_$]{0,254}$", var.snowflake_role_processor))
    error_message = "snowflake_role_processor: expected an unquoted Snowflake identifier, or null."
  }
}

variable "snowflake_authentication" {
  description = "How poller and processors log in to Snowflake. key_pair and password: with the content of a secret. workload_identity: with their IAM roles, without a secret. Snowflake refuses a password of a service user, so password is only for older accounts and the embedded stack."
  type        = string
  default     = "key_pair"

  validation {
    condition     = contains(["key_pair", "workload_identity", "password"], var.snowflake_authentication)
    error_message = "snowflake_authentication: expected key_pair, workload_identity or password."
  }
}

variable "snowflake_user" {
  description = "User name, stored in the secret as username. Not needed with workload_identity, because Snowflake finds the user by the IAM role."
  type        = string
  default     = null

  validation {
    condition     = var.snowflake_authentication == "workload_identity" || try(length(var.snowflake_user) > 0, false)
    error_message = "snowflake_user: key_pair and password need a user name. snowflake/00_roles.sql creates the user <database>_SERVICE."
  }
}

variable "snowflake_private_key" {
  description = "Private key of that user, PKCS#8 in PEM. Needed with key_pair. Terraform writes it to the secret and does not store it: pass it as TF_VAR_snowflake_private_key."
  type        = string
  default     = null
  sensitive   = true
  ephemeral   = true
}

variable "snowflake_private_key_passphrase" {
  description = "Passphrase of the private key, if it has one. Set snowflake_private_key_encrypted too. Pass it as TF_VAR_snowflake_private_key_passphrase."
  type        = string
  default     = null
  sensitive   = true
  ephemeral   = true
}

variable "snowflake_private_key_encrypted" {
  description = "Whether the private key has a passphrase, which the tasks then get. A variable of its own, because Terraform cannot decide by a value that it does not store."
  type        = bool
  default     = false
}

variable "snowflake_password" {
  description = "Password of that user. Needed with password. Pass it as TF_VAR_snowflake_password."
  type        = string
  default     = null
  sensitive   = true
  ephemeral   = true
}

variable "snowflake_secret_version" {
  description = "Increase it to write a new key or password to the secret. Terraform does not store them, so it cannot see a change."
  type        = number
  default     = 1

  validation {
    condition     = var.snowflake_secret_version >= 1 && floor(var.snowflake_secret_version) == var.snowflake_secret_version
    error_message = "snowflake_secret_version: expected a whole number from 1."
  }
}

variable "secret_recovery_days" {
  description = "Number of days in which a deleted secret can be restored. Its name cannot be used again until then. 0 deletes at once."
  type        = number
  default     = 7

  validation {
    condition     = var.secret_recovery_days == 0 || (var.secret_recovery_days >= 7 && var.secret_recovery_days <= 30)
    error_message = "secret_recovery_days: expected 0, or 7 to 30."
  }
}

# The client certificate's key

variable "client_key_encrypted" {
  description = "Whether client-key.pem has a passphrase. The tasks then get it from a secret of its own. A variable of its own, because Terraform cannot decide by a value that it does not store."
  type        = bool
  default     = false
}

variable "client_key_passphrase" {
  description = "Passphrase of client-key.pem, if it has one. Set client_key_encrypted too. Terraform writes it to the secret and does not store it: pass it as TF_VAR_client_key_passphrase."
  type        = string
  default     = null
  sensitive   = true
  ephemeral   = true
}

variable "client_key_secret_version" {
  description = "Increase it to write a new passphrase to the secret. Terraform does not store it, so it cannot see a change."
  type        = number
  default     = 1

  validation {
    condition     = var.client_key_secret_version >= 1 && floor(var.client_key_secret_version) == var.client_key_secret_version
    error_message = "client_key_secret_version: expected a whole number from 1."
  }
}

# What is deployed

variable "image_uri" {
  description = "The processor's image, by digest or by a tag that never moves. A revision of the task definition must always start the same image. If there is a digest, a tag is only information for people."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][A-Za-z0-9._:-]*(/[a-z0-9._-]+)+((:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?@sha256:[0-9a-f]{64}|:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})$", var.image_uri)) && !endswith(var.image_uri, ":latest")
    error_message = "image_uri: expected REGISTRY/REPOSITORY@sha256:<digest> or REGISTRY/REPOSITORY:<tag>, not the tag latest without a digest."
  }
}

variable "lambda_zip" {
  description = "Path of the poller's zip. scripts/build_lambda.sh builds it; the architecture must be the same."
  type        = string
}

variable "architecture" {
  description = "CPU architecture of image and zip: ARM64, which costs a fifth less, or X86_64."
  type        = string
  default     = "ARM64"

  validation {
    condition     = contains(["ARM64", "X86_64"], var.architecture)
    error_message = "architecture: expected ARM64 or X86_64."
  }
}

variable "external_service_url" {
  description = "URL of the service that entries are delivered to."
  type        = string

  validation {
    condition     = can(regex("^https://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[^\\s@]*)?(\\?[^\\s@]*)?$", var.external_service_url))
    error_message = "external_service_url: expected a URL like https://api.example.com/process, without a user name."
  }

  validation {
    condition     = alltrue([for port in regexall("^https://[^/:?]+:([0-9]+)", var.external_service_url) : tonumber(port[0]) >= 1 && tonumber(port[0]) <= 65535])
    error_message = "external_service_url: expected a port from 1 to 65535."
  }
}

variable "certificate_bucket" {
  description = "Name of the bucket for the client certificate. null: <environment>-snowflake-processor-certs. Bucket names are global, so that name may be in use already."
  type        = string
  default     = null

  validation {
    condition     = var.certificate_bucket == null ? true : can(regex("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", var.certificate_bucket))
    error_message = "certificate_bucket: expected 3 to 63 characters of a-z, 0-9 and -, or null."
  }
}

variable "lease_bucket" {
  description = "Name of the bucket for the poller's lease. null: <environment>-snowflake-poller-lease. Bucket names are global, so that name may be in use already."
  type        = string
  default     = null

  validation {
    condition     = var.lease_bucket == null ? true : can(regex("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", var.lease_bucket))
    error_message = "lease_bucket: expected 3 to 63 characters of a-z, 0-9 and -, or null."
  }
}

# Amounts and times

variable "entries_per_container" {
  description = "Number of ready entries for which one task is started."
  type        = number
  default     = 8

  validation {
    condition     = var.entries_per_container >= 1 && var.entries_per_container <= 10000 && floor(var.entries_per_container) == var.entries_per_container
    error_message = "entries_per_container: expected a whole number from 1 to 10000."
  }
}

variable "max_containers" {
  description = "Largest number of live tasks. 0 pauses the launches. A new AWS account may use 6 vCPUs, which are 24 tasks of 256 CPU units: see docs/limits-and-tuning.md."
  type        = number
  default     = 25

  validation {
    condition     = var.max_containers >= 0 && var.max_containers <= 5000 && floor(var.max_containers) == var.max_containers
    error_message = "max_containers: expected a whole number from 0 to 5000."
  }
}

variable "stale_threshold_minutes" {
  description = "Age in minutes from which a claim is stale and is taken away."
  type        = number
  default     = 30

  # The same sum as longest_life_s() in src/rowqueue/settings.py, which explains its terms. A test compares them.
  validation {
    condition     = var.stale_threshold_minutes <= 1440 && var.stale_threshold_minutes * 60 > var.container_timeout_seconds + var.service_timeout_seconds + 270
    error_message = "stale_threshold_minutes: expected at most 1440, and more than container_timeout_seconds + service_timeout_seconds + 270 s, the longest life of a task. Otherwise a working task would lose its claims."
  }
}

variable "container_timeout_seconds" {
  description = "Time budget of a task in seconds. After it a task claims nothing more."
  type        = number
  default     = 60

  validation {
    condition     = var.container_timeout_seconds >= 1 && var.container_timeout_seconds <= 86400
    error_message = "container_timeout_seconds: expected 1 to 86400."
  }
}

variable "service_timeout_seconds" {
  description = "Time limit of one delivery in seconds."
  type        = number
  default     = 30

  validation {
    condition     = var.service_timeout_seconds >= 0.1 && var.service_timeout_seconds <= 900
    error_message = "service_timeout_seconds: expected 0.1 to 900."
  }
}

variable "max_retries" {
  description = "Largest number of counted attempts, unless an entry has its own limit."
  type        = number
  default     = 3

  validation {
    condition     = var.max_retries >= 1 && var.max_retries <= 1000 && floor(var.max_retries) == var.max_retries
    error_message = "max_retries: expected a whole number from 1 to 1000."
  }
}

variable "boot_deadline_seconds" {
  description = "Seconds after which a task that has not claimed yet counts as hung and is stopped."
  type        = number
  default     = 180

  validation {
    condition     = var.boot_deadline_seconds >= 1 && var.boot_deadline_seconds <= 3600
    error_message = "boot_deadline_seconds: expected 1 to 3600."
  }
}

variable "max_crashes" {
  description = "Number of crashes that are tolerated. One more crash of a worker with only this entry in hand fails the entry as poison."
  type        = number
  default     = 2

  validation {
    condition     = var.max_crashes >= 1 && var.max_crashes <= 100 && floor(var.max_crashes) == var.max_crashes
    error_message = "max_crashes: expected a whole number from 1 to 100."
  }
}

variable "spot_share" {
  description = "Percentage of the tasks that run on Fargate Spot. An interrupted task releases its entries within two minutes, and no retry is counted. Below 100, tasks that Spot has no capacity for run on demand."
  type        = number
  default     = 0

  validation {
    condition     = var.spot_share >= 0 && var.spot_share <= 100 && floor(var.spot_share) == var.spot_share
    error_message = "spot_share: expected a whole number from 0 to 100."
  }
}

variable "task_cpu" {
  description = "CPU units of a task. 1024 units are one vCPU."
  type        = number
  default     = 256

  validation {
    condition     = contains([256, 512, 1024, 2048, 4096], var.task_cpu)
    error_message = "task_cpu: expected 256, 512, 1024, 2048 or 4096."
  }
}

variable "task_memory" {
  description = "Memory of a task in MiB."
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
    error_message = "task_memory: Fargate accepts 512, 1024 or 2048 MiB with 256 CPU units, 1 to 4 GiB with 512, 2 to 8 with 1024, 4 to 16 with 2048, 8 to 30 with 4096."
  }
}

variable "poller_environment" {
  description = "Additional settings of the poller; docs/settings.md lists them. No secrets."
  type        = map(string)
  default     = {}

  validation {
    condition     = length(setintersection(keys(var.poller_environment), keys(local.variables_of_secrets))) == 0
    error_message = "poller_environment: everybody who may see the function could read a secret there. Instead of ${join(", ", [for name, variable in local.variables_of_secrets : "${name} set ${variable}" if contains(keys(var.poller_environment), name)])}."
  }
}

variable "processor_environment" {
  description = "Additional settings of the processors; docs/settings.md lists them. No secrets."
  type        = map(string)
  default     = {}

  validation {
    condition     = length(setintersection(keys(var.processor_environment), keys(local.variables_of_secrets))) == 0
    error_message = "processor_environment: everybody who may see the task definition could read a secret there. Instead of ${join(", ", [for name, variable in local.variables_of_secrets : "${name} set ${variable}" if contains(keys(var.processor_environment), name)])}."
  }
}

# Triggers

variable "schedule_expression" {
  description = "How often the poller runs: rate(1 minute) up to rate(60 minutes). With the push topic, 5 to 15 minutes are enough."
  type        = string
  default     = "rate(1 minute)"

  validation {
    condition     = can(regex("^rate\\((1 minute|([2-9]|[1-5][0-9]|60) minutes)\\)$", var.schedule_expression))
    error_message = "schedule_expression: expected rate(1 minute), or rate(2 minutes) up to rate(60 minutes)."
  }
}

variable "reserved_concurrent_executions" {
  description = "1 prevents two ticks from running at once. null reserves nothing, which is safe: two ticks at once do no harm. AWS refuses a reservation that leaves less than 100 of the account's concurrency, and a new account has 10."
  type        = number
  default     = null

  validation {
    condition     = var.reserved_concurrent_executions == null ? true : var.reserved_concurrent_executions >= 0
    error_message = "reserved_concurrent_executions: expected a whole number from 0, which stops the poller, or null."
  }
}

variable "push_topic" {
  description = "Whether to create an SNS topic, to which Snowflake publishes when rows are inserted: see snowflake/optional_push.sql."
  type        = bool
  default     = false
}

variable "snowflake_push_user_arn" {
  description = "SF_AWS_IAM_USER_ARN of the notification integration. It is then allowed to publish. null until the integration exists."
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
    error_message = "snowflake_push_external_id: DESCRIBE INTEGRATION shows both SF_AWS_IAM_USER_ARN and SF_AWS_EXTERNAL_ID. Set both or neither."
  }
}

variable "function_url" {
  description = "Whether the poller has a URL. A POST /trigger with an IAM signature starts a tick."
  type        = bool
  default     = false
}

# Network

variable "vpc_id" {
  description = "An existing VPC with a route to the Internet. null creates a VPC."
  type        = string
  default     = null

  validation {
    condition     = var.vpc_id == null ? true : can(regex("^vpc-[0-9a-f]{8,17}$", var.vpc_id))
    error_message = "vpc_id: expected an id like vpc-0123456789abcdef0, or null."
  }
}

variable "private_subnet_ids" {
  description = "Subnets of that VPC for the tasks. Name several in different zones, because each zone has its own Fargate capacity. Each task uses one address."
  type        = list(string)
  default     = []

  validation {
    condition     = var.vpc_id == null ? length(var.private_subnet_ids) == 0 : length(var.private_subnet_ids) > 0
    error_message = "private_subnet_ids: expected at least one subnet with vpc_id, and none without it."
  }
}

variable "vpc_cidr" {
  description = "Address range of the new VPC, /16 to /24. Each subnet gets a sixteenth of it."
  type        = string
  default     = "10.40.0.0/16"

  validation {
    condition     = can(cidrhost(var.vpc_cidr, 0)) && can(regex("/(1[6-9]|2[0-4])$", var.vpc_cidr))
    error_message = "vpc_cidr: expected an IPv4 range like 10.40.0.0/16, between /16 and /24."
  }
}

variable "availability_zone_count" {
  description = "Number of zones in which the new VPC has subnets."
  type        = number
  default     = 2

  validation {
    condition     = contains([1, 2, 3, 4], var.availability_zone_count)
    error_message = "availability_zone_count: expected 1 to 4."
  }
}

variable "nat_per_az" {
  description = "Whether each zone has a NAT gateway of its own. Each costs about 36 USD a month. With a single one, the tasks stop when its zone fails, and the entries wait."
  type        = bool
  default     = false
}

variable "poller_in_vpc" {
  description = "Whether the poller connects through the NAT gateway too. A Snowflake network policy that admits only fixed addresses needs it. Outside the VPC the poller costs less and starts sooner."
  type        = bool
  default     = false
}

# Monitoring

variable "alert_email" {
  description = "Address that gets the alarms by e-mail. AWS asks it to confirm. null: no subscription; the topic exists anyway."
  type        = string
  default     = null

  validation {
    condition     = var.alert_email == null ? true : can(regex("^[^@\\s]+@[^@\\s]+\\.[^@\\s]+$", var.alert_email))
    error_message = "alert_email: expected an address like oncall@example.com, or null."
  }
}

variable "log_retention_days" {
  description = "Number of days for which logs are kept."
  type        = number
  default     = 30

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "log_retention_days: expected one of CloudWatch's values: 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288 or 3653."
  }
}

variable "container_insights" {
  description = "Container Insights of the cluster: disabled, enabled or enhanced. Nothing else measures CPU and memory of Fargate tasks, so without it the alarms on them do not exist."
  type        = string
  default     = "enabled"

  validation {
    condition     = contains(["disabled", "enabled", "enhanced"], var.container_insights)
    error_message = "container_insights: expected disabled, enabled or enhanced."
  }
}

variable "enable_composite_alarms" {
  description = "Whether to create one alarm that combines the alarms which mean that entries are not being delivered."
  type        = bool
  default     = true
}

variable "enable_saved_queries" {
  description = "Whether to save the queries of monitoring/saved_queries.tf in Logs Insights."
  type        = bool
  default     = true
}

variable "alarm_oldest_ready_seconds" {
  description = "Age in seconds from which a ready entry raises an alarm."
  type        = number
  default     = 900

  validation {
    condition     = var.alarm_oldest_ready_seconds > local.tick_seconds
    error_message = "alarm_oldest_ready_seconds: expected more seconds than between two ticks."
  }
}

variable "alarm_failure_ratio" {
  description = "Share of failed among settled entries above which there is an alarm, if at least 20 were settled in five minutes."
  type        = number
  default     = 0.1

  validation {
    condition     = var.alarm_failure_ratio > 0 && var.alarm_failure_ratio < 1
    error_message = "alarm_failure_ratio: expected a number between 0 and 1."
  }
}

variable "alarm_certificate_days" {
  description = "Number of days before the client certificate expires at which there is an alarm."
  type        = number
  default     = 30

  validation {
    condition     = var.alarm_certificate_days >= 1
    error_message = "alarm_certificate_days: expected 1 or more."
  }
}
