#!/usr/bin/env python3
"""Random runs that must end with the same bits, whatever else is random about them.

    tests/tools/random_runs.py STRATA [--seconds 60] [--seed 1] [--ranks 4] [--device cpu]

What is computed is drawn (shape, precision, state format, clipping, batch, ranks), then four times where
and how: stage, homes, budgets (half of the time the smallest that plan), schedule, recomputation, tiles,
clip mode, depth, threads, I/O backend, checkpoints, who updates; some runs stop in between and go on from
there, in other places if chance says so. All four end with one hash of all state. Half of them are then
moved, without another step, to another number of ranks and other places, which must not change it either.

Works in a temporary folder of $STRATA_BENCH_DIR (default: here). Exit code 1 at the first run that is
refused, fails, hangs or ends with other bits; its commands and the folder with its configuration are said,
and the folder stays. Exit code 77 where --device is a GPU and there is none, or 1 if STRATA_REQUIRE has gpu. The
same seed draws the same runs.
"""

import argparse
import json
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time

TIMEOUT_S = 300
ENVIRONMENT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
               "OMPI_MCA_rmaps_base_oversubscribe": "1"}
CONFIG = """[model]
vocab_size = 300
hidden_size = {hidden}
intermediate_size = {intermediate}
num_hidden_layers = {layers}
num_attention_heads = 4
num_key_value_heads = 2
tie_word_embeddings = {tied}
part_size = "{part}"
[data]
path = "text.txt"
seq_len = 32
[train]
device = "{device}"
run_dir = "run"
steps = {steps}
train_batch_size = {batch}
train_micro_batch_size_per_gpu = {micro}
precision = "{precision}"
gradient_clipping = {clipping}
communication_data_type = "{communication}"
seed = 3
[optimizer]
type = "{optimizer}"
lr = {lr}
state = "{state}"
[memory]
device = "{device_memory}"
host = "64MiB"
"""
FP16 = "[fp16]\ninitial_scale_power = 12\nloss_scale_window = 3\n"
OPTIMIZER = "zero_optimization.offload_optimizer."
PARAM = "zero_optimization.offload_param."


def drawn_numbers(chance, most_ranks, device):
    """What is computed: other numbers give other bits."""
    precision = chance.choice(["bf16", "bf16", "fp32", "fp16"])
    ranks = chance.randint(1, most_ranks)
    micro = chance.choice([1, 1, 2])
    states = ["auto", "fp32"] + (["int8"] if precision == "bf16" else [])
    return {
        "hidden": chance.choice([32, 72, 256]), "intermediate": chance.choice([96, 160, 512]),
        "layers": chance.choice([1, 2, 3]), "tied": str(chance.random() < 0.4).lower(),
        "part": chance.choice(["512MiB", "64KiB", "16KiB"]), "device": device,
        "steps": chance.choice([3, 5, 6]), "micro": micro, "ranks": ranks,
        "batch": micro * chance.choice([1, 2, 3]) * ranks, "precision": precision,
        "clipping": chance.choice([0.0, 0.3, 1.0, 1000.0]), "lr": chance.choice([0.001, 0.05]),
        "communication": chance.choice(["auto", "fp32"]) if ranks > 1 else "auto",
        "optimizer": chance.choice(["AdamW", "Adam"]), "state": chance.choice(states),
        "device_memory": "64MiB" if device == "cpu" else "128MiB"}  # products on GPUs have a workspace


def drawn_places(chance, numbers):
    """Where it lives and how it moves, as overrides: none of it may change a bit."""
    # What is not supported is refused: weights in fp32 are their own masters, so both are sharded or neither.
    stages = [0, 3] if numbers["precision"] == "fp32" else [0, 1, 2, 3, 3, 3]
    stage = chance.choice(stages)
    sets = {
        "zero_optimization.stage": stage, "train.threads": chance.choice([1, 2, 3]),
        "train.schedule": chance.choice(["vertical", "horizontal"]),
        "train.recompute": chance.choice(["auto", "all", "none"]),
        "train.tile": chance.choice(["auto", 1, 2]),
        "train.clip_calm_steps": chance.choice(["auto", 1, 2]),
        "zero_optimization.prefetch_ops": chance.choice(["auto", 0, 1, 3, 17]),
        "aio.backend": chance.choice(["io_uring", "io_uring", "posix", "libaio"]),
        "aio.block_size": chance.choice(["4KiB", "64KiB", "1MiB"]),
        "checkpoint.every_steps": chance.choice([0, 1, 2]),
        "checkpoint.keep_last": chance.choice([0, 1, 2])}
    optimizer = chance.choice(["none", "cpu", "nvme", "nvme"]) if stage >= 1 else "none"
    param = chance.choice(["none", "cpu", "nvme", "nvme"]) if stage == 3 else "none"
    for key, home in ((OPTIMIZER, optimizer), (PARAM, param)):
        if home != "none":
            sets[key + "device"] = home
        if home == "nvme":
            sets[key + "nvme_path"] = "nvme"
    if optimizer != "none":
        sets[OPTIMIZER + "ratio"] = chance.choice([1, 1, 0.5, "auto", 0])
    if optimizer == "nvme" and chance.random() < 0.3:
        sets[OPTIMIZER + "host_cache"] = chance.choice(["auto", "100KiB", "1MiB"])
    if numbers["clipping"] > 0:
        # Speculation goes back to the last commit, and only with everything on nvme every step commits.
        commits = optimizer == param == "nvme" and OPTIMIZER + "host_cache" not in sets
        modes = ["auto", "deferred", "norm_first"] + (["speculative"] if commits else [])
        sets["train.clip_mode"] = chance.choice(modes)
    return sets


class Scene:
    """A folder with what all runs of the same numbers share."""

    def __init__(self, program, folder, chance):
        self.program = program
        self.folder = folder
        self.commands = []
        text = "".join(chance.choice("abcdefghij klm\n") for _ in range(12000))
        (folder / "text.txt").write_text(text)

    def begin(self, numbers):
        config = CONFIG.format(**numbers) + (FP16 if numbers["precision"] == "fp16" else "")
        (self.folder / "run.toml").write_text(config)

    def clear(self):
        for name in ("run", "nvme", "strata-logs"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        (self.folder / "nvme").mkdir()
        self.commands = []

    def run(self, command, ranks, sets, *more):
        words = [self.program]
        if command == "train" and ranks > 1:
            words += ["launch", "--nproc-per-node", str(ranks), "--"]
        words += [command, "run.toml", *more]
        if command == "plan":
            sets = {**sets, "train.world_size": ranks}
        for key, value in sets.items():
            words += ["--set", f"{key}={value}"]
        self.commands.append(" ".join(words))
        try:
            return subprocess.run(words, cwd=self.folder, env={**os.environ, **ENVIRONMENT}, text=True,
                                  capture_output=True, check=False, timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired as hung:
            return self.fail(f"has not ended in {TIMEOUT_S} s\n{hung.stderr}")

    def hash_of(self, ranks, sets, *more):
        done = self.run("train", ranks, sets, "--json", *more)
        if done.returncode != 0:
            self.fail(f"exit code {done.returncode}\n{done.stderr}")
        return json.loads(done.stdout.strip().splitlines()[-1])["state_hash"]

    def smallest_budgets(self, ranks, sets):
        done = self.run("plan", ranks, {**sets, "memory.device": "1MiB", "memory.host": "1MiB"})
        self.commands.pop()
        if done.returncode == 0:
            return {}
        found = re.search(r'device = "(\d+MiB)", host = "(\d+MiB)"', done.stderr)
        if found is None:
            self.fail(f"the smallest budgets are not said\n{done.stderr}")
        return {"memory.device": found[1], "memory.host": found[2]}

    def fail(self, why):
        print(f"\n{why}\nin {self.folder}, after\n  " + "\n  ".join(self.commands), file=sys.stderr)
        sys.exit(1)


def why_no_gpu(scene):
    """What the program says where there is no GPU, or nothing."""
    scene.begin(drawn_numbers(random.Random(1), 1, "cuda"))
    scene.clear()
    done = scene.run("train", 1, {"train.steps": 1})
    if done.returncode != 0 and '[train] device = "cuda"' in done.stderr:
        return done.stderr.strip()
    return None


def go_through(scene, numbers, chance):
    """A run in random places; the hash that it ends with."""
    ranks = numbers["ranks"]
    sets = drawn_places(chance, numbers)
    scene.clear()
    if chance.random() < 0.5:
        sets.update(scene.smallest_budgets(ranks, sets))
    if chance.random() >= 0.35:
        return scene.hash_of(ranks, sets)
    scene.hash_of(ranks, {**sets, "train.steps": chance.randrange(1, numbers["steps"])})
    if chance.random() < 0.5:
        sets = drawn_places(chance, numbers)
    return scene.hash_of(ranks, sets, "--resume")


def moved_elsewhere(scene, numbers, most_ranks, chance):
    ranks = chance.randint(1, most_ranks)
    micro_batches = numbers["batch"] // numbers["micro"]
    if micro_batches % ranks != 0:
        return None
    sets = drawn_places(chance, numbers)
    sets["train.gradient_accumulation_steps"] = micro_batches // ranks
    return scene.hash_of(ranks, sets, "--resume")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", metavar="STRATA", type=pathlib.Path)
    parser.add_argument("--seconds", type=float, default=60, help="no new numbers are drawn after that")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--ranks", type=int, default=4, help="at most; several are started by mpirun")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="random-runs-", dir=os.environ.get("STRATA_BENCH_DIR", ".")))
    scene = Scene(str(arguments.program.resolve()), folder.resolve(), chance)
    missing = why_no_gpu(scene) if arguments.device != "cpu" else None
    if missing is not None:
        shutil.rmtree(folder)
        print(f"skipped: {missing}")
        sys.exit(1 if "gpu" in os.environ.get("STRATA_REQUIRE", "").split(",") else 77)
    counts = {"numbers": 0, "runs": 0, "moves": 0}
    end = time.monotonic() + arguments.seconds
    while counts["numbers"] == 0 or time.monotonic() < end:
        numbers = drawn_numbers(chance, arguments.ranks, arguments.device)
        scene.begin(numbers)
        expected, first = None, []
        counts["numbers"] += 1
        for _ in range(4):
            ended = go_through(scene, numbers, chance)
            counts["runs"] += 1
            if expected is None:
                expected, first = ended, list(scene.commands)
            if ended != expected:
                scene.fail(f"ends with {ended}, another run with {expected}:\n  " + "\n  ".join(first))
            moved = moved_elsewhere(scene, numbers, arguments.ranks, chance) if chance.random() < 0.5 else None
            counts["moves"] += moved is not None
            if moved not in (None, ended):
                scene.fail(f"the move ends with {moved} instead of {ended}")
        print(f"{counts['numbers']}: {numbers['precision']}, {numbers['ranks']} ranks: {expected}", flush=True)
    shutil.rmtree(folder)
    print(f"seed {arguments.seed}: {counts['runs']} runs of {counts['numbers']} different numbers, moved "
          f"{counts['moves']} times: no bit changed")


if __name__ == "__main__":
    main()
