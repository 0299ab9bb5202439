"""Reads metrics.jsonl of a run with a checkpoint every third step, and says what one adds."""
import argparse
import json
import statistics

EVERY = 3


def read_lines(path):
    with open(path, encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    return {line["step"]: line for line in lines}


def bytes_of(line):
    return line["nvme_bytes_read"] + line["nvme_bytes_written"]


def cost(lines):
    """A line's commit_s is that of the commit before its step: the checkpoint after step k is begun in
    line k + 1's, written beside step k + 1 and finished in line k + 2's. With all state on nvme it is
    whole in line k + 1's, and nothing is written beside a step. The first step warms up."""
    last = max(lines)
    checkpoints = list(range(EVERY, last - 1, EVERY))
    median = lambda values: statistics.median(values)
    plain_steps = [k for k in range(2, last + 1) if (k - 1) % EVERY]
    plain_step_s = median(lines[k]["step_s"] for k in plain_steps)
    plain_commit_s = median(lines[k]["commit_s"] for k in range(EVERY, last + 1, EVERY))
    plain_bytes = median(bytes_of(lines[k]) for k in range(EVERY, last + 1, EVERY))
    commits_s = [lines[k + 1]["commit_s"] + lines[k + 2]["commit_s"] for k in checkpoints]
    return {
        "checkpoints": len(checkpoints),
        "plain_step_s": plain_step_s,
        "plain_commit_s": plain_commit_s,
        "plain_step_bytes": plain_bytes,
        "beside_step_s": median(lines[k + 1]["step_s"] for k in checkpoints),
        "commits_s": median(commits_s),
        "waited_s": median(lines[k + 1]["checkpoint_wait_s"] for k in checkpoints),
        "added_s": median(
            lines[k + 1]["step_s"] - plain_step_s + commit_s - 2 * plain_commit_s
            for k, commit_s in zip(checkpoints, commits_s)),
        "written_behind_bytes": median(
            lines[k + 1]["checkpoint_bytes_written"] + lines[k + 2]["checkpoint_bytes_written"]
            for k in checkpoints),
        "added_bytes": median(
            bytes_of(lines[k + 1]) + bytes_of(lines[k + 2]) - 2 * plain_bytes for k in checkpoints),
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    parser.add_argument("metrics")
    parser.add_argument("plan")
    arguments = parser.parse_args()
    result = cost(read_lines(arguments.metrics))
    with open(arguments.plan, encoding="utf-8") as file:
        plan = json.load(file)
    result["planned_bytes"] = plan["checkpoint_bytes"]
    result["planned_drive_s"] = plan["checkpoint_drive_s"]
    if arguments.json:
        print(json.dumps(result))
        return
    gib = 1 << 30
    print(f"step            {result['plain_step_s']:.3f} s, beside a checkpoint "
          f"{result['beside_step_s']:.3f} s: medians, {result['checkpoints']} checkpoints")
    print(f"checkpoint      adds {result['added_s']:+.3f} s; its commits {result['commits_s']:.3f} s, "
          f"operations waited {result['waited_s']:.3f} s")
    print(f"bytes           adds {result['added_bytes'] / gib:+.3f} GiB, of which "
          f"{result['written_behind_bytes'] / gib:.3f} GiB from memory; a step moves "
          f"{result['plain_step_bytes'] / gib:.3f} GiB")


if __name__ == "__main__":
    main()
