"""Dynamically quantized layers against exact integers, and against the float layers they were made of."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from coursekit import zoo
from coursekit.data import fashion_mnist
from coursekit.measure import saved_size
from coursekit.quantization import DynamicLinear, DynamicRNN, dynamic_linear, quantize_dynamic
from coursekit.train import predict


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def images():
    return fashion_mnist("test", subset=True).images[:200]


@pytest.mark.parametrize("n_bits", [8, 4])
@pytest.mark.parametrize("shape", [(7, 20), (2, 3, 20), (20,)], ids=["batch", "sequences", "vector"])
def test_a_linear_layer_is_the_product_of_the_rounded_operands(shape, n_bits):
    x, weight, bias = normal(*shape), normal(5, 20, seed=1), normal(5, seed=2)
    layer = DynamicLinear.from_tensors(weight, bias, n_bits=n_bits)
    levels = 2**n_bits - 1
    step = (max(x.max().item(), 0) - min(x.min().item(), 0)) / levels
    zero = round(-(2 ** (n_bits - 1)) - min(x.min().item(), 0) / step)
    codes = (x / step).round() + zero
    rounded = (codes.clamp(-(2 ** (n_bits - 1)), 2 ** (n_bits - 1) - 1) - zero).double() * step
    w_step = weight.abs().amax(1, keepdim=True) / (2 ** (n_bits - 1) - 1)
    w_rounded = (weight / w_step).round().double() * w_step.double()
    expected = rounded @ w_rounded.t() + bias.double()
    got = layer(x)
    assert got.dtype == torch.float32 and got.shape == (*shape[:-1], 5)
    assert torch.allclose(got.double(), expected, rtol=0, atol=1e-5)  # float32's rounding of sums near 20


def test_an_outlier_costs_all_others_their_precision():
    weight = normal(10, 50, seed=1)
    layer = DynamicLinear.from_tensors(weight, None)
    x = normal(100, 50)
    error = (layer(x) - x @ weight.t()).abs().mean()
    spoiled = x.clone()
    spoiled[0, 0] = 1000.0
    spoiled_error = (layer(spoiled)[1:] - x[1:] @ weight.t()).abs().mean()
    assert spoiled_error > 30 * error


def test_an_empty_batch_stays_empty_and_nan_is_refused():
    layer = DynamicLinear.from_tensors(normal(3, 4), None)
    assert layer(torch.empty(0, 4)).shape == (0, 3)
    with pytest.raises(ValueError, match="x holds nan"):
        layer(torch.full((1, 4), float("nan")))
    with pytest.raises(TypeError, match="q_w must hold integer codes"):
        dynamic_linear(normal(1, 4), normal(3, 4), torch.ones(1))


RNNS = pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU], ids=["lstm", "gru"])


def recurrent(kind, **options) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind(6, 16, **options).eval()


@RNNS
@pytest.mark.parametrize(
    "options",
    [{}, {"batch_first": True, "bias": False}, {"num_layers": 2, "bidirectional": True, "dropout": 0.5}],
    ids=["plain", "batch_first_no_bias", "two_layers_both_ways"],
)
def test_a_recurrent_layer_follows_the_float_one(kind, options):
    rnn = recurrent(kind, **options)
    x = normal(9, 5, 6)
    outputs, state = DynamicRNN(rnn)(x)
    expected, expected_state = rnn(x)
    pairs = [(outputs, expected)]
    pairs += list(zip(state, expected_state, strict=True)) if kind is nn.LSTM else [(state, expected_state)]
    for ours, theirs in pairs:
        assert ours.shape == theirs.shape
        # Gates have slopes up to 1/4 and 1, weights up to 1/4: an error of half a step of 1/127 stays about that size.
        # A gate in the wrong place is off by 0.1 and more.
        assert (ours - theirs).abs().max() <= 0.02
        assert theirs.abs().max() > 0.2


@RNNS
def test_a_sequence_in_two_halves_with_the_state_passed_on_ends_where_the_whole_does(kind):
    rnn = DynamicRNN(recurrent(kind))
    x = normal(8, 1, 6).expand(8, 3, 6)
    whole, _ = rnn(x)
    _, state = rnn(x[:4])
    second, _ = rnn(x[4:], state)
    assert (second - whole[4:]).abs().max() <= 0.02  # the halves have ranges, and so steps, of their own


@RNNS
def test_a_forgotten_state_would_show(kind):
    rnn, x = DynamicRNN(recurrent(kind)), normal(4, 3, 6)
    h = torch.ones(1, 3, 16)
    state = (h, h) if kind is nn.LSTM else h
    assert (rnn(x, state)[0] - rnn(x)[0]).abs().max() > 0.1


def test_a_network_keeps_its_accuracy_and_loses_three_quarters_of_its_bytes(images):
    model = zoo.load("lenet300")
    quantized = quantize_dynamic(model)
    agree = (predict(quantized, images).argmax(1) == predict(model, images).argmax(1)).float().mean()
    assert agree >= 0.98
    assert saved_size(model) / saved_size(quantized) >= 3.8
    assert isinstance(model.fc1, nn.Linear) and isinstance(quantized.fc1, DynamicLinear)


def test_convolutions_stay_and_say_so(images):
    quantized = quantize_dynamic(zoo.load("lenet5"))
    assert isinstance(quantized.conv1, nn.Conv2d) and isinstance(quantized.fc1, DynamicLinear)
    with pytest.raises(ValueError, match="Conv2d cannot be quantized dynamically"):
        quantize_dynamic(zoo.load("lenet5"), (nn.Conv2d, nn.Linear))
    with pytest.raises(ValueError, match="no Linear or LSTM or GRU"):
        quantize_dynamic(nn.Sequential(nn.Conv2d(1, 1, 3)))


def test_a_single_layer_and_a_nested_one_are_replaced_and_subclasses_left():
    assert isinstance(quantize_dynamic(nn.Linear(3, 2)), DynamicLinear)
    nested = quantize_dynamic(nn.ModuleDict({"a": nn.Sequential(nn.ReLU(), nn.GRU(3, 2))}))
    assert isinstance(nested.get_submodule("a.1"), DynamicRNN)
    attention = nn.MultiheadAttention(4, 2)
    mixed = quantize_dynamic(nn.Sequential(attention, nn.Linear(4, 4)))
    assert type(mixed[0].out_proj) is type(attention.out_proj)


def test_the_state_goes_through_a_file(images, tmp_path):
    quantized = quantize_dynamic(zoo.load("lenet300"))
    save_file(quantized.state_dict(), tmp_path / "dynamic.safetensors")
    with torch.random.fork_rng():
        other = quantize_dynamic(type(zoo.load("lenet300"))())
    other.load_state_dict(load_file(tmp_path / "dynamic.safetensors"))
    assert torch.equal(other(images[:20]), quantized(images[:20]))


def test_other_recurrent_layers_are_refused_by_name():
    with pytest.raises(TypeError, match="got RNN"):
        DynamicRNN(nn.RNN(3, 4))
    with pytest.raises(ValueError, match="proj_size"):
        DynamicRNN(nn.LSTM(3, 4, proj_size=2))
    with pytest.raises(ValueError, match="three dimensions"):
        DynamicRNN(nn.GRU(3, 4))(torch.zeros(5, 3))
    with pytest.raises(ValueError, match="from 2 to 8"):
        quantize_dynamic(nn.Linear(3, 2), n_bits=1)
