# shellcheck shell=bash
# What the scripts share: sourced by each, never run.
#
# Progress goes to standard error, results to standard output. `run` is the only way to a command that changes something,
# so that --dry-run is one place. Secrets reach Terraform through TF_VAR_..., never through an argument.

set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
dry_run=""
export AWS_PAGER=""
export TF_IN_AUTOMATION=1

say() { printf "%s\n" "$@" >&2; }

# fail MESSAGE...: something outside is not as it has to be.
fail() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

# misuse MESSAGE...: the arguments are wrong.
misuse() {
  printf '%s: %s; see %s --help\n' "${0##*/}" "$*" "${0##*/}" >&2
  exit 2
}

# help_wanted ARGUMENT...: prints the comment at the top of the script, which is its manual, if it is asked for.
help_wanted() {
  local argument
  for argument in "$@"; do
    if [[ $argument == --help || $argument == -h ]]; then
      sed -n '2,/^[^#]/{/^#/s/^# \{0,1\}//p;}' "$0"
      exit 0
    fi
  done
}

# need TOOL HINT: a program that has to be there, and where it comes from.
need() { command -v "$1" > /dev/null || fail "$1 is needed: $2"; }

need_aws() { need aws "install the AWS CLI 2, https://docs.aws.amazon.com/cli/latest/userguide/getting-started-install.html"; }

need_terraform() {
  local found
  need terraform "install Terraform 1.11 or newer, https://developer.hashicorp.com/terraform/install"
  found="$(terraform version | sed -n '1s/^Terraform v//p')"
  [[ "$(printf '1.11\n%s\n' "$found" | sort -V | head -n 1)" == 1.11 ]] \
    || fail "Terraform 1.11 or newer is needed (secrets that never reach its state), got ${found:-no version}"
}

# The Python of `make setup` has the pinned driver; another one may do where that was installed otherwise.
python() {
  local own="$root/.venv/bin/python"
  if [[ -x $own ]]; then "$own" "$@"; else command python3 "$@"; fi
}

# run COMMAND...: shows it, as one could type it, and runs it unless this is a dry run.
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

# AWS CLIs older than 2.13 and 1.29 do not know AWS_ENDPOINT_URL; for the others this says it twice.
aws() { command aws ${AWS_ENDPOINT_URL:+--endpoint-url "$AWS_ENDPOINT_URL"} "$@"; }

tf() { command terraform -chdir="$root/terraform" "$@"; }

# The grammar of ENVIRONMENT in src/rowqueue/settings.py; it is part of the name of every resource.
check_environment() {
  [[ $1 =~ ^[a-z][a-z0-9-]{0,23}$ ]] || misuse "ENV: expected a short name like dev, staging or prod, got '$1'"
}

# use_region [REGION]: the argument, else what the AWS CLI would use.
use_region() {
  local region="${1:-${AWS_REGION:-${AWS_DEFAULT_REGION:-}}}"
  [[ -n $region ]] || region="$(aws configure get region || true)"
  [[ $region =~ ^[a-z]{2}(-[a-z]+)+-[0-9]$ ]] || misuse "REGION: expected a region like us-east-1, got '$region'"
  export AWS_REGION="$region" AWS_DEFAULT_REGION="$region"
}

# The account, which also shows that there are credentials.
account() {
  aws sts get-caller-identity --query Account --output text \
    || fail "AWS does not know who you are: run 'aws configure sso' or set AWS_PROFILE, then try 'aws sts get-caller-identity'"
}

# One Terraform workspace for each environment: it works the same with the state in a file and in a bucket, and no
# environment can be planned over another's state. TF_WORKSPACE keeps two deployments at once out of each other's way.
use_workspace() {
  unset TF_WORKSPACE
  run tf init -input=false >&2
  run tf workspace select -or-create "$1" >&2
  export TF_WORKSPACE="$1"
}

# terraform_arguments ENV ZIP IMAGE_URI: fills the array tf_arguments. terraform.tfvars is read by Terraform itself.
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

# Terraform takes secrets from variables that it keeps nowhere, and sends them when snowflake_secret_version or
# client_key_secret_version is raised. SERVICE_..., for SNOWFLAKE_... is who sets up the database.
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

# database COMMAND...: what is asked of Snowflake; see scripts/database.py.
database() { python "$root/scripts/database.py" "$@"; }

# deployed_image ENV: the image of the task definition that is in use, or nothing.
deployed_image() {
  aws ecs describe-task-definition --task-definition "$1-snowflake-processor" \
    --query 'taskDefinition.containerDefinitions[0].image' --output text 2> /dev/null || true
}

# lambda_zip ARCH: the poller's zip as Terraform is told of it: from terraform/, so that it is the same on every machine.
lambda_zip() { printf '../build/snowflake-poller-%s.zip' "$1"; }

# architecture: arm64 or x86_64, as the settings of this environment have it. Needs terraform_arguments.
architecture() {
  local value=ARM64
  # Only a dry run comes here without Terraform initialised.
  if [[ -d $root/terraform/.terraform ]]; then value="$(tf_value architecture)" || exit; fi
  case $value in
    ARM64) printf arm64 ;;
    X86_64) printf x86_64 ;;
    *) fail "architecture: expected ARM64 or X86_64, got '$value'" ;;
  esac
}

# tf_value NAME: a variable of Terraform, its default included, or nothing if it is null. To be assigned by a statement of
# its own: anywhere else the shell passes over a failure.
tf_value() {
  local arguments=("${tf_arguments[@]:1}") answer  # the console knows no -input
  answer="$(printf 'var.%s\n' "$1" | tf console "${arguments[@]}" 2>&1)" || fail "Terraform does not tell $1: $answer"
  # Its warnings come before the value, also on standard output.
  sed '$!d; s/"//g; /^to[a-z]*(null)$/d; /^null$/d' <<< "$answer"
}

# builder: the first program that can build an image here.
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
    fail "docker with its engine running, podman or buildah is needed to build the image; or give deploy.sh --image-uri"
  fi
}
