"""The course's figures: one call a figure, one house style, legible in grey and for the colour-blind.

Every helper takes the claim the figure makes as its `title`, returns the Axes it drew on, and never calls
`show`: Jupyter shows the figure at the end of the cell, and a test can look into it. Pass `ax` to draw
into a figure of your own. This package imports nothing else of coursekit.
"""

from coursekit.plot._attention import overlays
from coursekit.plot._calibration import reliability
from coursekit.plot._floats import magnitudes
from coursekit.plot._general import bars, images, lines
from coursekit.plot._pareto import pareto, pareto_front
from coursekit.plot._pruning import histograms
from coursekit.plot._quantization import (
    channel_ranges,
    clip_curve,
    error_by_bits,
    histogram_with_levels,
    staircase,
)
from coursekit.plot._radar import radar
from coursekit.plot._style import PALETTE, style

__all__ = [
    "PALETTE",
    "bars",
    "channel_ranges",
    "clip_curve",
    "error_by_bits",
    "histogram_with_levels",
    "histograms",
    "images",
    "lines",
    "magnitudes",
    "overlays",
    "pareto",
    "pareto_front",
    "radar",
    "reliability",
    "staircase",
    "style",
]
