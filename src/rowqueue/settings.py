"""The settings of the poller and of the processor. Only the entry points pass ``os.environ``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from rowqueue import contract
from rowqueue.environment import (
    FromEnvironment,
    Problem,
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
"""Time limit of a statement, with its wait for the lock. It is shorter than the poller's tick."""
LOCK_TIMEOUT_S = 30
"""Time limit of the wait for a table's lock. It is shorter than the statement's own."""
TICK_DEADLINE_S = 50
"""Time limit of a tick. It is shorter than a minute, the schedule's usual period."""
STEP_S = 10
"""Time limit of one step of a tick, with its waits for the lock and the network. No step starts with less time left:
the next tick is the better retry."""
LEASE_S = 90.0
"""How long a tick's lease is valid. It is longer than the function lives (terraform/lambda.tf: ``timeout``), so nothing
launches after its lease has expired."""
STOP_TIMEOUT_S = 120
"""From SIGTERM to SIGKILL: Fargate's longest ``stopTimeout`` (AWS, ContainerDefinition)."""
LAST_FLUSH_S = STATEMENT_TIMEOUT_S + 10
"""The part of that time which a processor needs to write its last outcomes."""
SETTLE_PATIENCE_S = 120
"""How long a settle is repeated. After that its entries are delivered again."""
LARGEST_BLOCK = 10_000
"""Largest number of entries in one claim: the constant LIMIT in the statement."""

LONGEST_DATA = 2**24
"""Largest number of characters in a VARCHAR column without a length (Snowflake, "String & binary data types")."""


def longest_life_s(*, budget_s: float, service_timeout_s: float) -> float:
    """Longest time from a processor's first claim to its end, seconds.

    The last claim may begin at the end of the budget and wait for the lock. Its deliveries follow, and a settle that
    is repeated for as long as it may be.
    """
    last_claim_s = LOCK_TIMEOUT_S + STATEMENT_TIMEOUT_S
    return budget_s + last_claim_s + service_timeout_s + SETTLE_PATIENCE_S + 2 * STATEMENT_TIMEOUT_S


# Snowflake, "Identifier requirements": unquoted identifiers. Quoted ones are refused, because every statement would
# have to quote them.
identifier = matching(
    r"[A-Za-z_][A-Za-z0-9_$]{0,254}", "a Snowflake identifier: letters, digits, _ and $, not a digit first"
)


def queue_table(value: str) -> str:
    """A parser for the name of the queue table."""
    if identifier(value).upper() in contract.OTHER_NAMES:
        raise Problem(f"a name for the queue, because {value.upper()} is another table or view of this program")
    return value


environment_name = matching(r"[a-z][a-z0-9-]{0,23}", "a short name like dev, staging or prod")
account_identifier = matching(
    r"[A-Za-z0-9][A-Za-z0-9_.-]*",
    "an account identifier like myorg-myaccount, without https:// and .snowflakecomputing.com",
)

Authentication = Literal["password", "key_pair", "workload_identity"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SnowflakeSettings(FromEnvironment):
    """Where the queue is, and how to log in."""

    account: str = setting("SNOWFLAKE_ACCOUNT", account_identifier, "Snowflake account identifier.")
    warehouse: str = setting("SNOWFLAKE_WAREHOUSE", identifier, "Warehouse that runs the statements.")
    database: str = setting("SNOWFLAKE_DATABASE", identifier, "Database of the queue.")
    schema: str = setting("SNOWFLAKE_SCHEMA", identifier, "Schema of the queue. A schema contains one queue.")
    table: str = setting("SNOWFLAKE_TABLE", queue_table, "The queue table.", default="PROCESSING_QUEUE")
    authentication: Authentication = setting(
        "SNOWFLAKE_AUTHENTICATION",
        matching("password|key_pair|workload_identity", "password, key_pair or workload_identity"),
        "How to log in.",
        default="key_pair",
    )
    user: str | None = setting(
        "SNOWFLAKE_USER", text, "User name. Default: from the credentials secret.", required=False
    )
    password: Secret | None = setting(
        "SNOWFLAKE_PASSWORD", secret, "Password. Default: from the credentials secret.", required=False
    )
    private_key: Secret | None = setting(
        "SNOWFLAKE_PRIVATE_KEY",
        secret,
        "Private key, PEM. Default: from the credentials secret.",
        required=False,
    )
    private_key_passphrase: Secret | None = setting(
        "SNOWFLAKE_PRIVATE_KEY_PASSPHRASE", secret, "Passphrase of that key, if it is encrypted.", required=False
    )
    role: str | None = setting("SNOWFLAKE_ROLE", identifier, "Role. Default: the user's default role.", required=False)
    host: str | None = setting(
        "SNOWFLAKE_HOST", text, "Host, if it cannot be derived from the account.", required=False
    )
    port: int = setting("SNOWFLAKE_PORT", whole_number(1, 65535), "Port of that host.", default=443)
    protocol: str = setting(
        "SNOWFLAKE_PROTOCOL", matching("https?", "https (http serves the embedded stack)"), "Protocol.", default="https"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedSettings(FromEnvironment):
    """Settings of both programs. They have to be equal in both."""

    environment: str = setting("ENVIRONMENT", environment_name, "Environment name (dev, staging, prod).")
    budget_s: float = setting(
        "CONTAINER_TIMEOUT_SECONDS",
        number(1, 86400),
        "Time budget of a task: it stops claiming at this age, seconds.",
        default=60.0,
    )
    service_timeout_s: float = setting(
        "SERVICE_TIMEOUT_SECONDS", number(0.1, 900), "Time limit of a delivery, seconds.", default=30.0
    )
    max_retries: int = setting(
        "MAX_RETRIES", whole_number(1, 1000), "Counted attempts, unless the entry has its own limit.", default=3
    )
    stale_threshold_minutes: float = setting(
        "STALE_THRESHOLD_MINUTES", number(0.01, 1440), "Age at which a claim is reset, minutes.", default=30.0
    )

    @property
    def stale_threshold_s(self) -> float:
        """The stale threshold in seconds."""
        return self.stale_threshold_minutes * 60

    @property
    def longest_life_s(self) -> float:
        """See :func:`longest_life_s`."""
        return longest_life_s(budget_s=self.budget_s, service_timeout_s=self.service_timeout_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class PollerSettings(SharedSettings):
    """Settings of the Lambda."""

    cluster: str = setting("ECS_CLUSTER", text, "ECS cluster, name or ARN.")
    task_definition: str = setting("ECS_TASK_DEFINITION", text, "Task definition of the processors, family or ARN.")
    subnets: tuple[str, ...] = setting("ECS_SUBNETS", string_list, "Subnets of the tasks, a JSON array.")
    security_group: str = setting("ECS_SECURITY_GROUP", text, "Security group of the tasks.")
    lease_bucket: str = setting("LEASE_BUCKET", text, "S3 bucket of the lease, <environment>/launch-lease.json.")
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
        "Raise that target to the median number of entries that tasks of the last hour settled.",
        default=False,
    )
    max_containers: int = setting(
        "MAX_CONTAINERS", whole_number(0, 5000), "Largest number of live tasks; 0 pauses the launches.", default=25
    )
    boot_deadline_s: float = setting(
        "BOOT_DEADLINE_SECONDS",
        number(1, 3600),
        "Age at which a task that has not claimed is stopped, seconds.",
        default=180.0,
    )
    task_deadline_s: float | None = setting(
        "TASK_DEADLINE_SECONDS",
        number(1, 864_000),
        "Age at which a task is stopped, seconds. Default: the boot deadline plus the processors' own limits.",
        required=False,
    )
    max_crashes: int = setting(
        "MAX_CRASHES",
        whole_number(1, 100),
        "Crashes tolerated. One more crash with only this entry in hand fails it as poison.",
        default=2,
    )
    spot_percent: int = setting(
        "SPOT_PERCENT",
        whole_number(0, 100),
        "Share of the tasks that run on Fargate Spot, percent. Below 100, tasks without Spot capacity run on demand.",
        default=0,
    )
    tick_s: float = setting("TICK_SECONDS", number(0.1, 86400), "Period of the schedule, seconds.", default=60.0)

    @property
    def may_replace_spot(self) -> bool:
        """Whether tasks that Spot has no capacity for are started on demand: not if all tasks have to run on Spot."""
        return 0 < self.spot_percent < 100  # noqa: PLR2004 -- percent

    @property
    def oldest_task_s(self) -> float:
        """Longest time from a task's start to its end, seconds."""
        if self.task_deadline_s is not None:
            return self.task_deadline_s
        return self.boot_deadline_s + self.longest_life_s


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessorSettings(SharedSettings):
    """Settings of the Fargate task."""

    cert_bucket: str = setting(
        "CERT_BUCKET", text, "S3 bucket with <environment>/client.pem, client-key.pem, ca-cert.pem."
    )
    service_url: str = setting("EXTERNAL_SERVICE_URL", https_url, "Where entries are delivered.")
    snowflake: SnowflakeSettings = field(metadata={"nested": SnowflakeSettings})
    entries_per_container: int = setting(
        contract.MAX_ENTRIES,
        whole_number(1, LARGEST_BLOCK),
        "Entries in the first block. The poller sets it to its ENTRIES_PER_CONTAINER.",
        default=8,
    )
    max_block_entries: int = setting(
        "MAX_BLOCK_ENTRIES",
        whole_number(1, LARGEST_BLOCK),
        "Largest number of entries in one claim.",
        default=LARGEST_BLOCK,
    )
    max_block_characters: int = setting(
        "MAX_BLOCK_CHARACTERS",
        whole_number(1, 2**31),
        "Largest sum of data in one claim, characters. A single entry may exceed it.",
        default=16_000_000,
    )
    task_memory_mib: int = setting(
        "TASK_MEMORY_MIB",
        whole_number(256, 122_880),
        "Memory of the task, MiB. It bounds the data and answers in hand. Terraform passes task_memory.",
        default=512,
    )
    concurrency: int = setting(
        "MAX_CONCURRENT_DELIVERIES", whole_number(1, 1000), "Largest number of deliveries in flight.", default=32
    )
    stop_grace_s: float = setting(
        "STOP_GRACE_SECONDS",
        number(0, STOP_TIMEOUT_S),
        "Time limit of the deliveries in flight after SIGTERM, seconds.",
        default=60.0,
    )
    flush_entries: int = setting(
        "FLUSH_ENTRIES",
        whole_number(1, LARGEST_BLOCK),
        "Outcomes that start a settle before FLUSH_SECONDS have passed.",
        default=2000,
    )
    flush_s: float = setting(
        "FLUSH_SECONDS", number(0.01, 60), "Longest wait of an outcome for its settle, seconds.", default=1.0
    )
    backoff_s: float = setting(
        "RETRY_BACKOFF_SECONDS",
        number(0, 86400),
        "Upper bound of the first back-off, seconds. It doubles with each attempt.",
        default=10.0,
    )
    backoff_cap_s: float = setting(
        "RETRY_BACKOFF_CAP_SECONDS", number(0, 86400), "Longest back-off, seconds.", default=900.0
    )
    entry_deadline_minutes: float | None = setting(
        "ENTRY_DEADLINE_MINUTES",
        number(0.01, 525_600),
        "Age after which an entry gets no further retry, minutes. Default: no limit.",
        required=False,
    )
    hold_s: float = setting(
        "HOLD_SECONDS", number(1, 86400), "Duration of the hold after a credentials stop, seconds.", default=300.0
    )
    probe: bool = setting(contract.PROBE, flag, "Try one entry after a hold. The poller sets it.", default=False)
    max_data_characters: int = setting(
        "MAX_DATA_CHARACTERS",
        whole_number(1, LONGEST_DATA),
        "Longest data that is sent, characters. An entry with more fails.",
        default=10_000_000,
    )
    key_passphrase: Secret | None = setting(
        "CLIENT_KEY_PASSPHRASE", secret, "Passphrase of client-key.pem, if it is encrypted.", required=False
    )
    max_result_characters: int = setting(
        "MAX_RESULT_CHARACTERS",
        whole_number(0, 100_000),
        "Length at which an answer is cut, characters.",
        default=16_000,
    )
    processor_id: str | None = setting(
        "PROCESSOR_ID",
        matching(r"[\w.:-]{1,200}", "letters, digits, . : _ and -"),
        "Name of this worker where it does not run on ECS.",
        required=False,
    )

    @property
    def settle_at_stop_s(self) -> float:
        """How long outcomes that are in hand at a stop may take to settle, seconds.

        It is half of what the grace leaves. The other half is for the outcomes of deliveries in flight, and for
        settles that become slower.
        """
        return (STOP_TIMEOUT_S - self.stop_grace_s) / 2

    def contradictions(self) -> Iterator[str]:
        """Time limits and sizes that contradict each other."""
        longest = self.longest_life_s
        if self.stale_threshold_s <= longest:
            yield (
                f"STALE_THRESHOLD_MINUTES: expected more than the {longest:g} s that a task may live with its "
                f"CONTAINER_TIMEOUT_SECONDS and SERVICE_TIMEOUT_SECONDS, got {self.stale_threshold_s:g} s; "
                "a working task would lose its claims"
            )
        if self.stop_grace_s + LAST_FLUSH_S > STOP_TIMEOUT_S:
            yield (
                f"STOP_GRACE_SECONDS: expected at most {STOP_TIMEOUT_S - LAST_FLUSH_S} (ECS kills {STOP_TIMEOUT_S} s "
                f"after SIGTERM, and the last outcomes take time to write), got {self.stop_grace_s:g}"
            )
        if self.max_block_entries < self.entries_per_container:
            yield (
                f"MAX_BLOCK_ENTRIES: expected at least {contract.MAX_ENTRIES} = {self.entries_per_container}, "
                f"got {self.max_block_entries}"
            )
        if self.backoff_cap_s < self.backoff_s:
            yield (
                f"RETRY_BACKOFF_CAP_SECONDS: expected at least RETRY_BACKOFF_SECONDS = {self.backoff_s:g}, "
                f"got {self.backoff_cap_s:g}"
            )
