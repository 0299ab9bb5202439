#!/usr/bin/env bash
# Installs what is missing, builds Strata, and trains a small Llama from scratch on the text of this
# repository, with its parameters and optimizer state on NVMe.
#
#   tools/quickstart.sh                      two or three minutes after the build; each time anew
#   tools/quickstart.sh --data DIR           your own text: a file, or a directory
#   tools/quickstart.sh --model CONFIG.json  your own Llama shape (a Hugging Face config.json); a large
#                                            one needs --set memory.device=... and memory.host=...
#   tools/quickstart.sh --config RUN.toml    your own run; what is in its run_dir is left alone
#   ... --set train.steps=20                 any key of the configuration
#   ... --resume, --overwrite                continue the run that is there, or replace it
#
# The run writes to runs/quickstart in the repository. With --config it writes to where RUN.toml says,
# seen from the current directory. Relative paths in --set start from the same place.
set -euo pipefail
script="$(realpath -- "${BASH_SOURCE[0]}")"
root="$(dirname -- "$(dirname -- "$script")")"
program=build/quickstart/tools/strata

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$script"; }

# existing FLAG PATH: the path, absolute; an error if nothing is there.
existing() {
  [ -e "$2" ] || { echo "error: $1 $2: no such file or directory, seen from $PWD" >&2; exit 1; }
  realpath -- "$2"
}

config=
start=()
is_ours=true  # a run in runs/quickstart, which is made anew each time
arguments=()
while [ $# -gt 0 ]; do
  case "$1" in
    --config) config="$(existing "$1" "${2:?--config needs a file}")"; is_ours=false; shift 2 ;;
    --data)
      path="$(existing "$1" "${2:?--data needs a path}")"
      arguments+=(--set "data.path=$path")
      shift 2
      ;;
    --model)
      path="$(existing "$1" "${2:?--model needs a file}")"
      arguments+=(--set "model.config=$path")
      shift 2
      ;;
    --set)
      # A run_dir of the user's own may hold a run of the user's own.
      case "${2:?--set needs a.b=c}" in train.run_dir* | train[\ =]*) is_ours=false ;; esac
      arguments+=(--set "$2")
      shift 2
      ;;
    --resume | --overwrite) start=("$1"); shift ;;
    -h | --help) usage; exit 0 ;;
    *) echo "error: unknown argument '$1'" >&2; usage >&2; exit 2 ;;
  esac
done
if $is_ours && [ ${#start[@]} -eq 0 ]; then start=(--overwrite); fi
# A few seconds, so that what is predicted is predicted for this machine.
start+=(--measure)

here="$PWD"
cd "$root"
tools/install-dependencies.sh

echo "building (a few minutes the first time)"
log="$(mktemp)"
trap 'rm -f "$log"' EXIT
{ cmake --preset release -DSTRATA_TESTS=OFF -B build/quickstart &&
  cmake --build build/quickstart --parallel "$(nproc)" --target strata; } >"$log" 2>&1 ||
  { cat "$log"; echo "error: the build failed, see above" >&2; exit 1; }

[ -z "$config" ] || cd "$here"
"$root/$program" train "${config:-configs/quickstart.toml}" "${start[@]+"${start[@]}"}" \
  "${arguments[@]+"${arguments[@]}"}"
echo
echo "the program is $root/$program"
