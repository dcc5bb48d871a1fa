-- Every statement that the poller and the processors send.
--
-- `-- name: x` starts a statement. The comment lines below it say what it does and what guards it.
-- %(name)s is a value that the server binds (qmark). {queue} and {destination}, validated names, {max_retries}, the setting, and
-- {program}, the version of the schema that this program knows, are put into the text once, at start; {settlement.x}, {attempt.x}
-- and {claimed.x} are the positions of fields in rows that are sent as arrays (rowqueue/sql/__init__.py declares them).
-- Times are SYSDATE(): UTC, by Snowflake's clock. CURRENT_TIMESTAMP depends on the session's time zone, and the clocks of workers
-- may differ. Snowflake has no UPDATE ... RETURNING, no SKIP LOCKED, and no FOR UPDATE on standard tables.

-- name: pulse
-- What an idle tick needs to know. The text is constant, without bound values and without a clock function, so that Snowflake can
-- answer it from the result cache while the tables do not change, and no warehouse resumes. The poller compares the times with
-- its own clock and a margin. It never writes a time of that clock.
-- Finished entries are left out: they are most of the table. Each part has a plain condition of its own, so that Snowflake skips
-- the micro-partitions that cannot have such entries; one scan for all parts takes five times as long with a million entries.
-- A time after the year 9999, which a person may write, is cut: the driver cannot convert it, and then every tick would fail.
-- Claims of every destination count, because a reset and a rescue take them all. Pending entries are those of this program's
-- destination; the others are unserved.
SELECT ours.pending, ours.exhausted, ours.earliest_available_at, claims.processing, claims.earliest_claimed_at, others.unknown,
       cancelled.cancels, unserved.unserved, unserved.unserved_destination,
       holds.holds, holds.held_until, holds.reason, holds.kind, holds.fenced_since,
       versions.version, versions.oldest_program
  FROM (SELECT COUNT(IFF(has_attempts, 1, NULL)) AS pending,
               COUNT(IFF(has_attempts, NULL, 1)) AS exhausted,
               MIN(IFF(has_attempts, LEAST(available_at, '9999-12-31 00:00:00'::TIMESTAMP_NTZ), NULL)) AS earliest_available_at
          FROM (SELECT available_at, retry_count < COALESCE(max_retries, {max_retries}) AS has_attempts
                  FROM {queue}
                 WHERE status = 'pending'
                   AND destination = {destination}
                   AND NOT cancel_requested) AS entries) AS ours
 CROSS JOIN (SELECT COUNT(*) AS processing, MIN(COALESCE(claimed_at, available_at)) AS earliest_claimed_at
               FROM {queue}
              WHERE status = 'processing') AS claims
 CROSS JOIN (SELECT COUNT(*) AS unknown
               FROM {queue}
              WHERE status NOT IN ('pending', 'processing', 'completed', 'failed', 'cancelled')) AS others
 CROSS JOIN (SELECT COUNT(*) AS cancels
               FROM {queue}
              WHERE status = 'pending'
                AND cancel_requested) AS cancelled
 CROSS JOIN (SELECT COUNT(*) AS unserved, MIN(destination) AS unserved_destination
               FROM {queue}
              WHERE status = 'pending'
                AND destination <> {destination}
                AND NOT cancel_requested) AS unserved
 CROSS JOIN (SELECT COUNT(*) AS holds,
                    MAX(LEAST(COALESCE(until_at, '9999-12-31 00:00:00'::TIMESTAMP_NTZ), '9999-12-31 00:00:00'::TIMESTAMP_NTZ))
                        AS held_until,
                    MAX_BY(reason, COALESCE(until_at, '9999-12-31 00:00:00'::TIMESTAMP_NTZ)) AS reason,
                    MAX_BY(kind, COALESCE(until_at, '9999-12-31 00:00:00'::TIMESTAMP_NTZ)) AS kind,
                    MIN(IFF(kind = 'fence', created_at, NULL)) AS fenced_since
               FROM PROCESSING_HOLDS
              WHERE scope IN ('*', {destination})) AS holds
 CROSS JOIN (SELECT MAX(version) AS version, MAX(oldest_program) AS oldest_program
               FROM SCHEMA_VERSION) AS versions

-- name: schema_version
-- Which version the tables have, and which programs may claim. A processor asks once, before its first claim. The poller asks only
-- if the pulse names something that is missing.
SELECT MAX(version) AS version, MAX(oldest_program) AS oldest_program
  FROM SCHEMA_VERSION

-- name: count_ready
-- Entries that a claim would take now. While there is a hold, the count is 0, also when the hold has ended and waits for its probe.
-- It is 0 for a program that is older than the schema permits.
-- Suspects, which a worker has died on, are counted apart: only a worker with nothing in hand gets them.
SELECT COUNT(*) AS entries, COUNT(IFF(crash_count > 0, 1, NULL)) AS suspects
  FROM {queue}
 WHERE status = 'pending'
   AND destination = %(destination)s
   AND NOT cancel_requested
   AND available_at <= SYSDATE()
   AND retry_count < COALESCE(max_retries, %(max_retries)s)
   AND NOT EXISTS (SELECT 1
                     FROM PROCESSING_HOLDS
                    WHERE scope IN ('*', %(destination)s)
                      AND (%(probe)s = 0 OR until_at IS NULL OR until_at > SYSDATE()))
   AND NOT EXISTS (SELECT 1 FROM SCHEMA_VERSION WHERE oldest_program > {program})

-- name: claim
-- One worker takes a block: the best ready entries of its destination, bounded by number and by characters (the first is always
-- taken). A program that is older than the schema permits gets nothing.
-- While a hold stands, nothing is claimed. When it has ended, only a probe claims: the entry least recently tried, whatever its
-- priority, so that one entry cannot keep all others waiting.
-- Suspects are claimed only by a worker with nothing in hand: crash_count = 1 up to %(suspects)s together; crash_count > 1 one at a
-- time, so that a further crash identifies the entry.
-- The conditions of the outer WHERE matter when the statement waited for the lock: another claim may have taken entries meanwhile.
-- They also keep out a copy of a row that has its id and key and is not ready. Copies that are ready are claimed together, and get
-- the largest of their counts and the smallest of their limits. So whatever is decided by these ends all of them alike.
-- The best ids are found first, without their data: Snowflake would otherwise read the data of all ready entries for each claim.
-- An id may have several entries, so the block is cut once more.
-- QUALIFY cuts the block, because Snowflake does not reliably accept a bound value in LIMIT ("Invalid row count '?' in limit
-- clause"). The constant LIMIT only bounds the sort.
UPDATE {queue}
   SET status = 'processing',
       claim_token = %(claim_token)s,
       processor_id = %(processor_id)s,
       claimed_at = SYSDATE(),
       tried_at = SYSDATE(),
       updated_at = SYSDATE(),
       retry_count = GREATEST(retry_count, ready.retries),
       earlier_attempts = GREATEST(earlier_attempts, ready.earlier),
       crash_count = GREATEST(crash_count, ready.crashes),
       doubts = GREATEST(doubts, ready.most_doubts),
       max_retries = IFF(ready.copies > 1, ready.retry_limit, max_retries)
  FROM (SELECT ready_id, ready_key, copies, retries, earlier, crashes, most_doubts, retry_limit
          FROM (SELECT id AS ready_id, idempotency_key AS ready_key, characters,
                       COUNT(*) OVER (PARTITION BY id, idempotency_key) AS copies,
                       MAX(retry_count) OVER (PARTITION BY id, idempotency_key) AS retries,
                       MAX(earlier_attempts) OVER (PARTITION BY id, idempotency_key) AS earlier,
                       MAX(crash_count) OVER (PARTITION BY id, idempotency_key) AS crashes,
                       MAX(doubts) OVER (PARTITION BY id, idempotency_key) AS most_doubts,
                       MIN(max_retries) OVER (PARTITION BY id, idempotency_key) AS retry_limit,
                       ROW_NUMBER() OVER (ORDER BY tried, priority DESC, available_at, id, idempotency_key) AS place
                  FROM (SELECT id, idempotency_key, priority, available_at, LENGTH(data) AS characters,
                               IFF(%(probe)s = 1, COALESCE(tried_at, '1970-01-01 00:00:00'::TIMESTAMP_NTZ), NULL) AS tried,
                               retry_count, earlier_attempts, crash_count, doubts, max_retries
                          FROM {queue}
                          JOIN (SELECT id AS best_id
                                  FROM (SELECT id, ROW_NUMBER() OVER (ORDER BY tried, priority DESC, available_at, id) AS place
                                          FROM (SELECT id, priority, available_at,
                                                       IFF(%(probe)s = 1, COALESCE(tried_at, '1970-01-01 00:00:00'::TIMESTAMP_NTZ),
                                                           NULL) AS tried
                                                  FROM {queue}
                                                 WHERE status = 'pending'
                                                   AND destination = %(destination)s
                                                   AND NOT cancel_requested
                                                   AND available_at <= SYSDATE()
                                                   AND retry_count < COALESCE(max_retries, %(max_retries)s)
                                                   AND (crash_count = 0 OR %(nothing_in_hand)s = 1)
                                                   AND NOT EXISTS (SELECT 1
                                                                     FROM PROCESSING_HOLDS
                                                                    WHERE scope IN ('*', %(destination)s)
                                                                      AND (%(probe)s = 0 OR until_at IS NULL
                                                                           OR until_at > SYSDATE()))
                                                   AND NOT EXISTS (SELECT 1 FROM SCHEMA_VERSION WHERE oldest_program > {program})
                                                 ORDER BY tried, priority DESC, available_at, id
                                                 LIMIT 10000) AS first_rows) AS numbered
                                 GROUP BY id
                               QUALIFY ROW_NUMBER() OVER (ORDER BY MIN(place)) <= %(entries)s + %(suspects)s) AS best
                            ON id = best.best_id
                         WHERE status = 'pending'
                           AND destination = %(destination)s
                           AND NOT cancel_requested
                           AND available_at <= SYSDATE()
                           AND retry_count < COALESCE(max_retries, %(max_retries)s)
                           AND (crash_count = 0 OR %(nothing_in_hand)s = 1)) AS candidates
               QUALIFY ROW_NUMBER() OVER (PARTITION BY id, idempotency_key
                                          ORDER BY tried, priority DESC, available_at) = 1) AS ranked
       QUALIFY SUM(characters) OVER (ORDER BY place ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) - characters
               < %(characters)s
           AND ROW_NUMBER() OVER (ORDER BY place)
               <= CASE WHEN MAX(crashes) OVER (ORDER BY place ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) = 0
                       THEN %(entries)s
                       WHEN MIN(crashes) OVER (ORDER BY place ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) > 0
                        AND MAX(crashes) OVER (ORDER BY place ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) = 1
                       THEN %(suspects)s
                       ELSE 1
                  END) AS ready
 WHERE id = ready.ready_id
   AND idempotency_key = ready.ready_key
   AND status = 'pending'
   AND destination = %(destination)s
   AND NOT cancel_requested
   AND available_at <= SYSDATE()
   AND retry_count < COALESCE(max_retries, %(max_retries)s)
   AND (crash_count = 0 OR %(nothing_in_hand)s = 1)

-- name: claimed
-- The entries of one claim, by its token: read after the claim, and also when the connection broke during the claim.
-- Data that is too long to be delivered is left out, because it may not fit into the task's memory.
SELECT id, IFF(LENGTH(data) > %(longest)s, '', data) AS data, idempotency_key, retry_count, max_retries, crash_count, doubts,
       DATEDIFF('second', created_at, SYSDATE()) AS age_s, LENGTH(data) AS characters, earlier_attempts, traceparent
  FROM {queue}
 WHERE claim_token = %(claim_token)s
   AND status = 'processing'
 ORDER BY priority DESC, available_at, id

-- name: look
-- What people have said since these claims: whether a hold stands, and which of their entries are cancelled. It takes no lock. There
-- is always a row, with the number of holds and perhaps without an entry.
-- The claims are one bound value, so that it stays one statement with any number of them.
SELECT holds.standing, cancelled.id, cancelled.claim_token, cancelled.idempotency_key
  FROM (SELECT COUNT(*) AS standing
          FROM PROCESSING_HOLDS
         WHERE scope IN ('*', %(destination)s)
           AND (until_at IS NULL OR until_at > SYSDATE())) AS holds
  LEFT JOIN (SELECT id, claim_token, idempotency_key
               FROM {queue}
              WHERE cancel_requested
                AND status = 'processing'
                AND claim_token IN (SELECT t.value::VARCHAR FROM TABLE(FLATTEN(INPUT => PARSE_JSON(%(tokens)s))) AS t)) AS cancelled
    ON TRUE

-- name: insert_attempts
-- The audit trail, and with it the outcomes that `settle` reads. Attempts that this worker has recorded already are left out, so
-- sending it twice does no harm. What the poller has recorded about a claim does not keep the worker's own outcome out.
-- The worker sends how long ago an attempt started and ended; Snowflake's clock makes times of that. Each row is an array.
-- Only what was recorded in the last %(seconds)s is searched: since before this batch was sent for the first time.
INSERT INTO PROCESSING_ATTEMPTS (entry_id, claim_token, idempotency_key, attempt, processor_id, started_at, finished_at,
                                 outcome, response_status, error_message, entry_status, ready_at, result, milliseconds, trace_id)
SELECT made.entry_id,
       made.claim_token,
       made.idempotency_key,
       made.attempt,
       %(processor_id)s,
       DATEADD('millisecond', -made.started_ms_ago, SYSDATE()),
       DATEADD('millisecond', -made.finished_ms_ago, SYSDATE()),
       made.outcome,
       made.response_status,
       made.error_message,
       made.status,
       DATEADD('millisecond', made.delay_ms, SYSDATE()),
       made.result,
       made.started_ms_ago - made.finished_ms_ago,
       made.trace_id
  FROM (SELECT a.value[{attempt.claim_token}]::VARCHAR AS claim_token,
               a.value[{attempt.attempt}]::NUMBER(38, 0) AS attempt,
               a.value[{attempt.outcome}]::VARCHAR AS outcome,
               a.value[{attempt.response_status}]::NUMBER(38, 0) AS response_status,
               a.value[{attempt.status}]::VARCHAR AS status,
               a.value[{attempt.delay_ms}]::NUMBER(38, 0) AS delay_ms,
               a.value[{attempt.error_message}]::VARCHAR AS error_message,
               a.value[{attempt.entry_id}]::NUMBER(38, 0) AS entry_id,
               a.value[{attempt.started_ms_ago}]::NUMBER(38, 0) AS started_ms_ago,
               a.value[{attempt.finished_ms_ago}]::NUMBER(38, 0) AS finished_ms_ago,
               a.value[{attempt.idempotency_key}]::VARCHAR AS idempotency_key,
               a.value[{attempt.trace_id}]::VARCHAR AS trace_id,
               a.value[{attempt.result}]::VARCHAR AS result
          FROM TABLE(FLATTEN(INPUT => PARSE_JSON(%(attempts)s))) AS a) AS made
  LEFT JOIN (SELECT entry_id, claim_token, idempotency_key
               FROM PROCESSING_ATTEMPTS
              WHERE recorded_at >= DATEADD('second', -%(seconds)s, SYSDATE())
                AND processor_id = %(processor_id)s
                AND entry_status IS NOT NULL) AS recorded
    ON recorded.entry_id = made.entry_id
   AND recorded.claim_token = made.claim_token
   AND recorded.idempotency_key = made.idempotency_key
 WHERE recorded.entry_id IS NULL

-- name: settle
-- Write the outcomes of a whole batch back: they are in the audit trail, and nothing is sent twice. It follows `insert_attempts` in
-- the same session, because another session may not see the attempts yet (READ_CONSISTENCY_MODE).
-- One attempt for each claimed entry, also where an INSERT ran twice: a success first, then the earliest. So the join is unambiguous.
-- The claim token guards each row: a worker that lost its claim changes nothing. The idempotency key distinguishes rows with the
-- same id. The caller compares the rows changed with the entries sent.
-- What a person has cancelled becomes cancelled where it would become pending, here and wherever a claim ends. A cancel that came
-- too late is removed from the row; the action stays on record.
UPDATE {queue}
   SET status = IFF(made.entry_status = 'pending' AND cancel_requested, 'cancelled', made.entry_status),
       updated_at = SYSDATE(),
       retry_count = retry_count + made.counted,
       doubts = doubts + made.doubted,
       available_at = COALESCE(made.ready_at, available_at),
       processor_id = IFF(made.released = 1, NULL, processor_id),
       claimed_at = IFF(made.released = 1, NULL, claimed_at),
       completed_at = IFF(made.entry_status = 'completed', SYSDATE(), NULL),
       failed_at = IFF(made.entry_status = 'failed', SYSDATE(), NULL),
       cancelled_at = IFF(made.entry_status = 'pending' AND cancel_requested, SYSDATE(), NULL),
       cancel_requested = cancel_requested AND made.entry_status = 'pending',
       cancelled_by = IFF(made.entry_status = 'pending', cancelled_by, NULL),
       cancel_reason = IFF(made.entry_status = 'pending', cancel_reason, NULL),
       response_status = IFF(made.released = 1, response_status, made.new_response_status),
       result = IFF(made.released = 1, result, made.new_result),
       error_message = IFF(made.released = 1, error_message, made.new_error_message)
  FROM (SELECT entry_id, claim_token AS made_token, idempotency_key AS made_key, entry_status, ready_at,
               IFF(outcome IN ('transient', 'permanent'), 1, 0) AS counted,
               IFF(outcome IN ('interrupted', 'doubtful'), 1, 0) AS released,
               IFF(outcome = 'doubtful', 1, 0) AS doubted,
               response_status AS new_response_status, result AS new_result, error_message AS new_error_message
          FROM PROCESSING_ATTEMPTS
         WHERE recorded_at >= DATEADD('second', -%(seconds)s, SYSDATE())
           AND processor_id = %(processor_id)s
           AND entry_status IS NOT NULL
       QUALIFY ROW_NUMBER() OVER (PARTITION BY entry_id, claim_token, idempotency_key
                                  ORDER BY IFF(outcome = 'succeeded', 0, 1), recorded_at, finished_at) = 1) AS made
 WHERE id = made.entry_id
   AND claim_token = made.made_token
   AND idempotency_key = made.made_key
   AND status = 'processing'

-- name: settle_bound
-- Settle with the outcomes in the statement: entries that were never started, which have no attempt, and entries that `settle` left
-- because it did not see their attempts. Guarded like `settle`. Each row is an array, because field names would make the statement
-- much longer.
UPDATE {queue}
   SET status = IFF(settled.new_status = 'pending' AND cancel_requested, 'cancelled', settled.new_status),
       updated_at = SYSDATE(),
       retry_count = retry_count + settled.counted,
       doubts = doubts + settled.doubted,
       available_at = IFF(settled.new_status = 'pending' AND settled.released = 0,
                          DATEADD('millisecond', settled.delay_ms, SYSDATE()), available_at),
       processor_id = IFF(settled.released = 1, NULL, processor_id),
       claimed_at = IFF(settled.released = 1, NULL, claimed_at),
       completed_at = IFF(settled.new_status = 'completed', SYSDATE(), NULL),
       failed_at = IFF(settled.new_status = 'failed', SYSDATE(), NULL),
       cancelled_at = IFF(settled.new_status = 'pending' AND cancel_requested, SYSDATE(), NULL),
       cancel_requested = cancel_requested AND settled.new_status = 'pending',
       cancelled_by = IFF(settled.new_status = 'pending', cancelled_by, NULL),
       cancel_reason = IFF(settled.new_status = 'pending', cancel_reason, NULL),
       response_status = IFF(settled.released = 1, response_status, settled.new_response_status),
       result = IFF(settled.released = 1, result, settled.new_result),
       error_message = IFF(settled.released = 1, error_message, settled.new_error_message)
  FROM (SELECT s.value[{settlement.entry_id}]::NUMBER(38, 0) AS settled_id,
               s.value[{settlement.claim_token}]::VARCHAR AS settled_token,
               s.value[{settlement.idempotency_key}]::VARCHAR AS settled_key,
               s.value[{settlement.status}]::VARCHAR AS new_status,
               s.value[{settlement.counted}]::NUMBER(38, 0) AS counted,
               s.value[{settlement.released}]::NUMBER(38, 0) AS released,
               s.value[{settlement.doubted}]::NUMBER(38, 0) AS doubted,
               s.value[{settlement.delay_ms}]::NUMBER(38, 0) AS delay_ms,
               s.value[{settlement.response_status}]::NUMBER(38, 0) AS new_response_status,
               s.value[{settlement.result}]::VARCHAR AS new_result,
               s.value[{settlement.error_message}]::VARCHAR AS new_error_message
          FROM TABLE(FLATTEN(INPUT => PARSE_JSON(%(settlements)s))) AS s) AS settled
 WHERE id = settled.settled_id
   AND claim_token = settled.settled_token
   AND idempotency_key = settled.settled_key
   AND status = 'processing'

-- name: settled
-- The status of the entries of these claims. It is read when a settle changed fewer or more rows than entries were sent, or when one
-- of them has a copy. It distinguishes a lost claim, a settle that had already run when the connection broke, and an entry that is
-- not settled yet.
SELECT q.id, q.claim_token, q.idempotency_key, q.status
  FROM {queue} AS q
  JOIN (SELECT s.value[{claimed.entry_id}]::NUMBER(38, 0) AS entry_id,
               s.value[{claimed.claim_token}]::VARCHAR AS sent_token,
               s.value[{claimed.idempotency_key}]::VARCHAR AS sent_key
          FROM TABLE(FLATTEN(INPUT => PARSE_JSON(%(claimed)s))) AS s) AS sent
    ON q.id = sent.entry_id
   AND q.claim_token = sent.sent_token
   AND q.idempotency_key = sent.sent_key

-- name: claimants
-- Which workers have claims. The poller compares them with their tasks in ECS. A row and its copies are one entry.
SELECT processor_id, COUNT(DISTINCT id, idempotency_key) AS entries, MIN(claimed_at) AS earliest_claimed_at
  FROM {queue}
 WHERE status = 'processing'
 GROUP BY processor_id

-- name: record_deaths
-- Add what dead workers had in hand to the audit trail, before it is released. The attempt lasts from the claim to now, because
-- it is unknown whether the entry was delivered. Attempts that the worker recorded itself are left out. %(since)s is when the first
-- of these claims was made, by Snowflake's clock: what was recorded before is not searched.
INSERT INTO PROCESSING_ATTEMPTS (entry_id, claim_token, idempotency_key, attempt, processor_id, started_at, finished_at, outcome,
                                 error_message)
SELECT in_hand.id,
       COALESCE(in_hand.claim_token, 'none'),
       in_hand.idempotency_key,
       in_hand.earlier_attempts + in_hand.retry_count + 1,
       in_hand.processor_id,
       COALESCE(in_hand.claimed_at, SYSDATE()),
       SYSDATE(),
       dead.outcome,
       dead.reason
  FROM {queue} AS in_hand
  JOIN (SELECT d.value:processor_id::VARCHAR AS dead_id,
               IFF(d.value:crashed::NUMBER(38, 0) = 1, 'crashed', 'interrupted') AS outcome,
               d.value:reason::VARCHAR AS reason
          FROM TABLE(FLATTEN(INPUT => PARSE_JSON(%(deaths)s))) AS d) AS dead
    ON dead.dead_id = in_hand.processor_id
  LEFT JOIN (SELECT entry_id, claim_token, idempotency_key
               FROM PROCESSING_ATTEMPTS
              WHERE recorded_at >= TO_TIMESTAMP_NTZ(%(since)s)) AS recorded
    ON recorded.entry_id = in_hand.id
   AND recorded.claim_token = in_hand.claim_token
   AND recorded.idempotency_key = in_hand.idempotency_key
 WHERE in_hand.status = 'processing'
   AND recorded.entry_id IS NULL

-- name: fail_poison
-- Fail an entry that a worker died on while it had nothing else in hand, after %(max_crashes)s others had died on it, and with it
-- its copies. An entry whose outcome the worker recorded is left to `release_dead`.
UPDATE {queue}
   SET status = 'failed',
       failed_at = SYSDATE(),
       updated_at = SYSDATE(),
       error_message = LEFT('poison: ' || (crash_count + 1) || ' workers have died on it; the last: ' || gone.reason, 1000),
       cancel_requested = FALSE,
       cancelled_by = NULL,
       cancel_reason = NULL,
       crash_count = crash_count + 1
  FROM (SELECT in_hand.id AS gone_id, COALESCE(in_hand.claim_token, 'none') AS gone_token, in_hand.idempotency_key AS gone_key,
               dead.dead_id, dead.reason
          FROM {queue} AS in_hand
          JOIN (SELECT d.value:processor_id::VARCHAR AS dead_id,
                       d.value:reason::VARCHAR AS reason
                  FROM TABLE(FLATTEN(INPUT => PARSE_JSON(%(deaths)s))) AS d) AS dead
            ON dead.dead_id = in_hand.processor_id
          LEFT JOIN (SELECT entry_id AS made_id, claim_token AS made_token, idempotency_key AS made_key
                       FROM PROCESSING_ATTEMPTS
                      WHERE recorded_at >= TO_TIMESTAMP_NTZ(%(since)s)
                        AND entry_status IS NOT NULL) AS made
            ON made.made_id = in_hand.id
           AND made.made_token = in_hand.claim_token
           AND made.made_key = in_hand.idempotency_key
         WHERE in_hand.status = 'processing'
           AND in_hand.crash_count >= %(max_crashes)s
           AND made.made_id IS NULL
       QUALIFY ROW_NUMBER() OVER (PARTITION BY in_hand.id, in_hand.claim_token, in_hand.idempotency_key, dead.dead_id
                                  ORDER BY in_hand.crash_count) = 1) AS gone
 WHERE id = gone.gone_id
   AND COALESCE(claim_token, 'none') = gone.gone_token
   AND idempotency_key = gone.gone_key
   AND processor_id = gone.dead_id
   AND status = 'processing'

-- name: release_dead
-- Release what dead workers had in hand, and settle what they have recorded: a success is never delivered again.
-- A release counts as a retry only where the worker may have delivered without recording it; otherwise the same entries could be
-- delivered without end. The claim token is removed, because a last write of the worker may still wait for the lock.
-- One source row for each claimed entry: its attempt on record, a success first, then the earliest, as in `settle`.
UPDATE {queue}
   SET status = IFF(gone.ends_as = 'pending' AND cancel_requested, 'cancelled', gone.ends_as),
       failed_at = IFF(gone.ends_as = 'failed', SYSDATE(), NULL),
       cancelled_at = IFF(gone.ends_as = 'pending' AND cancel_requested, SYSDATE(), NULL),
       cancel_requested = cancel_requested AND gone.ends_as = 'pending',
       cancelled_by = IFF(gone.ends_as = 'pending', cancelled_by, NULL),
       cancel_reason = IFF(gone.ends_as = 'pending', cancel_reason, NULL),
       completed_at = IFF(gone.ends_as = 'completed', SYSDATE(), NULL),
       updated_at = SYSDATE(),
       retry_count = retry_count + gone.counted,
       crash_count = crash_count + gone.crashed,
       doubts = doubts + gone.doubted,
       available_at = COALESCE(gone.ready_at, available_at),
       response_status = IFF(gone.released = 1, response_status, gone.new_response_status),
       result = IFF(gone.released = 1, result, gone.new_result),
       error_message = IFF(gone.released = 1, COALESCE(gone.reason, error_message), gone.new_error_message),
       claim_token = IFF(gone.released = 1, NULL, claim_token),
       processor_id = IFF(gone.released = 1, NULL, processor_id),
       claimed_at = IFF(gone.released = 1, NULL, claimed_at)
  FROM (SELECT in_hand.id AS gone_id, COALESCE(in_hand.claim_token, 'none') AS gone_token, in_hand.idempotency_key AS gone_key,
               dead.dead_id, made.entry_status, made.ready_at,
               COALESCE(made.entry_status,
                        IFF(dead.counted = 1 AND in_hand.retry_count + 1 >= COALESCE(in_hand.max_retries, %(max_retries)s),
                            'failed', 'pending')) AS ends_as,
               made.response_status AS new_response_status, made.result AS new_result, made.error_message AS new_error_message,
               CASE WHEN made.entry_status IS NULL THEN dead.counted
                    WHEN made.outcome IN ('transient', 'permanent') THEN 1
                    ELSE 0
               END AS counted,
               IFF(made.entry_status IS NULL, dead.crashed, 0) AS crashed,
               IFF(made.outcome = 'doubtful', 1, 0) AS doubted,
               IFF(made.entry_status IS NULL OR made.outcome IN ('interrupted', 'doubtful'), 1, 0) AS released,
               IFF(made.entry_status IS NULL AND dead.crashed + dead.counted > 0, dead.reason, NULL) AS reason
          FROM {queue} AS in_hand
          JOIN (SELECT d.value:processor_id::VARCHAR AS dead_id,
                       d.value:crashed::NUMBER(38, 0) AS crashed,
                       d.value:counted::NUMBER(38, 0) AS counted,
                       d.value:reason::VARCHAR AS reason
                  FROM TABLE(FLATTEN(INPUT => PARSE_JSON(%(deaths)s))) AS d) AS dead
            ON dead.dead_id = in_hand.processor_id
          LEFT JOIN (SELECT entry_id AS made_id, claim_token AS made_token, idempotency_key AS made_key, outcome,
                            entry_status, ready_at, response_status, result, error_message, recorded_at, finished_at
                       FROM PROCESSING_ATTEMPTS
                      WHERE recorded_at >= TO_TIMESTAMP_NTZ(%(since)s)
                        AND entry_status IS NOT NULL) AS made
            ON made.made_id = in_hand.id
           AND made.made_token = in_hand.claim_token
           AND made.made_key = in_hand.idempotency_key
         WHERE in_hand.status = 'processing'
       QUALIFY ROW_NUMBER() OVER (PARTITION BY in_hand.id, in_hand.claim_token, in_hand.idempotency_key, dead.dead_id
                                  ORDER BY IFF(made.outcome = 'succeeded', 0, 1), made.recorded_at, made.finished_at) = 1) AS gone
 WHERE id = gone.gone_id
   AND COALESCE(claim_token, 'none') = gone.gone_token
   AND idempotency_key = gone.gone_key
   AND processor_id = gone.dead_id
   AND status = 'processing'

-- name: record_resets
-- Add stale claims to the audit trail before they are reset. A row that a person set to processing has no claim token.
INSERT INTO PROCESSING_ATTEMPTS (entry_id, claim_token, idempotency_key, attempt, processor_id, started_at, finished_at, outcome,
                                 error_message)
SELECT in_hand.id,
       COALESCE(in_hand.claim_token, 'none'),
       in_hand.idempotency_key,
       in_hand.earlier_attempts + in_hand.retry_count + 1,
       COALESCE(in_hand.processor_id, 'unknown'),
       COALESCE(in_hand.claimed_at, in_hand.available_at),
       SYSDATE(),
       'reset',
       'no answer within the stale threshold'
  FROM {queue} AS in_hand
  LEFT JOIN (SELECT entry_id, claim_token, idempotency_key
               FROM PROCESSING_ATTEMPTS
              WHERE recorded_at >= TO_TIMESTAMP_NTZ(%(since)s)) AS recorded
    ON recorded.entry_id = in_hand.id
   AND recorded.claim_token = in_hand.claim_token
   AND recorded.idempotency_key = in_hand.idempotency_key
 WHERE in_hand.status = 'processing'
   AND COALESCE(in_hand.claimed_at, in_hand.available_at) < DATEADD('second', -%(stale_threshold_s)s, SYSDATE())
   AND recorded.entry_id IS NULL

-- name: reset_stale
-- Take claims away from workers that are gone, and settle what they have recorded, as in `release_dead`. A reset counts as a retry,
-- because it is unknown whether the entry was delivered. An entry without attempts left fails, with the reason. Only claims that
-- are stale now, by Snowflake's clock.
UPDATE {queue}
   SET status = IFF(gone.ends_as = 'pending' AND cancel_requested, 'cancelled', gone.ends_as),
       failed_at = IFF(gone.ends_as = 'failed', SYSDATE(), NULL),
       cancelled_at = IFF(gone.ends_as = 'pending' AND cancel_requested, SYSDATE(), NULL),
       cancel_requested = cancel_requested AND gone.ends_as = 'pending',
       cancelled_by = IFF(gone.ends_as = 'pending', cancelled_by, NULL),
       cancel_reason = IFF(gone.ends_as = 'pending', cancel_reason, NULL),
       completed_at = IFF(gone.ends_as = 'completed', SYSDATE(), NULL),
       updated_at = SYSDATE(),
       retry_count = retry_count + gone.counted,
       doubts = doubts + gone.doubted,
       available_at = COALESCE(gone.ready_at, available_at),
       response_status = IFF(gone.released = 1, response_status, gone.new_response_status),
       result = IFF(gone.released = 1, result, gone.new_result),
       error_message = CASE WHEN gone.entry_status IS NULL
                            THEN 'no answer from ' || LEFT(COALESCE(processor_id, 'an unknown worker'), 200)
                                 || ' within the stale threshold'
                                 || IFF(gone.ends_as = 'failed', ', and no attempts left', '')
                            WHEN gone.released = 1 THEN error_message
                            ELSE gone.new_error_message
                       END,
       claim_token = IFF(gone.released = 1, NULL, claim_token),
       processor_id = IFF(gone.released = 1, NULL, processor_id),
       claimed_at = IFF(gone.released = 1, NULL, claimed_at)
  FROM (SELECT in_hand.id AS gone_id, COALESCE(in_hand.claim_token, 'none') AS gone_token, in_hand.idempotency_key AS gone_key,
               made.entry_status, made.ready_at,
               COALESCE(made.entry_status,
                        IFF(in_hand.retry_count + 1 >= COALESCE(in_hand.max_retries, %(max_retries)s), 'failed', 'pending'))
                   AS ends_as,
               made.response_status AS new_response_status, made.result AS new_result, made.error_message AS new_error_message,
               IFF(made.entry_status IS NULL OR made.outcome IN ('transient', 'permanent'), 1, 0) AS counted,
               IFF(made.outcome = 'doubtful', 1, 0) AS doubted,
               IFF(made.entry_status IS NULL OR made.outcome IN ('interrupted', 'doubtful'), 1, 0) AS released
          FROM {queue} AS in_hand
          LEFT JOIN (SELECT entry_id AS made_id, claim_token AS made_token, idempotency_key AS made_key, outcome,
                            entry_status, ready_at, response_status, result, error_message, recorded_at, finished_at
                       FROM PROCESSING_ATTEMPTS
                      WHERE recorded_at >= TO_TIMESTAMP_NTZ(%(since)s)
                        AND entry_status IS NOT NULL) AS made
            ON made.made_id = in_hand.id
           AND made.made_token = in_hand.claim_token
           AND made.made_key = in_hand.idempotency_key
         WHERE in_hand.status = 'processing'
           AND COALESCE(in_hand.claimed_at, in_hand.available_at) < DATEADD('second', -%(stale_threshold_s)s, SYSDATE())
       QUALIFY ROW_NUMBER() OVER (PARTITION BY in_hand.id, in_hand.claim_token, in_hand.idempotency_key
                                  ORDER BY IFF(made.outcome = 'succeeded', 0, 1), made.recorded_at, made.finished_at) = 1) AS gone
 WHERE id = gone.gone_id
   AND COALESCE(claim_token, 'none') = gone.gone_token
   AND idempotency_key = gone.gone_key
   AND status = 'processing'
   AND COALESCE(claimed_at, available_at) < DATEADD('second', -%(stale_threshold_s)s, SYSDATE())

-- name: fail_exhausted
-- Fail pending entries that no claim would ever take: a limit was lowered, or a requeue did not reset retry_count. The limit is
-- that of this program's destination.
UPDATE {queue}
   SET status = 'failed',
       failed_at = SYSDATE(),
       updated_at = SYSDATE(),
       cancelled_by = NULL,
       cancel_reason = NULL,
       error_message = LEFT(COALESCE(error_message || '; ', '') || 'no attempts left; REQUEUE_ENTRIES gives new ones', 1000)
 WHERE status = 'pending'
   AND destination = %(destination)s
   AND NOT cancel_requested
   AND retry_count >= COALESCE(max_retries, %(max_retries)s)

-- name: end_cancelled
-- Pending entries whose cancel was requested: a person changed their status, or a program of an earlier release wrote it. No claim
-- takes them.
UPDATE {queue}
   SET status = 'cancelled',
       cancelled_at = SYSDATE(),
       updated_at = SYSDATE()
 WHERE status = 'pending'
   AND cancel_requested

-- name: processors_seen
-- Which of these processors have made their first claim. A live task that has not is still starting.
SELECT DISTINCT processor_id
  FROM PROCESSORS
 WHERE processor_id IN (SELECT p.value::VARCHAR FROM TABLE(FLATTEN(INPUT => PARSE_JSON(%(processor_ids)s))) AS p)

-- name: recent_take
-- The median number of entries that a task settled in its life, over the last hour.
SELECT MEDIAN(entries) AS entries
  FROM PROCESSORS
 WHERE event = 'ended'
   AND entries > 0
   AND recorded_at > DATEADD('hour', -1, SYSDATE())

-- name: record_processor
-- One row at a processor's first claim, also when the claim was empty; one at its end.
INSERT INTO PROCESSORS (processor_id, event, entries, seconds, reason, stale_threshold_s)
SELECT %(processor_id)s, %(event)s, %(entries)s, %(seconds)s, %(reason)s, %(stale_threshold_s)s

-- name: place_hold
-- Stop all claims of this destination until the hold ends, unless a hold stands already. Processors that meet the same fault at the
-- same moment may each place one.
INSERT INTO PROCESSING_HOLDS (scope, kind, reason, until_at, created_by)
SELECT placed.scope, 'credentials', placed.reason, DATEADD('second', placed.seconds, SYSDATE()), placed.created_by
  FROM (SELECT %(destination)s AS scope, %(reason)s AS reason, %(seconds)s AS seconds, %(created_by)s AS created_by) AS placed
 WHERE NOT EXISTS (SELECT 1
                     FROM PROCESSING_HOLDS
                    WHERE scope IN ('*', %(destination)s)
                      AND (until_at IS NULL OR until_at > SYSDATE()))

-- name: lift_ended_holds
-- Remove ended holds after a probe was answered. A hold that still stands was placed later, or by a person, and stays. A fence has
-- no end; only the migration that placed it removes it.
DELETE FROM PROCESSING_HOLDS
 WHERE scope IN ('*', %(destination)s)
   AND kind <> 'fence'
   AND until_at <= SYSDATE()
