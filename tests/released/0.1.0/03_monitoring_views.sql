-- Five views that answer frequent questions. Safe to run again. Times are UTC.

-- How many entries have each status, and how old is the oldest?
CREATE OR REPLACE VIEW QUEUE_STATUS_SUMMARY
COMMENT = 'Entries by status: number, ready to be claimed, retried, oldest and newest'
AS
SELECT status,
       COUNT(*) AS entries,
       COUNT_IF(status = 'pending' AND available_at <= SYSDATE()) AS ready,
       COUNT_IF(retry_count > 0) AS retried,
       MIN(created_at) AS oldest_created_at,
       MAX(created_at) AS newest_created_at,
       DATEDIFF('second', MIN(created_at), SYSDATE()) AS oldest_age_seconds
  FROM PROCESSING_QUEUE
 GROUP BY status;

-- For each day: how many entries completed and failed, and how long did they take from INSERT to completion?
CREATE OR REPLACE VIEW PROCESSING_METRICS
COMMENT = 'By day of insertion: entries, outcomes, and seconds from INSERT to completion'
AS
SELECT DATE_TRUNC('day', created_at)::DATE AS day,
       COUNT(*) AS entries,
       COUNT_IF(status = 'completed') AS completed,
       COUNT_IF(status = 'failed') AS failed,
       COUNT_IF(status = 'cancelled') AS cancelled,
       COUNT_IF(status IN ('pending', 'processing')) AS open,
       SUM(retry_count) AS counted_failures,
       ROUND(100 * COUNT_IF(status = 'completed')
             / NULLIF(COUNT_IF(status IN ('completed', 'failed')), 0), 2) AS success_percent,
       ROUND(AVG(DATEDIFF('millisecond', created_at, completed_at)) / 1000, 3) AS average_seconds_to_completed,
       ROUND(APPROX_PERCENTILE(DATEDIFF('millisecond', created_at, completed_at), 0.95) / 1000, 3)
           AS p95_seconds_to_completed
  FROM PROCESSING_QUEUE
 GROUP BY DATE_TRUNC('day', created_at)::DATE;

-- What did each processor deliver, how fast did the service answer it, and why did the processor end?
CREATE OR REPLACE VIEW PROCESSOR_PERFORMANCE
COMMENT = 'One row per processor: deliveries by outcome, their duration, and its end'
AS
SELECT deliveries.processor_id,
       deliveries.deliveries,
       deliveries.succeeded,
       deliveries.transient,
       deliveries.permanent,
       deliveries.interrupted,
       deliveries.doubtful,
       deliveries.lost_with_the_worker,
       deliveries.average_delivery_ms,
       deliveries.p95_delivery_ms,
       deliveries.first_delivery_at,
       deliveries.last_delivery_at,
       life.ended_at,
       life.seconds,
       life.reason
  FROM (SELECT processor_id,
               COUNT(*) AS deliveries,
               COUNT_IF(outcome = 'succeeded') AS succeeded,
               COUNT_IF(outcome = 'transient') AS transient,
               COUNT_IF(outcome = 'permanent') AS permanent,
               COUNT_IF(outcome = 'interrupted') AS interrupted,
               COUNT_IF(outcome = 'doubtful') AS doubtful,
               COUNT_IF(outcome IN ('crashed', 'reset')) AS lost_with_the_worker,
               ROUND(AVG(IFF(outcome IN ('succeeded', 'transient', 'permanent'),
                             DATEDIFF('millisecond', started_at, finished_at), NULL)), 1) AS average_delivery_ms,
               APPROX_PERCENTILE(IFF(outcome IN ('succeeded', 'transient', 'permanent'),
                                     DATEDIFF('millisecond', started_at, finished_at), NULL), 0.95) AS p95_delivery_ms,
               MIN(started_at) AS first_delivery_at,
               MAX(finished_at) AS last_delivery_at
          FROM PROCESSING_ATTEMPTS
         GROUP BY processor_id) AS deliveries
  LEFT JOIN (SELECT processor_id,
                    MAX(recorded_at) AS ended_at,
                    MAX(seconds) AS seconds,
                    MAX(reason) AS reason
               FROM PROCESSORS
              WHERE event = 'ended'
              GROUP BY processor_id) AS life
    ON life.processor_id = deliveries.processor_id;

-- Which claims are stale? The next tick resets them. The threshold is the setting STALE_THRESHOLD_MINUTES, as the processor that
-- started last recorded it; 30 minutes, the default, if none has.
CREATE OR REPLACE VIEW STALE_ENTRIES
COMMENT = 'In hand for longer than the stale threshold; the poller resets them with its next tick'
AS
SELECT id,
       reference,
       processor_id,
       claimed_at,
       DATEDIFF('second', COALESCE(claimed_at, available_at), SYSDATE()) AS in_hand_seconds,
       retry_count,
       crash_count
  FROM PROCESSING_QUEUE
 CROSS JOIN (SELECT COALESCE(MAX_BY(stale_threshold_s, recorded_at), 1800) AS threshold_s
               FROM PROCESSORS
              WHERE stale_threshold_s IS NOT NULL) AS setting
 WHERE status = 'processing'
   AND COALESCE(claimed_at, available_at) < DATEADD('second', -setting.threshold_s, SYSDATE());

-- Why do entries fail? Numbers in the messages become #, so that equal reasons are counted together.
CREATE OR REPLACE VIEW FAILED_ENTRIES_ANALYSIS
COMMENT = 'Failed entries by reason, with an example'
AS
SELECT response_status,
       REGEXP_REPLACE(error_message, '[0-9]+', '#') AS reason,
       COUNT(*) AS entries,
       ROUND(AVG(retry_count), 1) AS average_attempts,
       MIN(failed_at) AS first_failed_at,
       MAX(failed_at) AS last_failed_at,
       MAX(id) AS example_id,
       MAX(error_message) AS example_message
  FROM PROCESSING_QUEUE
 WHERE status = 'failed'
 GROUP BY response_status, REGEXP_REPLACE(error_message, '[0-9]+', '#');
