"""Colours, line styles, sizes, and what every helper shares."""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, TypeVar

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from torch import Tensor

# Okabe and Ito's palette without yellow, which a white page swallows. Neighbours also differ in lightness.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#56B4E9", "#D55E00", "#CC79A7", "#000000")
LINE_STYLES = ("-", "--", "-.", (0, (1, 1)), (0, (6, 1, 1, 1, 1, 1)), (0, (8, 3)), (0, (3, 3)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
HATCHES = ("", "///", "...", "xxx", "\\\\\\", "ooo", "---")
GREY = "#6E6E6E"

_RC: Any = {  # matplotlib types its keys one by one
    "figure.dpi": 80,
    "figure.figsize": (7.0, 3.8),
    "figure.constrained_layout.use": True,
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.8,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "legend.fontsize": 10,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 5.5,
    "hatch.linewidth": 0.7,
    "axes.formatter.useoffset": False,
    "axes.formatter.limits": (-3, 6),
    "axes.formatter.use_mathtext": True,
}

P = ParamSpec("P")
R = TypeVar("R")


def style() -> None:
    """Makes the house style matplotlib's default, for figures drawn without a helper.

    The helpers of this package apply it to what they draw with or without this call.
    """
    plt.rcParams.update(_RC)
    plt.rcParams["axes.prop_cycle"] = plt.cycler(color=PALETTE) + plt.cycler(linestyle=LINE_STYLES)


def in_style(draw: Callable[P, R]) -> Callable[P, R]:
    """The same function, drawing in the house style whatever the caller's rcParams are."""

    @functools.wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> R:
        with plt.style.context(["default", _RC]):
            result = draw(*args, **kwargs)
            interactive = matplotlib.is_interactive()
        # The first figure of a notebook loads the inline backend, which turns this on; the context undoes it.
        matplotlib.interactive(interactive)
        return result

    return drawn


def axes(ax: Axes | None, figsize: tuple[float, float] | None = None) -> Axes:
    """`ax` itself, or the Axes of a new figure."""
    return ax if ax is not None else plt.subplots(figsize=figsize)[1]


def figure_of(ax: Axes) -> Figure:
    """The whole figure that `ax` belongs to."""
    figure = ax.get_figure(root=True)
    if figure is None:
        raise ValueError("ax belongs to no figure; make it with plt.subplots()")
    return figure


def finish(ax: Axes, *, title: str, xlabel: str, ylabel: str) -> Axes:
    """The labelled Axes. A title wider than its Axes is broken into lines."""
    share = ax.get_position().width / 0.775  # of the figure, as one Axes alone takes 0.775 before layout
    letters = int(0.88 * share * figure_of(ax).get_figwidth() / 0.097)
    ax.set_title(textwrap.fill(title, max(letters, 20)))
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    return ax


def array(values: Tensor | Iterable[float] | np.ndarray, name: str) -> np.ndarray:
    """`values` as a flat float64 array.

    Raises: ValueError if it is empty or holds NaN or inf.
    """
    if isinstance(values, Tensor):
        flat = values.detach().double().cpu().numpy().ravel()
    else:
        flat = np.asarray(list(values) if not isinstance(values, np.ndarray) else values, float).ravel()
    if flat.size == 0:
        raise ValueError(f"{name} is empty: there is nothing to draw")
    if not np.isfinite(flat).all():
        raise ValueError(f"{name} holds {flat[~np.isfinite(flat)][0]}; leave out what is not finite")
    return flat


def legend_on_top(ax: Axes) -> None:
    """A legend in one row, in room made for it above what is drawn."""
    lo, hi = ax.get_ylim()
    if ax.get_yscale() == "log":
        ax.set_ylim(lo, hi * (hi / lo) ** 0.14)
    else:
        ax.set_ylim(lo, hi + 0.14 * (hi - lo))
    ax.legend(loc="upper left", ncols=4)


def percent_axis(ax: Axes) -> None:
    """Shows shares 0 to 1 on the y axis as per cent."""
    ax.yaxis.set_major_formatter(PercentFormatter(1.0))
