"""Heat maps lie over the images they belong to."""

import matplotlib.pyplot as plt
import pytest
import torch

from coursekit import plot


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def drawn(ax):
    return ax.images[0].get_array()


def test_the_bright_spot_is_where_the_map_is_large():
    pictures, maps = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.zeros(2, 2, 2)
    maps[0, 0, 1] = maps[1, 1, 0] = 5.0
    canvas = drawn(plot.overlays(pictures, {"stage": maps}, ["a", "b"], title="Two spots"))
    assert canvas.shape == (8 + 2 + 8, 8 + 2 + 8, 3)
    first, second = canvas[10:18, 0:8].mean(2), canvas[10:18, 10:18].mean(2)
    assert first[0:4, 4:8].min() > first[4:8, 0:4].max()
    assert second[4:8, 0:4].min() > second[0:4, 4:8].max()


def test_flat_square_maps_are_reshaped_and_every_row_is_labelled():
    ax = plot.overlays(
        torch.rand(3, 8, 8), {"one": torch.rand(3, 16), "two": torch.zeros(3, 4, 4)}, title="Rows"
    )
    assert [text.get_text() for text in ax.texts] == ["image", "one", "two"]
    assert ax.get_title(loc="left") == "Rows"


@pytest.mark.parametrize(
    "pictures, rows, captions",
    [
        (torch.rand(2, 3, 8, 8), {"a": torch.rand(2, 4)}, None),
        (torch.rand(2, 8, 8), {}, None),
        (torch.rand(2, 8, 8), {"a": torch.rand(3, 4)}, None),
        (torch.rand(2, 8, 8), {"a": torch.rand(2, 5)}, None),
        (torch.rand(2, 8, 8), {"a": -torch.rand(2, 2, 2)}, None),
        (torch.rand(2, 8, 8), {"a": torch.rand(2, 4)}, ["one"]),
    ],
    ids=["colour", "no_maps", "other_number", "not_square", "negative", "captions"],
)
def test_what_does_not_fit_is_refused(pictures, rows, captions):
    with pytest.raises(ValueError, match=r"need pictures|must be finite maps|captions has"):
        plot.overlays(pictures, rows, captions, title="")
