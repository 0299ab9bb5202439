"""Writes resource_filter.json: what DeepSpeed's launcher makes of hostfiles, --include and --exclude.

    pip install torch deepspeed
    python tests/golden/make_resource_filter.py tests/golden/resource_filter.json

Each case has its input and either the hosts with their slots, in order, or that it is an error.
Written with deepspeed 0.19.8.
"""

import json
import logging
import sys

from deepspeed.launcher.runner import _parse_hostfile, parse_inclusion_exclusion

logging.disable(logging.CRITICAL)

HOSTFILES = {
    "two": "worker-0 slots=4\nworker-1 slots=4\n",
    "comments": "# head\n\nworker-0 slots=2\n  # indented\nworker-1   slots=3  \n",
    "tabs": "worker-0\tslots=2\n\tworker-1 slots=1\n",
    "no_end": "worker-0 slots=16",
    "repeated": "worker-0 slots=4\nworker-0 slots=2\n",
    "no_slots": "worker-0\n",
    "other_key": "worker-0 gpus=4\n",
    "words": "worker-0 slots=four\n",
    "empty": "# nothing\n\n",
    "uneven": "b slots=1\na slots=8\nc slots=2\n",
}
FILTERS = [
    ("two", "", ""),
    ("two", "worker-0", ""),
    ("two", "worker-1@worker-0", ""),
    ("two", "worker-0@worker-1:0,2", ""),
    ("two", "worker-1:2,0", ""),
    ("two", "worker-1:0,0,1", ""),
    ("two", "worker-1:0@worker-1:3", ""),
    ("two", "", "worker-1"),
    ("two", "", "worker-1:0"),
    ("two", "", "worker-1:0,3@worker-0:1"),
    ("two", "", "worker-0:0,1,2,3"),
    ("two", "worker-2", ""),
    ("two", "worker-0:4", ""),
    ("two", "", "worker-0:4"),
    ("two", "", "worker-9"),
    ("two", "worker-0:x", ""),
    ("two", "worker-0:", ""),
    ("uneven", "c@a:7,1", ""),
    ("uneven", "", "a:0,1,2,3@b"),
]


def outcome(make):
    try:
        return {"hosts": [[host, list(slots)] for host, slots in make().items()]}
    except ValueError:
        return {"error": True}


cases = {"hostfiles": [], "filters": []}
for name, text in HOSTFILES.items():
    made = outcome(lambda: {h: range(n) for h, n in _parse_hostfile(text.splitlines(True)).items()})
    cases["hostfiles"].append({"name": name, "text": text, **made})
for name, include, exclude in FILTERS:
    pool = _parse_hostfile(HOSTFILES[name].splitlines(True))
    made = outcome(lambda: parse_inclusion_exclusion(pool, include, exclude))
    cases["filters"].append({"hostfile": name, "include": include, "exclude": exclude, **made})
with open(sys.argv[1], "w", encoding="utf-8") as file:
    json.dump(cases, file, separators=(",", ":"))
    file.write("\n")
