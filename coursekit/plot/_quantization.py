"""What quantization does, drawn: levels, steps, errors, clipping, channels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, MaxNLocator, NullFormatter, NullLocator, StrMethodFormatter
from torch import Tensor

from coursekit.plot._general import Values, lines
from coursekit.plot._style import (
    GREY,
    HATCHES,
    LINE_STYLES,
    PALETTE,
    array,
    axes,
    finish,
    in_style,
    legend_on_top,
)


def _reserve_below(ax: Axes, share: float, log: bool) -> None:
    """Moves the zero (or the 0.7 of a log axis) up by `share` of the height, with no ticks below it."""
    top = ax.get_ylim()[1] * (2.0 if log else 1.05)
    ratio = share / (1 - share)
    if log:
        ax.set_ylim(0.7 / (top / 0.7) ** ratio, top)
        powers = 10.0 ** np.arange(0, int(np.log10(top)) + 1)
        ax.yaxis.set_major_locator(FixedLocator(list(powers)))
        ax.yaxis.set_minor_locator(NullLocator())
        ax.yaxis.set_minor_formatter(NullFormatter())
    else:
        ticks = [t for t in MaxNLocator(5).tick_values(0, top) if 0 <= t <= top]
        ax.set_ylim(-ratio * top, top)
        ax.yaxis.set_major_locator(FixedLocator(ticks))
        ax.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


@in_style
def histogram_with_levels(
    x: Values,
    levels: Values | Mapping[str, Values],
    *,
    title: str,
    xlabel: str = "weight",
    ylabel: str | None = None,
    bins: int = 120,
    log: bool = False,
    xlim: tuple[float, float] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """The histogram of a tensor with the quantization levels as ticks below it; returns the Axes.

    Args:    x: any shape, finite. levels: the values that exist after dequantizing, (L,), or label to (L,)
             for several rows of ticks to compare, at most 7.
             title: the claim the figure makes. xlabel: what x is, with its unit.
             bins: of the histogram. log: logarithmic counts, which shows the tails. xlim: what is shown.
    Raises:  ValueError if x or levels is empty or not finite.
    """
    values = array(x, "x")
    if isinstance(levels, Mapping):
        rows = {label: array(row, f"levels[{label!r}]") for label, row in levels.items()}
    else:
        rows = {"": array(levels, "levels")}
    if not 1 <= len(rows) <= len(PALETTE):
        raise ValueError(f"levels must hold 1 to {len(PALETTE)} rows, got {len(rows)}")
    ax = axes(ax)
    ax.hist(values, bins=bins, color="#B8B8B8", edgecolor="none", log=log)
    if xlim is None:
        ends = np.concatenate([values, *rows.values()])
        margin = 0.04 * np.ptp(ends) or 1.0
        xlim = ends.min() - margin, ends.max() + margin
    ax.set_xlim(*xlim)
    row_height = 0.11
    share = row_height * len(rows) + 0.02
    _reserve_below(ax, share, log)
    within = ax.get_xaxis_transform()  # x in data units, y in shares of the height
    ax.axhspan(ax.get_ylim()[0], 0.7 if log else 0, color="white", zorder=2)
    ax.axhline(0.7 if log else 0, color=GREY, linewidth=0.8, zorder=3)
    for i, (label, row) in enumerate(rows.items()):
        bottom = share - 0.02 - (i + 1) * row_height
        spacing = np.ptp(row) / max(row.size - 1, 1) / (xlim[1] - xlim[0]) * ax.bbox.width  # pixels
        thickness = float(np.clip(0.4 * spacing, 0.5, 1.6))  # where levels are denser, the tint is darker
        text = f"{label}: {row.size} levels" if label else f"{row.size} levels"
        ax.vlines(
            row, bottom, bottom + 0.75 * row_height, transform=within, label=text, zorder=4,
            color=PALETTE[(0, 4, 2, 1, 3, 5, 6)[i]], linewidth=thickness, snap=False,
        )  # fmt: skip
    ax.grid(axis="x", visible=False)
    ax.legend(loc="upper right", handlelength=1.2)
    bin_width = (values.max() - values.min()) / bins
    ylabel = ylabel or f"values in a bin of {bin_width:.2g}"
    return finish(ax, title=title, xlabel=xlabel, ylabel=ylabel)


@in_style
def staircase(
    quantizers: Callable[[Tensor], Tensor] | Mapping[str, Callable[[Tensor], Tensor]],
    lo: float,
    hi: float,
    *,
    title: str,
    xlabel: str = "input x",
    ylabel: str = "what comes back",
    n_points: int = 2001,
    ax: Axes | None = None,
) -> Axes:
    """Input against output of one or more quantizers, beside the line "nothing lost"; returns the Axes.

    With one quantizer, its error is shaded.

    Args:    quantizers: a function from a float tensor to the dequantized tensor of the same shape, or label
             to such functions, at most 7. lo, hi: the inputs drawn, lo < hi; go beyond the range to see it
             clip. title: the claim the figure makes. n_points: inputs tried.
    Raises:  ValueError if lo >= hi, or a quantizer returns another shape, NaN or inf.
    """
    if not lo < hi:
        raise ValueError(f"lo must be below hi, got {lo} and {hi}")
    table = quantizers if isinstance(quantizers, Mapping) else {"after quantizing": quantizers}
    if not 1 <= len(table) <= len(PALETTE):
        raise ValueError(f"quantizers must hold 1 to {len(PALETTE)} functions, got {len(table)}")
    x = torch.linspace(lo, hi, n_points)
    ax = axes(ax, (5.2, 4.2))
    ax.axhline(0, color=GREY, linewidth=0.8)
    ax.axvline(0, color=GREY, linewidth=0.8)
    ax.plot([lo, hi], [lo, hi], color=GREY, linewidth=1.2, linestyle=(0, (2, 2)), label="nothing lost")
    for i, (label, quantizer) in enumerate(table.items()):
        back = quantizer(x)
        if back.shape != x.shape:
            raise ValueError(f"{label!r} returned shape {tuple(back.shape)} for input {tuple(x.shape)}")
        y = array(back, label)
        ax.plot(x.numpy(), y, color=PALETTE[i], linestyle=LINE_STYLES[i], label=label)
        if len(table) == 1:
            ax.fill_between(x.numpy(), x.numpy(), y, color=PALETTE[1], alpha=0.35, linewidth=0, label="error")
    ax.legend(loc="upper left")
    return finish(ax, title=title, xlabel=xlabel, ylabel=ylabel)


@in_style
def error_by_bits(
    bits: Sequence[int],
    errors: Mapping[str, Values],
    *,
    title: str,
    ylabel: str = "mean squared error",
    decibel: bool = False,
    theory: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Quantization error against the number of bits, with the theory's slope; returns the Axes.

    Args:    bits: (N,) integers. errors: label to (N,) errors, at most 7.
             title: the claim the figure makes. ylabel: with its unit.
             decibel: errors are SQNR in dB (higher is better, linear axis), otherwise mean squared errors
             (logarithmic axis). theory: draw the slope of one bit more, a quarter of the error or 6.02 dB,
             from the first curve's last point.
    Raises:  as `lines`.
    """
    ax = lines(
        bits, errors, title=title, xlabel="bits per value", ylabel=ylabel, logy=not decibel,
        markers=True, xticks=bits, ax=ax,
    )  # fmt: skip
    if theory:
        across, last = array(bits, "bits"), array(next(iter(errors.values())), "errors")[-1]
        gone = across - across[-1]
        slope = last + 20 * np.log10(2) * gone if decibel else last * 4.0**-gone
        label = "theory: 6.02 dB per bit" if decibel else "theory: a quarter with each bit"
        ax.plot(across, slope, color=GREY, linewidth=1.2, linestyle=(0, (2, 2)), label=label, zorder=1)
        ax.legend()
    return ax


@in_style
def clip_curve(
    thresholds: Values,
    clipping: Values,
    rounding: Values,
    *,
    title: str,
    xlabel: str = "clipping threshold",
    ylabel: str = "mean squared error",
    ymax: float | None = None,
    mark_best: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """The error of clipping and the error of rounding, stacked over the threshold; returns the Axes.

    Args:    thresholds: (N,), rising. clipping, rounding: (N,) parts of the mean squared error, >= 0; their
             sum is the whole. title: the claim the figure makes. xlabel, ylabel: with units.
             ymax: top of the y axis; by default 1.6 times the error at the last threshold or 4 times the
             least, whichever is more, so that a small threshold does not flatten the rest.
             mark_best: mark the threshold with the least error.
    Raises:  ValueError if lengths differ, a part is negative, or a value is NaN or inf.
    """
    across = array(thresholds, "thresholds")
    parts = {"clipping error": array(clipping, "clipping"), "rounding error": array(rounding, "rounding")}
    for label, part in parts.items():
        if part.shape != across.shape:
            raise ValueError(f"{label} has {part.size} values, but thresholds has {across.size}")
        if part.min() < 0:
            raise ValueError(f"{label} holds {part.min():g}; a mean squared error is never negative")
    ax = axes(ax)
    bottom = np.zeros_like(across)
    for i, (label, part) in enumerate(parts.items()):
        ax.fill_between(
            across, bottom, bottom + part, facecolor=PALETTE[i], hatch=HATCHES[i],
            edgecolor="white", linewidth=0, label=label,
        )  # fmt: skip
        bottom = bottom + part
    ax.plot(across, bottom, color="black", label="both")
    best = int(bottom.argmin())
    if mark_best:
        ax.plot(across[best], bottom[best], "o", color="black", label=f"least error, at {across[best]:.3g}")
        ax.axvline(across[best], color=GREY, linewidth=1.0, linestyle=(0, (2, 2)))
    ax.set_ylim(0, ymax if ymax is not None else max(1.6 * bottom[-1], 4 * bottom[best]) or 1.0)
    ax.set_xlim(across.min(), across.max())
    ax.legend(loc="upper right")
    return finish(ax, title=title, xlabel=xlabel, ylabel=ylabel)


@in_style
def channel_ranges(
    weight: Tensor,
    *,
    title: str,
    dim: int = 0,
    xlabel: str = "output channel, narrowest range first",
    ylabel: str = "weight",
    ax: Axes | None = None,
) -> Axes:
    """Each channel's smallest to largest weight, inside the band of the whole tensor; returns the Axes.

    Args:    weight: any shape, floating point, finite. dim: which dimension counts the channels.
             title: the claim the figure makes. xlabel, ylabel: with units.
    Raises:  ValueError if weight is empty or not finite; IndexError if dim is out of range.
    """
    everything = array(weight, "weight")
    rows = weight.detach().movedim(dim, 0).flatten(1) if weight.dim() > 1 else weight.detach()[:, None]
    lows, highs = array(rows.amin(1), "weight"), array(rows.amax(1), "weight")
    order = np.argsort(highs - lows, kind="stable")
    ax = axes(ax)
    ax.axhspan(
        everything.min(), everything.max(), facecolor="#E8E8E8", edgecolor=GREY, linestyle=(0, (2, 2)),
        linewidth=1.0, label="range of the whole tensor",
    )  # fmt: skip
    ax.axhline(0, color=GREY, linewidth=0.8)
    ax.bar(
        np.arange(len(order)), (highs - lows)[order], 0.7 if len(order) <= 150 else 1.0, bottom=lows[order],
        color=PALETTE[0], label="range of one channel",
    )  # fmt: skip
    ax.grid(axis="x", visible=False)
    ax.set_xlim(-1, len(order))
    margin = 0.06 * np.ptp(everything) or 1.0
    ax.set_ylim(everything.min() - margin, everything.max() + margin)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend_on_top(ax)
    return finish(ax, title=title, xlabel=xlabel, ylabel=ylabel)
