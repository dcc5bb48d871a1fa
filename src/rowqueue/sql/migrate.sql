-- The statements of `rowqueue migrate`: what it looks at, the fence around a change, and the rebuild of an older table.
--
-- {table} is a table, {filling} the table that takes its place, {kept} the name under which its old rows are kept; {columns} are
-- the columns that both have, {values} what each of them gets. The runner puts names in that it has validated or read from
-- Snowflake. DDL is in snowflake/.

-- name: place
-- Where the session is. NULL if the database or the schema does not exist, or if the role may not use it.
SELECT CURRENT_DATABASE(), CURRENT_SCHEMA()

-- name: columns
-- Every table of the schema with its columns. Views are left out by their names.
SELECT table_name, column_name, data_type
  FROM INFORMATION_SCHEMA.COLUMNS
 WHERE table_schema = CURRENT_SCHEMA()

-- name: version
SELECT COALESCE(MAX(version), 0)
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
-- Guarded by the version: a fence is lifted only after its migration is on record, also if another run applied it.
DELETE FROM PROCESSING_HOLDS
 WHERE kind = %(kind)s
   AND created_by = %(created_by)s
   AND EXISTS (SELECT 1 FROM SCHEMA_VERSION WHERE version >= %(version)s)

-- name: largest_id
SELECT COALESCE(MAX(id), 0) FROM {table}

-- name: fill
-- Copy each row to the new table.
INSERT INTO {filling} ({columns})
SELECT {values}
  FROM {table}

-- name: swap
-- Both names change in one transaction. From here on {filling} has the old rows.
ALTER TABLE {filling} SWAP WITH {table}

-- name: fill_late
-- Copy the rows that a producer inserted between the copy and the swap.
INSERT INTO {table} ({columns})
SELECT {values}
  FROM {filling}
 WHERE id NOT IN (SELECT id FROM {table})

-- name: keep
ALTER TABLE {filling} RENAME TO {kept}
