"""A pipeline: steps one after the other, every stage measured on its file and against the original network."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from torch import nn

from coursekit.compression import load, save
from coursekit.data import Dataset
from coursekit.ledger import Author, Ledger
from coursekit.measure import latency, macs, nonzero
from coursekit.train import predict

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Pipeline", "Stage", "StageLedger", "Step", "measure_stages", "step_name"]

Step = Callable[[nn.Module], nn.Module]
ORIGINAL = "original"
_HEADINGS = {
    "name": "stage",
    "accuracy": "accuracy",
    "agreement": "agreement",
    "size_bytes": "bytes",
    "smaller": "smaller",
    "nonzero": "non-zero parameters",
    "macs": "MACs",
    "latency_ratio": "latency ratio",
}


@dataclass(frozen=True)
class Stage:
    """What was measured of the network after one step.

    Attributes: name. accuracy: 0 to 1, of the network as it came back from its file. agreement: the share of images
                for which it names the same class as the original, right or wrong. size_bytes: of the file.
                nonzero: parameters that are not zero. macs: for one input. latency_ratio: to the original.
    """

    name: str
    accuracy: float
    agreement: float
    size_bytes: int
    nonzero: int
    macs: int
    latency_ratio: float


@dataclass(frozen=True)
class StageLedger:
    """The rows of a pipeline; shown as a table in Jupyter and as text elsewhere.

    Attributes: rows: the original first, then one a step. source: the data the accuracies are of.
    """

    rows: tuple[Stage, ...]
    source: str

    def table(self) -> pd.DataFrame:
        """The rows as a DataFrame with headings to read, numbers as strings to read."""
        first = self.rows[0].size_bytes
        shown = [
            {
                "name": row.name,
                "accuracy": f"{row.accuracy:.4f}",
                "agreement": f"{row.agreement:.4f}",
                "size_bytes": f"{row.size_bytes:,}",
                "smaller": f"{first / row.size_bytes:.2f}×",
                "nonzero": f"{row.nonzero:,}",
                "macs": f"{row.macs:,}",
                "latency_ratio": f"{row.latency_ratio:.2f}",
            }
            for row in self.rows
        ]
        return pd.DataFrame(shown).rename(columns=_HEADINGS)

    def plot(self, *, title: str = "Accuracy against bytes, stage by stage", ax: Axes | None = None) -> Axes:
        """The Pareto plot of the stages; returns the Axes."""
        from coursekit.plot import pareto  # matplotlib is slow to import and not needed to measure

        return pareto([asdict(row) for row in self.rows], title=title, ax=ax)

    def add_to(self, ledger: Ledger, *, lesson: str, by: Author = "yours") -> None:
        """Writes the stages after the original into a student's ledger."""
        for row in self.rows[1:]:
            ledger.add(
                step=row.name, lesson=lesson, by=by, accuracy=row.accuracy, size_bytes=row.size_bytes,
                macs=row.macs, nonzero=row.nonzero, latency_ratio=row.latency_ratio,
            )  # fmt: skip

    def __repr__(self) -> str:
        return self.table().to_string(index=False) + f"\naccuracy on {self.source}"

    def _repr_html_(self) -> str:
        return self.table().to_html(index=False, border=0) + f"<p>accuracy on {escape(self.source)}</p>"


def step_name(step: Step) -> str:
    """What a step is called in tables: its own `name` if it has one, else that of the function or class."""
    return str(getattr(step, "name", None) or getattr(step, "__name__", type(step).__name__))


class Pipeline:
    """Steps one after the other; a call returns the last network and a ledger with one row a stage.

    Every stage is written with `coursekit.compression.save`, read back, and measured as it came back: its bytes are
    that file's, and every comparison is with the network that went in, of which the steps only see copies.

    Args:   steps: callables from model to model; those of `coursekit.pipeline.steps`, or any of your own.
            data: what accuracy is measured on. latency_batch: images a timed call. repeats: rounds of `latency`.
            on_stage: called with each stage's name before its step runs, for a progress bar.
    Raises: ValueError if there is no image. A call raises TypeError for a step that returns no module, or whose result
            has no form in a file.
    Source: Taught in lesson 15.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        *,
        data: Dataset,
        latency_batch: int = 1,
        repeats: int = 30,
        on_stage: Callable[[str], None] | None = None,
    ) -> None:
        if len(data) == 0:
            raise ValueError("data is empty: there is nothing to measure accuracy on")
        self.steps, self.data = tuple(steps), data
        self._batch, self._repeats, self._on_stage = latency_batch, repeats, on_stage

    def __call__(self, model: nn.Module) -> tuple[nn.Module, StageLedger]:
        models = {ORIGINAL: copy.deepcopy(model).eval()}
        current: nn.Module = models[ORIGINAL]
        for step in self.steps:
            name = _unused(step_name(step), models)
            if self._on_stage is not None:
                self._on_stage(name)
            made = step(copy.deepcopy(current))
            if not isinstance(made, nn.Module):
                raise TypeError(f"the step {name!r} returned a {type(made).__name__}, not a network")
            current = models[name] = made.eval()
        return measure_stages(models, self.data, latency_batch=self._batch, repeats=self._repeats)


def _unused(name: str, taken: dict[str, nn.Module]) -> str:
    """The name, or with a number behind it if there is a stage of that name."""
    names = (name if n == 1 else f"{name} ({n})" for n in range(1, len(taken) + 2))
    return next(each for each in names if each not in taken)


def measure_stages(
    models: dict[str, nn.Module], data: Dataset, *, latency_batch: int = 1, repeats: int = 30
) -> tuple[nn.Module, StageLedger]:
    """The last of these networks as its file gives it back, and a row for each; the first is the original.

    Raises: TypeError naming the stage whose network has no form in a file.
    """
    loaded, sizes = {}, {}
    with tempfile.TemporaryDirectory(prefix="coursekit-") as folder:
        for i, (name, model) in enumerate(models.items()):
            path = Path(folder) / f"{i}.net"
            try:
                sizes[name] = save(model, path)
            except TypeError as error:
                raise TypeError(f"after {name!r} the network cannot be saved: {error}") from error
            loaded[name] = load(path)
    times = latency(loaded, data.images[:latency_batch], repeats=repeats)
    classes = {name: predict(model, data.images).argmax(1) for name, model in loaded.items()}
    original = next(iter(classes.values()))
    shape = tuple(data.images.shape[1:])
    rows = tuple(
        Stage(
            name,
            (classes[name] == data.labels).double().mean().item(),
            (classes[name] == original).double().mean().item(),
            sizes[name],
            nonzero(model),
            macs(model, shape),
            times[name].ratio,
        )
        for name, model in loaded.items()
    )
    return list(loaded.values())[-1], StageLedger(rows, f"{len(data):,} images, {data.source}")
