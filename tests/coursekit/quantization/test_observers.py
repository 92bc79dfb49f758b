"""Observers against all their data at once, on activations of a trained network."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from coursekit import data, zoo
from coursekit.quantization import (
    HistogramObserver,
    MinMaxObserver,
    MovingAverageObserver,
    Observer,
    PercentileObserver,
    affine_qparams,
    dequantize,
    moving_average_range,
    quantize,
    range_qparams,
)

MAKERS = {
    "min_max": MinMaxObserver,
    "moving_average": MovingAverageObserver,
    "percentile": PercentileObserver,
    "mse": lambda: HistogramObserver("mse"),
    "kl": lambda: HistogramObserver("kl"),
}
every_observer = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())


@pytest.fixture(scope="module")
def activations() -> dict[str, list[Tensor]]:
    """Five batches of what two places of the trained ResNet-20 carry: after a ReLU, and before one."""
    torch.set_num_threads(1)
    network = zoo.load("resnet20")
    seen: dict[str, list[Tensor]] = {"after_relu": [], "signed": []}
    network.get_submodule("stage2.1.relu1").register_forward_hook(
        lambda m, i, o: seen["after_relu"].append(o)
    )
    network.get_submodule("stage2.1.bn2").register_forward_hook(lambda m, i, o: seen["signed"].append(o))
    with torch.inference_mode():
        for batch in data.fashion_mnist("train", subset=True).images[:100].split(20):
            network(batch)
    return seen


def watched(observer: Observer, batches: list[Tensor]) -> tuple[float, float]:
    for batch in batches:
        observer.update(batch)
    return observer.range()


def error_of(x: Tensor, lo: float, hi: float, n_bits: int) -> float:
    scale, zero_point = range_qparams(lo, hi, n_bits)
    return (x - dequantize(quantize(x, scale, zero_point, n_bits), scale, zero_point)).square().mean().item()


@every_observer
def test_range_lies_within_the_data_and_lo_is_not_above_hi(make, activations):
    for batches in activations.values():
        lo, hi = watched(make(), batches)
        x = torch.cat(batches)
        assert x.min() <= lo < hi <= x.max()


@every_observer
def test_unused_observer_says_what_to_do(make):
    with pytest.raises(RuntimeError, match="has seen no data"):
        make().range()


@every_observer
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_bad_batch_is_refused_and_changes_nothing(make, value):
    observer = make()
    observer.update(torch.linspace(-1, 3, 5000))
    before = observer.range()
    for bad in (torch.tensor([1e6, value]), torch.zeros(0)):
        with pytest.raises(ValueError, match=r"holds|empty"):
            observer.update(bad)
    with pytest.raises(TypeError, match="floating-point"):
        observer.update(torch.tensor([7]))
    assert observer.range() == before


@every_observer
def test_constant_streams_have_a_range_that_can_be_quantized(make):
    for value in (0.0, 2.5, -2.5):
        lo, hi = watched(make(), [torch.full((3, 2), value)] * 3)
        scale, zero_point = range_qparams(lo, hi)
        back = dequantize(quantize(torch.tensor([value]), scale, zero_point), scale, zero_point)
        assert back.item() == pytest.approx(value, rel=1e-6)


def test_min_max_is_that_of_all_batches(activations):
    for batches in activations.values():
        x = torch.cat(batches)
        assert watched(MinMaxObserver(), batches) == (x.min().item(), x.max().item())


def test_moving_average_is_the_weighted_sum_written_out(activations):
    """Batch k of n weighs (1 - m) m^(n-1-k), the first one m^(n-1)."""
    batches, m = activations["signed"], 0.7
    n = len(batches)
    weights = [m ** (n - 1)] + [(1 - m) * m ** (n - 1 - k) for k in range(1, n)]
    lo, hi = watched(MovingAverageObserver(m), batches)
    assert lo == pytest.approx(sum(w * b.min().item() for w, b in zip(weights, batches, strict=True)))
    assert hi == pytest.approx(sum(w * b.max().item() for w, b in zip(weights, batches, strict=True)))
    assert moving_average_range(batches, m) == (lo, hi)


@pytest.mark.parametrize("percentile", [90.0, 99.0, 99.9, 100.0])
def test_percentile_cuts_the_share_it_says(activations, percentile):
    for batches in activations.values():
        x = torch.cat(batches)
        lo, hi = watched(PercentileObserver(percentile), batches)
        tail = (1 - percentile / 100) / 2
        bin_width = (x.max() - x.min()).item() / 1024  # at least half of the 2048 bins are in use
        for end, q in ((lo, tail), (hi, 1 - tail)):
            # the q-quantile of a sample lies between these two of its values
            exact = [
                torch.quantile(x.flatten()[:10_000_000], q, interpolation=i).item()
                for i in ("lower", "higher")
            ]
            assert exact[0] - bin_width <= end <= exact[1] + bin_width


def test_percentile_of_a_relu_starts_at_zero(activations):
    assert watched(PercentileObserver(99.9), activations["after_relu"])[0] == 0.0


@pytest.mark.parametrize("n_bits", [3, 4, 8])
def test_mse_range_is_nearly_as_good_as_the_best_of_all_ranges_tried_on_the_data(activations, n_bits):
    for batches in activations.values():
        x = torch.cat(batches)
        ours = error_of(x, *watched(HistogramObserver("mse", n_bits), batches), n_bits)
        lo, hi = x.min().item(), x.max().item()
        shares = [k / 25 for k in range(1, 26)]
        best = min(error_of(x, a * lo, b * hi, n_bits) for b in shares for a in (shares if lo < 0 else [1.0]))
        assert ours <= 1.02 * best  # candidates are 1 % apart, and near the minimum the error is flat


def test_kl_cuts_off_a_far_outlier_and_keeps_a_uniform_range():
    bulk = torch.rand(50_000, generator=torch.Generator().manual_seed(0))
    lo, hi = watched(HistogramObserver("kl"), [bulk])
    assert lo == 0.0
    assert hi == pytest.approx(1.0, abs=0.01)
    _, hi = watched(HistogramObserver("kl"), [bulk, torch.tensor([5.0])])
    assert 0.9 < hi < 1.3  # thresholds are 1 % of the range apart, plus one bin


@pytest.mark.parametrize(
    "make", [PercentileObserver, lambda: HistogramObserver("mse")], ids=["percentile", "mse"]
)
def test_order_of_the_batches_does_not_matter(make, activations):
    batches = activations["signed"]
    one, other = watched(make(), batches), watched(make(), batches[::-1])
    assert one == pytest.approx(
        other, abs=(max(b.max() for b in batches).item()) / 500
    )  # bins may differ by a factor 2


def test_parameters_out_of_range_are_refused():
    for make in (
        lambda: MovingAverageObserver(1.0),
        lambda: PercentileObserver(0),
        lambda: PercentileObserver(101),
        lambda: HistogramObserver("entropy"),
        lambda: HistogramObserver(n_bits=9),
        lambda: HistogramObserver(n_bins=1),
    ):
        with pytest.raises(ValueError, match="must be"):
            make()


@given(lo=st.floats(-10, 10), width=st.floats(1e-3, 20), n_bits=st.integers(2, 8))
def test_range_qparams_are_those_of_data_with_these_ends(lo, width, n_bits):
    x = torch.tensor([lo, lo + width])
    scale, zero_point = affine_qparams(x, n_bits)
    assert range_qparams(x[0].item(), x[1].item(), n_bits) == (pytest.approx(scale), zero_point)


def test_range_qparams_refuse_what_is_no_range():
    for lo, hi in ((1.0, 0.0), (float("nan"), 1.0), (0.0, float("inf"))):
        with pytest.raises(ValueError, match="range needs"):
            range_qparams(lo, hi)
