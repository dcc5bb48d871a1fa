#!/usr/bin/env bash
# Build the processor's image, and push it with --push.
#
# Usage: scripts/build_image.sh --tag IMAGE:TAG [--arch arm64|x86_64] [--base IMAGE] [--push] [--dry-run]
#        scripts/build_image.sh --print-tag [--arch arm64|x86_64] [--base IMAGE]
#
#   --tag        name and tag of the image, including the registry
#   --arch       CPU architecture of the task; arm64 by default. For another architecture than this machine's the builder
#                needs an emulator. Docker Desktop has one; elsewhere: docker run --privileged tonistiigi/binfmt --install all
#   --base       replaces the base image of container/Dockerfile, for example with the same image by digest
#   --push       push the image; log in to the registry first
#   --print-tag  only print the tag that follows from the image's sources, its architecture and its base
#   --dry-run    print the commands
#
# Uses the first that is available: docker with a running engine, podman, or buildah. BUILDER chooses one, BUILDER_OPTIONS
# adds options to its build command. Prints the size of each layer.

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
help_wanted "$@"

# An image from the same files and for the same architecture has the same tag, so it is not built again.
content_tag() {
  (
    cd "$root"
    printf '%s\n' "$base"
    find .dockerignore container/Dockerfile container/requirements.txt container/processor.py src/rowqueue -type f \
      ! -path '*/__pycache__/*' ! -path 'src/rowqueue/poller/*' \
      ! -path src/rowqueue/cli.py | LC_ALL=C sort | while read -r file; do
      printf '%s\n' "$file"
      cat "$file"
    done
  ) | python -c 'import hashlib, sys; print("sha-" + hashlib.sha256(sys.stdin.buffer.read()).hexdigest()[:16] + "-" + sys.argv[1])' "$arch"
}

tag="" arch=arm64 base="" push="" only_the_tag=""
while (($#)); do
  case $1 in
    --tag | --arch | --base)
      (($# > 1)) || misuse "$1 needs a value"
      case $1 in --tag) tag=$2 ;; --arch) arch=$2 ;; --base) base=$2 ;; esac
      shift 2
      ;;
    --push) push=1 && shift ;;
    --dry-run) dry_run=1 && shift ;;
    --print-tag) only_the_tag=1 && shift ;;
    *) misuse "unknown argument '$1'" ;;
  esac
done
case $arch in
  arm64) platform=linux/arm64 ;;
  x86_64) platform=linux/amd64 ;;
  *) misuse "--arch: expected arm64 or x86_64, got '$arch'" ;;
esac
if [[ -n $only_the_tag ]]; then
  content_tag
  exit
fi
[[ -n $tag ]] || misuse "--tag is missing"

builder="$(builder)"

options=()
read -r -a options <<< "${BUILDER_OPTIONS:-}"
[[ -z $base ]] || options+=(--build-arg "PYTHON_IMAGE=$base")
run "$builder" build ${options[@]+"${options[@]}"} --platform "$platform" --file "$root/container/Dockerfile" \
  --tag "$tag" "$root" >&2
[[ -z $push ]] || run "$builder" push "$tag" >&2
[[ -n $dry_run ]] && exit

if [[ $builder == buildah ]]; then
  buildah images --format '{{.Name}}:{{.Tag}}  {{.Size}} with its base' "$tag"
else
  say "the layers of $tag, ours first:"
  "$builder" history --format '{{.Size}}  {{.CreatedBy}}' "$tag"
fi
