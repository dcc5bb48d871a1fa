#!/usr/bin/env bash
# Build the poller's zip: lambda_poller/index.py, the package it needs, and its pinned dependencies.
#
# Usage: scripts/build_lambda.sh [--arch arm64|x86_64] [--python VERSION] [--output FILE]
#        scripts/build_lambda.sh --host [--output FILE]
#
#   --arch      CPU architecture of the function; arm64 by default
#   --python    Python version of the function, 3.12 or newer; 3.13 by default
#   --output    path of the zip; build/snowflake-poller-ARCH.zip by default
#   --host      build for this machine and the Python of .venv, for the embedded stack
#
# Two builds of the same sources give the same bytes. Nothing is compiled: each dependency has a wheel for the target, and its
# hash is in lambda_poller/requirements.txt. Prints the path, the hash and the sizes of the zip. Fails above Lambda's limits.

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
help_wanted "$@"

arch=arm64 version=3.13 output="" host=""
while (($#)); do
  case $1 in
    --arch | --python | --output)
      (($# > 1)) || misuse "$1 needs a value"
      case $1 in --arch) arch=$2 ;; --python) version=$2 ;; --output) output=$2 ;; esac
      shift 2
      ;;
    --host)
      host=1
      shift
      ;;
    *) misuse "unknown argument '$1'" ;;
  esac
done
# Lambda's Python 3.12 and newer run on Amazon Linux 2023, which has glibc 2.34.
case $arch in
  arm64) platform=aarch64-manylinux_2_34 ;;
  x86_64) platform=x86_64-manylinux_2_34 ;;
  *) misuse "--arch: expected arm64 or x86_64, got '$arch'" ;;
esac
[[ $version =~ ^3\.1[2-9]$ ]] || misuse "--python: expected 3.12 or newer, like 3.13, got '$version'"
name=$arch target=(--python-platform "$platform" --python-version "$version")
if [[ -n $host ]]; then
  name=host target=(--python "$(python -c 'import sys; print(sys.executable)')")
fi
output="${output:-$root/build/snowflake-poller-$name.zip}"

uv="$root/.venv/bin/uv"
[[ -x $uv ]] || uv="$(command -v uv)" || fail "uv is needed: run 'make setup'"

export UV_SYSTEM_CERTS=1 # uv uses the certificates of this machine, as pip does
stage="$(mktemp -d)"
trap 'rm -rf "$stage"' EXIT
"$uv" pip install --quiet --target "$stage" --link-mode copy --only-binary :all: --no-deps --require-hashes \
  "${target[@]}" --requirement "$root/lambda_poller/requirements.txt" \
  || fail "the dependencies for $name cannot be installed; can this machine reach the package index?"

# Remove files that do not run: commands, records of the installer, and sources of compiled modules.
rm -rf "${stage:?}/bin" "$stage/.lock" "$stage/boto3/examples"
find "$stage" \( -name __pycache__ -o -path '*/snowflake/connector/nanoarrow_cpp' \) -prune -exec rm -rf {} +
find "$stage" \( -path '*.dist-info/RECORD' -o -path '*.dist-info/INSTALLER' -o -path '*.dist-info/REQUESTED' \
  -o -path '*.dist-info/direct_url.json' -o -name '*.pyx' -o -name '*.c' -o -name '*.h' \) -delete

cp "$root/lambda_poller/index.py" "$stage/"
cp -R "$root/src/rowqueue" "$stage/"
rm -rf "$stage/rowqueue/processor" "$stage/rowqueue/migrate" "$stage/rowqueue/cli.py"
find "$stage/rowqueue" -type f ! -name '*.py' ! -name '*.sql' ! -name py.typed -delete
find "$stage/rowqueue" -name __pycache__ -prune -exec rm -rf {} +

mkdir -p "$(dirname "$output")"
python "$root/scripts/zip_folder.py" "$stage" "$output"
