"""Things to play with in a lesson: widgets where a kernel runs, the same as a still picture everywhere else."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import Tensor

from coursekit import plot
from coursekit.measure import sqnr_db
from coursekit.quantization import affine_qparams, dequantize, int_range, quantize, symmetric_scale

__all__ = ["draw_quantizer", "explore_quantizer"]

SCHEMES = ("symmetric", "affine")


def _round_trip(x: Tensor, n_bits: int, scheme: str, kept: float) -> tuple[Tensor, Tensor]:
    """x quantized and back with the range clipped to a share of itself, and all levels of the grid."""
    clipped = x * kept  # same sign, range scaled: only min and max of it are used
    if scheme == "symmetric":
        scale, zero_point = symmetric_scale(clipped, n_bits), 0
    elif scheme == "affine":
        scale, zero_point = affine_qparams(clipped, n_bits)
    else:
        raise ValueError(f"scheme must be one of {', '.join(SCHEMES)}, got {scheme!r}")
    qmin, qmax = int_range(n_bits)
    codes = torch.arange(qmin, qmax + 1)
    back = dequantize(quantize(x, scale, zero_point, n_bits), scale, zero_point)
    return back, dequantize(codes, scale, zero_point)


def draw_quantizer(
    x: Tensor, n_bits: int = 4, scheme: str = "symmetric", kept: float = 1.0, name: str = "x"
) -> Figure:
    """A figure of x's histogram over the levels of one quantizer, with its error in the title.

    Args:    x: any shape, floating point. n_bits: 2 to 8. scheme: "symmetric" or "affine".
             kept: share of the range that the grid covers, above 0 to 1; what lies outside saturates.
    Raises:  ValueError for another scheme, a share outside 0..1, or n_bits outside 2..8.
    """
    if not 0 < kept <= 1:
        raise ValueError(f"kept must be above 0 and at most 1, got {kept}")
    back, levels = _round_trip(x, n_bits, scheme, kept)
    saturated = ((x < levels.min()) | (x > levels.max())).float().mean().item()
    title = f"{sqnr_db(x, back):.1f} dB with {n_bits} bits, {scheme}, {saturated:.2%} of the values clipped"
    margin = 0.05 * (x.max() - x.min()).item()
    figure, ax = plt.subplots(figsize=(7, 3.2))
    plot.histogram_with_levels(
        x, levels, title=title, xlabel=name, log=True, ax=ax,
        xlim=(x.min().item() - margin, x.max().item() + margin),
    )  # fmt: skip
    return figure


def explore_quantizer(tensors: Mapping[str, Tensor]) -> None:
    """Shows `draw_quantizer` with sliders for bits, scheme and range; a still picture if there are no widgets.

    The still picture is drawn first in any case, so that the saved notebook shows something.

    Args:   tensors: names to tensors, at least one.
    Raises: ValueError if there is none.
    """
    if not tensors:
        raise ValueError("tensors is empty: there is nothing to explore")
    from IPython.display import display

    first = next(iter(tensors))
    still = draw_quantizer(tensors[first].detach(), name=first)
    display(still)
    plt.close(still)
    try:
        display(_widget(tensors))
    except ImportError:
        print(
            "For sliders: pip install ipywidgets. draw_quantizer(x, n_bits, scheme, kept) draws any setting."
        )


def _widget(tensors: Mapping[str, Tensor]) -> object:
    import ipywidgets as widgets

    name = widgets.Dropdown(options=list(tensors), description="tensor")
    n_bits = widgets.IntSlider(4, 2, 8, description="bits", continuous_update=False)
    scheme = widgets.Dropdown(options=SCHEMES, description="scheme")
    kept = widgets.FloatSlider(
        1.0,
        min=0.05,
        max=1.0,
        step=0.05,
        description="range kept",
        readout_format=".0%",
        continuous_update=False,
    )

    def draw(name: str, n_bits: int, scheme: str, kept: float) -> None:
        draw_quantizer(tensors[name].detach(), n_bits, scheme, kept, name)
        plt.show()

    shown = widgets.interactive_output(draw, {"name": name, "n_bits": n_bits, "scheme": scheme, "kept": kept})
    return widgets.VBox([widgets.HBox([name, n_bits]), widgets.HBox([scheme, kept]), shown])
