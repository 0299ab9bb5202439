#!/usr/bin/env python3
"""Strata's Adam and DeepSpeed's, step by step in turn on as many elements and threads.

    tests/bench/adam_vs_deepspeed.py ADAM_VS_STREAM --deepspeed-python PYTHON

ADAM_VS_STREAM is build/release/tests/bench/engine/adam_vs_stream, PYTHON one that has deepspeed.
DeepSpeed's step is three passes, as its ZeRO offload makes them: bf16 gradients to fp32, cpu_adam,
fp32 parameters to bf16. Strata's is one. The result is the median over rounds of the ratio of the
times within a round: how many times as fast.
"""

import argparse
import json
import os
import statistics
import subprocess

FORMATS = ["fp32", "split", "int8"]


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("adam_vs_stream")
    parser.add_argument("--deepspeed-python", required=True)
    parser.add_argument("--elements", type=int, default=1 << 25)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--cpu-time", action="store_true",
                        help="time on processors, not on the clock: for a machine in use")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


class Server:
    """A process that answers a line with the seconds of a step."""

    def __init__(self, command, environment=None):
        self.process = subprocess.Popen(command, text=True, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE,
                                        env={**os.environ, **(environment or {})})

    def step(self, line=""):
        print(line, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"error: {self.process.args[0]} ended: see above")
        return float(answer)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()


def compare(options, threads):
    """The times of all, round by round."""
    driver = os.path.join(os.path.dirname(os.path.abspath(__file__)), "deepspeed_adam.py")
    clock = ["--cpu-time"] if options.cpu_time else []
    elements = str(options.elements)
    with Server([options.adam_vs_stream, "--serve", "--elements", elements, *clock]) as strata, \
         Server([options.deepspeed_python, driver, elements, *clock],
                # Huge pages for its tensors, as Strata's arenas have them.
                {"OMP_NUM_THREADS": str(threads),
                 "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}) as deepspeed:
        def one_round():
            return {"deepspeed": deepspeed.step(),
                    **{name: strata.step(f"{name} {threads}") for name in FORMATS}}
        one_round()  # warms up
        return [one_round() for _ in range(options.rounds)]


def main():
    options = parse_arguments()
    results = {}
    for threads in options.threads:
        rounds = compare(options, threads)
        for name in FORMATS:
            results[f"{name}.threads_{threads}"] = {
                "times_as_fast": statistics.median(r["deepspeed"] / r[name] for r in rounds),
                "strata_s": statistics.median(r[name] for r in rounds),
                "deepspeed_s": statistics.median(r["deepspeed"] for r in rounds)}
    if options.json:
        print(json.dumps(results))
        return
    for name, result in results.items():
        print(f"{name:16} strata {result['strata_s']:.4f} s  deepspeed {result['deepspeed_s']:.4f} s"
              f"  {result['times_as_fast']:.2f} times as fast")


main()
