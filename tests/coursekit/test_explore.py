"""The playground's figure: the same with and without widgets, and clear about what it cannot draw."""

from __future__ import annotations

import builtins

import matplotlib.pyplot as plt
import pytest
import torch

from coursekit.explore import draw_quantizer, explore_quantizer
from coursekit.measure import sqnr_db
from coursekit.quantization import fake_quantize, symmetric_scale

X = torch.randn(500, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.mark.parametrize("n_bits", [2, 4, 8])
def test_title_gives_the_measured_error(n_bits):
    db = sqnr_db(X, fake_quantize(X, symmetric_scale(X, n_bits), n_bits))
    assert f"{db:.1f} dB" in draw_quantizer(X, n_bits, "symmetric").get_title(loc="left")


def test_keeping_less_of_the_range_clips_values():
    assert "0.00% of the values clipped" in draw_quantizer(X, 4, "affine").get_title(loc="left")
    assert "0.00% of the values clipped" not in draw_quantizer(X, 4, "affine", kept=0.3).get_title(loc="left")


@pytest.mark.parametrize(
    ("setting", "message"),
    [({"scheme": "other"}, "got 'other'"), ({"kept": 0.0}, "got 0"), ({"n_bits": 1}, "got 1")],
)
def test_settings_that_cannot_be_drawn_are_refused_by_value(setting, message):
    with pytest.raises(ValueError, match=message):
        draw_quantizer(X, **setting)


def test_nothing_to_explore_is_refused():
    with pytest.raises(ValueError, match="empty"):
        explore_quantizer({})


def test_without_widgets_the_picture_stays_and_says_how_to_get_them(monkeypatch, capsys):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "ipywidgets":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    explore_quantizer({"x": X})
    assert "pip install ipywidgets" in capsys.readouterr().out
