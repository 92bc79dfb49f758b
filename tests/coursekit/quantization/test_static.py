"""Whole networks in integers: the two views agree bit for bit, the file is all of the network, bad ones are named."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from coursekit import zoo
from coursekit.data import fashion_mnist
from coursekit.measure import file_size, macs, n_parameters, nonzero
from coursekit.models import mobilenet_v2
from coursekit.quantization import (
    PercentileObserver,
    StaticConfig,
    UnsupportedLayerError,
    load_integer,
    quantize_dynamic,
    quantize_static,
    save_integer,
)
from coursekit.train import predict


@pytest.fixture(scope="module")
def images():
    return fashion_mnist("train", subset=True).images[:100]


@pytest.fixture(scope="module")
def test_set():
    return fashion_mnist("test", subset=True).take(200)


class Everything(nn.Module):
    """Every kind of operation that has an integer form, in an order that makes sense to nobody."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, stride=2, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.left = nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8, bias=False)
        self.right = nn.Conv2d(8, 4, 1)
        self.pool = nn.MaxPool2d(3, 2, padding=1)
        self.drop = nn.Dropout()
        self.fc = nn.Linear(12, 10)

    def forward(self, x):
        x = F.relu6(self.bn(self.stem(x)))  # (N, 8, 14, 14)
        y = self.left(x)
        y = torch.relu(y) + y  # the ReLU cannot be fused: its input is used again
        x = torch.cat([y + x, self.right(x).relu()], dim=1)  # (N, 12, 14, 14)
        x = F.avg_pool2d(self.pool(x), 2)  # (N, 12, 3, 3)
        x = F.adaptive_avg_pool2d(x, 1)
        return self.fc(self.drop(torch.flatten(x, 1)))


def network(name: str) -> nn.Module:
    if name in zoo.available():
        return zoo.load(name)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return (mobilenet_v2() if name == "mobilenet_v2" else Everything()).eval()


@pytest.mark.parametrize("name", ["lenet300", "lenet5", "resnet20", "mobilenet_v2", "everything"])
@pytest.mark.parametrize(
    "config", [StaticConfig(), StaticConfig(4, 6, False, PercentileObserver)], ids=["8", "4"]
)
def test_integers_equal_the_fake_quantized_network_bit_for_bit_in_every_layer(name, config, images, test_set):
    quantized = quantize_static(network(name), images, config)
    batch = test_set.images[:20]
    codes, values = quantized.layer_codes(batch), quantized.fake().layer_values(batch)
    assert list(codes) == list(values)
    grids = {"input": quantized.input} | {step.name: step.layer.output for step in quantized.steps}
    for layer, q in codes.items():
        assert q.dtype == torch.int8
        assert torch.equal(q.double() - grids[layer].zero_point, values[layer] / grids[layer].scale), layer
    assert torch.equal(quantized.codes(batch), quantized.fake().codes(batch))


@pytest.mark.parametrize("name", ["resnet20", "everything"])
def test_usual_fake_quantization_differs_by_one_step_in_a_layer_and_seldom(name, images, test_set):
    quantized = quantize_static(network(name), images)
    codes = quantized.layer_codes(test_set.images[:20])
    grids = {"input": quantized.input} | {step.name: step.layer.output for step in quantized.steps}
    unequal = total = 0
    for step in quantized.steps:  # each layer on the integer network's own input
        values = [grids[source].values(codes[source]) for source in step.inputs]
        difference = step.layer.output.back(step.layer.float_fake(*values)).int() - codes[step.name].int()
        assert difference.abs().max() <= 1, step.name
        unequal, total = unequal + (difference != 0).sum().item(), total + difference.numel()
    # float32 is off by 2**-17 at a code near 128, so 1 value in 2**16 lies near enough to a half; ReLU's zeros never.
    assert unequal / total <= 1e-4


@pytest.mark.parametrize("n_bits", [8, 4])
def test_every_possible_sum_of_two_codes_is_rounded_alike_in_integers_and_in_float32(n_bits, images):
    quantized = quantize_static(zoo.load("resnet20"), images, StaticConfig(activation_bits=n_bits))
    every = torch.arange(-(2 ** (n_bits - 1)), 2 ** (n_bits - 1), dtype=torch.int8)
    pairs = [each.flatten() for each in torch.meshgrid(every, every, indexing="ij")]
    sums = [step.layer for step in quantized.steps if step.layer.kind == "add"]
    assert len(sums) == 9
    for layer in sums:
        values = [grid.values(codes) for grid, codes in zip(layer.inputs, pairs, strict=True)]
        assert torch.equal(layer.output.back(layer.float_fake(*values)), layer(*pairs))


@pytest.mark.parametrize("name", ["lenet5", "resnet20"])
def test_eight_bits_lose_no_more_than_one_point(name, images, test_set):
    model = zoo.load(name)
    right = (predict(model, test_set.images).argmax(1) == test_set.labels).sum().item()
    quantized = quantize_static(model, images)
    # Of 200 images, 2: over 10,000 the loss is below 0.3 points, benchmarks/quantization.py.
    assert (predict(quantized, test_set.images).argmax(1) == test_set.labels).sum().item() >= right - 2


@pytest.mark.parametrize("name", ["lenet5", "resnet20", "everything"])
def test_the_file_alone_is_the_network(name, images, test_set, tmp_path):
    config = StaticConfig(layer_bits={"fc2" if name == "lenet5" else "fc": 4})
    quantized = quantize_static(network(name), images, config)
    path = tmp_path / "network.safetensors"
    save_integer(quantized, path)
    again = load_integer(path)
    batch = test_set.images[:10]
    for (name_a, a), (name_b, b) in zip(
        quantized.layer_codes(batch).items(), again.layer_codes(batch).items(), strict=True
    ):
        assert name_a == name_b and torch.equal(a, b)
    assert torch.equal(again(batch), quantized(batch))
    assert torch.equal(again.fake("float")(batch), quantized.fake("float")(batch))
    assert str(again) == str(quantized)


@pytest.mark.parametrize(("name", "ratio"), [("lenet300", 3.9), ("lenet5", 3.9), ("resnet20", 3.7)])
def test_the_file_is_almost_a_quarter_of_the_float_one(name, ratio, images, tmp_path):
    save_integer(quantize_static(zoo.load(name), images), tmp_path / "network.safetensors")
    assert file_size(zoo.path(name)) / file_size(tmp_path / "network.safetensors") >= ratio


@pytest.mark.parametrize("name", ["lenet5", "resnet20"])
def test_what_is_measured_of_a_float_network_can_be_measured_of_the_integer_one(name, images):
    model = zoo.load(name)
    quantized = quantize_static(model, images)
    shape = tuple(images.shape[1:])
    assert macs(quantized, shape) == macs(model, shape) == macs(quantize_dynamic(model), shape)
    layers = [each for each in model.modules() if isinstance(each, (nn.Conv2d, nn.Linear))]
    n_weights = sum(each.weight.numel() + len(each.weight) for each in layers)  # folding gives each a bias
    assert n_parameters(quantized) == n_weights
    assert 0.5 * n_weights < nonzero(quantized) < n_weights  # small weights are rounded to 0
    assert n_parameters(quantize_dynamic(model)) == n_parameters(model)


def test_a_file_of_something_else_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not a quantized network"):
        load_integer(zoo.path("lenet300"))


def test_single_layers_may_have_fewer_bits(images):
    quantized = quantize_static(zoo.load("lenet300"), images, StaticConfig(layer_bits={"fc2": 3}))
    largest = {
        step.name: step.layer.weight.abs().max().item() for step in quantized.steps if step.name[:2] == "fc"
    }
    assert largest == {"fc1": 127, "fc2": 3, "fc3": 127}
    with pytest.raises(ValueError, match=r"layer_bits names 'conv9', but the layers are fc1, fc2, fc3"):
        quantize_static(zoo.load("lenet300"), images, StaticConfig(layer_bits={"conv9": 4}))


def test_the_model_stays_as_it_was_and_names_stay(images):
    model = zoo.load("resnet20")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    quantized = quantize_static(model, images)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    weighted = [step.name for step in quantized.steps if hasattr(step.layer, "weight_scale")]
    layers = [name for name, each in model.named_modules() if isinstance(each, (nn.Conv2d, nn.Linear))]
    assert weighted == layers
    assert not quantized.training


class Bad(nn.Module):
    def __init__(self, forward) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.GroupNorm(2, 4)
        self.wrapped = nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular")
        self.run = forward

    def forward(self, x):
        return self.run(self, x)


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (lambda m, x: torch.sigmoid(m.norm(m.conv(x))), "norm: GroupNorm has no integer form here; sigmoid: sigmoid"),
        (lambda m, x: m.wrapped(x), "wrapped: a convolution can be padded with zeros only"),
        (lambda m, x: m.conv(m.conv(x)[:, :1]), "getitem"),
        (lambda m, x: m.conv(x) + m.conv(x), "conv: runs twice"),
        (lambda m, x: m.conv(x) + 1.0, "add: takes a number"),
        (lambda m, x: (m.conv(x), x), "more than one tensor"),
        (lambda m, x: m.conv(x).mean(dim=1), "mean over 1"),
        (lambda m, x: F.max_pool2d(m.conv(x), 2, ceil_mode=True), "ceil_mode"),
        (lambda m, x: F.avg_pool2d(m.conv(x), 2, padding=1), "average pooling with padding"),
        (lambda m, x: m.conv(x).flatten(2), r"flatten\(2, -1\)"),
        (lambda m, x: x, "no layer to quantize"),
        (lambda m, x: m.conv(x) if x.sum() > 0 else x, "cannot be traced"),
    ],
    ids=["two_unknown", "padding", "slice", "twice", "number", "tuple", "mean", "ceil", "average", "flatten", "empty",
         "control_flow"],
)  # fmt: skip
def test_what_has_no_integer_form_is_named_before_anything_is_computed(forward, message, images):
    with pytest.raises(UnsupportedLayerError, match=message):
        quantize_static(Bad(forward).eval(), images)


def test_a_model_in_training_mode_and_images_without_values_are_refused(images):
    with pytest.raises(ValueError, match="eval"):
        quantize_static(network("resnet20").train(), images)
    with pytest.raises(ValueError, match="images is empty"):
        quantize_static(zoo.load("lenet300"), images[:0])
    with pytest.raises(ValueError, match="images holds nan"):
        quantize_static(zoo.load("lenet300"), images * float("nan"))
    with pytest.raises(ValueError, match="batch_size"):
        StaticConfig(batch_size=0)
    with pytest.raises(ValueError, match="from 2 to 8"):
        StaticConfig(weight_bits=9)
    with pytest.raises(ValueError, match="rounding must be"):
        quantize_static(zoo.load("lenet300"), images).fake("nearest")


def test_dead_channels_and_huge_biases_keep_their_outputs():
    model = nn.Sequential(nn.Conv2d(1, 4, 1), nn.Flatten(), nn.Linear(4, 4)).eval()
    with torch.no_grad():
        model[0].weight[:, 0, 0, 0] = torch.tensor([1.0, 0.0, 1e-12, -1.0])
        model[0].bias.copy_(torch.tensor([0.0, 0.7, 5.0, 0.0]))
        model[2].weight.copy_(torch.eye(4))
        model[2].bias.zero_()
    images = torch.linspace(-1, 1, 21).reshape(21, 1, 1, 1)
    quantized = quantize_static(model, images)
    error = (quantized(images) - model(images)).abs().max().item()
    # Two roundings of activations, and a weight of 1 / 127 steps: each at most half a step of a grid of 6 / 255.
    assert error <= 3 * 0.5 * 6 / 255
    assert torch.equal(quantized.codes(images), quantized.fake().codes(images))
