#!/usr/bin/env bash
# Deploy an environment to AWS: the poller's zip, the processor's image, and everything in terraform/.
#
# Usage: scripts/deploy.sh ENV REGION [--image-uri URI | --base IMAGE] [--lambda-zip FILE] [--auto-approve] [--dry-run]
#
#   ENV             dev, staging, prod or another short name; the name of every resource begins with it
#   REGION          an AWS region like us-east-1
#   --image-uri     use this image, by digest or by a tag that never moves; build and push nothing
#   --base          build the image over this base image, as build_image.sh does
#   --lambda-zip    use this zip, which build_lambda.sh built elsewhere; build nothing
#   --auto-approve  do not ask before Terraform changes something
#   --dry-run       check tools, credentials and quotas, print the commands, change nothing
#
# The settings are in terraform/ENV.tfvars, or in terraform/terraform.tfvars for all environments. Copy
# terraform/terraform.tfvars.example to begin. Alarms are mailed to ALERT_EMAIL, if it is set.
#
# Set secrets as environment variables. Terraform writes them to AWS Secrets Manager and does not store them. It writes them the
# first time, and each time you increase the variable in parentheses:
#   SERVICE_PRIVATE_KEY, with SERVICE_PRIVATE_KEY_PASSPHRASE if it has one, or SERVICE_PASSWORD (snowflake_secret_version):
#     for the user that poller and processors log in as, not for the person who sets up the database
#   CLIENT_KEY_PASSPHRASE, if client-key.pem has a passphrase (client_key_secret_version)
#
# Each environment has its own Terraform workspace. Run the script again after a change or an interrupted run: it skips what
# exists already.

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
[[ -z $image_uri || ${#base[@]} -eq 0 ]] || misuse "--base: expected no --image-uri with it, because then nothing is built"
[[ -z $zip || -f $zip ]] || misuse "--lambda-zip: expected a zip that build_lambda.sh made, got '$zip'"

need_terraform
need_aws
if [[ -z $image_uri ]]; then builder="$(builder)"; fi
[[ -n $dry_run || ${#approve[@]} -gt 0 || -t 0 ]] || misuse "standard input is not a terminal, so nobody can confirm: pass --auto-approve"
account="$(account)"
export_secrets
say "account $account, region $AWS_REGION, environment $environment"

repository="$environment-snowflake-processor"
registry="$account.dkr.ecr.$AWS_REGION.amazonaws.com"

# check_vcpus NAME QUOTA TASKS CPU: warn if the quota is too small for this number of tasks. Without the check, it shows only
# under load, as tasks that do not start.
check_vcpus() {
  local name=$1 quota=$2 tasks=$3 cpu=$4 vcpus
  ((tasks > 0)) || return 0
  vcpus="$(aws service-quotas get-service-quota --service-code fargate --quota-code "$quota" \
    --query Quota.Value --output text 2> /dev/null || true)"
  if [[ ! $vcpus =~ ^[0-9.]+$ ]]; then
    say "not checked: how many $name vCPUs this account may use (quota $quota cannot be read)"
  elif awk -v vcpus="$vcpus" -v tasks="$tasks" -v cpu="$cpu" 'BEGIN { exit !(tasks * cpu / 1024 > vcpus) }'; then
    say "$name allows $vcpus vCPUs here, and $tasks tasks of $cpu CPU units, its share of max_containers, need more:" \
      "AWS will refuse the rest. Lower max_containers, or run: aws service-quotas request-service-quota-increase" \
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
  # AWS keeps 100 executions for functions without a reservation, and new accounts have 10 in all. A reservation of 0, which
  # stops the poller, needs none.
  reserved="$(tf_value reserved_concurrent_executions)"
  ((reserved > 0)) || return 0
  concurrency="$(aws lambda get-account-settings --query AccountLimit.ConcurrentExecutions --output text 2> /dev/null || true)"
  if [[ ! $concurrency =~ ^[0-9]+$ ]]; then
    say "not checked: how many functions may run at once (quota L-B99A9384 cannot be read)"
  elif ((concurrency < 100 + reserved)); then
    fail "reserved_concurrent_executions = $reserved needs a Lambda quota of $((100 + reserved)), and this account has" \
      "$concurrency: set it to null, or request an increase of quota L-B99A9384"
  fi
}

# check_secret NAME VALUE SECRET: fail if a secret would have no content. Otherwise the first task would fail, not Terraform.
check_secret() {
  [[ -n $2 ]] || aws secretsmanager describe-secret --secret-id "$environment-$3" > /dev/null 2>&1 \
    || fail "$1: expected the content of the secret $environment-$3, which does not exist yet"
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

# digest TAG: print the digest of the pushed image with this tag, or nothing.
digest() {
  aws ecr describe-images --repository-name "$repository" --image-ids "imageTag=$1" \
    --query 'imageDetails[0].imageDigest' --output text 2> /dev/null || true
}

registry_password() { [[ -n $dry_run ]] || aws ecr get-login-password; }

# Create the repository and push the image, unless they exist. Set image_uri to its digest.
provide_image() {
  local found tag
  tag="$("$root/scripts/build_image.sh" --print-tag --arch "$arch" ${base[@]+"${base[@]}"})"
  if ! aws ecr describe-repositories --repository-names "$repository" > /dev/null 2>&1; then
    say "creating the repository of the image first"
    run tf apply "${tf_arguments[@]}" ${approve[@]+"${approve[@]}"} -target=aws_ecr_repository.processor >&2
  fi
  found="$(digest "$tag")"
  if [[ $found != sha256:* ]]; then
    registry_password | run "$builder" login --username AWS --password-stdin "$registry" >&2
    BUILDER="$builder" run "$root/scripts/build_image.sh" --tag "$registry/$repository:$tag" --arch "$arch" \
      ${base[@]+"${base[@]}"} --push >&2
    found="$(digest "$tag")"
  fi
  [[ -n $dry_run || $found == sha256:* ]] || fail "the image $repository:$tag was pushed, but ECR does not list it"
  image_uri="$registry/$repository@${found:-sha256:...}"
}

# Put the zip where the other scripts look for it.
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
if [[ -d $root/terraform/.terraform ]]; then
  read_variables architecture snowflake_authentication snowflake_private_key_encrypted client_key_encrypted \
    max_containers task_cpu spot_share reserved_concurrent_executions
fi
arch="$(architecture)"
if [[ -d $root/terraform/.terraform ]]; then
  check_secrets
  check_quotas
else
  say "not checked: architecture, secrets and quotas, because Terraform is not initialised yet"
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
say "" "deployed. After the first deployment, run:"
say "  scripts/setup_database.sh"
for file in client.pem client-key.pem ca-cert.pem; do
  aws s3api head-object --bucket "$bucket" --key "$environment/$file" > /dev/null 2>&1 \
    || say "  aws s3 cp $file s3://$bucket/$environment/"
done
say "  scripts/setup_monitoring.sh $environment $AWS_REGION" "  scripts/test_system.sh $environment $AWS_REGION"
