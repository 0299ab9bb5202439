"""DeepSpeed's CPU Adam as its ZeRO offload uses it, run by adam_vs_deepspeed.py under a Python that
has deepspeed.

    OMP_NUM_THREADS=N python deepspeed_adam.py NUM_ELEMENTS [--cpu-time]

Answers each line of stdin with the seconds of one step: bf16 gradients to fp32, cpu_adam, fp32
parameters to bf16.
"""

import os
import sys
import time

# What importing and compiling print to stdout is no answer.
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

import torch  # noqa: E402
from deepspeed.ops.adam import DeepSpeedCPUAdam  # noqa: E402


def main():
    num_elements = int(sys.argv[1])
    is_cpu_time = "--cpu-time" in sys.argv
    clock = time.CLOCK_PROCESS_CPUTIME_ID if is_cpu_time else time.CLOCK_MONOTONIC
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    parameter = torch.nn.Parameter(torch.randn(num_elements) * 0.02)
    parameter.grad = torch.zeros(num_elements)
    weight = parameter.data.to(torch.bfloat16)
    gradient = (torch.randn(num_elements) * 0.01).to(torch.bfloat16)
    adam = DeepSpeedCPUAdam([parameter], lr=1e-5, weight_decay=0.01, adamw_mode=True)

    def step():
        parameter.grad.copy_(gradient)
        adam.step()
        weight.copy_(parameter.data)

    step()  # makes its state
    for _ in sys.stdin:
        begin = time.clock_gettime(clock)
        step()
        print(f"{time.clock_gettime(clock) - begin:.9f}", file=answers, flush=True)


main()
