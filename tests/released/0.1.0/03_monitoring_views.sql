-- Eight views that answer frequent questions. Safe to run again; grants stay. Times are UTC.
--
-- Data, results and answers are shown only to a session that has the role QUEUE_DB_PAYLOAD; others see NULL there. `rowqueue
-- migrate` puts the name of the database in place of QUEUE_DB. Views with such a column are secure, so that no query sees what they
-- hide.

-- How many entries have each status, and how old is the oldest?
CREATE OR REPLACE VIEW QUEUE_STATUS_SUMMARY
COPY GRANTS
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
COPY GRANTS
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

-- What did each processor deliver, how fast did the service answer it, and why did the processor end? A row that was recorded
-- several times counts once: two ticks may record one death.
CREATE OR REPLACE VIEW PROCESSOR_PERFORMANCE
COPY GRANTS
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
          FROM (SELECT *
                  FROM PROCESSING_ATTEMPTS
               QUALIFY ROW_NUMBER() OVER (PARTITION BY entry_id, claim_token, idempotency_key, processor_id,
                                                       IFF(entry_status IS NULL, 0, 1)
                                          ORDER BY IFF(outcome = 'succeeded', 0, 1), recorded_at, finished_at) = 1) AS recorded
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
COPY GRANTS
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

-- Why do entries fail? Entries that failed for the same reason and got the same answer are one group, with an example.
-- Of an answer that is a JSON object, only the keys that say why are compared, if it has such keys: the others are about this
-- entry, such as a name. The text of other answers is compared. In texts each word with a digit in it becomes #: numbers, amounts,
-- ids, tokens, times and UUIDs. A code, a type and a status are compared as they are. To a session that may not see answers,
-- entries with the same reason are one group.
CREATE OR REPLACE SECURE VIEW FAILED_ENTRIES_ANALYSIS
COPY GRANTS
COMMENT = 'Failed entries by reason and answer, with an example'
AS
SELECT destination,
       response_status,
       reason,
       answer,
       COUNT(*) AS entries,
       ROUND(AVG(retry_count), 1) AS average_attempts,
       MIN(failed_at) AS first_failed_at,
       MAX(failed_at) AS last_failed_at,
       MAX(id) AS example_id,
       MAX_BY(error_message, id) AS example_message,
       IFF(IS_ROLE_IN_SESSION('QUEUE_DB_PAYLOAD'), MAX_BY(LEFT(result, 1000), id), NULL) AS example_answer
  FROM (SELECT id, destination, response_status, retry_count, failed_at, error_message, result,
               REGEXP_REPLACE(error_message, '[A-Za-z0-9_=-]*[0-9][A-Za-z0-9_=-]*([.,:+'' ][0-9][A-Za-z0-9_=-]*)*', '#') AS reason,
               IFF(IS_ROLE_IN_SESSION('QUEUE_DB_PAYLOAD'),
                   LEFT(REGEXP_REPLACE(REGEXP_REPLACE(COALESCE(NULLIF(causes, ''), IFF(codes LIKE 'code: %', '', LEFT(result, 4000))),
                            '[A-Za-z0-9_=-]*[0-9][A-Za-z0-9_=-]*([.,:+'' ][0-9][A-Za-z0-9_=-]*)*', '#'), '[[:space:]]+', ' '), 300)
                   || IFF(causes = '' AND codes NOT LIKE 'code: %', '', LEFT(codes, 200)),
                   NULL) AS answer
          FROM (SELECT id, destination, response_status, retry_count, failed_at, error_message, result,
                       COALESCE('error: ' || said:error::VARCHAR || '; ', '')
                       || COALESCE('error_description: ' || said:error_description::VARCHAR || '; ', '')
                       || COALESCE('errors: ' || said:errors::VARCHAR || '; ', '')
                       || COALESCE('message: ' || said:message::VARCHAR || '; ', '')
                       || COALESCE('title: ' || said:title::VARCHAR || '; ', '')
                       || COALESCE('detail: ' || said:detail::VARCHAR || '; ', '')
                       || COALESCE('details: ' || said:details::VARCHAR || '; ', '')
                       || COALESCE('reason: ' || said:reason::VARCHAR || '; ', '')
                       || COALESCE('description: ' || said:description::VARCHAR || '; ', '') AS causes,
                       COALESCE('code: ' || said:code::VARCHAR || '; ', '')
                       || COALESCE('type: ' || said:type::VARCHAR || '; ', '')
                       || COALESCE('status: ' || said:status::VARCHAR || '; ', '') AS codes
                  FROM (SELECT id, destination, response_status, retry_count, failed_at, error_message, result,
                               TRY_PARSE_JSON(result) AS said
                          FROM PROCESSING_QUEUE
                         WHERE status = 'failed') AS failures) AS answered) AS compared
 GROUP BY destination, response_status, reason, answer;

-- The entries, as in the table.
CREATE OR REPLACE SECURE VIEW QUEUE_ENTRIES
COPY GRANTS
COMMENT = 'The entries; data and result only for those who may see them'
AS
SELECT id,
       destination,
       IFF(IS_ROLE_IN_SESSION('QUEUE_DB_PAYLOAD'), entry.data, NULL) AS data,
       LENGTH(entry.data) AS data_characters,
       reference,
       parent_id,
       dedup_key,
       idempotency_key,
       traceparent,
       status,
       priority,
       available_at,
       retry_count,
       max_retries,
       crash_count,
       doubts,
       requeued,
       earlier_attempts,
       cancel_requested,
       created_at,
       updated_at,
       processor_id,
       claim_token,
       claimed_at,
       tried_at,
       completed_at,
       failed_at,
       cancelled_at,
       cancelled_by,
       cancel_reason,
       action_id,
       response_status,
       IFF(IS_ROLE_IN_SESSION('QUEUE_DB_PAYLOAD'), entry.result, NULL) AS result,
       error_message
  FROM PROCESSING_QUEUE AS entry;

-- The audit trail, as in the table.
CREATE OR REPLACE SECURE VIEW DELIVERY_ATTEMPTS
COPY GRANTS
COMMENT = 'Each delivery with its time, its worker and its outcome; the answer only for those who may see it'
AS
SELECT entry_id,
       claim_token,
       idempotency_key,
       attempt,
       processor_id,
       started_at,
       finished_at,
       outcome,
       response_status,
       error_message,
       entry_status,
       ready_at,
       IFF(IS_ROLE_IN_SESSION('QUEUE_DB_PAYLOAD'), delivery.result, NULL) AS result,
       milliseconds,
       trace_id,
       recorded_at
  FROM PROCESSING_ATTEMPTS AS delivery;

-- What happened to an entry? SELECT * FROM ENTRY_HISTORY WHERE entry_id = 42 ORDER BY place; with the producer's own key:
-- WHERE reference = 'order-47' ORDER BY entry_id, place. Two entries with one id have different keys, and a history each; an
-- action is shown with both. The key and the reference are in each PARTITION BY, so that Snowflake can filter first.
-- Claims have no rows of their own. The time of the present claim is in the entry; an earlier one was made before its first
-- delivery began, and has that time. The end of a task is shown with each entry that it claimed.
-- Ends have no rows of their own either. The present end is in the entry. An end before a requeue is the delivery that ended the
-- entry, or the action of a person: a cancel, if nothing after it says otherwise. An end by the poller is not on record then.
CREATE OR REPLACE SECURE VIEW ENTRY_HISTORY
COPY GRANTS
COMMENT = 'Each entry from its INSERT to its end, in order: claims, attempts, tasks, actions of people'
AS
SELECT entry_id,
       idempotency_key,
       reference,
       ROW_NUMBER() OVER (PARTITION BY entry_id, idempotency_key, reference ORDER BY happened_at, step, detail) AS place,
       happened_at,
       event,
       done_by,
       attempt,
       response_status,
       milliseconds,
       detail,
       IFF(IS_ROLE_IN_SESSION('QUEUE_DB_PAYLOAD'), events.answer, NULL) AS answer,
       trace_id
  FROM (SELECT id AS entry_id, idempotency_key, reference, created_at AS happened_at, 1 AS step, 'inserted' AS event,
               NULL::VARCHAR AS done_by, NULL::NUMBER(38, 0) AS attempt, NULL::NUMBER(38, 0) AS response_status, NULL::NUMBER(38, 0) AS milliseconds,
               'for ' || destination || COALESCE(', reference ' || reference, '') AS detail,
               NULL::VARCHAR AS answer, NULL::VARCHAR AS trace_id
          FROM PROCESSING_QUEUE
        UNION ALL
        SELECT changed.entry_id, entry.idempotency_key, entry.reference, done.acted_at, 2, done.action, done.acted_by, NULL, NULL,
               NULL, done.reason, NULL, NULL
          FROM PROCESSING_ACTION_ENTRIES AS changed
          JOIN PROCESSING_ACTIONS AS done
            ON done.action_id = changed.action_id
          LEFT JOIN (SELECT DISTINCT id, idempotency_key, reference FROM PROCESSING_QUEUE) AS entry
            ON entry.id = changed.entry_id
        UNION ALL
        SELECT entry_id, idempotency_key, reference, MIN(claimed_at), 3, 'claimed', MAX(processor_id), NULL, NULL, NULL, NULL, NULL,
               NULL
          FROM (SELECT id AS entry_id, idempotency_key, reference, claim_token, claimed_at, processor_id
                  FROM PROCESSING_QUEUE
                 WHERE claimed_at IS NOT NULL
                UNION ALL
                SELECT made.entry_id, COALESCE(made.idempotency_key, entry.idempotency_key), entry.reference, made.claim_token,
                       made.started_at, made.processor_id
                  FROM PROCESSING_ATTEMPTS AS made
                  LEFT JOIN (SELECT DISTINCT id, idempotency_key, reference FROM PROCESSING_QUEUE) AS entry
                    ON entry.id = made.entry_id
                   AND entry.idempotency_key = COALESCE(made.idempotency_key, entry.idempotency_key)) AS claims
         GROUP BY entry_id, idempotency_key, reference, claim_token
        UNION ALL
        SELECT entry_id, idempotency_key, reference, finished_at, IFF(entry_status IS NULL, 5, 4),
               IFF(entry_status IS NULL, 'taken away: ', 'delivered: ') || outcome,
               processor_id, attempt, response_status, milliseconds, error_message, result, trace_id
          FROM (SELECT made.entry_id, COALESCE(made.idempotency_key, entry.idempotency_key) AS idempotency_key, entry.reference,
                       made.claim_token, made.finished_at, made.recorded_at, made.entry_status, made.outcome, made.processor_id,
                       made.attempt, made.response_status, made.milliseconds, made.error_message, made.result, made.trace_id
                  FROM PROCESSING_ATTEMPTS AS made
                  LEFT JOIN (SELECT DISTINCT id, idempotency_key, reference FROM PROCESSING_QUEUE) AS entry
                    ON entry.id = made.entry_id
                   AND entry.idempotency_key = COALESCE(made.idempotency_key, entry.idempotency_key)) AS recorded
       QUALIFY ROW_NUMBER() OVER (PARTITION BY entry_id, idempotency_key, reference, claim_token, IFF(entry_status IS NULL, 0, 1)
                                  ORDER BY IFF(outcome = 'succeeded', 0, 1), recorded_at, finished_at) = 1
        UNION ALL
        SELECT id, idempotency_key, reference, COALESCE(completed_at, cancelled_at, failed_at), 6, status,
               IFF(status = 'cancelled', cancelled_by, processor_id), NULL, response_status, NULL,
               IFF(status = 'cancelled', cancel_reason, error_message), NULL, NULL
          FROM PROCESSING_QUEUE
         WHERE status IN ('completed', 'failed', 'cancelled')
        UNION ALL
        SELECT id, idempotency_key, reference, failed_at, 6, 'failed', processor_id, NULL, response_status, NULL, error_message,
               NULL, NULL
          FROM PROCESSING_QUEUE
         WHERE status = 'cancelled'
           AND failed_at IS NOT NULL
        UNION ALL
        SELECT entry_id, idempotency_key, reference, IFF(kind = 'cancel', GREATEST(fact_at, COALESCE(last_retry_at, fact_at)), fact_at),
               6,
               IFF(kind IN ('cancel', 'discard'), 'cancelled', kind), done_by, NULL, response_status, NULL, detail, NULL, NULL
          FROM (SELECT facts.*,
                       MAX(IFF(kind = 'pending', fact_at, NULL)) OVER (PARTITION BY entry_id, idempotency_key, reference, later_requeues) AS last_retry_at,
                       MAX(IFF(kind NOT IN ('pending', 'cancel', 'requeue'), fact_at, NULL))
                           OVER (PARTITION BY entry_id, idempotency_key, reference, later_requeues) AS last_other_at
                  FROM (SELECT made.*,
                               SUM(IFF(kind = 'requeue', 1, 0)) OVER (PARTITION BY entry_id, idempotency_key, reference)
                               - SUM(IFF(kind = 'requeue', 1, 0))
                                     OVER (PARTITION BY entry_id, idempotency_key, reference ORDER BY fact_at
                                           ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS later_requeues
                          FROM (SELECT made.entry_id, COALESCE(made.idempotency_key, entry.idempotency_key) AS idempotency_key,
                                       entry.reference, made.recorded_at AS fact_at,
                                       COALESCE(made.entry_status, 'taken away') AS kind, made.processor_id AS done_by,
                                       made.response_status, made.error_message AS detail
                                  FROM PROCESSING_ATTEMPTS AS made
                                  LEFT JOIN (SELECT DISTINCT id, idempotency_key, reference FROM PROCESSING_QUEUE) AS entry
                                    ON entry.id = made.entry_id
                                   AND entry.idempotency_key = COALESCE(made.idempotency_key, entry.idempotency_key)
                                UNION ALL
                                SELECT changed.entry_id, entry.idempotency_key, entry.reference, done.acted_at, done.action,
                                       done.acted_by, NULL, done.reason
                                  FROM PROCESSING_ACTION_ENTRIES AS changed
                                  JOIN PROCESSING_ACTIONS AS done
                                    ON done.action_id = changed.action_id
                                  LEFT JOIN (SELECT DISTINCT id, idempotency_key, reference FROM PROCESSING_QUEUE) AS entry
                                    ON entry.id = changed.entry_id
                                 WHERE done.action IN ('cancel', 'discard', 'requeue')) AS made) AS facts) AS lives
         WHERE later_requeues > 0
           AND kind NOT IN ('pending', 'requeue', 'taken away')
           AND (kind <> 'cancel' OR last_other_at IS NULL OR last_other_at < fact_at)
       QUALIFY ROW_NUMBER() OVER (PARTITION BY entry_id, idempotency_key, reference, later_requeues, kind ORDER BY fact_at DESC) = 1
        UNION ALL
        SELECT worked.entry_id, worked.idempotency_key, worked.reference, ended.recorded_at, 7, 'task ended', ended.processor_id,
               NULL, NULL, NULL, ended.reason, NULL, NULL
          FROM (SELECT id AS entry_id, idempotency_key, reference, processor_id FROM PROCESSING_QUEUE
                UNION
                SELECT made.entry_id, COALESCE(made.idempotency_key, entry.idempotency_key), entry.reference, made.processor_id
                  FROM PROCESSING_ATTEMPTS AS made
                  LEFT JOIN (SELECT DISTINCT id, idempotency_key, reference FROM PROCESSING_QUEUE) AS entry
                    ON entry.id = made.entry_id
                   AND entry.idempotency_key = COALESCE(made.idempotency_key, entry.idempotency_key)) AS worked
          JOIN PROCESSORS AS ended
            ON ended.processor_id = worked.processor_id
           AND ended.event = 'ended') AS events;
