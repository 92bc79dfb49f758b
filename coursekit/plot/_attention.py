"""Where a network looks, drawn over what it looks at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from torch import Tensor

from coursekit.plot._style import axes, finish, in_style


@in_style
def overlays(
    pictures: Tensor,
    rows: Mapping[str, Tensor],
    captions: Sequence[str] | None = None,
    *,
    title: str,
    ax: Axes | None = None,
) -> Axes:
    """Grey images, and below them, a row for each of `rows`, the same images under heat maps; returns the Axes.

    Args:    pictures: (N, 1, H, W) or (N, H, W), any range. captions: N strings, above the images.
             rows: label to maps (N, h, w), or (N, h * w) of square ones, not negative: black is 0, bright the largest
             value of each map. They are enlarged without smoothing, so that one sees how coarse they are.
             title: the claim the figure makes.
    Raises:  ValueError if there are no maps, or a shape or a number does not fit.
    """
    if pictures.dim() == 4 and pictures.shape[1] == 1:
        pictures = pictures[:, 0]
    if pictures.dim() != 3 or not pictures.numel() or not rows:
        raise ValueError(
            f"need pictures (N, 1, H, W) and maps for them, got {tuple(pictures.shape)} and {len(rows)}"
        )
    n, height, width = pictures.shape
    if captions is not None and len(captions) != n:
        raise ValueError(f"captions has {len(captions)} strings for {n} images")
    grey = _unit(pictures.detach().float())
    bands = [grey[..., None].expand(-1, -1, -1, 3)]
    bands += [_heated(grey, maps, label) for label, maps in rows.items()]
    gap = 2
    canvas = torch.ones(len(bands) * (height + gap) - gap, n * (width + gap) - gap, 3)
    for i, band in enumerate(bands):
        for j, picture in enumerate(band):
            top, left = i * (height + gap), j * (width + gap)
            canvas[top : top + height, left : left + width] = picture
    cell = min(1.0, 7.2 / n)
    ax = axes(ax, (cell * n + 1.4, cell * len(bands) * height / width + 0.7))
    ax.imshow(canvas.numpy(), interpolation="nearest")
    for j, caption in enumerate(captions or ()):
        ax.text(j * (width + gap) + width / 2, -1.5, caption, ha="center", va="bottom", fontsize=9)
    for i, label in enumerate(["image", *rows]):
        ax.text(-2, i * (height + gap) + height / 2, label, ha="right", va="center", fontsize=10)
    ax.set_axis_off()
    finish(ax, title=title, xlabel="", ylabel="")
    ax.set_title(ax.get_title(loc="left"), pad=18 if captions else 6)  # room for the captions
    return ax


def _unit(values: Tensor) -> Tensor:
    """Each image spread over 0..1."""
    low, high = values.amin((1, 2), keepdim=True), values.amax((1, 2), keepdim=True)
    return (values - low) / torch.where(high > low, high - low, 1.0)


def _heated(grey: Tensor, maps: Tensor, label: str) -> Tensor:
    """The images (N, H, W) under their maps, (N, H, W, 3)."""
    maps = maps.detach().float()
    if maps.dim() == 2:
        side = round(maps.shape[1] ** 0.5)
        maps = maps.reshape(len(maps), side, -1) if side * side == maps.shape[1] else maps
    if maps.dim() != 3 or len(maps) != len(grey) or not maps.isfinite().all() or maps.min() < 0:
        raise ValueError(
            f"rows[{label!r}] must be finite maps (N, h, w), not negative, got {tuple(maps.shape)}"
        )
    large = F.interpolate(maps[:, None], grey.shape[1:], mode="nearest")[:, 0]
    peak = large.amax((1, 2), keepdim=True)
    heat = (large / torch.where(peak > 0, peak, 1.0)).numpy()
    colours = torch.from_numpy(np.asarray(matplotlib.colormaps["inferno"](heat)[..., :3], dtype=np.float32))
    return 0.3 * grey[..., None] + 0.7 * colours
