"""Called by aio_vs_fio.sh. What is compared:

- Files of the same size in one directory, on each side one that was allocated and written with
  random data before anything is measured. strata io bench makes its own, without a name; fio and
  DeepSpeed share one (DeepSpeed has one more to read from while it writes, in the mix).
- The same block size, depth, engine and direction, one thread, direct I/O, buffers on huge pages:
  fio gets hugetlb pages where the system has enough of them, else transparent ones through glibc,
  which takes effect from 4 MiB in flight on. "fio registered" has registered buffers and files, too:
  the best that fio can do with io_uring. DeepSpeed has the buffers that it makes for itself.
- CPU time is what the kernel counts for the threads that do the I/O, user and system, between the
  end of the warm-up and the end of the run: of the process for Strata and DeepSpeed, of the job for
  fio. Making files, filling buffers at the start and loading Python are in none of them. That no two
  writes are the same is in Strata's and fio's; DeepSpeed writes the same bytes again, and so does
  Strata beside it (--repeat-data). Each stands there at the best of a few settings: of those within
  3 % of its fastest the one that costs it least CPU time.
- In each round all run one after the other, forwards in one round and backwards in the next. A ratio
  is that of two runs of one round; what is printed is the median over the rounds.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile

WARM_UP_S = 0.5
MIB = 1 << 20
UNITS = {"": 1, "KiB": 1 << 10, "MiB": MIB, "GiB": 1 << 30}
TRAFFIC = {  # flags; in the mix half of the bytes are read
    "read": {"fio": ["--rw=read"], "strata": ["--read"]},
    "write": {"fio": ["--rw=write"], "strata": ["--write"]},
    "mix": {"fio": ["--rw=rw", "--rwmixread=50"], "strata": ["--mixed", "50:50"]},
}


def fail(message):
    sys.exit(f"error: {message}")


def parse_bytes(text):
    match = re.fullmatch(r"(\d+)(KiB|MiB|GiB|)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"'{text}' is no size: write 64MiB, or a number of bytes")
    return int(match[1]) * UNITS[match[2]]


def parse_traffic(text):
    names = text.split(",")
    if not set(names) <= set(TRAFFIC):
        raise argparse.ArgumentTypeError(f"'{text}': choose from {','.join(TRAFFIC)}")
    return names


def parse_arguments():
    parser = argparse.ArgumentParser(prog="aio_vs_fio.sh")
    parser.add_argument("strata")
    parser.add_argument("directory")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--size", type=parse_bytes, default=4 << 30)
    parser.add_argument("--block-size", type=parse_bytes, default=MIB)
    parser.add_argument("--queue-depth", type=int, default=16)
    parser.add_argument("--engine", choices=["io_uring", "libaio"], default="io_uring")
    parser.add_argument("--traffic", type=parse_traffic, default=list(TRAFFIC))
    parser.add_argument("--deepspeed-python")
    return parser.parse_args()


def run(command, environment=None):
    """The last JSON object that the command prints."""
    done = subprocess.run(command, capture_output=True, text=True,
                          env={**os.environ, **(environment or {})})
    if done.returncode != 0:
        fail(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr}{done.stdout}")
    return json.loads(done.stdout[done.stdout.index("{"):])


def numbers(num_bytes, seconds, cpu_s):
    return {"gb_per_s": num_bytes / 1e9 / seconds, "cpu_s_per_gb": cpu_s / (num_bytes / 1e9)}


class Strata:
    def __init__(self, options, setting, flags=()):
        self.options, self.setting, self.flags = options, setting, flags

    def measure(self, traffic, seconds):
        options, setting = self.options, self.setting
        report = run([options.strata, "io", "bench", "--json", "--path", options.directory,
                      "--size", str(options.size), "--engine", options.engine,
                      "--block-size", str(setting["block_bytes"]),
                      "--queue-depth", str(setting["depth"]), "--threads", str(setting["threads"]),
                      "--seconds", str(seconds), "--runs", "1", *self.flags] + TRAFFIC[traffic]["strata"])
        phase = report["phases"][0]
        return numbers(phase["bytes"], phase["seconds"], phase["cpu_s"])


class HugePages:
    """How fio comes to buffers on huge pages."""

    def __init__(self, in_flight_bytes):
        with open("/proc/meminfo") as file:
            memory = dict(line.split(":") for line in file)
        free_bytes = int(memory.get("HugePages_Free", "0")) * 2 * MIB
        self.flags, self.environment, self.note = [], {}, "hugetlb pages"
        if free_bytes >= in_flight_bytes + 2 * MIB:
            self.flags = ["--iomem=mmaphuge"]
            return
        self.environment = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
        self.note = "transparent huge pages"
        if in_flight_bytes < 4 * MIB:
            self.note = "4 KiB pages: less than 4 MiB in flight, and no hugetlb pages are free " \
                        "(sysctl vm.nr_hugepages=64); fio is at a disadvantage"


class Fio:
    def __init__(self, options, file, flags=()):
        in_flight_bytes = options.block_size * options.queue_depth
        self.pages = HugePages(in_flight_bytes)
        self.command = [
            "fio", "--name=aio_vs_fio", f"--filename={file}", f"--size={options.size}",
            f"--bs={options.block_size}", f"--iodepth={options.queue_depth}",
            f"--ioengine={options.engine}", "--direct=1", "--thread", "--time_based",
            f"--ramp_time={int(WARM_UP_S * 1000)}ms", "--randrepeat=0", "--allow_file_create=0",
            "--output-format=json", *self.pages.flags, *flags]

    def measure(self, traffic, seconds):
        command = [*self.command, f"--runtime={int(seconds * 1000)}ms", *TRAFFIC[traffic]["fio"]]
        job = run(command, self.pages.environment)["jobs"][0]
        num_bytes = job["read"]["io_bytes"] + job["write"]["io_bytes"]
        run_s = job["job_runtime"] / 1000
        return numbers(num_bytes, run_s, (job["usr_cpu"] + job["sys_cpu"]) / 100 * run_s)


class DeepSpeed:
    """One process for all runs: importing it takes seconds, compiling its operator minutes."""

    def __init__(self, python, files, operation_bytes):
        driver = os.path.join(os.path.dirname(os.path.abspath(__file__)), "deepspeed_aio.py")
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen([python, driver, str(operation_bytes), *files], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=self.log)
        self.setting = {}
        self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        self.process.wait()
        self.log.seek(0)
        return fail("DeepSpeed's aio does not run: it needs `pip install torch deepspeed ninja`, a "
                    "compiler and libaio-dev (it compiles its operator on first use). It said:\n"
                    + self.log.read()[-2000:])

    def measure(self, traffic, seconds):
        request = {**self.setting, "traffic": traffic, "seconds": seconds}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = self.answer()
        return numbers(answer["bytes"], answer["seconds"], answer["cpu_s"])


def make_file(path, size_bytes):
    """All blocks allocated and written with random data, and on the drive."""
    block = os.urandom(8 * MIB)
    with open(path, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, size_bytes)
        for offset in range(0, size_bytes, len(block)):
            file.write(block[:size_bytes - offset])
            block = block[4099:] + block[:4099]  # no two blocks are the same
        file.flush()
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def best_setting(side, settings, traffic, seconds):
    """Of those within 3 % of the fastest the one that costs least CPU time."""
    measured = []
    for setting in settings:
        side.setting = setting
        measured.append((setting, side.measure(traffic, seconds)))
    fastest = max(result["gb_per_s"] for _, result in measured)
    as_fast = [entry for entry in measured if entry[1]["gb_per_s"] >= 0.97 * fastest]
    return min(as_fast, key=lambda entry: entry[1]["cpu_s_per_gb"])[0]


def sweep(blocks, depths, threads):
    return [{"block_bytes": block, "depth": depth, "threads": thread}
            for block in blocks for depth in depths for thread in threads]


def measure_rounds(sides, traffic, options):
    """One dictionary of results per round, by side; the order alternates."""
    rounds = []
    for round_index in range(options.rounds):
        names = list(sides)[::-1 if round_index % 2 else 1]
        done = {name: sides[name].measure(traffic, options.seconds) for name in names}
        rounds.append(done)
        print(f"{traffic} round {round_index + 1}/{options.rounds}: "
              + ", ".join(f"{name} {done[name]['gb_per_s']:.2f} GB/s" for name in sides),
              file=sys.stderr)
    return rounds


def compare(rounds, ours, other, traffic, settings):
    def median(pick):
        return statistics.median(pick(round_) for round_ in rounds)
    row = {"traffic": traffic, "against": other, **settings}
    for key in ["gb_per_s", "cpu_s_per_gb"]:
        row[key] = {"strata": median(lambda r: r[ours][key]), "other": median(lambda r: r[other][key])}
        ratios = [round_[ours][key] / round_[other][key] for round_ in rounds]
        row[key].update(ratio=statistics.median(ratios), ratios=ratios)
    return row


def compare_with_fio(options, file, traffic):
    setting = {"block_bytes": options.block_size, "depth": options.queue_depth, "threads": 1}
    sides = {"strata": Strata(options, setting), "fio": Fio(options, file)}
    if options.engine == "io_uring":
        sides["fio registered"] = Fio(options, file, ["--fixedbufs=1", "--registerfiles=1"])
    rounds = measure_rounds(sides, traffic, options)
    settings = {"strata_setting": setting, "other_setting": setting}
    return [compare(rounds, "strata", name, traffic, settings) for name in sides if name != "strata"]


def compare_with_deepspeed(options, deepspeed, traffic):
    strata = Strata(options, {}, ["--repeat-data"])
    seconds = min(options.seconds, 1)
    strata.setting = best_setting(strata, sweep([MIB, 4 * MIB], [4, 16], [1]), traffic, seconds)
    deepspeed.setting = best_setting(
        deepspeed, sweep([MIB, 8 * MIB], [8, 32, 128], [1, 2]), traffic, seconds)
    rounds = measure_rounds({"strata": strata, "deepspeed": deepspeed}, traffic, options)
    settings = {"strata_setting": strata.setting, "other_setting": deepspeed.setting}
    return [compare(rounds, "strata", "deepspeed", traffic, settings)]


def describe(setting):
    return f"{setting['block_bytes'] // 1024} KiB x {setting['depth']} x {setting['threads']}"


def print_table(report):
    print(f"{'traffic':8}{'against':16}{'GB/s':>8}{'other':>8}{'ratio':>8}   "
          f"{'CPU s/GB':>9}{'other':>9}{'ratio':>8}   settings")
    for row in report["rows"]:
        speed, cpu = row["gb_per_s"], row["cpu_s_per_gb"]
        settings = dict.fromkeys(describe(row[key]) for key in ["strata_setting", "other_setting"])
        print(f"{row['traffic']:8}{row['against']:16}{speed['strata']:8.2f}{speed['other']:8.2f}"
              f"{speed['ratio']:8.3f}   {cpu['strata']:9.4f}{cpu['other']:9.4f}{cpu['ratio']:8.3f}"
              f"   {', '.join(settings)}")
    print(f"medians of {report['rounds']} rounds of {report['seconds']:g} s; {report['fio']}, "
          f"its buffers on {report['fio_buffers']}")


def measure_all(options, scratch):
    files = [os.path.join(scratch, name) for name in ["first", "second"]]
    for file in files[:2 if options.deepspeed_python else 1]:
        make_file(file, options.size)
    deepspeed = None
    if options.deepspeed_python:
        deepspeed = DeepSpeed(options.deepspeed_python, files, min(options.size, 256 * MIB))
    rows = []
    for traffic in options.traffic:
        rows += compare_with_fio(options, files[0], traffic)
        if deepspeed:
            rows += compare_with_deepspeed(options, deepspeed, traffic)
    return rows


def main():
    options = parse_arguments()
    if not os.path.isdir(options.directory):
        fail(f"{options.directory} is not a directory")
    with tempfile.TemporaryDirectory(prefix="aio_vs_fio-", dir=options.directory) as scratch:
        rows = measure_all(options, scratch)
    fio = subprocess.run(["fio", "--version"], capture_output=True, text=True).stdout.strip()
    pages = HugePages(options.block_size * options.queue_depth)
    report = {"rounds": options.rounds, "seconds": options.seconds, "size_bytes": options.size,
              "engine": options.engine, "fio": fio, "fio_buffers": pages.note, "rows": rows}
    print(json.dumps(report)) if options.json else print_table(report)


if __name__ == "__main__":
    main()
