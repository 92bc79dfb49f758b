"""What zeros are worth: bytes on disk, a sparse product on the CPU, and the cost of masks that hold.

    python benchmarks/sparse.py

Three parts, each kept in benchmarks/results/sparse.json as soon as it is measured (--again measures all anew). Written
are tables and a plot, with the machine's name, to benchmarks/results/. Times are ratios to dense in the same process,
one thread, three repetitions, each of the fastest of 60 calls or 30 training steps: other work only adds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune

from coursekit import plot, zoo
from coursekit.data import Dataset, fashion_mnist
from coursekit.measure import file_size, latency, saved_size
from coursekit.pruning import (
    SparseLinear,
    attach_masks,
    finalize,
    magnitude_scores,
    make_masks,
    random_scores,
    save_sparse,
)

RESULTS = Path(__file__).parent / "results"
SPARSITIES = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
LAYOUTS = ("dense", "bitmap", "csr", "smallest")
SHAPES = ((300, 784), (500, 800), (1024, 1024))


def files() -> dict[str, Any]:
    """Network -> layout -> bytes at each sparsity, by magnitude over the whole network."""
    table: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.safetensors"
        for name in ("lenet300", "lenet5", "resnet20"):
            table[name] = {"unpruned": saved_size(zoo.load(name)), **{layout: [] for layout in LAYOUTS}}
            for sparsity in SPARSITIES:
                model = zoo.load(name)
                attach_masks(model, make_masks(magnitude_scores(model), sparsity))
                finalize(model)
                for layout in LAYOUTS:
                    save_sparse(model, path, layout=layout)
                    table[name][layout].append(file_size(path))
    return table


def product() -> dict[str, Any]:
    """Shape and batch -> ratio to dense at each sparsity, three runs each."""
    table: dict[str, Any] = {}
    for rows, columns in SHAPES:
        for batch in (1, 64):
            key = f"{rows} x {columns}, batch {batch}"
            table[key] = [
                [_product_ratio(rows, columns, batch, s, run) for run in range(3)] for s in SPARSITIES
            ]
            print(key, [round(statistics.mean(runs), 2) for runs in table[key]], flush=True)
    return table


def _product_ratio(rows: int, columns: int, batch: int, sparsity: float, seed: int) -> float:
    torch.manual_seed(seed)
    dense = nn.Linear(columns, rows)
    dense.weight.data *= make_masks(random_scores(dense, seed), sparsity)["weight"]
    x = torch.randn(batch, columns)
    times = latency({"dense": dense, "sparse": SparseLinear(dense)}, x, repeats=60)
    return times["sparse"].min_ms / times["dense"].min_ms


class _Times(nn.Module):
    """A parametrization: the weight times a mask."""

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.mask


def _parametrize(model: nn.Module, masks: dict[str, Tensor]) -> None:
    for name, mask in masks.items():
        parametrize.register_parametrization(
            model.get_submodule(name.rpartition(".")[0]), "weight", _Times(mask)
        )


def _torch_prune(model: nn.Module, masks: dict[str, Tensor]) -> None:
    for name, mask in masks.items():
        prune.custom_from_mask(model.get_submodule(name.rpartition(".")[0]), "weight", mask)


def _once(model: nn.Module, masks: dict[str, Tensor]) -> None:
    attach_masks(model, masks)
    finalize(model)


MECHANISMS: dict[str, Callable[[nn.Module, dict[str, Tensor]], None]] = {
    "multiplied once": _once,
    "attach_masks": attach_masks,
    "parametrize": _parametrize,
    "torch.nn.utils.prune": _torch_prune,
}
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "SGD, momentum": lambda p: torch.optim.SGD(p, 0.01, momentum=0.9),
    "Adam": lambda p: torch.optim.Adam(p, 1e-3),
    "AdamW, decay 0.1": lambda p: torch.optim.AdamW(p, 1e-3, weight_decay=0.1),
}


def _step(model: nn.Module, optimizer: torch.optim.Optimizer, data: Dataset, i: int, size: int) -> None:
    part = slice(i * size % 8000, i * size % 8000 + size)
    loss = F.cross_entropy(model(data.images[part]), data.labels[part])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def mechanisms() -> dict[str, Any]:
    """Time of a training step as a ratio to an unmasked one, and weights that came back after 1,000 steps."""
    data = fashion_mnist("train", subset=True)
    table: dict[str, Any] = {"step": {}, "revived": {}, "parameter": {}}
    for name, batch in (("lenet300", 64), ("resnet20", 16)):
        table["step"][name] = [_step_ratios(name, data, batch) for _ in range(3)]
        print(name, table["step"][name], flush=True)
    for optimizer in OPTIMIZERS:
        for mechanism, put in MECHANISMS.items():
            acting, parameter = _revived(put, optimizer, data)
            table["revived"].setdefault(optimizer, {})[mechanism] = acting
            table["parameter"].setdefault(optimizer, {})[mechanism] = parameter
        print(optimizer, table["revived"][optimizer], table["parameter"][optimizer], flush=True)
    return table


def _step_ratios(name: str, data: Dataset, batch: int) -> dict[str, float]:
    """Processor time, fastest of 30 steps of SGD with momentum, the mechanisms taking turns."""
    runs = {}
    for mechanism, put in MECHANISMS.items():
        model = zoo.load(name).train()
        put(model, make_masks(magnitude_scores(model), 0.9))
        runs[mechanism] = (model, OPTIMIZERS["SGD, momentum"](model.parameters()))
    times: dict[str, list[float]] = {mechanism: [] for mechanism in runs}
    for i in range(35):
        for mechanism, (model, optimizer) in runs.items():
            started = time.process_time()
            _step(model, optimizer, data, i, batch)
            times[mechanism].append(time.process_time() - started)
    fastest = {mechanism: min(taken[5:]) for mechanism, taken in times.items()}
    return {mechanism: taken / fastest["multiplied once"] for mechanism, taken in fastest.items()}


def _revived(put: Callable[..., None], optimizer_name: str, data: Dataset) -> tuple[int, int]:
    """Of 239,580 masked weights of LeNet-300, those not zero after 1,000 steps: acting, and in the parameter."""
    model = zoo.load("lenet300").train()
    optimizer = OPTIMIZERS[optimizer_name](model.parameters())
    for i in range(20):  # so that the moments are not empty
        _step(model, optimizer, data, i, 32)
    masks = make_masks(magnitude_scores(model), 0.9)
    put(model, masks)
    for i in range(1000):
        _step(model, optimizer, data, i, 32)
    acting = parameter = 0
    for name, mask in masks.items():
        layer = model.get_submodule(name.rpartition(".")[0])
        stored = next(p for p in layer.parameters() if p.shape == mask.shape)
        acting += int((layer.weight[~mask] != 0).sum())
        parameter += int((stored[~mask] != 0).sum())
    return acting, parameter


def machine() -> str:
    """Processor, cores, threads."""
    text = Path("/proc/cpuinfo").read_text("utf-8") if Path("/proc/cpuinfo").exists() else ""
    found = re.search(r"model name\s*: (.*)", text)
    return f"{found.group(1) if found else platform.processor()}, {os.cpu_count()} cores, one thread"


def _mean_sd(runs: list[float]) -> str:
    return f"{statistics.mean(runs):.2f} ± {statistics.stdev(runs):.2f}"


HEAD = "| | " + " | ".join(f"{s:.0%}" for s in SPARSITIES) + " |\n" + "| --- |" + " ---: |" * len(SPARSITIES)
MECHANISMS_HEAD = "| | " + " | ".join(MECHANISMS) + " |\n| --- |" + " ---: |" * len(MECHANISMS)


def files_table(table: dict[str, Any]) -> list[str]:
    """Shares of the unpruned file."""
    lines = ["## Bytes of the file, as a share of the unpruned one", "", HEAD]
    for name, row in table.items():
        for layout in LAYOUTS:
            shares = " | ".join(f"{size / row['unpruned']:.3f}" for size in row[layout])
            lines.append(f"| {name}, {layout} | {shares} |")
    return lines


def product_table(table: dict[str, Any]) -> list[str]:
    """Mean and standard deviation of the ratios."""
    lines = ["## Time of the sparse product, as a ratio to the dense one", "", HEAD]
    return lines + [f"| {key} | " + " | ".join(map(_mean_sd, runs)) + " |" for key, runs in table.items()]


def mechanisms_table(table: dict[str, Any]) -> list[str]:
    """Ratios of steps, and what came back."""
    lines = ["## Processor time of a training step, as a ratio to one without masks", "", MECHANISMS_HEAD]
    for name, runs in table["step"].items():
        lines.append(f"| {name} | " + " | ".join(_mean_sd([r[m] for r in runs]) for m in MECHANISMS) + " |")
    lines += [
        "",
        "## Weights that came back, of 239,580, after 1,000 steps: acting (in the stored parameter)",
        "",
    ]
    lines.append(MECHANISMS_HEAD)
    for name, row in table["revived"].items():
        shown = (f"{row[m]:,} ({table['parameter'][name][m]:,})" for m in MECHANISMS)
        lines.append(f"| {name} | " + " | ".join(shown) + " |")
    return lines


TABLES = {"files": files_table, "product": product_table, "mechanisms": mechanisms_table}


def markdown(results: dict[str, Any]) -> str:
    """The tables of what was measured."""
    lines = ["# What zeros are worth", "", f"Measured on {results['machine']}, torch {results['torch']}.", ""]
    for name, table in TABLES.items():
        if name in results:
            lines += [*table(results[name]), ""]
    return "\n".join(lines)


def draw(results: dict[str, Any]) -> None:
    """Ratio by sparsity, for every shape at batch 1 and 64."""
    levels = SPARSITIES[2:]
    curves = {
        key: [statistics.mean(r) for r in runs[2:]]
        for key, runs in results["product"].items()
        if "4096" not in key
    }
    ax = plot.lines(
        [f * 100 for f in levels], curves, references={"dense": 1.0}, logy=True, xlabel="sparsity (%)",
        ylabel="time / dense", title="Sparse pays from about 80 % zeros with 64 inputs, 95 % with one",
    )  # fmt: skip
    ax.figure.savefig(RESULTS / "sparse.png", dpi=110)
    plt.close(ax.figure)


PARTS = {"files": files, "product": product, "mechanisms": mechanisms}


def main() -> None:
    """Measures what is missing and writes it all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--again", action="store_true", help="measure all parts anew")
    parser.add_argument(
        "--parts", nargs="+", default=list(PARTS), choices=list(PARTS), help="what to measure now"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    path = RESULTS / "sparse.json"
    results = json.loads(path.read_text(encoding="utf-8")) if path.exists() and not arguments.again else {}
    results |= {"machine": machine(), "torch": torch.__version__, "sparsities": SPARSITIES}
    for name in arguments.parts:
        if name not in results:
            results[name] = PARTS[name]()
            path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (RESULTS / "sparse.md").write_text(markdown(results), encoding="utf-8")
    if "product" in results:
        draw(results)


if __name__ == "__main__":
    main()
