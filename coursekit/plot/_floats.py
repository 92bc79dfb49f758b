"""Magnitudes against what a floating-point format can hold."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from coursekit.plot._style import GREY, LINE_STYLES, PALETTE, array, axes, finish, in_style


@in_style
def magnitudes(
    values: Mapping[str, Tensor],
    *,
    title: str,
    smallest: float,
    smallest_normal: float,
    largest: float,
    format_name: str = "the format",
    xlabel: str = "magnitude (powers of 2)",
    ylabel: str = "share of the values in one power of 2",
    ax: Axes | None = None,
) -> Axes:
    """How many values of a tensor lie in each power of 2, over the range of a format; returns the Axes.

    Grey to the left: becomes 0. Light grey: subnormal, digits are lost. Grey to the right: becomes inf. Values that are
    exactly 0 are left out.

    Args:    values: label to a tensor of any shape, at most 7. title: the claim the figure makes.
             smallest, smallest_normal, largest: the format's positive limits, rising.
             format_name: for the legend. xlabel, ylabel: with units.
    Raises:  ValueError if values is empty or has more than 7 tensors, a tensor is all zero or not finite, or the
             limits do not rise.
    """
    if not 1 <= len(values) <= len(PALETTE):
        raise ValueError(f"values must hold 1 to {len(PALETTE)} tensors, got {len(values)}")
    if not 0 < smallest < smallest_normal < largest:
        raise ValueError(f"the limits must rise from above 0, got {smallest}, {smallest_normal}, {largest}")
    exponents = {}
    for label, x in values.items():
        flat = np.abs(array(x, f"values[{label!r}]"))
        if not flat.any():
            raise ValueError(f"values[{label!r}] is all zero: it has no magnitude")
        exponents[label] = np.floor(np.log2(flat[flat > 0]))
    lo = min(each.min() for each in exponents.values())
    hi = max(each.max() for each in exponents.values())
    zero, normal, top = np.log2([smallest / 2, smallest_normal, largest])
    edges = np.arange(min(lo, zero - 6), max(hi, top + 4) + 2)
    ax = axes(ax)
    ax.axvspan(edges[0], zero, facecolor="#C4C4C4", label=f"0 in {format_name}")
    ax.axvspan(zero, normal, facecolor="#E9E9E9", label="subnormal")
    ax.axvspan(top, edges[-1], facecolor="#C4C4C4", hatch="///", edgecolor="white", linewidth=0, label="inf")
    for i, (label, each) in enumerate(exponents.items()):
        share = np.histogram(each, bins=edges)[0] / each.size
        ax.stairs(share, edges, color=PALETTE[i], linestyle=LINE_STYLES[i], linewidth=1.8, label=label)
    ax.axvline(normal, color=GREY, linewidth=0.8)
    ax.set_xlim(edges[0], edges[-1])
    ax.set_ylim(0, None)
    ticks = np.arange(10 * np.ceil(edges[0] / 10), edges[-1] + 1, 10)
    ax.set_xticks(ticks, [f"$2^{{{int(t)}}}$" for t in ticks])
    ax.grid(axis="x", visible=False)
    ax.legend(loc="upper right")
    return finish(ax, title=title, xlabel=xlabel, ylabel=ylabel)
