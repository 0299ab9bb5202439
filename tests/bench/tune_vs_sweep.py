"""Called by tune_vs_sweep.sh: `pick` turns the JSON of strata io tune into an argument of aio_sweep,
`compare FILE` prints what the sweep and the contest found.

The figure for a pick is its speed with training traffic (the objective of strata io tune: the
weighted harmonic mean of read, write and mixed bandwidth, each as a share of the best) and each
bandwidth, divided by those of the contestant of the sweep that is best at the same. All of them are
medians of the contest's runs, which are interleaved.
"""

import json
import statistics
import sys

TRAFFIC = ("read", "write", "mix")


def pick():
    setting = json.load(sys.stdin)["winner"]["setting"]
    keys = ("backend", "block_size_bytes", "queue_depth", "thread_count")
    print(",".join([str(setting[key]) for key in keys] + [str(int(setting["sqpoll"]))]))


def print_rows(rows):
    print(f"{'setting':<44}{'read':>8}{'write':>8}{'mix':>8}   speed")
    for row in rows:
        cells = "".join(f"{statistics.median(row[t]) if row[t] else 0:8.2f}" for t in TRAFFIC)
        print(f"{row['setting']:<44}{cells}   {row['speed']:.3f} {row.get('failure', '')}")


def compare(path):
    with open(path, encoding="utf-8") as file:
        report = json.load(file)
    rows = sorted(report["sweep"], key=lambda row: -row["speed"])
    print(f"the sweep, GB/s: {len(rows)} settings, best and worst")
    print_rows(rows[:12])
    print("...")
    print_rows(rows[-6:])
    contest, count = report["contest"], report["num_picks"]
    best, picks = contest[: len(contest) - count], contest[len(contest) - count :]
    print("\nthe contest, GB/s: the sweep's best, then the picks")
    print_rows(best + picks)
    top = {t: max(statistics.median(row[t]) for row in best) for t in TRAFFIC}
    speed = max(row["speed"] for row in best)
    print("\npicks as a share of the best of the sweep")
    for row in picks:
        shares = "  ".join(f"{t} {statistics.median(row[t]) / top[t]:.3f}" for t in TRAFFIC)
        print(f"{row['setting']:<44} training traffic {row['speed'] / speed:.3f}  {shares}")


if sys.argv[1] == "pick":
    pick()
else:
    compare(sys.argv[2])
