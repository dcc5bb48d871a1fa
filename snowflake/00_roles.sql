-- Create the warehouse, the database, the schema, six roles and three service users. Safe to run again: existing objects do not
-- change.
--
-- Run this script with ACCOUNTADMIN, or with a user who has SYSADMIN and SECURITYADMIN. scripts/setup_database.sh sets these
-- names from SNOWFLAKE_WAREHOUSE, SNOWFLAKE_DATABASE and SNOWFLAKE_SCHEMA. To run it by hand, set them first:
--     SET queue_warehouse = 'QUEUE_WH'; SET queue_database = 'QUEUE_DB'; SET queue_schema = 'PUBLIC';
-- The names of roles and users begin with the name of the database, so each environment has its own. After this script run
-- `rowqueue migrate`, as SYSADMIN, and 04_grants.sql.

SET poller = CONCAT($queue_database, '_POLLER');
SET processor = CONCAT($queue_database, '_PROCESSOR');
SET service = CONCAT($queue_database, '_SERVICE');
SET viewer = CONCAT($queue_database, '_VIEWER');
SET operator = CONCAT($queue_database, '_OPERATOR');
SET producer = CONCAT($queue_database, '_PRODUCER');
SET payload = CONCAT($queue_database, '_PAYLOAD');

USE ROLE SYSADMIN;

-- The smallest size is enough: a claim or a settle is one statement for a whole block. The cost follows the minutes in which the
-- warehouse runs, so the generation with the lower price per minute is chosen: without GENERATION it would be the second one, with
-- query acceleration, which is billed apart and helps only large scans. The programs give their statements less time than
-- STATEMENT_TIMEOUT_IN_SECONDS, which limits those of people and migrations: by default they may run, and be billed, for two days.
-- snowflake/optional_resource_monitor.sql limits the credits of a month.
CREATE WAREHOUSE IF NOT EXISTS IDENTIFIER($queue_warehouse)
    WAREHOUSE_SIZE = XSMALL
    GENERATION = '1'
    ENABLE_QUERY_ACCELERATION = FALSE
    AUTO_SUSPEND = 60
    AUTO_RESUME = TRUE
    INITIALLY_SUSPENDED = TRUE
    STATEMENT_TIMEOUT_IN_SECONDS = 1800
    STATEMENT_QUEUED_TIMEOUT_IN_SECONDS = 30
    COMMENT = 'Runs the statements of the queue';
CREATE DATABASE IF NOT EXISTS IDENTIFIER($queue_database);
USE DATABASE IDENTIFIER($queue_database);
CREATE SCHEMA IF NOT EXISTS IDENTIFIER($queue_schema);

USE ROLE SECURITYADMIN;

CREATE ROLE IF NOT EXISTS IDENTIFIER($poller) COMMENT = 'Counts ready entries, and releases the claims of workers that are gone';
CREATE ROLE IF NOT EXISTS IDENTIFIER($processor) COMMENT = 'Claims entries and settles them';
-- For people. Grant them to users or to roles of your own: GRANT ROLE QUEUE_DB_OPERATOR TO USER ...
CREATE ROLE IF NOT EXISTS IDENTIFIER($viewer) COMMENT = 'Reads the views, without data, results and answers';
CREATE ROLE IF NOT EXISTS IDENTIFIER($operator) COMMENT = 'Reads the views, and requeues, cancels, discards, reprioritises, holds and lifts';
CREATE ROLE IF NOT EXISTS IDENTIFIER($producer) COMMENT = 'Inserts entries';
-- The views show data, results and answers only to a session that has this role. It has no privileges itself.
CREATE ROLE IF NOT EXISTS IDENTIFIER($payload) COMMENT = 'Sees data, results and answers in the views that the session may read';
GRANT ROLE IDENTIFIER($viewer) TO ROLE IDENTIFIER($operator);
-- SYSADMIN gets all roles, so that an administrator can do what they can do.
GRANT ROLE IDENTIFIER($poller) TO ROLE SYSADMIN;
GRANT ROLE IDENTIFIER($processor) TO ROLE SYSADMIN;
GRANT ROLE IDENTIFIER($operator) TO ROLE SYSADMIN;
GRANT ROLE IDENTIFIER($producer) TO ROLE SYSADMIN;
GRANT ROLE IDENTIFIER($payload) TO ROLE SYSADMIN;

-- With workload identity each IAM role is a user of its own: the function's role is the poller, the tasks' role the processor.
CREATE USER IF NOT EXISTS IDENTIFIER($poller)
    TYPE = SERVICE
    DEFAULT_ROLE = $poller
    DEFAULT_WAREHOUSE = $queue_warehouse
    DEFAULT_SECONDARY_ROLES = ()
    COMMENT = 'The poller, by workload identity';
CREATE USER IF NOT EXISTS IDENTIFIER($processor)
    TYPE = SERVICE
    DEFAULT_ROLE = $processor
    DEFAULT_WAREHOUSE = $queue_warehouse
    DEFAULT_SECONDARY_ROLES = ()
    COMMENT = 'The processors, by workload identity';
-- With a key pair there is one secret, so one user. SNOWFLAKE_ROLE chooses the role of a session, and there are no secondary
-- roles.
CREATE USER IF NOT EXISTS IDENTIFIER($service)
    TYPE = SERVICE
    DEFAULT_ROLE = $processor
    DEFAULT_WAREHOUSE = $queue_warehouse
    DEFAULT_SECONDARY_ROLES = ()
    COMMENT = 'Poller and processors, by key pair';
GRANT ROLE IDENTIFIER($poller) TO USER IDENTIFIER($poller);
GRANT ROLE IDENTIFIER($processor) TO USER IDENTIFIER($processor);
GRANT ROLE IDENTIFIER($poller) TO USER IDENTIFIER($service);
GRANT ROLE IDENTIFIER($processor) TO USER IDENTIFIER($service);

-- The next scripts create tables and views. Their owner is SYSADMIN.
USE ROLE SYSADMIN;
USE WAREHOUSE IDENTIFIER($queue_warehouse);
USE SCHEMA IDENTIFIER($queue_schema);
