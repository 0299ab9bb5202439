"""Writes adamw.json: ten steps of torch.optim.AdamW and Adam. Run: python3 tests/golden/make_adam.py

The gradients are exact in fp32 and bf16, so that either format gives the same trajectory.
"""
import json
import pathlib

import torch

NUM_ELEMENTS = 37
STEPS = 10


def gradient(step: int) -> torch.Tensor:
    """Multiples of 1/64 in [-1, 1), scaled by powers of two from 2^-8 to 1: exact in fp32 and bf16."""
    i = torch.arange(NUM_ELEMENTS, dtype=torch.int64)
    numerator = (i * 7919 + step * 104729) % 128 - 64
    return (numerator.to(torch.float32) / 64) * torch.pow(2.0, -(i % 9).to(torch.float32))


def trajectory(optimizer_class, **options) -> dict:
    i = torch.arange(NUM_ELEMENTS, dtype=torch.float32)
    parameter = torch.nn.Parameter((i - 18) / 16)
    optimizer = optimizer_class([parameter], foreach=False, **options)
    steps = []
    for step in range(1, STEPS + 1):
        optimizer.param_groups[0]["lr"] = options["lr"] * step / STEPS
        parameter.grad = gradient(step)
        optimizer.step()
        state = optimizer.state[parameter]
        steps.append({"p": parameter.tolist(), "m": state["exp_avg"].tolist(),
                      "v": state["exp_avg_sq"].tolist()})
    return {"lr": options["lr"], "beta1": options["betas"][0], "beta2": options["betas"][1],
            "eps": options["eps"], "weight_decay": options["weight_decay"],
            "initial": ((i - 18) / 16).tolist(), "steps": steps}


def main() -> None:
    options = {"lr": 1e-2, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.1}
    golden = {
        "torch": torch.__version__.split("+")[0],
        "gradients": [gradient(step).tolist() for step in range(1, STEPS + 1)],
        "AdamW": trajectory(torch.optim.AdamW, **options),
        "Adam": trajectory(torch.optim.Adam, **options),
    }
    path = pathlib.Path(__file__).parent / "adamw.json"
    path.write_text(json.dumps(golden, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
