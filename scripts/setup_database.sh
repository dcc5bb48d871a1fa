#!/usr/bin/env bash
# Make the queue in Snowflake: warehouse, database, schema, roles, users, tables, views and grants. Safe to run again.
#
# Usage: scripts/setup_database.sh [--sample-data] [--skip-roles] [--dry-run]
#
#   --sample-data  also insert the entries of snowflake/02_sample_data.sql
#   --skip-roles   leave out what needs an administrator (snowflake/00_roles.sql and 04_grants.sql): the warehouse, the
#                  database and the schema are there, and you look after who may use them
#   --dry-run      print the SQL, connect to nothing
#
# Where, and who you are, comes from the environment:
#   SNOWFLAKE_ACCOUNT                                       myorg-myaccount
#   SNOWFLAKE_USER with SNOWFLAKE_PASSWORD,                 a user with ACCOUNTADMIN, or with SYSADMIN and SECURITYADMIN
#     or SNOWFLAKE_PRIVATE_KEY and SNOWFLAKE_AUTHENTICATION=key_pair,
#     or SNOWFLAKE_AUTHENTICATOR=externalbrowser            signs in with a browser, for people
#   SNOWFLAKE_WAREHOUSE, _DATABASE, _SCHEMA                 QUEUE_WH, QUEUE_DB and PUBLIC if they are not set
#
# The tables have their standard names: SNOWFLAKE_TABLE is not looked at.

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
help_wanted "$@"

arguments=()
for argument in "$@"; do
  case $argument in
    --sample-data | --skip-roles) arguments+=("$argument") ;;
    --dry-run) dry_run=1 ;;
    *) misuse "unknown argument '$argument'" ;;
  esac
done

if [[ -n $dry_run ]]; then
  SNOWFLAKE_ACCOUNT="${SNOWFLAKE_ACCOUNT:-default}" database setup --dry-run ${arguments[@]+"${arguments[@]}"}
  exit
fi
database setup ${arguments[@]+"${arguments[@]}"}
say "the queue is there"
