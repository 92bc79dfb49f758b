"""The radar chart: nothing leaves it, and every rim is the best value there."""

from __future__ import annotations

import matplotlib
import matplotlib.pyplot as plt
import pytest

from coursekit import plot

matplotlib.use("Agg")
ROWS = {
    "a": {"smaller": 4.0, "faster": 1.0, "right": 0.9},
    "b": {"smaller": 1.0, "faster": 2.0, "right": 0.95},
}


def test_lines_are_closed_and_reach_the_rim_at_their_best_spoke():
    ax = plot.radar(ROWS, title="claim")
    for line, row in zip(ax.lines, ROWS.values(), strict=True):
        radii = list(line.get_ydata())
        assert radii[0] == radii[-1] and max(radii) <= 1
        best = [max(each[name] for each in ROWS.values()) for name in row]
        assert radii[:-1] == pytest.approx([
            value / most for value, most in zip(row.values(), best, strict=True)
        ])
    assert "rim: 4" in ax.get_xticklabels()[0].get_text()
    plt.close("all")


@pytest.mark.parametrize(
    "rows",
    [{}, {"a": {"x": 1.0, "y": 1.0}}, {"a": {"x": 1.0, "y": -1.0, "z": 1.0}}, {"a": {"x": 0.0, "y": 1.0, "z": 1.0}},
     {**ROWS, "c": {"x": 1.0, "y": 1.0, "z": 1.0}}],
    ids=["empty", "two_spokes", "negative", "all_zero", "other_spokes"],
)  # fmt: skip
def test_what_cannot_be_drawn_is_refused(rows):
    with pytest.raises(ValueError, match=r"give|negative"):
        plot.radar(rows, title="claim")
