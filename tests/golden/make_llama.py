#!/usr/bin/env python3
"""Writes the golden files of tests/engine/model: tiny random Llamas with the loss and the gradient
of every tensor as PyTorch and transformers compute them, in fp32 on a CPU.

    pip install torch transformers numpy
    python3 tests/golden/make_llama.py tests/golden

A file is a line of JSON (config: the model's config.json; batch, seq_len; loss: the mean over all
tokens; tensors: name, shape and offset in values of each), then little-endian values: the int32
tokens [batch, seq_len + 1], then every tensor's fp32 weight, then its fp32 gradient. golden_file.h
reads it.
"""

import json
import pathlib
import sys

import numpy as np
import torch
import transformers

BATCH, SEQ_LEN = 2, 16

CONFIGS = {
    "llama_mha_untied": {
        "vocab_size": 71, "hidden_size": 36, "intermediate_size": 52, "num_attention_heads": 3,
        "num_key_value_heads": 3, "head_dim": 12, "tie_word_embeddings": False,
        "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "rope_scaling": None,
    },
    "llama_gqa_tied": {
        "vocab_size": 64, "hidden_size": 40, "intermediate_size": 56, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 10, "tie_word_embeddings": True,
        "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "rope_scaling": None,
    },
    # Wavelengths are 6.3, 12.1, 23.4, ...: one below 16 / 2 (kept), one between that and 16 / 1
    # (blended), the others above (divided).
    "llama_gqa_llama3_rope": {
        "vocab_size": 67, "hidden_size": 32, "intermediate_size": 44, "num_attention_heads": 4,
        "num_key_value_heads": 1, "head_dim": 14, "tie_word_embeddings": False,
        "rms_norm_eps": 1e-5, "rope_theta": 100.0,
        "rope_scaling": {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0,
                         "high_freq_factor": 2.0, "original_max_position_embeddings": 16},
    },
}  # fmt: skip


def config_json(sizes):
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "num_hidden_layers": 2,
        "max_position_embeddings": 64, "hidden_act": "silu", "attention_bias": False,
        "mlp_bias": False, "initializer_range": 0.02, **sizes,
    }  # fmt: skip


def randomize(model, generator):
    """Larger than a fresh model's, so that softmax and SiLU leave their linear range."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            scale = 0.3 if "norm" in name else 1.5 / parameter.shape[-1] ** 0.5
            parameter.copy_(noise * scale + (1.0 if "norm" in name else 0.0))


def loss_and_gradients(config, seed):
    generator = torch.Generator().manual_seed(seed)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig.from_dict(config))
    model = model.to(torch.float32)
    randomize(model, generator)
    tokens = torch.randint(config["vocab_size"], (BATCH, SEQ_LEN + 1), generator=generator)
    logits = model(input_ids=tokens[:, :-1], use_cache=False).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
    loss.backward()
    parameters = [(name, p.detach().numpy(), p.grad.numpy()) for name, p in model.named_parameters()]
    return tokens.numpy(), loss.item(), parameters


def write(path, config, seed):
    tokens, loss, parameters = loss_and_gradients(config, seed)
    arrays, tensors, offset = [tokens.astype("<i4")], [], tokens.size
    for name, weight, gradient in parameters:
        tensors.append({"name": name, "shape": list(weight.shape), "weight_offset": offset,
                        "gradient_offset": offset + weight.size})  # fmt: skip
        arrays += [weight.astype("<f4"), gradient.astype("<f4")]
        offset += 2 * weight.size
    header = {"config": config, "batch": BATCH, "seq_len": SEQ_LEN, "loss": loss,
              "torch": torch.__version__, "transformers": transformers.__version__,
              "tensors": tensors}  # fmt: skip
    with open(path, "wb") as file:
        file.write(json.dumps(header).encode() + b"\n")
        for array in arrays:
            file.write(np.ascontiguousarray(array).tobytes())
    print(f"{path}: loss {loss:.7f}, {path.stat().st_size} bytes")


def main():
    folder = pathlib.Path(sys.argv[1])
    torch.use_deterministic_algorithms(True)
    for seed, (name, sizes) in enumerate(CONFIGS.items()):
        write(folder / f"{name}.golden", config_json(sizes), seed)


if __name__ == "__main__":
    main()
