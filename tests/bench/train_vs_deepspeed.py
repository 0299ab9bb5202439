#!/usr/bin/env python3
"""The same model trained by Strata and by DeepSpeed ZeRO-3 with NVMe offload, one after the other.

    tests/bench/train_vs_deepspeed.py STRATA CONFIG.toml DIRECTORY --deepspeed-python PYTHON
        [--rounds N] [--steps N] [--json] [--set a.b=c ...]

Same shape, batch, precision, optimizer, threads and drive. PYTHON has torch, transformers, deepspeed and
ninja. DeepSpeed runs twice per round: recomputing activations in backward, as Strata does, and keeping
them. The first step of a run is not counted. Bytes are what each program asked the drive for: Strata's
counters, and the kernel's for DeepSpeed's process. Memory is the peak resident set from outside.
Needs room in DIRECTORY for 28 bytes per parameter.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("strata")
    parser.add_argument("config")
    parser.add_argument("directory")
    parser.add_argument("--deepspeed-python", required=True)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--set", action="append", default=[], help="for Strata's configuration")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def run(command, name):
    """The JSON objects that the command printed, and its peak resident set in bytes."""
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        lines = [json.loads(line) for line in process.stdout if line.startswith("{")]
        _, status, usage = os.wait4(process.pid, 0)
        if status != 0:
            log.seek(0)
            sys.exit(f"error: {name} failed: {' '.join(command)}\n{log.read()[-3000:]}")
    return lines, usage.ru_maxrss * 1024


def strata(options, folder):
    os.mkdir(os.path.join(folder, "nvme"))
    nvme = os.path.join(folder, "nvme")
    settings = [f"train.run_dir={folder}/run", f"train.steps={options.steps}", "train.trace_steps=0",
                f"zero_optimization.offload_param.nvme_path={nvme}",
                f"zero_optimization.offload_optimizer.nvme_path={nvme}", *options.set]
    command = [options.strata, "train", options.config, "--json"]
    for setting in settings:
        command += ["--set", setting]
    lines, peak = run(command, "strata")
    steps = [{"seconds": line["step_s"] + line["commit_s"], "bytes_read": line["nvme_bytes_read"],
              "bytes_written": line["nvme_bytes_written"]} for line in lines if "step_s" in line]
    return steps, peak


def deepspeed(options, folder, flags):
    driver = os.path.join(os.path.dirname(os.path.abspath(__file__)), "deepspeed_train.py")
    return run([options.deepspeed_python, driver, options.config, folder, "--steps",
                str(options.steps), *flags], "DeepSpeed")


SIDES = {
    "strata": strata,
    "deepspeed, recomputing": lambda o, f: deepspeed(o, f, ["--recompute"]),
    "deepspeed, keeping": lambda o, f: deepspeed(o, f, []),
}


def measure(options):
    results = {name: [] for name in SIDES}
    for round_index in range(options.rounds):
        for name in list(SIDES)[::-1 if round_index % 2 else 1]:
            folder = tempfile.mkdtemp(prefix="vs_deepspeed-", dir=options.directory)
            try:
                steps, peak = SIDES[name](options, folder)
            finally:
                shutil.rmtree(folder)
            results[name] += [{**step, "peak_bytes": peak} for step in steps[1:]]
            print(f"round {round_index + 1}/{options.rounds} {name}: "
                  + ", ".join(f"{step['seconds']:.2f} s" for step in steps), file=sys.stderr)
    return results


def parameters(options):
    plan, _ = run([options.strata, "plan", options.config, "--json"], "strata plan")
    return plan[0]["parameters"]


def summarise(results, num_parameters):
    def median(name, key):
        return statistics.median(step[key] for step in results[name])
    return [{"side": name, "step_s": median(name, "seconds"),
             "read_bytes_per_parameter": median(name, "bytes_read") / num_parameters,
             "written_bytes_per_parameter": median(name, "bytes_written") / num_parameters,
             "peak_rss_bytes": max(step["peak_bytes"] for step in results[name]),
             "times_strata": median(name, "seconds") / median("strata", "seconds")}
            for name in results]


def main():
    options = parse_arguments()
    if options.steps < 2:
        sys.exit("error: --steps must be 2 or more: the first is not counted")
    rows = summarise(measure(options), parameters(options))
    if options.json:
        print(json.dumps({"config": options.config, "rounds": options.rounds, "rows": rows}))
        return
    print(f"{'':26}{'step':>9}{'x strata':>10}{'read':>8}{'written':>9}   peak memory")
    for row in rows:
        print(f"{row['side']:26}{row['step_s']:7.2f} s{row['times_strata']:10.2f}"
              f"{row['read_bytes_per_parameter']:8.2f}{row['written_bytes_per_parameter']:9.2f}"
              f"   {row['peak_rss_bytes'] / 2**20:.0f} MiB")
    print("read and written: bytes per parameter and step; medians without each run's first step")


if __name__ == "__main__":
    main()
