#!/usr/bin/env python3
"""Reads a portable checkpoint with the safetensors library and compares it with what Strata exports of
the same state as weights: every bf16 weight, and every fp32 master made of a weight and its remainder.

    pip install safetensors
    python3 tests/golden/check_portable.py build/release/tools/strata

Exit code 77 where the library is not installed.
"""

import array
import json
import pathlib
import random
import sys
import tempfile

try:
    from safetensors import deserialize
except ImportError:
    print("skipped: python3 has no safetensors library")
    sys.exit(77)

from run_strata import strata

CONFIG = """
[model]
vocab_size = 300
hidden_size = 64
intermediate_size = 160
num_hidden_layers = 2
num_attention_heads = 4
num_key_value_heads = 2
[data]
path = "{0}/text.txt"
seq_len = 32
[train]
device = "cpu"
run_dir = "{0}/run"
steps = 3
train_batch_size = 2
[zero_optimization]
stage = 3
[zero_optimization.offload_param]
device = "nvme"
nvme_path = "{0}/nvme"
[zero_optimization.offload_optimizer]
device = "nvme"
nvme_path = "{0}/nvme"
[memory]
device = "8MiB"
host = "8MiB"
"""


def tensors_of(path):
    return {name: tensor for name, tensor in deserialize(path.read_bytes())}


def joined(files, name, dtype):
    """A unit's state of one kind: its parts of all ranks, in their order."""
    parts = [file[name] for file in files if name in file]
    assert parts and all(part["dtype"] == dtype for part in parts), name
    return b"".join(bytes(part["data"]) for part in parts)


def check_unit(unit, files, weights, masters):
    high, low = array.array("H"), array.array("h")
    high.frombytes(joined(files, unit["name"] + "/w", "BF16"))
    low.frombytes(joined(files, unit["name"] + "/lo", "I16"))
    for kind in "mv":
        assert len(joined(files, f"{unit['name']}/{kind}", "F32")) == 4 * unit["elements"]
    assert len(high) == len(low) == unit["elements"], unit["name"]
    for tensor in unit["tensors"]:
        count = 1
        for extent in tensor["shape"]:
            count *= extent
        here = slice(tensor["offset"], tensor["offset"] + count)
        assert weights[tensor["name"]]["shape"] == tensor["shape"], tensor["name"]
        assert high[here].tobytes() == bytes(weights[tensor["name"]]["data"]), tensor["name"]
        master = array.array("I", ((h << 16) + l & 0xFFFFFFFF for h, l in zip(high[here], low[here])))
        assert master.tobytes() == bytes(masters[tensor["name"]]["data"]), tensor["name"]


def check(program, directory):
    (directory / "nvme").mkdir()
    choose = random.Random(1)
    (directory / "text.txt").write_text("".join(choose.choice("abcdefg ") for _ in range(9000)))
    (directory / "run.toml").write_text(CONFIG.format(directory))
    strata(program, "train", directory / "run.toml")
    run, portable = directory / "run", directory / "portable"
    strata(program, "checkpoint", "export", run, "--to", portable, "--ranks", 2)
    for dtype in ("bf16", "fp32"):
        strata(program, "export", run, "--to", directory / dtype, "--dtype", dtype)
    manifest = json.loads((portable / "manifest.json").read_text())
    files = [tensors_of(portable / file["name"]) for file in manifest["files"]]
    weights = tensors_of(directory / "bf16" / "model.safetensors")
    masters = tensors_of(directory / "fp32" / "model.safetensors")
    for unit in manifest["about"]["units"]:
        check_unit(unit, files, weights, masters)
    seen = {tensor["name"] for unit in manifest["about"]["units"] for tensor in unit["tensors"]}
    assert seen == set(weights), seen ^ set(weights)
    print(f"{len(seen)} tensors, {len(files)} files: the same bits")


with tempfile.TemporaryDirectory(prefix="strata-portable-") as scratch:
    check(sys.argv[1], pathlib.Path(scratch))
