"""The one-file network: the same network comes back, whatever was done to it, and no damaged file does."""

from __future__ import annotations

import copy
from collections import OrderedDict

import pytest
import torch
from torch import nn

from coursekit import data, zoo
from coursekit.compression import (
    contents,
    factorize_network,
    kmeans,
    load,
    replace_module_,
    save,
    tucker2_conv,
)
from coursekit.measure import saved_size
from coursekit.models import LeNet5
from coursekit.pruning import ChannelPruning, attach_masks, magnitude_scores, make_masks, prune_channels
from coursekit.quantization import quantize_weights


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return data.fashion_mnist("test", subset=True).images[:2]


def pruned(model: nn.Module) -> nn.Module:
    """90 % of the weights zero, globally by magnitude."""
    made = copy.deepcopy(model)
    with torch.no_grad():
        for name, mask in make_masks(magnitude_scores(made), 0.9).items():
            made.get_parameter(name).mul_(mask)
    return made


def shared(model: nn.Module) -> nn.Module:
    """Every weight one of 16 values of its layer, or zero."""
    made = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in made.parameters():
            kept = parameter != 0
            if parameter.dim() > 1 and kept.any():
                found = kmeans(parameter[kept], 16)
                parameter[kept] = found.centroids[found.indices].float()
    return made


def four_bits(model: nn.Module) -> nn.Module:
    return quantize_weights(model, 4)


def low_rank(model: nn.Module) -> nn.Module:
    return factorize_network(model, 0.8, spatial=True)[0]


def narrow(model: nn.Module) -> nn.Module:
    return prune_channels(model, torch.zeros(1, 1, 28, 28), ChannelPruning(ratio=0.4))


STEPS = {"pruned": pruned, "shared": shared, "four_bits": four_bits, "low_rank": low_rank, "narrow": narrow}


def test_each_technique_makes_the_file_smaller_by_itself(tmp_path):
    """By what the form can save at least, the rest of the file left as it is."""
    model = zoo.load("lenet300")
    sizes = {name: save(step(model), tmp_path / name) for name, step in STEPS.items()}
    whole = save(model, tmp_path / "whole")
    assert whole <= saved_size(model)
    assert sizes["pruned"] < 0.2 * whole  # a tenth of the values, and less than a byte for each one's place
    assert sizes["shared"] < 0.14 * whole  # 4 of 32 bits
    assert sizes["four_bits"] < 0.14 * whole
    assert sizes["low_rank"] < whole and sizes["narrow"] < 0.65 * whole
    assert save(shared(pruned(model)), tmp_path / "both") < 0.05 * whole


@pytest.mark.parametrize("steps", [(), ("pruned",), ("pruned", "shared"), ("four_bits",)], ids="+".join)
def test_without_huffman_coding_the_same_comes_back_and_takes_more(steps, images, tmp_path):
    model = zoo.load("lenet300")
    for step in steps:
        model = STEPS[step](model)
    size = save(model, tmp_path / "fixed", huffman=False)
    again = load(tmp_path / "fixed")
    assert all(torch.equal(again.state_dict()[key], tensor) for key, tensor in model.state_dict().items())
    assert size == sum(part.size_bytes for part in contents(tmp_path / "fixed"))
    assert size >= save(model, tmp_path / "coded") if steps else size == save(model, tmp_path / "coded")


def test_a_sequential_of_plain_layers_and_a_tucker_layer_come_back(images, tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding="same"), nn.BatchNorm2d(6), nn.ReLU6(), nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(96, 10, bias=False),
    )  # fmt: skip
    replace_module_(model, "0", tucker2_conv(model[0], 3, 1))
    save(model, tmp_path / "net")
    assert torch.equal(load(tmp_path / "net")(images), model.eval()(images))


def test_what_has_no_form_is_refused_by_name_and_nothing_is_written(tmp_path):
    model = zoo.load("resnet20")
    model.stage1[0].relu1 = nn.GELU()
    with pytest.raises(TypeError, match=r"stage1\.0\.relu1 is a GELU"):
        save(model, tmp_path / "net")
    with pytest.raises(TypeError, match="a LSTM has no form"):
        save(nn.LSTM(2, 2), tmp_path / "net")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_a_network_of_another_dtype_comes_back_in_it(dtype, images, tmp_path):
    model = zoo.load("resnet8").to(dtype)
    save(model, tmp_path / "net")
    again = load(tmp_path / "net")
    for key, tensor in model.state_dict().items():
        assert again.state_dict()[key].dtype == tensor.dtype, key
        assert torch.equal(again.state_dict()[key], tensor), key
    assert torch.equal(again(images.to(dtype)), model(images.to(dtype)))


def test_an_option_of_a_layer_that_is_seldom_used_comes_back(images, tmp_path):
    model = nn.Sequential(
        nn.BatchNorm2d(1, eps=1e-3, momentum=0.3), nn.MaxPool2d(3, dilation=2), nn.ReLU(inplace=True),
        nn.MaxPool2d(3, ceil_mode=True), nn.ReLU6(),
    ).eval()  # fmt: skip
    save(model, tmp_path / "net")
    again = load(tmp_path / "net")
    assert str(again) == str(model)  # torch prints the options
    assert torch.equal(again(images), model(images))


class Doubling(LeNet5):
    """Another network under a name that has a form in a file."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(x)


def masked() -> nn.Module:
    model = zoo.load("lenet300")
    attach_masks(model, make_masks(magnitude_scores(model), 0.9))
    return model


def with_a_buffer() -> nn.Module:
    model = zoo.load("lenet300")
    model.register_buffer("mean", torch.zeros(1))
    return model


def with_an_untrue_size() -> nn.Module:
    layer = nn.Linear(3, 4)
    layer.out_features = 5
    return nn.Sequential(layer)


def of_a_class_of_the_same_name() -> nn.Module:
    Doubling.__name__ = "LeNet5"
    return Doubling()


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (masked, r"the tensor fc1\.weight_mask, torch\.bool \(300, 784\), has no place"),
        (with_a_buffer, "the tensor mean, .* has no place"),
        (with_an_untrue_size, r"the tensor 0\.weight, torch\.float32 \(4, 3\), has no place"),
        (
            lambda: nn.Sequential(OrderedDict(first=nn.Linear(3, 4))),
            r"the tensor first\.weight, .* has no place",
        ),
        (of_a_class_of_the_same_name, "a LeNet5 has no form"),
    ],
    ids=["masked", "buffer", "untrue_size", "named_places", "subclass"],
)
def test_what_would_not_load_again_is_not_written(make, why, tmp_path):
    with pytest.raises(TypeError, match=why):
        save(make(), tmp_path / "net")
    assert not list(tmp_path.iterdir())


def test_a_network_too_large_to_load_again_is_not_written(tmp_path):
    with torch.device("meta"):
        giant = nn.Sequential(nn.Linear(10_000, 10_000))
    with pytest.raises(TypeError, match="100,010,000 numbers"):
        save(giant, tmp_path / "net")
    assert not list(tmp_path.iterdir())


def test_saving_and_loading_draw_no_random_numbers(tmp_path):
    model = zoo.load("lenet300")
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    save(model, tmp_path / "net")
    assert all(parameter.requires_grad for parameter in load(tmp_path / "net").parameters())
    assert torch.equal(torch.rand(3), expected)
