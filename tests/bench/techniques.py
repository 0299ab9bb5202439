#!/usr/bin/env python3
"""What each technique gains alone and all give together: step times with it and without it, predicted
first and measured then.

    tests/bench/techniques.py STRATA [CONFIG.toml] [--json] [--rounds N] [--steps N] [--only NAME]

The rates of this machine are measured once; with them every setting is planned and the table of
predictions printed before anything is trained. Then each pair is trained, off and on in turn, round by
round. A step's time is the median of its run without the first step, and of rounds the median.
Trains in a temporary folder of $STRATA_BENCH_DIR (default: here); needs as much of a drive as the
config. Run it on a quiet machine.
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
CLIP = {"train.gradient_clipping": 1000}  # clips nothing, which only the end of backward shows
FOUR = {"train.train_batch_size": 4, "train.gradient_accumulation_steps": 4}
ROOM = {"memory.host": "2560MiB"}
PLAIN = {"zero_optimization.prefetch_ops": 0, "train.clip_mode": "norm_first",
         "optimizer.state": "fp32", "train.recompute": "all"}

# name, what both have, what only the one without the technique has, what only the one with it has
TECHNIQUES = [
    ("reads ahead of use", {}, {"zero_optimization.prefetch_ops": 0}, {}),
    ("updates inside backward although clipping, speculative", CLIP,
     {"train.clip_mode": "norm_first"}, {}),
    ("updates deferred into the next forward", CLIP, {"train.clip_mode": "norm_first"},
     {"train.clip_mode": "deferred"}),
    ("split masters", {}, {"optimizer.state": "fp32"}, {}),
    ("int8 moments, against split", {}, {}, {"optimizer.state": "int8"}),
    ("intermediates kept where it pays", {}, {"train.recompute": "all"}, {}),
    ("vertical schedule, 4 micro-batches", FOUR, {"train.schedule": "horizontal"}, {}),
    ("host cache of 2 GiB", ROOM, {},
     {"zero_optimization.offload_optimizer.host_cache": "2GiB"}),
    ("the first four and kept intermediates together", CLIP, PLAIN, {}),
]


def call(command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"techniques: {' '.join(map(str, command))}: {done.stderr.strip()}")
    return done.stdout


class Bench:
    def __init__(self, strata, config, base, steps):
        self.strata, self.base, self.steps = strata, base, steps
        self.config = base / "run.toml"
        self.config.write_text(pathlib.Path(config).read_text())

    def sets(self, folder, keys):
        nvme = {f"zero_optimization.{name}.nvme_path": f"{folder}/nvme"
                for name in ("offload_param", "offload_optimizer")}
        fixed = {"data.path": f"{ROOT}/docs", "train.run_dir": f"{folder}/run",
                 "train.steps": self.steps, "train.trace_steps": 0, **nvme}
        return [word for key, value in {**fixed, **keys}.items() for word in ("--set", f"{key}={value}")]

    def folder(self):
        made = pathlib.Path(tempfile.mkdtemp(dir=self.base))
        (made / "nvme").mkdir()
        return made

    def measure_rates(self):
        folder = self.folder()
        text = call([self.strata, "doctor", self.config, "--measure", *self.sets(folder, CLIP)])
        with self.config.open("a") as out:
            out.write(text)
        shutil.rmtree(folder)

    def predict(self, keys):
        folder = self.folder()
        plan = json.loads(call([self.strata, "plan", self.config, "--json", *self.sets(folder, keys)]))
        shutil.rmtree(folder)
        return plan["predicted_step_s"]

    def train(self, keys):
        folder = self.folder()
        out = call([self.strata, "train", self.config, "--json", *self.sets(folder, keys)])
        shutil.rmtree(folder)
        lines = [json.loads(line) for line in out.splitlines()]
        reports, summary = lines[:-1], lines[-1]
        # Steps of the kind that was predicted; the first finds less cached than the others.
        kept = [r for r in reports[1:] if r["predicted_step_s"] == summary["predicted_step_s"]]
        return statistics.median(r["step_s"] for r in (kept or reports[1:]))


def print_table(rows, times):
    width = max(len(row["name"]) for row in rows)
    print(f"{'technique':{width}}  {'off, s':>8}  {'on, s':>8}  {'off / on':>8}   {times}")
    for row in rows:
        off, on = row[f"{times}_off_s"], row[f"{times}_on_s"]
        print(f"{row['name']:{width}}  {off:8.2f}  {on:8.2f}  {off / on:8.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("strata")
    parser.add_argument("config", nargs="?", default=ROOT / "configs/llama-300m-nvme.toml")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    base = pathlib.Path(tempfile.mkdtemp(dir=os.environ.get("STRATA_BENCH_DIR", "."),
                                         prefix="techniques-")).resolve()
    rows = []
    try:
        bench = Bench(pathlib.Path(arguments.strata).resolve(), arguments.config, base,
                      arguments.steps)
        bench.measure_rates()
        for name, both, off, on in TECHNIQUES:
            if arguments.only not in name:
                continue
            rows.append(dict(name=name, off_keys={**both, **off}, on_keys={**both, **on}))
            for side in ("off", "on"):
                rows[-1][f"predicted_{side}_s"] = bench.predict(rows[-1][f"{side}_keys"])
                rows[-1][f"rounds_{side}_s"] = []
        if not arguments.json:
            print_table(rows, "predicted")
            sys.stdout.flush()
        for number in range(arguments.rounds):
            for row in rows:
                for side in ("off", "on"):
                    row[f"rounds_{side}_s"].append(bench.train(row[f"{side}_keys"]))
                print(f"round {number + 1}: {row['name']}", file=sys.stderr)
        for row in rows:
            for side in ("off", "on"):
                row[f"measured_{side}_s"] = statistics.median(row[f"rounds_{side}_s"])
    finally:
        shutil.rmtree(base)
    if arguments.json:
        print(json.dumps(dict(techniques=rows)))
    else:
        print_table(rows, "measured")


if __name__ == "__main__":
    main()
