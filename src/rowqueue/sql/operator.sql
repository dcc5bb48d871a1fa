-- Every statement by which people act on entries and holds. Each one calls a procedure of snowflake/03_actions.sql, which changes the
-- rows and records who did it, in one transaction. The form is the one of queries.sql.
--
-- A selector is one JSON object; see 03_actions.sql for its keys.

-- name: requeue
-- Failed and cancelled entries become pending again.
CALL REQUEUE_ENTRIES(%(selector)s, %(reason)s)

-- name: cancel
-- Pending entries become cancelled. Those in hand too, unless their delivery has begun.
CALL CANCEL_ENTRIES(%(selector)s, %(reason)s)

-- name: discard
-- Failed entries become cancelled.
CALL DISCARD_ENTRIES(%(selector)s, %(reason)s)

-- name: reprioritise
-- Pending entries get another priority.
CALL REPRIORITISE_ENTRIES(%(selector)s, %(priority)s, %(reason)s)

-- name: hold
-- Nothing of a destination is claimed, or nothing at all with the scope *.
CALL HOLD_DESTINATION(%(scope)s, %(seconds)s, %(reason)s)

-- name: lift
-- The holds of a scope end, except a fence.
CALL LIFT_HOLD(%(scope)s, %(reason)s)
