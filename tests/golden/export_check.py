#!/usr/bin/env python3
"""Trains tiny models with Strata, exports them and compares the loss that transformers computes with
Strata's own, on the same weights and tokens.

    pip install torch transformers safetensors
    python3 tests/golden/export_check.py build/release/tools/strata

Untied and tied embeddings, fp32 and bf16. Exit code 1 when a relative difference is over 1e-5 in
fp32 (the order of sums) or 1e-2 in bf16 (8 bits of mantissa, and matrix products that round
elsewhere).
"""

import argparse
import json
import pathlib
import random
import sys
import tempfile

import torch

import check_export
from run_strata import strata

SEQ_LEN = 64
END_OF_DOCUMENT = 256
LIMITS = {"fp32": 1e-5, "bf16": 1e-2}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}

SIZES = """
vocab_size = 300
hidden_size = 64
intermediate_size = 160
num_hidden_layers = 2
num_attention_heads = 4
num_key_value_heads = 2
max_position_embeddings = 128
tie_word_embeddings = {tied}
"""

CONFIG = """
[model]
{model}
[data]
path = "{text}"
seq_len = {seq_len}
[train]
device = "cpu"
run_dir = "{run}"
steps = {steps}
train_batch_size = {batch}
precision = "{precision}"
seed = 3
[optimizer]
lr = {lr}
[zero_optimization]
stage = 3
[zero_optimization.offload_param]
device = "nvme"
nvme_path = "{run}-nvme"
[zero_optimization.offload_optimizer]
device = "nvme"
nvme_path = "{run}-nvme"
[memory]
device = "16MiB"
host = "16MiB"
"""


def train(program, run, **settings):
    """Returns the loss of every step."""
    pathlib.Path(f"{run}-nvme").mkdir()
    config = run.with_suffix(".toml")
    config.write_text(CONFIG.format(run=run, seq_len=SEQ_LEN, **settings))
    lines = strata(program, "train", config, "--json").splitlines()
    return [step["loss"] for step in map(json.loads, lines) if "loss" in step]


def write_texts(directory):
    """Words to train on, and one sample exactly: seq_len bytes and the end of the document."""
    words = ["the", "block", "moves", "from", "drive", "to", "host", "and", "back", "again"]
    choose = random.Random(1)
    text = " ".join(choose.choice(words) for _ in range(4000))
    (directory / "text.txt").write_text(text)
    (directory / "sample.txt").write_text(text[:SEQ_LEN])
    return list(text[:SEQ_LEN].encode()) + [END_OF_DOCUMENT]


def compare(program, directory, precision, tied):
    tokens = write_texts(directory)
    losses = train(program, directory / "run", model=SIZES.format(tied=str(tied).lower()),
                   text=directory / "text.txt", steps=20, batch=4, precision=precision, lr=3e-3)
    exported = directory / "exported"
    strata(program, "export", directory / "run", "--to", exported, "--dtype", "fp32")
    [ours] = train(program, directory / "again", model=f'weights = "{exported}"',
                   text=directory / "sample.txt", steps=1, batch=1, precision=precision, lr=0.0)
    model = check_export.load(exported).to(DTYPES[precision])
    theirs = check_export.mean_loss(model, [tokens])
    difference = abs(ours - theirs) / abs(theirs)
    verdict = "ok" if difference <= LIMITS[precision] else "TOO FAR"
    print(f"{precision} {'tied' if tied else 'untied':6}  trained {losses[0]:.3f} -> {losses[-1]:.3f}"
          f"  strata {ours:.7f}  transformers {theirs:.7f}  relative difference {difference:.1e}"
          f"  {verdict}")
    return difference <= LIMITS[precision]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("strata", help="the program")
    program = parser.parse_args().strata
    results = []
    for precision in LIMITS:
        for tied in (False, True):
            with tempfile.TemporaryDirectory(prefix="strata-export-") as directory:
                results.append(compare(program, pathlib.Path(directory), precision, tied))
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
