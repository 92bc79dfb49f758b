"""The reliability diagram draws what it is given, leaves empty bins out, and refuses what it cannot draw."""

import math

import pytest
import torch

from coursekit import plot


def test_points_are_the_bins_that_hold_answers_beside_the_diagonal():
    curve = (torch.tensor([0.2, math.nan, 0.9]), torch.tensor([0.1, math.nan, 0.7]))
    ax = plot.reliability({"net": curve}, title="claim")
    diagonal, line = ax.get_lines()
    assert list(diagonal.get_xdata()) == list(diagonal.get_ydata()) == [0, 1]
    assert line.get_xdata().tolist() == pytest.approx([0.2, 0.9])
    assert line.get_ydata().tolist() == pytest.approx([0.1, 0.7])
    assert ax.get_title(loc="left") == "claim"


@pytest.mark.parametrize(
    "curves",
    [{}, {"a": ([math.nan], [math.nan])}, {"a": ([0.1, 0.2], [0.1])}, {str(i): ([0.5], [0.5]) for i in range(8)}],
    ids=["none", "empty_bins", "lengths", "eight"],
)  # fmt: skip
def test_what_cannot_be_drawn_is_refused(curves):
    with pytest.raises(ValueError, match=r"curves"):
        plot.reliability(curves, title="claim")
