-- Create the queue and its smaller tables: version 1 of the schema. Safe to run again: no table is replaced, and no row changes.
--
-- Run this script with a role that owns the schema, and with the database and the schema in use. A schema contains one queue.
-- Every time is UTC and comes from SYSDATE(), Snowflake's clock. Define all defaults here: Snowflake cannot change a column's
-- default later, and cannot add one that is not a constant.
-- The tables are transient, with one day of Time Travel. Every claim and settle rewrites micro-partitions, and a permanent table
-- would keep each version for seven days of Fail-safe. For long-term storage, move finished rows to a permanent table.

CREATE TRANSIENT TABLE IF NOT EXISTS PROCESSING_QUEUE (
    id               NUMBER(38, 0)  NOT NULL AUTOINCREMENT START 1 INCREMENT 1
                     COMMENT 'Unique; has gaps and gives no order',
    destination      VARCHAR        NOT NULL DEFAULT 'default'
                     COMMENT 'The service that gets it; a processor claims the entries of one destination',
    data             VARCHAR        NOT NULL
                     COMMENT 'JSON text; delivered byte for byte',
    reference        VARCHAR
                     COMMENT 'The producer''s own key, to join results on',
    parent_id        NUMBER(38, 0)
                     COMMENT 'Reserved for follow-ups: the entry whose end inserted this one',
    dedup_key        VARCHAR
                     COMMENT 'Reserved for deduplication',
    idempotency_key  VARCHAR        NOT NULL DEFAULT UUID_STRING()
                     COMMENT 'Sent with every delivery of this entry; a requeue keeps it',
    traceparent      VARCHAR
                     COMMENT 'The producer''s own trace, as in W3C Trace Context; a delivery continues it',
    status           VARCHAR(20)    NOT NULL DEFAULT 'pending'
                     COMMENT 'pending, processing, completed, failed or cancelled',
    priority         NUMBER(38, 0)  NOT NULL DEFAULT 0
                     COMMENT 'Larger values are claimed first; does not rise with age',
    available_at     TIMESTAMP_NTZ  NOT NULL DEFAULT SYSDATE()
                     COMMENT 'Not claimed before this time, UTC; set it to schedule an entry; a retry sets it',
    retry_count      NUMBER(38, 0)  NOT NULL DEFAULT 0
                     COMMENT 'Failed attempts and stale resets; the entry is ready only below the limit',
    max_retries      NUMBER(38, 0)
                     COMMENT 'Limit of attempts of this entry; NULL: the setting MAX_RETRIES',
    crash_count      NUMBER(38, 0)  NOT NULL DEFAULT 0
                     COMMENT 'Number of workers that died with it in hand',
    doubts           NUMBER(38, 0)  NOT NULL DEFAULT 0
                     COMMENT 'Number of releases because of a fault of credentials that it may not have caused',
    requeued         NUMBER(38, 0)  NOT NULL DEFAULT 0
                     COMMENT 'Number of times a person requeued it',
    earlier_attempts NUMBER(38, 0)  NOT NULL DEFAULT 0
                     COMMENT 'retry_count of the times before the last requeue; the audit trail numbers on from there',
    cancel_requested BOOLEAN        NOT NULL DEFAULT FALSE
                     COMMENT 'A person cancelled it; it is not claimed, and a delivery that has not begun does not begin',
    created_at       TIMESTAMP_NTZ  NOT NULL DEFAULT SYSDATE()
                     COMMENT 'UTC',
    updated_at       TIMESTAMP_NTZ  NOT NULL DEFAULT SYSDATE()
                     COMMENT 'Last change by a program or a person''s action, UTC',
    processor_id     VARCHAR
                     COMMENT 'Worker that has it in hand or settled it; NULL after a release',
    claim_token      VARCHAR
                     COMMENT 'Current or last claim; a write by another claim changes nothing',
    claimed_at       TIMESTAMP_NTZ
                     COMMENT 'UTC; NULL after a release',
    tried_at         TIMESTAMP_NTZ
                     COMMENT 'Last claim, UTC; kept after a release. A probe takes the entry least recently tried',
    completed_at     TIMESTAMP_NTZ
                     COMMENT 'UTC',
    failed_at        TIMESTAMP_NTZ
                     COMMENT 'UTC',
    cancelled_at     TIMESTAMP_NTZ
                     COMMENT 'UTC',
    cancelled_by     VARCHAR
                     COMMENT 'Who cancelled it',
    cancel_reason    VARCHAR(1000)
                     COMMENT 'Why it was cancelled',
    action_id        VARCHAR
                     COMMENT 'PROCESSING_ACTIONS.action_id of the last action on it',
    response_status  NUMBER(38, 0)
                     COMMENT 'HTTP status of the last answer',
    result           VARCHAR
                     COMMENT 'The last answer, up to MAX_RESULT_CHARACTERS',
    error_message    VARCHAR(1000)
                     COMMENT 'Why the last attempt failed'
)
DATA_RETENTION_TIME_IN_DAYS = 1
COMMENT = 'Rows inserted here are delivered to the external service; see QUEUE_STATUS_SUMMARY';

-- One row for each delivery that was started. It says what becomes of the entry, and the UPDATE of the queue reads it here: an
-- outcome is sent once. Rows are only inserted, because INSERTs do not wait for a table's lock.
CREATE TRANSIENT TABLE IF NOT EXISTS PROCESSING_ATTEMPTS (
    entry_id        NUMBER(38, 0)  NOT NULL COMMENT 'PROCESSING_QUEUE.id',
    claim_token     VARCHAR        NOT NULL COMMENT 'Claim of the delivery',
    idempotency_key VARCHAR                 COMMENT 'PROCESSING_QUEUE.idempotency_key; tells two rows with one id apart',
    attempt         NUMBER(38, 0)  NOT NULL COMMENT 'Counts from 1',
    processor_id    VARCHAR        NOT NULL,
    started_at      TIMESTAMP_NTZ  NOT NULL COMMENT 'UTC',
    finished_at     TIMESTAMP_NTZ  NOT NULL COMMENT 'UTC',
    outcome         VARCHAR(20)    NOT NULL COMMENT 'succeeded, transient, permanent, interrupted, doubtful, crashed or reset',
    response_status NUMBER(38, 0)           COMMENT 'HTTP status, if there was an answer',
    error_message   VARCHAR(1000)           COMMENT 'Why it failed, if it did',
    entry_status    VARCHAR(20)             COMMENT 'What the entry becomes; NULL in rows of the poller, which knows no answer',
    ready_at        TIMESTAMP_NTZ           COMMENT 'When a retry is ready, UTC',
    result          VARCHAR                 COMMENT 'The answer, up to MAX_RESULT_CHARACTERS',
    milliseconds    NUMBER(38, 0)           COMMENT 'From the start of the delivery to its end',
    trace_id        VARCHAR                 COMMENT 'Trace id of the delivery, 32 hexadecimal digits',
    recorded_at     TIMESTAMP_NTZ  NOT NULL DEFAULT SYSDATE() COMMENT 'UTC'
)
DATA_RETENTION_TIME_IN_DAYS = 1
COMMENT = 'Audit trail: each delivery with its time, its worker and its outcome';

-- Tells the poller which tasks have claimed, so that it can tell starting tasks from working ones.
CREATE TRANSIENT TABLE IF NOT EXISTS PROCESSORS (
    processor_id    VARCHAR        NOT NULL COMMENT '<environment>-<ECS task id>',
    event           VARCHAR(20)    NOT NULL COMMENT 'first_claim (also if it was empty) or ended',
    recorded_at     TIMESTAMP_NTZ  NOT NULL DEFAULT SYSDATE() COMMENT 'UTC',
    entries         NUMBER(38, 0)           COMMENT 'first_claim: entries of that claim; ended: all settled entries',
    seconds         FLOAT                   COMMENT 'From its first claim to its end',
    reason          VARCHAR(1000)           COMMENT 'Why it ended',
    stale_threshold_s FLOAT                 COMMENT 'Age at which a claim is reset, by its settings'
)
DATA_RETENTION_TIME_IN_DAYS = 1
COMMENT = 'One row at the first claim of a processor, one at its end';

-- While a row stands, the entries of its scope are not claimed. A credentials stop, a person or a migration inserts it.
CREATE TRANSIENT TABLE IF NOT EXISTS PROCESSING_HOLDS (
    scope           VARCHAR        NOT NULL DEFAULT '*' COMMENT 'The destination that is not claimed; * is everything',
    kind            VARCHAR(20)    NOT NULL DEFAULT 'person' COMMENT 'Who placed it: person, credentials or fence',
    reason          VARCHAR(1000)  NOT NULL,
    until_at        TIMESTAMP_NTZ           COMMENT 'UTC; NULL: until it is deleted',
    created_by      VARCHAR        NOT NULL,
    created_at      TIMESTAMP_NTZ  NOT NULL DEFAULT SYSDATE() COMMENT 'UTC'
)
DATA_RETENTION_TIME_IN_DAYS = 1
COMMENT = 'Reasons not to claim';

-- What people did to entries and holds. Rows are only inserted.
CREATE TRANSIENT TABLE IF NOT EXISTS PROCESSING_ACTIONS (
    action_id       VARCHAR        NOT NULL COMMENT 'Unique',
    action          VARCHAR(20)    NOT NULL COMMENT 'requeue, cancel, discard, reprioritise, hold or lift',
    selector        VARCHAR                 COMMENT 'Which entries or holds were meant, as JSON',
    reason          VARCHAR(1000)  NOT NULL,
    entries         NUMBER(38, 0)  NOT NULL COMMENT 'Rows changed',
    acted_by        VARCHAR        NOT NULL,
    acted_at        TIMESTAMP_NTZ  NOT NULL DEFAULT SYSDATE() COMMENT 'UTC'
)
DATA_RETENTION_TIME_IN_DAYS = 1
COMMENT = 'One row for each action of a person';

CREATE TRANSIENT TABLE IF NOT EXISTS PROCESSING_ACTION_ENTRIES (
    action_id       VARCHAR        NOT NULL COMMENT 'PROCESSING_ACTIONS.action_id',
    entry_id        NUMBER(38, 0)  NOT NULL COMMENT 'PROCESSING_QUEUE.id'
)
DATA_RETENTION_TIME_IN_DAYS = 1
COMMENT = 'The entries that an action changed';

-- Which version the tables have. Each migration inserts a row, and none is changed.
CREATE TRANSIENT TABLE IF NOT EXISTS SCHEMA_VERSION (
    version         NUMBER(38, 0)  NOT NULL COMMENT 'The largest one is the present version',
    oldest_program  NUMBER(38, 0)  NOT NULL COMMENT 'Programs that know only an earlier version claim nothing',
    applied_by      VARCHAR        NOT NULL,
    queue_table     VARCHAR                 COMMENT 'In the row of version 1: the name of the queue; a schema contains one',
    applied_at      TIMESTAMP_NTZ  NOT NULL DEFAULT SYSDATE() COMMENT 'UTC'
)
DATA_RETENTION_TIME_IN_DAYS = 1
COMMENT = 'One row for each migration';

INSERT INTO SCHEMA_VERSION (version, oldest_program, applied_by, queue_table)
SELECT 1, 1, CURRENT_USER(), 'PROCESSING_QUEUE'
 WHERE NOT EXISTS (SELECT 1 FROM SCHEMA_VERSION WHERE version >= 1);
