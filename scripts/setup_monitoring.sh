#!/usr/bin/env bash
# Update the alarms and the dashboard of a deployed environment, and check that the alarms exist.
#
# Usage: scripts/setup_monitoring.sh ENV REGION [--auto-approve] [--dry-run]
#
#   --auto-approve  do not ask before Terraform changes something
#   --dry-run       print the commands, change nothing
#
# Alarms are mailed to ALERT_EMAIL, if it is set, once its owner has confirmed AWS's message. To keep the subscription with the
# next deployment, set alert_email in the environment's tfvars file. If other resources would change too, the script changes
# nothing: deploy first.

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
[[ -n $dry_run || -n $approved || -t 0 ]] || misuse "standard input is not a terminal, so nobody can confirm: pass --auto-approve"
account > /dev/null

image="$(deployed_image "$environment")"
[[ -n $image ]] || fail "$environment is not deployed in $AWS_REGION: run scripts/deploy.sh $environment $AWS_REGION first"
terraform_arguments "$environment" "$(lambda_zip arm64)" "$image"
use_workspace "$environment"
if [[ -d $root/terraform/.terraform ]]; then read_variables architecture; fi
arch="$(architecture)"
[[ -f $root/terraform/$(lambda_zip "$arch") ]] \
  || run "$root/scripts/build_lambda.sh" --arch "$arch" --output "$root/terraform/$(lambda_zip "$arch")" >&2
terraform_arguments "$environment" "$(lambda_zip "$arch")" "$image"

scratch="$(mktemp -d)" # a saved plan contains the variables
trap 'rm -rf "$scratch"' EXIT
run tf plan "${tf_arguments[@]}" -target=module.monitoring -out="$scratch/plan" >&2
if [[ -z $dry_run ]]; then
  # -target also includes the dependencies of the target.
  outside="$(tf show -json "$scratch/plan" | python "$root/scripts/terraform_shown.py" outside module.monitoring)" \
    || fail "the changes of the plan cannot be read; nothing was changed"
  [[ -z $outside ]] || fail "this would change more than the monitoring ($outside): deploy first:" \
    "scripts/deploy.sh $environment $AWS_REGION"
  if [[ -z $approved ]]; then
    read -r -p "Apply this plan? Type 'yes' to continue: " approved || true # Terraform does not ask about a saved plan
    [[ $approved == yes ]] || fail "not confirmed; nothing was changed"
  fi
fi
run tf apply -input=false "$scratch/plan" >&2
[[ -z $dry_run ]] || exit 0

alarms="$(aws cloudwatch describe-alarms --alarm-name-prefix "$environment-snowflake-" --query 'MetricAlarms[].AlarmName' \
  --output text)"
[[ -n $alarms && $alarms != None ]] || fail "there are no alarms, although Terraform created them; check the module in monitoring/"
say "$(($(wc -w <<< "$alarms"))) alarms:"
tr '\t' '\n' <<< "$alarms" | sed 's/^/  /' >&2
[[ -z ${ALERT_EMAIL:-} ]] || say "alarms are mailed to $ALERT_EMAIL after its owner has confirmed the message from AWS"
printf 'dashboard: %s\n' "$(tf output -raw dashboard_url)"
