#!/usr/bin/env bash
# What a checkpoint adds to a run: seconds and bytes, steps with one beside steps without.
#
#   tests/bench/checkpoint_cost.sh [--json] STRATA CONFIG.toml [--set a.b=c ...]
#
# A checkpoint every third step, of which the last is kept, for $STRATA_BENCH_STEPS steps (11), in a
# temporary folder of $STRATA_BENCH_DIR (default: here). The cost of one is what the step beside which
# it is written, and the commits before and after that step, take longer and move more than the steps
# and commits of the same run that have nothing to do with one. Run it on a quiet machine.
set -euo pipefail
json=""
[ "${1:-}" = --json ] && { json=--json; shift; }
[ $# -ge 2 ] || { sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 2; }
strata=$1 config=$2
shift 2

directory=$(realpath "$(mktemp -d -p "${STRATA_BENCH_DIR:-.}" checkpoint-XXXXXX)")
trap 'rm -rf "$directory"' EXIT
mkdir "$directory/nvme"

"$strata" plan "$config" "$@" --json >"$directory/plan.json"
"$strata" train "$config" "$@" --json --set "train.run_dir=$directory/run" \
  --set "train.steps=${STRATA_BENCH_STEPS:-11}" --set checkpoint.every_steps=3 \
  --set checkpoint.keep_last=1 --set "zero_optimization.offload_param.nvme_path=$directory/nvme" \
  --set "zero_optimization.offload_optimizer.nvme_path=$directory/nvme" >"$directory/out"
python3 "$(dirname "$0")/checkpoint_cost.py" $json "$directory/run/metrics.jsonl" \
  "$directory/plan.json"
