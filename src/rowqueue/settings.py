"""The settings of the poller and of the processor. Only the entry points hand in ``os.environ``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from rowqueue import contract
from rowqueue.environment import (
    FromEnvironment,
    Secret,
    flag,
    https_url,
    matching,
    number,
    secret,
    setting,
    string_list,
    text,
    whole_number,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

STATEMENT_TIMEOUT_S = 40
"""A statement, with its wait for the lock, ends before the poller's tick does."""
LOCK_TIMEOUT_S = 30
"""A statement that can not get the table's lock gives up before its own time-out would end it."""
TICK_DEADLINE_S = 50
"""The poller's tick gives up before the next one is due."""
STEP_S = 10
"""What a step of it may take: the poller waits for the lock and the network no longer, for the next tick is the better
retry. A step that could not end in time is not begun."""
STOP_TIMEOUT_S = 120
"""Fargate's longest ``stopTimeout``: from SIGTERM to SIGKILL (AWS, ContainerDefinition)."""
LAST_FLUSH_S = STATEMENT_TIMEOUT_S + 10
"""What a stopping processor keeps of that time to write its last outcomes."""
SETTLE_PATIENCE_S = 120
"""For so long outcomes are sent again before they are given up and delivered anew."""
LARGEST_BLOCK = 10_000
"""The constant LIMIT in the claim statement."""


def longest_life_s(*, budget_s: float, service_timeout_s: float) -> float:
    """Seconds from its first claim within which a processor has ended by itself, whatever happens.

    The last claim may begin just within the budget and wait for the lock; then come its deliveries, and a settle that
    waits as long as it may.
    """
    last_claim_s = LOCK_TIMEOUT_S + STATEMENT_TIMEOUT_S
    return budget_s + last_claim_s + service_timeout_s + SETTLE_PATIENCE_S + 2 * STATEMENT_TIMEOUT_S


# Snowflake, "Identifier requirements": unquoted identifiers. Quoted ones are refused on purpose: they would put case
# and punctuation into every statement for no gain.
identifier = matching(
    r"[A-Za-z_][A-Za-z0-9_$]{0,254}", "a Snowflake identifier: letters, digits, _ and $, not a digit first"
)
environment_name = matching(r"[a-z][a-z0-9-]{0,23}", "a short name like dev, staging or prod")
account_identifier = matching(
    r"[A-Za-z0-9][A-Za-z0-9_.-]*",
    "an account identifier like myorg-myaccount, without https:// and .snowflakecomputing.com",
)

Authentication = Literal["password", "key_pair", "workload_identity"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SnowflakeSettings(FromEnvironment):
    """Where the queue is, and who we are there."""

    account: str = setting("SNOWFLAKE_ACCOUNT", account_identifier, "Snowflake account identifier.")
    warehouse: str = setting("SNOWFLAKE_WAREHOUSE", identifier, "Warehouse that runs the statements.")
    database: str = setting("SNOWFLAKE_DATABASE", identifier, "Database of the queue.")
    schema: str = setting("SNOWFLAKE_SCHEMA", identifier, "Schema of the queue; one queue a schema.")
    table: str = setting("SNOWFLAKE_TABLE", identifier, "The queue table.", default="PROCESSING_QUEUE")
    authentication: Authentication = setting(
        "SNOWFLAKE_AUTHENTICATION",
        matching("password|key_pair|workload_identity", "password, key_pair or workload_identity"),
        "How we log in.",
        default="password",
    )
    user: str | None = setting(
        "SNOWFLAKE_USER", text, "User name; without it, the one in the credentials secret.", required=False
    )
    password: Secret | None = setting(
        "SNOWFLAKE_PASSWORD", secret, "Password; without it, what the credentials secret holds.", required=False
    )
    private_key: Secret | None = setting(
        "SNOWFLAKE_PRIVATE_KEY",
        secret,
        "Private key, PEM; without it, what the credentials secret holds.",
        required=False,
    )
    private_key_passphrase: Secret | None = setting(
        "SNOWFLAKE_PRIVATE_KEY_PASSPHRASE", secret, "Passphrase of that key, if it has one.", required=False
    )
    role: str | None = setting(
        "SNOWFLAKE_ROLE", identifier, "Role; without it, the user's default role.", required=False
    )
    host: str | None = setting(
        "SNOWFLAKE_HOST", text, "Host, where it does not follow from the account.", required=False
    )
    port: int = setting("SNOWFLAKE_PORT", whole_number(1, 65535), "Port of that host.", default=443)
    protocol: str = setting(
        "SNOWFLAKE_PROTOCOL", matching("https?", "https (http serves the embedded stack)"), "Protocol.", default="https"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PollerSettings(FromEnvironment):
    """Settings of the Lambda."""

    environment: str = setting("ENVIRONMENT", environment_name, "Environment name (dev, staging, prod).")
    cluster: str = setting("ECS_CLUSTER", text, "ECS cluster, name or ARN.")
    task_definition: str = setting("ECS_TASK_DEFINITION", text, "Task definition of the processors, family or ARN.")
    subnets: tuple[str, ...] = setting("ECS_SUBNETS", string_list, "Subnets of the tasks, a JSON array.")
    security_group: str = setting("ECS_SECURITY_GROUP", text, "Security group of the tasks.")
    snowflake: SnowflakeSettings = field(metadata={"nested": SnowflakeSettings})
    entries_per_container: int = setting(
        "ENTRIES_PER_CONTAINER",
        whole_number(1, LARGEST_BLOCK),
        "Ready entries for which one task is started.",
        default=8,
    )
    adaptive: bool = setting(
        "ENTRIES_PER_CONTAINER_ADAPTIVE",
        flag,
        "Raise that target to what tasks of the last hour took, the median.",
        default=False,
    )
    max_containers: int = setting(
        "MAX_CONTAINERS", whole_number(0, 5000), "Most tasks alive at once; 0 pauses.", default=25
    )
    stale_threshold_minutes: float = setting(
        "STALE_THRESHOLD_MINUTES", number(0.01, 1440), "After this long a claim is taken away, minutes.", default=30.0
    )
    max_retries: int = setting(
        "MAX_RETRIES", whole_number(1, 1000), "Counted attempts, unless the entry has its own limit.", default=3
    )
    boot_deadline_s: float = setting(
        "BOOT_DEADLINE_SECONDS",
        number(1, 3600),
        "A task that has not claimed by then hangs, and is stopped.",
        default=180.0,
    )
    task_deadline_s: float | None = setting(
        "TASK_DEADLINE_SECONDS",
        number(1, 864_000),
        "A task that is older is stopped; without it, what boot deadline and the processors' own limits add up to.",
        required=False,
    )
    max_crashes: int = setting(
        "MAX_CRASHES",
        whole_number(1, 100),
        "Workers that may die on an entry; if one more does, holding nothing else, it is failed as poison.",
        default=2,
    )
    spot_percent: int = setting(
        "SPOT_PERCENT", whole_number(0, 100), "Share of the tasks that run on Fargate Spot, percent.", default=0
    )
    budget_s: float = setting(
        "CONTAINER_TIMEOUT_SECONDS", number(1, 86400), "A task claims no more after this long, seconds.", default=60.0
    )
    service_timeout_s: float = setting(
        "SERVICE_TIMEOUT_SECONDS", number(0.1, 900), "A delivery takes no longer, seconds.", default=30.0
    )
    tick_s: float = setting("TICK_SECONDS", number(0.1, 86400), "The period of the schedule, seconds.", default=60.0)

    @property
    def stale_threshold_s(self) -> float:
        """The stale threshold in seconds."""
        return self.stale_threshold_minutes * 60

    @property
    def oldest_task_s(self) -> float:
        """Seconds from its start within which a task has ended by itself."""
        if self.task_deadline_s is not None:
            return self.task_deadline_s
        life_s = longest_life_s(budget_s=self.budget_s, service_timeout_s=self.service_timeout_s)
        return self.boot_deadline_s + life_s


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessorSettings(FromEnvironment):
    """Settings of the Fargate task."""

    environment: str = setting("ENVIRONMENT", environment_name, "Environment name (dev, staging, prod).")
    cert_bucket: str = setting(
        "CERT_BUCKET", text, "S3 bucket with <environment>/client.pem, client-key.pem, ca-cert.pem."
    )
    service_url: str = setting("EXTERNAL_SERVICE_URL", https_url, "Where entries are delivered.")
    snowflake: SnowflakeSettings = field(metadata={"nested": SnowflakeSettings})
    max_entries: int = setting(
        contract.MAX_ENTRIES,
        whole_number(1, LARGEST_BLOCK),
        "Entries claimed at first; the poller sets it to its ENTRIES_PER_CONTAINER.",
        default=8,
    )
    max_block_entries: int = setting(
        "MAX_BLOCK_ENTRIES", whole_number(1, LARGEST_BLOCK), "Entries claimed at once, at most.", default=LARGEST_BLOCK
    )
    max_block_characters: int = setting(
        "MAX_BLOCK_CHARACTERS",
        whole_number(1, 2**31),
        "Characters of data claimed at once; one entry always is.",
        default=16_000_000,
    )
    concurrency: int = setting("MAX_CONCURRENT_DELIVERIES", whole_number(1, 1000), "Deliveries in flight.", default=32)
    budget_s: float = setting(
        "CONTAINER_TIMEOUT_SECONDS", number(1, 86400), "A task claims no more after this long, seconds.", default=60.0
    )
    service_timeout_s: float = setting(
        "SERVICE_TIMEOUT_SECONDS", number(0.1, 900), "A delivery takes no longer, seconds.", default=30.0
    )
    stop_grace_s: float = setting(
        "STOP_GRACE_SECONDS",
        number(0, STOP_TIMEOUT_S),
        "After SIGTERM, deliveries in flight may take this long, seconds.",
        default=60.0,
    )
    flush_entries: int = setting(
        "FLUSH_ENTRIES", whole_number(1, LARGEST_BLOCK), "So many outcomes are written at once.", default=2000
    )
    flush_s: float = setting(
        "FLUSH_SECONDS", number(0.01, 60), "An outcome waits no longer to be written, seconds.", default=1.0
    )
    max_retries: int = setting(
        "MAX_RETRIES", whole_number(1, 1000), "Counted attempts, unless the entry has its own limit.", default=3
    )
    backoff_s: float = setting(
        "RETRY_BACKOFF_SECONDS", number(0, 86400), "Bound of the first wait; doubles with each attempt.", default=10.0
    )
    backoff_cap_s: float = setting(
        "RETRY_BACKOFF_CAP_SECONDS", number(0, 86400), "No wait is longer, seconds.", default=900.0
    )
    entry_deadline_minutes: float | None = setting(
        "ENTRY_DEADLINE_MINUTES",
        number(0.01, 525_600),
        "No retry is scheduled for later than this after the INSERT.",
        required=False,
    )
    hold_s: float = setting(
        "HOLD_SECONDS", number(1, 86400), "After a credentials stop nothing is claimed for so long.", default=300.0
    )
    probe: bool = setting(contract.PROBE, flag, "Try one entry after a hold; set by the poller.", default=False)
    max_data_characters: int = setting(
        "MAX_DATA_CHARACTERS", whole_number(1, 2**27), "Longer data is not sent.", default=10_000_000
    )
    key_passphrase: Secret | None = setting(
        "CLIENT_KEY_PASSPHRASE", secret, "Passphrase of client-key.pem, if it has one.", required=False
    )
    max_result_characters: int = setting(
        "MAX_RESULT_CHARACTERS", whole_number(0, 100_000), "How much of an answer is kept.", default=16_000
    )
    stale_threshold_minutes: float = setting(
        "STALE_THRESHOLD_MINUTES", number(0.01, 1440), "The poller's, to check the others against.", default=30.0
    )
    processor_id: str | None = setting(
        "PROCESSOR_ID",
        matching(r"[\w.:-]{1,200}", "letters, digits, . : _ and -"),
        "Name of this worker, off ECS.",
        required=False,
    )

    @property
    def longest_life_s(self) -> float:
        """See :func:`longest_life_s`."""
        return longest_life_s(budget_s=self.budget_s, service_timeout_s=self.service_timeout_s)

    def contradictions(self) -> Iterator[str]:
        """Time limits that do not add up."""
        longest = self.longest_life_s
        if self.stale_threshold_minutes * 60 <= longest:
            yield (
                f"STALE_THRESHOLD_MINUTES: expected more than the {longest:g} s that a task may live, by "
                f"CONTAINER_TIMEOUT_SECONDS and SERVICE_TIMEOUT_SECONDS, got {self.stale_threshold_minutes * 60:g} s; "
                "a working task would lose its claims"
            )
        if self.stop_grace_s + LAST_FLUSH_S > STOP_TIMEOUT_S:
            yield (
                f"STOP_GRACE_SECONDS: expected at most {STOP_TIMEOUT_S - LAST_FLUSH_S} (ECS kills {STOP_TIMEOUT_S} s "
                f"after SIGTERM, and the last outcomes take time to write), got {self.stop_grace_s:g}"
            )
        if self.max_block_entries < self.max_entries:
            yield (
                f"MAX_BLOCK_ENTRIES: expected at least MAX_ENTRIES = {self.max_entries}, got {self.max_block_entries}"
            )
        if self.backoff_cap_s < self.backoff_s:
            yield (
                f"RETRY_BACKOFF_CAP_SECONDS: expected at least RETRY_BACKOFF_SECONDS = {self.backoff_s:g}, "
                f"got {self.backoff_cap_s:g}"
            )
