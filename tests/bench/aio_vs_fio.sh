#!/usr/bin/env bash
# The aio engine beside fio, and beside DeepSpeed's aio, in alternating runs: ratios of bandwidth and
# of CPU time per byte, medians over the rounds.
#
#   tests/bench/aio_vs_fio.sh STRATA DIRECTORY [options]
#     --json                    print JSON instead of a table
#     --rounds N                runs of each (default 9)
#     --seconds S               of each run, after a warm-up (default 3)
#     --size BYTES              of the file (default 4GiB)
#     --block-size BYTES        (default 1MiB)
#     --queue-depth N           (default 16)
#     --engine NAME             io_uring or libaio, on both sides (default io_uring)
#     --traffic LIST            of read,write,mix (default: all)
#     --deepspeed-python PATH   a Python that has deepspeed, to compare with that too, each at the
#                               best setting of a small sweep
#
# Needs fio and Python 3. What is compared, and how, is told at the top of aio_vs_fio.py. Run it on a
# quiet machine; compare the ratios, never figures of different days.
set -euo pipefail
case "${1:-}" in -h | --help | "") sed -n '2,19s/^# \{0,1\}//p' "$0"; [ $# -gt 0 ] || exit 2; exit 0 ;; esac

for tool in fio python3; do
  command -v "$tool" >/dev/null || {
    echo "error: $tool is not installed: apt-get install $tool" >&2
    exit 1
  }
done
exec python3 "$(dirname "$0")/aio_vs_fio.py" "$@"
