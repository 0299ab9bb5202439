#!/usr/bin/env python3
"""How fast the state of a run moves to other ranks and tiers, beside the drive's own rates, and what memory it takes.

    tests/bench/reshard.py STRATA [--json] [--layers 8] [--ways 4:nvme,2:nvme,4:host,1:nvme,4:nvme]

A Llama of hidden size 1024 (130 MB of state a layer) takes one step with the first world and home of the way. Each
next one resumes it and trains nothing: the state moves. Then the same is resumed once more, in place: what the
process takes beyond that, by its peak resident set (the largest of all ranks), is what moving takes beside the
arenas, which are of their full size in both.

`strata io bench` measures the drive before each move, with the settings of a run. A move checks the old state
(read once), initialises the new stores (written once, whole), copies (each byte read and written) and commits. The
bound is those bytes at the rates of the drive: of reads, of writes, of an even mix.

Works in a temporary folder of $STRATA_BENCH_DIR (default: here). Exit code 1 when a state's hash is not that of the
first, or when moving takes more than 16 MiB (docs/ranks.md; and 4 for what two runs of one program differ in).
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

import memory_per_rank

MIB = 1 << 20
PROMISE_BYTES = 16 * MIB
NOISE_BYTES = 4 * MIB
BATCH = 12  # which 1, 2, 3, 4 and 6 ranks share
PHASES = ("checking the state", "initialising", "resharding")
END = "starting at step"


def settings_of(layers, world, home, folder):
    settings = {
        "model.vocab_size": 320, "model.hidden_size": 1024, "model.intermediate_size": 2816,
        "model.num_hidden_layers": layers, "model.num_attention_heads": 16,
        "data.path": f"'{memory_per_rank.ROOT / 'docs'}'", "data.seq_len": 16, "train.steps": 1,
        "train.train_batch_size": BATCH, "train.train_micro_batch_size_per_gpu": 1, "train.threads": 1,
        "train.world_size": world, "train.run_dir": f"'{folder / 'run'}'", "checkpoint.keep_last": 0,
        "zero_optimization.stage": 3, "memory.device": "'1GiB'", "memory.host": "'64GiB'",
    }
    for what in ("offload_optimizer", "offload_param"):
        settings[f"zero_optimization.{what}.device"] = {"nvme": "'nvme'", "host": "'cpu'"}[home]
        settings[f"zero_optimization.{what}.nvme_path"] = f"'{folder / 'nvme'}'"
    return settings


def write_config(strata, layers, world, home, folder):
    """With the smallest budgets that such a run has, and 128 MiB more of each."""
    settings = settings_of(layers, world, home, folder)
    least = memory_per_rank.smallest_budgets(strata, folder, settings)
    settings.update({f"memory.{tier}": f"'{mib + 128}MiB'" for tier, mib in least.items()})
    return memory_per_rank.write_config(folder, settings)


def measured_rank(command):
    """Of one rank, under mpirun: its peak resident set goes to the end of what it says."""
    _, status, usage = os.wait4(os.spawnvp(os.P_NOWAIT, command[0], command), 0)
    print(f"peak of rank {os.environ['OMPI_COMM_WORLD_RANK']}: {usage.ru_maxrss} KiB", flush=True)
    return os.waitstatus_to_exitcode(status)


class Output:
    """What a job says, and when it had said so much."""

    def __init__(self, command):
        self.text, self.times = "", []  # the length of the text and the time
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              env={**os.environ, **memory_per_rank.MPI_ENVIRONMENT}) as job:
            while chunk := os.read(job.stdout.fileno(), 1 << 16):
                self.text += chunk.decode(errors="replace")
                self.times.append((len(self.text), time.monotonic()))
        if job.returncode != 0:
            raise SystemExit(f"reshard: {' '.join(command)}: {self.text}")

    def when(self, position):
        """That character came."""
        return next(seconds for length, seconds in self.times if length > position)

    def found(self, pattern):
        return re.search(pattern, self.text)

    def peak_bytes(self):
        return max(int(kib) for kib in re.findall(r"peak of rank \d+: (\d+) KiB", self.text)) * 1024


def train(strata, config, world, resume):
    command = ["mpirun", "-n", str(world), sys.executable, __file__, "--rank", strata, "train", str(config)]
    return Output(command + (["--resume"] if resume else []))


def phases_of(output):
    """Seconds of each phase. Each says that it is done; the first begins where the plan has been printed."""
    begin = output.found(PHASES[0])
    marks = [output.when(max(0, begin.start() - 2))]
    for name in PHASES:
        marks.append(output.when(output.found(f"{name}[^%\r\n]* done").end() - 1))
    marks.append(output.when(output.found(END).start()))
    return dict(zip(("check", "initialise", "copy", "commit"), (b - a for a, b in zip(marks, marks[1:]))))


def drive_rates(strata, folder, size_mib, seconds):
    report = memory_per_rank.call([strata, "io", "bench", "--path", folder, "--size", f"{size_mib}MiB",
                                   "--seconds", seconds, "--json"])
    return {phase["phase"].split()[0]: phase["gb_per_s"] * 1e9 for phase in report["phases"]}


def state_bytes(strata, run_dir):
    """Of all ranks, padded as in their stores."""
    listed = memory_per_rank.call([strata, "checkpoint", "list", run_dir, "--json"])
    return listed["checkpoints"][-1]["bytes"]


def move(strata, folder, config, origin, target, rates):
    world, home = target
    output = train(strata, config, world, resume=True)
    if not output.found(PHASES[2]):
        raise SystemExit(f"reshard: from {origin} to {target} nothing moves; take another number of ranks")
    in_place = train(strata, config, world, resume=True)
    state = state_bytes(strata, folder / "run")
    new = sum(path.stat().st_size for path in folder.glob("**/*.blocks"))
    seconds = phases_of(output)
    bounds = {"check": state / rates["read"], "initialise": new / rates["write"],
              "copy": 2 * state / rates["mixed"]}
    return {
        "from": f"{origin[0]} {origin[1]}", "to": f"{world} {home}", "state_bytes": state,
        "initialised_bytes": new, "seconds": seconds, "bounds": bounds, "rates": rates,
        "share": sum(bounds.values()) / sum(seconds.values()),
        "peak_bytes": output.peak_bytes(), "peak_in_place_bytes": in_place.peak_bytes(),
        "hash": output.found(r"all state ([0-9a-f]{16})")[1],
    }


def measure(strata, arguments, folder):
    (folder / "nvme").mkdir()
    way = [(int(world), home) for world, home in (stop.split(":") for stop in arguments.ways.split(","))]
    first = train(strata, write_config(strata, arguments.layers, *way[0], folder), way[0][0], resume=False)
    expected = first.found(r"all state ([0-9a-f]{16})")[1]
    rows, faults = [], []
    for origin, target in zip(way, way[1:]):
        rates = drive_rates(strata, folder, arguments.bench_mib, arguments.seconds)
        config = write_config(strata, arguments.layers, *target, folder)
        row = move(strata, folder, config, origin, target, rates)
        rows.append(row)
        where = f"from {row['from']} to {row['to']}"
        if row["hash"] != expected:
            faults.append(f"{where}: the state's hash is {row['hash']}, was {expected}")
        more = row["peak_bytes"] - row["peak_in_place_bytes"]
        if more > PROMISE_BYTES + NOISE_BYTES:
            faults.append(f"{where}: moving takes {more / MIB:.1f} MiB beside the arenas")
        print(f"done: {where}", file=sys.stderr)
    return rows, faults


def table(rows):
    print(f"{rows[0]['state_bytes'] / 1e9:.2f} GB of state; seconds, and of them the bound\n")
    print("| ranks and home | check | initialise | copy | commit | all | bound / all | drive GB/s r, w, mix "
          "| peak RSS | beyond in place |")
    print("|" + "---|" * 10)
    for row in rows:
        cells = [f"{row['from']} to {row['to']}"]
        for phase, seconds in row["seconds"].items():
            bound = row["bounds"].get(phase)
            cells.append(f"{seconds:.2f}" + (f" ({bound / seconds:.2f})" if bound else ""))
        cells += [f"{sum(row['seconds'].values()):.2f}", f"{row['share']:.2f}",
                  ", ".join(f"{row['rates'][name] / 1e9:.1f}" for name in ("read", "write", "mixed")),
                  f"{row['peak_bytes'] / MIB:.0f} MiB",
                  f"{(row['peak_bytes'] - row['peak_in_place_bytes']) / MIB:.1f} MiB"]
        print("| " + " | ".join(cells) + " |")


def main():
    if sys.argv[1:2] == ["--rank"]:
        return measured_rank(sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("strata")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--ways", default="4:nvme,2:nvme,4:host,1:nvme,4:nvme")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each kind of traffic of the drive")
    parser.add_argument("--bench-mib", type=int, default=1024, help="of the file that the drive is measured with")
    arguments = parser.parse_args()
    strata = str(pathlib.Path(arguments.strata).resolve())
    folder = pathlib.Path(tempfile.mkdtemp(dir=os.environ.get("STRATA_BENCH_DIR", "."), prefix="reshard-")).resolve()
    try:
        rows, faults = measure(strata, arguments, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if arguments.json:
        print(json.dumps({"rows": rows, "faults": faults}))
    else:
        table(rows)
    for fault in faults:
        print(f"error: {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
