-- Optional: limit the credits that the queue's warehouse may use in a month.
--
-- The cost of the warehouse follows the minutes in which it runs. Running all day, the warehouse of 00_roles.sql uses 24 credits
-- a day, about 730 a month. With the quota below, the monitor warns at half of that, and suspends only a warehouse that costs more:
-- a larger one, for example. Set a smaller quota if entries arrive only at some hours.
-- A suspended warehouse stops the queue until the quota is increased or the month ends. Entries wait, and none is lost. SUSPEND
-- lets statements that run end, but tasks cannot settle what they have delivered: those entries may be delivered again. The alarm
-- `heartbeat` goes off. Administrators get a notification only if they have enabled it in Snowsight. These statements were checked,
-- but never run on a real account. To verify them there:
--   SHOW RESOURCE MONITORS LIKE 'QUEUE_WH_CREDITS';
--
-- Run this once as ACCOUNTADMIN, with the name of your warehouse:

CREATE RESOURCE MONITOR IF NOT EXISTS QUEUE_WH_CREDITS WITH
    CREDIT_QUOTA = 750
    FREQUENCY = MONTHLY
    START_TIMESTAMP = IMMEDIATELY
    TRIGGERS ON 50 PERCENT DO NOTIFY
             ON 90 PERCENT DO NOTIFY
             ON 100 PERCENT DO SUSPEND;

ALTER WAREHOUSE QUEUE_WH SET RESOURCE_MONITOR = QUEUE_WH_CREDITS;
