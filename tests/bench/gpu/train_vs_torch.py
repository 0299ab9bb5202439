#!/usr/bin/env python3
"""Tokens per second of a Llama trained by Strata and by PyTorch, all of its state in device memory.

    tests/bench/gpu/train_vs_torch.py STRATA [--device cuda] [--shape 1b] [--batch N] [--seq N] [--steps N]
        [--torch eager,compiled,eager-fp32,compiled-fp32] [--device-memory SIZE] [--host-memory SIZE]
        [--clip NORM] [--at-least RATIO] [--set a.b=c ...] [--json]

Same shape, micro-batch, sequence, optimizer (AdamW) and clipping, one after the other, each in a process of
its own; medians of the steps after the second. PyTorch is transformers' LlamaForCausalLM with scaled dot
product attention, nothing recomputed, the fused optimizer. `eager` and `compiled` (torch.compile) have
weights and moments in bf16, with 6 bytes of state per parameter; the -fp32 ones have both in fp32 under
autocast, with 12, which is what Strata keeps (in 12, or in 10 that say the same).

With --at-least, the exit code is 3 when Strata's speed is below that share of the fastest of PyTorch's.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

SHAPES = {  # tiny: that it runs; 1b: Llama 3.2 1B; 8b: Llama 3.1 8B
    "tiny": dict(vocab_size=320, hidden_size=64, intermediate_size=192, num_hidden_layers=2,
                 num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True),
    "1b": dict(vocab_size=128256, hidden_size=2048, intermediate_size=8192, num_hidden_layers=16,
               num_attention_heads=32, num_key_value_heads=8, tie_word_embeddings=True),
    "8b": dict(vocab_size=128256, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32,
               num_attention_heads=32, num_key_value_heads=8, tie_word_embeddings=False),
}
TORCHS = ("eager", "compiled", "eager-fp32", "compiled-fp32")
WARM_UP = 2  # steps that are not counted


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("strata")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--shape", default="1b", choices=list(SHAPES))
    parser.add_argument("--batch", type=int, default=8, help="sequences per step")
    parser.add_argument("--seq", type=int, default=2048)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--torch", default=",".join(TORCHS), help="which of PyTorch's; empty: none")
    parser.add_argument("--device-memory", default="64GiB")
    parser.add_argument("--host-memory", default="8GiB")
    parser.add_argument("--clip", type=float, default=0, help="largest norm of the gradient; 0: none")
    parser.add_argument("--at-least", type=float)
    parser.add_argument("--set", action="append", default=[], help="for Strata's configuration")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--torch-side", choices=TORCHS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.sides = [name for name in options.torch.split(",") if name]
    if unknown := set(options.sides) - set(TORCHS):
        parser.error(f"--torch {','.join(unknown)}: there are {', '.join(TORCHS)}")
    if options.steps <= WARM_UP:
        parser.error(f"--steps must be more than {WARM_UP}: those warm up")
    return options


def config_text(options, folder):
    shape = "".join(f"{key} = {json.dumps(value)}\n" for key, value in SHAPES[options.shape].items())
    repository = pathlib.Path(__file__).resolve().parents[3]
    return (f"[model]\n{shape}max_position_embeddings = {options.seq}\n"
            f'[data]\npath = "{repository}"\nseq_len = {options.seq}\n'
            f'[train]\nrun_dir = "{folder}/run"\nsteps = {options.steps}\ndevice = "{options.device}"\n'
            f"train_batch_size = {options.batch}\ngradient_clipping = {options.clip}\n"
            "[optimizer]\nlr = 1e-4\nbetas = [0.9, 0.95]\nweight_decay = 0.1\n"
            f'[memory]\ndevice = "{options.device_memory}"\nhost = "{options.host_memory}"\n'
            "[checkpoint]\nkeep_last = 0\n")


def run(command, name):
    """The JSON objects that the command printed."""
    with tempfile.TemporaryFile("w+") as log:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=log, text=True)
        if done.returncode != 0:
            log.seek(0)
            sys.exit(f"error: {name} failed: {' '.join(command)}\n{log.read()[-3000:]}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def strata_side(options):
    with tempfile.TemporaryDirectory(prefix="vs_torch-", dir=os.environ.get("STRATA_BENCH_DIR")) as folder:
        config = os.path.join(folder, "run.toml")
        pathlib.Path(config).write_text(config_text(options, folder))
        command = [options.strata, "train", config, "--measure", "--json"]
        for setting in options.set:
            command += ["--set", setting]
        steps = [line for line in run(command, "strata") if "step_s" in line]
    return {"step_s": statistics.median(step["step_s"] for step in steps[WARM_UP:]),
            "bound_s": statistics.median(step["bound_s"] for step in steps[WARM_UP:]),
            "first_loss": steps[0]["loss"], "last_loss": steps[-1]["loss"]}


def train_in_torch(options):
    """In a process of its own: prints one JSON object."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    device = torch.device(options.device)
    torch.manual_seed(1)
    torch.backends.cuda.matmul.allow_tf32 = True  # of what autocast leaves in fp32
    shape = LlamaConfig(**SHAPES[options.shape], max_position_embeddings=options.seq, use_cache=False,
                        attn_implementation="sdpa")
    is_fp32 = options.torch_side.endswith("fp32")
    with device:
        model = LlamaForCausalLM(shape).to(torch.float32 if is_fp32 else torch.bfloat16)
    model.train()
    forward = torch.compile(model) if options.torch_side.startswith("compiled") else model
    adam = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)

    def step(ids):
        with torch.autocast(device.type, torch.bfloat16, enabled=is_fp32):
            loss = forward(input_ids=ids, labels=ids).loss
        loss.backward()
        if options.clip > 0:
            torch.nn.utils.clip_grad_norm_(model.parameters(), options.clip)
        adam.step()
        adam.zero_grad(set_to_none=True)
        return loss

    seconds = []
    for _ in range(options.steps):
        ids = torch.randint(0, shape.vocab_size, (options.batch, options.seq), device=device)
        begin = time.perf_counter()
        loss = step(ids).item()  # waits for the device
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begin)
    peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else None
    print(json.dumps({"step_s": statistics.median(seconds[WARM_UP:]), "last_loss": loss,
                      "peak_device_bytes": peak, "torch": torch.__version__}))


def torch_side(options, side):
    command = [sys.executable, __file__, options.strata, "--torch-side", side]
    for name in ("device", "shape", "batch", "seq", "steps", "clip"):
        command += [f"--{name}", str(getattr(options, name))]
    return run(command, f"PyTorch ({side})")[-1]


def measure(options):
    rows = []
    for side in ["strata", *options.sides]:
        print(f"{side} ...", file=sys.stderr, flush=True)
        row = strata_side(options) if side == "strata" else torch_side(options, side)
        tokens = options.batch * options.seq
        rows.append({"side": side, "tokens_per_s": tokens / row["step_s"], **row})
        print(f"{side}: {rows[-1]['tokens_per_s']:.0f} tokens/s", file=sys.stderr, flush=True)
    return rows


def main():
    options = parse_arguments()
    if options.torch_side:
        return train_in_torch(options)
    rows = measure(options)
    for row in rows:
        row["strata_is_times"] = rows[0]["tokens_per_s"] / row["tokens_per_s"]
    if options.json:
        print(json.dumps({key: getattr(options, key) for key in ("device", "shape", "batch", "seq", "steps", "clip")}
                         | {"rows": rows}))
    text = sys.stderr if options.json else sys.stdout
    print(f"{'':16}{'step':>10}{'tokens/s':>11}{'strata is':>11}", file=text)
    for row in rows:
        print(f"{row['side']:16}{row['step_s'] * 1e3:7.1f} ms{row['tokens_per_s']:11.0f}"
              f"{row['strata_is_times']:9.2f} x", file=text)
    worst = min((row["strata_is_times"] for row in rows[1:]), default=None)
    print(f"{options.shape}, {options.batch} x {options.seq}: {rows[0]['tokens_per_s']:.0f} tokens/s"
          + (f", {worst:.2f} x the fastest of PyTorch's" if worst else ""), file=text)
    if options.at_least and worst and worst < options.at_least:
        sys.exit(3)


if __name__ == "__main__":
    main()
