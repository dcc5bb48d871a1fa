-- Grant the two roles the privileges that their statements need, and no others. Safe to run again.
--
-- Run this script after the tables and views exist, as their owner, with the names of 00_roles.sql set and with the database and
-- the schema in use.

SET poller = CONCAT($queue_database, '_POLLER');
SET processor = CONCAT($queue_database, '_PROCESSOR');

GRANT USAGE ON WAREHOUSE IDENTIFIER($queue_warehouse) TO ROLE IDENTIFIER($poller);
GRANT USAGE ON WAREHOUSE IDENTIFIER($queue_warehouse) TO ROLE IDENTIFIER($processor);
GRANT USAGE ON DATABASE IDENTIFIER($queue_database) TO ROLE IDENTIFIER($poller);
GRANT USAGE ON DATABASE IDENTIFIER($queue_database) TO ROLE IDENTIFIER($processor);
GRANT USAGE ON SCHEMA IDENTIFIER($queue_schema) TO ROLE IDENTIFIER($poller);
GRANT USAGE ON SCHEMA IDENTIFIER($queue_schema) TO ROLE IDENTIFIER($processor);

-- Neither role may insert or delete entries; only producers do.
GRANT SELECT, UPDATE ON TABLE PROCESSING_QUEUE TO ROLE IDENTIFIER($poller);
GRANT SELECT, UPDATE ON TABLE PROCESSING_QUEUE TO ROLE IDENTIFIER($processor);
GRANT SELECT, INSERT ON TABLE PROCESSING_ATTEMPTS TO ROLE IDENTIFIER($poller);
GRANT SELECT, INSERT ON TABLE PROCESSING_ATTEMPTS TO ROLE IDENTIFIER($processor);
GRANT SELECT ON TABLE PROCESSORS TO ROLE IDENTIFIER($poller);
GRANT INSERT ON TABLE PROCESSORS TO ROLE IDENTIFIER($processor);
GRANT SELECT ON TABLE PROCESSING_HOLDS TO ROLE IDENTIFIER($poller);
GRANT SELECT, INSERT, DELETE ON TABLE PROCESSING_HOLDS TO ROLE IDENTIFIER($processor);
