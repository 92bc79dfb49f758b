"""Trained networks that ship with the course: `load("resnet20")`.

Each is a safetensors file beside a card: the recipe that made it, the seed, and the accuracy measured
on all 10,000 test images. To train one again: `python -m coursekit.zoo resnet20`. Networks that a technique made of
these (quantized, pruned, distilled) are written by the script that their card names, with `publish`.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from coursekit.data import Dataset, fashion_mnist
from coursekit.models import LeNet5, LeNet300100, mobilenet_v2, resize_, resnet8, resnet20
from coursekit.train import Recipe, evaluate, fit

__all__ = ["available", "card", "load", "path", "publish", "train"]

_FOLDER = Path(__file__).parent / "assets" / "zoo"


@dataclass(frozen=True)
class _Entry:
    """How to build the network; how `train` trains it, or None where another script makes it.

    narrow: channels were removed from what `build` makes, and the shapes in the file say how many are left.
    """

    build: Callable[[], nn.Module]
    recipe: Recipe | None
    narrow: bool = False


_ENTRIES = {
    "lenet300": _Entry(LeNet300100, Recipe(epochs=40, augment=True, max_shift=0, bfloat16=True)),
    "lenet5": _Entry(LeNet5, Recipe(epochs=30, peak_lr=0.05, augment=True, bfloat16=True)),
    "mobilenet": _Entry(mobilenet_v2, Recipe(epochs=20, peak_lr=0.2, augment=True, bfloat16=True)),
    "resnet8": _Entry(resnet8, None),
    "resnet8-distilled": _Entry(resnet8, None),
    "resnet8-of-lenet5": _Entry(lambda: resnet8(width=16), None),
    "resnet20": _Entry(resnet20, Recipe(epochs=24, peak_lr=0.3, augment=True, bfloat16=True)),
    "resnet20-half": _Entry(resnet20, None, narrow=True),
    "resnet20-sparse90": _Entry(resnet20, None),
    "resnet20-w4a4": _Entry(resnet20, None),
}


def available() -> tuple[str, ...]:
    """The names `load` accepts."""
    return tuple(_ENTRIES)


def _entry(name: str) -> _Entry:
    if name not in _ENTRIES:
        raise ValueError(f"no network named {name!r}; the zoo has {', '.join(_ENTRIES)}")
    return _ENTRIES[name]


def path(name: str) -> Path:
    """The safetensors file of a network's weights.

    Raises: ValueError for a name the zoo does not have.
    """
    _entry(name)
    return _FOLDER / f"{name}.safetensors"


def card(name: str) -> dict[str, Any]:
    """How a network was made and how good it is: recipe, seed, test accuracy, versions, training time.

    Raises: ValueError for a name the zoo does not have.
    """
    return json.loads(path(name).with_suffix(".json").read_text(encoding="utf-8"))


def load(name: str) -> nn.Module:
    """A trained network in eval mode; every call returns a new copy.

    Args:   name: one of `available()`; all take images (N, 1, 28, 28).
    Raises: ValueError for a name the zoo does not have; FileNotFoundError if its file is gone.
    """
    weights = path(name)
    if not weights.is_file():
        raise FileNotFoundError(
            f"{weights} is missing; install coursekit again, or: python -m coursekit.zoo {name}"
        )
    return _filled(name, load_file(weights)).eval()


def _filled(name: str, state: dict[str, Tensor]) -> nn.Module:
    """The network of this name with these weights."""
    entry = _entry(name)
    model = resize_(entry.build(), state) if entry.narrow else entry.build()
    model.load_state_dict(state)
    return model


def train(name: str, *, folder: Path = _FOLDER, threads: int = 1, progress: bool = True) -> dict[str, Any]:
    """Trains a network by its recipe, writes its weights and its card to `folder`, returns the card.

    The epoch is fixed in advance: the test set chooses nothing, it only measures the last weights.

    Raises: ValueError for a name the zoo does not have, or of a network that another script makes.
    """
    entry = _entry(name)
    if entry.recipe is None:
        raise ValueError(f"{name} is not trained here; made by: {card(name)['script']}")
    torch.set_num_threads(threads)  # the sums, and so the weights, depend on it
    torch.manual_seed(entry.recipe.seed)
    model = entry.build().to(memory_format=torch.channels_last)
    train_set, test_set = fashion_mnist("train"), fashion_mnist("test")
    started = time.perf_counter()
    history = fit(model, train_set, entry.recipe, test=test_set, progress=progress)
    minutes = (time.perf_counter() - started) / 60
    facts = {
        "data": f"Fashion-MNIST, {len(train_set):,} training images",
        "recipe": asdict(entry.recipe),
        "test_accuracy_by_epoch": [round(a, 4) for a in history.accuracy],
        "training_minutes": round(minutes, 1),
        "threads": threads,
    }
    return _write(name, model, f"python -m coursekit.zoo {name}", facts, test_set, folder)


def publish(
    name: str, model: nn.Module, *, script: str, facts: dict[str, Any], folder: Path = _FOLDER
) -> dict[str, Any]:
    """Writes a network that a technique made into the zoo: its weights and its card, which it returns.

    Args:   name: one the zoo knows how to build. model: loads into what the zoo builds under that name.
            script: the command that makes it again. facts: what else the card says: recipe, seed, data, parent.
    Raises: ValueError for a name the zoo does not have; RuntimeError if the weights do not fit.
    """
    _filled(name, model.state_dict())
    return _write(name, model, script, facts, fashion_mnist("test"), folder)


def _write(
    name: str, model: nn.Module, script: str, facts: dict[str, Any], test_set: Dataset, folder: Path
) -> dict[str, Any]:
    """Writes weights and card; the accuracy on the card is measured here, on these very weights."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    save_file(state, folder / f"{name}.safetensors")
    (folder / f"{name}.safetensors").chmod(0o644)
    made = {
        "name": name,
        "script": script,
        "parameters": sum(p.numel() for p in model.parameters()),
        "test_images": len(test_set),
        "test_accuracy": round(evaluate(model, test_set), 4),
        **facts,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    (folder / f"{name}.json").write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")
    return made


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m coursekit.zoo", description="Train the zoo again.")
    parser.add_argument("names", nargs="+", choices=available())
    parser.add_argument("--folder", type=Path, default=_FOLDER, help="where weights and cards go")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    for each in arguments.names:
        print(json.dumps(train(each, folder=arguments.folder, threads=arguments.threads), indent=2))
