"""coursekit.measure: every figure against an independent way to get it."""

import gc
import math
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from coursekit import measure
from coursekit.data import Dataset
from coursekit.measure import (
    compare,
    file_size,
    latency,
    macs,
    mse,
    n_parameters,
    nonzero,
    peak_memory,
    saved_size,
    sparsity,
    sqnr_db,
)
from coursekit.models import LeNet5, LeNet300100, ResNet, resnet20
from coursekit.train import evaluate

MIB = 2**20
NAN, INF = float("nan"), float("inf")


class Tied(nn.Module):
    """Two layers that share one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(50, 50, bias=False), nn.Linear(50, 50, bias=False)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(self.first(x))


class Attribute(nn.Module):
    """A layer with a buffer that is not saved and a number that no state dict holds."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 2)
        self.scale = 0.5
        self.register_buffer("mask", torch.ones(2), persistent=False)

    def forward(self, x):
        return self.fc(x) * self.scale * self.mask


def images(n: int = 60, seed: int = 0) -> Dataset:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(10, (n,), generator=generator)
    return Dataset(torch.randn(n, 1, 28, 28, generator=generator), labels, tuple("0123456789"), "noise")


def mixed_mode_model() -> nn.Module:
    model = ResNet(1, 2).train()
    model.bn1.eval()
    return model


def state_of(model: nn.Module) -> tuple:
    """Everything a measurement must leave alone."""
    modes = [m.training for m in model.modules()]
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    values = {name: value.clone() for name, value in model.state_dict().items()}
    gradients = [p.requires_grad for p in model.parameters()]
    return modes, hooks, gradients, values, torch.get_rng_state()


def assert_unchanged(before: tuple, after: tuple) -> None:
    assert before[:3] == after[:3]
    assert before[3].keys() == after[3].keys()
    assert all(torch.equal(before[3][name], after[3][name]) for name in before[3])
    assert torch.equal(before[4], after[4])


# error


def test_mean_squared_error_agrees_with_numpy_and_torch():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 31, 7, generator=generator)
    expected = float(np.mean((x.double().numpy() - y.double().numpy()) ** 2))
    assert mse(x, y) == pytest.approx(expected, rel=1e-14)
    assert mse(x, y) == pytest.approx(nn.functional.mse_loss(x, y).item(), rel=1e-5)  # theirs is float32


@settings(deadline=None)
@given(db=st.floats(-60, 60), scale=st.sampled_from([1e-30, 1e-3, 1.0, 1e30]), n=st.integers(1, 50))
def test_ratio_of_a_signal_to_noise_of_known_power_is_that_power(db, scale, n):
    """Noise proportional to the signal, by 10^(-db/20), is db decibels below it."""
    x = scale * torch.linspace(-1, 2, n, dtype=torch.float64)
    # x * (1 + r) - x loses at most one rounding of 2**-53 on 1 + r: relative to r at most 2**-53 * 1e3.
    assert sqnr_db(x, x * (1 + 10 ** (-db / 20))) == pytest.approx(db, abs=1e-9)


def test_one_more_bit_of_a_uniform_quantizer_adds_six_decibels():
    """Uniform signal, step far below it: noise is step²/12 (Bennett 1948), so a bit is 20 log10 2."""
    x = torch.linspace(-1, 1, 100_001, dtype=torch.float64)
    measured = [sqnr_db(x, torch.round(x * 2 ** (b - 1)) / 2 ** (b - 1)) for b in (6, 7, 8)]
    assert measured == pytest.approx([20 * math.log10(2) * b for b in (6, 7, 8)], abs=0.05)


def test_ratio_does_not_depend_on_units():
    x, y = torch.randn(2, 100, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert sqnr_db(x, y) == pytest.approx(sqnr_db(1000 * x, 1000 * y), abs=1e-10)


def test_ratio_of_a_float32_signal_near_the_ends_of_its_range_is_finite():
    for size in (1e-38, 1e38):
        x = torch.tensor([size, -size])
        assert sqnr_db(x, 0.9 * x) == pytest.approx(20, abs=1e-4)


def test_equal_tensors_have_no_error_and_an_infinite_ratio():
    x = torch.randn(5)
    for signal in (x, torch.zeros(3)):
        assert mse(signal, signal.clone()) == 0.0
        assert sqnr_db(signal, signal.clone()) == INF


def test_zero_signal_with_noise_has_ratio_minus_infinity():
    assert sqnr_db(torch.zeros(2), torch.ones(2)) == -INF


def test_other_layouts_and_dtypes_measure_the_same():
    x = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    assert mse(x.t(), x.t() + 1) == 1.0
    assert mse(x.half(), x.bfloat16() + 1) == 1.0
    assert mse(torch.tensor(2.0, requires_grad=True), torch.tensor(5.0)) == 9.0


@pytest.mark.parametrize("function", [mse, sqnr_db])
@pytest.mark.parametrize(
    ("x", "x_hat", "error", "message"),
    [
        (torch.ones(2), torch.ones(3), ValueError, r"shape \(2,\), x_hat \(3,\)"),
        (torch.ones(2, 1), torch.ones(2), ValueError, r"\(2, 1\), x_hat \(2,\)"),
        (torch.ones(0), torch.ones(0), ValueError, r"x is empty \(shape \(0,\)\)"),
        (torch.tensor([1.0, NAN]), torch.ones(2), ValueError, "x holds nan"),
        (torch.ones(2), torch.tensor([1.0, -INF]), ValueError, "x_hat holds -inf"),
        (torch.ones(2), torch.ones(2, dtype=torch.int8), ValueError, "x_hat is torch.int8.*dequantize"),
        ([1.0], torch.ones(1), TypeError, "x must be a tensor, got list"),
    ],
    ids=["lengths", "broadcastable", "empty", "nan", "inf", "integers", "list"],
)
def test_what_cannot_be_compared_is_refused_by_name(function, x, x_hat, error, message):
    with pytest.raises(error, match=message):
        function(x, x_hat)


# bytes


def test_size_of_a_file_and_of_a_folder_is_the_sum_of_the_contents(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 10)
    (tmp_path / "below" / "more").mkdir(parents=True)
    (tmp_path / "below" / "more" / "b").write_bytes(b"y" * 7)
    assert file_size(tmp_path / "a") == 10
    assert file_size(str(tmp_path / "a")) == 10
    assert file_size(tmp_path) == 17
    assert file_size(tmp_path / "below") == 7


def test_size_of_nothing_is_an_error_that_names_the_path(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file or folder at .*missing.*save the model"):
        file_size(tmp_path / "missing")


@pytest.mark.parametrize("build", [LeNet300100, resnet20], ids=["lenet300", "resnet20"])
def test_saved_size_is_that_of_the_file_safetensors_writes(build, tmp_path):
    model = build()
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, tmp_path / "m.safetensors")
    # save_model names the format in the header; safetensors pads headers to 8 bytes.
    assert 0 <= saved_size(model) - (tmp_path / "m.safetensors").stat().st_size <= 64


def test_saved_size_follows_the_dtype():
    model = nn.Linear(1000, 1000)
    halved = nn.Linear(1000, 1000).half()
    assert saved_size(model) - saved_size(halved) == pytest.approx(2 * n_parameters(model), abs=64)


def test_tied_weights_are_stored_and_counted_once():
    assert n_parameters(Tied()) == nonzero(Tied()) == 2500
    assert 10_000 < saved_size(Tied()) < 10_000 + 300  # one weight and a header


def test_saved_size_changes_nothing_and_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    model = mixed_mode_model()
    before = state_of(model)
    saved_size(model)
    assert_unchanged(before, state_of(model))
    assert list(tmp_path.iterdir()) == []


def test_saved_size_of_a_channels_last_model_is_the_same():
    model = LeNet5()
    assert saved_size(model) == saved_size(model.to(memory_format=torch.channels_last))


def test_model_without_anything_to_store_is_refused():
    with pytest.raises(ValueError, match="ReLU has no parameter or buffer"):
        saved_size(nn.ReLU())


def test_reloaded_copy_takes_every_value_from_the_file(tmp_path, monkeypatch):
    """A file with other values must show in the copy."""
    from coursekit.measure import _size

    model = Attribute()
    _, reloaded = _size.save_and_reload(model)
    x = torch.randn(3, 4)
    assert torch.equal(reloaded(x), model(x))

    def save_zeros(module, path):
        save_file({k: torch.zeros_like(v) for k, v in module.state_dict().items()}, path)

    monkeypatch.setattr(_size, "save_model", save_zeros)
    with pytest.raises(RuntimeError, match="came back from the file with other values"):
        saved_size(model)


# counts


def test_zeros_are_counted_over_weights_and_biases():
    layer = nn.Linear(4, 3)
    model = nn.Sequential(layer, nn.BatchNorm1d(3))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1.0)
        layer.weight[0] = 0.0
        layer.bias[1] = -0.0
    assert n_parameters(model) == 12 + 3 + 3 + 3
    assert nonzero(model) == 21 - 5
    assert sparsity(model) == pytest.approx(5 / 21)


def test_all_zero_model_is_wholly_sparse():
    model = nn.Linear(2, 2)
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    assert sparsity(model) == 1.0


def test_counting_nothing_or_nan_is_an_error():
    with pytest.raises(ValueError, match="ReLU has no parameters"):
        sparsity(nn.ReLU())
    model = nn.Linear(2, 2)
    nn.init.constant_(model.bias, NAN)
    with pytest.raises(ValueError, match="'bias' holds NaN"):
        nonzero(model)


@pytest.mark.parametrize(
    ("layer", "shape", "by_hand"),
    [
        (nn.Linear(5, 3), (5,), 15),
        (nn.Linear(5, 3), (7, 5), 7 * 15),
        (nn.Conv1d(2, 4, 3), (2, 10), 8 * 4 * 2 * 3),
        (nn.Conv2d(3, 8, 3, padding=1), (3, 6, 6), 36 * 8 * 3 * 9),
        (nn.Conv2d(3, 8, 3, stride=2, dilation=2, bias=False), (3, 9, 9), 9 * 8 * 3 * 9),
        (nn.Conv2d(6, 9, (1, 3), groups=3), (6, 4, 5), 12 * 9 * 2 * 3),
        (nn.Conv2d(6, 6, 3, groups=6), (6, 5, 5), 9 * 6 * 9),
        (nn.Conv3d(1, 2, 2), (1, 3, 3, 3), 8 * 2 * 8),
        (nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), (4, 5, 5), 25 * 4 * 3 * 9),
        (nn.ConvTranspose1d(2, 3, 4), (2, 5), 5 * 2 * 3 * 4),
    ],
    ids=["linear", "linear_rows", "conv1d", "padded", "strided", "grouped", "depthwise", "conv3d",
         "transposed", "transposed1d"],
)  # fmt: skip
def test_macs_of_a_layer_agree_with_the_count_by_hand_and_with_torch(layer, shape, by_hand):
    with FlopCounterMode(display=False) as counter:
        layer(torch.zeros(1, *shape))
    assert macs(layer, shape) == by_hand == counter.get_total_flops() // 2


@pytest.mark.parametrize("build", [LeNet300100, LeNet5, resnet20], ids=["lenet300", "lenet5", "resnet20"])
def test_macs_of_a_network_agree_with_torch(build):
    model = build().eval()
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 1, 28, 28))
    assert macs(model, (1, 28, 28)) == counter.get_total_flops() // 2


@settings(deadline=None)
@given(
    groups=st.integers(1, 4), n_in=st.integers(1, 3), n_out=st.integers(1, 3), kernel=st.integers(1, 3),
    stride=st.integers(1, 3), padding=st.integers(0, 2), side=st.integers(3, 9), transposed=st.booleans(),
)  # fmt: skip
def test_macs_of_any_convolution_agree_with_torch(
    groups, n_in, n_out, kernel, stride, padding, side, transposed
):
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    padding = min(padding, kernel - 1)  # so that a transposed output never shrinks to nothing
    layer = kind(groups * n_in, groups * n_out, kernel, stride, padding, groups=groups)
    with FlopCounterMode(display=False) as counter:
        layer(torch.zeros(1, groups * n_in, side, side))
    assert macs(layer, (groups * n_in, side, side)) == counter.get_total_flops() // 2


def test_layer_called_twice_counts_twice():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x):
            return self.fc(self.fc(x))

    assert macs(Twice(), (4,)) == 32


def test_counting_macs_changes_nothing():
    model = mixed_mode_model()
    before = state_of(model)
    assert macs(model, (1, 28, 28)) > 0
    assert_unchanged(before, state_of(model))


def test_float64_model_counts_too():
    assert macs(nn.Linear(3, 2).double(), (3,)) == 6


def test_shape_the_model_does_not_take_is_refused_and_hooks_are_removed():
    model = LeNet5()
    before = state_of(model)
    with pytest.raises(ValueError, match=r"LeNet5 does not run on one input of shape \(3, 28, 28\)"):
        macs(model, (3, 28, 28))
    assert_unchanged(before, state_of(model))


@pytest.mark.parametrize("shape", [(), (0, 28), (-1,), (1.5,)])
def test_shape_that_is_no_shape_is_refused(shape):
    with pytest.raises(ValueError, match="positive integers"):
        macs(LeNet5(), shape)


# time


class Sleeper:
    """Takes a known time, and notes its calls."""

    def __init__(self, ms: float, log: list) -> None:
        self.ms, self.log = ms, log

    def __call__(self, x):
        self.log.append(self.ms)
        deadline = time.perf_counter_ns() + int(self.ms * 1e6)
        while time.perf_counter_ns() < deadline:
            pass
        return x


def test_models_take_turns_after_the_warm_up():
    log: list[float] = []
    latency({"a": Sleeper(0.1, log), "b": Sleeper(0.2, log)}, torch.zeros(1), warmup=2, repeats=3)
    assert log == [0.1, 0.2] * 5


def test_numbers_of_one_measurement_fit_together():
    """A busy loop never ends early, so 2 ms is at least 2 ms; ratios are exact by construction."""
    result = latency({"a": Sleeper(1, []), "b": Sleeper(2, [])}, torch.zeros(1), warmup=0, repeats=5)
    assert list(result) == ["a", "b"]
    assert result["a"].ratio == 1.0
    assert result["a"].min_ms >= 1
    assert result["b"].min_ms >= 2
    for measured in result.values():
        assert measured.min_ms <= measured.median_ms


def test_ratio_is_the_median_over_the_rounds(monkeypatch):
    """With a clock of our own: rounds of 1:2, 10:10 and 2:6 ms give 2, 1 and 3."""
    ticks = iter([0, 1, 1, 3, 3, 13, 13, 23, 23, 25, 25, 31])
    monkeypatch.setattr("coursekit.measure._time.time.perf_counter_ns", lambda: next(ticks) * 10**6)
    result = latency({"a": lambda x: x, "b": lambda x: x}, torch.zeros(1), warmup=0, repeats=3)
    assert result["a"] == measure.Latency(median_ms=2.0, min_ms=1.0, ratio=1.0)
    assert result["b"] == measure.Latency(median_ms=6.0, min_ms=2.0, ratio=2.0)


def test_models_run_in_eval_and_inference_mode_on_the_threads_asked_for():
    seen = []

    class Probe(nn.Module):
        def forward(self, x):
            seen.append((self.training, torch.is_inference_mode_enabled(), torch.get_num_threads()))
            return x

    before = torch.get_num_threads()
    model = Probe().train()
    latency({"probe": model}, torch.zeros(1), threads=2, warmup=0, repeats=1)
    assert seen == [(False, True, 2)]
    assert model.training
    assert torch.get_num_threads() == before
    assert gc.isenabled()


def test_everything_is_restored_after_a_model_that_raises():
    model, threads = mixed_mode_model(), torch.get_num_threads()
    before = state_of(model)
    with pytest.raises(RuntimeError):
        latency({"a": model}, torch.zeros(1, 3, 28, 28), threads=2)
    assert_unchanged(before, state_of(model))
    assert torch.get_num_threads() == threads
    assert gc.isenabled()


def test_several_arguments_come_as_a_tuple():
    assert latency({"add": torch.add}, (torch.ones(2), torch.ones(2)), repeats=1)["add"].ratio == 1.0


@pytest.mark.parametrize(
    ("models", "inputs", "options", "error", "message"),
    [
        ({}, torch.zeros(1), {}, ValueError, "models is empty"),
        ({"a": 3}, torch.zeros(1), {}, TypeError, r"models\['a'\] is a int"),
        ({"a": abs}, torch.zeros(0, 4), {}, ValueError, r"shape \(0, 4\)"),
        ({"a": abs}, torch.zeros(1), {"threads": 0}, ValueError, "got 0, 30 and 5"),
        ({"a": abs}, torch.zeros(1), {"repeats": 0}, ValueError, "got 1, 0 and 5"),
        ({"a": abs}, torch.zeros(1), {"warmup": -1}, ValueError, "got 1, 30 and -1"),
    ],
    ids=["no_model", "not_callable", "empty_input", "threads", "repeats", "warmup"],
)
def test_latency_of_what_cannot_be_run_is_refused(models, inputs, options, error, message):
    with pytest.raises(error, match=message):
        latency(models, inputs, **options)


# memory

needs_linux = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="no /proc/self/clear_refs"
)


@needs_linux
@pytest.mark.parametrize(
    ("function", "expected_mib"),
    [
        (lambda: torch.ones(16 * MIB), 64),
        (lambda: [torch.ones(8 * MIB).sum() for _ in range(3)], 32),
        (lambda: [torch.ones(4 * MIB) for _ in range(3)], 48),
        (lambda: None, 0),
    ],
    ids=["one_tensor", "one_after_another", "all_at_once", "nothing"],
)
def test_peak_is_the_memory_alive_at_once(function, expected_mib):
    peak_memory(lambda: torch.ones(10).sum())  # pages in the code
    # The kernel counts resident pages per thread in batches; 2 MiB covers them and the allocator's own.
    assert abs(peak_memory(function) / MIB - expected_mib) < 2


@needs_linux
def test_memory_used_before_does_not_hide_the_peak():
    peaks = []
    for _ in range(2):
        big = torch.ones(16 * MIB)
        del big
        peaks.append(peak_memory(lambda: torch.ones(8 * MIB)) / MIB)
    assert all(abs(peak - 32) < 2 for peak in peaks)


def test_system_without_the_counter_is_told_so(monkeypatch, tmp_path):
    monkeypatch.setattr("coursekit.measure._memory._CLEAR_REFS", tmp_path / "no" / "clear_refs")
    with pytest.raises(RuntimeError, match="needs Linux"):
        peak_memory(lambda: None)


# all of it


@pytest.fixture(scope="module")
def comparison():
    torch.manual_seed(0)
    return compare({"big <5>": LeNet5(), "small": LeNet300100()}, images(), repeats=3, warmup=1)


def test_row_holds_what_each_measurement_gives_alone():
    torch.manual_seed(0)
    model, dataset = mixed_mode_model(), images()
    before = state_of(model)
    (row,) = compare({"one": model}, dataset, repeats=2, warmup=0).rows
    assert_unchanged(before, state_of(model))
    assert row.accuracy == evaluate(model, dataset)
    assert row.size_bytes == saved_size(model)
    assert row.nonzero == nonzero(model)
    assert row.macs == macs(model, (1, 28, 28))
    assert row.latency_ratio == 1.0
    assert row.latency_ms > 0


def test_bytes_of_a_given_file_are_shown_instead(tmp_path):
    path = tmp_path / "m.safetensors"
    model = LeNet300100().half()
    save_file(model.state_dict(), path)
    restored = LeNet300100()
    restored.load_state_dict(load_file(path))
    rows = compare({"half": restored}, images(), files={"half": path}, repeats=1).rows
    assert rows[0].size_bytes == path.stat().st_size


def test_table_has_a_row_a_model_and_shows_in_jupyter(comparison):
    table = comparison.table()
    assert table["model"].tolist() == ["big <5>", "small"]
    assert table["MACs"].tolist() == ["2,293,000", "266,200"]
    assert "266,610" in repr(comparison)
    assert repr(comparison).endswith("accuracy on 60 images, noise")
    html = comparison._repr_html_()
    assert "<table" in html
    assert "big &lt;5&gt;" in html


def test_plot_has_a_point_a_model_and_names_them(comparison):
    ax = comparison.plot(title="LeNet-300 is smaller")
    assert {text.get_text() for text in ax.texts} == {"big <5>", "small"}
    assert ax.get_title(loc="left") == "LeNet-300 is smaller"


@pytest.mark.parametrize(
    ("models", "options", "error", "message"),
    [
        ({}, {}, ValueError, "models is empty"),
        ({"f": abs}, {}, TypeError, "not a torch.nn.Module"),
        ({"a": LeNet5()}, {"latency_batch": 61}, ValueError, "1..60"),
        ({"a": LeNet5()}, {"files": {"b": "x"}}, ValueError, r"files names \['b'\]"),
        ({"a": LeNet5()}, {"files": {"a": "missing"}}, FileNotFoundError, "missing"),
        ({"a": nn.Linear(3, 2)}, {}, ValueError, "does not run on one input"),
    ],
    ids=["no_model", "not_a_module", "batch", "unknown_file", "missing_file", "wrong_shape"],
)
def test_comparison_of_what_cannot_be_compared_is_refused(models, options, error, message):
    with pytest.raises(error, match=message):
        compare(models, images(), repeats=1, warmup=0, **options)
