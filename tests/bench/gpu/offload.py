#!/usr/bin/env python3
"""A Llama trained with its state in host memory, and on NVMe: each step beside its bound, and beside the step
with all state in device memory. And the largest Llama that this machine could train.

    tests/bench/gpu/offload.py STRATA [--device cuda] [--shape 1b] [--batch N] [--seq N] [--steps N]
        [--homes none,cpu,nvme] [--device-memory SIZE] [--host-memory SIZE] [--directory DIR]
        [--at-most RATIO] [--no-largest] [--set a.b=c ...] [--json]

Rates are measured before each run's first step, alone; the bound is what the busiest resource takes at
those; medians of the steps after the second. With --at-most, the exit code is 3 when a step takes more than
so many times its bound. What does not fit in DIRECTORY is left out, and said.

The largest is searched for by `strata plan`, not trained: Llama 3.1 8B with more layers or fewer, state in host
memory or on NVMe, with nine tenths of the GPU's memory and eight of what host memory is free; what is
on NVMe must fit on the drive, twice.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile

from train_vs_torch import SHAPES, WARM_UP, config_text, run

HOMES = ("none", "cpu", "nvme")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("strata")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--shape", default="1b", choices=list(SHAPES))
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seq", type=int, default=2048)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--homes", default=",".join(HOMES))
    parser.add_argument("--device-memory", default="64GiB")
    parser.add_argument("--host-memory", help="16 bytes per parameter and 12 GiB, where the shape is 1b or 8b")
    parser.add_argument("--directory", default=".")
    parser.add_argument("--at-most", type=float)
    parser.add_argument("--no-largest", action="store_true")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    options.clip = 0
    options.host_memory = options.host_memory or {"tiny": "1GiB", "1b": "32GiB", "8b": "132GiB"}[options.shape]
    options.homes = options.homes.split(",")
    if unknown := set(options.homes) - set(HOMES):
        parser.error(f"--homes {','.join(unknown)}: there are {', '.join(HOMES)}")
    if options.steps <= WARM_UP:
        parser.error(f"--steps must be more than {WARM_UP}: those warm up")
    return options


def offload(home, folder):
    if home == "none":
        return ""
    section = f'device = "{home}"\n' + (f'nvme_path = "{folder}/nvme"\n' if home == "nvme" else "")
    return (f"[zero_optimization]\nstage = 3\n[zero_optimization.offload_optimizer]\n{section}"
            f"[zero_optimization.offload_param]\n{section}")


def settings(options):
    return [word for setting in options.set for word in ("--set", setting)]


def plan(options, config):
    """What `strata plan` prints; None if it does not fit."""
    done = subprocess.run([options.strata, "plan", config, "--json", *settings(options)], capture_output=True, text=True)
    return json.loads(done.stdout) if done.returncode == 0 else None


def train(options, home):
    with tempfile.TemporaryDirectory(prefix="offload-", dir=options.directory) as folder:
        os.mkdir(os.path.join(folder, "nvme"))
        config = os.path.join(folder, "run.toml")
        pathlib.Path(config).write_text(config_text(options, folder) + offload(home, folder))
        if home == "nvme":
            planned = plan(options, config)
            room = shutil.disk_usage(folder).free
            if planned and planned["store_bytes"] > 0.95 * room:
                return {"home": home, "left_out": f"needs {planned['store_bytes'] / 1e9:.0f} GB of disk, "
                                                  f"{room / 1e9:.0f} GB are free"}
        lines = run([options.strata, "train", config, "--measure", "--json", *settings(options)], f"strata ({home})")
    steps = [line for line in lines if "step_s" in line][WARM_UP:]
    end = next(line for line in lines if "steps_done" in line)
    return {"home": home, "step_s": statistics.median(step["step_s"] for step in steps),
            "bound_s": statistics.median(step["bound_s"] for step in steps),
            "step_over_bound": statistics.median(step["step_s"] / step["bound_s"] for step in steps),
            "bound_resource": end["bound_resource"], "parameters": end["elements"],
            "tokens_per_s": statistics.median(step["tokens_per_s"] for step in steps),
            "weights_hash": end["weights_hash"]}


def free_memory(options):
    """Bytes to plan with: of the device, of the host."""
    available = next(int(line.split()[1]) * 1024 for line in open("/proc/meminfo") if line.startswith("MemAvailable"))
    if options.device == "cpu":
        return available // 4, available // 2
    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    gpu = int(re.match(r"\d+", subprocess.run(query, capture_output=True, text=True, check=True).stdout).group()) << 20
    return gpu * 9 // 10, available * 8 // 10


def largest(options, home):
    """The most layers that plan with the state there; None if not one does."""
    device, host = free_memory(options)
    room = shutil.disk_usage(options.directory).free

    def fits(layers):
        with tempfile.TemporaryDirectory(prefix="offload-", dir=options.directory) as folder:
            SHAPES["large"] = SHAPES["8b"] | {"num_hidden_layers": layers}
            one = argparse.Namespace(**vars(options) | {
                "shape": "large", "batch": 1, "device_memory": f"{device >> 20}MiB", "host_memory": f"{host >> 20}MiB",
                # One way to run it is enough to know that it runs.
                "set": ["zero_optimization.prefetch_ops=8", "train.recompute=all"]})
            config = os.path.join(folder, "run.toml")
            pathlib.Path(config).write_text(config_text(one, folder) + offload(home, folder))
            planned = plan(one, config)
        if not planned or planned["store_bytes"] > 0.95 * room:
            return None
        return {"home": home, "layers": layers, "parameters": planned["parameters"],
                "store_bytes": planned["store_bytes"], "device_bytes": device, "host_bytes": host}

    best, low, high = None, 0, 1
    while high <= 512 and (planned := fits(high)):
        best, low, high = planned, high, high * 2
    while high - low > max(1, low // 16):  # as close as that
        middle = (low + high) // 2
        if planned := fits(middle):
            best, low = planned, middle
        else:
            high = middle
    return best


def show(rows, text):
    print(f"{'state in':10}{'step':>11}{'bound':>11}{'step/bound':>12}{'tokens/s':>10}   bound by", file=text)
    for row in rows:
        if "left_out" in row:
            print(f"{row['home']:10}left out: {row['left_out']}", file=text)
            continue
        print(f"{row['home']:10}{row['step_s'] * 1e3:8.1f} ms{row['bound_s'] * 1e3:8.1f} ms{row['step_over_bound']:12.3f}"
              f"{row['tokens_per_s']:10.0f}   {row['bound_resource']}", file=text)


def main():
    options = parse_arguments()
    text = sys.stderr if options.json else sys.stdout
    rows = [train(options, home) for home in options.homes]
    done = [row for row in rows if "step_s" in row]
    show(rows, text)
    if len({row["weights_hash"] for row in done}) > 1:
        sys.exit("error: the weights differ by where the state is: " + json.dumps(rows))
    found = [] if options.no_largest else [one for home in ("cpu", "nvme") if (one := largest(options, home))]
    if options.json:
        print(json.dumps({"device": options.device, "shape": options.shape, "batch": options.batch,
                          "seq": options.seq, "rows": rows, "largest": found}))
    # What is promised is promised for state that is somewhere else.
    note = ", ".join(f"{row['home']} {row['step_over_bound']:.3f} x bound" for row in done)
    if found:
        best = max(found, key=lambda one: one["parameters"])
        note += f"; largest that plans: {best['parameters'] / 1e9:.1f}B parameters, state in {best['home']}"
    print(note, file=text)
    worst = max((row["step_over_bound"] for row in done if row["home"] != "none"), default=0)
    if options.at_most and worst > options.at_most:
        sys.exit(3)


if __name__ == "__main__":
    main()
