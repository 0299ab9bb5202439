#!/usr/bin/env bash
# Peak memory of a run as the kernel counts it, beside its budgets. Needs GNU time.
#
#   tests/bench/memory.sh STRATA CONFIG.toml [--set a.b=c ...]
#
# Trains in a temporary folder of $STRATA_BENCH_DIR (default: here). Exit code 1 when peak RSS is over
# device + host + 256 MiB.
set -euo pipefail
[ $# -ge 2 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 2; }
strata=$1 config=$2
shift 2

directory=$(realpath "$(mktemp -d -p "${STRATA_BENCH_DIR:-.}" memory-XXXXXX)")
trap 'rm -rf "$directory"' EXIT
mkdir "$directory/nvme"

/usr/bin/time -v -o "$directory/time.txt" "$strata" train "$config" --json "$@" \
  --set "train.run_dir=$directory/run" \
  --set "zero_optimization.offload_param.nvme_path=$directory/nvme" \
  --set "zero_optimization.offload_optimizer.nvme_path=$directory/nvme" >"$directory/steps.jsonl"

# A budget of the resolved configuration, in bytes.
budget() {
  sed -n '/^\[memory\]/,/^\[/s/^'"$1"' = "\(.*\)"/\1/p' "$directory/run/config.toml" |
    numfmt --from=iec-i --suffix=B | tr -d B
}
device=$(budget device) host=$(budget host)
peak=$(($(sed -n 's/.*Maximum resident set size (kbytes): //p' "$directory/time.txt") * 1024))
limit=$((device + host + 256 * 1024 * 1024))

mib() { awk -v bytes="$1" 'BEGIN {printf "%.1f MiB", bytes / 1048576}'; }
echo "steps     $(grep -c '^{"step":' "$directory/steps.jsonl")"
echo "budgets   device $(mib "$device") + host $(mib "$host") = $(mib $((device + host)))"
echo "peak RSS  $(mib "$peak"), beside the budgets $(mib $((peak - device - host)))"
echo "limit     $(mib "$limit")"
[ "$peak" -le "$limit" ] || { echo "error: peak RSS is over the limit" >&2; exit 1; }
