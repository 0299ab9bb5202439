#!/usr/bin/env bash
# Installs what is missing, builds Strata, and trains a small Llama from scratch on the text of this
# repository, with its parameters and optimizer state on NVMe.
#
#   tools/quickstart.sh                      takes about three minutes after the build
#   tools/quickstart.sh --data DIR           your own text: a file, or a directory
#   tools/quickstart.sh --model CONFIG.json  your own Llama shape (a Hugging Face config.json)
#   tools/quickstart.sh --config RUN.toml    your own run
#   ... --set train.steps=20                 any key of the configuration
set -euo pipefail
cd "$(dirname "$0")/.."

usage() { sed -n '2,9s/^# \{0,1\}//p' tools/quickstart.sh; }

config=configs/quickstart.toml
arguments=()
while [ $# -gt 0 ]; do
  case "$1" in
    --config) config="${2:?--config needs a file}"; shift 2 ;;
    --data) arguments+=(--set "data.path=$(realpath -- "${2:?--data needs a path}")"); shift 2 ;;
    --model) arguments+=(--set "model.config=$(realpath -- "${2:?--model needs a file}")"); shift 2 ;;
    --set) arguments+=(--set "${2:?--set needs a.b=c}"); shift 2 ;;
    -h | --help) usage; exit 0 ;;
    *) echo "error: unknown argument '$1'" >&2; usage >&2; exit 2 ;;
  esac
done

tools/install-dependencies.sh

echo "building (a few minutes the first time)"
log="$(mktemp)"
trap 'rm -f "$log"' EXIT
{ cmake --preset release -DSTRATA_TESTS=OFF -B build/quickstart &&
  cmake --build build/quickstart --parallel "$(nproc)" --target strata; } >"$log" 2>&1 ||
  { cat "$log"; echo "error: the build failed, see above" >&2; exit 1; }

build/quickstart/tools/strata train "$config" --overwrite "${arguments[@]+"${arguments[@]}"}"
