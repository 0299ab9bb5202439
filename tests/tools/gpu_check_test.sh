#!/usr/bin/env bash
# What tools/gpu-check.sh promises, on a machine that is made of scripts: a nvidia-smi that shows a GPU and
# a build folder whose programs do as they are told.
#
#   gpu_check_test.sh GPU_CHECK SCRATCH REAL_BUILD
set -euo pipefail
check="$1" scratch="$2" real_build="$3"
rm -rf "$scratch"
mkdir -p "$scratch/bin" "$scratch/build/tests/bench/gpu" "$scratch/build/tests/bench/engine" "$scratch/build/tools"
unset CUDA_VISIBLE_DEVICES STRATA_REQUIRE
export PATH="$scratch/bin:$PATH" PYTHON=/nonexistent

fail() { echo "failed: $1" >&2; cat "$scratch/said" >&2; exit 1; }
says() { grep -q -E -- "$1" "$scratch/said" || fail "does not say '$1'"; }
program() { printf '#!/bin/sh\n%s\n' "$2" >"$1"; chmod +x "$1"; }
# run STATUS ARGUMENT...: gpu-check with these ends so.
run() {
  local expected="$1" status=0
  shift
  "$check" --out "$scratch/out" "$@" >"$scratch/said" 2>&1 || status=$?
  [ "$status" -eq "$expected" ] || fail "exit code $status, not $expected: $*"
}
copies="$scratch/build/tests/bench/gpu/copies_vs_cuda"
products="$scratch/build/tests/bench/gpu/products_bench"
rows="$scratch/build/tests/bench/engine/cuda_rows_bench"

# Without a GPU: what can run does, from a real build, and it says what did not; required, it fails.
export CUDA_VISIBLE_DEVICES=
run 0 --build-dir "$real_build" copy rows matmul train
says '^copy +skipped .*runs emulated; nothing to measure: no GPU'
says '^rows +skipped .*runs emulated; nothing to measure: no GPU'
says '^matmul +skipped .*runs on the cores'
says '^no GPU.*on a machine with a GPU the same command runs it'
STRATA_REQUIRE=gpu run 1 copy
says 'error: no GPU.*look at nvidia-smi'
unset CUDA_VISIBLE_DEVICES

# With one: figures are in the table and in the JSON.
program "$scratch/bin/nvidia-smi" 'echo "Test GPU, 81559 MiB, 580.65.06, 9.0"'
program "$copies" 'echo "{\"rows\":[]}"; echo "256 MiB copies: fast" >&2'
program "$products" 'echo "{\"rows\":[1]}"'
program "$rows" 'echo "{\"copy\":{\"gb_per_s\":3000.0,\"of_copy\":1.000},\"add\":{\"gb_per_s\":2850.0,\"of_copy\":0.950},\"rms norm\":{\"gb_per_s\":2100.0,\"of_copy\":0.700}}"'
run 0 --build-dir "$scratch/build" --json "$scratch/all.json" copy rows matmul
says '^Test GPU, 81559 MiB'
says '^rows +passed .*a copy moves 3000 GB/s; operations 0.70 of that \(rms norm\) and more'
grep -q '"part":"rows",.*"figures":{"copy":{"gb_per_s":3000.0' "$scratch/all.json" || fail "figures of rows"
says '^copy +passed .*256 MiB copies: fast'
grep -q '"part":"copy","result":"passed",.*"figures":{"rows":\[\]}' "$scratch/all.json" || fail "figures"

# What fails, what is too slow and what hangs end it with 1, and the parts behind them still run.
program "$copies" 'echo "a \"wrong\" byte" >&2; exit 1'
run 1 --build-dir "$scratch/build" copy matmul
says '^copy +FAILED .*a "wrong" byte'
says '^matmul +passed'
grep -q '"note":"a \\"wrong\\" byte"' "$scratch/out/gpu-check.json" || fail "a note with quotes"
program "$copies" 'echo "256 MiB copies: slow" >&2; exit 3'
run 1 --build-dir "$scratch/build" copy
says '^copy +below .*256 MiB copies: slow'
says '1 of 1 parts failed, were cut or are below'
program "$copies" 'echo begun >&2; sleep 60'
run 1 --limit 2 --build-dir "$scratch/build" copy matmul
says '^copy +cut .*out of time after [2-9] s; last: begun'
says '^matmul +cut .*out of time'

# Half a file of figures does not spoil the others'.
program "$products" 'printf "{\"rows\":["; echo begun >&2; sleep 60'
program "$copies" 'echo "{\"rows\":[2]}"; echo "256 MiB copies: fast" >&2'
run 1 --limit 2 --build-dir "$scratch/build" copy matmul
grep -q '"part":"copy".*"figures":{"rows":\[2\]}' "$scratch/out/gpu-check.json" || fail "figures of copy"
grep -q '"part":"matmul","result":"cut".*"figures":null}' "$scratch/out/gpu-check.json" || fail "half a file"

# Without a python3 at all: what it drives is left out, and that is said.
program "$scratch/build/tools/strata" 'exit 0'
run 0 --build-dir "$scratch/build" train offload
says '^train +skipped .*there is no /nonexistent, which drives it'
says '^offload +skipped .*there is no /nonexistent'

# What was not built says so; a word that is no part is refused.
run 1 --build-dir "$scratch/nothing" copy
says '^copy +FAILED .*copies_vs_cuda is not built: name the part .build., too'
run 2 memcpy
says "unknown argument 'memcpy': the parts are build tests"
run 0 --help
says 'tools/gpu-check.sh build matmul'
