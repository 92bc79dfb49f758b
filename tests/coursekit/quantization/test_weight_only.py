"""Weight-only quantization of whole networks: what is in the file is what runs."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from coursekit import zoo
from coursekit.measure import file_size
from coursekit.models import LeNet300100, resnet20
from coursekit.quantization import (
    load_quantized,
    quantize_weights,
    save_quantized,
    symmetric_scale,
    symmetric_scale_per_channel,
    weight_names,
)


def seeded(build) -> nn.Module:
    torch.manual_seed(0)
    return build().eval()


def test_weight_names_are_those_of_convolutions_and_linear_layers():
    names = weight_names(resnet20())
    assert len(names) == 22  # 19 convolutions of 3 x 3, 2 of 1 x 1 on shortcuts, 1 linear layer
    assert all(dict(resnet20().named_parameters())[name].dim() in (2, 4) for name in names)
    assert weight_names(nn.Linear(2, 2)) == ["weight"]


@pytest.mark.parametrize("build", [LeNet300100, resnet20])
@pytest.mark.parametrize("scale_of", [symmetric_scale, symmetric_scale_per_channel])
def test_loaded_file_gives_the_same_outputs_as_the_quantized_model(build, scale_of, tmp_path):
    model = seeded(build)
    save_quantized(model, tmp_path / "m.safetensors", 4, scale_of=scale_of)
    loaded = load_quantized(tmp_path / "m.safetensors", build()).eval()
    x = torch.randn(3, 1, 28, 28)
    assert torch.equal(loaded(x), quantize_weights(model, 4, scale_of=scale_of)(x))


def test_the_model_is_left_as_it_was():
    model = seeded(LeNet300100)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    quantize_weights(model, 2)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("n_bits", [2, 4, 8])
def test_each_channel_has_at_most_as_many_values_as_codes(n_bits):
    small = quantize_weights(seeded(LeNet300100), n_bits)
    for row in small.fc1.weight.detach():
        assert row.unique().numel() <= 2**n_bits - 1  # symmetric: the lowest code is unused


@pytest.mark.parametrize("name", zoo.available())
def test_the_file_takes_a_byte_a_weight_a_float_a_channel_and_the_rest_as_it_was(name, tmp_path):
    """Beside the table of contents: at most 150 bytes a tensor."""
    model, path = zoo.load(name), tmp_path / "m.safetensors"
    save_quantized(model, path)
    weights = {each: model.get_parameter(each) for each in weight_names(model)}
    rest = [t.numel() * t.element_size() for key, t in model.state_dict().items() if key not in weights]
    expected = sum(rest) + sum(w.numel() + 4 * len(w) for w in weights.values())
    assert expected < file_size(path) <= expected + 150 * (len(rest) + 2 * len(weights))


def test_a_file_of_another_network_is_refused(tmp_path):
    save_quantized(seeded(LeNet300100), tmp_path / "m.safetensors")
    with pytest.raises(RuntimeError, match="Missing key"):
        load_quantized(tmp_path / "m.safetensors", resnet20())
