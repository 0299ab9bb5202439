"""A Llama trained by DeepSpeed ZeRO-3 with parameters and optimizer state on NVMe, on its CPU
accelerator; run by train_vs_deepspeed.py under a Python that has deepspeed, torch and transformers.

    python deepspeed_train.py CONFIG.toml DIRECTORY --steps N [--recompute] [--threads N]

CONFIG.toml is Strata's; shape, batch, precision, optimizer and clipping are taken from it. The text
is random tokens: what they are costs nothing. Prints one JSON line per step: loss, seconds, bytes read
and written by the process according to the kernel (/proc/self/io).
"""

import argparse
import json
import os
import sys
import time
import tomllib

# What importing and compiling print to stdout is no answer.
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
os.environ["DS_ACCELERATOR"] = "cpu"
os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1")
os.environ.setdefault("MASTER_PORT", "29531")

import torch  # noqa: E402
import deepspeed  # noqa: E402
from transformers import LlamaConfig, LlamaForCausalLM  # noqa: E402


def parse_arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("config")
    parser.add_argument("directory")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--recompute", action="store_true")
    parser.add_argument("--block-size", type=int, default=1 << 20)
    parser.add_argument("--queue-depth", type=int, default=32)
    return parser.parse_args()


def llama(model, seq_len):
    return LlamaConfig(
        vocab_size=model["vocab_size"], hidden_size=model["hidden_size"],
        intermediate_size=model["intermediate_size"],
        num_hidden_layers=model["num_hidden_layers"],
        num_attention_heads=model["num_attention_heads"],
        num_key_value_heads=model.get("num_key_value_heads", model["num_attention_heads"]),
        max_position_embeddings=model.get("max_position_embeddings", seq_len),
        tie_word_embeddings=model.get("tie_word_embeddings", False), use_cache=False)


def ds_config(config, arguments):
    """Everything that makes it fast: reads and writes of the optimizer pipelined, pinned memory, a
    subgroup per unit of work, prefetching as by default."""
    train, optimizer, model = config["train"], config["optimizer"], config["model"]
    batch = train["train_batch_size"]
    micro = train.get("train_micro_batch_size_per_gpu", batch)
    largest = model["hidden_size"] * max(model["intermediate_size"], model["vocab_size"])
    nvme = {"device": "nvme", "nvme_path": arguments.directory, "pin_memory": True}
    return {
        "train_micro_batch_size_per_gpu": micro,
        "gradient_accumulation_steps": batch // micro,
        "bf16": {"enabled": train.get("precision", "bf16") == "bf16"},
        "gradient_clipping": train.get("gradient_clipping", 1.0),
        "zero_optimization": {
            "stage": 3,
            "sub_group_size": 100_000_000,
            "offload_optimizer": {**nvme, "pipeline_read": True, "pipeline_write": True,
                                  "buffer_count": 12},  # three subgroups of four
            "offload_param": {**nvme, "buffer_size": largest, "buffer_count": 16},
        },
        "aio": {"block_size": arguments.block_size, "queue_depth": arguments.queue_depth,
                "intra_op_parallelism": 1, "single_submit": False, "overlap_events": True},
        "optimizer": {"type": "AdamW", "params": {
            "lr": optimizer["lr"], "betas": optimizer.get("betas", [0.9, 0.999]),
            "weight_decay": optimizer.get("weight_decay", 0.01)}},
    }


def bytes_moved():
    with open("/proc/self/io") as file:
        counters = dict(line.split(": ") for line in file)
    return int(counters["read_bytes"]), int(counters["write_bytes"])


def main():
    arguments = parse_arguments()
    with open(arguments.config, "rb") as file:
        config = tomllib.load(file)
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(1)
    settings = ds_config(config, arguments)
    shape = llama(config["model"], config["data"]["seq_len"])
    with deepspeed.zero.Init(config_dict_or_path=settings):
        model = LlamaForCausalLM(shape)
    if arguments.recompute:
        model.gradient_checkpointing_enable()
    engine, *_ = deepspeed.initialize(model=model, config=settings,
                                      model_parameters=model.parameters())
    micro = settings["train_micro_batch_size_per_gpu"]
    for step in range(arguments.steps):
        before, begin = bytes_moved(), time.monotonic()
        for _ in range(settings["gradient_accumulation_steps"]):
            tokens = torch.randint(0, shape.vocab_size, (micro, config["data"]["seq_len"]))
            loss = engine(input_ids=tokens, labels=tokens).loss
            engine.backward(loss)
            engine.step()
        seconds, after = time.monotonic() - begin, bytes_moved()
        print(json.dumps({"step": step + 1, "loss": loss.item(), "seconds": seconds,
                          "bytes_read": after[0] - before[0],
                          "bytes_written": after[1] - before[1]}), file=answers, flush=True)


if __name__ == "__main__":
    sys.exit(main())
