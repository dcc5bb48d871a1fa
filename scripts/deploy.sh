#!/usr/bin/env bash
# Deploy an environment to AWS: the poller's zip, the processor's image, and everything in terraform/.
#
# Usage: scripts/deploy.sh ENV REGION [--image-uri URI | --base IMAGE] [--lambda-zip FILE] [--auto-approve] [--dry-run]
#
#   ENV             dev, staging, prod or another short name; part of the name of every resource
#   REGION          like us-east-1
#   --image-uri     use this image, by digest or by a tag that never moves; nothing is built or pushed
#   --base          build the image over this one, as build_image.sh does
#   --lambda-zip    use this zip, which build_lambda.sh made elsewhere or for another machine; nothing is built
#   --auto-approve  do not ask before Terraform changes something
#   --dry-run       look at tools, credentials and quotas, print what would be run, change nothing
#
# Settings stand in terraform/ENV.tfvars, or terraform/terraform.tfvars for all environments; start from
# terraform/terraform.tfvars.example. ALERT_EMAIL is told of alarms.
#
# Secrets come from the environment and reach Terraform as variables that it keeps nowhere. They are written the first time,
# and whenever the variable in parentheses is raised:
#   SERVICE_PRIVATE_KEY, with SERVICE_PRIVATE_KEY_PASSPHRASE if it has one, or SERVICE_PASSWORD (snowflake_secret_version):
#     of the user that poller and processors log in as, not of whoever sets up the database
#   CLIENT_KEY_PASSPHRASE, if client-key.pem has one (client_key_secret_version)
#
# Each environment has a Terraform workspace of its own. Run it again whenever something changed or a run was cut short:
# what is there already is not done again.

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
help_wanted "$@"

image_uri="" base=() zip="" approve=() positional=()
while (($#)); do
  case $1 in
    --image-uri | --base | --lambda-zip)
      (($# > 1)) || misuse "$1 needs a value"
      case $1 in --image-uri) image_uri=$2 ;; --base) base=(--base "$2") ;; --lambda-zip) zip=$2 ;; esac
      shift 2
      ;;
    --auto-approve) approve=(-auto-approve) && shift ;;
    --dry-run) dry_run=1 && shift ;;
    -*) misuse "unknown argument '$1'" ;;
    *) positional+=("$1") && shift ;;
  esac
done
((${#positional[@]} == 2)) || misuse "expected ENV and REGION"
environment=${positional[0]}
check_environment "$environment"
use_region "${positional[1]}"
[[ $image_uri != *:latest ]] || misuse "--image-uri: expected a digest or a tag that never moves, got :latest"
[[ -z $image_uri || ${#base[@]} -eq 0 ]] || misuse "--base: expected no --image-uri beside it, for then nothing is built"
[[ -z $zip || -f $zip ]] || misuse "--lambda-zip: expected a zip that build_lambda.sh made, got '$zip'"

need_terraform
need_aws
if [[ -z $image_uri ]]; then builder="$(builder)"; fi
[[ -n $dry_run || ${#approve[@]} -gt 0 || -t 0 ]] || misuse "nobody is there to be asked: give --auto-approve"
account="$(account)"
export_secrets
say "account $account, region $AWS_REGION, environment $environment"

repository="$environment-snowflake-processor"
registry="$account.dkr.ecr.$AWS_REGION.amazonaws.com"

# check_vcpus NAME QUOTA TASKS CPU: whether so many tasks may run at once. A quota that is too small shows itself only under
# load, as tasks that are not placed; here it can be read.
check_vcpus() {
  local name=$1 quota=$2 tasks=$3 cpu=$4 vcpus
  ((tasks > 0)) || return 0
  vcpus="$(aws service-quotas get-service-quota --service-code fargate --quota-code "$quota" \
    --query Quota.Value --output text 2> /dev/null || true)"
  if [[ ! $vcpus =~ ^[0-9.]+$ ]]; then
    say "not checked: how many $name vCPUs this account may use (quota $quota can not be read)"
  elif awk -v vcpus="$vcpus" -v tasks="$tasks" -v cpu="$cpu" 'BEGIN { exit !(tasks * cpu / 1024 > vcpus) }'; then
    say "$name allows $vcpus vCPUs here, and $tasks tasks of $cpu CPU units, its share of max_containers, need more: the" \
      "poller will be refused the rest. Lower max_containers, or: aws service-quotas request-service-quota-increase" \
      "--service-code fargate --quota-code $quota --desired-value $(((tasks * cpu + 1023) / 1024))"
  fi
}

check_quotas() {
  local most cpu spot reserved concurrency
  most="$(tf_value max_containers)"
  cpu="$(tf_value task_cpu)"
  spot="$(tf_value spot_share)"
  check_vcpus "Fargate On-Demand" L-3032A538 $(((most * (100 - spot) + 99) / 100)) "$cpu"
  check_vcpus "Fargate Spot" L-36FBB829 $(((most * spot + 99) / 100)) "$cpu"
  # AWS keeps 100 executions for the functions that reserve none, and new accounts have 10 in all. A reservation of 0, which
  # stops the poller, takes none away.
  reserved="$(tf_value reserved_concurrent_executions)"
  ((reserved > 0)) || return 0
  concurrency="$(aws lambda get-account-settings --query AccountLimit.ConcurrentExecutions --output text 2> /dev/null || true)"
  if [[ ! $concurrency =~ ^[0-9]+$ ]]; then
    say "not checked: how many functions may run at once (quota L-B99A9384 can not be read)"
  elif ((concurrency < 100 + reserved)); then
    fail "reserved_concurrent_executions = $reserved needs a Lambda quota of $((100 + reserved)), and this account has" \
      "$concurrency: set it to null, or have quota L-B99A9384 raised"
  fi
}

# check_secret NAME VALUE SECRET: a secret without its content would be noticed by the first task, not by Terraform.
check_secret() {
  [[ -n $2 ]] || aws secretsmanager describe-secret --secret-id "$environment-$3" > /dev/null 2>&1 \
    || fail "$1: expected what goes into the secret $environment-$3, which is not there yet"
}

check_secrets() {
  local way encrypted
  way="$(tf_value snowflake_authentication)"
  case $way in
    key_pair) check_secret SERVICE_PRIVATE_KEY "${TF_VAR_snowflake_private_key:-}" snowflake-credentials ;;
    password) check_secret SERVICE_PASSWORD "${TF_VAR_snowflake_password:-}" snowflake-credentials ;;
  esac
  encrypted="$(tf_value snowflake_private_key_encrypted)"
  [[ -z ${TF_VAR_snowflake_private_key_passphrase:-} || $way == workload_identity || $encrypted == true ]] \
    || fail "SERVICE_PRIVATE_KEY_PASSPHRASE is set: set snowflake_private_key_encrypted = true, so that the tasks get it"
  encrypted="$(tf_value client_key_encrypted)"
  if [[ $encrypted == true ]]; then
    check_secret CLIENT_KEY_PASSPHRASE "${TF_VAR_client_key_passphrase:-}" snowflake-client-key-passphrase
  elif [[ -n ${TF_VAR_client_key_passphrase:-} ]]; then
    fail "CLIENT_KEY_PASSPHRASE is set: set client_key_encrypted = true, so that the tasks get it"
  fi
}

# digest TAG: of the image that was pushed under it, or nothing.
digest() {
  aws ecr describe-images --repository-name "$repository" --image-ids "imageTag=$1" \
    --query 'imageDetails[0].imageDigest' --output text 2> /dev/null || true
}

registry_password() { [[ -n $dry_run ]] || aws ecr get-login-password; }

# The repository, the image in it, and its digest; each step only if it is not done yet.
provide_image() {
  local found tag
  tag="$("$root/scripts/build_image.sh" --print-tag --arch "$arch" ${base[@]+"${base[@]}"})"
  if ! aws ecr describe-repositories --repository-names "$repository" > /dev/null 2>&1; then
    say "the image needs a repository first"
    run tf apply "${tf_arguments[@]}" ${approve[@]+"${approve[@]}"} -target=aws_ecr_repository.processor >&2
  fi
  found="$(digest "$tag")"
  if [[ $found != sha256:* ]]; then
    registry_password | run "$builder" login --username AWS --password-stdin "$registry" >&2
    BUILDER="$builder" run "$root/scripts/build_image.sh" --tag "$registry/$repository:$tag" --arch "$arch" \
      ${base[@]+"${base[@]}"} --push >&2
    found="$(digest "$tag")"
  fi
  [[ -n $dry_run || $found == sha256:* ]] || fail "the image $repository:$tag was pushed, but ECR does not show it"
  image_uri="$registry/$repository@${found:-sha256:...}"
}

# Where the other scripts look for it too.
provide_zip() {
  local place
  place="$root/terraform/$(lambda_zip "$arch")"
  if [[ -z $zip ]]; then
    run "$root/scripts/build_lambda.sh" --arch "$arch" --output "$place" >&2
  elif [[ ! $zip -ef $place ]]; then
    run mkdir -p "$(dirname "$place")"
    run cp "$zip" "$place"
  fi
}

terraform_arguments "$environment" "$(lambda_zip arm64)" "${image_uri:-$registry/$repository:none}"
use_workspace "$environment"
arch="$(architecture)"
if [[ -d $root/terraform/.terraform ]]; then
  check_secrets
  check_quotas
else
  say "not checked: architecture, secrets and quotas, for Terraform is not initialised yet"
fi
provide_zip
terraform_arguments "$environment" "$(lambda_zip "$arch")" "${image_uri:-$registry/$repository:none}"
if [[ -z $image_uri ]]; then
  provide_image
  terraform_arguments "$environment" "$(lambda_zip "$arch")" "$image_uri"
fi
run tf apply "${tf_arguments[@]}" ${approve[@]+"${approve[@]}"} >&2
[[ -z $dry_run ]] || exit 0

bucket="$(tf output -raw certificate_bucket)"
say "" "deployed. What is left the first time:"
say "  scripts/setup_database.sh"
for file in client.pem client-key.pem ca-cert.pem; do
  aws s3api head-object --bucket "$bucket" --key "$environment/$file" > /dev/null 2>&1 \
    || say "  aws s3 cp $file s3://$bucket/$environment/"
done
say "  scripts/setup_monitoring.sh $environment $AWS_REGION" "  scripts/test_system.sh $environment $AWS_REGION"
