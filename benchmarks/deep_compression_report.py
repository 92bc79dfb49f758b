"""The tables and the plot of `benchmarks/deep_compression.py`."""

from __future__ import annotations

import os
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from coursekit import plot, zoo

Rows = Mapping[str, Mapping[str, Any]]
STAGES = {
    "dense": "dense, as saved here",
    "pruned": "pruned",
    "shared": "+ shared",
    "huffman": "+ Huffman-coded",
}
# Han, Mao and Dally 2016, tables 1 to 3, on MNIST: size in KB, times smaller, error; stage by stage.
PAPER = {
    "lenet300": {
        "dense": "1070 KB, 1.64 %",
        "pruned": "12×",
        "shared": "32×",
        "huffman": "27 KB, 40×, 1.58 %",
    },
    "lenet5": {"dense": "1720 KB, 0.80 %", "pruned": "12×", "shared": "33×", "huffman": "44 KB, 39×, 0.74 %"},
}
ABOUT = (
    "Every size is that of a file that was loaded again and compared, with a Huffman word for each symbol: words for "
    "pairs, which came later, take 0.5 and 0.1 % off the two LeNets. Accuracies are means ± standard deviations "
    "over the seeds of pruning and of training the centroids; sizes are compared with the zoo's safetensors file. "
    "Both trainings went towards the labels and the logits of the zoo's resnet20, which the dense networks' did "
    "not: part of the accuracy is distillation's. The stages `pruned` and `+ shared` have codes of a fixed number "
    "of bits. Plans were first tried on 5,000 held-out training images "
    "(`pilot/…` in the json); the exception is told below."
)
NAMES = {"lenet300": "LeNet-300-100", "lenet5": "LeNet-5"}


def machine() -> str:
    """The processor's name, and how many cores are there."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else 'unknown processor'}, {os.cpu_count()} cores, one thread"


def spread(values: list[float], form: str) -> str:
    """Mean ± sample standard deviation."""
    sd = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{format(statistics.fmean(values), form)} ± {format(sd, form)}"


def of(rows: Rows, name: str) -> list[Mapping[str, Any]]:
    """The runs of a network, by seed."""
    return [rows[key] for key in sorted(rows) if key.startswith(f"{name}/")]


def stage_table(rows: Rows, name: str) -> str:
    """A row a stage: accuracy, bytes, times smaller than the zoo's file, and what the paper has."""
    runs = of(rows, name)
    lines = [
        f"## {NAMES[name]}: {len(runs)} seeds, {runs[0]['weights']:,} weights",
        "",
        "| stage | test accuracy | bytes of the file | times smaller | the paper, MNIST (error) |",
        "| --- | --- | --- | --- | --- |",
    ]
    for stage, label in STAGES.items():
        accuracy = spread([run[stage]["accuracy"] for run in runs], ".2%")
        size = spread([run[stage]["bytes"] for run in runs], ",.0f")
        ratio = statistics.fmean(run["file"] / run[stage]["bytes"] for run in runs)
        lines.append(f"| {label} | {accuracy} | {size} | {ratio:.1f} | {PAPER[name][stage]} |")
    return "\n".join(lines) + "\n"


def parts_table(rows: Rows, name: str) -> str:
    """What takes the bytes of the first seed's files; the columns add up to the files."""
    run = of(rows, name)[0]
    stages = [stage for stage in STAGES if stage != "dense"]
    kinds = list(dict.fromkeys(kind for stage in stages for kind in run[stage]["parts"]))
    lines = [
        "| bytes, first seed | " + " | ".join(STAGES[s] for s in stages) + " |",
        "| --- |" + " --- |" * len(stages),
    ]
    for kind in kinds:
        lines.append(f"| {kind} | " + " | ".join(f"{run[s]['parts'].get(kind, 0):,}" for s in stages) + " |")
    lines.append("| **file** | " + " | ".join(f"**{run[s]['bytes']:,}**" for s in stages) + " |")
    kept = ", ".join(f"{each.removesuffix('.weight')} {share:.1%}" for each, share in run["kept"].items())
    bits = {kind: 8 * run["huffman"]["parts"][kind] / run["nonzero"] for kind in ("indices", "positions")}
    lines += [
        "",
        f"Kept: {kept}; {run['nonzero']:,} weights in all. Bits for each of them, headers of the codes included: "
        f"{bits['indices']:.2f} for its value, {bits['positions']:.2f} for its place.",
    ]
    return "\n".join(lines) + "\n"


def resnet_table(rows: Rows, path: Path) -> str:
    """ResNet-20's points, and the plot of them."""
    dense, size = zoo.card("resnet20")["test_accuracy"], os.path.getsize(zoo.path("resnet20"))
    found = {key.removeprefix("resnet20/"): row for key, row in rows.items() if key.startswith("resnet20/")}
    lines = [
        f"## ResNet-20 (dense {dense:.2%}, {size:,} bytes)",
        "",
        "| pruned | clusters a layer | test accuracy | bytes of the file | times smaller |",
        "| --- | --- | --- | --- | --- |",
    ]
    series: dict[str, list[tuple[float, float]]] = {}
    for key, row in sorted(found.items(), key=lambda item: -item[1]["bytes"]):
        sparsity, how = key.split("/")
        trained = how == "trained"
        clusters = how if how.isdigit() else "16, trained" if trained else "16"
        times = size / row["bytes"]
        lines.append(
            f"| {float(sparsity):.0%} | {clusters} | {row['accuracy']:.2%} | {row['bytes']:,} | {times:.1f} |"
        )
        kind = (
            "shared"
            if how.isdigit()
            else "pruned, shared, centroids trained"
            if trained
            else "pruned, shared"
        )
        series.setdefault(kind, []).append((times, row["accuracy"]))
    _frontier(series, dense, path)
    return "\n".join(lines) + f"\n\n![frontier]({path.name})\n"


def _frontier(series: Mapping[str, list[tuple[float, float]]], dense: float, path: Path) -> None:
    plot.style()
    figure, ax = plt.subplots(figsize=(6.4, 4.2))
    for marker, (kind, points) in zip("osD", series.items(), strict=False):
        ax.plot(*zip(*sorted(points), strict=True), marker=marker, label=kind)
    ax.axhline(dense - 0.01, linestyle=":", color="grey", label="one point below dense")
    ax.set(xlabel="times smaller than the dense file", ylabel="accuracy on 10,000 test images")
    ax.set_title("ResNet-20: pruned and shared beats shared alone, by far")
    ax.legend()
    figure.savefig(path, dpi=110, bbox_inches="tight")
    plt.close(figure)


def write(rows: Rows, results: Path) -> None:
    """Writes the table and the plot beside the rows."""
    parts = [
        "# Deep Compression by the size of a file\n",
        f"{machine()}; all of Fashion-MNIST. {ABOUT}\n",
    ]
    for name in NAMES:
        if of(rows, name):
            parts += [stage_table(rows, name), parts_table(rows, name)]
    for key, row in rows.items():
        if key.startswith("short/"):
            parts.append(
                f"A first, shorter plan for {NAMES[key.split('/')[1]]} ({row['plan']['sparsity']:.0%} pruned, "
                f"{row['plan']['clusters']} clusters, {row['plan']['prune_epochs']} + {row['plan']['share_epochs']} "
                "epochs, "
                f"one seed) ended at {row['huffman']['accuracy']:.2%} with {row['huffman']['bytes']:,} bytes, "
                f"{row['file'] / row['huffman']['bytes']:.1f} times smaller; the dense network has "
                f"{row['dense']['accuracy']:.2%}. The longer plan was taken after that had been seen.\n"
            )
    if of(rows, "resnet20"):
        parts.append(resnet_table(rows, results.parent / "deep_compression.png"))
    results.with_suffix(".md").write_text("\n".join(parts), encoding="utf-8")
    print("\n".join(parts))
