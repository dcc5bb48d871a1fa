-- The statements of `rowqueue migrate`: what it looks at, the fence around a change, and the rebuild of an older table.
--
-- {table} is a table, {filling} the one that takes its place, {kept} the name under which its old rows are kept, {source} the one of
-- the two names that has them at the beginning; {columns} are the columns that both have, {values} what each of them gets; {broken}
-- is a condition on {column}. The runner puts names in that it has validated or read from Snowflake. DDL is in snowflake/.

-- name: place
-- Where the session is. NULL if the database or the schema does not exist, or if the role may not use it.
SELECT CURRENT_DATABASE(), CURRENT_SCHEMA()

-- name: columns
-- Every table of the schema with its columns. Views are left out by their names.
SELECT table_name, column_name, data_type
  FROM INFORMATION_SCHEMA.COLUMNS
 WHERE table_schema = CURRENT_SCHEMA()

-- name: version
SELECT COALESCE(MAX(version), 0), COALESCE(MAX(oldest_program), 0)
  FROM SCHEMA_VERSION

-- name: queue_on_record
-- The name of the queue in this schema.
SELECT MAX(queue_table)
  FROM SCHEMA_VERSION

-- name: fences
-- The fences that stand, with the seconds since the first row of each.
SELECT created_by, DATEDIFF('second', MIN(created_at), SYSDATE())
  FROM PROCESSING_HOLDS
 WHERE kind = %(kind)s
 GROUP BY created_by

-- name: place_fence
-- A hold on everything, with no end. A second run places no second one.
INSERT INTO PROCESSING_HOLDS (scope, kind, reason, created_by)
SELECT '*', %(kind)s, %(reason)s, %(created_by)s
 WHERE NOT EXISTS (SELECT 1 FROM PROCESSING_HOLDS WHERE kind = %(kind)s AND created_by = %(created_by)s)

-- name: lift_fence
-- Guarded by what is on record: a fence is lifted only after older programs claim nothing, also if another run did that.
DELETE FROM PROCESSING_HOLDS
 WHERE kind = %(kind)s
   AND created_by = %(created_by)s
   AND EXISTS (SELECT 1 FROM SCHEMA_VERSION WHERE version >= %(version)s AND oldest_program >= %(version)s)

-- name: statuses
SELECT status, COUNT(*)
  FROM {source}
 GROUP BY status
 ORDER BY status

-- name: broken_rows
-- How many rows do not fulfil a requirement, with an example.
SELECT COUNT(*), MIN(LEFT(TO_VARCHAR({column}), 100))
  FROM {source}
 WHERE {broken}

-- name: largest_id
SELECT COALESCE(MAX(id), 0) FROM {source}

-- name: fill
-- Copy each row to the new table.
INSERT INTO {filling} ({columns})
SELECT {values}
  FROM {source}

-- name: keep
-- Refused if another run did it, because the name is taken. From here on nobody changes the old rows.
ALTER TABLE {table} RENAME TO {kept}

-- name: fill_late
-- Copy the rows that a producer inserted between the copy and the rename.
INSERT INTO {filling} ({columns})
SELECT {values}
  FROM {kept}
 WHERE id NOT IN (SELECT id FROM {filling})

-- name: take_place
ALTER TABLE {filling} RENAME TO {table}

-- name: drop
-- A copy: the rows are in the table, or in the one that was kept.
DROP TABLE IF EXISTS {filling}
