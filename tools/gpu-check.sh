#!/usr/bin/env bash
# All that only a GPU can show, in one command and nine minutes: builds, runs the tests that need a GPU,
# looks for bad accesses and races in kernels, and measures. For a machine with CUDA, CMake and a
# compiler; nothing is installed or fetched. docs/gpu.md says what each row means.
#
#   tools/gpu-check.sh                  everything: build tests copy rows matmul attention train offload sanitizer
#   tools/gpu-check.sh build matmul     these parts only, which then have all the time
#
#   --limit SECONDS    ends by then (540); what that cuts is said
#   --out DIR          logs and figures of each part (gpu-check in the repository)
#   --json FILE        all of it in one file (DIR/gpu-check.json)
#   --build-dir DIR    where it builds, or has built (build/gpu-check)
#   --kit FILE         dependencies from this kit (kit/strata-kit-ARCH.tar.gz where that is; tools/make-kit.sh
#                      makes one); --kit none: from the system
#
# The exit code is 0 when all that ran passed, 1 when something failed or a measured figure is below what
# is promised. Without a GPU, what of the parts can run does, emulated, and it says so; with
# STRATA_REQUIRE=gpu that is a failure. PYTHON names a python3 that has PyTorch and transformers, for what is
# measured beside them.
set -euo pipefail
here="$PWD"
script="$(realpath -- "${BASH_SOURCE[0]}")"
cd "$(dirname -- "$(dirname -- "$script")")"

# The sanitizer is last, as it takes whatever time there is.
all_parts=(build tests copy rows matmul attention train offload sanitizer)
# Seconds a part may take when all of them run; what one leaves, later ones have.
declare -A budget=([build]=240 [tests]=90 [copy]=30 [rows]=20 [matmul]=40 [attention]=25 [train]=110 [offload]=120
  [sanitizer]=240)
python="${PYTHON:-python3}"
jobs="$(nproc)"

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$script"; }
die() { echo "error: $*" >&2; exit 2; }
from_here() { (cd "$here" && realpath -m -- "$1"); }

limit=540 out="$PWD/gpu-check" json='' build="$PWD/build/gpu-check" kit='' parts=()
while [ $# -gt 0 ]; do
  case "$1" in
    --limit) limit="${2:?--limit needs seconds}"; shift 2 ;;
    --out) out="$(from_here "${2:?--out needs a directory}")"; shift 2 ;;
    --json) json="$(from_here "${2:?--json needs a file}")"; shift 2 ;;
    --build-dir) build="$(from_here "${2:?--build-dir needs a directory}")"; shift 2 ;;
    --kit)
      kit="${2:?--kit needs a file, or none}"
      [ "$kit" = none ] || kit="$(from_here "$kit")"
      shift 2
      ;;
    -h | --help) usage; exit 0 ;;
    build | tests | copy | rows | matmul | attention | train | offload | sanitizer) parts+=("$1"); shift ;;
    *) die "unknown argument '$1': the parts are ${all_parts[*]}; see $0 --help" ;;
  esac
done
[[ "$limit" =~ ^[1-9][0-9]*$ ]] || die "--limit $limit: a number of seconds"
json="${json:-$out/gpu-check.json}"
runs_all=false
[ ${#parts[@]} -gt 0 ] || { parts=("${all_parts[@]}"); runs_all=true; }
mkdir -p "$out" "$(dirname -- "$json")"
end=$(($(date +%s) + limit))

# --- What is here -----------------------------------------------------------------------------------

# Of the first GPU: "NVIDIA H100 80GB HBM3, 81559 MiB, 580.65.06, 9.0"; fails where there is none.
query_gpu() {
  [ "${CUDA_VISIBLE_DEVICES-all}" != '' ] && [ "${CUDA_VISIBLE_DEVICES-all}" != -1 ] || return 1
  command -v nvidia-smi >/dev/null || PATH+=:/usr/local/nvidia/bin  # where containers have it
  command -v nvidia-smi >/dev/null || return 1
  nvidia-smi -i "${CUDA_VISIBLE_DEVICES:-0}" --format=csv,noheader \
    --query-gpu=name,memory.total,driver_version,compute_cap 2>/dev/null | head -1 | grep -E ', [0-9]+[.][0-9]+$'
}
has_gpu=true
gpu="$(query_gpu)" || { has_gpu=false gpu=''; }
no_gpu="no GPU: nvidia-smi shows none here"
if ! $has_gpu && [[ "${STRATA_REQUIRE:-}" == *gpu* ]]; then
  echo "error: $no_gpu, and STRATA_REQUIRE=$STRATA_REQUIRE asks for one: look at nvidia-smi, at" \
    "CUDA_VISIBLE_DEVICES, and whether a container was started with GPUs" >&2
  exit 1
fi
strata="$build/tools/strata"
has_python() { command -v "$python" >/dev/null; }
# Asked once, as to import them takes seconds.
torch_is_here=
has_torch() {
  if [ -z "$torch_is_here" ]; then
    torch_is_here=no
    if limited "$python" -c 'import torch, transformers' >/dev/null 2>&1; then torch_is_here=yes; fi
  fi
  [ "$torch_is_here" = yes ]
}

# --- Running parts ----------------------------------------------------------------------------------

# A part is a function: its output is its log, its last line the note in the table, its status 0 for
# passed, 3 for "below what is promised", 77 for skipped, 124 for out of time. Figures go to stdout's
# file $out/PART.json.
part_end=0
# limited COMMAND...: ends with the part's time.
limited() {
  local left=$((part_end - $(date +%s)))
  [ "$left" -ge 1 ] || return 124
  local status=0
  timeout -k 5 "$left" "$@" || status=$?
  [ "$status" -ne 137 ] || status=124
  return "$status"
}
skip() { echo "$*"; return 77; }

names=() results=() took=() notes=()
run_part() {
  local name="$1" begin now status=0 result note
  begin=$(date +%s)
  part_end=$end
  if $runs_all && [ $((begin + budget[$name])) -lt "$end" ]; then part_end=$((begin + budget[$name])); fi
  rm -f "$out/$name.json"
  if [ "$begin" -ge "$end" ]; then
    status=124
    : >"$out/$name.log"
  else
    echo "== $name (at most $((part_end - begin)) s)"
    # Here, not in the part's own shell, so that later parts need not ask again.
    if $has_gpu; then case "$name" in matmul | attention | train) has_torch || true ;; esac fi
    (set +e; "part_$name") >"$out/$name.log" 2>&1 || status=$?
  fi
  now=$(date +%s)
  note="$(grep -v '^[[:space:]]*$' "$out/$name.log" | tail -1 | tr -d '\000-\037' | cut -c1-160)" || true
  case "$status" in
    0) result=passed ;;
    3) result=below ;;
    77) result=skipped ;;
    124) result="cut"; note="out of time after $((now - begin)) s${note:+; last: $note}" ;;
    *) result=FAILED ;;
  esac
  # What went wrong is shown at once; the rest is in the log.
  case "$result" in FAILED | cut) tail -25 "$out/$name.log" | sed 's/^/   /' ;; esac
  [ "$(stat -c %s "$out/$name.log")" -le 4000000 ] || truncate -s 4000000 "$out/$name.log"
  echo "   $result: $note"
  names+=("$name") results+=("$result") took+=($((now - begin))) notes+=("$note")
}

needs() { [ -x "$1" ] || { echo "$1 is not built: name the part 'build', too, or --build-dir"; return 1; }; }

# --- The parts --------------------------------------------------------------------------------------

part_build() {
  local settings=(-DCMAKE_BUILD_TYPE=Release -DSTRATA_TESTS=ON -DSTRATA_WARNINGS_ARE_ERRORS=OFF)
  local targets=(strata emulated_tests products_bench copies_vs_cuda_emulated emulated_cuda_rows_bench)
  if $has_gpu; then
    local capability="${gpu##*, }"
    settings+=(-DSTRATA_CUDA=ON "-DCMAKE_CUDA_ARCHITECTURES=${capability/./}-real")
    targets=(strata gpu_tests gpu_benches)
  fi
  local file="${kit:-kit/strata-kit-$(uname -m).tar.gz}"
  if [ "$file" != none ] && [ -e "$file" ]; then
    mkdir -p "$build/kit"
    tar -xzf "$file" -C "$build/kit" --strip-components=1 || return
    settings+=("-DSTRATA_KIT=$build/kit")
  elif [ -n "$kit" ] && [ "$kit" != none ]; then
    echo "there is no $kit"
    return 1
  fi
  # A compiler of the environment's own choice (CXX, CUDACXX) is taken by CMake.
  if ! [ -e "$build/CMakeCache.txt" ] && command -v ninja >/dev/null; then settings+=(-G Ninja); fi
  limited cmake -S . -B "$build" "${settings[@]}" || return
  limited cmake --build "$build" --parallel "$jobs" --target "${targets[@]}" || return
  "$strata" version | head -1
}

# Counts what ctest said in the log: the label, then arguments.
run_ctest() {
  local label="$1" status=0
  shift
  limited ctest --test-dir "$build" -L "^$label\$" --output-on-failure --no-tests=error \
    --output-junit "$out/tests.xml" "$@" | tee "$out/ctest.txt" || status=$?
  local counts
  counts="$(grep -c -E '^ *[0-9]+/[0-9]+ Test .* Passed ' "$out/ctest.txt") passed"
  counts+=", $(grep -c -E '^ *[0-9]+/[0-9]+ Test .*\*\*\*Skipped' "$out/ctest.txt") skipped"
  counts+=", $(grep -c -E '^ *[0-9]+/[0-9]+ Test .*\*\*\*(Failed|Exception|Timeout|Not Run)' "$out/ctest.txt") failed"
  rm -f "$out/ctest.txt"
  echo "{\"counts\":\"$counts\"}" >"$out/tests.json"
  echo "$counts"
  return "$status"
}

part_tests() {
  if $has_gpu; then
    STRATA_REQUIRE=gpu run_ctest gpu --parallel $((jobs < 4 ? jobs : 4))
  else
    run_ctest emulated --parallel "$jobs" || return
    echo "$(tail -1 "$out/tests.log"), emulated: $no_gpu"
  fi
}

# Each kernel test under memcheck, then under racecheck.
part_sanitizer() {
  $has_gpu || { skip "$no_gpu"; return; }
  local tool test sanitizer programs status=0 clean=() dirty=()
  sanitizer="$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null)" ||
    { skip "compute-sanitizer is not installed"; return; }
  programs="$(grep -E '/engine/' "$build/tests/gpu_tests.txt" | grep -v -E '/engine/(train|comm)/')" ||
    { echo "no kernel tests in $build"; return 1; }
  # It cannot watch every GPU, or may not: then nothing is found out.
  if ! limited "$sanitizer" --tool memcheck "$build/tests/bench/gpu/copies_vs_cuda" --mib 1 --round-mib 1 --rounds 1; then
    skip "compute-sanitizer does not run on this GPU; see the log"
    return
  fi
  for tool in memcheck racecheck; do
    for test in $programs; do
      needs "$test" || return
      echo "-- $tool of $test"
      status=0
      STRATA_REQUIRE=gpu limited "$sanitizer" --tool "$tool" --error-exitcode 9 \
        "$test" --gtest_brief=1 --gtest_filter="${STRATA_SANITIZER_FILTER:-*}" || status=$?
      [ "$status" -ne 124 ] || { echo "clean: ${clean[*]:-none}; cut in $tool of ${test##*/}"; return 124; }
      if [ "$status" -eq 0 ]; then clean+=("$tool/${test##*/}"); else dirty+=("$tool/${test##*/}"); fi
    done
  done
  [ ${#dirty[@]} -eq 0 ] || { echo "not clean: ${dirty[*]}"; return 1; }
  echo "clean: ${clean[*]}"
}

part_copy() {
  if ! $has_gpu; then
    needs "$build/tests/bench/gpu/copies_vs_cuda_emulated" || return
    limited "$build/tests/bench/gpu/copies_vs_cuda_emulated" --rounds 1 --mib 1 --round-mib 4 || return
    skip "runs emulated; nothing to measure: $no_gpu"
    return
  fi
  needs "$build/tests/bench/gpu/copies_vs_cuda" || return
  limited "$build/tests/bench/gpu/copies_vs_cuda" --at-least 0.95 --json >"$out/copy.json"
}

# The kernels that work row by row, beside a copy on the same GPU.
part_rows() {
  local bench="$build/tests/bench/engine/cuda_rows_bench"
  if ! $has_gpu; then
    bench="$build/tests/bench/engine/emulated_cuda_rows_bench"
    needs "$bench" || return
    limited "$bench" --rounds 1 --tokens 8 --hidden 128 --intermediate 256 --vocab 300 || return
    skip "runs emulated; nothing to measure: $no_gpu"
    return
  fi
  needs "$bench" || return
  limited "$bench" --json >"$out/rows.json" || return
  # {"copy":{"gb_per_s":3210.4,"of_copy":1.000},"add":...
  sed 's/^{//; s/},/}\n/g' "$out/rows.json" |
    sed -nE 's/^"([^"]+)":\{"gb_per_s":([0-9.]+),"of_copy":([0-9.]+).*/\1\t\2\t\3/p' |
    awk -F '\t' '{ printf "%-20s %8.1f GB/s  %5.3f of a copy\n", $1, $2, $3 }
      NR == 1 { copy = $2 }
      NR > 1 && (least == "" || $3 < least) { least = $3; name = $1 }
      END { printf "a copy moves %.0f GB/s; operations %.2f of that (%s) and more\n", copy, least, name }'
}

part_matmul() {
  local bench="$build/tests/bench/gpu/products_bench"
  if ! $has_gpu; then
    needs "$bench" || return
    limited "$bench" --device cpu --tokens 48 --hidden 64 --intermediate 96 --vocab 128 --milliseconds 1 || return
    skip "runs on the cores; nothing to measure: $no_gpu"
    return
  fi
  needs "$bench" || return
  if has_torch; then
    limited "$python" tests/bench/gpu/products_vs_torch.py "$bench" --json --at-least 1.0 >"$out/matmul.json"
  else
    limited "$bench" --json >"$out/matmul.json" || return
    echo "$python has no torch and transformers to compare with; figures are in $out/matmul.json"
  fi
}

part_attention() {
  local bench="$build/tests/bench/engine/gpu_kernels_bench"
  $has_gpu || { skip "$no_gpu"; return; }
  needs "$bench" || return
  if has_torch; then
    limited "$python" tests/bench/gpu_kernels_vs_torch.py "$bench" --filter Attention --json >"$out/attention.json" ||
      return
    "$python" - "$out/attention.json" <<'PYTHON'
import json
import sys
rows = json.load(open(sys.argv[1]))["rows"]
for row in rows:
    print(f"{row['name']:56}{row['strata_tflop_per_s']:8.1f} TFLOP/s, torch {row['torch_tflop_per_s']:8.1f}")
ratios = sorted(row["strata_tflop_per_s"] / row["torch_tflop_per_s"] for row in rows)
print(f"{ratios[0]:.2f} to {ratios[-1]:.2f} x torch's scaled dot product attention")
PYTHON
  else
    limited "$bench" --benchmark_filter=Attention --benchmark_format=json >"$out/attention.json" || return
    echo "$python has no torch and transformers to compare with; figures are in $out/attention.json"
  fi
}

# Of the first GPU's memory, what runs may have.
most_memory() {
  local mib="${gpu#*, }"
  echo "$((${mib%% *} * 9 / 10))MiB"
}

part_train() {
  $has_gpu || { skip "$no_gpu"; return; }
  needs "$strata" || return
  has_python || { skip "there is no $python, which drives it (PYTHON names another; it needs no packages)"; return; }
  local sides=eager,compiled
  $runs_all || sides=eager,compiled,eager-fp32,compiled-fp32
  has_torch || sides=
  limited "$python" tests/bench/gpu/train_vs_torch.py "$strata" --shape "${STRATA_CHECK_SHAPE:-1b}" --torch "$sides" \
    --device-memory "$(most_memory)" --at-least 1.0 --json >"$out/train.json" || return
  [ -n "$sides" ] || echo "$python has no torch and transformers: $(tail -1 "$out/train.log")"
}

# The same model with its state in host memory, and on NVMe; and what would fit here at most.
part_offload() {
  $has_gpu || { skip "$no_gpu"; return; }
  needs "$strata" || return
  has_python || { skip "there is no $python, which drives it (PYTHON names another; it needs no packages)"; return; }
  limited "$python" tests/bench/gpu/offload.py "$strata" --shape "${STRATA_CHECK_SHAPE:-1b}" --at-most 1.10 \
    --device-memory "$(most_memory)" --directory "${STRATA_BENCH_DIR:-$build}" --json >"$out/offload.json"
}

# --- One table --------------------------------------------------------------------------------------

# has_figures PART RESULT: what was stopped may have left half a file, which would spoil the whole.
has_figures() {
  local file="$out/$1.json"
  [ -s "$file" ] || return 1
  if has_python; then "$python" -m json.tool "$file" >/dev/null 2>&1; else [ "$2" = passed ] || [ "$2" = below ]; fi
}
escape() { printf '%s' "$1" | sed 's/\\/\\\\/g; s/"/\\"/g'; }
revision="$(git rev-parse --short HEAD 2>/dev/null || echo unknown)"
echo "strata $revision on $(uname -srm), $jobs cores"
echo "${gpu:-$no_gpu}"
for part in "${parts[@]}"; do run_part "$part"; done

failures=0
{
  printf '{"revision":"%s","gpu":"%s","limit_s":%s,"parts":[' "$(escape "$revision")" "$(escape "$gpu")" "$limit"
  for i in "${!names[@]}"; do
    [ "$i" -eq 0 ] || printf ','
    printf '{"part":"%s","result":"%s","seconds":%s,"note":"%s","figures":' \
      "${names[$i]}" "${results[$i]}" "${took[$i]}" "$(escape "${notes[$i]}")"
    if has_figures "${names[$i]}" "${results[$i]}"; then cat "$out/${names[$i]}.json"; else printf null; fi
    printf '}'
  done
  printf ']}\n'
} >"$json"

echo
printf '%-10s %-8s %6s  %s\n' part result time what
for i in "${!names[@]}"; do
  printf '%-10s %-8s %4s s  %s\n' "${names[$i]}" "${results[$i]}" "${took[$i]}" "${notes[$i]}"
  case "${results[$i]}" in FAILED | below | cut) failures=$((failures + 1)) ;; esac
done
echo
echo "figures: $json   logs: $out"
$has_gpu || echo "$no_gpu. What needs one was not run; on a machine with a GPU the same command runs it."
[ "$failures" -eq 0 ] || { echo "$failures of ${#names[@]} parts failed, were cut or are below what is promised"; exit 1; }
