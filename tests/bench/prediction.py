"""Predicted against measured step times; see prediction.sh."""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile

SHAPES = {
    "6M": dict(hidden=256, mlp=704, layers=6, heads=4),
    "26M": dict(hidden=512, mlp=1408, layers=8, heads=8),
    "78M": dict(hidden=1024, mlp=2816, layers=6, heads=16),
}
NVME = ("nvme", "nvme")


def setting(name, shape, seq, offload, device, host, **keys):
    return dict(name=name, shape=shape, seq=seq, offload=offload, device=device, host=host, keys=keys)


SETTINGS = [
    setting("26M nvme, tight", "26M", 256, NVME, 48, 64, **{"train.gradient_clipping": 0}),
    setting("26M nvme, clipped", "26M", 256, NVME, 48, 128),
    setting("26M nvme, 4 micro-batches vertical", "26M", 128, NVME, 48, 96,
            **{"train.gradient_clipping": 0, "train.train_batch_size": 8}),
    setting("26M nvme, 4 micro-batches horizontal", "26M", 128, NVME, 64, 192,
            **{"train.gradient_clipping": 0, "train.train_batch_size": 8,
               "train.schedule": "horizontal"}),
    setting("26M host", "26M", 256, ("cpu", "cpu"), 48, 512),
    setting("26M device", "26M", 256, ("none", "none"), 640, 64),
    setting("26M nvme, 1 thread", "26M", 128, NVME, 48, 64,
            **{"train.gradient_clipping": 0, "train.threads": 1}),
    setting("26M nvme, fp32 state", "26M", 128, NVME, 48, 96,
            **{"train.gradient_clipping": 0, "optimizer.state": "fp32"}),
    setting("26M nvme, short sequences", "26M", 16, NVME, 48, 64, **{"train.gradient_clipping": 0}),
    setting("78M nvme", "78M", 128, NVME, 96, 128, **{"train.gradient_clipping": 0}),
    setting("78M nvme, weights on the host, clipped", "78M", 64, ("nvme", "cpu"), 128, 512),
    setting("6M device, fp32", "6M", 256, ("none", "none"), 256, 32, **{"train.precision": "fp32"}),
]


def section(name, device, nvme):
    text = f'[zero_optimization.{name}]\ndevice = "{device}"\n'
    return text + (f'nvme_path = "{nvme}"\n' if device == "nvme" else "")


def config_text(one, folder, steps):
    shape = SHAPES[one["shape"]]
    optimizer, weights = one["offload"]
    return (
        f'[model]\nvocab_size = 320\nhidden_size = {shape["hidden"]}\n'
        f'intermediate_size = {shape["mlp"]}\nnum_hidden_layers = {shape["layers"]}\n'
        f'num_attention_heads = {shape["heads"]}\nmax_position_embeddings = 512\n'
        f'[data]\npath = "{pathlib.Path(__file__).resolve().parents[2]}/docs"\nseq_len = {one["seq"]}\n'
        f'[train]\ndevice = "cpu"\nrun_dir = "{folder}/run"\nsteps = {steps}\n'
        "train_micro_batch_size_per_gpu = 2\n[zero_optimization]\nstage = 3\n"
        + section("offload_optimizer", optimizer, folder / "nvme")
        + section("offload_param", weights, folder / "nvme")
        + f'[memory]\ndevice = "{one["device"]}MiB"\nhost = "{one["host"]}MiB"\n'
        "[checkpoint]\nkeep_last = 0\n"
    )


def sets_of(one):
    return [word for key, value in one["keys"].items() for word in ("--set", f"{key}={value}")]


def call(name, command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"prediction: {name}: {done.stderr.strip()}")
    return done.stdout


def train(strata, one, folder, steps, hardware):
    """Runs it once; (predicted_s, measured_s, bound_s, bound's resource). `hardware`: a section to
    plan with; none: it is measured first."""
    (folder / "nvme").mkdir(parents=True)
    (folder / "run.toml").write_text(config_text(one, folder, steps) + (hardware or ""))
    how = ["--json"] if hardware else ["--json", "--measure"]
    out = call(one["name"], [strata, "train", folder / "run.toml", *how, *sets_of(one)])
    lines = [json.loads(line) for line in out.splitlines()]
    reports, summary = lines[:-1], lines[-1]
    # Steps of the kind that was predicted; the first finds less cached than the others.
    kept = [r for r in reports[1:] if r["predicted_step_s"] == summary["predicted_step_s"]]
    middle = min if hardware else statistics.median
    measured = middle(r["step_s"] for r in (kept or reports[1:]))
    return summary["predicted_step_s"], measured, summary["bound_s"], summary["bound_resource"]


def best_hardware(strata, one, folder, rounds):
    """The best of each rate over several measurements, as a section."""
    best = {}
    for number in range(rounds):
        (folder / "nvme").mkdir(parents=True, exist_ok=True)
        (folder / "run.toml").write_text(config_text(one, folder, 1))
        text = call(one["name"], [strata, "doctor", folder / "run.toml", "--measure", *sets_of(one)])
        for line in text.splitlines():
            if " = " not in line:
                best[line] = line  # a heading
                continue
            key, value = line.split(" = ")
            if value in ("true", "false") or key in ("cores", "op_threads") or key not in best:
                best[key] = value
            else:
                choose = min if key.endswith("_s") and not key.endswith("per_s") else max
                best[key] = str(choose(float(best[key]), float(value)))
    return "\n".join(k if k == v else f"{k} = {v}" for k, v in best.items()) + "\n"


def row_of(one, runs, best):
    ratios = [measured / predicted for predicted, measured, _, _ in runs]
    number = sorted(range(len(runs)), key=lambda i: ratios[i])[0 if best else len(runs) // 2]
    predicted, measured, bound, resource = runs[number]
    return dict(name=one["name"], predicted_s=predicted, measured_s=measured, bound_s=bound,
                bound_resource=resource, ratio=ratios[number], ratios=ratios)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("strata")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--only", default="")
    parser.add_argument("--best", action="store_true")
    arguments = parser.parse_args()
    settings = [one for one in SETTINGS if arguments.only in one["name"]]
    runs = {one["name"]: [] for one in settings}
    base = pathlib.Path(tempfile.mkdtemp(dir=os.environ.get("STRATA_BENCH_DIR", "."),
                                         prefix="prediction-")).resolve()
    try:
        hardware = {}
        for index, one in enumerate(settings if arguments.best else []):
            hardware[one["name"]] = best_hardware(arguments.strata, one, base / f"rates-{index}",
                                                  arguments.rounds)
            shutil.rmtree(base / f"rates-{index}")
            print(f"rates: {one['name']}", file=sys.stderr)
        for number in range(arguments.rounds):
            for index, one in enumerate(settings):
                folder = base / f"{number}-{index}"
                runs[one["name"]].append(train(arguments.strata, one, folder, arguments.steps,
                                              hardware.get(one["name"])))
                shutil.rmtree(folder)
                print(f"round {number + 1}: {one['name']}", file=sys.stderr)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    rows = [row_of(one, runs[one["name"]], arguments.best) for one in settings]
    within = sum(abs(row["ratio"] - 1) <= 0.10 for row in rows)
    if arguments.json:
        print(json.dumps(dict(rows=rows, within_10_percent=within)))
        return
    print(f"{'setting':40} {'predicted':>10} {'measured':>10} {'ratio':>6}  {'bound by':8} ratios")
    for row in rows:
        print(f"{row['name']:40} {row['predicted_s'] * 1e3:7.1f} ms {row['measured_s'] * 1e3:7.1f} ms "
              f"{row['ratio']:6.3f}  {row['bound_resource']:8} "
              + " ".join(f"{ratio:.2f}" for ratio in row["ratios"]))
    print(f"{within} of {len(rows)} within 10 %")


if __name__ == "__main__":
    main()
