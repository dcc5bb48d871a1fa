#!/usr/bin/env bash
# Remove an environment: stop its ticks and tasks, empty its bucket, and destroy everything that Terraform created.
#
# Usage: scripts/cleanup.sh ENV [REGION] [--confirm ENV] [--dry-run]
#
#   ENV        the environment
#   REGION     its region; by default that of the AWS CLI
#   --confirm  the environment's name again, instead of the question
#   --dry-run  print the commands, change nothing
#
# Snowflake keeps its tables with their entries, its roles and users. The script prints what else is left.

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
help_wanted "$@"

confirmed="" positional=()
while (($#)); do
  case $1 in
    --confirm)
      (($# > 1)) || misuse "$1 needs a value"
      confirmed=$2
      shift 2
      ;;
    --dry-run) dry_run=1 && shift ;;
    -*) misuse "unknown argument '$1'" ;;
    *) positional+=("$1") && shift ;;
  esac
done
((${#positional[@]} == 1 || ${#positional[@]} == 2)) || misuse "expected ENV and optionally REGION"
environment=${positional[0]}
check_environment "$environment"
need_terraform
need_aws
use_region "${positional[1]:-}"
account="$(account)"
poller="$environment-snowflake-poller" cluster="$environment-snowflake-processor"
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT

if [[ -z $dry_run && -z $confirmed ]]; then
  say "This destroys the environment $environment in account $account, region $AWS_REGION, certificates included."
  read -r -p "Type its name to continue: " confirmed || true
fi
[[ -n $dry_run || $confirmed == "$environment" ]] || fail "not confirmed; nothing was changed"

# With other credentials or in another region, the script could find nothing, or another environment of the same name.
check_place() {
  local made here="account $account, region $AWS_REGION"
  made="$(tf show -json | python "$root/scripts/terraform_shown.py" places)" \
    || fail "the state of $environment cannot be read; nothing was changed"
  [[ -z $made || $made == "$here" ]] || fail "$environment is in $made, and this is $here; nothing was changed"
}

# Events of stopped tasks invoke the poller too, and it would start new tasks. So it must not run at all.
pause_poller() {
  local answer
  answer="$(aws lambda get-function --function-name "$poller" --query Configuration.FunctionArn 2>&1)" || {
    [[ $answer == *ResourceNotFound* ]] || fail "$poller cannot be looked up: $answer"
    return 0
  }
  run aws lambda put-function-concurrency --function-name "$poller" --reserved-concurrent-executions 0 > /dev/null
  # The group of the schedule has the poller's name: see terraform/eventbridge.tf.
  answer="$(aws scheduler list-schedules --group-name "$poller" --query 'Schedules[].Name' --output text 2>&1)" || {
    [[ $answer == *ResourceNotFound* ]] || fail "the schedules of $poller cannot be listed: $answer"
    return 0
  }
  tr '\t' '\n' <<< "$answer" | sed '/^None$/d; /^$/d' | while read -r name; do disable_schedule "$poller" "$name"; done
}

# No call of AWS only disables a schedule. So write it again unchanged with the state DISABLED.
disable_schedule() {
  aws scheduler get-schedule --group-name "$1" --name "$2" --output json --query "{Name: Name, GroupName: GroupName,
    ScheduleExpression: ScheduleExpression, FlexibleTimeWindow: FlexibleTimeWindow, Target: Target, State: 'DISABLED'}" \
    > "$scratch/schedule.json"
  run aws scheduler update-schedule --cli-input-json "file://$scratch/schedule.json" > /dev/null
}

running_tasks() {
  local answer
  answer="$(aws ecs list-tasks --cluster "$cluster" --desired-status RUNNING --query 'taskArns[]' --output text 2>&1)" || {
    [[ $answer == *ClusterNotFound* ]] || fail "the tasks of $cluster cannot be listed: $answer"
    return 0
  }
  sed '/^None$/d' <<< "$answer" | tr '\t' '\n'
}

# Repeat until there is none: a tick that was running may have started more.
stop_tasks() {
  local tasks task hundred
  while tasks="$(running_tasks)" || exit && [[ -n $tasks ]]; do
    for task in $tasks; do
      run aws ecs stop-task --cluster "$cluster" --task "$task" --reason "cleanup.sh" > /dev/null
    done
    [[ -z $dry_run ]] || break
    say "waiting until the tasks have released their entries"
    # shellcheck disable=SC2086  # one word for each task
    xargs -n 100 <<< "$tasks" | while read -r hundred; do
      aws ecs wait tasks-stopped --cluster "$cluster" --tasks $hundred
    done
  done
}

# Delete all versions of all objects and all delete markers, a thousand per call.
empty_bucket() {
  aws s3api head-bucket --bucket "$1" > /dev/null 2>&1 || return 0
  while aws s3api list-object-versions --bucket "$1" --max-keys 1000 --no-paginate --output json \
    --query '{Objects: [Versions, DeleteMarkers][].{Key: Key, VersionId: VersionId}}' > "$scratch/versions.json" \
    && grep -q VersionId "$scratch/versions.json"; do
    run aws s3api delete-objects --bucket "$1" --delete "file://$scratch/versions.json" > /dev/null
    [[ -z $dry_run ]] || break
  done
}

image="$(deployed_image "$environment")"
terraform_arguments "$environment" "$(lambda_zip arm64)" \
  "${image:-$account.dkr.ecr.$AWS_REGION.amazonaws.com/$cluster:none}"
use_workspace "$environment"
bucket=""
if [[ -d $root/terraform/.terraform ]]; then
  check_place
  bucket="$(tf output -raw certificate_bucket 2> /dev/null || true)"
  # Terraform reads the zip also when it only destroys.
  zip="$root/terraform/$(lambda_zip arm64)"
  [[ -f $zip || -n $dry_run ]] || { mkdir -p "$(dirname "$zip")" && : > "$zip"; }
fi

say "1. the poller"
pause_poller
say "2. the tasks"
stop_tasks
say "3. the certificates"
empty_bucket "${bucket:-$cluster-certs}"
say "4. everything else"
run tf destroy "${tf_arguments[@]}" -auto-approve >&2
if [[ -z $dry_run ]]; then
  unset TF_WORKSPACE
  run tf workspace select default >&2
  run tf workspace delete "$environment" >&2
  [[ ! -f ${zip:-} || -s ${zip:-} ]] || rm -f "$zip"
fi

say "" "not removed:" \
  "  Snowflake: tables, roles, users and warehouse; to remove them: DROP DATABASE, DROP USER, DROP ROLE, DROP WAREHOUSE" \
  "  the bucket of Terraform's state, if you use one" \
  "  the log group of Container Insights, which ECS created: aws logs delete-log-group" \
  "    --log-group-name /aws/ecs/containerinsights/$cluster/performance" \
  "  the secrets, until their recovery window is over; to deploy again before that, run for each that existed:" \
  "    aws secretsmanager delete-secret --force-delete-without-recovery --secret-id $environment-snowflake-credentials" \
  "    aws secretsmanager delete-secret --force-delete-without-recovery --secret-id $environment-snowflake-client-key-passphrase"
