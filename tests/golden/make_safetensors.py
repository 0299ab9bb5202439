#!/usr/bin/env python3
"""Writes small.safetensors with Hugging Face's own library, for tests/engine/checkpoint.

Needs torch and safetensors. Run it in this folder; it is not needed to run the tests.
"""

import torch
from safetensors.torch import save_file

halves = torch.arange(-300, 300, dtype=torch.float32) / 8  # exact in every format used here
bits = torch.arange(0, 1 << 16, 127, dtype=torch.int32).to(torch.int16)

save_file(
    {
        "f32": torch.arange(12, dtype=torch.float32).reshape(3, 4) / 7,
        "f16": halves.reshape(20, 30).to(torch.float16),
        "bf16": (torch.arange(-128, 128, dtype=torch.float32) / 4).to(torch.bfloat16),
        "f16_bits": bits.view(torch.float16),
        "i64": torch.arange(3),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 4),
    },
    "small.safetensors",
    metadata={"format": "pt"},
)
