#!/usr/bin/env bash
# Create the queue in Snowflake: warehouse, database, schema, roles, users, tables, views, procedures and grants.
# Safe to run again.
#
# Usage: scripts/setup_database.sh [--sample-data] [--skip-roles] [--yes] [--dry-run]
#
# Tables that exist are brought to the version of this release, with all rows: it does what `rowqueue migrate` does.
#
#   --sample-data  also insert the entries of snowflake/02_sample_data.sql
#   --skip-roles   skip the scripts that need an administrator (snowflake/00_roles.sql and 04_grants.sql): the warehouse, the
#                  database and the schema exist already, and you manage the privileges
#   --yes          do not ask before a table of an older shape is built again
#   --dry-run      print the SQL, do not connect
#
# Set these environment variables:
#   SNOWFLAKE_ACCOUNT                                       myorg-myaccount
#   SNOWFLAKE_USER with SNOWFLAKE_PASSWORD,                 a user with ACCOUNTADMIN, or with SYSADMIN and SECURITYADMIN
#     or SNOWFLAKE_PRIVATE_KEY and SNOWFLAKE_AUTHENTICATION=key_pair,
#     or SNOWFLAKE_AUTHENTICATOR=externalbrowser            a person logs in with a browser
#   SNOWFLAKE_WAREHOUSE, _DATABASE, _SCHEMA                 by default QUEUE_WH, QUEUE_DB and PUBLIC
#   SNOWFLAKE_TABLE                                         the queue table, by default PROCESSING_QUEUE

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
help_wanted "$@"

arguments=()
for argument in "$@"; do
  case $argument in
    --sample-data | --skip-roles | --yes) arguments+=("$argument") ;;
    --dry-run) dry_run=1 ;;
    *) misuse "unknown argument '$argument'" ;;
  esac
done

if [[ -n $dry_run ]]; then
  SNOWFLAKE_ACCOUNT="${SNOWFLAKE_ACCOUNT:-default}" database setup --dry-run ${arguments[@]+"${arguments[@]}"}
  exit
fi
database setup ${arguments[@]+"${arguments[@]}"}
say "the queue exists"
