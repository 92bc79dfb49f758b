"""`coursekit compress MODEL --budget 200KB`: the search, with a progress bar, and its report."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from tqdm.auto import tqdm

from coursekit.compression import save
from coursekit.data import Dataset, fashion_mnist
from coursekit.pipeline.search import Budget, BudgetError, Candidate, SearchConfig, search
from coursekit.pipeline.source import load_network
from coursekit.pipeline.stages import StageLedger, measure_stages
from coursekit.plot import pareto_front

__all__ = ["parse_bytes", "run"]

_UNITS = {"": 1, "B": 1, "KB": 1000, "MB": 1000**2, "KIB": 1024, "MIB": 1024**2}


def parse_bytes(text: str) -> int:
    """The bytes that a text such as "200KB", "1.5 MB" (decimal) or "64KiB" (binary) means.

    Raises: ValueError for anything else.

    >>> parse_bytes("200KB"), parse_bytes("64KiB"), parse_bytes("1500")
    (200000, 65536, 1500)
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    if found is None or found[2].upper() not in _UNITS or float(found[1]) <= 0:
        raise ValueError(f"{text!r} is no size: write 200KB, 1.5MB, 64KiB, or a number of bytes")
    return int(float(found[1]) * _UNITS[found[2].upper()])


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns 0, or 1 after an error that says what can be done."""
    try:
        report = _compress(args)
    except (ValueError, TypeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps(report, indent=2) if args.json else _told(report))
    return 0


def _compress(args: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(1)
    size = None if args.budget is None else parse_bytes(args.budget)
    budget = Budget(size, args.latency, args.points)
    model = load_network(args.model)
    train, held_out = _images(args.train_images, args.held_out)
    config = SearchConfig(n_trained=2 if args.train_images else 0)
    config = replace(config, recipe=replace(config.recipe, epochs=args.epochs))
    if args.latency is not None and not args.train_images:
        raise BudgetError("a narrower network must be trained: --latency needs --train-images above 0")
    with _progress() as on_try:
        chosen, tried = search(model, budget, train=train, held_out=held_out, config=config, on_try=on_try)
    output = args.output or Path(f"{Path(args.model).stem}-small.net")
    saved = save(chosen.model, output)
    assert saved == chosen.size_bytes  # what was measured is what was written
    _, stages = measure_stages({"original": model, chosen.name: chosen.model}, fashion_mnist("test"))
    picture = _draw(tried, chosen, output.with_suffix(".png"))
    return _report(args, tried, chosen, stages, {"network": str(output), "plot": str(picture)})


def _images(n_train: int, n_held_out: int) -> tuple[Dataset, Dataset]:
    """The first training images to train on, the last to choose by."""
    images = fashion_mnist("train")
    if n_train < 0 or n_held_out < 100 or n_held_out > len(images) // 2:
        raise ValueError(
            f"give 100 to {len(images) // 2:,} images to hold out, and at least 0 to train on; "
            f"there are {len(images):,}"
        )
    n_train = max(1, min(n_train, len(images) - n_held_out))
    last = Dataset(images.images[-n_held_out:], images.labels[-n_held_out:], images.classes, images.source)
    return images.take(n_train), last


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """A bar on the error stream that counts what was tried and says what is being tried."""
    with tqdm(
        unit=" tries", file=sys.stderr, dynamic_ncols=True, bar_format="{n} tried [{elapsed}] {desc}"
    ) as bar:

        def tell(name: str) -> None:
            bar.set_description_str(name)
            bar.update()

        yield tell


def _front(tried: list[Candidate]) -> set[int]:
    return set(pareto_front([c.size_bytes for c in tried], [c.accuracy for c in tried]))


def _draw(tried: list[Candidate], chosen: Candidate, path: Path) -> Path:
    """The Pareto plot of all that was tried; the front and the choice are named."""
    import matplotlib

    matplotlib.use("Agg")
    from coursekit.plot import pareto

    front = _front(tried)
    rows = [
        {
            "size_bytes": each.size_bytes,
            "accuracy": each.accuracy,
            "name": each.name.replace(" + 16-bit rest", "") if each is chosen or not each.steps else "",
            "group": "chosen" if each is chosen else "tried",
        }
        for i, each in enumerate(tried)
        if i in front or each is chosen or each.accuracy > 0.5 * tried[0].accuracy
    ]
    title = f"{tried[0].size_bytes / chosen.size_bytes:.1f} times smaller: {len(tried)} networks tried"
    ax = pareto(rows, title=title, group="group", ylabel="accuracy on held-out training images")
    ax.get_figure(root=True).savefig(path, dpi=120)  # type: ignore[union-attr]
    return path


def _report(
    args: argparse.Namespace,
    tried: list[Candidate],
    chosen: Candidate,
    stages: StageLedger,
    files: dict[str, str],
) -> dict[str, Any]:
    before, after = stages.rows
    front = _front(tried)
    return {
        "model": args.model,
        "budget": {
            "bytes": None if args.budget is None else parse_bytes(args.budget),
            "latency_ratio": args.latency,
            "points": args.points,
        },
        "chosen": chosen.name,
        "size_bytes": after.size_bytes,
        "times_smaller": round(before.size_bytes / after.size_bytes, 2),
        "test": {
            "data": stages.source,
            "accuracy_before": round(before.accuracy, 4),
            "accuracy_after": round(after.accuracy, 4),
            "points_lost": round(100 * (before.accuracy - after.accuracy), 2),
            "agreement": round(after.agreement, 4),
            "latency_ratio": round(after.latency_ratio, 3),
        },
        "files": files,
        "candidates": [
            {
                "steps": list(each.steps),
                "size_bytes": each.size_bytes,
                "held_out_accuracy": round(each.accuracy, 4),
                "trained": each.trained,
                "latency_ratio": each.latency_ratio,
                "on_front": i in front,
                "chosen": each is chosen,
            }
            for i, each in enumerate(tried)
        ],
    }


def _told(report: dict[str, Any]) -> str:
    """The report as text: the front of what was tried, the choice, and what the test images say of it."""
    candidates = report["candidates"]
    shown = [each for each in candidates if each["on_front"] or each["chosen"] or not each["steps"]]
    first, test = candidates[0]["size_bytes"], report["test"]
    table = pd.DataFrame(
        {
            "": "->" if each["chosen"] else "",
            "steps": " + ".join(each["steps"]) or "original",
            "bytes": f"{each['size_bytes']:,}",
            "smaller": f"{first / each['size_bytes']:.1f}×",
            "held-out accuracy": f"{each['held_out_accuracy']:.4f}",
            "trained": "yes" if each["trained"] else "",
        }
        for each in sorted(shown, key=lambda each: -each["size_bytes"])
    )
    return "\n".join([
        table.to_string(index=False),
        f"{len(candidates)} networks tried; those that are not shown are beaten in bytes and accuracy.",
        f"chosen: {report['chosen']}",
        f"  {report['size_bytes']:,} bytes, {report['times_smaller']:.1f} times smaller",
        f"  test: {test['accuracy_before']:.2%} -> {test['accuracy_after']:.2%}, {test['points_lost']:.2f} points lost "
        f"({test['data']}); latency ratio {test['latency_ratio']:.2f}",
        f"  written: {report['files']['network']}, {report['files']['plot']}",
    ])
