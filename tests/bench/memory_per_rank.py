#!/usr/bin/env python3
"""What a rank has and sends, planned and measured, for ZeRO's stages on 1, 2 and 4 ranks.

    tests/bench/memory_per_rank.py STRATA [--json] [--stages 0,1,2,3] [--ranks 1,2,4] [--offloads none,nvme]

A small Llama is planned with room for all, then with budgets of just what that plan takes; offloaded to
nvme with the smallest budgets that it can have (but 16 MiB of host at least). So it is trained for a few
steps. Memory of a rank is the kernel's, from /proc/PID/smaps: proportional set sizes of the device's and
the host's arena and of the rest, which is the program and its libraries, each of all ranks' processes
together, at its peak, over the ranks. (Of a peer's memory that a rank reads, resident sizes count the
pages in both.) NVMe is what the blocks of the rank's files take. What a rank sends in a step is counted;
theory has (N - 1) / N of bf16 parameters: an all-reduce twice, a reduce-scatter and a gather once each.

Trains in a temporary folder of $STRATA_BENCH_DIR (default: here). Exit code 1 when a tier's bytes are not
those planned (an arena is rounded up to a MiB; NVMe to 1 %), when a rank takes more than 256 MiB beside, or
sends 2 % more or less than planned.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
MIB = 1 << 20
ALLOWANCE_BYTES = 256 * MIB
LEAST_HOST_MIB = 16  # through which the first state goes to the device
STEPS = 4
SETTINGS = {
    "model.vocab_size": 320, "model.hidden_size": 512, "model.intermediate_size": 1408,
    "model.num_hidden_layers": 8, "model.num_attention_heads": 8, "data.seq_len": 64,
    "train.device": "'cpu'", "train.steps": STEPS, "train.train_batch_size": 4, "train.train_micro_batch_size_per_gpu": 1,
    "train.threads": 1, "checkpoint.keep_last": 0,
}
MPI_ENVIRONMENT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
                   "OMPI_MCA_rmaps_base_oversubscribe": "1"}


def settings_of(stage, ranks, offload, folder):
    settings = dict(SETTINGS)
    settings.update({"data.path": f"'{ROOT / 'docs'}'", "train.run_dir": f"'{folder / 'run'}'",
                     "train.world_size": ranks, "zero_optimization.stage": stage})
    for what, least_stage in (("offload_optimizer", 1), ("offload_param", 3)):
        if offload == "none" or stage < least_stage:
            continue
        settings[f"zero_optimization.{what}.device"] = f"'{offload}'"
        if offload == "nvme":
            settings[f"zero_optimization.{what}.nvme_path"] = f"'{folder / 'nvme'}'"
    return settings


def write_config(folder, settings):
    path = folder / "run.toml"
    path.write_text("".join(f"{key} = {value}\n" for key, value in settings.items()))
    return path


def call(command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if not done.stdout:
        raise SystemExit(f"memory_per_rank: {' '.join(map(str, command))}: {done.stderr.strip()}")
    return json.loads(done.stdout)  # of a plan that does not fit, too


def roomy_budgets(strata, folder, settings):
    """What a plan with room for all takes, in MiB."""
    settings = {**settings, "memory.device": "'4GiB'", "memory.host": "'4GiB'"}
    roomy = call([strata, "plan", write_config(folder, settings), "--json"])
    return {"device": -(-roomy["peak_device_bytes"] // (MIB)),
            "host": -(-roomy["peak_host_bytes"] // (MIB))}


def smallest_budgets(strata, folder, settings):
    """The least that the run can have, in MiB; what is on the drive is not cached then."""
    settings = {**settings, "memory.device": "'1MiB'", "memory.host": "'1MiB'"}
    tight = call([strata, "plan", write_config(folder, settings), "--json"])
    device, host = re.search(r'device = "(\d+)MiB", host = "(\d+)MiB"', tight["error"]).groups()
    return {"device": int(device), "host": int(host)}


def plan(strata, folder, offload, settings):
    """With budgets that suit the offload; they are left in the folder's configuration."""
    budgets = (smallest_budgets if offload == "nvme" else roomy_budgets)(strata, folder, settings)
    budgets["host"] = max(budgets["host"], LEAST_HOST_MIB)
    budgets["host"] += budgets["host"] == budgets["device"]  # so that sizes tell them apart
    settings.update({f"memory.{tier}": f"'{mib}MiB'" for tier, mib in budgets.items()})
    return call([strata, "plan", write_config(folder, settings), "--json"]), budgets


def processes_below(ancestor, program):
    """Those that run the program, the ancestor itself among them."""
    children = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            stat = pathlib.Path(f"/proc/{entry}/stat").read_text()
        except OSError:
            continue  # it has just ended
        children.setdefault(int(stat.rsplit(")", 1)[1].split()[1]), []).append(int(entry))
    found, left = [], [ancestor]
    while left:
        pid = left.pop()
        left += children.get(pid, [])
        try:
            if os.readlink(f"/proc/{pid}/exe") == program:
                found.append(pid)
        except OSError:
            continue
    return found


def tier_of(name, begin, end, budgets):
    """Arenas are named after what they are for; where this kernel does not name private memory, they are
    the mappings without a file that are as large as a budget."""
    for tier in budgets:
        if f"strata {tier}" in name:
            return tier
    if not name:
        for tier, mib in budgets.items():
            if end - begin == mib << 20:
                return tier
    return "rest"


def proportional_bytes(pid, budgets):
    """Of a process's memory by tier; what is no arena is the rest."""
    sizes = dict.fromkeys((*budgets, "rest"), 0)
    try:
        for line in pathlib.Path(f"/proc/{pid}/smaps").read_text().splitlines():
            if match := re.match(r"([0-9a-f]+)-([0-9a-f]+) \S+ \S+ \S+ \d+ *(.*)", line):
                begin, end = int(match[1], 16), int(match[2], 16)
                tier = tier_of(match[3], begin, end, budgets)
            elif line.startswith("Pss:"):
                sizes[tier] += int(line.split()[1]) * 1024
    except OSError:
        pass  # it has just ended
    return sizes


def train(strata, folder, ranks, budgets):
    """Peak bytes of all ranks together by tier."""
    program = str(pathlib.Path(strata).resolve())
    command = [program, "train", str(folder / "run.toml"), "--json"]
    if ranks > 1:
        command = ["mpirun", "-n", str(ranks)] + command
    peaks, before = {}, {}
    with open(folder / "out.jsonl", "wb") as out, open(folder / "err.txt", "wb") as err:
        job = subprocess.Popen(command, stdout=out, stderr=err,
                               env={**os.environ, **MPI_ENVIRONMENT})
        while job.poll() is None:
            sizes = [proportional_bytes(pid, budgets) for pid in processes_below(job.pid, program)]
            now = {tier: sum(one[tier] for one in sizes) for tier in (*budgets, "rest")}
            for tier, size in now.items():
                # Processes are read one after the other: a page of an arena that a peer maps in between
                # counts whole in the first and half in the second. So arenas count as they stay.
                stays = size if tier == "rest" else min(size, before.get(tier, 0))
                peaks[tier] = max(peaks.get(tier, 0), stays)
            before = now
            time.sleep(0.01)
    if job.returncode != 0:
        raise SystemExit(f"memory_per_rank: {' '.join(command)}: {(folder / 'err.txt').read_text()}")
    return peaks


def store_bytes(folder):
    files = [*folder.glob("**/*.blocks")]
    return sum(path.stat().st_blocks * 512 for path in files)


def measure(strata, stage, ranks, offload, base):
    folder = pathlib.Path(tempfile.mkdtemp(dir=base))
    (folder / "nvme").mkdir()
    planned, budgets = plan(strata, folder, offload, settings_of(stage, ranks, offload, folder))
    peaks = train(strata, folder, ranks, budgets)
    lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    row = {
        "stage": stage, "ranks": ranks, "offload": offload, "parameters": planned["parameters"],
        "device_bytes": planned["peak_device_bytes"], "host_bytes": planned["peak_host_bytes"],
        "measured_device_bytes": peaks["device"] / ranks,
        "measured_host_bytes": peaks["host"] / ranks,
        "rest_bytes": peaks["rest"] / ranks,
        "store_bytes": planned["store_bytes"], "measured_store_bytes": store_bytes(folder) / ranks,
        "comm_bytes_sent": planned["comm_bytes_sent"],
        "measured_comm_bytes_sent": json.loads(lines[-1])["comm_bytes_sent"],
    }
    shutil.rmtree(folder)
    return row


def faults_of(row):
    where = f"stage {row['stage']} on {row['ranks']} ranks, offload {row['offload']}"
    faults = []
    for tier in ("device", "host"):
        measured, planned = row[f"measured_{tier}_bytes"], row[f"{tier}_bytes"]
        # An arena is a whole number of MiB; the host's has what passes through it at start, too.
        least_host = (LEAST_HOST_MIB + 1) << 20 if tier == "host" else 0
        if not planned * 0.99 <= measured <= max(planned + MIB, least_host):
            faults.append(f"{where}: a rank takes {measured:.0f} bytes of {tier}, planned {planned}")
    if row["rest_bytes"] > ALLOWANCE_BYTES:
        faults.append(f"{where}: a rank takes {row['rest_bytes']:.0f} bytes beside device and host")
    store, planned = row["measured_store_bytes"], row["store_bytes"]
    if abs(store - planned) > 0.01 * planned:
        faults.append(f"{where}: a rank takes {store:.0f} bytes of nvme, planned {planned}")
    sent, planned = row["measured_comm_bytes_sent"], row["comm_bytes_sent"]
    if abs(sent - planned) > 0.02 * planned:
        faults.append(f"{where}: a rank sends {sent} bytes in a step, planned {planned}")
    return faults


def table(rows):
    print(f"{rows[0]['parameters'] / 1e6:.1f}M parameters, bf16; MiB of one rank; sent in a step\n")
    print("| stage | ranks | offload | device | measured | host | measured | beside | nvme | measured "
          "| sent | measured |")
    print("|" + "---|" * 12)
    for row in rows:
        keys = ("device_bytes", "measured_device_bytes", "host_bytes", "measured_host_bytes", "rest_bytes",
                "store_bytes", "measured_store_bytes", "comm_bytes_sent", "measured_comm_bytes_sent")
        mib = " | ".join(f"{row[key] / MIB:.1f}" for key in keys)
        print(f"| {row['stage']} | {row['ranks']} | {row['offload']} | {mib} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("strata")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--stages", default="0,1,2,3")
    parser.add_argument("--ranks", default="1,2,4")
    parser.add_argument("--offloads", default="none,nvme")
    arguments = parser.parse_args()
    base = pathlib.Path(tempfile.mkdtemp(dir=os.environ.get("STRATA_BENCH_DIR", "."),
                                         prefix="memory-per-rank-")).resolve()
    rows = []
    try:
        for offload in arguments.offloads.split(","):
            for stage in map(int, arguments.stages.split(",")):
                if stage == 0 and offload != "none":
                    continue  # it has nothing to offload
                for ranks in map(int, arguments.ranks.split(",")):
                    rows.append(measure(arguments.strata, stage, ranks, offload, base))
                    print(f"done: stage {stage}, {ranks} ranks, {offload}", file=sys.stderr)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    faults = [fault for row in rows for fault in faults_of(row)]
    if arguments.json:
        print(json.dumps({"rows": rows, "faults": faults}))
    else:
        table(rows)
    for fault in faults:
        print(f"error: {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
