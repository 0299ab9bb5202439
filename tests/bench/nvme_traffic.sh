#!/usr/bin/env bash
# Bytes that one training step moves to and from the drive: the store's counters beside the block
# device's own statistics.
#
#   tests/bench/nvme_traffic.sh STRATA CONFIG.toml [--set a.b=c ...]
#
# One line per step: bytes per parameter read and written, by counter and by device. The machine's
# other I/O is in the device's figure, too: run it on a quiet one.
set -euo pipefail
[ $# -ge 2 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2; }
strata=$1 config=$2
shift 2

elements=$("$strata" plan "$config" "$@" --json | sed 's/.*"parameters":\([0-9]*\).*/\1/')
run_dir=$(mktemp -d -p "${STRATA_BENCH_DIR:-.}" traffic-XXXXXX)
trap 'rm -rf "$run_dir"' EXIT
run_dir=$(realpath "$run_dir")
mkdir "$run_dir/nvme"
device=$(lsblk -no pkname "$(df --output=source "$run_dir" | tail -1)" 2>/dev/null | head -1)
[ -n "$device" ] || device=$(basename "$(df --output=source "$run_dir" | tail -1)")

# Sectors of 512 bytes: fields 3 and 7 of the block layer's statistics.
sectors() { awk '{print $3, $7}' "/sys/block/$device/stat"; }

read -r read_before written_before <<<"$(sectors)"
"$strata" train "$config" --json "$@" --set "train.run_dir=$run_dir/run" \
  --set "zero_optimization.offload_param.nvme_path=$run_dir/nvme" \
  --set "zero_optimization.offload_optimizer.nvme_path=$run_dir/nvme" |
  while read -r line; do
    read -r read_now written_now <<<"$(sectors)"
    case "$line" in
      '{"step":'*)
        echo "$line" | sed 's/.*"step":\([0-9]*\),.*"nvme_bytes_read":\([0-9]*\),"nvme_bytes_written":\([0-9]*\).*/\1 \2 \3/' |
          awk -v n="$elements" -v r=$(((read_now - read_before) * 512)) \
            -v w=$(((written_now - written_before) * 512)) \
            '{printf "step %d  counters: read %.3f written %.3f  device: read %.3f written %.3f  bytes/parameter\n",
              $1, $2 / n, $3 / n, r / n, w / n}'
        ;;
    esac
    read_before=$read_now written_before=$written_now
  done
