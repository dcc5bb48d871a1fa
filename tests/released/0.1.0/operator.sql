-- name: requeue
CALL REQUEUE_ENTRIES(%(selector)s, %(reason)s)

-- name: cancel
CALL CANCEL_ENTRIES(%(selector)s, %(reason)s)

-- name: discard
CALL DISCARD_ENTRIES(%(selector)s, %(reason)s)

-- name: reprioritise
CALL REPRIORITISE_ENTRIES(%(selector)s, %(priority)s, %(reason)s)

-- name: hold
CALL HOLD_DESTINATION(%(scope)s, %(seconds)s, %(reason)s)

-- name: lift
CALL LIFT_HOLD(%(scope)s, %(reason)s)
