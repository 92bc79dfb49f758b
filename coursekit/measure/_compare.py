"""Models side by side: one row each, one table, one Pareto plot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from html import escape
from os import PathLike
from typing import TYPE_CHECKING

import pandas as pd
from torch import nn

from coursekit.data import Dataset
from coursekit.measure._cost import macs, nonzero
from coursekit.measure._size import file_size, save_and_reload
from coursekit.measure._time import latency
from coursekit.train import evaluate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_HEADINGS = {
    "name": "model",
    "accuracy": "accuracy",
    "size_bytes": "bytes",
    "nonzero": "non-zero parameters",
    "macs": "MACs",
    "latency_ratio": "latency ratio",
}


@dataclass(frozen=True)
class Row:
    """What was measured of one model.

    Attributes: name. accuracy: 0 to 1, of the model as it came back from its file. size_bytes: of that file.
                nonzero: parameters that are not zero. macs: for one input.
                latency_ms: the fastest call, in milliseconds. latency_ratio: to the first model's.
    """

    name: str
    accuracy: float
    size_bytes: int
    nonzero: int
    macs: int
    latency_ms: float
    latency_ratio: float


@dataclass(frozen=True)
class Comparison:
    """The rows of `compare`; shown as a table in Jupyter and as text elsewhere.

    Attributes: rows: one a model, the reference first. source: the data the accuracies are of.
    """

    rows: tuple[Row, ...]
    source: str

    def table(self) -> pd.DataFrame:
        """The rows as a DataFrame with headings to read, numbers as strings to read."""
        shown = [
            {
                "name": row.name,
                "accuracy": f"{row.accuracy:.4f}",
                "size_bytes": f"{row.size_bytes:,}",
                "nonzero": f"{row.nonzero:,}",
                "macs": f"{row.macs:,}",
                "latency_ratio": f"{row.latency_ratio:.2f}",
            }
            for row in self.rows
        ]
        return pd.DataFrame(shown).rename(columns=_HEADINGS)

    def __repr__(self) -> str:
        return self.table().to_string(index=False) + f"\naccuracy on {self.source}"

    def _repr_html_(self) -> str:
        return self.table().to_html(index=False, border=0) + f"<p>accuracy on {escape(self.source)}</p>"

    def plot(self, *, title: str = "Accuracy against bytes on disk", ax: Axes | None = None) -> Axes:
        """The Pareto plot of accuracy against bytes; returns the Axes.

        Args: title: the claim the figure makes. ax: where to draw, a new figure by default.
        """
        from coursekit.plot import pareto  # matplotlib is slow to import and not needed to measure

        return pareto([asdict(row) for row in self.rows], title=title, ax=ax)


def compare(
    models: Mapping[str, nn.Module],
    data: Dataset,
    *,
    files: Mapping[str, str | PathLike[str]] | None = None,
    latency_batch: int = 1,
    threads: int = 1,
    warmup: int = 5,
    repeats: int = 30,
) -> Comparison:
    """Accuracy, bytes, non-zero parameters, MACs and latency ratio of each model, measured the same way.

    Every model is written to a safetensors file and read back; the bytes are that file's, and the accuracy
    is that of the model that came back. No model is changed.

    Args:    models: name to classifier of data.images; the first is the reference of the ratios.
             data: what accuracy is measured on.
             files: name to the file that a model was loaded from, for a model whose own format is smaller
             than its state dict; that file's bytes are then shown. latency_batch: images a timed call.
             threads, warmup, repeats: of `latency`.
    Raises:  ValueError if models or data is empty, latency_batch is not in 1..len(data), a model does not
             run on the images, a parameter is NaN, or files names an unknown model; TypeError for what is
             not a module; FileNotFoundError for a file that is not there.
    """
    files = files or {}
    if not models:
        raise ValueError("models is empty: give at least one")
    if not 1 <= latency_batch <= len(data):
        raise ValueError(f"latency_batch must be in 1..{len(data)} (the images in data), got {latency_batch}")
    for name, model in models.items():
        if not isinstance(model, nn.Module):
            raise TypeError(f"models[{name!r}] is a {type(model).__name__}, not a torch.nn.Module")
    unknown = set(files) - set(models)
    if unknown:
        raise ValueError(f"files names {sorted(unknown)}, but models has {list(models)}")
    counts = {name: (nonzero(m), macs(m, tuple(data.images.shape[1:]))) for name, m in models.items()}
    times = latency(models, data.images[:latency_batch], threads=threads, warmup=warmup, repeats=repeats)
    rows = []
    for name, model in models.items():
        size_bytes, reloaded = save_and_reload(model)
        if name in files:
            size_bytes = file_size(files[name])
        time = times[name]
        accuracy = evaluate(reloaded, data)
        rows.append(Row(name, accuracy, size_bytes, *counts[name], time.min_ms, time.ratio))
    return Comparison(tuple(rows), f"{len(data):,} images, {data.source}")
