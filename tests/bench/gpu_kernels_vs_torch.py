#!/usr/bin/env python3
"""Products and attention of a GPU beside PyTorch's, same shapes, one after the other.

    tests/bench/gpu_kernels_vs_torch.py GPU_KERNELS_BENCH [--filter REGEX] [--rounds N] [--json]

Runs under a python that has torch. PyTorch multiplies with torch.matmul (gradients of weights are
added up in bf16, where Strata adds up in fp32: torch.addmm has no mixed formats), and attends with
scaled_dot_product_attention, causal. Random numbers, since a GPU is faster on zeros. Each figure is the
median over rounds; a round measures Strata, then PyTorch. Exits with 1 where there is no GPU.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import time

KINDS = ("y = x W^T", "dx = dy W", "dW += dy^T x")
LAUNCHES = 20


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("bench")
    parser.add_argument("--filter", default=".")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def strata_round(options):
    """TFLOP/s by the name of a benchmark."""
    command = [options.bench, f"--benchmark_filter={options.filter}", "--benchmark_format=json"]
    process = subprocess.run(command, capture_output=True, text=True)
    if process.returncode != 0 or not process.stdout:
        sys.exit(f"error: {' '.join(command)} failed: {process.stderr[-2000:]}")
    rates = {}
    for row in json.loads(process.stdout)["benchmarks"]:
        if row.get("error_occurred"):
            sys.exit(f"error: {row['name']}: {row['error_message']}")
        rates[row["name"]] = row["TFLOP/s"]
    return rates


def arguments_of(name):
    """"Product/kind:0/tokens:512/real_time" is ("Product", {"kind": 0, "tokens": 512})."""
    return name.split("/")[0], {key: int(value) for key, value in re.findall(r"(\w+):(\d+)", name)}


def random(torch, *shape):
    return torch.randn(*shape, device="cuda", dtype=torch.bfloat16)


def product(torch, kind, tokens, width, hidden):
    x, y = random(torch, tokens, width), random(torch, tokens, hidden)
    weight, gradient = random(torch, hidden, width), random(torch, hidden, width)
    work = (lambda: torch.matmul(x, weight.t(), out=y),
            lambda: torch.matmul(y, weight, out=x),
            lambda: torch.addmm(gradient, y.t(), x, out=gradient))[kind]
    return work, 2.0 * tokens * width * hidden


def attention(torch, backward, seq_len, head_dim, kv_heads):
    heads = 4096 // head_dim
    q, k, v = (random(torch, 1, count, seq_len, head_dim).requires_grad_()
               for count in (heads, kv_heads, kv_heads))
    attend = torch.nn.functional.scaled_dot_product_attention
    flops = 4 * seq_len * (seq_len + 1) / 2 * heads * head_dim

    def forward():
        return attend(q, k, v, is_causal=True, enable_gqa=kv_heads != heads)

    if not backward:
        def without_gradient():
            with torch.no_grad():
                forward()
        return without_gradient, flops
    out = forward()
    gradient = torch.randn_like(out)
    return (lambda: torch.autograd.grad(out, (q, k, v), gradient, retain_graph=True)), 2.5 * flops


def torch_rate(torch, name):
    kind, arguments = arguments_of(name)
    if kind == "Product":
        work, flops = product(torch, **arguments)
    else:
        work, flops = attention(torch, kind == "AttentionBackward", **arguments)
    for _ in range(3):
        work()
    torch.cuda.synchronize()
    begin = time.perf_counter()
    for _ in range(LAUNCHES):
        work()
    torch.cuda.synchronize()
    return flops * LAUNCHES / (time.perf_counter() - begin) * 1e-12


def title(name):
    kind, arguments = arguments_of(name)
    if kind == "Product":
        return "{tokens} x {width} x {hidden}  {0}".format(KINDS[arguments["kind"]], **arguments)
    return "{0}  {seq_len} tokens, heads of {head_dim}, {kv_heads} of keys".format(kind, **arguments)


def main():
    options = parse_arguments()
    try:
        import torch
    except ImportError as error:
        sys.exit(f"error: {error}: run this under a python that has torch")
    if not torch.cuda.is_available():
        sys.exit("error: torch finds no GPU")
    strata, pytorch = {}, {}
    for _ in range(options.rounds):
        for name, rate in strata_round(options).items():
            strata.setdefault(name, []).append(rate)
        for name in strata:
            pytorch.setdefault(name, []).append(torch_rate(torch, name))
    rows = [{"name": title(name), "strata_tflop_per_s": statistics.median(strata[name]),
             "torch_tflop_per_s": statistics.median(pytorch[name])} for name in strata]
    if options.json:
        print(json.dumps({"gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "rows": rows}))
        return
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, TFLOP/s\n")
    print(f"{'':58} {'strata':>8} {'torch':>8} {'ratio':>6}")
    for row in rows:
        ours, theirs = row["strata_tflop_per_s"], row["torch_tflop_per_s"]
        print(f"{row['name']:58} {ours:8.1f} {theirs:8.1f} {ours / theirs:6.2f}")


if __name__ == "__main__":
    main()
