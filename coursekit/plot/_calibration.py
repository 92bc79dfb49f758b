"""Reliability diagrams: how often answers are right, against how sure they were."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from coursekit.plot._general import Values
from coursekit.plot._style import GREY, LINE_STYLES, MARKERS, PALETTE, axes, finish, in_style, percent_axis


@in_style
def reliability(
    curves: Mapping[str, tuple[Values, Values]],
    *,
    title: str,
    xlabel: str = "confidence (mean of a bin)",
    ylabel: str = "share of right answers",
    ax: Axes | None = None,
) -> Axes:
    """Accuracy over confidence, a point a bin, beside the diagonal on which both are equal; returns the Axes.

    Args:    curves: label to (confidence, accuracy) of each bin, 0 to 1; bins where either is NaN, the empty ones, are
             left out. At most 7. title: the claim the figure makes.
    Raises:  ValueError if curves is empty or has more than 7, lengths differ, or a curve has no bin to draw.
    """
    if not 1 <= len(curves) <= len(PALETTE):
        raise ValueError(f"curves must hold 1 to {len(PALETTE)}, got {len(curves)}")
    ax = axes(ax, (5.2, 4.6))
    ax.plot([0, 1], [0, 1], color=GREY, linewidth=1.2, linestyle=(0, (2, 2)), label="as sure as right")
    for i, (label, pair) in enumerate(curves.items()):
        sure, right = (np.asarray(values, float).ravel() for values in pair)
        if sure.shape != right.shape:
            raise ValueError(f"curves[{label!r}] has {sure.size} confidences but {right.size} accuracies")
        held = ~(np.isnan(sure) | np.isnan(right))
        if not held.any():
            raise ValueError(f"curves[{label!r}] has no bin with an answer: there is nothing to draw")
        ax.plot(
            sure[held],
            right[held],
            color=PALETTE[i],
            linestyle=LINE_STYLES[i],
            marker=MARKERS[i],
            label=label,
        )
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1)
    percent_axis(ax)
    ax.xaxis.set_major_formatter(PercentFormatter(1.0))
    ax.legend(loc="upper left")
    return finish(ax, title=title, xlabel=xlabel, ylabel=ylabel)
