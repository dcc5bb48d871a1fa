"""The variables of the function and the task, and the effect of a missing one. test_apply_and_run.py tries each."""

NEEDED_BY_THE_FUNCTION = (
    "ECS_CLUSTER",
    "ECS_SECURITY_GROUP",
    "ECS_SUBNETS",
    "ECS_TASK_DEFINITION",
    "ENVIRONMENT",
    "LEASE_BUCKET",
    "SNOWFLAKE_ACCOUNT",
    "SNOWFLAKE_DATABASE",
    "SNOWFLAKE_SCHEMA",
    "SNOWFLAKE_WAREHOUSE",
)
NEEDED_BY_THE_TASK = (
    "CERT_BUCKET",
    "ENVIRONMENT",
    "EXTERNAL_SERVICE_URL",
    "SNOWFLAKE_ACCOUNT",
    "SNOWFLAKE_DATABASE",
    "SNOWFLAKE_PRIVATE_KEY",
    "SNOWFLAKE_PRIVATE_KEY_PASSPHRASE",
    "SNOWFLAKE_SCHEMA",
    "SNOWFLAKE_USER",
    "SNOWFLAKE_WAREHOUSE",
)
# Without it the key of the client certificate cannot be read: exit code 3, and a hold.
NEEDED_FOR_THE_CERTIFICATES = "CLIENT_KEY_PASSPHRASE"
# The attribute of the setting, and its default.
OPTIONAL = {
    "CONTAINER_TIMEOUT_SECONDS": ("budget_s", 60.0),
    "MAX_RETRIES": ("max_retries", 3),
    "SERVICE_TIMEOUT_SECONDS": ("service_timeout_s", 30.0),
    "SNOWFLAKE_ROLE": ("snowflake.role", None),  # the user's default role
    "SNOWFLAKE_TABLE": ("snowflake.table", "PROCESSING_QUEUE"),
    "STALE_THRESHOLD_MINUTES": ("stale_threshold_minutes", 30.0),
}
OPTIONAL_FOR_THE_FUNCTION = OPTIONAL | {
    "BOOT_DEADLINE_SECONDS": ("boot_deadline_s", 180.0),
    "ENTRIES_PER_CONTAINER": ("entries_per_container", 8),
    "MAX_CONTAINERS": ("max_containers", 25),
    "MAX_CRASHES": ("max_crashes", 2),
    "SPOT_PERCENT": ("spot_percent", 0),
    "TASK_DEADLINE_SECONDS": ("task_deadline_s", None),  # the sum of the limits
    "TICK_SECONDS": ("tick_s", 60.0),
}
OPTIONAL_FOR_THE_TASK = OPTIONAL | {
    "MAX_CONCURRENT_DELIVERIES": ("concurrency", 32),
    "RETRY_BACKOFF_SECONDS": ("backoff_s", 10.0),
    "TASK_MEMORY_MIB": ("task_memory_mib", 512),
}
# Deployed with the value that is also the default.
EQUAL_TO_THE_DEFAULT = ("SNOWFLAKE_AUTHENTICATION",)
# Not a setting of ours. boto3 finds the region of a bucket without it. The driver needs it for workload identity, which
# it refuses with a host that is not Snowflake's, so it is not tried here. See tests/integration/test_login.py.
OF_THE_LIBRARIES = {"AWS_DEFAULT_REGION"}
