"""Gain against cost: the Pareto plot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.text import Annotation
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from coursekit.plot._style import (
    GREY,
    MARKERS,
    PALETTE,
    array,
    axes,
    figure_of,
    finish,
    in_style,
    percent_axis,
)


def pareto_front(costs: Iterable[float], gains: Iterable[float]) -> list[int]:
    """Indices of the points no other point beats: none costs as little or less and gains more, nor equal.

    Args:    costs: (N,), lower is better. gains: (N,), higher is better.
    Returns: indices in order of rising cost; of equal points only the first.

    >>> pareto_front([100, 50, 25, 60], [0.90, 0.89, 0.70, 0.80])
    [2, 1, 0]
    """
    points = list(zip(costs, gains, strict=True))
    front: list[int] = []
    for i in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1], i)):
        if not front or points[i][1] > points[front[-1]][1]:
            front.append(i)
    return front


def _place_labels(ax: Axes, points: Sequence[tuple[float, float]], names: Sequence[str]) -> None:
    """Writes each name beside its point, in the first of eight places where it covers nothing yet."""
    places = [(7, 5), (7, -13), (-7, 5), (-7, -13), (0, 10), (0, -18), (7, 20), (7, -28)]
    figure_of(ax).draw_without_rendering()  # fixes the layout, so that boxes can be compared
    taken = [ax.transData.transform(point) for point in points]
    frame, legend = ax.get_window_extent(), ax.get_legend()
    boxes = [legend.get_window_extent()] if legend is not None else []
    for point, name in zip(points, names, strict=True):
        best: tuple[int, Annotation] | None = None
        for dx, dy in places:
            ha = "left" if dx > 0 else "right" if dx < 0 else "center"
            text = ax.annotate(name, point, (dx, dy), textcoords="offset points", ha=ha, fontsize=9.5)
            box = text.get_window_extent()
            clashes = sum(box.overlaps(other) for other in boxes)
            clashes += sum(bool(box.contains(*dot)) for dot in taken)
            clashes += 2 * (box.x0 < frame.x0 or box.x1 > frame.x1 or box.y0 < frame.y0 or box.y1 > frame.y1)
            if best is None or clashes < best[0]:
                if best is not None:
                    best[1].remove()
                best = (clashes, text)
            else:
                text.remove()
            if clashes == 0:
                break
        if best is not None:
            boxes.append(best[1].get_window_extent())


def _draw_points(
    ax: Axes, costs: np.ndarray, gains: np.ndarray, kinds: Sequence[Any], front: Sequence[int]
) -> None:
    """One marker a point: its kind decides form and colour; filled on the front, hollow elsewhere."""
    order = list(dict.fromkeys(kinds))
    for i, kind in enumerate(kinds):
        color, marker = (each[order.index(kind) % len(each)] for each in (PALETTE, MARKERS))
        ax.plot(
            costs[i], gains[i], linestyle="", marker=marker, markersize=8, markeredgewidth=1.6, zorder=2,
            color=color, markerfacecolor=color if i in front else "white",
        )  # fmt: skip
    for kind in order:
        if kind is not None:
            color, marker = (each[order.index(kind) % len(each)] for each in (PALETTE, MARKERS))
            ax.plot([], [], linestyle="", marker=marker, color=color, label=str(kind))


def _in_units(value: float, _position: int = 0) -> str:
    """Bytes for a tick: 12 kB, 1.5 MB (decimal units, as file managers and papers use them)."""
    for factor, unit in ((1e6, "MB"), (1e3, "kB")):
        if value >= factor:
            return f"{value / factor:.3g} {unit}"
    return f"{value:.3g} B"


@in_style
def pareto(
    rows: Iterable[Mapping[str, Any]],
    *,
    title: str,
    x: str = "size_bytes",
    y: str = "accuracy",
    name: str = "name",
    group: str | None = None,
    xlabel: str = "size of the file",
    ylabel: str = "accuracy on the test images",
    percent: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Gain against cost, with the Pareto front drawn and every point named; returns the Axes.

    Points on the front are filled, beaten ones hollow. The x axis is logarithmic when the costs span more
    than a factor of 5.

    Args:    rows: mappings with the keys x (lower is better), y (higher is better) and name.
             title: the claim the figure makes. group: a key whose values get a marker each, with a legend.
             xlabel, ylabel: with units; bytes are written as kB or MB when x is "size_bytes".
             percent: y is a share 0 to 1.
    Raises:  ValueError if there is no row, a row lacks a key, or a value is not finite.
    """
    table = list(rows)
    lacking = [key for row in table for key in (x, y, name, *([group] if group else [])) if key not in row]
    if lacking:
        raise ValueError(f"a row has no {lacking[0]!r}; every row needs {x!r}, {y!r} and {name!r}")
    costs, gains = array([row[x] for row in table], x), array([row[y] for row in table], y)
    ax = axes(ax)
    front = pareto_front(costs, gains)
    ax.plot(costs[front], gains[front], color=GREY, linewidth=1.2, drawstyle="steps-post", zorder=1)
    kinds = [row[group] for row in table] if group else [None] * len(table)
    _draw_points(ax, costs, gains, kinds, front)
    ax.plot([], [], color=GREY, linewidth=1.2, label="Pareto front")
    if costs.min() > 0 and costs.max() / costs.min() > 5:
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_minor_locator(NullLocator())
    if x == "size_bytes":
        ax.xaxis.set_major_formatter(FuncFormatter(_in_units))
    if percent:
        percent_axis(ax)
    ax.margins(x=0.15, y=0.15)
    finish(ax, title=title, xlabel=xlabel, ylabel=ylabel)
    ax.legend()
    _place_labels(ax, list(zip(costs, gains, strict=True)), [str(row[name]) for row in table])
    return ax
