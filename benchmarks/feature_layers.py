"""At which of a teacher's stages attention transfer pays: a student of 19,810 parameters on 500 images.

    python benchmarks/feature_layers.py choose              # the weight beta, on held-out training images
    python benchmarks/feature_layers.py rows --seeds 0 1 2  # each stage, equal epochs, the same images
    python benchmarks/feature_layers.py report              # table, plot, what lesson 09 shows

Few images are where a teacher has most to add. Each run is kept in build/feature_layers and not done twice. The last
2,000 images of the training subset are held out, and beta is chosen on them alone; the 10,000 test images measure
last weights. The seed draws a student's first weights and the order of its images.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from coursekit import plot, zoo  # noqa: E402
from coursekit.data import Dataset, fashion_mnist  # noqa: E402
from coursekit.distillation import (  # noqa: E402
    AttentionTransfer,
    Objective,
    StudentAlone,
    Weighted,
    attention_loss,
    capture_features,
    distill,
)
from coursekit.models import ResNet  # noqa: E402
from coursekit.train import Recipe, evaluate  # noqa: E402

BUILD, RESULTS = ROOT / "build" / "feature_layers", ROOT / "benchmarks" / "results"
ASSET = ROOT / "coursekit" / "assets" / "feature_layers.json"
IMAGES, HELD_OUT, EPOCHS, BATCH = 500, 2_000, 10, 50
STAGES = ("stage1", "stage2", "stage3")
BETAS = (3.0, 10.0, 30.0)
WAYS = {
    "alone": (),
    "attention, stage 1": STAGES[:1],
    "attention, stage 2": STAGES[1:2],
    "attention, stage 3": STAGES[2:],
    "attention, all stages": STAGES,
}


class Everything(Weighted):
    """Any objectives, with all three stages of the teacher asked for, so that all runs share one cache."""

    teacher_layers = STAGES


def objective(stages: tuple[str, ...], beta: float) -> Weighted:
    """The labels, and beside them attention transfer at these stages."""
    parts: dict[str, tuple[float, Objective]] = {"labels": (1.0, StudentAlone())}
    if stages:
        parts["attention"] = (1.0, AttentionTransfer([(stage, stage) for stage in stages], beta))
    return Everything(parts)


def once(key: str, stages: tuple[str, ...], beta: float, seed: int, choosing: bool) -> dict[str, Any]:
    """What one run measured, kept in a file."""
    path = BUILD / f"{key.replace(' ', '-').replace(',', '')}.json"
    if path.is_file():
        return json.loads(path.read_text(encoding="utf-8"))
    data, started = fashion_mnist("train", subset=True), time.process_time()
    held_out = Dataset(data.images[-HELD_OUT:], data.labels[-HELD_OUT:], data.classes, data.source)
    torch.manual_seed(seed)
    student, teacher = ResNet(n_blocks=1, width=8), zoo.load("resnet20")
    recipe = Recipe(epochs=EPOCHS, batch_size=BATCH, peak_lr=0.2, seed=seed)
    distill(student, teacher, data.take(IMAGES), objective(stages, beta), recipe, cache=BUILD / "cache")
    row: dict[str, Any] = {"key": key, "weight": beta, "seed": seed}
    if choosing:
        row["held_out"] = evaluate(student, held_out)
    else:
        test = fashion_mnist("test")
        row |= {
            "accuracy": evaluate(student, test),
            "attention": distances(student, teacher, test.images[:1000]),
        }
    row["cpu_seconds"] = round(time.process_time() - started, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(row, indent=1) + "\n", encoding="utf-8")
    print(row, flush=True)
    return row


@torch.no_grad()
def distances(student: torch.nn.Module, teacher: torch.nn.Module, images: Tensor) -> dict[str, float]:
    """How far the student's attention maps are from the teacher's, by stage."""
    mine, theirs = (capture_features(network, images, STAGES) for network in (student, teacher))
    return {stage: attention_loss(mine[stage], theirs[stage]).item() for stage in STAGES}


def chosen() -> float:
    """The beta that is best on held-out images, at all three stages; seed 100, which no row uses."""
    tried = [once(f"choose attention {beta:g}", STAGES, beta, 100, choosing=True) for beta in BETAS]
    return max(tried, key=lambda row: row["held_out"])["weight"]


def rows(seeds: Iterable[int]) -> dict[str, list[dict[str, Any]]]:
    """Every way with every seed."""
    return {
        way: [
            once(f"{way} {seed}", stages, chosen() if stages else 0.0, seed, choosing=False) for seed in seeds
        ]
        for way, stages in WAYS.items()
    }


def machine() -> str:
    """Processor and cores."""
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").is_file() else ""
    names = [line.split(":", 1)[1].strip() for line in info.splitlines() if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores, one thread"


def report(seeds: list[int]) -> None:
    """The table, the plot, and the asset, from what the runs left."""
    measured = rows(seeds)
    alone = [row["accuracy"] for row in measured["alone"]]
    ways = {}
    for way, runs in measured.items():
        accuracy = [row["accuracy"] for row in runs]
        gains = [a - b for a, b in zip(accuracy, alone, strict=True)]
        ways[way] = {
            "accuracy": [round(a, 4) for a in accuracy],
            "gain": [round(gain, 4) for gain in gains],
            "weight": runs[0]["weight"],
            "attention": {s: round(statistics.mean(r["attention"][s] for r in runs), 4) for s in STAGES},
        }
    facts = {
        "script": "python benchmarks/feature_layers.py report",
        "machine": machine(),
        "recipe": f"ResNet-8 of width 8, {IMAGES:,} images, {EPOCHS} epochs, SGD, no augmentation; 10,000 test images",
        "teacher": "resnet20",
        "seeds": seeds,
        "held_out": {
            f"{beta:g}": json.loads((BUILD / f"choose-attention-{beta:g}.json").read_text(encoding="utf-8"))["held_out"]
            for beta in BETAS
        },
        "ways": ways,
    }  # fmt: skip
    text = json.dumps(facts, indent=1) + "\n"
    ASSET.write_text(text, encoding="utf-8")
    (RESULTS / "feature_layers.json").write_text(text, encoding="utf-8")
    (RESULTS / "feature_layers.md").write_text(table(facts), encoding="utf-8")
    means = {way: statistics.mean(values["accuracy"]) for way, values in ways.items() if way != "alone"}
    ax: Any = plot.bars(
        {way.replace(", ", "\n"): mean for way, mean in means.items()},
        title="What attention transfer is worth, stage by stage, 500 images", ylabel="test accuracy", percent=True,
        references={"alone": statistics.mean(alone)},
    )  # fmt: skip
    ax.set_ylim(min(statistics.mean(alone), *means.values()) - 0.02, max(means.values()) + 0.015)
    ax.get_figure(root=True).savefig(RESULTS / "feature_layers.png", dpi=100)


def table(facts: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = [
        "# Attention transfer, stage by stage", "",
        f"{facts['recipe']}. Teacher: {facts['teacher']}. {facts['machine']}.",
        f"Mean ± standard deviation over seeds {facts['seeds']}; gains are over the student alone with the same seed. "
        "Beta was chosen on 2,000 held-out training images with another seed.", "",
        "| way | beta | test accuracy | gain over alone | distance of attention maps, stage 1 / 2 / 3 |",
        "| --- | --- | --- | --- | --- |",
    ]  # fmt: skip
    for way, values in facts["ways"].items():
        accuracy, gain = (
            (statistics.mean(v), statistics.stdev(v)) for v in (values["accuracy"], values["gain"])
        )
        apart = " / ".join(f"{values['attention'][stage]:.3f}" for stage in STAGES)
        plus = "–" if way == "alone" else f"{100 * gain[0]:+.2f} ± {100 * gain[1]:.2f}"
        weight = f"{values['weight']:g}" if values["weight"] else "–"
        lines.append(f"| {way} | {weight} | {accuracy[0]:.2%} ± {100 * accuracy[1]:.2f} | {plus} | {apart} |")
    lines += [
        "",
        "Paper, for scale (CIFAR-10, WRN-16-1 from WRN-16-2, error in %, Zagoruyko and Komodakis 2017): "
        "student 8.77, attention transfer 7.93, full-activation transfer 8.51.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=["choose", "rows", "report"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    if arguments.part == "choose":
        print(chosen())
    else:
        rows(arguments.seeds) if arguments.part == "rows" else report(arguments.seeds)
