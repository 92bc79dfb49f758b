"""Data, networks, settings and the keeping of runs for `benchmarks/distillation.py`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from coursekit import zoo
from coursekit.data import Dataset, fashion_mnist
from coursekit.distillation import AttentionTransfer, DistillationLoss, Hints, StudentAlone, Weighted, distill
from coursekit.models import resnet8
from coursekit.train import Recipe, evaluate

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "distillation"
FEW, EPOCHS, HELD_OUT = 2_000, 20, 5_000
MORE_EPOCHS = {10_000: 4, 55_000: 2}
PAIRS = [("stage1", "stage2"), ("stage2", "stage3")]  # student's and teacher's, at 14 x 14 and 7 x 7
CHANNELS = [(8, 32), (16, 64)]
TEACHERS = ("resnet20", "mobilenet", "lenet5")


def recipe(seed: int, epochs: int = EPOCHS) -> Recipe:
    """Without augmentation, so that the teacher looks at each image once."""
    return Recipe(epochs=epochs, peak_lr=0.2, weight_decay=5e-4, bfloat16=True, seed=seed)


def first(n: int) -> Dataset:
    """The first n training images that ship with coursekit, or of all 60,000; never one of the held-out ones."""
    data = fashion_mnist("train", subset=n <= 10_000)
    return data.take(n)


def held_out() -> Dataset:
    """The last 5,000 training images; none of them is among the 10,000."""
    data = fashion_mnist("train")
    return Dataset(data.images[-HELD_OUT:], data.labels[-HELD_OUT:], data.classes, data.source)


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
    row = {"key": key, **run(), "cpu_seconds": round(time.process_time() - started, 1)}
    path.write_text(json.dumps(row, indent=1) + "\n", encoding="utf-8")
    print({name: value for name, value in row.items() if name != "curves"}, flush=True)
    return row


def keep(key: str, model: nn.Module) -> None:
    """Writes the weights of a run, for those after it."""
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, BUILD / f"{key}.safetensors")


def kept(key: str, model: nn.Module) -> nn.Module:
    """The model with the weights of that run, in eval mode."""
    model.load_state_dict(load_file(BUILD / f"{key}.safetensors"))
    return model.eval()


def train(
    key: str, student: nn.Module, guide: nn.Module | None, objective: Any, settings: Recipe, data: Dataset
) -> dict[str, list[float]]:
    """Trains a student, through interruptions; its curves."""
    (BUILD / key).parent.mkdir(parents=True, exist_ok=True)
    checkpoint = BUILD / f"{key}.run"
    history = distill(student, guide, data, objective, settings, cache=BUILD / "cache", checkpoint=checkpoint)
    checkpoint.unlink(missing_ok=True)
    return {"loss": [round(v, 5) for v in history.loss]} | {
        name: [round(v, 5) for v in values] for name, values in history.parts.items()
    }


def hinted(weight: float, base: Any) -> Any:
    """A hint in the middle of the network beside `base`, both from the first step to the last."""
    return Weighted({"base": (1.0, base), "hint": (1.0, Hints(PAIRS[:1], CHANNELS[:1], weight))})


def attentive(beta: float, base: Any) -> Any:
    """Attention transfer at both resolutions that student and teacher share, beside `base`."""
    return Weighted({"base": (1.0, base), "at": (1.0, AttentionTransfer(PAIRS, beta))})


# What is chosen from: temperature and weight of Hinton's loss, of a hint beside it, of attention beside the labels.
CHOICES: dict[str, list[Any]] = {
    "kd": [(2.0, 0.9), (4.0, 0.9), (4.0, 0.5)],
    "hint": [0.3, 3.0],
    "at": [1.0, 10.0],
}


def objective_of(kind: str, value: Any) -> Any:
    """The objective that a choice means; hints stand beside Hinton's loss at its first setting."""
    if kind == "kd":
        return DistillationLoss(*value)
    first = DistillationLoss(*CHOICES["kd"][0])
    return hinted(value, first) if kind == "hint" else attentive(value, StudentAlone())


def choose(seed: int = 100) -> None:
    """Settings, on 10,000 images, by accuracy on the held-out ones, with a seed that no row of a table uses."""
    data, measured, guide = first(10_000), held_out(), teacher()
    tried = [("alone", None, StudentAlone())]
    tried += [
        (kind, value, objective_of(kind, value)) for kind, values in CHOICES.items() for value in values
    ]
    for kind, value, objective in tried:
        name = f"choose/{kind}" + ("" if value is None else f"-{str(value).strip('()').replace(', ', '-')}")

        def run(
            name: str = name, kind: str = kind, value: Any = value, objective: Any = objective
        ) -> dict[str, Any]:
            student = fresh(seed)
            train(
                name,
                student,
                guide if value is not None else None,
                objective,
                recipe(seed),
                data,
            )
            return {"kind": kind, "value": value, "held_out": evaluate(student, measured)}

        once(name, run)


def chosen(kind: str) -> Any:
    """The setting that was best on the held-out images.

    Raises: FileNotFoundError if `choose` has not been run.
    """
    tried = [row for row in everything().values() if row.get("kind") == kind]
    if len(tried) < len(CHOICES[kind]):
        raise FileNotFoundError("settings are not chosen yet: python benchmarks/distillation.py choose")
    return max(tried, key=lambda row: row["held_out"])["value"]


def kd() -> DistillationLoss:
    """Hinton's loss as chosen."""
    return DistillationLoss(*chosen("kd"))


def everything() -> dict[str, dict[str, Any]]:
    """All kept runs by key."""
    found = (json.loads(path.read_text(encoding="utf-8")) for path in sorted(BUILD.rglob("*.json")))
    return {row["key"]: row for row in found}
