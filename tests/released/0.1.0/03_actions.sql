-- What people do to entries and holds: six procedures, and one that checks what they are given. Safe to run again; grants stay.
--
-- They run with the rights of their owner, so an operator needs USAGE on a procedure and no privilege on a table. Each one changes
-- rows, and records in the same transaction who did it, when, why and to which entries (PROCESSING_ACTIONS,
-- PROCESSING_ACTION_ENTRIES). It returns how many rows it changed. If a statement fails, nothing is changed.
--
-- Call them outside of a transaction of your own. Each one has a transaction of its own, which is committed when it returns: your
-- ROLLBACK does not undo it. If your transaction has changed rows of the queue, the procedure waits for the lock that you hold
-- until LOCK_TIMEOUT ends it (12 hours, unless your session says less); a procedure with the rights of its owner cannot set that.
-- Read in Snowflake's documentation (scoped transactions; caller's and owner's rights), not tried.
--
-- A selector is one JSON object. An entry is chosen if all its keys fit; at least one is needed:
--     ids          [42, 43]
--     reference    a pattern for LIKE: "order-47%"
--     status       "failed", or another one that the action reaches
--     error        a pattern for LIKE: "%503%"
--     destination  "default"
--     since, until "2026-11-20 10:00:00", UTC, without an offset; until is not included. For requeue and discard this is when the
--                  entry failed or was cancelled; for cancel and reprioritise, when it was inserted
-- Example: CALL REQUEUE_ENTRIES('{"reference": "order-47%", "status": "failed"}', 'the partner has corrected its data');

-- Refuse an action by what it was given. Snowflake has no exception with a text of one's own that is not constant. So the text is
-- converted to a number: the conversion fails, and its error quotes the text. A time has one form, with the offset
-- left out, and is read with a format of ours: Snowflake would take digits as seconds since 1970, and read the rest as the caller's
-- session says.
CREATE OR REPLACE PROCEDURE CHECK_ACTION(selector VARCHAR, reason VARCHAR, statuses VARCHAR)
COPY GRANTS
RETURNS NUMBER(38, 0)
LANGUAGE SQL
COMMENT = 'Fails if the selector or the reason of an action is not usable; the error says why'
EXECUTE AS OWNER
AS
$$
DECLARE
    checked NUMBER(38, 0);
BEGIN
    SELECT TO_NUMBER(CASE
               WHEN REGEXP_REPLACE(COALESCE(:reason, ''), '[[:space:]]+', '') = '' THEN 'the reason is empty'
               WHEN LENGTH(:reason) > 1000 THEN 'the reason has more than 1000 characters'
               WHEN COALESCE(TYPEOF(TRY_PARSE_JSON(:selector)), 'none') <> 'OBJECT' THEN 'the selector is no JSON object'
               WHEN COUNT(given.key) = 0
               THEN 'the selector is empty: expected ids, reference, status, error, destination, since or until'
               ELSE COALESCE(MIN(CASE
                        WHEN given.key NOT IN ('ids', 'reference', 'status', 'error', 'destination', 'since', 'until')
                        THEN 'the selector has the unknown key ' || LEFT(given.key, 100)
                        WHEN given.key = 'ids'
                        THEN IFF(TYPEOF(given.value) = 'ARRAY'
                                 AND REGEXP_LIKE(given.value::VARCHAR, '^[[][0-9]+(,[0-9]+)*[]]$'), NULL,
                                 'ids: expected a list of numbers')
                        WHEN TYPEOF(given.value) <> 'VARCHAR' OR given.value::VARCHAR = ''
                        THEN given.key || ': expected a text'
                        WHEN given.key = 'status'
                         AND NOT (REGEXP_LIKE(given.value::VARCHAR, '[a-z]+')
                                  AND CONTAINS(' ' || :statuses || ',', ' ' || given.value::VARCHAR || ','))
                        THEN 'status: expected one of ' || :statuses || '; got ' || LEFT(given.value::VARCHAR, 100)
                        WHEN given.key IN ('since', 'until')
                         AND NOT (REGEXP_LIKE(given.value::VARCHAR,
                                      '[0-9]{4}-[0-9]{2}-[0-9]{2}([ T][0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]{1,6})?)?)?')
                                  AND TRY_TO_TIMESTAMP_NTZ(REPLACE(given.value::VARCHAR, 'T', ' ')
                                       || SUBSTR('2000-01-01 00:00:00.000000', LENGTH(given.value::VARCHAR) + 1),
                                       'YYYY-MM-DD HH24:MI:SS.FF6') IS NOT NULL)
                        THEN given.key || ': expected a time in UTC, without an offset, like 2026-11-20 10:00:00; got '
                             || LEFT(given.value::VARCHAR, 100)
                    END), '0')
           END)
      INTO :checked
      FROM TABLE(FLATTEN(INPUT => TRY_PARSE_JSON(:selector))) AS given;
    RETURN checked;
END;
$$;

-- Requeue: failed and cancelled entries become pending, with all their attempts again. They are ready now, or at the time that the
-- producer or a retry set, if it is still to come. The old failure and the cancel are cleared; the idempotency key stays, and the
-- audit trail numbers on. An entry that workers died on stays a suspect, so that it is delivered apart from the others.
CREATE OR REPLACE PROCEDURE REQUEUE_ENTRIES(selector VARCHAR, reason VARCHAR)
COPY GRANTS
RETURNS NUMBER(38, 0)
LANGUAGE SQL
COMMENT = 'Failed and cancelled entries become pending again; returns how many'
EXECUTE AS OWNER
AS
$$
DECLARE
    this_action VARCHAR DEFAULT UUID_STRING();
    changed NUMBER(38, 0);
BEGIN
    CALL CHECK_ACTION(:selector, :reason, 'failed, cancelled');
    BEGIN
        BEGIN TRANSACTION;
        UPDATE PROCESSING_QUEUE
           SET status = 'pending',
               available_at = GREATEST(available_at, SYSDATE()),
               earlier_attempts = earlier_attempts + retry_count,
               retry_count = 0,
               crash_count = LEAST(crash_count, 1),
               doubts = 0,
               requeued = requeued + 1,
               cancel_requested = FALSE,
               cancelled_at = NULL,
               cancelled_by = NULL,
               cancel_reason = NULL,
               processor_id = NULL,
               claim_token = NULL,
               claimed_at = NULL,
               completed_at = NULL,
               failed_at = NULL,
               response_status = NULL,
               result = NULL,
               error_message = NULL,
               updated_at = SYSDATE(),
               action_id = :this_action
          FROM (SELECT wanted,
                       TO_TIMESTAMP_NTZ(REPLACE(wanted:since::VARCHAR, 'T', ' ')
                                        || SUBSTR('2000-01-01 00:00:00.000000', LENGTH(wanted:since::VARCHAR) + 1),
                                        'YYYY-MM-DD HH24:MI:SS.FF6') AS earliest,
                       TO_TIMESTAMP_NTZ(REPLACE(wanted:until::VARCHAR, 'T', ' ')
                                        || SUBSTR('2000-01-01 00:00:00.000000', LENGTH(wanted:until::VARCHAR) + 1),
                                        'YYYY-MM-DD HH24:MI:SS.FF6') AS latest
                  FROM (SELECT PARSE_JSON(:selector) AS wanted) AS parsed) AS chosen
         WHERE status IN ('failed', 'cancelled')
           AND (chosen.wanted:ids IS NULL OR ARRAY_CONTAINS(id::VARIANT, chosen.wanted:ids::ARRAY))
           AND (chosen.wanted:reference IS NULL OR reference LIKE chosen.wanted:reference::VARCHAR)
           AND (chosen.wanted:status IS NULL OR status = chosen.wanted:status::VARCHAR)
           AND (chosen.wanted:error IS NULL OR error_message LIKE chosen.wanted:error::VARCHAR)
           AND (chosen.wanted:destination IS NULL OR destination = chosen.wanted:destination::VARCHAR)
           AND (chosen.earliest IS NULL OR COALESCE(cancelled_at, failed_at) >= chosen.earliest)
           AND (chosen.latest IS NULL OR COALESCE(cancelled_at, failed_at) < chosen.latest);
        INSERT INTO PROCESSING_ACTION_ENTRIES (action_id, entry_id)
        SELECT DISTINCT action_id, id
          FROM PROCESSING_QUEUE
         WHERE action_id = :this_action;
        INSERT INTO PROCESSING_ACTIONS (action_id, action, selector, reason, entries, acted_by, acted_at)
        SELECT :this_action, 'requeue', :selector, :reason, COUNT(*), CURRENT_USER(), COALESCE(MIN(updated_at), SYSDATE())
          FROM PROCESSING_QUEUE
         WHERE action_id = :this_action;
        SELECT entries INTO :changed FROM PROCESSING_ACTIONS WHERE action_id = :this_action;
        COMMIT;
    EXCEPTION
        WHEN OTHER THEN
            ROLLBACK;
            RAISE;
    END;
    RETURN changed;
END;
$$;

-- Cancel: pending entries become cancelled at once. For entries in hand the cancel is requested: a delivery that has not begun does
-- not begin, and one that has begun ends as it ends. Finished entries are never changed, and an entry in hand keeps its first
-- cancel.
CREATE OR REPLACE PROCEDURE CANCEL_ENTRIES(selector VARCHAR, reason VARCHAR)
COPY GRANTS
RETURNS NUMBER(38, 0)
LANGUAGE SQL
COMMENT = 'Pending entries become cancelled; those in hand too, unless their delivery has begun; returns how many'
EXECUTE AS OWNER
AS
$$
DECLARE
    this_action VARCHAR DEFAULT UUID_STRING();
    changed NUMBER(38, 0);
BEGIN
    CALL CHECK_ACTION(:selector, :reason, 'pending, processing');
    BEGIN
        BEGIN TRANSACTION;
        UPDATE PROCESSING_QUEUE
           SET status = IFF(status = 'pending', 'cancelled', status),
               cancel_requested = (status = 'processing'),
               cancelled_at = IFF(status = 'pending', SYSDATE(), NULL),
               cancelled_by = CURRENT_USER(),
               cancel_reason = :reason,
               updated_at = SYSDATE(),
               action_id = :this_action
          FROM (SELECT wanted,
                       TO_TIMESTAMP_NTZ(REPLACE(wanted:since::VARCHAR, 'T', ' ')
                                        || SUBSTR('2000-01-01 00:00:00.000000', LENGTH(wanted:since::VARCHAR) + 1),
                                        'YYYY-MM-DD HH24:MI:SS.FF6') AS earliest,
                       TO_TIMESTAMP_NTZ(REPLACE(wanted:until::VARCHAR, 'T', ' ')
                                        || SUBSTR('2000-01-01 00:00:00.000000', LENGTH(wanted:until::VARCHAR) + 1),
                                        'YYYY-MM-DD HH24:MI:SS.FF6') AS latest
                  FROM (SELECT PARSE_JSON(:selector) AS wanted) AS parsed) AS chosen
         WHERE (status = 'pending' OR status = 'processing' AND NOT cancel_requested)
           AND (chosen.wanted:ids IS NULL OR ARRAY_CONTAINS(id::VARIANT, chosen.wanted:ids::ARRAY))
           AND (chosen.wanted:reference IS NULL OR reference LIKE chosen.wanted:reference::VARCHAR)
           AND (chosen.wanted:status IS NULL OR status = chosen.wanted:status::VARCHAR)
           AND (chosen.wanted:error IS NULL OR error_message LIKE chosen.wanted:error::VARCHAR)
           AND (chosen.wanted:destination IS NULL OR destination = chosen.wanted:destination::VARCHAR)
           AND (chosen.earliest IS NULL OR created_at >= chosen.earliest)
           AND (chosen.latest IS NULL OR created_at < chosen.latest);
        INSERT INTO PROCESSING_ACTION_ENTRIES (action_id, entry_id)
        SELECT DISTINCT action_id, id
          FROM PROCESSING_QUEUE
         WHERE action_id = :this_action;
        INSERT INTO PROCESSING_ACTIONS (action_id, action, selector, reason, entries, acted_by, acted_at)
        SELECT :this_action, 'cancel', :selector, :reason, COUNT(*), CURRENT_USER(), COALESCE(MIN(updated_at), SYSDATE())
          FROM PROCESSING_QUEUE
         WHERE action_id = :this_action;
        SELECT entries INTO :changed FROM PROCESSING_ACTIONS WHERE action_id = :this_action;
        COMMIT;
    EXCEPTION
        WHEN OTHER THEN
            ROLLBACK;
            RAISE;
    END;
    RETURN changed;
END;
$$;

-- Discard: failed entries become cancelled. Nobody has to look at them any more; what failed stays in the row.
CREATE OR REPLACE PROCEDURE DISCARD_ENTRIES(selector VARCHAR, reason VARCHAR)
COPY GRANTS
RETURNS NUMBER(38, 0)
LANGUAGE SQL
COMMENT = 'Failed entries become cancelled; returns how many'
EXECUTE AS OWNER
AS
$$
DECLARE
    this_action VARCHAR DEFAULT UUID_STRING();
    changed NUMBER(38, 0);
BEGIN
    CALL CHECK_ACTION(:selector, :reason, 'failed');
    BEGIN
        BEGIN TRANSACTION;
        UPDATE PROCESSING_QUEUE
           SET status = 'cancelled',
               cancelled_at = SYSDATE(),
               cancelled_by = CURRENT_USER(),
               cancel_reason = :reason,
               updated_at = SYSDATE(),
               action_id = :this_action
          FROM (SELECT wanted,
                       TO_TIMESTAMP_NTZ(REPLACE(wanted:since::VARCHAR, 'T', ' ')
                                        || SUBSTR('2000-01-01 00:00:00.000000', LENGTH(wanted:since::VARCHAR) + 1),
                                        'YYYY-MM-DD HH24:MI:SS.FF6') AS earliest,
                       TO_TIMESTAMP_NTZ(REPLACE(wanted:until::VARCHAR, 'T', ' ')
                                        || SUBSTR('2000-01-01 00:00:00.000000', LENGTH(wanted:until::VARCHAR) + 1),
                                        'YYYY-MM-DD HH24:MI:SS.FF6') AS latest
                  FROM (SELECT PARSE_JSON(:selector) AS wanted) AS parsed) AS chosen
         WHERE status = 'failed'
           AND (chosen.wanted:ids IS NULL OR ARRAY_CONTAINS(id::VARIANT, chosen.wanted:ids::ARRAY))
           AND (chosen.wanted:reference IS NULL OR reference LIKE chosen.wanted:reference::VARCHAR)
           AND (chosen.wanted:status IS NULL OR status = chosen.wanted:status::VARCHAR)
           AND (chosen.wanted:error IS NULL OR error_message LIKE chosen.wanted:error::VARCHAR)
           AND (chosen.wanted:destination IS NULL OR destination = chosen.wanted:destination::VARCHAR)
           AND (chosen.earliest IS NULL OR failed_at >= chosen.earliest)
           AND (chosen.latest IS NULL OR failed_at < chosen.latest);
        INSERT INTO PROCESSING_ACTION_ENTRIES (action_id, entry_id)
        SELECT DISTINCT action_id, id
          FROM PROCESSING_QUEUE
         WHERE action_id = :this_action;
        INSERT INTO PROCESSING_ACTIONS (action_id, action, selector, reason, entries, acted_by, acted_at)
        SELECT :this_action, 'discard', :selector, :reason, COUNT(*), CURRENT_USER(), COALESCE(MIN(updated_at), SYSDATE())
          FROM PROCESSING_QUEUE
         WHERE action_id = :this_action;
        SELECT entries INTO :changed FROM PROCESSING_ACTIONS WHERE action_id = :this_action;
        COMMIT;
    EXCEPTION
        WHEN OTHER THEN
            ROLLBACK;
            RAISE;
    END;
    RETURN changed;
END;
$$;

-- Reprioritise: pending entries get another priority. Larger values are claimed first.
CREATE OR REPLACE PROCEDURE REPRIORITISE_ENTRIES(selector VARCHAR, priority NUMBER(38, 0), reason VARCHAR)
COPY GRANTS
RETURNS NUMBER(38, 0)
LANGUAGE SQL
COMMENT = 'Pending entries get another priority; returns how many'
EXECUTE AS OWNER
AS
$$
DECLARE
    this_action VARCHAR DEFAULT UUID_STRING();
    changed NUMBER(38, 0);
    checked NUMBER(38, 0);
BEGIN
    CALL CHECK_ACTION(:selector, :reason, 'pending');
    SELECT TO_NUMBER(IFF(:priority IS NULL, 'the priority is empty', '0')) INTO :checked;
    BEGIN
        BEGIN TRANSACTION;
        UPDATE PROCESSING_QUEUE
           SET priority = :priority,
               updated_at = SYSDATE(),
               action_id = :this_action
          FROM (SELECT wanted,
                       TO_TIMESTAMP_NTZ(REPLACE(wanted:since::VARCHAR, 'T', ' ')
                                        || SUBSTR('2000-01-01 00:00:00.000000', LENGTH(wanted:since::VARCHAR) + 1),
                                        'YYYY-MM-DD HH24:MI:SS.FF6') AS earliest,
                       TO_TIMESTAMP_NTZ(REPLACE(wanted:until::VARCHAR, 'T', ' ')
                                        || SUBSTR('2000-01-01 00:00:00.000000', LENGTH(wanted:until::VARCHAR) + 1),
                                        'YYYY-MM-DD HH24:MI:SS.FF6') AS latest
                  FROM (SELECT PARSE_JSON(:selector) AS wanted) AS parsed) AS chosen
         WHERE status = 'pending'
           AND (chosen.wanted:ids IS NULL OR ARRAY_CONTAINS(id::VARIANT, chosen.wanted:ids::ARRAY))
           AND (chosen.wanted:reference IS NULL OR reference LIKE chosen.wanted:reference::VARCHAR)
           AND (chosen.wanted:status IS NULL OR status = chosen.wanted:status::VARCHAR)
           AND (chosen.wanted:error IS NULL OR error_message LIKE chosen.wanted:error::VARCHAR)
           AND (chosen.wanted:destination IS NULL OR destination = chosen.wanted:destination::VARCHAR)
           AND (chosen.earliest IS NULL OR created_at >= chosen.earliest)
           AND (chosen.latest IS NULL OR created_at < chosen.latest);
        INSERT INTO PROCESSING_ACTION_ENTRIES (action_id, entry_id)
        SELECT DISTINCT action_id, id
          FROM PROCESSING_QUEUE
         WHERE action_id = :this_action;
        INSERT INTO PROCESSING_ACTIONS (action_id, action, selector, reason, entries, acted_by, acted_at)
        SELECT :this_action, 'reprioritise', TO_JSON(OBJECT_INSERT(PARSE_JSON(:selector)::OBJECT, 'priority', :priority)), :reason,
               COUNT(*), CURRENT_USER(), COALESCE(MIN(updated_at), SYSDATE())
          FROM PROCESSING_QUEUE
         WHERE action_id = :this_action;
        SELECT entries INTO :changed FROM PROCESSING_ACTIONS WHERE action_id = :this_action;
        COMMIT;
    EXCEPTION
        WHEN OTHER THEN
            ROLLBACK;
            RAISE;
    END;
    RETURN changed;
END;
$$;

-- Hold: nothing of this scope (a destination, or * for all) is claimed for this number of seconds; with NULL, until somebody lifts
-- the hold. Entries in hand whose delivery has not begun are released.
CREATE OR REPLACE PROCEDURE HOLD_DESTINATION(scope VARCHAR, seconds NUMBER(38, 0), reason VARCHAR)
COPY GRANTS
RETURNS NUMBER(38, 0)
LANGUAGE SQL
COMMENT = 'Nothing of this destination is claimed, or nothing at all with *; returns 1'
EXECUTE AS OWNER
AS
$$
DECLARE
    this_action VARCHAR DEFAULT UUID_STRING();
    checked NUMBER(38, 0);
    changed NUMBER(38, 0);
BEGIN
    SELECT TO_NUMBER(CASE
               WHEN TRIM(COALESCE(:scope, '')) = '' THEN 'the scope is empty: expected a destination, or * for all'
               WHEN :scope <> '*' AND NOT REGEXP_LIKE(:scope, '[a-z0-9][a-z0-9_-]{0,62}')
               THEN 'the scope: expected * for all, or a destination: 1 to 63 of a-z, 0-9, - and _, the first a letter or '
                    || 'digit; got ' || LEFT(:scope, 100)
               WHEN :seconds <= 0 THEN 'the seconds: expected more than 0, or NULL until the hold is lifted'
               WHEN :seconds > 31622400 THEN 'the seconds: expected at most 31622400, which are 366 days'
               WHEN REGEXP_REPLACE(COALESCE(:reason, ''), '[[:space:]]+', '') = '' THEN 'the reason is empty'
               WHEN LENGTH(:reason) > 1000 THEN 'the reason has more than 1000 characters'
               ELSE '0'
           END)
      INTO :checked;
    BEGIN
        BEGIN TRANSACTION;
        INSERT INTO PROCESSING_HOLDS (scope, kind, reason, until_at, created_by)
        SELECT :scope, 'person', :reason, DATEADD('second', :seconds, SYSDATE()), CURRENT_USER();
        INSERT INTO PROCESSING_ACTIONS (action_id, action, selector, reason, entries, acted_by, acted_at)
        SELECT :this_action, 'hold', TO_JSON(OBJECT_CONSTRUCT('scope', :scope, 'seconds', :seconds)), :reason, 1, CURRENT_USER(),
               SYSDATE();
        SELECT entries INTO :changed FROM PROCESSING_ACTIONS WHERE action_id = :this_action;
        COMMIT;
    EXCEPTION
        WHEN OTHER THEN
            ROLLBACK;
            RAISE;
    END;
    RETURN changed;
END;
$$;

-- Lift: end the holds of this scope at once, those of persons and those of a credentials stop. A fence belongs to a migration, and
-- stays.
CREATE OR REPLACE PROCEDURE LIFT_HOLD(scope VARCHAR, reason VARCHAR)
COPY GRANTS
RETURNS NUMBER(38, 0)
LANGUAGE SQL
COMMENT = 'Ends the holds of this scope, except a fence; returns how many'
EXECUTE AS OWNER
AS
$$
DECLARE
    this_action VARCHAR DEFAULT UUID_STRING();
    checked NUMBER(38, 0);
    changed NUMBER(38, 0);
BEGIN
    SELECT TO_NUMBER(CASE
               WHEN TRIM(COALESCE(:scope, '')) = '' THEN 'the scope is empty: expected a destination, or * for all'
               WHEN REGEXP_REPLACE(COALESCE(:reason, ''), '[[:space:]]+', '') = '' THEN 'the reason is empty'
               WHEN LENGTH(:reason) > 1000 THEN 'the reason has more than 1000 characters'
               ELSE '0'
           END)
      INTO :checked;
    BEGIN
        BEGIN TRANSACTION;
        INSERT INTO PROCESSING_ACTIONS (action_id, action, selector, reason, entries, acted_by, acted_at)
        SELECT :this_action, 'lift', TO_JSON(OBJECT_CONSTRUCT('scope', :scope)), :reason, COUNT(*), CURRENT_USER(), SYSDATE()
          FROM PROCESSING_HOLDS
         WHERE scope = :scope
           AND kind <> 'fence';
        DELETE FROM PROCESSING_HOLDS
         WHERE scope = :scope
           AND kind <> 'fence';
        SELECT entries INTO :changed FROM PROCESSING_ACTIONS WHERE action_id = :this_action;
        COMMIT;
    EXCEPTION
        WHEN OTHER THEN
            ROLLBACK;
            RAISE;
    END;
    RETURN changed;
END;
$$;
