"""Channel pruning of ResNet-20 to half its MACs, beside Torch-Pruning; and what removed channels buy in time.

    python benchmarks/channels.py finetune --seeds 0 1 2   # prune and fine-tune, both ways, one run after the other
    python benchmarks/channels.py publish                  # ours, seed 0, into the zoo
    python benchmarks/channels.py ladder                   # MACs against latency, without training
    python benchmarks/channels.py report                   # tables and plots from whatever is there

Each run is kept in build/channels and not done twice. Both ways start from the zoo's ResNet-20, get the same budget of
MACs and the same fine-tuning; the seed draws the order of the images, their augmentation and, for ours, the training
images that Taylor's scores are computed from. Policy and allocation were chosen on 1,000 held-out training images. One
epoch had been tried and measured on the test images before the number of epochs was set to four; nothing else was.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import statistics
import sys
import time
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import torch  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from torch import nn  # noqa: E402

from coursekit import measure, plot, zoo  # noqa: E402
from coursekit.data import Dataset, fashion_mnist  # noqa: E402
from coursekit.models import resize_  # noqa: E402
from coursekit.pruning import ChannelPruning, Magnitude, Taylor, prune_channels  # noqa: E402
from coursekit.train import Recipe, evaluate, fit  # noqa: E402

CACHE = ROOT / "build" / "channels"
RESULTS = ROOT / "benchmarks" / "results"
SHAPE = (1, 28, 28)
METHODS = ("taylor per MAC", "Torch-Pruning group L1")


def recipe(seed: int, epochs: int) -> Recipe:
    """The fine-tuning of both ways."""
    return Recipe(epochs=epochs, peak_lr=0.05, augment=True, bfloat16=True, seed=seed)


def stem_of(method: str, seed: int, epochs: int) -> Path:
    """Where a run is kept, without the ending."""
    return CACHE / f"{method.replace(' ', '-')}-{epochs}-epochs-{seed}"


def calibration(seed: int, n: int = 1000) -> Dataset:
    """n training images drawn by the seed."""
    train = fashion_mnist("train")
    chosen = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))[:n]
    return Dataset(train.images[chosen], train.labels[chosen], train.classes, f"{n} of {train.source}")


def ours(network: nn.Module, kept: float, seed: int) -> nn.Module:
    """Taylor scores per MAC saved."""
    config = ChannelPruning(macs=kept, importance=Taylor(calibration(seed)), allocation="per_mac")
    return prune_channels(network, torch.zeros(1, *SHAPE), config)


def theirs(network: nn.Module, kept: float) -> nn.Module:
    """Torch-Pruning's group L1 norm, one ratio for all layers: of 1 to 89 % the one nearest to the budget."""
    import torch_pruning as tp

    best: tuple[float, nn.Module] | None = None
    for percent in range(1, 90):
        candidate: Any = copy.deepcopy(network)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pruner = tp.pruner.BasePruner(
                candidate, torch.zeros(1, *SHAPE), importance=tp.importance.GroupMagnitudeImportance(p=1),
                pruning_ratio=percent / 100, ignored_layers=[candidate.fc],
            )  # fmt: skip
            pruner.step()
        off = abs(measure.macs(candidate, SHAPE) / measure.macs(network, SHAPE) - kept)
        if best is None or off < best[0]:
            best = (off, candidate)
    assert best is not None
    return best[1]


def finetune(method: str, seed: int, epochs: int, test: Dataset) -> None:
    """One run, unless it is already there: the network, and what was measured of it."""
    stem = stem_of(method, seed, epochs)
    if stem.with_suffix(".json").is_file():
        return
    network = zoo.load("resnet20")
    small = ours(network, 0.5, seed) if method == METHODS[0] else theirs(network, 0.5)
    row: dict[str, Any] = {
        "method": method,
        "seed": seed,
        "macs": measure.macs(small, SHAPE),
        "macs_dense": measure.macs(network, SHAPE),
        "parameters": measure.n_parameters(small),
        "accuracy_dense": evaluate(network, test),
        "accuracy_cut": evaluate(small, test),
        "recipe": asdict(recipe(seed, epochs)),
    }
    print({k: v for k, v in row.items() if k != "recipe"}, flush=True)
    started = time.process_time()
    small = small.to(memory_format=torch.channels_last)
    history = fit(small, fashion_mnist("train"), recipe(seed, epochs), test=test.take(2000), progress=True)
    row.update(
        loss_by_epoch=history.loss,
        accuracy_by_epoch_2000=history.accuracy,
        cpu_seconds=time.process_time() - started,
        accuracy=evaluate(small, test),
        size_bytes=measure.saved_size(small),
    )
    save_file({k: v.contiguous() for k, v in small.state_dict().items()}, stem.with_suffix(".safetensors"))
    stem.with_suffix(".json").write_text(json.dumps(row, indent=1) + "\n", encoding="utf-8")
    print(row, flush=True)


def publish(epochs: int) -> None:
    """Puts our network of seed 0 into the zoo, as resnet20-half."""
    stem = stem_of(METHODS[0], 0, epochs)
    row = json.loads(stem.with_suffix(".json").read_text(encoding="utf-8"))
    network = resize_(zoo.load("resnet20"), state := load_file(stem.with_suffix(".safetensors")))
    network.load_state_dict(state)
    dense, first = zoo.load("resnet20"), fashion_mnist("test").take(2000)
    facts = {
        "parent": "resnet20",
        "data": "Fashion-MNIST, 60,000 training images; 1,000 of them for the scores",
        "pruning": "Taylor scores per MAC saved, half of the MACs kept",
        "accuracy_dense": round(row["accuracy_dense"], 4),
        "accuracy_cut": round(row["accuracy_cut"], 4),
        "on_the_first_2000_test_images": {
            "dense": round(evaluate(dense, first), 4),
            "cut": round(evaluate(ours(dense, 0.5, 0), first), 4),
            "by_epoch": [round(a, 4) for a in row["accuracy_by_epoch_2000"]],
        },
        "recipe": row["recipe"],
    }
    command = "python benchmarks/channels.py"
    script = f"{command} finetune --seeds 0 --epochs {epochs} && {command} publish --epochs {epochs}"
    print(json.dumps(zoo.publish("resnet20-half", network, script=script, facts=facts), indent=1))


def ladder(repeats: int) -> None:
    """MACs and latency of ResNet-20 with fewer and fewer channels, eager and in ONNX Runtime, batch 1 and 64."""
    network = zoo.load("resnet20")
    rows: list[dict[str, Any]] = []
    for layout in ("uniform", "multiples of 8"):
        models: dict[str, nn.Module] = {"dense": network}
        for percent in (0, 10, 20, 30, 40, 50, 60, 70):
            step = 8 if layout != "uniform" else 1
            config = ChannelPruning(ratio=percent / 100, importance=Magnitude(p=1), multiple_of=step)
            models[str(percent)] = prune_channels(network, torch.zeros(1, *SHAPE), config)
        for batch in (1, 64):
            for engine, runnable in (("eager", models), ("ONNX Runtime", _sessions(models, batch))):
                rounds = repeats * (10 if batch == 1 else 1)
                times = measure.latency(runnable, torch.randn(batch, *SHAPE), repeats=rounds)
                for name, model in models.items():
                    share = measure.macs(model, SHAPE) / measure.macs(network, SHAPE)
                    rows.append(
                        {"layout": layout, "engine": engine, "batch": batch, "removed": name, "macs": share,
                         "parameters": measure.n_parameters(model), **asdict(times[name])}
                    )  # fmt: skip
                print(layout, batch, engine, {n: round(t.ratio, 3) for n, t in times.items()}, flush=True)
    CACHE.mkdir(parents=True, exist_ok=True)
    (CACHE / "ladder.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def _sessions(models: dict[str, nn.Module], batch: int) -> dict[str, Any]:
    """The same models in ONNX Runtime, one thread each."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    sessions: dict[str, Any] = {}
    for name, model in models.items():
        path = CACHE / f"ladder-{name}-{batch}.onnx"
        CACHE.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                model, (torch.zeros(batch, *SHAPE),), path, dynamo=True, verbose=False, external_data=False
            )
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        key = session.get_inputs()[0].name
        sessions[name] = lambda x, session=session, key=key: session.run(None, {key: x.numpy()})
        path.unlink()
    return sessions


def final_latency(rows: list[dict[str, Any]], repeats: int) -> list[dict[str, Any]]:
    """Time of the seed-0 networks of both ways beside the dense one."""
    network = zoo.load("resnet20")
    models = {"dense": network}
    for row in rows:
        if row["seed"] == 0:
            models[row["method"]] = (
                ours(network, 0.5, 0) if row["method"] == METHODS[0] else theirs(network, 0.5)
            )
    result = []
    for batch in (1, 64):
        for engine, runnable in (("eager", models), ("ONNX Runtime", _sessions(models, batch))):
            rounds = repeats * (10 if batch == 1 else 1)  # a short call is hit harder by what else runs
            times = measure.latency(runnable, torch.randn(batch, *SHAPE), repeats=rounds)
            result += [{"engine": engine, "batch": batch, "model": n, **asdict(t)} for n, t in times.items()]
    return result


def _pm(values: list[float], form: str = ".2f") -> str:
    spread = f" ± {statistics.stdev(values):{form}}" if len(values) > 1 else ""
    return f"{statistics.mean(values):{form}}{spread}"


def report(repeats: int, epochs: int) -> None:
    """Writes benchmarks/results/channels.{json,md} and two plots."""
    found = sorted(CACHE.glob(f"*-{epochs}-epochs-[0-9].json"))
    rows = [json.loads(path.read_text(encoding="utf-8")) for path in found]
    ladder_file = CACHE / "ladder.json"
    steps = json.loads(ladder_file.read_text(encoding="utf-8")) if ladder_file.is_file() else []
    times = final_latency(rows, repeats)
    everything = {"machine": _machine(), "runs": rows, "ladder": steps, "latency": times}
    (RESULTS / "channels.json").write_text(json.dumps(everything, indent=1) + "\n", encoding="utf-8")
    lines = ["# Channel pruning", "", f"{_machine()}, one thread.", "", *_accuracy_table(rows), ""]
    lines += [*_latency_table(rows, times), "", *(_ladder_table(steps) if steps else []), ""]
    (RESULTS / "channels.md").write_text("\n".join(lines), encoding="utf-8")
    _plots(rows, steps)


def _machine() -> str:
    names = [
        line.split(":")[1].strip()
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if "model name" in line
    ]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"


def _accuracy_table(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        f"ResNet-20 on Fashion-MNIST at half its MACs; seeds {sorted({r['seed'] for r in rows})}, mean ± sd over all "
        f"10,000 test images; {rows[0]['recipe']['epochs'] if rows else 0} epochs of fine-tuning, the same for both.",
        "",
        "| | MACs kept (%) | parameters | after surgery (%) | fine-tuned (%) | change (points) |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for method in METHODS:
        own = [r for r in rows if r["method"] == method]
        if not own:
            continue
        lines.append(
            f"| {method} | {_pm([100 * r['macs'] / r['macs_dense'] for r in own])} "
            f"| {_pm([r['parameters'] for r in own], ',.0f')} | {_pm([100 * r['accuracy_cut'] for r in own])} "
            f"| {_pm([100 * r['accuracy'] for r in own])} "
            f"| {_pm([100 * (r['accuracy'] - r['accuracy_dense']) for r in own], '+.2f').replace('± +', '± ')} |"
        )
    return lines


def _latency_table(rows: list[dict[str, Any]], times: list[dict[str, Any]]) -> list[str]:
    lines = [
        "Time of the seed-0 networks as a ratio to the dense one's, in one run; "
        f"load average of the machine meanwhile {os.getloadavg()[0]:.1f} (above its cores, times are rough):",
        "",
        f"| engine | batch | dense (ms, median) | {' | '.join(METHODS)} |",
        "| --- | --- | --- | --- | --- |",
    ]
    for engine in ("eager", "ONNX Runtime"):
        for batch in (1, 64):
            here = {t["model"]: t for t in times if (t["engine"], t["batch"]) == (engine, batch)}
            cells = [f"{here[m]['ratio']:.2f}" if m in here else "" for m in METHODS]
            lines.append(f"| {engine} | {batch} | {here['dense']['median_ms']:.2f} | {' | '.join(cells)} |")
    return lines


def _ladder_table(steps: list[dict[str, Any]]) -> list[str]:
    kinds = [(engine, batch) for engine in ("eager", "ONNX Runtime") for batch in (1, 64)]
    lines = [
        "Channels removed from every group, without training: MACs and time as ratios to the dense network.",
        "",
        f"| layout | removed (%) | MACs | {' | '.join(f'{e}, batch {b}' for e, b in kinds)} |",
        "| --- | --- | --- |" + " --- |" * len(kinds),
    ]
    for layout in ("uniform", "multiples of 8"):
        here = [s for s in steps if s["layout"] == layout and s["removed"] != "dense"]
        for removed in dict.fromkeys(s["removed"] for s in here):
            own = {(s["engine"], s["batch"]): s for s in here if s["removed"] == removed}
            cells = " | ".join(f"{own[kind]['ratio']:.2f}" for kind in kinds)
            lines.append(f"| {layout} | {removed} | {own[kinds[0]]['macs']:.2f} | {cells} |")
    return lines


def _save(axes: Any, name: str) -> None:
    axes.get_figure(root=True).savefig(RESULTS / name, dpi=110)


def _plots(rows: list[dict[str, Any]], steps: list[dict[str, Any]]) -> None:
    if steps:
        _plot_ladder(steps)
    if rows:
        _plot_finetuning(rows)


def _plot_ladder(steps: list[dict[str, Any]]) -> None:
    here = [s for s in steps if s["layout"] == "uniform" and s["removed"] != "dense"]
    removed = [int(s["removed"]) for s in here if (s["engine"], s["batch"]) == ("eager", 1)]
    curves = {
        f"{e}, batch {b}": [s["ratio"] for s in here if (s["engine"], s["batch"]) == (e, b)]
        for e in ("eager", "ONNX Runtime")
        for b in (1, 64)
    }
    curves["MACs"] = [s["macs"] for s in here if (s["engine"], s["batch"]) == ("eager", 1)]
    axes = plot.lines(
        removed, curves, xlabel="channels removed from every group (%)", ylabel="ratio to the dense network",
        title="Time does not follow the MACs", xticks=removed,
    )  # fmt: skip
    _save(axes, "channels-ladder.png")


def _plot_finetuning(rows: list[dict[str, Any]]) -> None:
    epochs = range(1, len(rows[0]["loss_by_epoch"]) + 1)
    means = {
        method: [
            statistics.mean(r["accuracy_by_epoch_2000"][e] for r in rows if r["method"] == method)
            for e in range(len(epochs))
        ]
        for method in METHODS
        if any(r["method"] == method for r in rows)
    }
    axes = plot.lines(
        list(epochs),
        means,
        percent=True,
        xlabel="epochs of fine-tuning",
        ylabel="accuracy on 2,000 test images",
        title="Half the MACs: fine-tuning brings the accuracy back",
        references={"dense": evaluate(zoo.load("resnet20"), fashion_mnist("test").take(2000))},
    )
    _save(axes, "channels-finetuning.png")


def main() -> None:
    """Runs the parts named on the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=("finetune", "publish", "ladder", "report"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--epochs", type=int, default=4, help="of fine-tuning")
    parser.add_argument("--repeats", type=int, default=30, help="rounds of each latency measurement")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    CACHE.mkdir(parents=True, exist_ok=True)
    if arguments.part == "finetune":
        test = fashion_mnist("test")
        for seed in arguments.seeds:
            for method in arguments.methods:
                finetune(method, seed, arguments.epochs, test)
    elif arguments.part == "publish":
        publish(arguments.epochs)
    elif arguments.part == "ladder":
        ladder(arguments.repeats)
    else:
        report(arguments.repeats, arguments.epochs)


if __name__ == "__main__":
    main()
