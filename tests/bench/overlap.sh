#!/usr/bin/env bash
# How well a step hides its transfers: its median time beside the bound and the prediction, with
# this machine's rates measured first, and what part of the last step each lane was busy.
#
#   tests/bench/overlap.sh STRATA CONFIG.toml [--ranks N] [--set a.b=c ...]
#
# With several ranks, of one machine: rank 0's. Trains in a temporary folder of $STRATA_BENCH_DIR
# (default: here). Run it on a quiet machine.
set -euo pipefail
[ $# -ge 2 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2; }
strata=$1 config=$2
shift 2
directory=$(realpath "$(mktemp -d -p "${STRATA_BENCH_DIR:-.}" overlap-XXXXXX)")
trap 'rm -rf "$directory"' EXIT
mkdir "$directory/nvme"
start=("$strata")
if [ "${1:-}" = --ranks ]; then
  start+=(launch --nproc-per-node "$2" --log-dir "$directory/logs" --)
  shift 2
fi

"${start[@]}" train "$config" --measure --json "$@" --set "train.run_dir=$directory/run" \
  --set "zero_optimization.offload_param.nvme_path=$directory/nvme" \
  --set "zero_optimization.offload_optimizer.nvme_path=$directory/nvme" >"$directory/steps.jsonl"

python3 - "$directory/steps.jsonl" <<'PYTHON'
import json
import statistics
import sys

lines = [json.loads(line[line.index("{"):]) for line in open(sys.argv[1]) if "{" in line]
steps = [line for line in lines if "lanes" in line]
resource = next(line for line in lines if "steps_done" in line)["bound_resource"]
# The first step finds less in memory than the others. Each is held against its own kind's bound.
steps = steps[1:] or steps


def median(key):
    return statistics.median(step[key] for step in steps)


def ratio(key):
    return statistics.median(step["step_s"] / step[key] for step in steps)


print(f"step       {median('step_s'):.4f} s, median of {len(steps)}: " + ", ".join(sorted({step["update"] for step in steps})))
print(f"bound      {median('bound_s'):.4f} s by {resource}    step / bound      {ratio('bound_s'):.3f}")
print(f"predicted  {median('predicted_step_s'):.4f} s          step / predicted  {ratio('predicted_step_s'):.3f}")
last = steps[-1]
shares = {name: lane["busy_s"] / last["step_s"] for name, lane in last["lanes"].items()}
print("busy       " + ", ".join(f"{name} {share:.0%}" for name, share in shares.items() if share))
PYTHON
