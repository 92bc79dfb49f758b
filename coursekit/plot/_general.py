"""Lines, bars and images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from torch import Tensor

from coursekit.plot._style import (
    GREY,
    HATCHES,
    LINE_STYLES,
    MARKERS,
    PALETTE,
    array,
    axes,
    finish,
    in_style,
    legend_on_top,
    percent_axis,
)

Values = Tensor | Sequence[float] | np.ndarray


@in_style
def lines(
    x: Values,
    ys: Mapping[str, Values],
    *,
    title: str,
    xlabel: str,
    ylabel: str,
    logx: bool = False,
    logy: bool = False,
    percent: bool = False,
    markers: bool | None = None,
    xticks: Values | None = None,
    references: Mapping[str, float] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Curves over one x, told apart by colour, line style and marker; returns the Axes.

    Args:    x: (N,). ys: label to (N,) values, at most 7 curves.
             title: the claim the figure makes. xlabel, ylabel: with units.
             logx, logy: logarithmic axes. percent: y is a share 0 to 1, shown in per cent.
             markers: mark each point; by default up to 20 points. xticks: exactly these ticks.
             references: label to a y drawn as a horizontal line, such as the accuracy in float32.
    Raises:  ValueError if ys is empty or has more than 7 curves, if a length differs from x's, or if a
             value is NaN or inf.
    """
    across = array(x, "x")
    if not 1 <= len(ys) <= len(PALETTE):
        raise ValueError(f"ys must hold 1 to {len(PALETTE)} curves, got {len(ys)}")
    ax = axes(ax)
    for i, (label, values) in enumerate(ys.items()):
        y = array(values, f"ys[{label!r}]")
        if y.shape != across.shape:
            raise ValueError(f"ys[{label!r}] has {y.size} values, but x has {across.size}")
        marker = MARKERS[i] if (across.size <= 20 if markers is None else markers) else None
        ax.plot(across, y, color=PALETTE[i], linestyle=LINE_STYLES[i], marker=marker, label=label)
    for label, level in (references or {}).items():
        ax.axhline(level, color=GREY, linewidth=1.2, linestyle=(0, (2, 2)), label=label)
    if logx:
        ax.set_xscale("log")
    if logy:
        ax.set_yscale("log")
    if percent:
        percent_axis(ax)
    if xticks is not None:
        ax.set_xticks(array(xticks, "xticks"))
    if len(ys) > 1 or references:
        ax.legend()
    return finish(ax, title=title, xlabel=xlabel, ylabel=ylabel)


def _as_series(values: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """{series: {category: value}}, with one unnamed series for a flat mapping; all of the same categories."""
    if not values:
        raise ValueError("values is empty: there is nothing to draw")
    nested = [isinstance(value, Mapping) for value in values.values()]
    if any(nested) and not all(nested):
        raise ValueError("values must map to numbers, or all of them to {category: number}")
    series = {key: dict(value) for key, value in values.items()} if all(nested) else {"": dict(values)}
    categories = list(next(iter(series.values())))
    for label, row in series.items():
        if list(row) != categories:
            raise ValueError(f"series {label!r} has categories {list(row)}, the first one {categories}")
        array(list(row.values()), f"values[{label!r}]")
    return series


@in_style
def bars(
    values: Mapping[str, float] | Mapping[str, Mapping[str, float]],
    *,
    title: str,
    ylabel: str,
    xlabel: str = "",
    fmt: str = "{:.3g}",
    percent: bool = False,
    logy: bool = False,
    references: Mapping[str, float] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Bars with their values written on them, one colour and hatch a series; returns the Axes.

    Args:    values: category to number, or series to {category: number} for groups of bars.
             title: the claim the figure makes. ylabel: with units.
             fmt: how a value is written on its bar; "" writes none. percent: values are shares 0 to 1.
             logy: logarithmic y axis. references: label to a y drawn as a horizontal line.
    Raises:  ValueError if values is empty, mixes both forms, or has NaN, inf, more than 7 series, or series
             with different categories.
    """
    series = _as_series(values)
    if len(series) > len(PALETTE):
        raise ValueError(f"at most {len(PALETTE)} series can be told apart, got {len(series)}")
    categories = list(next(iter(series.values())))
    ax = axes(ax)
    width = 0.8 / len(series)
    for i, (label, row) in enumerate(series.items()):
        left = np.arange(len(categories)) + (i - (len(series) - 1) / 2) * width
        drawn = ax.bar(
            left, list(row.values()), 0.92 * width, label=label or None, color=PALETTE[i],
            hatch=HATCHES[i], edgecolor="white", linewidth=0,
        )  # fmt: skip
        if fmt:
            texts = [f"{value:.1%}" if percent else fmt.format(value) for value in row.values()]
            halo = [withStroke(linewidth=3, foreground="white")]  # a reference line may pass behind
            ax.bar_label(drawn, labels=texts, padding=2, fontsize=9, path_effects=halo)
    for label, level in (references or {}).items():
        ax.axhline(level, color=GREY, linewidth=1.2, linestyle=(0, (2, 2)), label=label)
    if logy:
        ax.set_yscale("log")
    if percent:
        percent_axis(ax)
    ax.margins(y=0.1)
    ax.grid(axis="x", visible=False)
    ax.set_xticks(range(len(categories)), categories)
    if len(series) > 1 or references:
        legend_on_top(ax)
    return finish(ax, title=title, xlabel=xlabel, ylabel=ylabel)


@in_style
def images(
    pictures: Tensor,
    captions: Sequence[str] | None = None,
    *,
    title: str,
    n_columns: int = 8,
    ax: Axes | None = None,
) -> Axes:
    """A grid of grey images, each with a caption below it; returns the Axes.

    Args:    pictures: (N, 1, H, W) or (N, H, W), floating point, any range: black is the smallest value of
             all, white the largest. captions: N strings. title: the claim the figure makes.
             n_columns: images a row.
    Raises:  ValueError if pictures has another shape, is empty or not finite, if captions has another
             length, or if n_columns is below 1.
    """
    if pictures.dim() == 4 and pictures.shape[1] == 1:
        pictures = pictures[:, 0]
    if pictures.dim() != 3 or not pictures.numel():
        shape = tuple(pictures.shape)
        raise ValueError(f"pictures must be (N, 1, H, W) or (N, H, W) and not empty, got {shape}")
    if not pictures.isfinite().all():
        raise ValueError("pictures holds NaN or inf; mend the images before drawing them")
    if n_columns < 1:
        raise ValueError(f"n_columns must be at least 1, got {n_columns}")
    if captions is not None and len(captions) != len(pictures):
        raise ValueError(f"captions has {len(captions)} strings for {len(pictures)} images")
    n, height, width = pictures.shape
    columns, gap = min(n_columns, n), max(2, width // 10)
    rows = math.ceil(n / columns)
    row_height, column_width = height + gap + (height // 5 if captions else 0), width + gap
    canvas = torch.full((rows * row_height - gap, columns * column_width - gap), float("nan"))
    for i, picture in enumerate(pictures.detach().float().cpu()):
        top, left = i // columns * row_height, i % columns * column_width
        canvas[top : top + height, left : left + width] = picture
    cell = min(1.1, 8.4 / columns)
    ax = axes(ax, (cell * columns + 0.2, cell * rows * row_height / column_width + 0.4))
    ax.imshow(canvas.numpy(), cmap="gray", interpolation="nearest")
    for i, caption in enumerate(captions or ()):
        middle, top = i % columns * column_width + width / 2, i // columns * row_height
        ax.text(middle, top + height + 1, caption, ha="center", va="top", fontsize=9)
    ax.set_axis_off()
    return finish(ax, title=title, xlabel="", ylabel="")
