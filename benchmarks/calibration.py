"""What static int8 quantization is calibrated on, and how ranges are chosen: accuracy on all 10,000 test images.

python benchmarks/calibration.py          # about a quarter of an hour on one core; resumes where it stopped
python benchmarks/calibration.py --show   # only the table and the plot, from results/calibration.json

Three seeds choose the 500 calibration images (or the noise). Activations have 8 or 4 bits, weights 8, per channel.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from coursekit import plot, zoo
from coursekit.data import Dataset, fashion_mnist
from coursekit.deploy import OrtModel, engine_accuracy, export_qdq
from coursekit.quantization import (
    HistogramObserver,
    MinMaxObserver,
    MovingAverageObserver,
    Observer,
    PercentileObserver,
    QuantizedModel,
    StaticConfig,
    quantize_static,
)
from coursekit.train import evaluate

__all__ = ["main"]

RESULTS = Path(__file__).parent / "results" / "calibration.json"
NETWORKS, BITS, SEEDS = ("lenet300", "lenet5", "resnet20"), (8, 4), (0, 1, 2)
OBSERVERS: dict[str, Callable[[int], Observer]] = {
    "min-max": lambda bits: MinMaxObserver(),
    "moving average": lambda bits: MovingAverageObserver(),
    "percentile 99.9": lambda bits: PercentileObserver(99.9),
    "MSE": lambda bits: HistogramObserver("mse", bits),
    "KL": lambda bits: HistogramObserver("kl", bits),
}
MEAN, SPREAD = 0.2860, 0.3530  # of the pixels, which the images were normalised with


def sources(train: Dataset, seed: int) -> dict[str, Tensor]:
    """The calibration sets of a seed: images, few of them, noise like images or like pixels, one image left raw."""
    generator = torch.Generator().manual_seed(seed)
    real = train.images[torch.randperm(len(train), generator=generator)[:500]]
    one_raw = real.clone()
    one_raw[250] = (real[250] * SPREAD + MEAN) * 255
    return {
        "500 images": real,
        "10 images": real[:10],
        "normal noise": torch.randn(real.shape, generator=generator),
        "uniform noise in 0..1": torch.rand(real.shape, generator=generator),
        "500 images, one of them raw 0..255": one_raw,
    }


def cases() -> list[tuple[str, str, str, int, int]]:
    """(network, source, observer, bits, seed): every observer on images, min-max on noise."""
    found = [
        (name, source, observer, bits, seed)
        for name in NETWORKS
        for seed in SEEDS
        for bits in BITS
        for source in sources(fashion_mnist("train", subset=True).take(500), seed)
        for observer in (OBSERVERS if source.startswith("500") else ("min-max",))
    ]
    return sorted(
        found, key=lambda case: case[2] != "min-max"
    )  # what the sources do first, then the observers


def run(record: dict) -> None:
    """Measures what the record does not have yet, writing after each case."""
    train, test = fashion_mnist("train"), fashion_mnist("test")
    record["facts"] = {
        "test_images": len(test),
        "data": test.source,
        "machine": machine(),
        "torch": torch.__version__,
    }
    measured = record.setdefault("accuracy", {})
    for name in NETWORKS:
        measured.setdefault(f"{name}/float32", evaluate(zoo.load(name), test))
    for name, source, observer, bits, seed in cases():
        key = f"{name}/{source}/{observer}/{bits}/{seed}"
        if key in measured:
            continue
        images = sources(train, seed)[source]
        config = StaticConfig(activation_bits=bits, observer=lambda o=observer, b=bits: OBSERVERS[o](b))
        quantized = quantize_static(zoo.load(name), images, config)
        measured[key] = in_runtime(quantized, test)
        print(f"{key}: {measured[key]:.4f}", flush=True)
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(record, indent=1) + "\n")


def in_runtime(quantized: QuantizedModel, test: Dataset) -> float:
    """Accuracy in ONNX Runtime, whose codes are within a step of ours and which is some times quicker."""
    with tempfile.TemporaryDirectory() as folder:
        export_qdq(quantized, f"{folder}/int8.onnx")
        return engine_accuracy(OrtModel(f"{folder}/int8.onnx"), test, 100)


def machine() -> str:
    """Processor, cores, threads."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores, one thread"


def cell(measured: dict[str, float], name: str, source: str, observer: str, bits: int) -> str:
    """Mean and standard deviation over the seeds, in per cent, or a dash."""
    values = [measured.get(f"{name}/{source}/{observer}/{bits}/{seed}") for seed in SEEDS]
    found = [100 * v for v in values if v is not None]
    if len(found) < 2:
        return "–"
    return f"{statistics.mean(found):.2f} ± {statistics.stdev(found):.2f}"


def rows(measured: dict[str, float]) -> list[tuple[str, str, list[str]]]:
    """(source, observer, cells by network and bits) in the order of `cases`."""
    order = list(dict.fromkeys((source, observer) for _, source, observer, _, _ in cases()))
    return [
        (source, observer, [cell(measured, n, source, observer, b) for b in BITS for n in NETWORKS])
        for source, observer in order
    ]


def table(record: dict) -> str:
    """The Markdown table."""
    measured, facts = record["accuracy"], record["facts"]
    heads = [f"{name}, {bits} bits" for bits in BITS for name in NETWORKS]
    floats = ", ".join(f"{name} {100 * measured[name + '/float32']:.2f}" for name in NETWORKS)
    lines = [
        f"# Calibration: accuracy in per cent on {facts['test_images']:,} test images",
        "",
        "Static quantization, weights 8 bits per channel, activations 8 or 4 bits; mean ± standard deviation over",
        f"three seeds of the calibration set. float32: {floats}.",
        f"{facts['data']}; {facts['machine']}; torch {facts['torch']}.",
        "",
        "| calibrated on | ranges by | " + " | ".join(heads) + " |",
        "| --- | --- |" + " --- |" * len(heads),
    ]
    return (
        "\n".join(lines + [f"| {s} | {o} | {' | '.join(cells)} |" for s, o, cells in rows(measured)]) + "\n"
    )


def draw(record: dict) -> None:
    """Accuracy of ResNet-20 by what it was calibrated on, at both numbers of bits."""
    measured = record["accuracy"]
    groups: dict[str, dict[str, float]] = {}
    for bits in BITS:
        group = groups.setdefault(f"activations in {bits} bits", {})
        for source in sources(fashion_mnist("train", subset=True).take(500), 0):
            values = [measured[f"resnet20/{source}/min-max/{bits}/{seed}"] for seed in SEEDS]
            group[source.replace(", ", ",\n").replace(" in ", "\nin ")] = 100 * statistics.mean(values)
    ax = plot.bars(
        groups,
        title="ResNet-20, min-max ranges: noise is no calibration set",
        ylabel="accuracy (%), 10,000 images",
    )
    ax.figure.savefig(RESULTS.with_suffix(".png"), dpi=110, bbox_inches="tight")


def main() -> None:
    """Runs what is missing, writes the table and the plot."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--show", action="store_true", help="only the table and the plot")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    record = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if not arguments.show:
        run(record)
    RESULTS.with_suffix(".md").write_text(table(record))
    draw(record)
    print(table(record))


if __name__ == "__main__":
    main()
