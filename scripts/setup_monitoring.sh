#!/usr/bin/env bash
# Bring the alarms and the dashboard of a deployed environment up to date, and look whether they are there.
#
# Usage: scripts/setup_monitoring.sh ENV REGION [--auto-approve] [--dry-run]
#
#   --auto-approve  do not ask before Terraform changes something
#   --dry-run       print what would be run, change nothing
#
# ALERT_EMAIL, if it is set, is told of alarms once its owner has confirmed AWS's message. To keep it with the next
# deployment, put alert_email into the environment's tfvars. Where that would also change what the alarms watch, nothing is
# changed: deploy first.

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
help_wanted "$@"

approved="" positional=()
for argument in "$@"; do
  case $argument in
    --auto-approve) approved=1 ;;
    --dry-run) dry_run=1 ;;
    -*) misuse "unknown argument '$argument'" ;;
    *) positional+=("$argument") ;;
  esac
done
((${#positional[@]} == 2)) || misuse "expected ENV and REGION"
environment=${positional[0]}
check_environment "$environment"
use_region "${positional[1]}"
[[ -z ${ALERT_EMAIL:-} || $ALERT_EMAIL == ?*@?*.?* ]] || misuse "ALERT_EMAIL: expected an address, got '$ALERT_EMAIL'"
need_terraform
need_aws
[[ -n $dry_run || -n $approved || -t 0 ]] || misuse "nobody is there to be asked: give --auto-approve"
account > /dev/null

image="$(deployed_image "$environment")"
[[ -n $image ]] || fail "$environment is not deployed in $AWS_REGION: run scripts/deploy.sh $environment $AWS_REGION first"
terraform_arguments "$environment" "$(lambda_zip arm64)" "$image"
use_workspace "$environment"
arch="$(architecture)"
[[ -f $root/terraform/$(lambda_zip "$arch") ]] \
  || run "$root/scripts/build_lambda.sh" --arch "$arch" --output "$root/terraform/$(lambda_zip "$arch")" >&2
terraform_arguments "$environment" "$(lambda_zip "$arch")" "$image"

scratch="$(mktemp -d)" # a saved plan holds the variables
trap 'rm -rf "$scratch"' EXIT
run tf plan "${tf_arguments[@]}" -target=module.monitoring -out="$scratch/plan" >&2
if [[ -z $dry_run ]]; then
  # What a target depends on comes along with it.
  outside="$(tf show -json "$scratch/plan" | python "$root/scripts/terraform_shown.py" outside module.monitoring)" \
    || fail "what the plan changes can not be read; nothing was changed"
  [[ -z $outside ]] || fail "this would change more than the monitoring ($outside): deploy first:" \
    "scripts/deploy.sh $environment $AWS_REGION"
  if [[ -z $approved ]]; then
    read -r -p "Apply this plan? Only 'yes' does: " approved || true # Terraform does not ask about a saved one
    [[ $approved == yes ]] || fail "not confirmed; nothing was changed"
  fi
fi
run tf apply -input=false "$scratch/plan" >&2
[[ -z $dry_run ]] || exit 0

alarms="$(aws cloudwatch describe-alarms --alarm-name-prefix "$environment-snowflake-" --query 'MetricAlarms[].AlarmName' \
  --output text)"
[[ -n $alarms && $alarms != None ]] || fail "no alarm is there, though Terraform says so; look at the module in monitoring/"
say "$(wc -w <<< "$alarms") alarms:"
tr '\t' '\n' <<< "$alarms" | sed 's/^/  /' >&2
[[ -z ${ALERT_EMAIL:-} ]] || say "alarms go to $ALERT_EMAIL, once the message from AWS is confirmed"
printf 'dashboard: %s\n' "$(tf output -raw dashboard_url)"
