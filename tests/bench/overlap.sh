#!/usr/bin/env bash
# How well a step hides its transfers: its median time beside the bound and the prediction, with
# this machine's rates measured first.
#
#   tests/bench/overlap.sh STRATA CONFIG.toml [--set a.b=c ...]
#
# Trains in a temporary folder of $STRATA_BENCH_DIR (default: here). Run it on a quiet machine.
set -euo pipefail
[ $# -ge 2 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 2; }
strata=$1 config=$2
shift 2

directory=$(realpath "$(mktemp -d -p "${STRATA_BENCH_DIR:-.}" overlap-XXXXXX)")
trap 'rm -rf "$directory"' EXIT
mkdir "$directory/nvme"

"$strata" train "$config" --measure --json "$@" --set "train.run_dir=$directory/run" \
  --set "zero_optimization.offload_param.nvme_path=$directory/nvme" \
  --set "zero_optimization.offload_optimizer.nvme_path=$directory/nvme" >"$directory/steps.jsonl"

summary() { tail -n 1 "$directory/steps.jsonl" | sed 's/.*"'"$1"'":"\{0,1\}\([^,"}]*\).*/\1/'; }
awk -v steps="$(summary steps_done)" -v step="$(summary median_step_s)" \
  -v bound="$(summary bound_s)" -v resource="$(summary bound_resource)" \
  -v predicted="$(summary predicted_step_s)" 'BEGIN {
    printf "step       %.4f s, median of %d\n", step, steps
    printf "bound      %.4f s by %s    step / bound      %.3f\n", bound, resource, step / bound
    printf "predicted  %.4f s          step / predicted  %.3f\n", predicted, step / predicted
  }'
