#!/usr/bin/env bash
# Send one entry through the deployed system: insert it, run the poller, follow the entry to its end.
#
# Usage: scripts/test_system.sh ENV [REGION] [--data JSON] [--within SECONDS] [--dry-run]
#
#   ENV       the environment, like dev
#   REGION    its region; what the AWS CLI would use by default
#   --data    what is delivered; {"type": "test_system"} by default
#   --within  how long to wait, 300 seconds by default: a task takes up to a minute to start
#   --dry-run print what would be run
#
# SNOWFLAKE_... say where the queue is and who you are, as for setup_database.sh; the user needs INSERT and SELECT on the
# queue. The partner gets the entry: choose --data that does no harm there.
#
# Exit code: 0 completed, 1 failed or cancelled, 2 something could not be asked, 3 still under way when the time was up.

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
((${#positional[@]} == 1 || ${#positional[@]} == 2)) || misuse "expected ENV and perhaps REGION"
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
printf '{}' > "$scratch/event.json"  # from a file, for the AWS CLIs 1 and 2 read an argument differently
# The poller may be at work already; then the invocation is refused or finds nothing to do, and the schedule does it.
if error="$(run aws lambda invoke --function-name "$poller" --payload "fileb://$scratch/event.json" \
  --query FunctionError --output text "$answer")"; then
  [[ -s $answer ]] && say "the poller answered: $(cat "$answer")"
  [[ $error == None || -z $error ]] || say "that is an error of the poller ($error); its log: aws logs tail /aws/lambda/$poller"
else
  say "the poller could not be invoked; the schedule may still run it"
fi

code=0
run database follow "$reference" --within "$within" || code=$?
((code == 0)) || say "where to look: aws logs tail /aws/lambda/$poller, and /ecs/$environment-snowflake-processor"
exit "$code"
