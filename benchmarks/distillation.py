"""A student of 19,810 parameters, alone and taught in eight ways; a missing class; a student twenty times smaller.

    python benchmarks/distillation.py choose                # temperature and weights, on held-out training images
    python benchmarks/distillation.py rows --seeds 0 1 2    # the table: every way, equal epochs, same images
    python benchmarks/distillation.py missing --seeds 0 1 2 # Hinton's missing class
    python benchmarks/distillation.py twenty                # at most a twentieth of ResNet-20's bytes
    python benchmarks/distillation.py publish               # students into the zoo
    python benchmarks/distillation.py report                # tables, plots, the lessons' curves

Each run is kept in build/distillation and not done twice; a run that was cut off goes on from its last epoch. 5,000 of
the 60,000 training images are held out: settings are chosen on them alone. The test set measures last weights and
chooses nothing. The seed draws a student's first weights and the order of its images.
"""

from __future__ import annotations

import argparse
import json
import os
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

from coursekit import zoo  # noqa: E402
from coursekit.data import Dataset, fashion_mnist  # noqa: E402
from coursekit.distillation import DistillationLoss, StudentAlone, distill  # noqa: E402
from coursekit.models import resnet8  # noqa: E402
from coursekit.train import Recipe, evaluate  # noqa: E402

BUILD = ROOT / "build" / "distillation"
EPOCHS, HELD_OUT, SMALL = 5, 5_000, 10_000


def recipe(seed: int, epochs: int = EPOCHS) -> Recipe:
    """Without augmentation: so small a network does not overfit in these epochs, and the teacher answers once."""
    return Recipe(epochs=epochs, peak_lr=0.2, weight_decay=1e-4, bfloat16=True, seed=seed)


def split(n: int | None = None) -> tuple[Dataset, Dataset]:
    """The first n training images, by default all but the held-out ones; and the held-out ones, the last 5,000."""
    data = fashion_mnist("train")
    last = Dataset(data.images[-HELD_OUT:], data.labels[-HELD_OUT:], data.classes, data.source)
    return data.take(n or len(data) - HELD_OUT), last


def fresh(seed: int, **options: Any) -> nn.Module:
    """A new student."""
    torch.manual_seed(seed)
    return resnet8(**options).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def teacher(name: str = "resnet20") -> nn.Module:
    """A trained network of the zoo."""
    return zoo.load(name).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def once(key: str, run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What the run of this name measured, kept in a file."""
    path = BUILD / f"{key}.json"
    if path.is_file():
        return json.loads(path.read_text(encoding="utf-8"))
    path.parent.mkdir(parents=True, exist_ok=True)
    started = time.process_time()
    row = {"key": key, **run(), "cpu_seconds": round(time.process_time() - started)}
    path.write_text(json.dumps(row, indent=1) + "\n", encoding="utf-8")
    print({name: value for name, value in row.items() if name != "curves"}, flush=True)
    return row


def keep(key: str, model: nn.Module) -> None:
    """The weights of a run, for those after it."""
    (BUILD / key).parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, BUILD / f"{key}.safetensors")


def kept(key: str, model: nn.Module) -> nn.Module:
    """The model with the weights of that run, in eval mode."""
    model.load_state_dict(load_file(BUILD / f"{key}.safetensors"))
    return model.eval()


def train(
    key: str,
    student: nn.Module,
    guide: nn.Module | None,
    objective: Any,
    settings: Recipe,
    data: Dataset,
    **more: Any,
) -> dict[str, list[float]]:
    """Trains a student, through interruptions; its curves."""
    (BUILD / key).parent.mkdir(parents=True, exist_ok=True)
    checkpoint = BUILD / f"{key}.run"
    history = distill(
        student, guide, data, objective, settings, cache=BUILD / "cache", checkpoint=checkpoint, **more
    )
    checkpoint.unlink()
    return {"loss": history.loss, **history.parts, "validation": history.validation, "test": history.accuracy}


CHOICES = {
    "alone": (StudentAlone(), None),
    "kd T2 a.5": (DistillationLoss(2.0, 0.5), "resnet20"),
    "kd T2 a.9": (DistillationLoss(2.0, 0.9), "resnet20"),
    "kd T4 a.5": (DistillationLoss(4.0, 0.5), "resnet20"),
    "kd T4 a.9": (DistillationLoss(4.0, 0.9), "resnet20"),
    "smoothing .1": (StudentAlone(0.1), None),
}


def choose(seed: int = 100, n: int | None = None) -> None:
    """Settings, by accuracy on the held-out images, with a seed that no row of the table uses."""
    data, held_out = split(n)
    for name, (objective, guide) in CHOICES.items():
        key = f"choose/{n or 'all'}/{name.replace(' ', '-')}-{seed}"

        def run(key: str = key, objective: Any = objective, guide: str | None = guide) -> dict[str, Any]:
            settings = recipe(seed, EPOCHS if n is None else 5 * EPOCHS)
            student = fresh(seed)
            train(key, student, None if guide is None else teacher(guide), objective, settings, data)
            return {"held_out": evaluate(student, held_out), "train": evaluate(student, data.take(5000))}

        once(key, run)


if __name__ == "__main__":
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=["choose", "rows", "missing", "twenty", "publish", "report"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--images", type=int)
    arguments = parser.parse_args()
    if arguments.part == "choose":
        choose(arguments.seeds[0] if len(arguments.seeds) == 1 else 100, arguments.images)
