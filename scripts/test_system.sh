#!/usr/bin/env bash
# Send one entry through the deployed system: insert it, run the poller, and print its changes until it ends.
#
# Usage: scripts/test_system.sh ENV [REGION] [--data JSON] [--within SECONDS] [--dry-run]
#
#   ENV       the environment, like dev
#   REGION    its region; by default that of the AWS CLI
#   --data    JSON to deliver; {"type": "test_system"} by default
#   --within  seconds to wait, 300 by default; a task takes up to a minute to start. A hold that ends within an hour is waited
#             for: it is named with its end and the CALL that lifts it, and the time starts again when it ends
#   --dry-run print the commands
#
# Set SNOWFLAKE_... as for setup_database.sh. The user needs INSERT and SELECT on the queue, and SELECT on PROCESSING_HOLDS,
# otherwise no hold is named. The role QUEUE_DB_OPERATOR lifts holds. The partner receives the entry: choose --data that does no
# harm there.
#
# Exit code: 0 completed, 1 failed or cancelled, 2 error, 3 not ended in time.

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
help_wanted "$@"

data='{"type": "test_system"}' within=300 positional=()
while (($#)); do
  case $1 in
    --data | --within)
      (($# > 1)) || misuse "$1 needs a value"
      case $1 in --data) data=$2 ;; --within) within=$2 ;; esac
      shift 2
      ;;
    --dry-run) dry_run=1 && shift ;;
    -*) misuse "unknown argument '$1'" ;;
    *) positional+=("$1") && shift ;;
  esac
done
((${#positional[@]} == 1 || ${#positional[@]} == 2)) || misuse "expected ENV and optionally REGION"
[[ $within =~ ^[0-9]+$ ]] || misuse "--within: expected seconds, got '$within'"
environment=${positional[0]}
check_environment "$environment"
need_aws
use_region "${positional[1]:-}"
poller="$environment-snowflake-poller"
reference="test-system-$(date -u +%Y%m%dT%H%M%SZ)-$$"

run database insert "$reference" --data "$data"
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
answer="$scratch/answer.json"
printf '{}' > "$scratch/event.json"  # from a file, because versions 1 and 2 of the AWS CLI read an argument differently
# The poller may be running already. Then the invocation is refused or finds nothing to do, and the running tick does the work.
if error="$(run aws lambda invoke --function-name "$poller" --payload "fileb://$scratch/event.json" \
  --query FunctionError --output text "$answer")"; then
  [[ -s $answer ]] && say "the poller answered: $(cat "$answer")"
  [[ $error == None || -z $error ]] || say "the poller failed ($error); read its log: aws logs tail /aws/lambda/$poller"
else
  say "the poller could not be invoked; its schedule may still run it"
fi

code=0
run database follow "$reference" --within "$within" || code=$?
((code == 0)) || say "read the logs: aws logs tail /aws/lambda/$poller, and aws logs tail /ecs/$environment-snowflake-processor"
exit "$code"
