-- Optional: notify the poller when rows are inserted, so that it need not wait for its schedule.
--
--   INSERT -> stream (appends only) -> task (runs only when there are any) -> SNS topic -> the poller
--
-- Notifications may be lost, so the schedule stays: a lost one delays an entry by at most a minute. The workers' UPDATEs start no
-- task, because the stream contains appended rows only. A triggered task runs at most every 30 seconds; the smallest value that
-- can be set is 10. The Snowflake account has to be hosted on AWS. These statements were checked, but never run on a real account.
-- To verify them there:
--   SELECT * FROM TABLE(INFORMATION_SCHEMA.TASK_HISTORY(TASK_NAME => 'PROCESSING_PUSH'));
--
-- Run this once as ACCOUNTADMIN. Replace the ARNs by the values of `terraform output` (push_topic_arn, push_role_arn):

CREATE NOTIFICATION INTEGRATION IF NOT EXISTS PROCESSING_PUSH
    TYPE = QUEUE
    DIRECTION = OUTBOUND
    NOTIFICATION_PROVIDER = AWS_SNS
    AWS_SNS_TOPIC_ARN = 'arn:aws:sns:us-east-1:123456789012:dev-snowflake-push'
    AWS_SNS_ROLE_ARN = 'arn:aws:iam::123456789012:role/dev-snowflake-push'
    ENABLED = TRUE
    COMMENT = 'Notifies the poller of the queue that rows were inserted';

-- Copy SF_AWS_IAM_USER_ARN and SF_AWS_EXTERNAL_ID from the answer to terraform.tfvars, for the role's trust policy.
DESCRIBE INTEGRATION PROCESSING_PUSH;

-- A task runs with its owner's privileges. Use the owner of the schema: SYSADMIN, if 00_roles.sql created it.
GRANT EXECUTE TASK ON ACCOUNT TO ROLE SYSADMIN;
GRANT EXECUTE MANAGED TASK ON ACCOUNT TO ROLE SYSADMIN;
GRANT USAGE ON INTEGRATION PROCESSING_PUSH TO ROLE SYSADMIN;

-- Then run this as that owner, with the database and the schema of the queue in use:
USE ROLE SYSADMIN;

CREATE TRANSIENT TABLE IF NOT EXISTS PROCESSING_PUSHES (
    entries   NUMBER(38, 0) NOT NULL COMMENT 'Rows inserted since the previous push',
    pushed_at TIMESTAMP_NTZ NOT NULL DEFAULT SYSDATE() COMMENT 'UTC'
)
DATA_RETENTION_TIME_IN_DAYS = 1
COMMENT = 'One row per push; the INSERT from the stream empties the stream';

CREATE STREAM IF NOT EXISTS PROCESSING_QUEUE_INSERTS
    ON TABLE PROCESSING_QUEUE
    APPEND_ONLY = TRUE
    COMMENT = 'Rows inserted since the last push';

CREATE TASK IF NOT EXISTS PROCESSING_PUSH
    TARGET_COMPLETION_INTERVAL = '1 MINUTE'
    USER_TASK_MANAGED_INITIAL_WAREHOUSE_SIZE = 'XSMALL'
    COMMENT = 'Serverless; runs only when the stream has rows'
    WHEN SYSTEM$STREAM_HAS_DATA('PROCESSING_QUEUE_INSERTS')
    AS EXECUTE IMMEDIATE $$
BEGIN
    INSERT INTO PROCESSING_PUSHES (entries) SELECT COUNT(*) FROM PROCESSING_QUEUE_INSERTS;
    CALL SYSTEM$SEND_SNOWFLAKE_NOTIFICATION(
        SNOWFLAKE.NOTIFICATION.APPLICATION_JSON('{"reason": "rows inserted"}'),
        SNOWFLAKE.NOTIFICATION.INTEGRATION('PROCESSING_PUSH')
    );
END;
$$;

ALTER TASK PROCESSING_PUSH RESUME;
