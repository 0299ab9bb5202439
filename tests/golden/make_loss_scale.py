"""Writes loss_scale.json: what DeepSpeed's DynamicLossScaler does over random overflows.

    pip install torch deepspeed
    python tests/golden/make_loss_scale.py tests/golden/loss_scale.json

Written with deepspeed 0.19.8.
"""

import json
import random
import sys

import torch
from deepspeed.runtime.fp16 import loss_scaler

loss_scaler.dist.get_rank = lambda: 1  # quiet


def run(power, window, hysteresis, consecutive, min_scale, rate, steps, seed):
    scaler = loss_scaler.DynamicLossScaler(
        init_scale=2.0 ** power, scale_window=window, min_scale=min_scale, delayed_shift=hysteresis,
        consecutive_hysteresis=consecutive, raise_error_at_min_scale=True, dtype=torch.half)
    source, overflows, scales = random.Random(seed), [], []
    for _ in range(steps):
        overflow = source.random() < rate
        overflows.append(int(overflow))
        try:
            scaler.update_scale(overflow)
        except Exception:  # at the least scale
            scales.append(0)
            break
        scales.append(scaler.cur_scale)
    return {"initial_scale_power": power, "loss_scale_window": window, "hysteresis": hysteresis,
            "consecutive_hysteresis": consecutive, "min_loss_scale": min_scale,
            "overflows": overflows, "scales": scales}


cases = [run(power, window, hysteresis, consecutive, min_scale, rate, 200, seed)
         for seed, (power, window, hysteresis, consecutive, min_scale, rate) in enumerate([
             (16, 10, 2, False, 1, 0.05), (16, 10, 2, True, 1, 0.2), (8, 5, 1, False, 1, 0.1),
             (4, 7, 3, False, 2, 0.3), (4, 7, 3, True, 0.5, 0.5), (16, 1, 2, False, 1, 0.4),
             (2, 50, 1, False, 1, 0.2), (16, 1000, 2, False, 1, 0.0)])]
with open(sys.argv[1], "w", encoding="utf-8") as file:
    json.dump({"cases": cases}, file, separators=(",", ":"))
    file.write("\n")
