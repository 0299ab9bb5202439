#!/usr/bin/env bash
# Trains on several ranks, with the arguments in the order that DeepSpeed users' scripts have them:
#
#   tools/train-nodes.sh ZERO_STAGE NUM_NODES GPUS_PER_NODE MASTER_ADDR MASTER_PORT RUN.toml [options]
#
# On one node (NUM_NODES 1) that is all. On several, one of:
#   - run the same line on every node, with NODE_RANK=0, 1... set (no ssh needed)
#   - HOSTFILE=hosts (lines 'worker-0 slots=8'): once, starts all nodes through ssh
#   - in a Slurm allocation: once, starts all nodes through srun
#
# GPUS_PER_NODE is the number of ranks on each node, whatever they compute on. Options after RUN.toml
# are those of `strata train`; those of `strata launch` come from STRATA_LAUNCH_OPTIONS, as in
# STRATA_LAUNCH_OPTIONS="--dry-run". STRATA names the program, if it is neither on PATH nor built here.
set -euo pipefail

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; }

case "${1:-}" in -h | --help) usage; exit 0 ;; esac
if [ $# -lt 6 ]; then
  echo "error: six arguments are needed, $# were given" >&2
  usage >&2
  exit 2
fi
stage="$1" nodes="$2" ranks="$3" addr="$4" port="$5" config="$6"
shift 6
for number in "$stage" "$nodes" "$ranks" "$port"; do
  case "$number" in
    '' | *[!0-9]*) echo "error: '$number' is not a number" >&2; usage >&2; exit 2 ;;
  esac
done

program="${STRATA:-$(command -v strata || true)}"
if [ -z "$program" ]; then
  program="$(dirname -- "$(realpath -- "${BASH_SOURCE[0]}")")/../build/release/tools/strata"
  [ -x "$program" ] || { echo "error: no strata on PATH: build it, or set STRATA=PROGRAM" >&2; exit 1; }
fi

read -ra options <<<"${STRATA_LAUNCH_OPTIONS:-}"
[ -z "${HOSTFILE:-}" ] || options+=(--hostfile "$HOSTFILE")
exec "$program" launch --nnodes "$nodes" --nproc-per-node "$ranks" --master-addr "$addr" \
  --master-port "$port" "${options[@]+"${options[@]}"}" -- \
  train "$config" --set "zero_optimization.stage=$stage" "$@"
