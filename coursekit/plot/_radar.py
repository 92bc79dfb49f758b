"""Several measures of several things at once, each measure on a spoke of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.projections.polar import PolarAxes

from coursekit.plot._style import LINE_STYLES, MARKERS, PALETTE, array, in_style

__all__ = ["radar"]


@in_style
def radar(values: Mapping[str, Mapping[str, float]], *, title: str) -> Axes:
    """A closed line for each thing over the same spokes, the best value of each spoke on the rim; returns the Axes.

    A spoke begins at 0 in the middle and ends at the largest value that any of the things has there, which is written
    at its end: so no line leaves the chart, and no two units are compared with each other.

    Args:    values: name to {measure: number of at least 0}, the same measures for all; more is better in each.
             title: the claim the figure makes.
    Raises:  ValueError if there are fewer than 3 measures, more than 7 things, other measures for one of them, a
             negative number, or a measure that is 0 for all.
    """
    if not values or len(values) > len(PALETTE):
        raise ValueError(f"give 1 to {len(PALETTE)} things to compare, got {len(values)}")
    spokes = list(next(iter(values.values())))
    if len(spokes) < 3 or any(list(row) != spokes for row in values.values()):
        raise ValueError(f"give at least 3 measures, the same for all, got {spokes}")
    table = np.stack([array(row.values(), name) for name, row in values.items()])
    if (table < 0).any() or (table.max(0) == 0).any():
        raise ValueError("a measure is negative, or 0 for all: there is no rim to draw it to")
    most = table.max(0)
    angles = np.linspace(0, 2 * np.pi, len(spokes), endpoint=False)
    _, drawn = plt.subplots(figsize=(7.6, 4.4), subplot_kw={"projection": "polar"})
    ax = cast(PolarAxes, drawn)
    for i, (name, row) in enumerate(zip(values, table / most, strict=True)):
        ax.plot(
            [*angles, angles[0]], [*row, row[0]], label=name, color=PALETTE[i], linestyle=LINE_STYLES[i],
            marker=MARKERS[i], clip_on=False,
        )  # fmt: skip
    ax.set_theta_zero_location("N")
    ax.set_theta_direction(-1)
    ax.set_ylim(0, 1)
    ax.set_yticks([0.25, 0.5, 0.75, 1.0], labels=[])
    ax.set_xticks(
        angles, labels=[f"{spoke}\n(rim: {rim:.3g})" for spoke, rim in zip(spokes, most, strict=True)]
    )
    for angle, label in zip(angles, ax.get_xticklabels(), strict=True):
        side = np.sin(angle)  # the first spoke points up, the others follow clockwise
        label.set_horizontalalignment("center" if abs(side) < 0.1 else "left" if side > 0 else "right")
    ax.set_title(title, pad=14)
    ax.legend(loc="center left", bbox_to_anchor=(1.35, 0.5))
    return ax
