"""Quantization-aware training of ResNet-20 with few bits, and Krishnamoorthi's pattern on a depthwise network.

    python benchmarks/qat.py resnet --seeds 0 1 2      # 8, 4 and 2 bits: post-training, then trained for a little
    python benchmarks/qat.py mobilenet --seeds 0 1 2   # per tensor, per channel, equalized, corrected, trained
    python benchmarks/qat.py publish                   # the 4-bit ResNet of seed 0 into the zoo
    python benchmarks/qat.py report                    # table and plots from whatever is there

Each run is kept in build/qat and not done twice. The seed draws the training images, their order and augmentation; the
number of epochs and the learning rates were chosen on held-out training images, the test images choose nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import torch  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from torch import nn  # noqa: E402

from coursekit import plot, zoo  # noqa: E402
from coursekit.data import Dataset, fashion_mnist  # noqa: E402
from coursekit.quantization import (  # noqa: E402
    HistogramObserver,
    QATConfig,
    activation_ranges,
    calibrate,
    correct_biases,
    equalize,
    fold_batch_norms,
    prepare_qat,
    train_quantized,
)
from coursekit.train import Recipe, evaluate  # noqa: E402

CACHE = ROOT / "build" / "qat"
RESULTS = ROOT / "benchmarks" / "results"
RESNET = {
    "8 bits": QATConfig(8, 8),
    "4 bits": QATConfig(4, 4),
    "2-bit weights": QATConfig(2, 4, learn_steps=True),
}
N_IMAGES = 20_000


def recipe(name: str, seed: int) -> Recipe:
    """A little training: 157 steps a 20,000 images and epoch."""
    if name == "2-bit weights":
        return Recipe(epochs=2, peak_lr=0.05, augment=True, bfloat16=True, seed=seed)
    return Recipe(epochs=1, peak_lr=0.02, augment=True, bfloat16=True, seed=seed)


def drawn(seed: int, n: int) -> Dataset:
    """n training images drawn by the seed."""
    train = fashion_mnist("train")
    chosen = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))[:n]
    return Dataset(train.images[chosen], train.labels[chosen], train.classes, f"{n} of {train.source}")


def once(key: str, run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What the run of this name measured, kept in a file."""
    path = CACHE / f"{key.replace(' ', '-').replace('+', 'and')}.json"
    if path.is_file():
        return json.loads(path.read_text(encoding="utf-8"))
    started = time.process_time()
    row = {"key": key, **run(), "cpu_seconds": round(time.process_time() - started)}
    path.write_text(json.dumps(row, indent=1) + "\n", encoding="utf-8")
    print({k: v for k, v in row.items() if k != "ranges"}, flush=True)
    return row


def post_training(network: nn.Module, config: QATConfig, test: Dataset, *, observer: str = "average") -> dict[str, Any]:
    """Accuracy with the ranges of 500 training images, and no training."""
    model = prepare_qat(network, config)
    images = drawn(0, 500).images
    if observer == "mse":
        calibrate(model, images, observer=lambda q: HistogramObserver("mse", q.n_bits))
    else:
        calibrate(model, images)
    return {"accuracy": evaluate(model, test)}


def trained(
    network: nn.Module, config: QATConfig, settings: Recipe, test: Dataset, keep: Path | None = None
) -> dict[str, Any]:
    """Accuracy after calibration and training; the weights and ranges kept, if asked for."""
    train = drawn(settings.seed, N_IMAGES)
    model = prepare_qat(network, config)
    calibrate(model, train.images[:500])
    model = model.to(memory_format=torch.channels_last)
    history = train_quantized(model, train, settings, progress=False)
    if keep is not None:
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, keep)
    return {"accuracy": evaluate(model, test), "loss": history.loss, "ranges": activation_ranges(model)}


def resnet(seeds: list[int]) -> None:
    """All runs of ResNet-20."""
    test, network = fashion_mnist("test"), zoo.load("resnet20")
    order = ("4 bits", "2-bit weights", "8 bits")
    for name in order:
        config = RESNET[name]
        once(f"resnet {name} post-training", lambda c=config: post_training(network, c, test))
        if name != "8 bits":
            learned = QATConfig(config.weight_bits, config.activation_bits, learn_steps=True)
            once(
                f"resnet {name} post-training clipped",
                lambda c=learned: post_training(network, c, test, observer="mse"),
            )
    for seed in seeds:
        for name in order[:2]:
            keep = CACHE / f"resnet-{name.replace(' ', '-')}-{seed}.safetensors"
            once(
                f"resnet {name} trained {seed}",
                lambda n=name, s=seed, k=keep: trained(network, RESNET[n], recipe(n, s), test, k),
            )


def mobilenet(seeds: list[int], bits: tuple[int, ...] = (8, 6, 5, 4)) -> None:
    """Krishnamoorthi's pattern: activations at 8 bits, the weights of all layers at fewer and fewer."""
    test, network = fashion_mnist("test"), zoo.load("mobilenet")
    folded = fold_batch_norms(network)
    flat = equalize(folded)
    images = drawn(0, 500).images
    for b in bits:
        one = QATConfig(b, 8, edge_bits=None, per_channel=False)
        many = QATConfig(b, 8, edge_bits=None)

        def corrected(net: nn.Module, config: QATConfig) -> dict[str, Any]:
            model = prepare_qat(net, config)
            calibrate(model, images)
            return {"accuracy": evaluate(correct_biases(model, images), test)}

        once(f"mobilenet {b} bits per tensor", lambda c=one: post_training(network, c, test))
        once(f"mobilenet {b} bits per channel", lambda c=many: post_training(network, c, test))
        once(f"mobilenet {b} bits equalized", lambda c=one: post_training(flat, c, test))
        once(f"mobilenet {b} bits corrected", lambda c=one: corrected(folded, c))
        once(f"mobilenet {b} bits equalized + corrected", lambda c=one: corrected(flat, c))
    for b in (8, 4):
        for seed in seeds:
            for name, channels in (("per tensor", False), ("per channel", True)):
                config = QATConfig(b, 8, edge_bits=None, per_channel=channels)
                once(
                    f"mobilenet {b} bits {name} trained {seed}",
                    lambda c=config, s=seed: trained(network, c, recipe("4 bits", s), test),
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("resnet", "mobilenet", "publish", "report"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    CACHE.mkdir(parents=True, exist_ok=True)
    if arguments.part in ("resnet", "mobilenet"):
        {"resnet": resnet, "mobilenet": mobilenet}[arguments.part](arguments.seeds)
    else:
        {"publish": publish, "report": report}[arguments.part]()


if __name__ == "__main__":
    main()
