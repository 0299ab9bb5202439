#!/usr/bin/env bash
# Installs what is missing, builds everything and runs all tests. The last lines are ctest's summary.
#
#   tools/test.sh                 all tests, in a release build
#   tools/test.sh --preset asan   the same under AddressSanitizer and UBSan
#   tools/test.sh --preset tsan   the same under ThreadSanitizer
#   tools/test.sh --all           asan, tsan, then release
#   ... -- -R io_engine           what stands behind -- goes to ctest
set -euo pipefail
cd "$(dirname "$0")/.."

presets=(release)
ctest_arguments=()
while [ $# -gt 0 ]; do
  case "$1" in
    --preset) presets=("${2:?--preset needs a name: release, dev, asan or tsan}"); shift 2 ;;
    --all) presets=(asan tsan release); shift ;;
    --) shift; ctest_arguments=("$@"); break ;;
    -h | --help) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "error: unknown argument '$1'; see $0 --help" >&2; exit 2 ;;
  esac
done

tools/install-dependencies.sh

for preset in "${presets[@]}"; do
  echo "== $preset: configure and build"
  log="$(mktemp)"
  cmake --preset "$preset" >"$log" 2>&1 || { cat "$log"; exit 1; }
  rm -f "$log"
  cmake --build --preset "$preset" --parallel "$(nproc)"
  echo "== $preset: test"
  ctest --preset "$preset" --parallel "$(nproc)" "${ctest_arguments[@]+"${ctest_arguments[@]}"}"
done
