#!/usr/bin/env python3
"""Strata's matrix products beside torch.matmul's, on the shapes of a Llama, in turns.

    tests/bench/gpu/products_vs_torch.py PRODUCTS_BENCH [--device cuda] [--rounds N] [--milliseconds N]
        [--tokens N] [--hidden N] [--intermediate N] [--vocab N] [--peak TFLOPS] [--at-least RATIO] [--json]

The default shapes are a 7B Llama's. Each side computes the same product of random bf16 numbers, for
--milliseconds at a time; figures are medians over the rounds. torch.matmul writes bf16. Strata writes
logits as fp32, and adds gradients of weights to fp32, which is more bytes than PyTorch moves.
The share of peak is of the dense bf16 rate that the GPU's maker states; --peak where it is not known here.
With --at-least, the exit code is 3 when all products together take longer than torch's over that ratio.
"""

import argparse
import json
import statistics
import subprocess
import sys

import torch

# Dense bf16 TFLOP/s with fp32 sums, from NVIDIA's data sheets. The first whose name is in the GPU's.
PEAKS = (("H200", 989), ("H100 PCIe", 756), ("H100 NVL", 835), ("H100", 989), ("GH200", 989), ("B200", 2250),
         ("A100", 312), ("A800", 312), ("A10", 125), ("A40", 150), ("L40S", 362), ("L40", 181), ("L4", 121),
         ("RTX 4090", 165), ("RTX 3090", 71))


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("bench")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rounds", type=int, default=5)
    for shape in ("tokens", "hidden", "intermediate", "vocab"):
        parser.add_argument(f"--{shape}", type=int)
    parser.add_argument("--milliseconds", type=int, default=50)
    parser.add_argument("--peak", type=float, help="TFLOP/s")
    parser.add_argument("--at-least", type=float)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


class Strata:
    def __init__(self, options):
        command = [options.bench, "--serve", "--device", options.device,
                   "--milliseconds", str(options.milliseconds)]
        for shape in ("tokens", "hidden", "intermediate", "vocab"):
            if getattr(options, shape):
                command += [f"--{shape}", str(getattr(options, shape))]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.products = json.loads(self.answer())

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"error: {' '.join(self.process.args)} ended; see what it says above")
        return line

    def seconds(self, index):
        self.process.stdin.write(f"{index}\n")
        self.process.stdin.flush()
        return float(self.answer())


def timer(device):
    """Two functions: marks a point of time on the device; seconds between two of them."""
    if device.type == "cpu":
        import time
        return time.perf_counter, lambda begin, end: end - begin

    def mark():
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def between(begin, end):
        end.synchronize()
        return begin.elapsed_time(end) * 1e-3
    return mark, between


class Torch:
    def __init__(self, product, device, group_s):
        def operand(rows, cols, transposed):
            shape = (cols, rows) if transposed else (rows, cols)
            numbers = (torch.rand(shape, device=device) * 2 - 1).to(torch.bfloat16)
            return numbers.T if transposed else numbers
        self.a = operand(product["rows"], product["depth"], product["transpose_a"])
        self.b = operand(product["depth"], product["cols"], product["transpose_b"])
        self.out = torch.empty(product["rows"], product["cols"], device=device, dtype=torch.bfloat16)
        self.mark, self.between = timer(device)
        self.group_s = group_s

    def group(self, count):
        begin = self.mark()
        for _ in range(count):
            torch.matmul(self.a, self.b, out=self.out)
        return self.between(begin, self.mark()) / count

    def seconds(self):
        self.group(2)
        return self.group(max(1, min(100000, int(self.group_s / max(self.group(1), 1e-9)))))


def measure(options, strata, device):
    rows = []
    for index, product in enumerate(strata.products):
        torchs = Torch(product, device, options.milliseconds * 1e-3)
        ours, theirs = [], []
        for turn in range(options.rounds):
            if turn % 2:
                ours.append(strata.seconds(index))
            theirs.append(torchs.seconds())
            if turn % 2 == 0:
                ours.append(strata.seconds(index))
        rows.append({"name": product["name"], "rows": product["rows"], "cols": product["cols"],
                     "depth": product["depth"], "flop": product["flop"],
                     "strata_tflop_per_s": product["flop"] / statistics.median(ours) / 1e12,
                     "torch_tflop_per_s": product["flop"] / statistics.median(theirs) / 1e12,
                     "ratio": statistics.median(t / o for o, t in zip(ours, theirs))})
    return rows


def main():
    options = parse_arguments()
    if options.device != "cpu" and not torch.cuda.is_available():
        sys.exit("error: PyTorch sees no GPU; --device cpu compares on the cores")
    device = torch.device(options.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    peak = options.peak or next((rate for known, rate in PEAKS if known in name), None)
    strata = Strata(options)
    rows = measure(options, strata, device)
    for row in rows:
        row["share_of_peak"] = row["strata_tflop_per_s"] / peak if peak else None
    flop = sum(row["flop"] for row in rows)
    ours = flop / sum(row["flop"] / row["strata_tflop_per_s"] for row in rows)
    theirs = flop / sum(row["flop"] / row["torch_tflop_per_s"] for row in rows)
    if options.json:
        print(json.dumps({"device": name, "torch": torch.__version__, "peak_tflop_per_s": peak,
                          "strata_tflop_per_s": ours, "torch_tflop_per_s": theirs, "rows": rows}))
    text = sys.stderr if options.json else sys.stdout
    print(f"{name}, torch {torch.__version__}, peak {peak or 'not known'} TFLOP/s; medians of {options.rounds} rounds",
          file=text)
    print(f"{'':26}{'strata':>10}{'torch':>10}{'ratio':>8}{'of peak':>9}", file=text)
    for row in rows:
        share = f"{row['share_of_peak']:9.1%}" if peak else f"{'-':>9}"
        print(f"{row['name']:26}{row['strata_tflop_per_s']:10.3f}{row['torch_tflop_per_s']:10.3f}"
              f"{row['ratio']:8.3f}{share}", file=text)
    print(f"{ours:.1f} TFLOP/s over all, {ours / theirs:.3f} x torch" + (f", {ours / peak:.1%} of peak" if peak else ""),
          file=text)
    if options.at_least and ours / theirs < options.at_least:
        sys.exit(3)


if __name__ == "__main__":
    main()
