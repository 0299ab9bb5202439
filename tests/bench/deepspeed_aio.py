"""DeepSpeed's aio as its ds_io uses it, run by aio_vs_fio.py under a Python that has deepspeed.

Reads one JSON object per line from stdin: {"traffic": "read", "block_bytes": 1048576, "depth": 32,
"threads": 1, "seconds": 2}, and answers each with {"bytes": ..., "seconds": ..., "cpu_s": ...}, of
the measured loop alone. Its own page-locked buffers; one operation at a time per handle, since its
wait() is a barrier over all of them. The mix is two handles in two threads with a file each.
"""

import json
import os
import resource
import sys
import threading
import time

# What importing and compiling print to stdout is no answer.
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

import torch  # noqa: E402
from deepspeed.ops.op_builder import AsyncIOBuilder  # noqa: E402


class Lane:
    """A handle that goes through its file again and again, an operation of the buffer's size each."""

    def __init__(self, library, setting, path, buffer_bytes, is_read):
        self.handle = library.aio_handle(
            setting["block_bytes"], setting["depth"], False, True, setting["threads"])
        self.buffer = self.handle.new_cpu_locked_tensor(
            buffer_bytes, torch.empty(0, dtype=torch.uint8))
        self.buffer.random_(0, 256)
        self.start = self.handle.pread if is_read else self.handle.pwrite
        self.path, self.num_operations = path, os.path.getsize(path) // buffer_bytes
        self.bytes = 0

    def run(self, until):
        operation = 0
        while time.monotonic() < until:
            offset = operation % self.num_operations * self.buffer.numel()
            if self.start(self.buffer, self.path, False, True, offset) != 0:
                raise RuntimeError(f"DeepSpeed refused an operation on {self.path} at {offset}")
            self.handle.wait()
            self.bytes += self.buffer.numel()
            operation += 1

    def free(self):
        self.handle.free_cpu_locked_tensor(self.buffer)


def cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def measure(library, setting, paths, buffer_bytes):
    directions = {"read": [True], "write": [False], "mix": [True, False]}[setting["traffic"]]
    lanes = [Lane(library, setting, path, buffer_bytes, is_read)
             for path, is_read in zip(paths, directions)]
    for lane in lanes:
        lane.run(time.monotonic() + 0.2)  # warm-up
        lane.bytes = 0
    start, cpu_start = time.monotonic(), cpu_seconds()
    threads = [threading.Thread(target=lane.run, args=(start + setting["seconds"],))
               for lane in lanes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    result = {"bytes": sum(lane.bytes for lane in lanes), "seconds": time.monotonic() - start,
              "cpu_s": cpu_seconds() - cpu_start}
    for lane in lanes:
        lane.free()
    return result


def main():
    buffer_bytes, paths = int(sys.argv[1]), sys.argv[2:]
    library = AsyncIOBuilder().load(verbose=False)
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(measure(library, json.loads(line), paths, buffer_bytes)),
              file=answers, flush=True)


if __name__ == "__main__":
    main()
