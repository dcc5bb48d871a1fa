-- The queue and the small tables beside it. Safe to run again: nothing is replaced, no row is touched.
--
-- Run it with a role that owns the schema, with database and schema in use. One queue a schema.
-- Every time is UTC and comes from SYSDATE(), Snowflake's own clock. Defaults are right here or never: Snowflake can neither
-- change a column's default later nor add one to a column that has none.
-- Transient with one day of Time Travel: every claim and settle rewrites micro-partitions, and a permanent table would keep each
-- version for seven days of Fail-safe. Move finished rows to a permanent table for the long term.

CREATE TRANSIENT TABLE IF NOT EXISTS PROCESSING_QUEUE (
    id              NUMBER(38, 0)  NOT NULL AUTOINCREMENT START 1 INCREMENT 1
                    COMMENT 'Unique; has gaps and is no order',
    data            VARCHAR        NOT NULL
                    COMMENT 'What is delivered: JSON text, passed on byte for byte',
    reference       VARCHAR
                    COMMENT 'Key of the producer, to join results on',
    dedup_key       VARCHAR
                    COMMENT 'Reserved for deduplication',
    idempotency_key VARCHAR        NOT NULL DEFAULT UUID_STRING()
                    COMMENT 'Sent with every delivery of this entry; a requeue keeps it',
    status          VARCHAR(20)    NOT NULL DEFAULT 'pending'
                    COMMENT 'pending, processing, completed, failed or cancelled',
    priority        NUMBER(38, 0)  NOT NULL DEFAULT 0
                    COMMENT 'Larger first; does not age',
    available_at    TIMESTAMP_NTZ  NOT NULL DEFAULT SYSDATE()
                    COMMENT 'Not before, UTC; set it to schedule an entry; back-off sets it',
    retry_count     NUMBER(38, 0)  NOT NULL DEFAULT 0
                    COMMENT 'Failed attempts and stale resets; ready while below the limit',
    max_retries     NUMBER(38, 0)
                    COMMENT 'Limit of this entry; NULL: the setting MAX_RETRIES',
    crash_count     NUMBER(38, 0)  NOT NULL DEFAULT 0
                    COMMENT 'Times a worker died holding it',
    created_at      TIMESTAMP_NTZ  NOT NULL DEFAULT SYSDATE()
                    COMMENT 'UTC',
    processor_id    VARCHAR
                    COMMENT 'Who holds it or has settled it; NULL after a release',
    claim_token     VARCHAR
                    COMMENT 'The claim it is or was held under; fences every write',
    claimed_at      TIMESTAMP_NTZ
                    COMMENT 'UTC; NULL after a release',
    completed_at    TIMESTAMP_NTZ
                    COMMENT 'UTC',
    failed_at       TIMESTAMP_NTZ
                    COMMENT 'UTC',
    response_status NUMBER(38, 0)
                    COMMENT 'HTTP status of the last answer',
    result          VARCHAR
                    COMMENT 'The last answer, up to a bounded length',
    error_message   VARCHAR(1000)
                    COMMENT 'Why the last attempt failed'
)
DATA_RETENTION_TIME_IN_DAYS = 1
COMMENT = 'Rows inserted here are delivered to the external service; see QUEUE_STATUS_SUMMARY';

-- One row for each delivery that was started. Only ever inserted: INSERTs do not queue for a table's lock.
CREATE TRANSIENT TABLE IF NOT EXISTS PROCESSING_ATTEMPTS (
    entry_id        NUMBER(38, 0)  NOT NULL COMMENT 'PROCESSING_QUEUE.id',
    claim_token     VARCHAR        NOT NULL COMMENT 'The claim it was made under; once for each entry and claim',
    attempt         NUMBER(38, 0)  NOT NULL COMMENT 'From 1',
    processor_id    VARCHAR        NOT NULL,
    started_at      TIMESTAMP_NTZ  NOT NULL COMMENT 'UTC',
    finished_at     TIMESTAMP_NTZ  NOT NULL COMMENT 'UTC',
    outcome         VARCHAR(20)    NOT NULL COMMENT 'succeeded, transient, permanent, interrupted, crashed or reset',
    response_status NUMBER(38, 0)           COMMENT 'HTTP status, if there was an answer',
    error_message   VARCHAR(1000)           COMMENT 'Why it failed, if it did',
    recorded_at     TIMESTAMP_NTZ  NOT NULL DEFAULT SYSDATE() COMMENT 'UTC'
)
DATA_RETENTION_TIME_IN_DAYS = 1
COMMENT = 'Audit trail: what was delivered when, by whom, and how it ended';

-- How the poller tells a task that is starting from one that works.
CREATE TRANSIENT TABLE IF NOT EXISTS PROCESSORS (
    processor_id    VARCHAR        NOT NULL COMMENT '<environment>-<ECS task id>',
    event           VARCHAR(20)    NOT NULL COMMENT 'first_claim (also an empty one) or ended',
    recorded_at     TIMESTAMP_NTZ  NOT NULL DEFAULT SYSDATE() COMMENT 'UTC',
    entries         NUMBER(38, 0)           COMMENT 'Claimed first, or settled in all',
    seconds         FLOAT                   COMMENT 'From its first claim to its end',
    reason          VARCHAR(1000)           COMMENT 'Why it ended'
)
DATA_RETENTION_TIME_IN_DAYS = 1
COMMENT = 'One row when a processor first claims, one when it ends';

-- While a hold on '*' stands, nothing is claimed. A person can place one.
CREATE TRANSIENT TABLE IF NOT EXISTS PROCESSING_HOLDS (
    scope           VARCHAR        NOT NULL DEFAULT '*' COMMENT 'What is held; * is everything',
    reason          VARCHAR(1000)  NOT NULL,
    until_at        TIMESTAMP_NTZ           COMMENT 'UTC; NULL: until it is deleted',
    created_by      VARCHAR        NOT NULL,
    created_at      TIMESTAMP_NTZ  NOT NULL DEFAULT SYSDATE() COMMENT 'UTC'
)
DATA_RETENTION_TIME_IN_DAYS = 1
COMMENT = 'Reasons not to claim';
