#!/usr/bin/env bash
# Does strata io tune pick as good a setting as an exhaustive sweep?
#
#   tests/bench/tune_vs_sweep.sh STRATA SWEEP DIRECTORY [BUDGET [TUNES [arguments of SWEEP]]]
#
# STRATA is the program, SWEEP is tests/bench/aio/aio_sweep. Tunes TUNES times (3) for BUDGET (60s),
# then measures every setting of the grid, then lets the sweep's best and the picks contest in
# interleaved runs: the best of many noisy runs is lucky, so only what was measured anew counts.
# Prints each pick's bandwidth as a share of the best contestant's. The sweep goes to sweep.json in
# the working directory.
set -euo pipefail
[ $# -ge 3 ] || { sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 2; }
strata=$1 sweep=$2 directory=$3 budget=${4:-60s} tunes=${5:-3}
shift $(($# < 5 ? $# : 5))

picks=()
for ((i = 1; i <= tunes; ++i)); do
  pick=$("$strata" io tune --path "$directory" --budget "$budget" --seed "$i" --json |
    python3 "$(dirname "$0")/tune_vs_sweep.py" pick)
  echo "tune $i of $tunes picks $pick" >&2
  picks+=(--pick "$pick")
done
"$sweep" "$directory" "${picks[@]}" "$@" >sweep.json
python3 "$(dirname "$0")/tune_vs_sweep.py" compare sweep.json
