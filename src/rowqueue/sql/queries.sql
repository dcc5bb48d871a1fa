-- Every statement that the poller and the processors send.
--
-- `-- name: x` starts a statement; the comment lines below it say what it does and what guards it.
-- %(name)s is bound by the server (qmark); {queue} is the queue table's name, validated, and {max_retries} the setting; both
-- are put in once at start.
-- Times are SYSDATE(): UTC and Snowflake's own clock. CURRENT_TIMESTAMP follows the session's time zone, and a worker's clock
-- is nobody's. Snowflake has no UPDATE ... RETURNING, no SKIP LOCKED and no FOR UPDATE on standard tables.

-- name: pulse
-- What an idle tick needs to know. Constant text, no bind, no clock: on untouched tables Snowflake may answer it from the
-- result cache, which wakes no warehouse. The poller compares the times with its own clock, with a margin; it never writes by them.
-- What is finished is left out: a table holds far more of that than of anything else.
SELECT entries.pending, entries.exhausted, entries.earliest_available_at, entries.processing, entries.earliest_claimed_at, entries.unknown,
       holds.holds, holds.held_until, holds.reason
  FROM (SELECT COUNT(IFF(status = 'pending' AND retry_count < COALESCE(max_retries, {max_retries}), 1, NULL)) AS pending,
               COUNT(IFF(status = 'pending' AND retry_count >= COALESCE(max_retries, {max_retries}), 1, NULL)) AS exhausted,
               MIN(IFF(status = 'pending' AND retry_count < COALESCE(max_retries, {max_retries}), available_at, NULL))
                   AS earliest_available_at,
               COUNT(IFF(status = 'processing', 1, NULL)) AS processing,
               MIN(IFF(status = 'processing', COALESCE(claimed_at, available_at), NULL)) AS earliest_claimed_at,
               COUNT(IFF(status IN ('pending', 'processing', 'completed', 'failed', 'cancelled'), NULL, 1)) AS unknown
          FROM {queue}
         WHERE status NOT IN ('completed', 'failed', 'cancelled')) AS entries
 CROSS JOIN (SELECT COUNT(*) AS holds,
                    MAX(COALESCE(until_at, '9999-12-31 00:00:00'::TIMESTAMP_NTZ)) AS held_until,
                    MAX(reason) AS reason
               FROM PROCESSING_HOLDS
              WHERE scope = '*') AS holds

-- name: count_ready
-- Entries that a claim would take now: none while there is a hold, also one that has ended and awaits its probe.
-- Those that a worker has died on are also told apart: only a worker that holds nothing gets one.
SELECT COUNT(*) AS entries, COUNT(IFF(crash_count > 0, 1, NULL)) AS suspects
  FROM {queue}
 WHERE status = 'pending'
   AND available_at <= SYSDATE()
   AND retry_count < COALESCE(max_retries, %(max_retries)s)
   AND NOT EXISTS (SELECT 1
                     FROM PROCESSING_HOLDS
                    WHERE scope = '*'
                      AND (%(probe)s = 0 OR until_at IS NULL OR until_at > SYSDATE()))

-- name: claim
-- One worker takes a batch: the best ready entries, bounded by number and by characters (the first is always taken).
-- A hold keeps all but a probe from claiming; a hold that stands keeps the probe too.
-- Entries that a worker has died on are claimed only by a worker that holds nothing: after one death among their like, after more
-- each of them alone. If it kills then, it is known.
-- The outer status guard keeps a statement that waited for the lock from taking what another took meanwhile.
-- The batch is cut by QUALIFY, for Snowflake does not reliably accept a bind in LIMIT ("Invalid row count '?' in limit
-- clause"); the constant LIMIT below it only bounds the sort.
UPDATE {queue}
   SET status = 'processing',
       claim_token = %(claim_token)s,
       processor_id = %(processor_id)s,
       claimed_at = SYSDATE()
  FROM (SELECT id AS ready_id
          FROM (SELECT id, priority, available_at, LENGTH(data) AS characters,
                       IFF(crash_count > 0, 1, 0) AS suspect, IFF(crash_count > 1, 1, 0) AS alone
                  FROM {queue}
                 WHERE status = 'pending'
                   AND available_at <= SYSDATE()
                   AND retry_count < COALESCE(max_retries, %(max_retries)s)
                   AND (crash_count = 0 OR %(holds_nothing)s = 1)
                   AND NOT EXISTS (SELECT 1
                                     FROM PROCESSING_HOLDS
                                    WHERE scope = '*'
                                      AND (%(probe)s = 0 OR until_at IS NULL OR until_at > SYSDATE()))
                 ORDER BY priority DESC, available_at, id
                 LIMIT 10000) AS candidates
       QUALIFY SUM(characters) OVER (ORDER BY priority DESC, available_at, id
                                     ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) - characters < %(characters)s
           AND ROW_NUMBER() OVER (ORDER BY priority DESC, available_at, id)
               <= CASE WHEN SUM(suspect) OVER (ORDER BY priority DESC, available_at, id
                                               ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) = 0
                       THEN %(entries)s
                       WHEN SUM(suspect) OVER (ORDER BY priority DESC, available_at, id
                                               ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
                            = ROW_NUMBER() OVER (ORDER BY priority DESC, available_at, id)
                        AND SUM(alone) OVER (ORDER BY priority DESC, available_at, id
                                             ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) = 0
                       THEN %(suspects)s
                       ELSE 1
                  END) AS ready
 WHERE id = ready.ready_id
   AND status = 'pending'

-- name: claimed
-- The entries of one claim, by its token: what the claim took, or what it had taken when the connection broke.
SELECT id, data, idempotency_key, retry_count, max_retries, crash_count, DATEDIFF('second', created_at, SYSDATE()) AS age_s
  FROM {queue}
 WHERE claim_token = %(claim_token)s
   AND status = 'processing'
 ORDER BY priority DESC, available_at, id

-- name: insert_attempts
-- The audit trail, written before the settle. Only what is not there yet, so that sending it twice does no harm.
-- The worker sends how long ago an attempt started and ended, not when: the clock is Snowflake's. Each row comes as an array.
INSERT INTO PROCESSING_ATTEMPTS (entry_id, claim_token, attempt, processor_id, started_at, finished_at,
                                 outcome, response_status, error_message)
SELECT made.entry_id,
       made.claim_token,
       made.attempt,
       %(processor_id)s,
       DATEADD('millisecond', -made.started_ms_ago, SYSDATE()),
       DATEADD('millisecond', -made.finished_ms_ago, SYSDATE()),
       made.outcome,
       made.response_status,
       made.error_message
  FROM (SELECT a.value[0]::VARCHAR AS claim_token,
               a.value[1]::NUMBER(38, 0) AS attempt,
               a.value[2]::VARCHAR AS outcome,
               a.value[3]::NUMBER(38, 0) AS response_status,
               a.value[4]::VARCHAR AS error_message,
               a.value[5]::NUMBER(38, 0) AS entry_id,
               a.value[6]::NUMBER(38, 0) AS started_ms_ago,
               a.value[7]::NUMBER(38, 0) AS finished_ms_ago
          FROM TABLE(FLATTEN(INPUT => PARSE_JSON(%(attempts)s))) AS a) AS made
  LEFT JOIN PROCESSING_ATTEMPTS AS recorded
    ON recorded.entry_id = made.entry_id
   AND recorded.claim_token = made.claim_token
 WHERE recorded.entry_id IS NULL

-- name: settle
-- Write the outcomes of a whole batch back, in one statement, each fenced by its claim token: a worker that lost its claim
-- changes nothing. Rows changed are compared with rows sent. Each row comes as an array: names would be most of it.
UPDATE {queue}
   SET status = settled.new_status,
       retry_count = retry_count + settled.counted,
       available_at = IFF(settled.new_status = 'pending' AND settled.released = 0,
                          DATEADD('millisecond', settled.delay_ms, SYSDATE()), available_at),
       processor_id = IFF(settled.released = 1, NULL, processor_id),
       claimed_at = IFF(settled.released = 1, NULL, claimed_at),
       completed_at = IFF(settled.new_status = 'completed', SYSDATE(), NULL),
       failed_at = IFF(settled.new_status = 'failed', SYSDATE(), NULL),
       response_status = IFF(settled.released = 1, response_status, settled.new_response_status),
       result = IFF(settled.released = 1, result, settled.new_result),
       error_message = IFF(settled.released = 1, error_message, settled.new_error_message)
  FROM (SELECT s.value[0]::NUMBER(38, 0) AS settled_id,
               s.value[1]::VARCHAR AS settled_token,
               s.value[2]::VARCHAR AS new_status,
               s.value[3]::NUMBER(38, 0) AS counted,
               s.value[4]::NUMBER(38, 0) AS released,
               s.value[5]::NUMBER(38, 0) AS delay_ms,
               s.value[6]::NUMBER(38, 0) AS new_response_status,
               s.value[7]::VARCHAR AS new_result,
               s.value[8]::VARCHAR AS new_error_message
          FROM TABLE(FLATTEN(INPUT => PARSE_JSON(%(settlements)s))) AS s) AS settled
 WHERE id = settled.settled_id
   AND claim_token = settled.settled_token
   AND status = 'processing'

-- name: settled
-- Where the entries of these claims stand now: asked when a settle changed fewer rows than it was sent, to tell a claim
-- that was lost from a settle that had run already, before the connection broke.
SELECT q.id, q.status
  FROM {queue} AS q
  JOIN (SELECT s.value:entry_id::NUMBER(38, 0) AS entry_id,
               s.value:claim_token::VARCHAR AS token
          FROM TABLE(FLATTEN(INPUT => PARSE_JSON(%(settlements)s))) AS s) AS sent
    ON q.id = sent.entry_id
   AND q.claim_token = sent.token
 WHERE q.status <> 'processing'

-- name: holders
-- Who holds claims: compared with what ECS says of them.
SELECT processor_id, COUNT(*) AS entries, MIN(claimed_at) AS earliest_claimed_at
  FROM {queue}
 WHERE status = 'processing'
 GROUP BY processor_id

-- name: record_deaths
-- What dead workers held goes into the audit trail before it is freed: from the claim to now, for nobody knows whether it was
-- delivered. Not what the worker has recorded itself.
INSERT INTO PROCESSING_ATTEMPTS (entry_id, claim_token, attempt, processor_id, started_at, finished_at, outcome, error_message)
SELECT held.id,
       COALESCE(held.claim_token, 'none'),
       held.retry_count + 1,
       held.processor_id,
       COALESCE(held.claimed_at, SYSDATE()),
       SYSDATE(),
       dead.outcome,
       dead.reason
  FROM {queue} AS held
  JOIN (SELECT d.value:processor_id::VARCHAR AS dead_id,
               IFF(d.value:crashed::NUMBER(38, 0) = 1, 'crashed', 'interrupted') AS outcome,
               d.value:reason::VARCHAR AS reason
          FROM TABLE(FLATTEN(INPUT => PARSE_JSON(%(deaths)s))) AS d) AS dead
    ON dead.dead_id = held.processor_id
  LEFT JOIN PROCESSING_ATTEMPTS AS recorded
    ON recorded.entry_id = held.id
   AND recorded.claim_token = held.claim_token
 WHERE held.status = 'processing'
   AND recorded.entry_id IS NULL

-- name: fail_poison
-- An entry that a worker has died on while it held nothing else, after so many had died on it before.
UPDATE {queue}
   SET status = 'failed',
       failed_at = SYSDATE(),
       error_message = LEFT('poison: ' || (crash_count + 1) || ' workers have died holding it; the last: ' || dead.reason, 1000),
       crash_count = crash_count + 1
  FROM (SELECT d.value:processor_id::VARCHAR AS dead_id,
               d.value:reason::VARCHAR AS reason
          FROM TABLE(FLATTEN(INPUT => PARSE_JSON(%(deaths)s))) AS d) AS dead
 WHERE processor_id = dead.dead_id
   AND status = 'processing'
   AND crash_count >= %(max_crashes)s

-- name: release_dead
-- Give back what dead workers held. It counts as a retry only where the worker could deliver and not record, or the same
-- entries would be delivered for ever. The token goes too: a last write of theirs may still wait for the lock.
UPDATE {queue}
   SET status = IFF(dead.counted = 1 AND retry_count + 1 >= COALESCE(max_retries, %(max_retries)s), 'failed', 'pending'),
       failed_at = IFF(dead.counted = 1 AND retry_count + 1 >= COALESCE(max_retries, %(max_retries)s), SYSDATE(), NULL),
       retry_count = retry_count + dead.counted,
       crash_count = crash_count + dead.crashed,
       error_message = IFF(dead.crashed + dead.counted > 0, dead.reason, error_message),
       claim_token = NULL,
       processor_id = NULL,
       claimed_at = NULL
  FROM (SELECT d.value:processor_id::VARCHAR AS dead_id,
               d.value:crashed::NUMBER(38, 0) AS crashed,
               d.value:counted::NUMBER(38, 0) AS counted,
               d.value:reason::VARCHAR AS reason
          FROM TABLE(FLATTEN(INPUT => PARSE_JSON(%(deaths)s))) AS d) AS dead
 WHERE processor_id = dead.dead_id
   AND status = 'processing'

-- name: record_resets
-- Stale claims go into the audit trail before they are reset. A row that somebody set to processing by hand has no claim.
INSERT INTO PROCESSING_ATTEMPTS (entry_id, claim_token, attempt, processor_id, started_at, finished_at, outcome, error_message)
SELECT held.id,
       COALESCE(held.claim_token, 'none'),
       held.retry_count + 1,
       COALESCE(held.processor_id, 'unknown'),
       COALESCE(held.claimed_at, held.available_at),
       SYSDATE(),
       'reset',
       'no answer within the stale threshold'
  FROM {queue} AS held
  LEFT JOIN PROCESSING_ATTEMPTS AS recorded
    ON recorded.entry_id = held.id
   AND recorded.claim_token = held.claim_token
 WHERE held.status = 'processing'
   AND COALESCE(held.claimed_at, held.available_at) < DATEADD('second', -%(stale_threshold_s)s, SYSDATE())
   AND recorded.entry_id IS NULL

-- name: reset_stale
-- Take claims away from workers that are gone. It counts as a retry, since nobody knows what happened; an entry out of
-- attempts goes to failed, with the reason. Only claims that are stale now, by Snowflake's clock.
UPDATE {queue}
   SET status = IFF(retry_count + 1 >= COALESCE(max_retries, %(max_retries)s), 'failed', 'pending'),
       failed_at = IFF(retry_count + 1 >= COALESCE(max_retries, %(max_retries)s), SYSDATE(), NULL),
       error_message = 'no answer from ' || COALESCE(processor_id, 'an unknown worker') || ' within the stale threshold'
                       || IFF(retry_count + 1 >= COALESCE(max_retries, %(max_retries)s), ', and no attempts left', ''),
       retry_count = retry_count + 1,
       claim_token = NULL,
       processor_id = NULL,
       claimed_at = NULL
 WHERE status = 'processing'
   AND COALESCE(claimed_at, available_at) < DATEADD('second', -%(stale_threshold_s)s, SYSDATE())

-- name: fail_exhausted
-- Pending entries that no claim will ever take: a limit was lowered, or a requeue forgot retry_count.
UPDATE {queue}
   SET status = 'failed',
       failed_at = SYSDATE(),
       error_message = LEFT(COALESCE(error_message || '; ', '') || 'no attempts left: to requeue, set retry_count to 0', 1000)
 WHERE status = 'pending'
   AND retry_count >= COALESCE(max_retries, %(max_retries)s)

-- name: processors_seen
-- Which of these processors have made their first claim. A live task that has not is still starting.
SELECT DISTINCT processor_id
  FROM PROCESSORS
 WHERE processor_id IN (SELECT p.value::VARCHAR FROM TABLE(FLATTEN(INPUT => PARSE_JSON(%(processor_ids)s))) AS p)

-- name: recent_take
-- What a task took of late, the median: for how many entries one more is worth starting.
SELECT MEDIAN(entries) AS entries
  FROM PROCESSORS
 WHERE event = 'ended'
   AND entries > 0
   AND recorded_at > DATEADD('hour', -1, SYSDATE())

-- name: record_processor
-- One row at a processor's first claim (also an empty one), one at its end.
INSERT INTO PROCESSORS (processor_id, event, entries, seconds, reason)
SELECT %(processor_id)s, %(event)s, %(entries)s, %(seconds)s, %(reason)s

-- name: place_hold
-- Nothing is claimed until it ends. A fleet that meets the same fault places one, or a few at the same moment.
INSERT INTO PROCESSING_HOLDS (scope, reason, until_at, created_by)
SELECT placed.scope, placed.reason, DATEADD('second', placed.seconds, SYSDATE()), placed.created_by
  FROM (SELECT '*' AS scope, %(reason)s AS reason, %(seconds)s AS seconds, %(created_by)s AS created_by) AS placed
 WHERE NOT EXISTS (SELECT 1 FROM PROCESSING_HOLDS WHERE scope = '*' AND (until_at IS NULL OR until_at > SYSDATE()))

-- name: lift_ended_holds
-- After a probe that was answered. A hold that still stands was placed since, or by a person, and stays.
DELETE FROM PROCESSING_HOLDS
 WHERE scope = '*'
   AND until_at <= SYSDATE()
