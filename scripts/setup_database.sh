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
# Where Snowflake's command line (snow) is installed it runs the SQL, with its default connection if SNOWFLAKE_ACCOUNT is
# not set; else the project's own driver does. CLIENT=driver or CLIENT=snow decides.

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

sql() { SNOWFLAKE_ACCOUNT="${SNOWFLAKE_ACCOUNT:-default}" database setup --dry-run ${arguments[@]+"${arguments[@]}"}; }

if [[ -n $dry_run ]]; then
  sql
  exit
fi

client="${CLIENT:-driver}"
# Snowflake's own program knows nothing of a host that is not Snowflake's.
if [[ -z ${CLIENT:-} && -z ${SNOWFLAKE_HOST:-} ]] && command -v snow > /dev/null; then client=snow; fi
case $client in
  snow) sql | snow sql --stdin ${SNOWFLAKE_ACCOUNT:+--temporary-connection} ;;
  driver) database setup ${arguments[@]+"${arguments[@]}"} ;;
  *) misuse "CLIENT: expected driver or snow, got '$client'" ;;
esac
say "the queue is there"
