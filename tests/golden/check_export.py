#!/usr/bin/env python3
"""Loads an exported Hugging Face directory with transformers and prints the mean loss of given
tokens, to be compared with Strata's own on the same tokens and weights.

    pip install torch transformers safetensors
    python3 tests/golden/check_export.py EXPORTED --tokens tokens.json [--bf16]
    python3 tests/golden/check_export.py EXPORTED --text notes.txt --seq-len 128

tokens.json is a list of lists of seq_len + 1 ids each: every id but the first of a list is
predicted. --text takes the bytes of a file as ids instead, cut into such lists. Fails if a tensor
is missing, unexpected or of another shape.
"""

import argparse
import json
import pathlib
import sys

import torch
import transformers


def sequences_of(arguments):
    if arguments.tokens:
        return json.loads(arguments.tokens.read_text())
    data, length = list(arguments.text.read_bytes()), arguments.seq_len + 1
    return [data[i : i + length] for i in range(0, len(data) - length + 1, length)]


def load(directory):
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        directory, output_loading_info=True, local_files_only=True
    )
    wrong = {kind: sorted(map(str, info.get(kind, ()))) for kind in
             ("missing_keys", "unexpected_keys", "mismatched_keys")}  # fmt: skip
    if any(wrong.values()):
        sys.exit(f"{directory}: tensors do not fit the model: {wrong}")
    return model.eval()


@torch.no_grad()
def mean_loss(model, sequences):
    """Logits in fp32 from the final hidden states, as Strata computes them in either format."""
    weight = model.lm_head.weight.float()
    total, count = 0.0, 0
    for sequence in sequences:
        ids = torch.tensor([sequence])
        hidden = model.model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state[0]
        losses = torch.nn.functional.cross_entropy(
            hidden.float() @ weight.T, ids[0, 1:], reduction="none"
        )
        total, count = total + losses.double().sum().item(), count + losses.numel()
    return total / count


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=pathlib.Path)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--tokens", type=pathlib.Path, help="JSON: a list of lists of ids")
    source.add_argument("--text", type=pathlib.Path, help="a file whose bytes are the ids")
    parser.add_argument("--seq-len", type=int, default=128, help="with --text (default: 128)")
    parser.add_argument("--bf16", action="store_true", help="also compute in bf16")
    arguments = parser.parse_args()

    sequences = sequences_of(arguments)
    if not sequences:
        sys.exit("no sequence of that length")
    model = load(arguments.directory)
    for dtype in [torch.float32] + [torch.bfloat16] * arguments.bf16:
        name = str(dtype).removeprefix("torch.")
        print(f"{name} loss {mean_loss(model.to(dtype), sequences):.7f} ({len(sequences)} sequences)")


if __name__ == "__main__":
    main()
