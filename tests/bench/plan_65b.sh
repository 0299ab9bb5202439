#!/usr/bin/env bash
# The table of docs/plan-65b.md: configs/llama-65b-8gpu-nvme.toml with other host memory and drives.
#
#   tests/bench/plan_65b.sh STRATA [--json] [--set a.b=c ...]
#
# One row per host memory of the node and number of drives, as Markdown. A rank has an eighth of
# both, less a tenth of the host memory for the system. A drive is the configuration's.
set -euo pipefail
[ $# -ge 1 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 2; }
exec python3 - "$(dirname "$0")/../../configs/llama-65b-8gpu-nvme.toml" "$@" <<'PYTHON'
import json, subprocess, sys

config, strata, *rest = sys.argv[1:]
as_json = "--json" in rest
sets = [word for word in rest if word != "--json"]
GIB = 2**30
# One drive, as the configuration has it: read, write, both at once.
DRIVE = dict(nvme_read_bytes_per_s=6.5e9, nvme_write_bytes_per_s=4e9, nvme_mixed_bytes_per_s=5e9)
rows = []
if not as_json:
    print("| host memory | drives | step | tokens/s | bound | nvme read + written | "
          "stays in host memory |\n|---|---|---|---|---|---|---|")
for host_gib in (256, 512, 1024, 2048):
    for drives in (1, 2, 4, 8):
        command = [strata, "plan", config, "--json", *sets,
                   "--set", f"memory.host={int(host_gib * GIB * 0.9 / 8)}"]
        for key, rate in DRIVE.items():
            command += ["--set", f"hardware.{key}={rate * drives / 8}"]
        done = subprocess.run(command, capture_output=True, text=True)
        plan = json.loads(done.stdout or '{"fits": false}')
        rows.append(dict(host_gib=host_gib, drives=drives, plan=plan))
        if as_json:
            continue
        if not plan["fits"]:
            print(f"| {host_gib} GiB | {drives} | does not fit | | | | |", flush=True)
            continue
        lanes = plan["bytes_by_lane"]
        step = plan["predicted_step_s"]
        print(f"| {host_gib} GiB | {drives} | {step:.0f} s | {64 * 2048 / step:.0f} | "
              f"{plan['bound_s']:.0f} s by {plan['bound_resource']} | "
              f"{lanes['nvme-read'] / GIB:.0f} + {lanes['nvme-write'] / GIB:.0f} GiB | "
              f"{plan.get('host_cache_bytes', 0) / GIB:.0f} GiB |", flush=True)
if as_json:
    print(json.dumps(rows))
PYTHON
