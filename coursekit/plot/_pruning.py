"""What pruning does, drawn: histograms of weights, before and after."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes

from coursekit.plot._general import Values
from coursekit.plot._style import GREY, LINE_STYLES, PALETTE, array, axes, finish, in_style


@in_style
def histograms(
    groups: Mapping[str, Values],
    *,
    title: str,
    xlabel: str = "weight",
    ylabel: str | None = None,
    bins: int = 121,
    log: bool = True,
    band: tuple[float, float] | None = None,
    xlim: tuple[float, float] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Histograms over the same bins, the first filled, the others as outlines; returns the Axes.

    Args:    groups: label to values of any shape, finite, at most 7. title: the claim the figure makes.
             bins: of all of them together; an odd number puts 0 in the middle of one if they are symmetric.
             log: logarithmic counts, which shows the tails. band: a range of x to shade, such as what goes.
             xlim: what is shown and binned.
    Raises:  ValueError if groups is empty, has more than 7, or a group is empty or not finite.
    """
    values = {label: array(group, f"groups[{label!r}]") for label, group in groups.items()}
    if not 1 <= len(values) <= len(PALETTE):
        raise ValueError(f"groups must hold 1 to {len(PALETTE)}, got {len(values)}")
    ax = axes(ax)
    everything = np.concatenate(list(values.values()))
    lo, hi = xlim or (float(everything.min()), float(everything.max()))
    edges = np.linspace(lo, hi, bins + 1).tolist()
    if band is not None:
        ax.axvspan(*band, color=GREY, alpha=0.18, linewidth=0, zorder=0)
    for i, (label, group) in enumerate(values.items()):
        filled = i == 0 and len(values) > 1
        ax.hist(
            group, edges, histtype="stepfilled" if filled else "step", log=log, label=label, linewidth=1.6,
            color="#C8C8C8" if filled else PALETTE[max(i - 1, 0)], linestyle=LINE_STYLES[max(i - 1, 0)],
        )  # fmt: skip
    if log:
        ax.set_ylim(bottom=0.7)
    if len(values) > 1:
        ax.legend()
    ylabel = ylabel or f"values in a bin of {(edges[1] - edges[0]):.2g}"
    return finish(ax, title=title, xlabel=xlabel, ylabel=ylabel)
