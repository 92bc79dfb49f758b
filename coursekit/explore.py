"""Things to play with in a lesson: widgets where a kernel runs, the same as a still picture everywhere else."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
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
) -> Axes:
    """The Axes with x's histogram over the levels of one quantizer, with its error in the title.

    Args:    x: any shape, floating point. n_bits: 2 to 8. scheme: "symmetric" or "affine".
             kept: share of the range that the grid covers, above 0 to 1; what lies outside saturates.
    Raises:  ValueError for another scheme, a share outside 0..1, or n_bits outside 2..8.
    """
    if not 0 < kept <= 1:
        raise ValueError(f"kept must be above 0 and at most 1, got {kept}")
    back, levels = _round_trip(x, n_bits, scheme, kept)
    step = (levels[1] - levels[0]).item()
    saturated = ((x - back).abs() > 0.501 * step).float().mean().item()  # rounding moves at most half a step
    title = f"{sqnr_db(x, back):.1f} dB with {n_bits} bits, {scheme}, {saturated:.2%} of the values clipped"
    margin = 0.05 * (x.max() - x.min()).item()
    shown = (x.min().item() - margin, x.max().item() + margin)
    return plot.histogram_with_levels(x, levels, title=title, xlabel=name, log=True, xlim=shown)


def explore_quantizer(tensors: Mapping[str, Tensor]) -> None:
    """Shows `draw_quantizer` with controls for tensor, bits, scheme and range; a still picture without widgets.

    Both are in one output: a page that knows no widgets, such as a saved notebook, shows the picture.

    Args:   tensors: names to tensors, at least one.
    Raises: ValueError if there is none.
    """
    if not tensors:
        raise ValueError("tensors is empty: there is nothing to explore")
    from IPython.display import display

    name, x = next(iter(tensors.items()))
    bundle = {"image/png": base64.b64encode(_png(x.detach(), 4, "symmetric", 1.0, name)).decode("ascii")}
    try:
        bundle = {**_widget(tensors)._repr_mimebundle_(), **bundle}
    except ImportError:
        print(
            "For sliders: pip install ipywidgets. draw_quantizer(x, n_bits, scheme, kept) draws any setting."
        )
    display(bundle, raw=True)


def _widget(tensors: Mapping[str, Tensor]) -> Any:
    """Controls over a picture that is drawn anew whenever one of them changes."""
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
    picture = widgets.Image(format="png")

    def draw(_: object = None) -> None:
        picture.value = _png(tensors[name.value].detach(), n_bits.value, scheme.value, kept.value, name.value)

    for control in (name, n_bits, scheme, kept):
        control.observe(draw, names="value")
    draw()
    return widgets.VBox([widgets.HBox([name, n_bits]), widgets.HBox([scheme, kept]), picture])


def _png(x: Tensor, n_bits: int, scheme: str, kept: float, name: str) -> bytes:
    """`draw_quantizer` as the bytes of a PNG, leaving no figure open."""
    draw_quantizer(x, n_bits, scheme, kept, name)
    buffer = io.BytesIO()
    plt.savefig(buffer, format="png", bbox_inches="tight")
    plt.close()
    return buffer.getvalue()
