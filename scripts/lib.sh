# shellcheck shell=bash
# Functions that the scripts share. Each script sources this file.
#
# Progress goes to standard error, results to standard output. Every command that changes something goes through `run`, which
# implements --dry-run. Secrets reach Terraform through TF_VAR_..., never through an argument.
#
# The scripts run in bash 3.2, which macOS has; tests/scripts/test_portable.py looks for newer features. `env` calls a program
# from the function of the same name: in bash 3.2 `command` would end the script when the program fails, also in a condition.

set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
dry_run=""
export AWS_PAGER=""
export TF_IN_AUTOMATION=1

say() { printf "%s\n" "$@" >&2; }

# fail MESSAGE...: end with exit code 1.
fail() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

# misuse MESSAGE...: end with exit code 2, because the arguments are wrong.
misuse() {
  printf '%s: %s; see %s --help\n' "${0##*/}" "$*" "${0##*/}" >&2
  exit 2
}

# help_wanted ARGUMENT...: if --help is given, print the comment at the top of the script and end.
help_wanted() {
  local argument
  for argument in "$@"; do
    if [[ $argument == --help || $argument == -h ]]; then
      sed -n '2,/^[^#]/{/^#/s/^# \{0,1\}//p;}' "$0"
      exit 0
    fi
  done
}

# need TOOL HINT: fail with the hint if the program is not installed.
need() { command -v "$1" > /dev/null || fail "$1 is needed: $2"; }

need_aws() { need aws "install the AWS CLI 2, https://docs.aws.amazon.com/cli/latest/userguide/getting-started-install.html"; }

need_terraform() {
  local found
  need terraform "install Terraform 1.11 or newer, https://developer.hashicorp.com/terraform/install"
  found="$(terraform version | sed -n '1s/^Terraform v//p')"
  [[ $found =~ ^(1\.(1[1-9]|[2-9][0-9])|[2-9])(\.|$) ]] \
    || fail "Terraform 1.11 or newer is needed (older ones store secrets in the state), got ${found:-no version}"
}

# Prefer the Python of `make setup`, which has the pinned driver.
python() {
  local own="$root/.venv/bin/python"
  if [[ -x $own ]]; then "$own" "$@"; else env python3 "$@"; fi
}

# run COMMAND...: print the command as a person would type it, and run it unless this is a dry run.
run() {
  local shown=("$@")
  case $1 in
    tf) shown=(terraform -chdir=terraform "${@:2}") ;;
    database) shown=(.venv/bin/python scripts/database.py "${@:2}") ;;
  esac
  printf '%s' "${dry_run:+would run: }" >&2
  printf '%q ' "${shown[@]}" >&2
  printf '\n' >&2
  [[ -n $dry_run ]] || "$@"
}

# AWS CLIs before 2.13 and 1.29 ignore AWS_ENDPOINT_URL.
aws() { env aws ${AWS_ENDPOINT_URL:+--endpoint-url "$AWS_ENDPOINT_URL"} "$@"; }

tf() { env terraform -chdir="$root/terraform" "$@"; }

# The same pattern as ENVIRONMENT in src/rowqueue/settings.py. The name of every resource begins with it.
check_environment() {
  [[ $1 =~ ^[a-z][a-z0-9-]{0,23}$ ]] || misuse "ENV: expected a short name like dev, staging or prod, got '$1'"
}

# use_region [REGION]: use the argument, or else the region of the AWS CLI.
use_region() {
  local region="${1:-${AWS_REGION:-${AWS_DEFAULT_REGION:-}}}"
  [[ -n $region ]] || region="$(aws configure get region || true)"
  [[ $region =~ ^[a-z]{2}(-[a-z]+)+-[0-9]$ ]] || misuse "REGION: expected a region like us-east-1, got '$region'"
  export AWS_REGION="$region" AWS_DEFAULT_REGION="$region"
}

# Print the account, or fail if there are no valid credentials.
account() {
  aws sts get-caller-identity --query Account --output text \
    || fail "AWS does not know who you are: run 'aws configure sso' or set AWS_PROFILE, then try 'aws sts get-caller-identity'"
}

# Each environment has its own Terraform workspace, so no environment is planned over the state of another. This works for a
# state in a file and in a bucket. With TF_WORKSPACE, two deployments can run at the same time.
use_workspace() {
  unset TF_WORKSPACE
  run tf init -input=false >&2
  run tf workspace select -or-create "$1" >&2
  export TF_WORKSPACE="$1"
}

# terraform_arguments ENV ZIP IMAGE_URI: fill the array tf_arguments. Terraform reads terraform.tfvars by itself.
terraform_arguments() {
  tf_arguments=(-input=false)
  if [[ -f $root/terraform/$1.tfvars ]]; then
    tf_arguments+=(-var-file="$1.tfvars")
  elif [[ ! -f $root/terraform/terraform.tfvars && -z ${TF_VAR_snowflake_account:-} ]]; then
    fail "terraform/terraform.tfvars is missing: copy terraform/terraform.tfvars.example to it, or to terraform/$1.tfvars, and fill it in"
  fi
  tf_arguments+=(-var "environment=$1" -var "aws_region=$AWS_REGION" -var "lambda_zip=$2" -var "image_uri=$3")
  if [[ -n ${ALERT_EMAIL:-} ]]; then tf_arguments+=(-var "alert_email=$ALERT_EMAIL"); fi
}

# Pass secrets to Terraform as variables that it does not store. It writes them when snowflake_secret_version or
# client_key_secret_version has increased. The names begin with SERVICE_, because SNOWFLAKE_... belong to the person who sets up
# the database.
export_secrets() {
  local name
  for name in PASSWORD PRIVATE_KEY PRIVATE_KEY_PASSPHRASE; do
    local given="SERVICE_$name" wanted
    wanted="TF_VAR_snowflake_$(printf %s "$name" | tr "[:upper:]" "[:lower:]")"
    if [[ -n ${!given:-} && -z ${!wanted:-} ]]; then export "$wanted=${!given}"; fi
  done
  if [[ -n ${CLIENT_KEY_PASSPHRASE:-} ]]; then
    export TF_VAR_client_key_passphrase="${TF_VAR_client_key_passphrase:-$CLIENT_KEY_PASSPHRASE}"
  fi
}

# database COMMAND...: run SQL in Snowflake; see scripts/database.py.
database() { python "$root/scripts/database.py" "$@"; }

# deployed_image ENV: print the image of the current task definition, or nothing.
deployed_image() {
  aws ecs describe-task-definition --task-definition "$1-snowflake-processor" \
    --query 'taskDefinition.containerDefinitions[0].image' --output text 2> /dev/null || true
}

# lambda_zip ARCH: print the path of the poller's zip, relative to terraform/, so that it is the same on every machine.
lambda_zip() { printf '../build/snowflake-poller-%s.zip' "$1"; }

# read_variables NAME...: read the values of Terraform variables, or their defaults. Terraform needs seconds to answer, so this
# asks for all at once. Needs terraform_arguments.
read_variables() {
  local arguments=("${tf_arguments[@]:1}") answer name names="" # terraform console has no option -input
  for name in "$@"; do names+="$name = var.$name, "; done
  # shellcheck disable=SC2016  # Terraform replaces ${...}, not the shell
  answer="$(printf 'join(" ", [for name, value in {%s} : "${name}=${value == null ? "" : value}"])\n' "$names" \
    | tf console "${arguments[@]}" 2>&1)" || fail "the Terraform variables cannot be read: $answer"
  # Terraform prints warnings before the value, also to standard output.
  tf_variables="$(sed '$!d; s/"//g' <<< "$answer")"
}

# tf_value NAME: print the value of a variable that was read, or nothing if it is null.
tf_value() {
  local pair
  for pair in $tf_variables; do
    if [[ $pair == "$1="* ]]; then printf '%s' "${pair#*=}"; fi
  done
}

# architecture: print arm64 or x86_64, from the settings of this environment. Needs read_variables, but for a dry run without
# .terraform: Terraform cannot evaluate variables then.
architecture() {
  local value=ARM64
  if [[ -d $root/terraform/.terraform ]]; then value="$(tf_value architecture)"; fi
  case $value in
    ARM64) printf arm64 ;;
    X86_64) printf x86_64 ;;
    *) fail "architecture: expected ARM64 or X86_64, got '$value'" ;;
  esac
}

# builder: print the name of the first program that can build an image here.
builder() {
  if [[ -n ${BUILDER:-} ]]; then
    printf '%s' "$BUILDER"
  elif command -v docker > /dev/null && docker info > /dev/null 2>&1; then
    printf docker
  elif command -v podman > /dev/null; then
    printf podman
  elif command -v buildah > /dev/null; then
    printf buildah
  else
    fail "docker with a running engine, podman or buildah is needed to build the image; or pass --image-uri to deploy.sh"
  fi
}
