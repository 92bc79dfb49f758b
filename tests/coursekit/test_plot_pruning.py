"""coursekit.plot's figures of pruning: what is drawn is what was given."""

from __future__ import annotations

import matplotlib
import matplotlib.pyplot as plt
import pytest
import torch

from coursekit import plot

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def heights(patch) -> list[float]:
    """The counts of an outline, from its path: up and along, bin by bin."""
    return [y for _, y in patch.get_path().vertices[1 : 2 * 4 + 1 : 2]]


def test_histograms_share_their_bins_and_count_every_value():
    ax = plot.histograms(
        {"all": torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0]), "kept": torch.tensor([3.0, 4.0])},
        title="claim", bins=4, log=False,
    )  # fmt: skip
    everything, kept = ax.patches
    assert heights(everything) == [1, 1, 1, 2]  # the last bin has both its ends
    assert heights(kept) == [0, 0, 0, 2]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["all", "kept"]
    assert ax.get_title(loc="left") == "claim"


def test_the_band_is_shaded():
    ax = plot.histograms({"": torch.linspace(-1, 1, 50)}, title="claim", band=(-0.2, 0.3))
    span = ax.patches[0]
    assert (span.get_x(), span.get_x() + span.get_width()) == pytest.approx((-0.2, 0.3))
    assert ax.get_legend() is None


@pytest.mark.parametrize(
    "groups", [{}, {"a": []}, {"a": [float("nan")]}, {str(i): [1.0, 2.0] for i in range(8)}],
    ids=["none", "empty", "nan", "eight"],
)  # fmt: skip
def test_nothing_to_draw_is_refused(groups):
    with pytest.raises(ValueError, match=r"groups"):
        plot.histograms(groups, title="claim")
